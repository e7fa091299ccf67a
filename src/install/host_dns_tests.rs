use super::*;

fn conf(servers: &[&str]) -> Seen {
    let lines: Vec<_> = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
    Seen { resolv_conf: lines.concat(), leads_to: RESOLV_CONF.into(), ..Seen::default() }
}

fn leads_to(path: &str) -> Seen {
    Seen { leads_to: path.into(), ..Seen::default() }
}

fn route<'a>(domain: &'a Domain, bridge: &'a IfName) -> Route<'a> {
    Route { domain, address: Ipv4Addr::new(169, 254, 0, 2), bridge }
}

fn advised(seen: &Seen) -> Option<String> {
    let (domain, bridge) = (Domain::parse(DOMAIN).unwrap(), "smartnet0".parse().unwrap());
    advice(&resolver(seen), seen, route(&domain, &bridge))
}

#[test]
fn systemd_resolved_is_known_by_its_stub_or_by_its_files() {
    for seen in [
        conf(&["127.0.0.53"]),
        conf(&["127.0.0.54"]),
        leads_to("/run/systemd/resolve/stub-resolv.conf"),
        leads_to("/run/systemd/resolve/resolv.conf"),
        leads_to("/usr/lib/systemd/resolv.conf"),
    ] {
        assert_eq!(resolver(&seen), Resolver::OlderResolved, "{seen:?}");
        let newer = Seen { takes_delegates: true, ..seen };
        assert_eq!(resolver(&newer), Resolver::Reads(Reader::Resolved), "{newer:?}");
    }
    // It is installed, and nobody asks it.
    let unused = Seen { takes_delegates: true, ..conf(&["192.0.2.1"]) };
    assert!(matches!(resolver(&unused), Resolver::Plain(_)));
    let past = Seen { takes_delegates: true, ..leads_to("/run/systemd/resolve/resolv.conf") };
    assert!(advised(&past).unwrap().starts_with("/etc/resolv.conf leads past systemd-resolved"));
}

#[test]
fn dnsmasq_is_told_where_its_configuration_reads_files_of_others() {
    let asked = Seen { has_dnsmasq_directory: true, ..conf(&["127.0.0.1"]) };
    let binds = "interface=lan0\nbind-dynamic # not all\n".to_owned();
    for (dnsmasq_conf, dnsmasq_options, reads) in [
        ("conf-dir=/etc/dnsmasq.d\n", "", true),
        ("port=53\n conf-dir = /etc/dnsmasq.d/,*.conf # ours\n", "", true),
        ("conf-dir=/etc/dnsmasq.d,.rpmnew,.rpmsave,.rpmorig", "", true),
        ("conf-dir=/etc/dnsmasq.d,.conf", "", false),
        ("conf-dir=/etc/dnsmasq.d,*.dns", "", false),
        ("#conf-dir=/etc/dnsmasq.d", "", false),
        ("conf-dir=/etc/other.d", "", false),
        ("", "ENABLED=1\nCONFIG_DIR=/etc/dnsmasq.d,.dpkg-dist,.dpkg-old,.dpkg-new\n", true),
        ("", "CONFIG_DIR=\"/etc/dnsmasq.d\"\n", true),
        ("", "", false),
    ] {
        let (dnsmasq_conf, dnsmasq_options) = (dnsmasq_conf.to_owned(), dnsmasq_options.to_owned());
        let seen = Seen { dnsmasq: vec![dnsmasq_conf, binds.clone()], dnsmasq_options, ..asked.clone() };
        let expected =
            if reads { Resolver::Reads(Reader::Dnsmasq) } else { Resolver::Local([127, 0, 0, 1].into()) };
        assert_eq!(resolver(&seen), expected, "{seen:?}");
        let gone = Seen { has_dnsmasq_directory: false, ..seen };
        assert_eq!(resolver(&gone), Resolver::Local([127, 0, 0, 1].into()));
    }
}

#[test]
fn a_dnsmasq_of_all_addresses_is_not_told_because_it_would_not_start_again() {
    let asked = Seen { has_dnsmasq_directory: true, ..conf(&["127.0.0.1"]) };
    for (more, dnsmasq_options, binds) in [
        ("bind-dynamic\n", "", true),
        ("  bind-interfaces # really\n", "", true),
        ("", "DNSMASQ_OPTS=\"--no-poll --bind-dynamic\"\n", true),
        ("", "DNSMASQ_OPTS=\"-z -D\"\n", true),
        ("#bind-dynamic\nlisten-address=127.0.0.1\n", "#DNSMASQ_OPTS=--bind-dynamic\n", false),
    ] {
        let dnsmasq = vec!["conf-dir=/etc/dnsmasq.d\n".to_owned(), more.to_owned()];
        let seen = Seen { dnsmasq, dnsmasq_options: dnsmasq_options.to_owned(), ..asked.clone() };
        let expected = if binds { Resolver::Reads(Reader::Dnsmasq) } else { Resolver::DnsmasqOfAllAddresses };
        assert_eq!(resolver(&seen), expected, "{seen:?}");
        assert_eq!(advised(&seen).is_some_and(|said| said.contains("except-interface=smartnet0")), !binds);
    }
}

#[test]
fn the_dnsmasq_of_networkmanager_is_told_where_that_runs_one() {
    let asked = Seen { has_network_manager_directory: true, ..conf(&["127.0.0.1"]) };
    for (texts, runs) in [
        (vec!["[main]\nplugins=keyfile\ndns=dnsmasq\n"], true),
        (vec!["[main]\ndns = dnsmasq"], true),
        (vec!["[main]\ndns=dnsmasq", "[main]\ndns=none"], false),
        (vec!["[main]\ndns=none", "[device]\ndns=none\n[main]\ndns=dnsmasq"], true),
        (vec!["[connection]\ndns=dnsmasq"], false),
        (vec!["[main]\n#dns=dnsmasq"], false),
        (vec![], false),
    ] {
        let network_manager = texts.iter().map(ToString::to_string).collect();
        let seen = Seen { network_manager, ..asked.clone() };
        let expected = if runs {
            Resolver::Reads(Reader::NetworkManager)
        } else {
            Resolver::Local([127, 0, 0, 1].into())
        };
        assert_eq!(resolver(&seen), expected, "{texts:?}");
    }
}

#[test]
fn everybody_else_is_left_alone_and_a_person_is_told_what_to_type() {
    for (seen, words) in [
        (
            leads_to("/run/systemd/resolve/stub-resolv.conf"),
            "resolvectl dns smartnet0 169.254.0.2 && resolvectl domain smartnet0 '~cluster.local'",
        ),
        (conf(&["::1"]), "in dnsmasq's configuration that is the line: server=/cluster.local/169.254.0.2"),
        (
            conf(&["192.0.2.1", "127.0.0.1"]),
            "put this line in front of its other name servers: nameserver 169.254.0.2",
        ),
        (
            conf(&["192.0.2.1", "169.254.0.2"]),
            "put this line in front of its other name servers: nameserver 169.254.0.2",
        ),
        (
            leads_to("/run/NetworkManager/resolv.conf"),
            "put this line in front of its other name servers: nameserver 169.254.0.2",
        ),
        (conf(&[]), "in a container mount the host's / at --root, else have its resolver ask 169.254.0.2"),
    ] {
        let said = advised(&seen).unwrap();
        assert!(said.ends_with(words), "{said}");
    }
    assert_eq!(advised(&conf(&["169.254.0.2", "192.0.2.1"])), None, "they ask already");
    assert_eq!(advised(&Seen { takes_delegates: true, ..conf(&["127.0.0.53"]) }), None);
}

#[test]
fn files_are_whole_and_ours() {
    let (domain, bridge) = (Domain::parse("Edge.LAN.").unwrap(), "smartnet0".parse().unwrap());
    let text = |reader: Reader| reader.file(route(&domain, &bridge));
    let head = "# Written by smarter-cni install --host-dns, and taken away by smarter-cni uninstall.\n";
    let server = "server=/edge.lan/169.254.0.2\nrebind-domain-ok=/edge.lan/\n";
    assert_eq!(text(Reader::Resolved), format!("{head}[Delegate]\nDNS=169.254.0.2\nDomains=~edge.lan\n"));
    assert_eq!(text(Reader::NetworkManager), format!("{head}{server}"));
    assert_eq!(text(Reader::Dnsmasq), format!("{head}{server}except-interface=smartnet0\n"));
    for reader in Reader::ALL {
        let bytes = text(reader).into_bytes();
        assert_eq!(Standing::of(bytes.clone()), Standing::Ours(bytes));
    }
    assert_eq!(Standing::of(b"server=/x/192.0.2.1\n".into()), Standing::Foreign("somebody else's"));
    assert_eq!(Standing::of(Vec::new()), Standing::Empty);
}

#[test]
fn a_domain_is_one_word_in_whatever_file() {
    for (text, domain) in [
        ("cluster.local", Some("cluster.local")),
        ("EDGE", Some("edge")),
        ("a-1.b.", Some("a-1.b")),
        ("", None),
        (".", None),
        ("a..b", None),
        ("a b", None),
        ("~a", None),
        ("a_b", None),
        ("a\nb", None),
        ("-a", None),
        ("a-", None),
        ("192.0.2.1", None),
        ("\u{e4}.local", None),
    ] {
        assert_eq!(Domain::parse(text).map(|domain| domain.to_string()).as_deref(), domain, "{text:?}");
    }
    assert!(Domain::parse(&"a".repeat(64)).is_none() && Domain::parse(&"a.".repeat(127)).is_some());
    assert!(Domain::parse(&"ab.".repeat(90)).is_none(), "longer than a name can be");
}
