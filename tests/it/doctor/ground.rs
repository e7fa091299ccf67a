//! Ground truth: which flows of a node's pods are alive, measured with tokens and not asked of anybody.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::node::{Lab, Pod};
use crate::lab::{self, Netns, Node, Place};

/// A veth answers within microseconds, whoever serves behind it on a machine with no processor to spare does not.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long new questions are asked for MACs.
const SETTLED: Duration = Duration::from_mins(1);
const PAUSE: Duration = Duration::from_millis(250);
const PORT: u16 = 7001;
const POD_PORT: u16 = 80;
const GATEWAY: &str = "10.7.0.1";
const GATEWAY_V6: &str = "fd07::1";

/// Servers that stay until the test ends, and the flows that lead to them.
#[derive(Default)]
pub(super) struct Ground<'a> {
    pods: &'a [Pod],
    flows: Vec<(String, Option<&'a Netns>, SocketAddr)>,
}

pub(super) type Alive = BTreeSet<String>;

fn serve(place: &impl Place, port: u16, dual: bool) {
    let any: IpAddr = if dual { [0; 16].into() } else { [0; 4].into() };
    lab::serve_tcp(place, (any, port), "token");
    lab::serve_udp(place, (any, port), "token");
}

impl<'a> Ground<'a> {
    pub(super) fn new(lab: &'a Lab) -> Self {
        let mut flows = Vec::new();
        let dual = lab.dual;
        if lab.pods.is_empty() {
            return Self { flows, ..Self::default() };
        }
        serve(&Node, PORT, dual);
        serve(&lab.world, PORT, dual);
        for pod in &lab.pods {
            serve(&pod.netns, PORT, dual);
            serve(&pod.netns, POD_PORT, dual);
        }
        let mut flow =
            |name: String, from, to: IpAddr, port| flows.push((name, from, SocketAddr::new(to, port)));
        for (n, pod) in lab.pods.iter().enumerate() {
            let own = lab.addresses_of(n);
            for address in &own {
                flow(format!("node to web-{n} {address}"), None, *address, PORT);
            }
            for gateway in own.iter().map(|own| if own.is_ipv4() { GATEWAY } else { GATEWAY_V6 }) {
                flow(format!("web-{n} to node {gateway}"), Some(&pod.netns), gateway.parse().unwrap(), PORT);
            }
            for outside in own.iter().map(|own| if own.is_ipv4() { lab::WORLD } else { lab::WORLD_V6 }) {
                flow(format!("web-{n} to outside {outside}"), Some(&pod.netns), outside, PORT);
            }
            let other = (n + 1) % lab.pods.len();
            if other != n {
                for address in lab.addresses_of(other) {
                    flow(format!("web-{n} to web-{other} {address}"), Some(&pod.netns), address, PORT);
                }
            }
        }
        flow("outside to host port".to_owned(), Some(&lab.world), lab::NODE, 8080);
        Self { flows, pods: &lab.pods }
    }

    /// TCP and UDP each; host ports are of TCP.
    pub(super) fn alive(&self) -> Alive {
        thread::scope(|scope| {
            let asked: Vec<_> = self
                .flows
                .iter()
                .map(|(name, from, to)| {
                    scope.spawn(move || {
                        let ask = || (tcp(*to), to.port() != PORT || udp(*to));
                        let (tcp, udp) = match from {
                            Some(netns) if !Path::new(&netns.path()).exists() => (false, false),
                            Some(netns) => netns.inside(ask),
                            None => Node.inside(ask),
                        };
                        (tcp && udp).then(|| name.clone())
                    })
                })
                .collect();
            asked.into_iter().filter_map(|flow| flow.join().expect("a flow is asked")).collect()
        })
    }

    /// What was alive is alive, and `all` of it where the repair promises so. Not all at one moment: where two answer for one
    /// address, every new question is a race.
    pub(super) fn assert_no_worse(&self, before: &Alive, when: &str) {
        let begun = Instant::now();
        let mut seen = Alive::new();
        loop {
            seen.extend(self.alive());
            let died: Vec<_> = before.difference(&seen).collect();
            if died.is_empty() {
                return;
            }
            assert!(begun.elapsed() < SETTLED, "{when} these flows are dead: {died:#?}");
            thread::sleep(PAUSE);
            self.ask_again();
        }
    }

    /// Who has learned a wrong MAC believes it for as long as somebody answers there.
    fn ask_again(&self) {
        // But for what was set by hand.
        for learned in ["ip -4 neigh flush to 0.0.0.0/0", "ip -6 neigh flush to ::/0"] {
            Node.run(learned);
            for pod in self.pods.iter().filter(|pod| Path::new(&pod.netns.path()).exists()) {
                pod.netns.run(learned);
            }
        }
    }
}

fn tcp(to: SocketAddr) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    ask().is_ok_and(|text| text.starts_with("token"))
}

fn udp(to: SocketAddr) -> bool {
    let ask = || -> std::io::Result<Vec<u8>> {
        let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
        let socket = UdpSocket::bind((any, 0))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.connect(to)?;
        socket.send(b"?")?;
        let mut text = vec![0; 64];
        let length = socket.recv(&mut text)?;
        text.truncate(length);
        Ok(text)
    };
    ask().is_ok_and(|text| text.starts_with(b"token"))
}
