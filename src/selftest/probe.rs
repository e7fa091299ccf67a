//! Bytes that must arrive, or must not: a listener in one namespace, a sender in another, a random token between them.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use super::world::Host;
use super::{Result, token, tried};

/// Long enough for a loaded small board, short enough for a person.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a token that must not arrive is waited for.
const SILENCE: Duration = Duration::from_millis(300);

/// Sends a random token and returns the address from which it arrived.
pub(super) fn token_arrives(from: &Host, to: &Host, address: SocketAddr) -> Result<IpAddr> {
    token_is_led(from, address, to, address)
}

/// Sends a random token to one address, listens for it at another, and returns the address from which it arrived.
pub(super) fn token_is_led(
    from: &Host,
    address: SocketAddr,
    to: &Host,
    listens: SocketAddr,
) -> Result<IpAddr> {
    let listener = listen(to, listens)?;
    let token = token().map_err(tried("make a token"))?;
    let mut stream = connect(from, address, PATIENCE)
        .map_err(|error| format!("{} cannot connect to {address}: {error}", from.name))?;
    stream.write_all(token.as_bytes()).map_err(tried("send the token"))?;
    drop(stream);
    let (mut received, source) = accept(&listener, PATIENCE)
        .ok_or_else(|| format!("the connection never came to {}, though {} has one", to.name, from.name))?;
    received.set_read_timeout(Some(PATIENCE)).map_err(tried("wait for the token"))?;
    let mut text = String::new();
    received.read_to_string(&mut text).map_err(tried("receive the token"))?;
    if text == token {
        Ok(source)
    } else {
        Err(format!("{} received {text:?} instead of {token:?}", to.name))
    }
}

/// Sends a random token to where it must not arrive. Returns what the sender was told.
pub(super) fn token_is_lost(from: &Host, to: &Host, address: SocketAddr) -> Result<String> {
    let listener = listen(to, address)?;
    match connect(from, address, SILENCE) {
        Ok(_) => Err(format!("{} reaches {address}, which only this node's pods may", from.name)),
        Err(error) => match accept(&listener, Duration::ZERO) {
            None => Ok(format!("does not arrive: {error}")),
            Some((_, source)) => Err(format!("a connection from {source} came to {}", to.name)),
        },
    }
}

fn listen(host: &Host, address: SocketAddr) -> Result<TcpListener> {
    let listener = host.netns.visit(|| TcpListener::bind(address)).map_err(|error| error.to_string())?;
    let listener = listener.map_err(|error| format!("{} cannot listen on {address}: {error}", host.name))?;
    listener.set_nonblocking(true).map_err(tried("listen"))?;
    Ok(listener)
}

fn connect(host: &Host, address: SocketAddr, patience: Duration) -> std::io::Result<TcpStream> {
    host.netns.visit(|| TcpStream::connect_timeout(&address, patience)).map_err(std::io::Error::other)?
}

fn accept(listener: &TcpListener, patience: Duration) -> Option<(TcpStream, IpAddr)> {
    let begun = std::time::Instant::now();
    loop {
        if let Ok((stream, source)) = listener.accept() {
            stream.set_nonblocking(false).ok()?;
            return Some((stream, source.ip()));
        }
        if begun.elapsed() >= patience {
            return None;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
