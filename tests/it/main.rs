//! Everything that needs a kernel or a process, in one binary: it links once.

mod conntrack;
mod kernel;
mod nft;
mod sandbox;
