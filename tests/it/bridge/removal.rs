//! DEL: nothing of the pod stays, whatever else is missing; and nothing of its neighbour goes.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use super::{Attached, LEASES, Network, RECORDS, ping, remains, settle};
use crate::lab::{Netns, Node, Place, Plugin};
use crate::sandbox::sandboxed;

fn network() -> Network {
    Network::dual(&json!({"ipMasq": true, "macspoofchk": true}))
}

/// A node with a pod that stays, and one that goes.
struct House {
    stays: Attached,
    stays_netns: Netns,
    before: BTreeSet<String>,
    /// Taken away by some tests.
    goes_netns: Option<Netns>,
    goes: Attached,
}

fn house() -> House {
    let (stays_netns, goes_netns) = (Netns::new("stays"), Netns::new("goes"));
    let stays = network().add(&stays_netns);
    settle();
    assert!(ping(&Node, stays.address(0)));
    let before = remains().into_iter().collect();
    let goes = network().add(&goes_netns);
    // The node and the other pod learn where it is.
    for at in [0, 1] {
        assert!(ping(&Node, goes.address(at)), "the node does not reach {}", goes.address(at));
        assert!(ping(&stays_netns, goes.address(at)), "the other pod does not reach {}", goes.address(at));
    }
    House { stays, stays_netns, before, goes_netns: Some(goes_netns), goes }
}

impl House {
    /// After DEL, and after one more.
    fn assert_only_the_other_is_left(&self, del: &Plugin) {
        for time in ["first", "second"] {
            del.succeed();
            let left: Vec<String> =
                remains().into_iter().filter(|what| !self.before.contains(what)).collect();
            assert_eq!(left, Vec::<String>::new(), "left after the {time} DEL");
            if let Some(netns) = &self.goes_netns {
                assert!(netns.link("eth0").is_none(), "eth0 is left in the pod");
            }
        }
        self.stays.check();
        assert!(ping(&self.stays_netns, "10.1.2.1"));
    }
}

/// A runtime names namespaces by what it has at hand: a process that is gone, a name that another pod has now.
#[test]
fn the_path_of_the_namespace_may_lead_to_another_pod() {
    sandboxed(|| {
        let house = house();
        house.goes.call("DEL").netns(&house.stays_netns).succeed();
        assert!(house.stays_netns.link("eth0").is_some(), "the other pod lost its interface");
        house.assert_only_the_other_is_left(&house.goes.call("DEL").netns(&house.stays_netns));
        // Its `lo` is up as well: what the other plugin of a pod is asked for goes by the same path.
        let loopback = |verb| {
            let call = Plugin::new(&network().plugins, "loopback").command(verb).json(&network().config);
            call.netns(&house.stays_netns).ifname("lo")
        };
        loopback("ADD").container("stays").succeed();
        loopback("DEL").container("goes").succeed();
        loopback("CHECK").container("stays").succeed();
        // Without any memory the mark on the other pod's host end tells.
        fs::remove_dir_all("/run/smarter-cni").expect("the records");
        house.goes.call("DEL").netns(&house.stays_netns).succeed();
        assert!(house.stays_netns.link("eth0").is_some(), "the other pod lost its interface");
    });
}

#[test]
fn what_a_killed_run_left_half_written_goes_with_whoever_comes_next() {
    sandboxed(|| {
        let house = house();
        let half = [".0-0.bridge.json.new", ".1-1.portmap.json.new"].map(|name| format!("{RECORDS}/{name}"));
        for path in &half {
            fs::write(path, "{").expect("half a record");
        }
        house.assert_only_the_other_is_left(&house.goes.call("DEL"));
        assert!(half.iter().all(|path| !fs::exists(path).expect("its directory")), "{half:?}");
        let before: Vec<String> = remains();
        assert!(!before.iter().any(|what| what == "lock 0-0.bridge"), "{before:?}");
    });
}

/// As programs that know only the container write them.
#[test]
fn a_lease_in_the_old_format_goes_with_its_pod() {
    sandboxed(|| {
        for rewritten in [&[0][..], &[1], &[0, 1]] {
            let house = house();
            for at in rewritten {
                let lease = format!("{LEASES}/net/{}", house.goes.address(*at));
                fs::write(lease, "goes").expect("the lease");
            }
            house.assert_only_the_other_is_left(&house.goes.call("DEL"));
            house.stays.del();
            drop(house);
            let _ = fs::remove_dir_all(LEASES);
        }
    });
}

#[test]
fn del_removes_everything_and_a_second_one_finds_nothing_to_do() {
    sandboxed(|| {
        let house = house();
        house.assert_only_the_other_is_left(&house.goes.call("DEL"));
    });
}

#[test]
fn del_needs_no_namespace_in_the_call() {
    sandboxed(|| {
        let house = house();
        house.assert_only_the_other_is_left(&house.goes.call("DEL").env("CNI_NETNS", ""));
    });
}

#[test]
fn del_needs_no_namespace_at_the_path() {
    sandboxed(|| {
        let mut house = house();
        house.goes_netns = None;
        house.assert_only_the_other_is_left(&house.goes.call("DEL"));
    });
}

/// What is left of a namespace when its mount is gone.
#[test]
fn del_takes_a_plain_file_at_the_path_for_a_namespace_that_is_gone() {
    sandboxed(|| {
        let mut house = house();
        house.goes_netns = None;
        fs::write("/run/netns/goes", "").expect("a plain file");
        house.assert_only_the_other_is_left(&house.goes.call("DEL"));
    });
}

#[test]
fn del_needs_no_previous_result() {
    sandboxed(|| {
        let house = house();
        let del = network().call("DEL", house.goes_netns.as_ref().expect("it is there"));
        house.assert_only_the_other_is_left(&del);
    });
}

#[test]
fn del_needs_no_record() {
    sandboxed(|| {
        let mut house = house();
        fs::remove_dir_all("/run/smarter-cni").expect("the records");
        house.before.retain(|what| !what.starts_with("record"));
        let del = house.goes.call("DEL");
        del.succeed();
        let left: Vec<_> = remains().into_iter().filter(|what| !house.before.contains(what)).collect();
        assert_eq!(left, Vec::<String>::new());
        assert!(ping(&house.stays_netns, "10.1.2.1"));
    });
}

#[test]
fn del_needs_no_right_configuration() {
    sandboxed(|| {
        for (key, value) in [
            ("vlan", json!(9999)),
            ("vlan", json!("ten")),
            ("mtu", json!("much")),
            ("isGateway", json!("yes")),
            ("vlanTrunk", json!([{"id": -1}])),
            ("macspoofchk", json!(false)),
            ("bridge", json!("br1")),
        ] {
            let house = house();
            let wrong = network().with(&json!({key: value}));
            let del = wrong.call("DEL", house.goes_netns.as_ref().expect("it is there"));
            house.assert_only_the_other_is_left(&del);
            house.stays.del();
        }
    });
}

#[test]
fn del_finds_a_pod_whose_network_was_renamed_since() {
    sandboxed(|| {
        let house = house();
        let renamed = network().with(&json!({"name": "renamed"}));
        let del = renamed.call("DEL", house.goes_netns.as_ref().expect("it is there"));
        house.assert_only_the_other_is_left(&del);
    });
}

/// No room for a single byte more, neither for leases nor for records.
fn fill(directory: &str) {
    Node.run(&format!("mount -o remount,size=256k {directory}"));
    let file = format!("{directory}/filler");
    let written = Node.command(&format!("dd if=/dev/zero of={file} bs=4k count=1000")).output().expect("dd");
    assert!(!written.status.success(), "{directory} is not full");
}

#[test]
fn del_needs_no_space_on_any_disk() {
    sandboxed(|| {
        let house = house();
        fill("/run");
        fill("/var/lib/cni");
        assert!(
            fs::write("/run/more", [0; 8192]).is_err() && fs::write("/var/lib/cni/more", [0; 8192]).is_err()
        );
        let _ = (fs::remove_file("/run/more"), fs::remove_file("/var/lib/cni/more"));
        house.assert_only_the_other_is_left(&house.goes.call("DEL"));
    });
}

#[test]
fn add_on_a_full_disk_fails_with_the_reason_and_leaves_nothing() {
    sandboxed(|| {
        let house = house();
        house.goes.del();
        fill("/run");
        // Whatever blocks were left at the ends of files and directories.
        while fs::write(format!("/run/small{}", crate::lab::files("/run").len()), [0; 4096]).is_ok() {}
        let pod = house.goes_netns.as_ref().expect("it is there");
        let out = network().call("ADD", pod).run();
        assert!(out.status == 1 && out.stdout.contains("no space left on device"), "{out}");
        let left: Vec<_> = remains().into_iter().filter(|what| !house.before.contains(what)).collect();
        assert_eq!(left, Vec::<String>::new());
        fs::remove_file("/run/filler").expect("make room");
        network().add(pod).check();
    });
}

#[test]
fn del_of_what_was_never_added_succeeds_and_makes_nothing() {
    sandboxed(|| {
        let pod = Netns::new("pod");
        network().call("DEL", &pod).succeed();
        assert_eq!(remains(), Vec::<String>::new());
        assert!(Node.link("br0").is_none());
        assert_eq!(Node.run("nft list ruleset"), "");
        assert_eq!(crate::lab::files(LEASES), Vec::<String>::new());
    });
}

/// Its name was asked for, whoever made it.
#[test]
fn del_removes_what_has_the_interfaces_name_in_the_pod() {
    sandboxed(|| {
        let pod = Netns::new("pod");
        pod.run("ip link add eth0 type veth peer name other0");
        network().call("DEL", &pod).succeed();
        assert!(pod.link("eth0").is_none());
    });
}

#[test]
fn a_link_at_a_records_place_leads_del_nowhere() {
    sandboxed(|| {
        let house = house();
        fs::write("/run/precious", "precious").expect("write");
        for name in crate::lab::files(RECORDS) {
            let path = format!("{RECORDS}/{name}");
            if fs::read_to_string(&path).is_ok_and(|text| text.contains("\"goes\"")) {
                fs::remove_file(&path).expect("remove");
                symlink("/run/precious", &path).expect("link");
            }
        }
        house.assert_only_the_other_is_left(&house.goes.call("DEL"));
        assert_eq!(fs::read_to_string("/run/precious").expect("read"), "precious");
    });
}
