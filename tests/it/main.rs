//! Everything that needs the kernel or the finished binary: one program, one module per subject.

mod containerd;
mod cri;
mod image;
mod lab;
mod parity;
mod podman;
mod sandbox;
mod vlan;
