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

#[test]
fn status_shows_the_names_with_and_without_a_server() {
    sandboxed(|| {
        let (web, other) = (Pod::new("ns1", "web"), Pod::in_container("ns2", "web", "other"));
        let _strange = Pod::in_container("ns2", "not_a_name", "strange");
        let put = "/run/containers/storage/overlay-containers/other/userdata";
        std::fs::create_dir_all(put).unwrap();
        std::fs::write(format!("{put}/hostname"), "shop\n").unwrap();
        let shown = run("status --names");
        assert!(shown.stdout.contains("ns2/not_a_name"), "{shown}");
        assert!(
            shown
                .stdout
                .ends_with("no name server runs: these are the names that\n  smarter-cni dns would serve\n"),
            "{shown}"
        );
        assert!(shown.stdout.lines().all(|line| line.chars().count() <= 80), "{shown}");
        let names = |shown: &Output, pod: &str| -> Vec<String> {
            let all = shown.json["networks"][0]["attachments"].as_array().unwrap();
            let row = all.iter().find(|row| row["pod"] == pod).unwrap();
            row["names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
        };
        let before = run("status --json");
        assert_eq!(before.json["names"], Value::Null, "{before}");
        assert_eq!(names(&before, "ns2/web")[0], "shop.ns2.svc.cluster.local");
        let of_strange = names(&before, "ns2/not_a_name");
        assert_eq!(of_strange.len(), 1, "{of_strange:?}");

        let _role = Role::start(&[("domain", "edge.example")]);
        let shown = run("status --names --json");
        assert_eq!(
            shown.json["names"],
            json!({"domain": "edge.example", "server": "serving", "addresses": ["10.77.0.1:53", "169.254.0.2:53"]}),
            "{shown}"
        );
        // The server says of every name what is shown here.
        for (pod, address, place) in
            [("ns1/web", &web.address, &web.netns), ("ns2/web", &other.address, &other.netns)]
        {
            let names = names(&shown, pod);
            assert!(names.len() >= 6 && names.contains(&"web".to_owned()), "{names:?}");
            for name in names {
                assert_eq!(&answer(place, &name), address, "{name}");
            }
        }
        let text = run("status --names --network lab").stdout;
        assert!(
            text.contains("3 pods of network lab, domain edge.example; the name server answers at\n"),
            "{text}"
        );
        let wrong = Node
            .command(&format!("{} status --names", lab::binary().display()))
            .env("DNS_TTL", "x")
            .output()
            .unwrap();
        let words = String::from_utf8(wrong.stdout).unwrap();
        assert!(words.contains("not read: names: DNS_TTL=x: it is no number"), "{words}");
    });
}
