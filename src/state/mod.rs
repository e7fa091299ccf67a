//! What we remember: leases in host-local's format, attachment records, and the boot both belong to.
//!
//! The kernel forgets every link and rule at a reboot, so whatever is remembered here is void in another boot. Nothing
//! is judged by a wall clock or a file's time stamp: boards without a battery start in the past. Knows neither the
//! protocol nor the kernel's links; what only they can tell is handed in.

pub mod boot;
mod directory;
pub mod elsewhere;
mod error;
pub mod fallback;
pub mod holders;
pub mod host;
pub mod lease;
pub mod lock;
pub mod owed;
pub mod record;
pub mod results;
pub mod settled;

pub use boot::BootId;
pub use error::{Error, Result};
pub use holders::{Liveness, NetnsId};
pub use lease::{Carried, Holder, Lease, Locked, Store};
pub use record::{Record, Records};
