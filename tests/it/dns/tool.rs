//! The command line: a question for a person, counters, settings that make no sense, signals.

use super::*;
use crate::sandbox::sandboxed;

#[test]
fn a_person_asks_without_another_program() {
    sandboxed(|| {
        let web = Pod::new("ns1", "web");
        let none = run("dns --query web");
        assert_eq!(none.status, 2, "{none}");
        assert!(
            none.stderr.contains("does not answer: ") && none.stderr.contains("is smarter-cni dns running?"),
            "{none}"
        );
        let role = Role::start(&[]);
        for words in ["dns --query web", "dns --query web.ns1", "dns --query web.ns1.svc.cluster.local. a"] {
            let found = run(words);
            assert_eq!(found.status, 0, "{found}");
            assert!(found.stdout.contains(&format!("  5  A  {}\n", web.address)), "{words}: {found}");
            // No interface has 169.254.0.2 here.
            assert!(found.stdout.ends_with(&format!("from {SOCKET}\n")), "{found}");
        }
        let found = run(&format!("dns --query {} PTR --server {GATEWAY} --json", web.address));
        assert_eq!(found.json["answers"][0]["data"], "web.ns1.svc.cluster.local.", "{found}");
        assert_eq!(
            (&found.json["status"], &found.json["server"]),
            (&json!("NOERROR"), &json!("10.77.0.1:53"))
        );
        Node.run("ip addr add 169.254.0.2/32 dev lab0 scope link");
        let missing = run("dns --query nosuch.ns1");
        assert_eq!(missing.status, 1, "{missing}");
        assert!(missing.stdout.contains("says 169.254.0.2:53"), "{missing}");
        role.end();
        for (words, reason) in [
            ("dns --query a..b", "a..b is no name"),
            ("dns --query web NONSENSE", "NONSENSE is no type"),
            ("dns --query web --server nowhere", "nowhere is no address"),
            ("dns --json", "--query"),
        ] {
            let refused = run(words);
            assert_eq!(refused.status, 2, "{refused}");
            assert!(refused.stderr.contains(reason), "{refused}");
        }
    });
}

#[test]
fn settings_that_make_no_sense_are_refused_by_name() {
    sandboxed(|| {
        let mut refused = Role::spawn(&lab::binary().display().to_string(), &[("CLUSTER_DNS", "localhost")]);
        assert_eq!(refused.child.wait().unwrap().code(), Some(2));
        assert!(refused.words().contains("CLUSTER_DNS=localhost: it is no address"));
        let old = [
            ("CRI_DIR", "unix:///var/run/crisock"),
            ("CLUSTER_DOMAIN", "edge.example"),
            ("DNS_LOGGING", "True"),
        ];
        let web = Pod::new("ns1", "web");
        let role = Role::start(&old);
        assert_eq!(answer(&Node, "web.ns1.svc.edge.example"), web.address);
        role.signal("HUP");
        assert_eq!(answer(&Node, "web.cluster.local"), web.address);
        let words = role.end();
        for part in [
            "CRI_DIR is not used: ",
            "names of edge.example at ",
            "question 10.77.0.1 web.ns1.svc.edge.example. A: local",
        ] {
            assert!(words.contains(part), "{part}: {words}");
        }
    });
}

#[test]
fn status_shows_what_was_counted() {
    sandboxed(|| {
        let web = Pod::new("ns1", "web");
        assert_eq!(run("status --json").json["dns"], Value::Null);
        let _role = Role::start(&[]);
        answer(&web.netns, "web");
        answer(&web.netns, "-c CH web");
        let shown = run("status --json");
        let dns = &shown.json["dns"];
        assert_eq!(dns["counters"]["queries"], 2, "{shown}");
        assert_eq!(
            (&dns["counters"]["local"], &dns["counters"]["refused"]),
            (&json!(1), &json!(1)),
            "{shown}"
        );
        assert_eq!(dns["addresses"], json!(["10.77.0.1:53", "169.254.0.2:53"]));
        assert_eq!((&dns["serving"], &dns["domain"]), (&json!(true), &json!("cluster.local")));
    });
}
