//! What the verbs mean: configuration in, decisions of the datapath and the state, result out.

pub mod host_local;
