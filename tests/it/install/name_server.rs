//! The address of the node's name server, where somebody else uses it.

use super::host::Host;
use crate::lab::{self, Node, Place};
use crate::sandbox::sandboxed;
use crate::stranger::Stranger;

fn is_refused(stranger: Stranger) {
    sandboxed(move || {
        let world = lab::world();
        stranger.comes(&world);
        let host = Host::new();
        let before = host.snapshot();
        let out = host.install("--subnet 10.38.0.0/16 --dns 169.254.0.2 --json");
        assert_eq!(out.status, 1, "{out}");
        assert_eq!(out.json["result"], "refused");
        let reason = out.json["errors"][0].as_str().expect("a reason");
        let expected = format!(
            "{}, and would not be reached any more: say another address, such as --dns 169.254.53.53, or --dns off",
            stranger.words()
        );
        assert_eq!(reason, expected);
        assert_eq!(host.snapshot(), before, "it was refused");
        host.installed("--subnet 10.38.0.0/16 --dns off");
        // What was installed without it is a first installation of it.
        assert_eq!(host.install("--subnet 10.38.0.0/16 --dns 169.254.0.2").status, 1);
        host.installed("--subnet 10.38.0.0/16 --dns 169.254.53.53");
        assert_eq!(host.conflist()["plugins"][0]["nodeDns"], "169.254.53.53");
    });
}

#[test]
fn an_address_to_which_a_route_leads_is_refused() {
    is_refused(Stranger::Route);
}

#[test]
fn an_address_of_a_neighbour_is_refused() {
    is_refused(Stranger::Neighbour);
}

#[test]
fn an_address_of_another_link_is_refused() {
    is_refused(Stranger::Address);
}

#[test]
fn an_address_to_which_a_connection_is_open_is_refused() {
    is_refused(Stranger::Connection);
}

#[test]
fn an_installed_network_stays_when_somebody_comes() {
    sandboxed(|| {
        let world = lab::world();
        let host = Host::new();
        host.installed("--subnet 10.38.0.0/16 --dns 169.254.0.2");
        Stranger::Neighbour.comes(&world);
        let out = host.install("--json");
        assert_eq!(out.status, 0, "{out}");
        let warnings = out.json["warnings"].to_string();
        assert!(warnings.contains(Stranger::Neighbour.words()), "{warnings}");
        assert!(
            warnings.contains("it stays theirs, and pods find the name server at their gateway"),
            "{warnings}"
        );
        assert_eq!(host.conflist()["plugins"][0]["nodeDns"], "169.254.0.2");
        Node.run("ip neigh del 169.254.0.2 dev up0");
        let out = host.install("--json");
        assert!(!out.json["warnings"].to_string().contains("169.254.0.2"), "{out}");
    });
}
