//! The things tests are made of: namespaces, plugins as a runtime calls them, and bytes that travel between pods.
//!
//! Everything here belongs into the body of `sandboxed`; nothing checks behaviour, that is for the tests to do.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;

/// How long a token may take. Far above what a loaded machine needs, since only failures wait for it.
const PATIENCE: Duration = Duration::from_secs(2);

/// Debian's build of the Go plugins, from `containernetworking-plugins`.
pub(crate) const DEBIAN_PLUGINS: &str = "/usr/lib/cni";

/// Whose plugins the runtimes and the comparisons call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plugins {
    /// For telling a fault of the lab from one of ours: every test passes with them too, compared with themselves.
    Debian,
    /// The same of Debian's sid, see [`peers`].
    Today,
    Ours,
}

/// THE SWITCH between them.
pub(crate) const UNDER_TEST: Plugins = Plugins::Ours;

impl Plugins {
    pub(crate) fn dir(self) -> &'static Path {
        static TODAY: OnceLock<PathBuf> = OnceLock::new();
        match self {
            Self::Debian => Path::new(DEBIAN_PLUGINS),
            Self::Today => TODAY.get_or_init(|| peers().join("usr/lib/cni")),
            Self::Ours => our_plugins(),
        }
    }

    /// The Go plugins leave a pod's masquerade rule when its namespace was gone before DEL.
    pub(crate) fn forgets_rules(self) -> bool {
        self != Self::Ours
    }

    /// Whether these plugins are of the specification 1.1.0, by what they say of themselves: Debian builds them without
    /// a version number.
    pub(crate) fn speak_1_1(self) -> bool {
        let about = Plugin::new(self.dir(), "bridge").run();
        assert!(
            about.stderr.contains("CNI protocol versions supported: "),
            "{self:?} introduce themselves: {about}"
        );
        about.stderr.contains(" 1.1.0")
    }
}

/// The directory that `tests/peers/fetch` prints: programs of a newer Debian.
#[expect(clippy::disallowed_methods, reason = "tests/run says where they are")]
pub(crate) fn peers() -> PathBuf {
    let dir = std::env::var_os("SMARTER_CNI_PEERS").map(PathBuf::from);
    let dir = dir.expect("COULD NOT RUN: today's Go plugins are missing: run tests/peers/fetch and set SMARTER_CNI_PEERS to what it prints");
    assert!(
        dir.join("usr/lib/cni/bridge").is_file(),
        "COULD NOT RUN: {} has no plugins: run tests/peers/fetch and set SMARTER_CNI_PEERS to what it prints",
        dir.display()
    );
    dir
}

/// The root directory of systemd-resolved; `None` on a day when Debian's sid has none that runs by itself.
pub(crate) fn resolved() -> Option<PathBuf> {
    let root = peers().join("resolved");
    root.join("complete").is_file().then_some(root)
}

/// A directory where our binary stands under the four standard names and its own.
pub(crate) fn our_plugins() -> &'static Path {
    static DIR: OnceLock<tempfile::TempDir> = OnceLock::new();
    DIR.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let names = ["bridge", "host-local", "loopback", "portmap"];
        let own = ["smarter-bridge", "smarter-ipam", "smarter-loopback", "smarter-portmap", "smarter-cni"];
        for name in names.iter().chain(&own) {
            std::os::unix::fs::symlink(binary(), dir.path().join(name)).expect("link to the binary");
        }
        // podman's own network list chains these, which nobody here replaces.
        for foreign in ["tuning", "firewall"] {
            let plugin = Path::new(DEBIAN_PLUGINS).join(foreign);
            std::os::unix::fs::symlink(plugin, dir.path().join(foreign)).expect("link to a foreign plugin");
        }
        dir
    })
    .path()
}

/// Whether [`binary`] is a release build that somebody named.
#[expect(clippy::disallowed_methods, reason = "tests/run says where the release binary is")]
pub(crate) fn is_released() -> bool {
    std::env::var_os("SMARTER_CNI_BINARY").is_some()
}

/// The program under test: the release build where tests/run made one, else what `cargo test` built.
#[expect(clippy::disallowed_methods, reason = "tests/run says where the release binary is")]
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("SMARTER_CNI_BINARY")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_smarter-cni")), PathBuf::from)
}

/// Makes every attachment older than the time for which one is left alone after its ADD began (5 s), without waiting for it.
pub(crate) fn grow_old() {
    const RECORDS: &str = "/run/smarter-cni/attachments";
    let is_record = |name: &String| Path::new(name).extension().is_some_and(|extension| extension == "json");
    let records: Vec<String> = files(RECORDS).into_iter().filter(is_record).collect();
    assert!(!records.is_empty(), "nobody is attached");
    for name in records {
        let path = Path::new(RECORDS).join(name);
        let mut record: Value = serde_json::from_slice(&fs::read(&path).expect("a record")).expect("JSON");
        let born = record["created_boottime"].as_u64().expect("milliseconds since the boot");
        record["created_boottime"] = born.saturating_sub(6000).into();
        fs::write(&path, record.to_string()).expect("the record can be written");
    }
}

/// Waits until the kernel has taken down a namespace that nobody holds any more, which it does behind everybody's back: the
/// other end of the pair in it, `link`, goes with it.
pub(crate) fn taken_down(link: &str) {
    eventually("the kernel takes the namespace down", Duration::from_secs(30), || Node.link(link).is_none());
}

/// Somewhere commands can run and sockets can live.
pub(crate) trait Place {
    /// Runs `f` on a thread that is in this place. Only the network differs, everything else is shared.
    fn inside<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T;

    /// The words of `line` as a command in this place, before it is run.
    fn command(&self, line: &str) -> Command;

    /// Runs a command (words separated by blanks, no quoting) and returns its output; panics when it fails.
    fn run(&self, line: &str) -> String {
        let out = self.command(line).output().unwrap_or_else(|e| panic!("{line}: {e}"));
        let stderr = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "`{line}` failed ({}): {stderr}", out.status);
        String::from_utf8(out.stdout).expect("UTF-8")
    }

    /// `ip -j <line>` as JSON; no output is an empty array.
    fn ip(&self, line: &str) -> Value {
        let text = self.run(&format!("ip -j {line}"));
        if text.trim().is_empty() {
            return Value::Array(Vec::new());
        }
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("ip -j {line}: {e}: {text}"))
    }

    /// The details of one link (`ip -d`), `None` when there is none of that name.
    fn link(&self, name: &str) -> Option<Value> {
        let links = self.ip("-d link show");
        links.as_array()?.iter().find(|l| l["ifname"] == name).cloned()
    }

    /// Addresses with prefix of one link, sorted, without IPv6 link-local ones.
    fn addresses(&self, link: &str) -> Vec<String> {
        let mut found: Vec<String> = self
            .ip(&format!("addr show dev {link}"))
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|l| l["addr_info"].as_array())
            .flatten()
            .filter(|a| a["scope"] != "link")
            .filter_map(|a| Some(format!("{}/{}", a["local"].as_str()?, a["prefixlen"])))
            .collect();
        found.sort();
        found
    }
}

/// The namespace of the sandbox itself: what a node is to its pods.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node;

impl Place for Node {
    fn inside<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        f()
    }

    fn command(&self, line: &str) -> Command {
        let mut words = line.split_whitespace();
        let mut command = Command::new(words.next().expect("a command"));
        command.args(words).stdin(Stdio::null());
        command
    }
}

/// A named network namespace, pinned below the sandbox's own /run/netns so that `ip -n` and CNI_NETNS both find it.
#[derive(Debug)]
pub(crate) struct Netns {
    name: String,
}

impl Netns {
    pub(crate) fn new(name: &str) -> Self {
        Node.run(&format!("ip netns add {name}"));
        Self { name: name.to_owned() }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What CNI_NETNS says.
    pub(crate) fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        // Not `run`: a panic while panicking would hide the reason.
        let _ = Node.command(&format!("ip netns del {}", self.name)).status();
    }
}

/// A namespace that somebody else made and will remove, such as a container runtime.
#[derive(Debug, Clone)]
pub(crate) struct Foreign(pub(crate) String);

fn enter<T: Send>(path: &str, f: impl FnOnce() -> T + Send) -> T {
    // A thread of its own that ends there: it has no way back to get wrong.
    thread::scope(|scope| {
        let visit = scope.spawn(|| {
            let namespace = File::open(path).unwrap_or_else(|e| panic!("open {path}: {e}"));
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .unwrap_or_else(|e| panic!("enter {path}: {e}"));
            f()
        });
        visit.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn nsenter(path: &str, line: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={path}")).args(line.split_whitespace()).stdin(Stdio::null());
    command
}

impl Place for Netns {
    fn inside<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        enter(&self.path(), f)
    }

    fn command(&self, line: &str) -> Command {
        match line.strip_prefix("ip ") {
            // It goes there by itself, which saves a program.
            Some(rest) => Node.command(&format!("ip -n {} {rest}", self.name)),
            None => nsenter(&self.path(), line),
        }
    }
}

impl Place for Foreign {
    fn inside<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        enter(&self.0, f)
    }

    fn command(&self, line: &str) -> Command {
        nsenter(&self.0, line)
    }
}

/// The node's address on its uplink.
pub(crate) const NODE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
/// Somebody on the other side of the uplink.
pub(crate) const WORLD: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
pub(crate) const NODE_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
pub(crate) const WORLD_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2));

/// Gives the node an uplink, `up0`, with its default routes and a neighbour who knows no other network than that one.
pub(crate) fn world() -> Netns {
    let world = Netns::new("world");
    Node.run("ip link add up0 type veth peer name world0 netns world");
    uplink(&Node, "up0", NODE, NODE_V6);
    uplink(&world, "world0", WORLD, WORLD_V6);
    world.run("ip link set lo up");
    Node.run(&format!("ip route add default via {WORLD}"));
    Node.run(&format!("ip -6 route add default via {WORLD_V6}"));
    world
}

fn uplink(place: &impl Place, link: &str, v4: IpAddr, v6: IpAddr) {
    place.run(&format!("ip addr add {v4}/24 dev {link}"));
    place.run(&format!("ip addr add {v6}/64 dev {link} nodad"));
    place.run(&format!("ip link set {link} up"));
}

/// One plugin binary, about to be called as a runtime calls it: with nothing in the environment but what is set here.
#[derive(Debug, Clone)]
pub(crate) struct Plugin {
    binary: PathBuf,
    environment: BTreeMap<String, String>,
    stdin: Vec<u8>,
    node: Option<String>,
    wrapper: Vec<String>,
}

impl Plugin {
    pub(crate) fn new(bin_dir: impl AsRef<Path>, name: &str) -> Self {
        let bin_dir = bin_dir.as_ref();
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned();
        let environment = [("PATH".to_owned(), path), ("CNI_PATH".to_owned(), bin_dir.display().to_string())];
        Self {
            binary: bin_dir.join(name),
            environment: environment.into(),
            stdin: Vec::new(),
            node: None,
            wrapper: Vec::new(),
        }
    }

    /// Runs the plugin in a namespace that plays the node, instead of the sandbox's own.
    pub(crate) fn on(mut self, node: &Netns) -> Self {
        self.node = Some(node.path());
        self
    }

    /// Sets a variable; the empty string takes it away.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        if value.is_empty() {
            self.environment.remove(name);
        } else {
            self.environment.insert(name.to_owned(), value.to_owned());
        }
        self
    }

    pub(crate) fn command(self, verb: &str) -> Self {
        self.env("CNI_COMMAND", verb)
    }

    pub(crate) fn container(self, id: &str) -> Self {
        self.env("CNI_CONTAINERID", id)
    }

    pub(crate) fn netns(self, netns: &Netns) -> Self {
        self.env("CNI_NETNS", &netns.path())
    }

    pub(crate) fn ifname(self, name: &str) -> Self {
        self.env("CNI_IFNAME", name)
    }

    /// Runs the plugin under a debugger such as strace: its words stand before the plugin's path.
    pub(crate) fn under(mut self, words: &[&str]) -> Self {
        self.wrapper = words.iter().map(|&word| word.to_owned()).collect();
        self
    }

    pub(crate) fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    pub(crate) fn json(self, config: &Value) -> Self {
        self.stdin(config.to_string())
    }

    /// Starts it and gives it its configuration.
    pub(crate) fn start(&self) -> Child {
        match &self.node {
            Some(node) => enter(node, || self.start_here()),
            None => self.start_here(),
        }
    }

    fn start_here(&self) -> Child {
        let program = self.binary.clone().into_os_string();
        let mut words = self.wrapper.iter().map(Into::into).chain([program]);
        let mut child = Command::new(words.next().expect("at least the plugin"))
            .args(words)
            .env_clear()
            .envs(&self.environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}", self.binary.display()));
        // A plugin that fails before it reads closes the pipe; that is its right.
        let _ = child.stdin.take().expect("a pipe").write_all(&self.stdin);
        child
    }

    pub(crate) fn run(&self) -> Output {
        let done = self.start().wait_with_output().expect("the plugin ends");
        let stdout = String::from_utf8_lossy(&done.stdout).into_owned();
        Output {
            status: done.status.code().unwrap_or(-1),
            json: serde_json::from_str(&stdout).unwrap_or(Value::Null),
            stdout,
            stderr: String::from_utf8_lossy(&done.stderr).into_owned(),
        }
    }

    /// Runs and panics unless the plugin succeeded.
    pub(crate) fn succeed(&self) -> Output {
        let out = self.run();
        assert_eq!(out.status, 0, "{} failed: {out}", self.binary.display());
        out
    }
}

/// What a plugin answered. `status` is -1 when a signal ended it, `json` is null when stdout is not one document.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) json: Value,
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "status {}\nstdout: {}\nstderr: {}", self.status, self.stdout, self.stderr)
    }
}

/// What a client learned: the server's token, and the address that the server saw it come from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) token: String,
    pub(crate) seen_as: IpAddr,
}

impl Answer {
    fn parse(text: &str) -> Option<Self> {
        let (token, seen_as) = text.split_once(' ')?;
        Some(Self { token: token.to_owned(), seen_as: seen_as.parse().ok()? })
    }
}

/// Serves `token` to TCP clients until the test ends. Listens when this returns.
pub(crate) fn serve_tcp(place: &impl Place, at: impl Into<SocketAddr>, token: &str) -> SocketAddr {
    let at = at.into();
    let listener = place.inside(|| TcpListener::bind(at)).unwrap_or_else(|e| panic!("listen on {at}: {e}"));
    let bound = listener.local_addr().expect("bound");
    let token = token.to_owned();
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let Ok(from) = client.peer_addr() else { continue };
            let _ = write!(client, "{token} {}", from.ip());
        }
    });
    bound
}

/// Serves `token` to UDP clients until the test ends. Is bound when this returns.
pub(crate) fn serve_udp(place: &impl Place, at: impl Into<SocketAddr>, token: &str) -> SocketAddr {
    let at = at.into();
    let socket = place.inside(|| UdpSocket::bind(at)).unwrap_or_else(|e| panic!("bind {at}: {e}"));
    let bound = socket.local_addr().expect("bound");
    let token = token.to_owned();
    thread::spawn(move || {
        let mut question = [0; 64];
        while let Ok((_, from)) = socket.recv_from(&mut question) {
            let _ = socket.send_to(format!("{token} {}", from.ip()).as_bytes(), from);
        }
    });
    bound
}

/// Asks a TCP server for its token.
pub(crate) fn ask_tcp(place: &impl Place, server: impl Into<SocketAddr>) -> io::Result<Answer> {
    let server = server.into();
    place.inside(|| {
        let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Answer::parse(&text).ok_or_else(|| io::Error::other(format!("{server} answered {text:?}")))
    })
}

/// Asks a UDP server for its token, once: a lost packet is a failure.
pub(crate) fn ask_udp(place: &impl Place, server: impl Into<SocketAddr>) -> io::Result<Answer> {
    let server = server.into();
    place.inside(|| {
        let any: IpAddr = if server.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
        let socket = UdpSocket::bind((any, 0))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.connect(server)?;
        socket.send(b"?")?;
        let mut text = [0; 256];
        let length = socket.recv(&mut text)?;
        let text = String::from_utf8_lossy(text.get(..length).unwrap_or_default()).into_owned();
        Answer::parse(&text).ok_or_else(|| io::Error::other(format!("{server} answered {text:?}")))
    })
}

/// Names of the files below a directory, sorted; a directory that is missing has none.
pub(crate) fn files(dir: impl AsRef<Path>) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Calls `done` until it is true; panics with `what` after `limit`.
pub(crate) fn eventually(what: &str, limit: Duration, mut done: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !done() {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::sandboxed;

    /// The lab itself: two namespaces joined by a veth pair, and tokens over both protocols and families.
    #[test]
    fn tokens_travel_between_namespaces() {
        sandboxed(|| {
            let (left, right) = (Netns::new("left"), Netns::new("right"));
            Node.run("ip -n left link add left0 type veth peer name right0 netns right");
            for (place, link, host) in [(&left, "left0", 1), (&right, "right0", 2)] {
                place.run("ip link set lo up");
                place.run(&format!("ip addr add 10.9.9.{host}/24 dev {link}"));
                place.run(&format!("ip addr add fd09::{host}/64 dev {link} nodad"));
                place.run(&format!("ip link set {link} up"));
            }
            assert_eq!(left.addresses("left0"), ["10.9.9.1/24", "fd09::1/64"]);
            for (server, client) in [("10.9.9.2", "10.9.9.1"), ("fd09::2", "fd09::1")] {
                let at = SocketAddr::new(server.parse().unwrap(), 7000);
                let answer = || Answer { token: "t".into(), seen_as: client.parse().unwrap() };
                serve_tcp(&right, at, "t");
                assert_eq!(ask_tcp(&left, at).unwrap(), answer());
                serve_udp(&right, at, "t");
                assert_eq!(ask_udp(&left, at).unwrap(), answer());
                assert!(ask_tcp(&Node, at).is_err(), "the node has no way there");
            }
        });
    }
}
