//! What was counted, for people and for `status`.

use std::cell::Cell;

use serde::Serialize;

use super::Forwarder;
use super::servers;

#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) queries: Count,
    pub(super) hits: Count,
    pub(super) stale: Count,
    pub(super) joined: Count,
    pub(super) dropped: Count,
    pub(super) failed: Count,
}

#[derive(Debug, Default)]
pub(super) struct Count(Cell<u64>);

impl Count {
    pub(super) fn more(&self) {
        self.0.set(self.0.get() + 1);
    }
}

/// Since the process began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Counters {
    /// Of names that are not this node's.
    pub(crate) queries: u64,
    /// Answered from the cache before they expired, failures of the last second included.
    pub(crate) hits: u64,
    /// Answered with what has expired.
    pub(crate) stale: u64,
    /// Waited for the answer to a question that was on its way.
    pub(crate) joined: u64,
    /// Not asked, because too many were waiting.
    pub(crate) dropped: u64,
    /// Answered with SERVFAIL.
    pub(crate) failed: u64,
    /// Now on their way.
    pub(crate) in_flight: usize,
    pub(crate) cached: usize,
    pub(crate) cache_bytes: usize,
    pub(crate) upstreams: Vec<UpstreamCounters>,
    pub(crate) cluster: Vec<UpstreamCounters>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct UpstreamCounters {
    pub(crate) address: String,
    #[serde(flatten)]
    pub(crate) counters: servers::Counters,
}

impl Forwarder {
    pub(crate) fn counters(&self) -> Counters {
        let of = |servers: &std::cell::RefCell<servers::Servers>| {
            let one = |(upstream, counters): (&crate::dns::upstreams::Upstream, _)| UpstreamCounters {
                address: upstream.to_string(),
                counters,
            };
            servers.borrow().counters().map(one).collect()
        };
        let cache = self.cache.borrow();
        Counters {
            queries: self.tally.queries.0.get(),
            hits: self.tally.hits.0.get(),
            stale: self.tally.stale.0.get(),
            joined: self.tally.joined.0.get(),
            dropped: self.tally.dropped.0.get(),
            failed: self.tally.failed.0.get(),
            in_flight: self.lookups.len(),
            cached: cache.len(),
            cache_bytes: cache.bytes(),
            upstreams: of(&self.uplink),
            cluster: of(&self.cluster),
        }
    }
}
