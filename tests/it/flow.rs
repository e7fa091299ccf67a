//! Flows that go on while something happens to the network: a number goes there and back, again and again, over one
//! connection or one socket. Whether it still does is for the tests to ask.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::lab::{Place, eventually};

/// Between two numbers.
const PAUSE: Duration = Duration::from_millis(10);
/// A TCP connection that lost packets waits longer each time before it tries again.
const PATIENCE: Duration = Duration::from_secs(30);

/// Ends with its test.
pub(crate) struct Flow {
    name: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// The highest number that came back.
    returned: AtomicU64,
    /// The number that was sent last.
    sent: AtomicU64,
    paused: AtomicBool,
    broken: Mutex<Option<String>>,
}

impl Shared {
    /// The next number to send; waits while the flow is to be silent.
    fn next(&self) -> u64 {
        thread::sleep(PAUSE);
        while self.paused.load(Ordering::SeqCst) {
            thread::sleep(PAUSE);
        }
        self.sent.fetch_add(1, Ordering::SeqCst) + 1
    }

    fn came_back(&self, number: [u8; 8]) {
        self.returned.fetch_max(u64::from_be_bytes(number), Ordering::SeqCst);
    }
}

impl Flow {
    /// One connection from `client` to `to`, which leads to `listen` at `server`.
    pub(crate) fn tcp(client: &impl Place, to: SocketAddr, server: &impl Place, listen: SocketAddr) -> Self {
        let listener =
            server.inside(|| TcpListener::bind(listen)).unwrap_or_else(|e| panic!("listen on {listen}: {e}"));
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut number = [0; 8];
            while stream.read_exact(&mut number).and_then(|()| stream.write_all(&number)).is_ok() {}
        });
        let stream = client.inside(|| TcpStream::connect_timeout(&to, Duration::from_secs(5)));
        let mut stream = stream.unwrap_or_else(|e| panic!("connect to {to}: {e}"));
        stream.set_nodelay(true).expect("an open socket");
        Self::begin(format!("tcp to {to}"), move |shared| {
            loop {
                let mut number = shared.next().to_be_bytes();
                let turn = stream.write_all(&number).and_then(|()| stream.read_exact(&mut number));
                if let Err(error) = turn {
                    *shared.broken.lock().expect("no panic there") = Some(error.to_string());
                    return;
                }
                shared.came_back(number);
            }
        })
    }

    /// Datagrams of one socket at `client` to `to`, which leads to `listen` at `server`.
    pub(crate) fn udp(client: &impl Place, to: SocketAddr, server: &impl Place, listen: SocketAddr) -> Self {
        let echo = server.inside(|| UdpSocket::bind(listen)).unwrap_or_else(|e| panic!("bind {listen}: {e}"));
        thread::spawn(move || {
            let mut number = [0; 8];
            loop {
                // An answer that could not be sent is lost like any other datagram.
                if let Ok((_, from)) = echo.recv_from(&mut number) {
                    let _ = echo.send_to(&number, from);
                }
            }
        });
        let any: SocketAddr = if to.is_ipv4() { ([0; 4], 0).into() } else { ([0; 16], 0).into() };
        let socket = client.inside(|| UdpSocket::bind(any)).expect("a socket");
        socket.connect(to).unwrap_or_else(|e| panic!("connect to {to}: {e}"));
        socket.set_read_timeout(Some(PAUSE)).expect("an open socket");
        Self::begin(format!("udp to {to}"), move |shared| {
            loop {
                let mut number = shared.next().to_be_bytes();
                // While nobody is there the kernel says so, and the flow goes on.
                let _ = socket.send(&number);
                match socket.recv(&mut number) {
                    Ok(8) => shared.came_back(number),
                    Ok(_) => {}
                    Err(error) => assert_ne!(error.kind(), ErrorKind::InvalidInput, "{error}"),
                }
            }
        })
    }

    fn begin(name: String, run: impl FnOnce(Arc<Shared>) + Send + 'static) -> Self {
        let shared = Arc::new(Shared::default());
        let flow = Self { name, shared: Arc::clone(&shared) };
        thread::spawn(move || run(shared));
        flow.assert_alive("from the beginning");
        flow
    }

    /// Numbers that are sent from now on come back.
    pub(crate) fn assert_alive(&self, when: &str) {
        let sent = self.shared.sent.load(Ordering::SeqCst);
        eventually(&format!("{} goes on: {when}", self.name), PATIENCE, || {
            let broken = self.shared.broken.lock().expect("no panic there");
            assert_eq!(*broken, None, "{} broke: {when}", self.name);
            self.shared.returned.load(Ordering::SeqCst) > sent + 3
        });
    }

    /// Neither end says anything until [`Self::resume`]; the connection stays open.
    pub(crate) fn pause(&self) {
        self.shared.paused.store(true, Ordering::SeqCst);
        // What is on its way arrives.
        thread::sleep(PAUSE * 5);
    }

    pub(crate) fn resume(&self) {
        self.shared.paused.store(false, Ordering::SeqCst);
    }
}
