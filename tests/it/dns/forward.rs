//! Names of others: upstreams that say no, say nothing, lie, or move while questions are on their way.

pub(super) mod client;
mod flood;
mod moves;
mod sources;
pub(super) mod upstream;
