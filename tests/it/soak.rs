//! Pods that come and go all the time, eight at once, while a third of the plugin calls is killed somewhere. At the end there
//! is nothing left.
//!
//! `SMARTER_CNI_SOAK=1000 cargo test --test it soak::` for as many pods.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::lab::{self, Netns, Node, Output, Place, Plugin, our_plugins};
use crate::sandbox::sandboxed;

const AT_ONCE: u16 = 8;
const PODS: u16 = 96;

#[expect(clippy::disallowed_methods, reason = "a person says how long")]
fn pods() -> u16 {
    std::env::var("SMARTER_CNI_SOAK").ok().and_then(|number| number.parse().ok()).unwrap_or(PODS)
}

/// The same numbers in every run (Knuth's MMIX generator); where a kill strikes is up to the machine.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

fn bridge() -> Value {
    json!({
        "cniVersion": "1.0.0", "name": "soak", "type": "bridge", "bridge": "soak0", "isDefaultGateway": true, "ipMasq": true,
        "hairpinMode": true, "macspoofchk": true,
        "ipam": {"type": "host-local", "dataDir": "/run/cni/networks",
                 "ranges": [[{"subnet": "10.6.0.0/24"}], [{"subnet": "fd06::/64"}]]}
    })
}

fn ports(result: &Value, slot: u16) -> Value {
    let port = |protocol: &str| json!({"hostPort": 20_000 + slot, "containerPort": 80, "protocol": protocol});
    json!({
        "cniVersion": "1.0.0", "name": "soak", "type": "portmap", "prevResult": result,
        "runtimeConfig": {"portMappings": [port("tcp"), port("udp")]}
    })
}

fn call(plugin: &str, verb: &str, id: &str, netns: &Netns, config: &Value) -> Plugin {
    let args = format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=soak;K8S_POD_NAME={id}");
    let call = Plugin::new(our_plugins(), plugin).command(verb).container(id).netns(netns).ifname("eth0");
    call.env("CNI_ARGS", &args).json(config)
}

/// Killed after so many microseconds, if it still runs.
fn killed(call: &Plugin, after: u64) {
    let mut child = call.start();
    thread::sleep(Duration::from_micros(after));
    let _ = child.kill();
    child.wait_with_output().expect("it ends");
}

/// Perhaps killed first, as often as chance wants it, and then to the end.
fn until_done(call: &Plugin, chance: &mut Chance, kills: &mut u16) -> Output {
    while chance.below(3) == 0 {
        killed(call, chance.below(12_000));
        *kills += 1;
    }
    call.succeed()
}

/// One pod's whole life.
fn live(id: &str, slot: u16, netns: &Netns, chance: &mut Chance, kills: &mut u16) {
    let config = bridge();
    if chance.below(4) == 0 {
        // The runtime was killed too, and never repeats the ADD.
        killed(&call("bridge", "ADD", id, netns, &config), chance.below(12_000));
        *kills += 1;
    } else {
        // Killed when it was done already, an ADD is one too many: DEL is between.
        if chance.below(3) == 0 {
            killed(&call("bridge", "ADD", id, netns, &config), chance.below(12_000));
            *kills += 1;
            call("bridge", "DEL", id, netns, &config).succeed();
        }
        let result = call("bridge", "ADD", id, netns, &config).succeed().json;
        let mapped = ports(&result, slot);
        until_done(&call("portmap", "ADD", id, netns, &mapped), chance, kills);
        call("portmap", "CHECK", id, netns, &mapped).succeed();
        until_done(&call("portmap", "DEL", id, netns, &mapped), chance, kills);
    }
    until_done(&call("bridge", "DEL", id, netns, &config), chance, kills);
    assert!(netns.link("eth0").is_none(), "{id}");
}

#[test]
fn of_pods_that_come_and_go_while_plugins_are_killed_nothing_is_left() {
    sandboxed(|| {
        let slots: Vec<Netns> = (0..AT_ONCE).map(|slot| Netns::new(&format!("slot{slot}"))).collect();
        let kills: u16 = thread::scope(|scope| {
            let running: Vec<_> = (0..AT_ONCE)
                .zip(&slots)
                .map(|(slot, netns)| {
                    scope.spawn(move || {
                        let (mut chance, mut kills) = (Chance(u64::from(slot) + 1), 0);
                        for n in 0..pods() / AT_ONCE {
                            live(&format!("s{slot}-{n}"), slot, netns, &mut chance, &mut kills);
                        }
                        kills
                    })
                })
                .collect();
            running.into_iter().map(|running| running.join().expect("every pod goes")).sum()
        });
        assert!(kills >= pods() / 2, "only {kills} calls were killed");
        let leases = lab::files("/run/cni/networks/soak").into_iter();
        let leases: Vec<_> = leases.filter(|name| name.parse::<std::net::IpAddr>().is_ok()).collect();
        assert_eq!(leases, Vec::<String>::new());
        // A DEL that comes after the record is gone sweeps nothing; whoever comes next does.
        call("bridge", "ADD", "last", &slots[0], &bridge()).succeed();
        call("bridge", "DEL", "last", &slots[0], &bridge()).succeed();
        let out = Node.run(&format!("{} reconcile --json", lab::binary().display()));
        let report: Value = serde_json::from_str(&out).expect("a report");
        assert_eq!((&report["changes"], &report["failures"]), (&json!([]), &json!([])), "{report}");
        for directory in ["attachments", "locks", "suspects"] {
            assert_eq!(
                lab::files(format!("/run/smarter-cni/{directory}")),
                Vec::<String>::new(),
                "{directory}"
            );
        }
        let links = Node.run("ip -br link");
        assert!(!links.contains("veth"), "{links}");
        let rules = Node.run("nft list ruleset");
        assert!(!rules.contains("soak/"), "{rules}");
    });
}
