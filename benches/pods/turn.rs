//! All pods of one contestant come at once and go at once, and in between each is asked whether it is there.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::containerd::Containerd;
use crate::cri::Pod;
use crate::network::inside;
use crate::{Contestant, Result, Task};

const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 97, 0, 1);
const FIRST_PORT: u16 = 20_000;
/// Far above what a loaded machine needs, since only failures wait for it.
const PATIENCE: Duration = Duration::from_secs(15);
/// What all pods at once took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) wall: Duration,
    /// User and system time of all plugin processes.
    pub(crate) processor: Duration,
    /// Peak memory of the largest of them.
    pub(crate) kib: u64,
}

#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) add: Cost,
    pub(crate) del: Cost,
}

impl Task {
    pub(crate) fn turn(&self, who: &Contestant, node: &Containerd, ports: bool) -> Result<Turn> {
        let pod = |number| Pod {
            name: format!("pod-{number}"),
            host_port: ports.then_some(FIRST_PORT + number),
            cgroup: &self.cgroup,
        };
        let at_work = |error| format!("{}: {error}", who.title);
        let numbers: Vec<u16> = (0..self.pods).collect();
        let (pods, add) = metered(node, "ADD", || at_once(&numbers, |number| node.cri.run(&pod(*number))))
            .map_err(at_work)?;
        prove(who, node, &pods, ports).map_err(at_work)?;
        let ids: Vec<_> = pods.iter().map(String::as_str).collect();
        let (_, del) = metered(node, "DEL", || at_once(&ids, |id| node.cri.stop(id))).map_err(at_work)?;
        at_once(&ids, |id| node.cri.remove(id))?;
        Ok(Turn { add, del })
    }
}

fn at_once<T: Sync, R: Send>(all: &[T], work: impl Fn(&T) -> Result<R> + Sync) -> Result<Vec<R>> {
    thread::scope(|scope| {
        // An error must be able to leave its thread.
        let work = |one| work(one).map_err(|error| error.to_string());
        let threads: Vec<_> = all.iter().map(|one| scope.spawn(move || work(one))).collect();
        threads.into_iter().map(|thread| Ok(thread.join().map_err(|_| "a thread panicked")??)).collect()
    })
}

/// What `work` took, with the plugins that containerd ran with `verb` meanwhile. (It asks for STATUS whenever it likes.)
fn metered<T>(node: &Containerd, verb: &str, work: impl FnOnce() -> Result<T>) -> Result<(T, Cost)> {
    fs::write(&node.metered, "")?;
    let start = Instant::now();
    let done = work()?;
    let mut cost = Cost { wall: start.elapsed(), ..Cost::default() };
    let (text, mut count) = (fs::read_to_string(&node.metered)?, 0);
    for line in text.lines() {
        let [_, said, time, memory] = line.split(' ').collect::<Vec<_>>()[..] else {
            return Err(format!("the meter wrote {line:?}").into());
        };
        if said == verb {
            let number = |word: &str| word.split_once('=').map_or("", |(_, number)| number).parse::<u64>();
            cost.processor += Duration::from_micros(number(time)?);
            cost.kib = cost.kib.max(number(memory)?);
            count += 1;
        }
    }
    if count == 0 { Err(format!("containerd ran no {verb}").into()) } else { Ok((done, cost)) }
}

/// Every pod has an address that nobody else has, and answers there and at its port of the node.
fn prove(who: &Contestant, node: &Containerd, pods: &[String], ports: bool) -> Result<()> {
    let addresses =
        pods.iter().map(|id| Ok(node.cri.address(id)?.parse::<Ipv4Addr>()?)).collect::<Result<Vec<_>>>()?;
    if addresses.iter().collect::<BTreeSet<_>>().len() < pods.len() {
        return Err(format!("two pods have one address: {addresses:?}").into());
    }
    let mut ways: Vec<_> = addresses.into_iter().map(|address| SocketAddr::from((address, 80))).collect();
    if ports {
        ways.extend((FIRST_PORT..).take(pods.len()).map(|port| SocketAddr::from((GATEWAY, port))));
    }
    inside(&who.name, || {
        ways.iter().try_for_each(|way| answers(*way).map_err(|error| format!("{way}: {error}").into()))
    })
}

fn answers(way: SocketAddr) -> Result<()> {
    let mut client = TcpStream::connect_timeout(&way, PATIENCE)?;
    client.set_read_timeout(Some(PATIENCE))?;
    let mut token = String::new();
    client.read_to_string(&mut token)?;
    if token == "pod" { Ok(()) } else { Err(format!("it said {token:?}").into()) }
}
