//! The node's own name server.
#![cfg_attr(not(test), expect(dead_code, unused_imports, reason = "the role that serves is not here yet"))]

pub(crate) mod cache;
pub(crate) mod forward;
pub(crate) mod upstreams;
