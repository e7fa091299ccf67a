//! The pod network of an IoT edge node.

pub mod cni;
pub mod datapath;
pub mod kernel;
pub mod net;
pub mod plugins;
pub mod state;
