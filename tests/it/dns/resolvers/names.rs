//! Names through the search list of a pod, in one go and without a question to anybody else.

use super::*;

/// `web` of ns1 and `db` of ns2, and nothing that would answer for others.
fn pods() -> (Pod, Pod) {
    kubelet("");
    let web = Pod::new("ns1", "web");
    // Go's client connects to what it finds, also to its own pod.
    web.netns.run("ip link set lo up");
    (web, Pod::new("ns2", "db"))
}

/// All of them in all their forms.
fn all_are_found(web: &Pod, db: &Pod) {
    for resolver in ALL {
        for (name, expected) in [
            ("web", web),
            ("db", db),
            ("web.ns1", web),
            ("db.ns2", db),
            ("db.ns2.svc", db),
            ("db.ns2.svc.cluster.local", db),
            ("DB.Ns2.svc.cluster.local.", db),
        ] {
            let found = resolver.find(web, name);
            assert_eq!(found.address(), expected.address, "{resolver:?} {name}: {found:?}");
            assert!(found.was_at_once(resolver), "{resolver:?} {name}: {found:?}");
        }
        for name in ["nosuch", "web.ns2", "nosuch.ns1.svc.cluster.local"] {
            let missing = resolver.find(web, name);
            // What goes on with the name of a world that is not there is the resolver's own patience.
            let is_ours = !name.contains('.') || name.contains("cluster.local");
            assert!(missing.addresses.is_empty(), "{resolver:?} {name}: {missing:?}");
            assert!(!is_ours || missing.was_at_once(resolver), "{resolver:?} {name}: {missing:?}");
        }
    }
}

#[test]
fn every_resolver_finds_pods_without_an_uplink() {
    sandboxed(|| {
        let (web, db) = pods();
        let _role = Role::start(&[]);
        all_are_found(&web, &db);
    });
}

/// It would be believed: for everything that is asked of it, it has an address.
#[test]
fn an_uplink_that_answers_everything_is_asked_for_no_name_of_ours() {
    sandboxed(|| {
        let (web, db) = pods();
        let uplink = Uplink::new(1, Manner::World);
        uplinks(&[&uplink.address()]);
        let _role = Role::start(&[]);
        for resolver in ALL {
            for (name, expected) in [("web", &web), ("db", &db), ("db.ns2", &db)] {
                assert_eq!(resolver.find(&web, name).address(), expected.address, "{resolver:?} {name}");
            }
            assert!(resolver.find(&web, "nosuch").addresses.is_empty(), "{resolver:?}");
        }
        assert_eq!(
            answer(&web.netns, &format!("-x {}", db.address)),
            "db.ns2.pod.cluster.local. db.ns2.svc.cluster.local."
        );
        assert_eq!(answer(&web.netns, "-x 10.77.0.99"), "NXDOMAIN");
        assert_eq!(uplink.asked(), 0);
        // Of any other range it is.
        assert_eq!(answer(&web.netns, "-x 192.0.2.1"), "NOERROR");
        assert_eq!(uplink.asked(), 1);
    });
}

#[test]
fn a_name_of_the_world_costs_one_question_for_each_family() {
    sandboxed(|| {
        let (web, _db) = pods();
        let uplink = Uplink::new(1, Manner::World);
        uplinks(&[&uplink.address()]);
        let _role = Role::start(&[]);
        for (at, resolver) in ALL.into_iter().enumerate() {
            let found = resolver.find(&web, &format!("n{at}.example.test"));
            // Nobody is there to be connected to.
            if resolver != Resolver::Go {
                assert_eq!(found.address(), "198.51.1.2", "{resolver:?}: {found:?}");
            }
            let mut kinds: Vec<_> = {
                let names = uplink.names.lock().unwrap();
                let of_name = names
                    .iter()
                    .filter(|name| name.starts_with(&[2, b'n', b'0' + u8::try_from(at).unwrap()]));
                of_name.map(|name| name[name.len() - 3]).collect()
            };
            kinds.sort_unstable();
            assert_eq!(kinds, [1, 28], "{resolver:?}: {found:?}");
        }
        assert_eq!(uplink.asked(), 2 * ALL.len());
    });
}

/// More addresses than a datagram without EDNS has room for.
#[test]
fn many_addresses_come_whole_or_as_many_as_fit() {
    sandboxed(|| {
        let (web, _db) = pods();
        let hosts: Vec<String> = (1..=100).map(|at| format!("10.77.9.{at} many")).collect();
        let _role = Role::start(&[("dns-hosts", &hosts.join(";"))]);
        let found = Resolver::Glibc.find(&web, "many");
        assert_eq!(found.addresses.len(), 100, "over TCP: {found:?}");
        // One without TCP takes what is there, and must not find the answer empty.
        let found = Resolver::Musl.find(&web, "many");
        assert!(found.addresses.len() >= 28 && found.took < AT_ONCE, "{found:?}");
        // All of them are there to say no.
        web.netns.run("ip addr add 10.77.9.0/24 dev lo");
        let found = Resolver::Go.find(&web, "many");
        assert!(found.address().starts_with("10.77.9."), "{found:?}");
    });
}

#[test]
fn both_families_are_answered_however_they_are_asked() {
    sandboxed(|| {
        let (web, db) = pods();
        let _role = Role::start(&[]);
        for option in ["single-request", "single-request-reopen", "use-vc", "edns0", "trust-ad", "rotate"] {
            kubelet(option);
            let found = Resolver::Glibc.find(&web, "db");
            assert_eq!(found.address(), db.address, "{option}: {found:?}");
            assert!(found.took < AT_ONCE, "{option}: {found:?}");
        }
    });
}
