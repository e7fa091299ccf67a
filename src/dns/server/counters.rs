//! What was counted since the start.

use std::cell::Cell;

use serde::{Serialize, Serializer};

#[derive(Debug, Default)]
pub(crate) struct Count(Cell<u64>);

impl Count {
    pub(crate) fn add(&self) {
        self.0.set(self.0.get().wrapping_add(1));
    }
}

impl Serialize for Count {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0.get())
    }
}

#[derive(Debug, Default, Serialize)]
pub(crate) struct Counters {
    /// Messages of clients that may ask.
    pub(crate) queries: Count,
    /// Answered from the zone.
    pub(crate) local: Count,
    /// Asked elsewhere.
    pub(crate) forwarded: Count,
    /// No question that can be answered.
    pub(crate) refused: Count,
    /// From somebody who may not ask: no answer.
    pub(crate) dropped: Count,
    /// Not asked elsewhere, because too many wait already.
    pub(crate) overload: Count,
    pub(crate) connections: Count,
    /// Closed at once, because there are too many.
    pub(crate) connections_refused: Count,
}
