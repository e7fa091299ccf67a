use super::*;
use crate::cni::request::{self, Call};

fn parse(config: &str) -> Result<Config> {
    let environment = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_NETNS", "/run/netns/c1"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_PATH", "/opt/cni/bin"),
    ];
    let environment = environment.map(|(name, value)| (name.into(), value.into())).to_vec();
    let document = format!(r#"{{"cniVersion":"1.0.0","name":"net","type":"portmap"{config}}}"#);
    let Call::Run(request) = request::read(environment, document.as_bytes()).unwrap() else {
        panic!("{document}")
    };
    Config::parse(&request)
}

fn refusal(config: &str) -> String {
    parse(config).unwrap_err().msg
}

const PREVIOUS: &str = r#","prevResult":{"cniVersion":"1.0.0",
    "interfaces":[{"name":"cni0"},{"name":"veth0"},{"name":"eth0","sandbox":"/run/netns/c1"},{"name":"net1","sandbox":"x"}],
    "ips":[{"address":"10.9.9.9/24","interface":0},{"address":"10.9.9.8/24","interface":3},
           {"address":"10.1.2.5/24","interface":2},{"address":"10.1.2.6/24","interface":2},{"address":"fd00::5/64"}]}"#;

#[test]
fn defaults_are_those_of_the_plugin_we_replace() {
    let config = parse("").unwrap();
    assert!(config.snat && !config.masq_all && !config.strict && !config.asked_for_iptables);
    assert_eq!((config.previous, config.ports, config.pods), (None, vec![], vec![]));
}

#[test]
fn the_pods_addresses_are_the_first_that_are_its_own() {
    let pods: Vec<_> = parse(PREVIOUS).unwrap().pods.iter().map(ToString::to_string).collect();
    assert_eq!(pods, ["10.1.2.5/24", "fd00::5/64"]);
}

#[test]
fn ports_are_read_as_runtimes_write_them() {
    let ports = parse(
        r#","runtimeConfig":{"portMappings":[
            {"HostPort":8080,"ContainerPort":80,"Protocol":"TCP","HostIP":""},
            {"hostPort":8080,"containerPort":80,"protocol":"tcp"},
            {"hostPort":53,"containerPort":5353,"protocol":"Udp","hostIP":"0.0.0.0"},
            {"hostPort":53,"containerPort":53,"protocol":"sctp","hostIP":"fd00::1"},
            {"hostPort":1,"containerPort":65535}]}"#,
    )
    .unwrap()
    .ports;
    let port =
        |protocol, host_port, container_port, host_ip| Port { protocol, host_port, container_port, host_ip };
    assert_eq!(
        ports,
        [
            port(Protocol::Tcp, 8080, 80, HostIp::Any),
            port(Protocol::Udp, 53, 5353, HostIp::AllOf(Family::V4)),
            port(Protocol::Sctp, 53, 53, HostIp::One("fd00::1".parse().unwrap())),
            port(Protocol::Tcp, 1, 65535, HostIp::Any),
        ]
    );
}

#[test]
fn wrong_values_are_refused_in_order_and_in_known_words() {
    let ports = |text: &str| format!(r#","runtimeConfig":{{"portMappings":[{text}]}}"#);
    for (config, says) in [
        (r#","snat":"yes""#.to_owned(), "failed to parse network configuration: snat: expected a boolean"),
        (r#","prevResult":"x""#.to_owned(), "failed to parse network configuration: prevResult"),
        (r#","prevResult":{"cniVersion":"9.9"}"#.to_owned(), "could not parse prevResult: "),
        (
            r#","markMasqBit":40,"externalSetMarkChain":"KUBE-MARK-MASQ""#.to_owned(),
            "Cannot specify externalSetMarkChain and markMasqBit",
        ),
        (r#","markMasqBit":32,"backend":"foo""#.to_owned(), "MasqMarkBit must be between 0 and 31"),
        (r#","markMasqBit":-1"#.to_owned(), "MasqMarkBit must be between 0 and 31"),
        (r#","backend":"foo""#.to_owned(), "unrecognized backend \"foo\""),
        (
            r#","backend":"iptables","conditionsV4":["ip saddr 10.0.0.0/8"],"conditionsV6":["iifname x"]"#
                .to_owned(),
            "iptables backend was requested but configuration contains nftables-specific options \
             [conditionsV4 conditionsV6]",
        ),
        (
            r#","backend":"nftables","externalSetMarkChain":"X","conditionsV6":["!","-s","fd00::/8"]"#
                .to_owned(),
            "nftables backend was requested but configuration contains iptables-specific options \
             [externalSetMarkChain conditionsV6]",
        ),
        (ports(r#"{"hostPort":0,"containerPort":0}"#), "Invalid container port number: 0"),
        (ports(r#"{"hostPort":-1,"containerPort":80}"#), "Invalid host port number: -1"),
        (ports(r#"{"hostPort":65536,"containerPort":80}"#), "Invalid host port number: 65536"),
        (
            ports(r#"{"hostPort":80,"containerPort":80,"protocol":"icmp"}"#),
            "invalid protocol \"icmp\" of hostPort 80",
        ),
        (
            ports(r#"{"hostPort":80,"containerPort":80,"hostIP":"eth0"}"#),
            "invalid hostIP \"eth0\" of hostPort 80",
        ),
        (
            ports("null"),
            "failed to parse network configuration: runtimeConfig.portMappings[0]: expected an object",
        ),
    ] {
        let refusal = refusal(&config);
        assert!(refusal.starts_with(says), "{config}: {refusal}");
    }
}

const ONE_PORT: &str = r#","runtimeConfig":{"portMappings":[{"hostPort":80,"containerPort":80}]}"#;

#[test]
fn what_only_host_ports_need_refuses_only_pods_that_have_some() {
    for (config, says) in [
        (
            r#","externalSetMarkChain":"KUBE-MARK-MASQ""#,
            "externalSetMarkChain KUBE-MARK-MASQ cannot be served by nftables",
        ),
        (r#","conditionsV4":["-m","comment"]"#, "conditionsV4: iptables' \"-m\" cannot be served"),
        (r#","conditionsV6":["ct state new"]"#, "conditionsV6: nft's \"ct\" is none of the words"),
        (r#","denyHostPortInterfaces":["w*n"]"#, "denyHostPortInterfaces: \"w*n\" is no pattern"),
    ] {
        assert_eq!(parse(config).unwrap().limits, Limits::default(), "{config}");
        let none = format!(r#"{config},"runtimeConfig":{{"portMappings":[]}}"#);
        assert_eq!(parse(&none).unwrap().limits, Limits::default(), "{config}");
        let error = parse(&format!("{config}{ONE_PORT}")).unwrap_err();
        assert!(error.msg.starts_with(says), "{config}: {}", error.msg);
        assert!(!error.details.is_empty(), "{config}: what to write instead?");
    }
}

#[test]
fn of_two_targets_of_a_port_the_first_has_it() {
    let mappings = r#"{"hostPort":80,"containerPort":80},{"hostPort":80,"containerPort":81},
        {"hostPort":80,"containerPort":80},{"hostPort":80,"containerPort":82,"hostIP":"192.0.2.1"}"#;
    let config = parse(&format!(r#","runtimeConfig":{{"portMappings":[{mappings}]}}"#)).unwrap();
    let targets = |ports: &[Port]| ports.iter().map(|port| port.container_port).collect::<Vec<_>>();
    assert_eq!((targets(&config.ports), targets(&config.outdone)), (vec![80, 82], vec![81]));
}

#[test]
fn limits_are_patterns_and_conditions() {
    let limits = parse(&format!(
        r#"{ONE_PORT},"hostPortInterfaces":["eth0","lan*"],"denyHostPortInterfaces":["wwan*"],"conditionsV4":["!","-s","10.0.0.0/8"]"#,
    ))
    .unwrap()
    .limits;
    assert_eq!((limits.allowed.len(), limits.denied.len(), limits.v4.len(), limits.v6.len()), (2, 1, 1, 0));
    assert_eq!(
        parse(&format!(r#"{ONE_PORT},"conditionsV4":[],"conditionsV6":[""],"backend":"nftables""#))
            .unwrap()
            .limits,
        Limits::default()
    );
    assert!(parse(r#","backend":"iptables","markMasqBit":5"#).unwrap().asked_for_iptables);
}

#[test]
fn removal_takes_what_it_can_read() {
    let json = crate::cni::json::parse(
        br#"{"snat":1,"runtimeConfig":{"portMappings":[{"hostPort":0},{"hostPort":80,"containerPort":81}]}}"#,
    );
    let Ok(crate::cni::json::Json::Object(document)) = json else { panic!("{json:?}") };
    assert_eq!(ports_leniently(&document).len(), 1);
}
