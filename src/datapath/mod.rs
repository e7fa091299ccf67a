//! Want, have, plan: what an attachment promises ([`spec`]), what the kernel carries ([`observe`]), the difference
//! between the two as a list of steps ([`plan`], [`step`]) and the way these steps reach the kernel ([`apply`]).
//!
//! `spec`, `mark`, `plan`, `firewall` and `step` are pure; only `observe` and `apply`, and what they call, talk to the kernel. [`hostports`] is made the same
//! way for the ports of the node that lead to pods.

pub mod apply;
pub mod census;
pub mod firewall;
pub mod firewall_legacy;
pub mod firewall_observe;
pub mod firewall_rules;
pub mod hostports;
pub mod loopback;
pub mod mark;
pub mod observe;
pub mod plan;
pub mod removal;
pub mod rules;
pub mod session;
pub mod spec;
pub mod step;
pub mod switches;
