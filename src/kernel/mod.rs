//! How to say it to Linux: netlink, namespaces and `/proc/sys`. Knows no CNI and remembers nothing.

pub mod address;
pub mod arp;
mod attribute;
pub mod conntrack;
pub mod error;
pub mod events;
pub mod legacy;
pub mod link;
mod modules;
pub mod neighbour;
pub mod netconf;
pub mod netlink;
pub mod netns;
pub mod nft;
pub mod ping;
pub mod route;
pub mod rule;
pub mod scratch;
pub mod sysctl;
pub mod token;
pub mod vlan;

pub use error::{Error, Result};
pub use netlink::{NetfilterSocket, RouteSocket};
pub use netns::Netns;
