//! Names through the search list of a pod, in one go and without a question to anybody else.

use super::*;

/// `web` of ns1, where everybody asks from, `db` of ns2, and another `web` there.
fn pods() -> [Pod; 3] {
    kubelet("");
    let web = Pod::new("ns1", "web");
    // Go's client connects to what it finds, also to its own pod.
    web.netns.run("ip link set lo up");
    [web, Pod::new("ns2", "db"), Pod::in_container("ns2", "web", "other")]
}

/// All of them in all their forms. Each name of the search list is asked for once in each family: a resolver that has waited for
/// an answer, or does not like the one it got, asks again.
fn all_are_found([web, db, other]: &[Pod; 3]) {
    let mut before = counted("queries").unwrap();
    let mut asked = || {
        let now = counted("queries").unwrap();
        now - std::mem::replace(&mut before, now)
    };
    for resolver in ALL {
        for (name, expected, tried) in [
            ("web", Some(web), 1),
            ("db", Some(db), 2),
            ("web.ns1", Some(web), 2),
            ("web.svc", Some(web), 3),
            ("web.ns2", Some(other), 2),
            ("db.ns2", Some(db), 2),
            ("db.ns2.svc", Some(db), 3),
            ("db.ns2.svc.cluster.local", Some(db), 4),
            ("DB.Ns2.svc.cluster.local.", Some(db), 1),
            ("nosuch", None, 4),
            ("nosuch.ns1.svc.cluster.local", None, 4),
        ] {
            let found = resolver.find(web, name);
            match expected {
                Some(pod) => assert_eq!(found.address(), pod.address, "{resolver:?} {name}: {found:?}"),
                None => assert!(found.addresses.is_empty(), "{resolver:?} {name}: {found:?}"),
            }
            assert_eq!(asked(), 2 * tried, "{resolver:?} {name}: {found:?}");
            assert!(found.was_at_once(resolver), "{resolver:?} {name}: {found:?}");
        }
        // At its end it is a name of a world that is not there, and how long to wait for that is for each to know.
        let missing = resolver.find(web, "web.ns3");
        assert!(missing.addresses.is_empty(), "{resolver:?}: {missing:?}");
        asked();
    }
}

#[test]
fn every_resolver_finds_pods_without_an_uplink() {
    sandboxed(|| {
        let pods = pods();
        let _role = Role::start(&[]);
        all_are_found(&pods);
    });
}

/// It would be believed: for everything that is asked of it, it has an address.
#[test]
fn an_uplink_that_answers_everything_is_asked_for_no_name_of_ours() {
    sandboxed(|| {
        let [web, db, _other] = pods();
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
        let [web, ..] = pods();
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
        let [web, ..] = pods();
        let hosts: Vec<String> = (1..=100).map(|at| format!("10.77.9.{at} many")).collect();
        let _role = Role::start(&[("dns-hosts", &hosts.join(";"))]);
        // musl has room for 48 (MAXADDRS in its lookup.h), which are more than a datagram of 512 bytes has.
        for (resolver, count) in [(Resolver::Glibc, 100), (Resolver::MuslWithTcp, 48), (Resolver::Cares, 100)]
        {
            let found = resolver.find(&web, "many");
            assert_eq!(found.addresses.len(), count, "{resolver:?} over TCP: {found:?}");
        }
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
        let [web, db, _other] = pods();
        let _role = Role::start(&[]);
        for option in ["single-request", "single-request-reopen", "use-vc", "edns0", "trust-ad", "rotate"] {
            kubelet(option);
            for resolver in ALL {
                let found = resolver.find(&web, "db");
                assert_eq!(found.address(), db.address, "{option}, {resolver:?}: {found:?}");
                assert!(found.was_at_once(resolver), "{option}, {resolver:?}: {found:?}");
            }
        }
    });
}

/// It is passed on. musl's alone take it for no answer, whoever says it, and wait for one.
#[test]
fn a_failure_of_the_uplink_is_no_silence() {
    sandboxed(|| {
        let [web, ..] = pods();
        let uplink = Uplink::new(1, Manner::Fails);
        uplinks(&[&uplink.address()]);
        let _role = Role::start(&[]);
        for (at, (resolver, words)) in [
            (Resolver::Glibc, ""),
            (Resolver::Musl, "Try again"),
            (Resolver::MuslWithTcp, "Try again"),
            (Resolver::Go, "server misbehaving"),
            (Resolver::Cares, "general failure"),
        ]
        .into_iter()
        .enumerate()
        {
            let found = resolver.find(&web, &format!("n{at}.example.test"));
            assert!(found.addresses.is_empty() && found.words.contains(words), "{resolver:?}: {found:?}");
            let waits = matches!(resolver, Resolver::Musl | Resolver::MuslWithTcp);
            assert!(waits || found.was_at_once(resolver), "{resolver:?}: {found:?}");
        }
    });
}
