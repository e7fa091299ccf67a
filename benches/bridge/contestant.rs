//! Who takes part: a node of its own (a network, and pods in others) and programs that attach pods to it.
//!
//! Every contestant has the same subnet, the same ports and the same names on its node, and nobody else's rules there. The
//! pods' networks are the same in every round, so that dismantling old ones disturbs nobody.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Result;
use crate::call::Verb;
use crate::cost::Cost;
use crate::network::{enter, run};
use crate::stage::Stage;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    Ours,
    /// The Go plugins with iptables, which they prefer.
    GoIptables,
    GoNftables,
    Netavark,
    Floor,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Contestant {
    pub(crate) title: String,
    /// Short; names the networks.
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) stage: Stage,
}

#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) name: &'static str,
    /// The last byte of the address that those get who do not choose one themselves.
    pub(crate) host: u8,
    /// Of the node; leads to [`POD_PORT`] of the pod.
    pub(crate) port: u16,
}

pub(crate) const POD_PORT: u16 = 80;
/// Stays: a bridge without any port is down, and bringing it up costs extra.
pub(crate) const RESIDENT: Pod = Pod { name: "resident", host: 2, port: 18_002 };
/// Comes and goes.
pub(crate) const GUEST: Pod = Pod { name: "guest", host: 3, port: 18_003 };

/// How much of a pod's network is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Bridge,
    /// And a TCP port of the node that leads to it.
    BridgeAndPort,
}

/// One call out of those that make a [`Work`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Bridge,
    Port,
    Both,
}

impl Contestant {
    /// The calls of an ADD; a DEL takes them back from the end.
    fn steps(&self, work: Work) -> &'static [Step] {
        match (work, self.kind) {
            (Work::Bridge, _) => &[Step::Bridge],
            (Work::BridgeAndPort, Kind::Netavark) => &[Step::Both],
            (Work::BridgeAndPort, _) => &[Step::Bridge, Step::Port],
        }
    }

    /// The node, its bridge and the pod that stays, which has a port.
    pub(crate) fn prepare(&self) -> Result<()> {
        let node = self.node();
        run(&format!("ip netns add {node}"))?;
        self.enter()?;
        run("ip link set lo up")?;
        for pod in [&RESIDENT, &GUEST] {
            run(&format!("ip netns add {}", self.network(pod)))?;
        }
        if self.kind == Kind::Floor {
            floor_ground()?;
        }
        self.attach(&RESIDENT, Work::BridgeAndPort, &[])?;
        Ok(())
    }

    fn node(&self) -> String {
        format!("{}-node", self.name)
    }

    pub(crate) fn network(&self, pod: &Pod) -> String {
        format!("{}-{}", self.name, pod.name)
    }

    /// This thread, and what it starts from now on, is on the contestant's node.
    pub(crate) fn enter(&self) -> Result<()> {
        enter(&self.node())
    }

    /// ADD below `wrapper` (a tracer, a meter, nothing). Returns what DEL wants to see.
    pub(crate) fn attach(&self, pod: &Pod, work: Work, wrapper: &[&str]) -> Result<(Value, Cost)> {
        self.enter()?;
        let (mut result, mut all) = (Value::Null, Cost::default());
        for step in self.steps(work) {
            let (answer, cost) = self.call(*step, Verb::Add, pod, &result).run(wrapper)?;
            all += cost;
            if self.chains_results() {
                result = serde_json::from_slice(&answer)?;
            }
        }
        Ok((result, all))
    }

    /// DEL.
    pub(crate) fn detach(&self, pod: &Pod, work: Work, result: &Value) -> Result<Cost> {
        self.enter()?;
        let mut all = Cost::default();
        for step in self.steps(work).iter().rev() {
            all += self.call(*step, Verb::Del, pod, result).run(&[])?.1;
        }
        Ok(all)
    }

    /// Whether it is told what the plugin before it, or ADD, answered.
    fn chains_results(&self) -> bool {
        matches!(self.kind, Kind::Ours | Kind::GoIptables | Kind::GoNftables)
    }
}

/// The plugins make bridges and tables themselves; the floor finds a table of the size of ours, and with the same work. A bridge
/// without a MAC of its own takes one of its ports', and forgets all neighbours when that port leaves.
fn floor_ground() -> Result<()> {
    for line in [
        "ip link add br-bench address 02:00:00:00:00:01 type bridge",
        "ip addr add 10.97.0.1/24 dev br-bench",
        "ip link set br-bench up",
        "nft add table ip floor",
        "nft add map ip floor hostports { type inet_proto . inet_service : ipv4_addr . inet_service ; }",
        "nft add set ip floor hostports_at_ports { type inet_proto . inet_service ; }",
        "nft add set ip floor local_clients { type ipv4_addr ; }",
        "nft add set ip floor hairpin { type ipv4_addr . ipv4_addr ; }",
        "nft add set ip floor masq { type ipv4_addr ; flags interval ; elements = { 10.97.0.0/24 } ; }",
        "nft add chain ip floor postrouting { type nat hook postrouting priority 100 ; }",
        "nft add rule ip floor postrouting ip saddr @masq ip daddr != @masq masquerade",
        "nft add chain ip floor output { type nat hook output priority -100 ; }",
        "nft add rule ip floor output fib daddr type local dnat to meta l4proto . th dport map @hostports",
    ] {
        run(line)?;
    }
    Ok(())
}
