//! How to read the host, and how to put files there: its file tree from wherever it is mounted, its container runtimes
//! and what they say of themselves.
//!
//! Knows neither the protocol nor the kernel's network, and nothing of what is remembered. Decides nothing: which
//! directories are meant, and what belongs into them, is for the roles to say.

pub mod asked;
pub mod cri;
pub mod elf;
pub mod enter;
pub mod kubelets;
pub mod place;
pub mod resolver;
pub mod root;
pub mod runtimes;
