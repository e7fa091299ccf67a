//! Transports: what clients send that is no plain question, connections, and a port that somebody else has.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

use super::*;
use crate::install::watch::Watch;
use crate::sandbox::{run as script, sandboxed};

/// `web`, type A, class IN.
fn question(id: u8) -> Vec<u8> {
    [&[0, id, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 3][..], b"web", &[0, 0, 1, 0, 1]].concat()
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).unwrap().to_be_bytes()[..], message].concat()
}

/// The next answer of a connection; `None` at its end.
fn next(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).ok()?;
    Some(answer)
}

fn connected(place: &impl Place) -> TcpStream {
    let stream = place.inside(|| TcpStream::connect((GATEWAY, 53))).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[test]
fn extensions_are_met_as_the_standard_says() {
    sandboxed(|| {
        let web = Pod::new("ns1", "web");
        let _role = Role::start(&[]);
        for (words, parts) in [
            ("+edns=1 +noednsnegotiation web", &["status: BADVERS", "version: 0", "ANSWER: 0"][..]),
            ("+ednsopt=100 web", &["status: NOERROR", "ANSWER: 1", "version: 0"]),
            ("+ednsflags=0x40 web", &["status: NOERROR", "ANSWER: 1", "flags:; udp: 1232"]),
            ("+dnssec web", &["status: NOERROR", "ANSWER: 1", "flags: do; udp: 1232"]),
            ("+nsid +subnet=192.0.2.0/24 +cookie web", &["status: NOERROR", "ANSWER: 1"]),
            ("+noedns web", &["status: NOERROR", "ANSWER: 1", "ADDITIONAL: 0"]),
            ("+header-only +opcode=15 web", &["status: NOTIMP"]),
            ("+noedns -c CH web", &["status: REFUSED"]),
            ("+zflag web", &["status: NOERROR", "flags: qr aa rd ra;"]),
            ("+norec web", &["status: NOERROR", "flags: qr aa ra;"]),
            ("-t SOA cluster.local", &["status: NOERROR", "ANSWER: 1"]),
        ] {
            let text = dig(&web.netns, words);
            assert!(parts.iter().all(|part| text.contains(part)), "{words}: {text}");
        }
        assert!(dig(&web.netns, "+tcp -t AXFR cluster.local").contains("Transfer failed"));
    });
}

#[test]
fn connections_carry_several_questions_and_do_not_last() {
    sandboxed(|| {
        let web = Pod::new("ns1", "web");
        let _role = Role::start(&[]);
        // Nobody else is kept out by who opens many, or says only half of a message.
        let idle: Vec<_> = (0..40).map(|_| connected(&web.netns)).collect();
        let mut half = connected(&Node);
        half.write_all(&framed(&question(9))[..7]).unwrap();
        let mut pipelined = connected(&Node);
        pipelined.write_all(&[framed(&question(1)), framed(&question(2))].concat()).unwrap();
        let answers = [next(&mut pipelined).unwrap(), next(&mut pipelined).unwrap()];
        assert_eq!(answers.each_ref().map(|answer| answer[1]), [1, 2]);
        assert!(
            answers
                .iter()
                .all(|answer| answer.ends_with(&web.address.parse::<std::net::Ipv4Addr>().unwrap().octets()))
        );
        assert_eq!(counted("connections_refused"), Some(40 - 16));
        assert_eq!(next(&mut half), None, "it is closed");
        assert_eq!(next(&mut pipelined), None, "it is closed");
        drop(idle);
        // What is longer than a question ends a connection at once.
        let mut long = connected(&Node);
        long.write_all(&u16::MAX.to_be_bytes()).unwrap();
        assert_eq!(next(&mut long), None);
        assert_eq!(answer(&Node, "+tcp web"), web.address);
    });
}

#[test]
fn two_questions_of_one_socket_get_their_own_answers() {
    sandboxed(|| {
        let web = Pod::new("ns1", "web");
        let _role = Role::start(&[]);
        let answers = web.netns.inside(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            // A server that answers from elsewhere is not heard.
            socket.connect((GATEWAY, 53)).unwrap();
            let mut aaaa = question(2);
            let at = aaaa.len() - 3;
            aaaa[at] = 28;
            socket.send(&question(1)).unwrap();
            socket.send(&aaaa).unwrap();
            let mut got = [0, 0].map(|_: u8| {
                let mut answer = [0; 512];
                let length = socket.recv(&mut answer).unwrap();
                (answer[1], answer[..length].to_vec()[7])
            });
            got.sort_unstable();
            got
        });
        assert_eq!(answers, [(1, 1), (2, 0)], "number and count of answers");
    });
}

#[test]
fn a_port_that_somebody_has_is_named_and_tried_again() {
    sandboxed(|| {
        let web = Pod::new("ns1", "web");
        let taken = UdpSocket::bind("[::]:53").unwrap();
        let role = Role::start(&[("dns-fallback-port", "9153")]);
        assert_eq!(answer(&web.netns, &format!("@{GATEWAY} -p 9153 web")), web.address);
        drop(taken);
        eventually("port 53 is served again", PATIENCE, || answer(&web.netns, "web") == web.address);
        let words = role.end();
        let owner = format!("(process {}) on [::]:53/udp; port 9153 serves meanwhile", std::process::id());
        assert!(words.contains("169.254.0.2:53: ") && words.contains(&owner), "{words}");
    });
}

/// Pods and programs of the node go on asking at port 53, and the other program keeps what is not for us.
#[test]
fn questions_are_led_to_the_port_that_it_has() {
    sandboxed(|| {
        let web = Pod::with_name_server("ns1", "web");
        let other = Stranger::at_port_53();
        let role = Role::start(&[]);
        assert_eq!(answer(&web.netns, &format!("@{OWN} -p 9053 web")), web.address);
        let out = succeeds("reconcile");
        for address in [GATEWAY, OWN] {
            let line =
                format!("nft add element ip smarter-cni dns_lead {{ {address} . udp . 53 : {address} . 9053");
            assert!(out.stdout.contains(&line), "{}", out.stdout);
        }
        let everywhere = || {
            for words in [format!("@{GATEWAY} web"), format!("@{OWN} web"), format!("@{OWN} +tcp web")] {
                assert_eq!(answer(&web.netns, &words), web.address, "{words}");
                assert_eq!(answer(&Node, &words), web.address, "{words}");
            }
        };
        everywhere();
        assert_eq!(other.questions(), 0);
        assert_eq!(succeeds("reconcile --dry-run --json").json["changes"], json!([]), "that is all");
        assert_eq!(answer(&Node, "@127.0.0.1 web"), "REFUSED", "what is for others is theirs");
        // The port is free again: nobody is kept from the answer before the rules are gone, nor after it.
        drop(other);
        eventually("it has port 53", PATIENCE, || {
            run("status --json").json["dns"]["addresses"].to_string().contains("\"169.254.0.2:53\"")
        });
        everywhere();
        let out = succeeds("reconcile");
        assert!(out.stdout.contains("nft delete element ip smarter-cni dns_lead"), "{}", out.stdout);
        everywhere();
        assert_eq!(succeeds("reconcile --dry-run --json").json["changes"], json!([]));
        role.end();
    });
}

/// Nobody has to type anything where the node is watched.
#[test]
fn the_watch_hears_where_questions_are_to_be_led() {
    sandboxed(|| {
        script("sh", &["-c", "mount -t tmpfs tmpfs /opt; mount -t tmpfs tmpfs /var/lib; mkdir /var/lib/cni"]);
        let mut install = std::process::Command::new(lab::binary());
        install.env_clear().args(["install", "--bin-dir", "/opt/bin", "--conf-dir", "/opt/net.d"]);
        let watch = Watch::run(&mut install, Path::new("/opt/net.d/0-smarter-bridge.conflist"));
        let web = Pod::with_name_server("ns1", "web");
        let other = Stranger::at_port_53();
        let role = Role::start(&[]);
        let asked = || answer(&web.netns, &format!("@{OWN} web"));
        // Without a reason it looks once a minute.
        eventually("questions are led to the other port", PATIENCE, || asked() == web.address);
        drop(other);
        let leads =
            || script("nft", &["list", "table", "ip", "smarter-cni"]).contains(" : 169.254.0.2 . 9053");
        assert!(leads());
        eventually("they are led no longer", PATIENCE, || !leads());
        assert_eq!(asked(), web.address);
        role.end();
        let (_, said) = watch.end("-TERM");
        assert!(
            said.contains("nft add element ip smarter-cni dns_lead") && !said.contains("trouble"),
            "{said}"
        );
    });
}

/// What leads to a server that is gone leads nowhere.
#[test]
fn nothing_is_led_to_a_port_at_which_nobody_serves() {
    sandboxed(|| {
        let _web = Pod::with_name_server("ns1", "web");
        let _other = Stranger::at_port_53();
        let mut role = Role::start(&[]);
        succeeds("reconcile");
        role.child.kill().unwrap();
        role.child.wait().unwrap();
        assert!(succeeds("reconcile").stdout.contains("nft delete element ip smarter-cni dns_lead"));
        // What the file says is looked at: a port of somebody else is none of ours.
        let file = "/run/smarter-cni/dns.fallback";
        for nonsense in ["169.254.0.2:0\n", "10.77.0.1:9053\n", "nobody\n"] {
            std::fs::write(file, nonsense).unwrap();
            assert_eq!(succeeds("reconcile --dry-run --json").json["changes"], json!([]), "{nonsense}");
        }
        std::fs::remove_file(file).unwrap();
        std::os::unix::fs::symlink("/dev/zero", file).unwrap();
        assert_eq!(succeeds("reconcile --dry-run --json").json["changes"], json!([]));
    });
}

/// A name server that listens on all addresses, and knows nothing.
pub(super) struct Stranger {
    count: std::sync::Arc<std::sync::atomic::AtomicUsize>,
    end: std::sync::Arc<std::sync::atomic::AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Stranger {
    pub(super) fn at_port_53() -> Self {
        let (udp, tcp) = (UdpSocket::bind("[::]:53").unwrap(), TcpListener::bind("[::]:53").unwrap());
        udp.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let (count, end) = (std::sync::Arc::default(), std::sync::Arc::default());
        let mut stranger = Self { count, end, thread: None };
        let (count, end) = (stranger.count.clone(), stranger.end.clone());
        stranger.thread = Some(std::thread::spawn(move || {
            let _tcp = tcp;
            let mut packet = [0; 512];
            while !end.load(Relaxed) {
                let Ok((length, from)) = udp.recv_from(&mut packet) else { continue };
                if from.ip() != std::net::Ipv4Addr::LOCALHOST.to_ipv6_mapped() {
                    count.fetch_add(1, Relaxed);
                }
                // An answer, refused.
                (packet[2], packet[3]) = (0x84, 5);
                let _ = udp.send_to(&packet[..length], from);
            }
        }));
        stranger
    }

    /// But for those of 127.0.0.1.
    pub(super) fn questions(&self) -> usize {
        self.count.load(Relaxed)
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.end.store(true, Relaxed);
        self.thread.take().map(std::thread::JoinHandle::join);
    }
}

#[test]
fn nobody_wakes_it_up() {
    sandboxed(|| {
        let _web = Pod::new("ns1", "web");
        let role = Role::start(&[]);
        assert_eq!(answer(&Node, "web").len(), "10.77.0.2".len());
        let switches = || {
            let status = std::fs::read_to_string(format!("/proc/{}/status", role.child.id())).unwrap();
            let lines = status.lines().filter(|line| line.contains("ctxt_switches"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        // Until the kernel has announced all that comes with new links.
        let mut before = switches();
        eventually("it sleeps for 5 s", PATIENCE * 2, || {
            std::thread::sleep(Duration::from_secs(5));
            std::mem::replace(&mut before, switches()) == before
        });
    });
}
