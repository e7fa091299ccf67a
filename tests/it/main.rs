//! One test binary: it links once, and each module is one subject.

mod kernel;
mod sandbox;
