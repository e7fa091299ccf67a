//! What this machine's kernel cannot show: run on another one, in a virtual machine, by `tests/vm/run`.

mod bare_node;
mod life;
mod vlan;
