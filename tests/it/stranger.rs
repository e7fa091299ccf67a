//! Somebody else who uses the address that every node gives its name server: a disk, an instrument, another program.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use crate::lab::{Netns, Node, Place};

pub(crate) const DNS: &str = "169.254.0.2";

#[derive(Clone, Copy, Debug)]
pub(crate) enum Stranger {
    Route,
    Neighbour,
    Address,
    Connection,
}

impl Stranger {
    /// On a node whose uplink leads to that world, and which has the address on no bridge.
    pub(crate) fn comes(self, world: &Netns) {
        match self {
            Self::Route => {
                Node.run("ip route add 169.254.0.2/32 dev up0");
            }
            Self::Neighbour => {
                Node.run("ip neigh add 169.254.0.2 lladdr 02:00:00:00:00:07 dev up0 nud permanent");
            }
            Self::Address => {
                Node.run("ip link add instr0 type veth peer name instr1");
                Node.run("ip addr add 169.254.0.2/32 dev instr0");
            }
            // As iSCSI is reached in some clouds: by no route of its own.
            Self::Connection => {
                world.run("ip addr add 169.254.0.2/32 dev world0");
                open(world, SocketAddr::new(DNS.parse().expect("an address"), 3260));
            }
        }
    }

    /// How it is called.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Route => {
                "169.254.0.2 is used by somebody else: there is a route to 169.254.0.2/32 through interface up0"
            }
            Self::Neighbour => {
                "169.254.0.2 is used by somebody else: a neighbour behind interface up0 has it"
            }
            Self::Address => "169.254.0.2 is used by somebody else: interface instr0 has it",
            Self::Connection => "169.254.0.2 is used by somebody else: a connection to its port 3260 is open",
        }
    }
}

/// A connection that stays open as long as the test.
fn open(world: &Netns, at: SocketAddr) {
    let listener = world.inside(|| TcpListener::bind(at)).unwrap_or_else(|e| panic!("listen on {at}: {e}"));
    let near = TcpStream::connect_timeout(&at, Duration::from_secs(5));
    let near = near.unwrap_or_else(|e| panic!("connect to {at}: {e}"));
    let (far, _) = listener.accept().expect("a client");
    thread::spawn(move || {
        let _open = (near, far);
        loop {
            thread::park();
        }
    });
}
