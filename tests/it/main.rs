//! Everything that needs a kernel or a process, in one binary: it links once.

mod conntrack;
mod nft;
mod sandbox;
