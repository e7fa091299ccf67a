//! Names of others: upstreams that say no, say nothing, lie, or move while questions are on their way.

mod client;
mod flood;
mod moves;
mod sources;
mod upstream;
