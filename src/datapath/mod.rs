//! Want, have, plan: what an attachment promises ([`spec`]), what the kernel carries ([`observe`]), the difference
//! between the two as a list of steps ([`plan`], [`step`]) and the way these steps reach the kernel ([`apply`]).
//!
//! What decides says of itself that it is pure; the others talk to the kernel, and [`alarm`] listens to it. [`hostports`] and
//! [`firewall`] are made the same way for ports of the node and for other people's filters.
//!
//! Pure.

pub mod alarm;
pub mod apply;
pub mod census;
pub mod claim;
pub mod firewall;
pub mod ground;
pub mod hostports;
pub mod loopback;
pub mod mark;
pub mod names;
pub mod observe;
pub mod plan;
pub mod removal;
pub mod rules;
pub mod session;
pub mod step;
pub mod surplus;
pub mod survey;
pub mod switches;
pub mod withdraw;
