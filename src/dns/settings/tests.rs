use super::*;

fn settings(variables: &[(&str, &str)]) -> Result<Settings, String> {
    let variables: Vec<_> = variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
    Settings::parse(&variables)
}

#[test]
fn silence_is_what_smarter_had() {
    let settings = settings(&[("PATH", "/bin"), ("CLUSTER_DNS", " ")]).unwrap();
    assert_eq!(settings.address, ADDRESS);
    assert_eq!(settings.domain.to_string(), "cluster.local.");
    assert_eq!((settings.ttl, settings.cache, settings.fallback_port), (5, 4 << 20, 9053));
    assert!(!settings.logging && settings.upstreams.is_empty() && settings.notes.is_empty());
}

#[test]
fn old_spellings_are_understood_and_new_ones_count_more() {
    let old = [("CLUSTER_DNS", "169.254.1.2"), ("CLUSTER_DOMAIN", "Edge.Example."), ("DNS_LOGGING", "True")];
    let read = settings(&old).unwrap();
    assert_eq!(read.address, IpAddr::from([169, 254, 1, 2]));
    assert_eq!((read.domain.to_string().as_str(), read.logging), ("edge.example.", true));
    let both = [("CLUSTER_DNS", "169.254.1.2"), ("dns-address", "10.0.0.53")];
    assert_eq!(settings(&both).unwrap().address, IpAddr::from([10, 0, 0, 53]));
    assert_eq!(settings(&[("DNS_TTL", "30")]).unwrap().ttl, 30);
}

#[test]
fn what_is_not_used_is_said() {
    let notes = settings(&[("CRI_DIR", "unix:///var/run/crisock"), ("IFACE", "eth0"), ("CRIMINAL", "x")])
        .unwrap()
        .notes;
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(notes[0].starts_with("CRI_DIR is not used: ") && notes[1].starts_with("IFACE is not used: "));
}

#[test]
fn hosts_are_written_as_in_their_file() {
    let read =
        settings(&[("dns-hosts", "10.0.0.5 printer Printer.lan # upstairs\n127.0.0.1 broker; fd00::5 nas")])
            .unwrap();
    let shown: Vec<_> = read.hosts.iter().map(|host| format!("{} {}", host.address, host.name)).collect();
    assert_eq!(shown, ["10.0.0.5 printer.", "10.0.0.5 printer.lan.", "127.0.0.1 broker.", "fd00::5 nas."]);
}

#[test]
fn runtimes_are_asked_for_pods_of_the_host_s_network_only_when_that_is_said() {
    let read = |value| settings(&[("dns-host-network-names", value)]).unwrap().host_network;
    assert_eq!(settings(&[]).unwrap().host_network, None);
    assert_eq!((read("false"), read("True")), (None, Some(Runtimes::Found)));
    let socket = Some(Runtimes::At("/run/crisock/containerd.sock".into()));
    assert_eq!(read("/run/crisock/containerd.sock"), socket);
    assert_eq!(read("unix:///run/crisock/containerd.sock"), socket);
}

#[test]
fn wrong_values_are_refused_by_name() {
    for (name, value) in [
        ("dns-address", "dns"),
        ("CLUSTER_DNS", "127.0.0.1"),
        ("dns-address", "0.0.0.0"),
        ("CLUSTER_DOMAIN", "cluster..local"),
        ("DNS_LOGGING", "maybe"),
        ("dns-upstream", "1.1.1.1 nonsense"),
        ("dns-upstream", "fe80::1"),
        ("dns-hosts", "10.0.0.5"),
        ("dns-hosts", "printer 10.0.0.5"),
        ("dns-hosts", "10.0.0.5 a..b"),
        ("dns-ttl", "-1"),
        ("dns-ttl", "86400"),
        ("dns-cache", "1Gi"),
        ("dns-cache", "4MB"),
        ("dns-stale", "1y"),
        ("dns-stale", "8d"),
        ("dns-single-labels", "yes"),
        ("dns-fallback-port", "53"),
        ("dns-host-network-names", "maybe"),
        ("dns-host-network-names", "run/containerd.sock"),
    ] {
        let refusal = settings(&[(name, value)]).unwrap_err();
        assert!(refusal.starts_with(&format!("{name}={value}: ")), "{refusal}");
    }
    let read =
        settings(&[("dns-cache", "512Ki"), ("dns-stale", "1d"), ("dns-single-labels", "forward")]).unwrap();
    assert_eq!((read.cache, read.stale), (512 << 10, Duration::from_hours(24)));
    assert!(read.forwards_single_labels);
}
