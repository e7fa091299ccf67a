//! How to say it to Linux: netlink, namespaces and `/proc/sys`. Knows no CNI and remembers nothing.

pub mod conntrack;
pub mod error;
pub mod netlink;
pub mod nft;

pub use error::{Error, Result};
pub use netlink::Socket;
