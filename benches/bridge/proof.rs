//! Whether a contestant did the work that its time stands for: bytes arrive at the pod, and after DEL they do not.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::Result;
use crate::contestant::{Contestant, GUEST, POD_PORT, Work};
use crate::network::{inside, run};

const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 97, 0, 1);
/// Far above what a loaded machine needs, since only failures wait for it.
const PATIENCE: Duration = Duration::from_secs(15);

impl Contestant {
    /// One ADD and one DEL, looked at from the node. Also the first round, for the caches.
    pub(crate) fn prove(&self, work: Work) -> Result<()> {
        let at_work = |error| format!("{}: {work:?}: {error}", self.title);
        let (result, _) = self.attach(&GUEST, work, &[])?;
        let address = self.address()?.ok_or_else(|| at_work("the pod has no address".to_owned()))?;
        let server =
            inside(&self.network(&GUEST), || Ok(TcpListener::bind((Ipv4Addr::UNSPECIFIED, POD_PORT))?))?;
        server.set_nonblocking(true)?;
        let mut ways = vec![SocketAddr::from((address, POD_PORT))];
        if work == Work::BridgeAndPort {
            ways.push((GATEWAY, GUEST.port).into());
        }
        for way in &ways {
            answers(*way, &server).map_err(|error| at_work(format!("{way}: {error}")))?;
        }
        self.detach(&GUEST, work, &result)?;
        if let Some(address) = self.address()? {
            return Err(at_work(format!("{address} outlived DEL")).into());
        }
        if work == Work::BridgeAndPort && TcpStream::connect_timeout(&ways[1], PATIENCE).is_ok() {
            return Err(at_work(format!("port {} outlived DEL", GUEST.port)).into());
        }
        Ok(())
    }

    fn address(&self) -> Result<Option<Ipv4Addr>> {
        let text = run(&format!("ip -n {} -4 -json addr show", self.network(&GUEST)))?;
        let links: Value = if text.trim().is_empty() { Value::Null } else { serde_json::from_str(&text)? };
        let eth0 = links.as_array().into_iter().flatten().find(|link| link["ifname"] == "eth0");
        let address = eth0.and_then(|link| link["addr_info"][0]["local"].as_str());
        Ok(address.map(str::parse).transpose()?)
    }
}

/// The kernel accepts for the server; here it is asked whether it was this one.
fn answers(way: SocketAddr, server: &TcpListener) -> Result<()> {
    let mut client = TcpStream::connect_timeout(&way, PATIENCE)?;
    client.set_read_timeout(Some(PATIENCE))?;
    let (mut accepted, _) = server.accept().map_err(|error| match error.kind() {
        ErrorKind::WouldBlock => "somebody else answered".to_owned(),
        _ => error.to_string(),
    })?;
    accepted.write_all(b"pod")?;
    let mut token = [0; 3];
    client.read_exact(&mut token)?;
    if &token == b"pod" { Ok(()) } else { Err("the token is a different one".into()) }
}
