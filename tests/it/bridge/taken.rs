//! The address of the name server is somebody else's on this node: pods come all the same, and that one is let alone.

use std::fs;
use std::process::Command;

use serde_json::json;

use super::Network;
use crate::lab::{self, Netns, Node, Place};
use crate::sandbox::sandboxed;
use crate::stranger::{DNS, Stranger};

fn network() -> Network {
    Network::gateway(&json!({"nodeDns": DNS, "isDefaultGateway": true}))
}

fn rules() -> String {
    Node.run("nft list ruleset")
}

fn bridge() -> String {
    Node.run("ip -4 addr show dev br0")
}

/// Neither the address nor anything that keeps packets or questions from whoever has it.
fn assert_let_alone(stranger: Stranger, when: &str) {
    assert!(!bridge().contains(DNS), "{stranger:?} {when}: {}", bridge());
    let rules = rules();
    assert!(!rules.contains(DNS), "{stranger:?} {when}: {rules}");
    assert!(rules.contains("10.1.2.1 . udp . 53"), "the gateway's are there, {when}: {rules}");
}

fn reconcile() -> String {
    let out = Command::new(lab::binary()).arg("reconcile").output().expect("it runs");
    assert!(out.status.success(), "{out:?}");
    String::from_utf8(out.stdout).expect("words")
}

fn comes_before_the_pods(stranger: Stranger) {
    sandboxed(move || {
        let world = lab::world();
        stranger.comes(&world);
        let one = Netns::new("one");
        let attached = network().add(&one);
        assert_let_alone(stranger, "after an ADD");
        let log = fs::read_to_string("/run/smarter-cni/log").expect("a log");
        assert!(log.contains(stranger.words()), "{log}");
        attached.check();
        let said = reconcile();
        assert_let_alone(stranger, "after a reconcile");
        assert!(!said.contains("dns"), "{said}");
    });
}

fn comes_when_the_address_is_lost(stranger: Stranger, mend: fn()) {
    sandboxed(move || {
        let world = lab::world();
        let one = Netns::new("one");
        let attached = network().add(&one);
        assert!(bridge().contains(DNS) && rules().contains(DNS));
        Node.run("ip addr del 169.254.0.2/32 dev br0");
        stranger.comes(&world);
        mend();
        assert_let_alone(stranger, "after a repair");
        attached.check();
    });
}

/// Of a bridge that had another name.
fn next_pod_after_another_network() {
    Node.run("nft add element ip smarter-cni dns_links { 169.254.0.2 . \"gone0\" }");
    next_pod();
}

#[test]
fn what_is_left_of_another_network_keeps_nothing_from_anybody() {
    comes_when_the_address_is_lost(Stranger::Route, next_pod_after_another_network);
}

fn next_pod() {
    network().add(&Netns::new("two")).check();
}

fn repair() {
    let said = reconcile();
    assert!(said.contains("nft delete element ip smarter-cni dns_addresses { 169.254.0.2 }"), "{said}");
    let again = reconcile();
    assert!(!again.contains("nft"), "{again}");
}

macro_rules! strangers {
    ($($stranger:ident: $before:ident, $next:ident, $reconciled:ident;)*) => {$(
        #[test]
        fn $before() {
            comes_before_the_pods(Stranger::$stranger);
        }

        #[test]
        fn $next() {
            comes_when_the_address_is_lost(Stranger::$stranger, next_pod);
        }

        #[test]
        fn $reconciled() {
            comes_when_the_address_is_lost(Stranger::$stranger, repair);
        }
    )*};
}

strangers! {
    Route: a_route_to_it_is_before_the_pods, a_route_to_it_before_the_next_pod, a_route_to_it_before_a_reconcile;
    Neighbour: a_neighbour_is_before_the_pods, a_neighbour_before_the_next_pod, a_neighbour_before_a_reconcile;
    Address: another_link_is_before_the_pods, another_link_before_the_next_pod, another_link_before_a_reconcile;
    Connection: a_connection_is_before_the_pods, a_connection_before_the_next_pod, a_connection_before_a_reconcile;
}

#[test]
fn whoever_goes_leaves_it_to_the_pods() {
    sandboxed(|| {
        let world = lab::world();
        Stranger::Route.comes(&world);
        let one = Netns::new("one");
        network().add(&one);
        assert_let_alone(Stranger::Route, "after an ADD");
        Node.run("ip route del 169.254.0.2/32 dev up0");
        reconcile();
        assert!(bridge().contains(DNS) && rules().contains(DNS));
    });
}

/// What pods find is not taken away from under them, and nobody looks around for it.
#[test]
fn an_address_that_is_there_stays() {
    sandboxed(|| {
        let world = lab::world();
        let one = Netns::new("one");
        let attached = network().add(&one);
        let before = rules();
        Stranger::Route.comes(&world);
        network().add(&Netns::new("two")).check();
        attached.check();
        assert!(bridge().contains(DNS));
        assert!(before.contains(DNS) && rules().contains(DNS));
        assert!(!reconcile().contains("dns"));
    });
}

#[test]
fn another_network_of_ours_has_it_too() {
    sandboxed(|| {
        network().add(&Netns::new("one")).check();
        let other = network().with(&json!({
            "name": "other", "bridge": "br1", "ipam": {"type": "host-local", "subnet": "10.1.3.0/24"},
        }));
        other.add(&Netns::new("two")).check();
        assert!(bridge().contains(DNS) && Node.run("ip -4 addr show dev br1").contains(DNS));
    });
}
