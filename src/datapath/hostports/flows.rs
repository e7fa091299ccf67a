//! Flows that a port's coming or going leaves behind, and making the kernel forget them.
//!
//! Of all ports at once: a question for flows walks the whole table, whatever it asks for. Without the node's lock, and where
//! the table is a long one without a pod that waits: it takes as long to walk as many pods take to be attached.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::thread;
use std::time::Duration;

use super::plan::{Ends, Step, Turn, is_stale};
use super::{Entry, Mapping, Protocol};
use crate::kernel::conntrack::{Question, Sought, Tuple};
use crate::kernel::{self, NetfilterSocket, RouteSocket, address, conntrack};
use crate::net::Family;
use crate::state::owed::{Owed, Port};

/// So many flows are looked through while a pod waits: that takes as long as some of its rules. A table may have hundreds of
/// times as many, and takes hundreds of times as long, whatever is asked of it: the kernel has no index of ports. With 20,000, 500
/// ports of both families took 2.5 times as long as those of TCP, and so did another pod beside them.
const WHILE_A_POD_WAITS: usize = 5_000;

/// Before a look for flows. Whoever had a port answers what it had received, after its flow was forgotten: that begins a flow
/// of its own, to which the client's next packets belong. So where there was a flow, all of these looks are made: such an
/// answer comes within milliseconds, on a busy board later. Where there was none, the first look is the last.
const LOOKS: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(5),
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(100),
];

/// Ports that were opened or closed, whose flows are still to be looked for.
#[derive(Clone, Debug, Default)]
#[must_use = "flows go on to whoever had the port"]
pub struct Stale(Vec<(Mapping, Turn)>);

/// What became of [`Stale`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "somebody has to settle it"]
pub enum Left {
    Nothing,
    ToBeSettled,
}

/// Forgets what was left, by whomever, until nothing is left. Returns at once where another process is at it.
pub fn settle(owed: &Owed) -> crate::state::Result<()> {
    while owed.is_any() {
        let Some(claim) = owed.claim()? else { return Ok(()) };
        Stale::from_owed(&claim.ports).forget();
        claim.settle()?;
    }
    Ok(())
}

/// How many the node has. One without connection tracking has none.
fn flows() -> usize {
    conntrack::count().ok().flatten().unwrap_or(0)
}

/// All of one family and one protocol, by port of the node.
type Ports = BTreeMap<u16, Vec<(Mapping, Turn)>>;

impl Stale {
    /// What the steps of one plan leave behind.
    pub(super) fn of(steps: &[Step]) -> Self {
        let opened: BTreeSet<Mapping> = steps
            .iter()
            .filter_map(|step| match step {
                Step::Add(Entry::Port(opened), _) => Some(*opened),
                _ => None,
            })
            .collect();
        let stale = steps.iter().filter_map(|step| match step {
            Step::ForgetFlows(mapping) if opened.contains(mapping) => Some((*mapping, Turn::Opens)),
            Step::ForgetFlows(mapping) => Some((*mapping, Turn::Closes)),
            _ => None,
        });
        Self(stale.collect())
    }

    /// What several changes leave behind is looked for in one go.
    pub fn join(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What was left by [`Self::left`].
    fn from_owed(ports: &[Port]) -> Self {
        let stale = ports.iter().filter_map(|port| {
            let protocol = Protocol::from_number(port.protocol)?;
            let Port { host_ip, host_port, pod, pod_port, .. } = *port;
            let turn = if port.opened { Turn::Opens } else { Turn::Closes };
            Some((Mapping { protocol, host_ip, host_port, pod, pod_port }, turn))
        });
        Self(stale.collect())
    }

    fn into_owed(self) -> Vec<Port> {
        let port = |(mapping, turn): (Mapping, Turn)| Port {
            opened: turn == Turn::Opens,
            protocol: mapping.protocol.number(),
            host_ip: mapping.host_ip,
            host_port: mapping.host_port,
            pod: mapping.pod,
            pod_port: mapping.pod_port,
        };
        self.0.into_iter().map(port).collect()
    }

    /// Forgets now what a pod can wait for; else leaves all of it to whoever calls [`settle`] next, and says so. Also where
    /// something was left already: then one look serves both.
    pub fn forget_or_leave(self, owed: &Owed) -> Left {
        let flows = if self.is_empty() { 0 } else { flows() };
        if flows == 0 {
            return Left::Nothing;
        }
        if flows <= WHILE_A_POD_WAITS && !owed.is_any() {
            self.forget();
            return Left::Nothing;
        }
        match owed.add(self.clone().into_owed()) {
            Ok(()) => Left::ToBeSettled,
            Err(error) => {
                tracing::warn!(%error, "the pod waits until the node's flows are looked through");
                self.forget();
                Left::Nothing
            }
        }
    }

    /// To be called without a lock. A node without connection tracking, or without connections, has nothing to forget. What
    /// cannot be forgotten ends by itself, later: no reason to refuse a pod.
    pub fn forget(self) {
        if self.is_empty() || flows() == 0 {
            return;
        }
        if let Err(error) = self.look() {
            tracing::warn!(%error, "flows of a host port may go to its former holder for a while");
        }
    }

    fn look(self) -> kernel::Result<()> {
        let own: Vec<IpAddr> =
            address::all(&mut RouteSocket::open()?)?.iter().map(|address| address.address.ip()).collect();
        let mut socket = NetfilterSocket::open()?;
        let groups = self.groups();
        for (look, pause) in LOOKS.into_iter().enumerate() {
            thread::sleep(pause);
            let mut forgotten = 0;
            for ((family, protocol), ports) in &groups {
                let all = Question::all(*family, Some(*protocol));
                let narrow = [by_port(&all, ports), by_place(&all, ports, &own, look > 0)];
                let leaves = |original: &Tuple, reply: &Tuple| leaves(ports, &ends(original, reply), &own);
                forgotten += conntrack::forget(&mut socket, &all, &narrow, leaves)?;
            }
            if forgotten == 0 && look == 0 {
                return Ok(());
            }
            tracing::debug!("{forgotten} flows forgotten");
        }
        Ok(())
    }

    fn groups(self) -> BTreeMap<(Family, u8), Ports> {
        let mut groups: BTreeMap<(Family, u8), Ports> = BTreeMap::new();
        for (mapping, turn) in self.0 {
            let ports = groups.entry((mapping.family(), mapping.protocol.number())).or_default();
            ports.entry(mapping.host_port).or_default().push((mapping, turn));
        }
        groups
    }
}

/// The port stands on the side that did not begin: the first packet went to it, or its answers do.
fn by_port(all: &Question, ports: &Ports) -> Vec<Question> {
    let at = |port: &u16| {
        let sought = Sought { dst_port: Some(*port), ..Sought::default() };
        [Question { original: sought, ..all.clone() }, Question { reply: sought, ..all.clone() }]
    };
    ports.keys().flat_map(at).collect()
}

/// A port that closes leaves flows of its pod, one that opens those of the node's address: to it, or begun by it and not
/// translated. [`is_stale`] says why.
///
/// Flows that a pod began with a belated answer are there only where a flow was forgotten before: asked for at first, all that a
/// pod ever began would be carried over.
fn by_place(all: &Question, ports: &Ports, own: &[IpAddr], belated: bool) -> Vec<Question> {
    let (mut pods, mut places) = (BTreeSet::new(), BTreeSet::new());
    let mut loopback = false;
    for (mapping, turn) in ports.values().flatten() {
        match (turn, mapping.host_ip) {
            (Turn::Closes, _) => pods.extend(Some(mapping.pod).filter(|pod| !pod.is_unspecified())),
            (Turn::Opens, Some(ip)) => places.extend([ip]),
            (Turn::Opens, None) => {
                loopback |= all.family == Family::V4;
                places.extend(own.iter().filter(|ip| Family::of(**ip) == all.family));
            }
        }
    }
    let (src, dst) = (
        |ip| Sought { src: Some(ip), ..Sought::default() },
        |ip| Sought { dst: Some(ip), ..Sought::default() },
    );
    let mut questions = Vec::new();
    for pod in pods {
        questions.push(Question { reply: src(pod), ..all.clone() });
        if belated {
            questions.push(Question { original: src(pod), ..all.clone() });
        }
    }
    for place in places {
        questions.push(Question { original: dst(place), ..all.clone() });
        questions.push(Question { original: src(place), reply: dst(place), ..all.clone() });
    }
    if loopback {
        // All of 127.0.0.0/8 belongs to the node, and whoever asks one of them asks from here unless told otherwise.
        questions.push(Question { original: src(Ipv4Addr::LOCALHOST.into()), ..all.clone() });
    }
    questions
}

/// Whether any of the ports leaves the flow behind.
fn leaves(ports: &Ports, flow: &Ends, own: &[IpAddr]) -> bool {
    let is_local = |ip: IpAddr| ip.is_loopback() || own.contains(&ip);
    [flow.to.1, flow.from.1, flow.answer_to.1]
        .iter()
        .filter_map(|port| ports.get(port))
        .flatten()
        .any(|(mapping, turn)| is_stale(mapping, *turn, flow, is_local))
}

fn ends(original: &Tuple, reply: &Tuple) -> Ends {
    let source = |tuple: &Tuple| (tuple.src, tuple.src_port.unwrap_or(0));
    let destination = |tuple: &Tuple| (tuple.dst, tuple.dst_port.unwrap_or(0));
    Ends {
        from: source(original),
        to: destination(original),
        answer_from: source(reply),
        answer_to: destination(reply),
    }
}

#[cfg(test)]
#[path = "flows_tests.rs"]
mod tests;
