//! The resident program and the network of the pods: damage is heard of and repaired while flows go on, and everything
//! else is none of its business.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::host::{CONFLIST, Host};
use super::watch::Watch;
use crate::flow::Flow;
use crate::lab::{self, Node, Place, eventually};
use crate::reconcile::{House, Pod};
use crate::sandbox::{run, sandboxed};

/// From the damage to the end of its repair, as it is promised.
const PROMISED: Duration = Duration::from_secs(5);
/// What the resident spends by a burst of repairs comes back in this time.
const PEACE: Duration = Duration::from_millis(3100);

fn sh(script: &str) {
    run("sh", &["-ec", script]);
}

/// Injects damage and waits until nothing is missing any more.
fn heals(watch: &Watch, fault: &str) {
    thread::sleep(PEACE);
    let said = watch.said().len();
    let begun = Instant::now();
    sh(fault);
    eventually(fault, PROMISED, || House::is_whole() && watch.said().len() > said);
    eprintln!("{:>5} ms  {fault}", begun.elapsed().as_millis());
}

fn all_faults(watch: &Watch) {
    let house = House::new();
    let port = house.web.port();
    // A packet to a host port that finds no rule is answered by the node itself, which ends a connection.
    house.flows.iter().for_each(Flow::pause);
    for fault in [
        "nft flush ruleset",
        "nft delete table ip smarter-cni",
        "nft flush map ip smarter-cni hostports",
        "nft flush ruleset; ip link del house0; sysctl -qw net.ipv4.ip_forward=0",
    ] {
        heals(watch, fault);
    }
    house.flows.iter().for_each(Flow::resume);
    for fault in [
        "ip link del house0".to_owned(),
        "ip link set house0 down".to_owned(),
        "ip addr flush dev house0 scope global".to_owned(),
        format!("ip link set {port} nomaster; ip addr add 169.254.7.8/16 dev {port}"),
        format!("ip link set {port} down"),
        format!("ip link set {port} alias mine"),
        format!("bridge link set dev {port} hairpin off"),
        format!("bridge link set dev {port} isolated on"),
        format!("ip addr add 169.254.7.8/16 dev {port}"),
        "sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0".to_owned(),
        "iptables-nft -P FORWARD DROP".to_owned(),
        "iptables-nft -F FORWARD".to_owned(),
        format!("ip link del {port}"),
        "ip netns exec web ip link set eth0 down".to_owned(),
    ] {
        heals(watch, &fault);
        house.assert_flows(&fault);
    }
    house.web.check();
    house.client.check();
}

fn ends_well(watch: Watch) -> String {
    let begun = Instant::now();
    let (code, said) = watch.end("-TERM");
    assert_eq!(code, Some(0), "{said}");
    assert!(begun.elapsed() < Duration::from_secs(2), "it took {:?} to end", begun.elapsed());
    said
}

#[test]
fn damage_to_the_network_heals_within_five_seconds_under_flows() {
    sandboxed(|| {
        let host = Host::new();
        let watch = Watch::start(&host);
        all_faults(&watch);
        let said = ends_well(watch);
        for line in [
            "repaired house: shop/web (eth0): node: nft add element ip smarter-cni hostports",
            "repaired house: shop/web (eth0): node: sysctl -w net.ipv4.ip_forward=1",
            "repaired house: shop/web (eth0): node: ip addr add 10.8.0.1/24 dev house0",
        ] {
            assert!(said.contains(line), "{line}: {said}");
        }
        assert!(!said.contains("trouble") && !said.contains("note"), "{said}");
    });
}

/// Without a container around it nothing is entered.
#[test]
fn on_the_host_itself_it_heals_as_well() {
    sandboxed(|| {
        sh("mount -t tmpfs tmpfs /opt; mount -t tmpfs tmpfs /var/lib; mkdir /var/lib/cni");
        let mut command = Command::new(lab::binary());
        command.env_clear().args(["install", "--bin-dir", "/opt/bin", "--conf-dir", "/opt/net.d"]);
        let watch = Watch::run(&mut command, Path::new("/opt/net.d/0-smarter-bridge.conflist"));
        let house = House::new();
        for (fault, step) in [
            ("ip link del house0", "ip link add house0"),
            ("sysctl -qw net.ipv4.ip_forward=0", "ip_forward=1"),
        ] {
            heals(&watch, fault);
            let log = fs::read_to_string("/run/smarter-cni/log").expect("the log");
            let line = log.lines().rfind(|line| line.contains(r#""verb":"reconcile""#)).expect("a line");
            assert!(line.contains(step), "{fault}: {line}");
            house.assert_flows(fault);
        }
        ends_well(watch);
    });
}

#[test]
fn with_pods_attached_it_is_idle_whatever_others_do() {
    sandboxed(|| {
        let host = Host::new();
        let watch = Watch::start(&host);
        let before = watch.looks();
        let (web, client) = (Pod::new("web", &[("tcp", 8080, 80)]), Pod::new("client", &[]));
        thread::sleep(Duration::from_secs(2));
        assert_eq!(watch.looks(), before, "an ADD gives no reason for a look");
        let io = || fs::read_to_string(format!("/proc/{}/io", watch.id())).expect("it runs");
        let begun = io();
        // Until the kernel has announced all that comes with new links.
        let mut wakes = watch.status("voluntary_ctxt_switches");
        eventually("it sleeps for 5 s", Duration::from_secs(30), || {
            thread::sleep(Duration::from_secs(5));
            std::mem::replace(&mut wakes, watch.status("voluntary_ctxt_switches")) == wakes
        });
        assert_eq!(io(), begun, "and has read and written nothing");
        // Pods and rules of somebody else.
        sh("for n in 1 2 3 4 5; do ip link add foreign type bridge; ip link set foreign up; \
            ip link add f0 type veth peer name f1; ip link set f0 master foreign up; ip link set f1 up; \
            ip addr add 198.51.100.1/24 dev foreign; ip link set f0 nomaster; ip link del f0; ip link del foreign; \
            nft add table ip other; nft add chain ip other c '{ type filter hook input priority 0; }'; \
            nft add rule ip other c counter; nft delete table ip other; done");
        thread::sleep(Duration::from_secs(1));
        assert_eq!(watch.looks(), before, "neither does somebody else: {}", watch.said());
        client.del();
        thread::sleep(Duration::from_secs(1));
        eprintln!("resident with pods: {}", watch.status("VmRSS"));
        web.check();
        // A DEL that takes longer than usual is looked at, and left alone.
        assert_eq!(ends_well(watch), "");
    });
}

#[test]
fn fifty_adds_and_dels_beside_it_are_left_alone() {
    sandboxed(|| {
        let host = Host::new();
        let watch = Watch::start(&host);
        let before = watch.looks();
        let kept: Vec<Vec<Pod>> = thread::scope(|scope| {
            let hands: Vec<_> = (0..5)
                .map(|hand| {
                    scope.spawn(move || {
                        let mut kept = Vec::new();
                        for turn in 0..10 {
                            let pod =
                                Pod::new(&format!("p{hand}x{turn}"), &[("tcp", 9000 + hand * 10 + turn, 80)]);
                            if turn % 5 == 4 { kept.push(pod) } else { pod.del() }
                        }
                        kept
                    })
                })
                .collect();
            hands.into_iter().map(|hand| hand.join().expect("ADD and DEL succeed")).collect()
        });
        let kept: Vec<Pod> = kept.into_iter().flatten().collect();
        kept.iter().for_each(Pod::check);
        assert!(House::is_whole());
        thread::sleep(Duration::from_secs(2));
        eprintln!("page faults of looks: {}", watch.looks() - before);
        assert_eq!(ends_well(watch), "", "nothing was repaired and nothing removed");
        kept.iter().for_each(Pod::check);
    });
}

#[test]
fn announcements_that_got_lost_are_no_reason_to_miss_the_damage() {
    sandboxed(|| {
        let host = Host::new();
        let watch = Watch::start(&host);
        let _house = (Pod::new("web", &[]), Pod::new("client", &[]));
        thread::sleep(Duration::from_secs(1));
        let id = watch.id();
        run("kill", &["-STOP", &id.to_string()]);
        sh(
            "i=0; while [ $i -lt 400 ]; do echo link add d$i type veth peer name e$i; echo link del d$i; i=$((i+1)); done | ip -batch -; \
            ip link del house0",
        );
        run("kill", &["-CONT", &id.to_string()]);
        eventually("it is repaired", PROMISED, || Node.link("house0").is_some() && House::is_whole());
        ends_well(watch);
    });
}

#[test]
fn a_fight_is_neither_won_at_any_price_nor_given_up() {
    sandboxed(|| {
        const FIGHT: Duration = Duration::from_secs(15);
        let host = Host::new();
        let watch = Watch::start(&host);
        let _pod = Pod::new("web", &[]);
        thread::sleep(PEACE);
        let ticks = || watch.stat(14) + watch.stat(15) + watch.stat(16) + watch.stat(17);
        let (before, over) = (ticks(), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    sh("nft flush ruleset");
                    thread::sleep(Duration::from_millis(100));
                }
            });
            thread::sleep(FIGHT);
            over.store(true, Ordering::Relaxed);
        });
        let begun = Instant::now();
        eventually("it has the last word", PROMISED, House::is_whole);
        let said = watch.said();
        let repairs = said.lines().filter(|line| line.contains("egress ip saddr")).count();
        eprintln!(
            "{repairs} repairs, {} ms of processor time, healed after {:?}",
            (ticks() - before) * 10,
            begun.elapsed()
        );
        assert!((3..=3 + 15 / 3 + 2).contains(&repairs), "{repairs}: {said}");
        // A hundredth of a second each.
        assert!(ticks() - before < 150, "a tenth of a processor is too much");
        ends_well(watch);
    });
}

fn without(capability: &str, host: &Host) -> Watch {
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", &format!("-{capability}"), "--inh-caps", &format!("-{capability}")]);
    command.arg(lab::binary()).arg("install").arg("--root").arg(&host.root);
    Watch::run(&mut command, &host.path(CONFLIST))
}

#[test]
fn with_fewer_rights_it_does_what_it_may_and_says_so_once() {
    sandboxed(|| {
        let host = Host::new();
        for (capability, words) in [
            (
                "net_admin",
                "trouble  what pods were promised is not repaired: that needs the capability NET_ADMIN",
            ),
            (
                "sys_chroot",
                "trouble  what pods were promised is not repaired: cannot enter /mnt/host: Operation not permitted (os error 1); the container needs the capability SYS_CHROOT",
            ),
        ] {
            let watch = without(capability, &host);
            host.write(CONFLIST, "");
            eventually("the configuration is back", PROMISED, || !host.read(CONFLIST).is_empty());
            sh("sysctl -qw net.ipv4.ip_forward=0");
            thread::sleep(Duration::from_secs(2));
            let said = ends_well(watch);
            assert_eq!(said.matches(words).count(), 1, "{capability}: {said}");
            assert_eq!(said.matches("trouble").count(), 1, "{capability}: {said}");
        }
        let watch = without("sys_admin", &host);
        let house = House::new();
        let port = house.web.port();
        for fault in [
            "ip link del house0".to_owned(),
            format!("ip link set {port} nomaster; ip addr add 169.254.7.8/16 dev {port}"),
            "ip addr flush dev house0 scope global".to_owned(),
            "sysctl -qw net.ipv4.ip_forward=0".to_owned(),
        ] {
            heals(&watch, &fault);
            house.assert_flows(&fault);
        }
        let said = ends_well(watch);
        assert_eq!(said.matches("note     pods are not looked into").count(), 1, "{said}");
        assert!(!said.contains("trouble"), "{said}");
    });
}
