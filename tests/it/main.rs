//! Everything that needs the kernel or the finished binary: one program, one module per subject.

mod arrows;
mod bridge;
mod conntrack;
mod containerd;
mod cri;
mod deployment;
mod doctor;
mod firewall;
mod flow;
mod image;
mod install;
mod kernel;
mod kubelet;
mod lab;
mod labnet;
mod leases;
mod logs;
mod nft;
mod old_kernel;
mod parity;
mod podman;
mod portmap;
mod reconcile;
mod sandbox;
mod status;
mod vm;
