//! Pods of the host's network, as a runtime lists them; and runtimes that say nothing, nonsense, or too much.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc;
use std::thread;

use super::restart::socket_owner;
use super::*;
use crate::cri::fake;
use crate::sandbox::sandboxed;

const CRIO: &str = "/run/crio/crio.sock";
/// Where CRI-O has a directory for each sandbox.
const SANDBOXES: &str = "/run/containers/storage/overlay-containers";
const WANTED: (&str, &str) = ("dns-host-network-names", "true");

/// One of the host's network, in the namespace `ns1`.
fn host_pod(id: &str, name: &str) -> fake::Pod {
    let labels = vec![("app".to_owned(), "other".to_owned()), ("name".to_owned(), name.to_owned())];
    fake::Pod { id: id.to_owned(), namespace: "ns1".to_owned(), labels, host_network: true, ended: false }
}

fn pods() -> Vec<fake::Pod> {
    vec![
        host_pod("a", "Broker"),
        fake::Pod { host_network: false, ..host_pod("b", "labelled") },
        fake::Pod { ended: true, ..host_pod("c", "ended") },
        host_pod("d", "no.name"),
        host_pod("e", "web"),
    ]
}

#[test]
fn pods_of_the_host_s_network_are_found_by_their_label() {
    sandboxed(|| {
        let (web, db) = (Pod::new("ns1", "web"), Pod::new("ns2", "db"));
        let runtime = fake::Runtime::listening(CRIO, pods());
        fs::create_dir_all(SANDBOXES).unwrap();
        let role = Role::start(&[WANTED]);
        let wait = |name: &str, expected: &str| {
            eventually(name, PATIENCE, || answer(&db.netns, name) == expected);
        };
        for name in
            ["broker.ns1.svc.cluster.local", "broker.ns1.pod.cluster.local", "broker.cluster.local", "broker"]
        {
            wait(name, GATEWAY);
        }
        assert_eq!(answer(&db.netns, "web"), format!("{GATEWAY} {}", web.address));
        for name in ["labelled", "ended", "other", "broker.ns2.svc.cluster.local"] {
            assert_eq!(answer(&web.netns, name), "NXDOMAIN", "{name}");
        }
        assert_eq!(answer(&web.netns, &format!("-x {GATEWAY}")), "NXDOMAIN");

        // What comes and goes is announced by the runtime's files.
        runtime.has([pods(), vec![host_pod("f", "proxy")]].concat());
        fs::create_dir(format!("{SANDBOXES}/f")).unwrap();
        wait("proxy", GATEWAY);
        runtime.has(vec![host_pod("f", "proxy")]);
        fs::remove_dir(format!("{SANDBOXES}/f")).unwrap();
        wait("broker", "NXDOMAIN");
        assert_eq!(answer(&db.netns, "web"), web.address);
        // Nobody is asked twice about what never changes.
        let mut asked = runtime.was_asked();
        asked.retain(|call| call != "list");
        asked.sort();
        assert_eq!(asked, ["status a", "status b", "status e", "status f"]);

        // Whoever takes over knows them from its first answer on.
        let mut second = Role::start(&[WANTED]);
        eventually("the successor serves", PATIENCE, || socket_owner() == Some(second.child.id()));
        role.end();
        assert_eq!(answer(&db.netns, "proxy"), GATEWAY);
        // The runtime is gone, its pods are not.
        fs::remove_file(CRIO).unwrap();
        fs::create_dir(format!("{SANDBOXES}/g")).unwrap();
        let words = heard(&mut second, "keep the names they had");
        assert!(words.contains(CRIO) && words.contains("there is no socket"), "{words}");
        assert_eq!(answer(&db.netns, "proxy"), GATEWAY);
    });
}

/// What it has said when these words come.
fn heard(role: &mut Role, words: &str) -> String {
    let mut heard = String::new();
    let mut stderr = role.child.stderr.take().unwrap();
    let mut piece = [0; 256];
    while !heard.contains(words) {
        let read = stderr.read(&mut piece).unwrap();
        assert!(read > 0, "it ended: {heard}");
        heard.push_str(&String::from_utf8_lossy(&piece[..read]));
    }
    heard
}

#[test]
fn nobody_is_asked_unless_that_is_said() {
    sandboxed(|| {
        let web = Pod::new("ns1", "web");
        let runtime = fake::Runtime::listening(CRIO, pods());
        fs::create_dir_all(SANDBOXES).unwrap();
        let role = Role::start(&[("dns-host-network-names", "false")]);
        fs::create_dir(format!("{SANDBOXES}/f")).unwrap();
        assert_eq!(answer(&Node, "web"), web.address);
        assert_eq!(answer(&Node, "broker"), "NXDOMAIN");
        let threads = fs::read_dir(format!("/proc/{}/task", role.child.id())).unwrap().count();
        assert_eq!((threads, runtime.was_asked()), (1, Vec::new()));
        let words = role.end();
        assert!(!words.contains("host's network"), "{words}");
    });
}

/// The highest that it was, in KiB.
fn peak(role: &Role) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", role.child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// As much of a list as never ends: a gigabyte in the largest frames that HTTP/2 allows without being asked.
fn endless(mut stream: UnixStream) -> u64 {
    const FRAME: u32 = 16_384;
    let head = [&FRAME.to_be_bytes()[1..], &[0, 0, 0, 0, 0, 1]].concat();
    let frame = [head, [10, 0].repeat(FRAME as usize / 2)].concat();
    let mut sent = 0;
    while sent < 1 << 30 && stream.write_all(&frame).is_ok() {
        sent += u64::from(FRAME);
    }
    sent
}

/// What it does with who comes; how much it could say or hear.
type Behaviour = fn(UnixStream) -> u64;

#[test]
fn a_runtime_that_is_silent_or_lies_keeps_nobody_waiting() {
    sandboxed(|| {
        let web = Pod::new("ns1", "web");
        let plain = Role::start(&[]);
        assert_eq!(answer(&Node, "web"), web.address);
        let usual = peak(&plain);
        plain.end();
        let silent: Behaviour = |mut stream| stream.read_to_end(&mut Vec::new()).unwrap() as u64;
        let garbage: Behaviour =
            |mut stream| stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").map_or(1, |()| 0);
        for (what, behaviour) in [("silent", silent), ("garbage", garbage), ("endless", endless)] {
            let socket = format!("/run/{what}.sock");
            let listener = UnixListener::bind(&socket).unwrap();
            let (sender, done) = mpsc::channel();
            let (came, waits) = mpsc::channel();
            thread::spawn(move || {
                for stream in listener.incoming() {
                    let _ = came.send(());
                    let _ = sender.send(behaviour(stream.unwrap()));
                }
            });
            let mut role = Role::start(&[("dns-host-network-names", &socket)]);
            waits.recv().unwrap();
            // It waits for the runtime, and nobody waits for it.
            assert_eq!(answer(&web.netns, "web"), web.address, "{what}");
            let sent = done.recv().unwrap();
            assert!(sent < 16 << 20, "{what}: took {sent} bytes");
            assert_eq!(answer(&web.netns, "web"), web.address, "{what}");
            let most = peak(&role);
            assert!(most < usual + 8 * 1024, "{what}: {most} KiB, {usual} without");
            let words = heard(&mut role, "keep the names they had");
            assert!(words.contains(&socket), "{what}: {words}");
        }
    });
}
