//! Golden text and JSON, with fixed values.

use super::super::view::State;
use super::*;

fn attachment(pod: &str, address: &str) -> Attachment {
    Attachment {
        pod: Some(pod.to_owned()),
        container: Some("3f1c2a9be07d5566778899aabbccddee".to_owned()),
        interface: Some("eth0".to_owned()),
        addresses: vec![address.to_owned()],
        mac: Some("0a:58:ac:26:00:02".to_owned()),
        host_interface: Some("veth9ee7e15e".to_owned()),
        host_ports: Vec::new(),
        since_seconds: Some(11_530),
        names: None,
        state: State::Attached,
    }
}

fn port(protocol: &str, host_ip: Option<&str>, host_port: u16, container_port: u16) -> HostPort {
    let host_ip = host_ip.map(|ip| ip.parse().unwrap());
    HostPort { protocol: protocol.to_owned(), host_ip, host_port, container_port }
}

fn view() -> View {
    let mut web = attachment("default/web-0", "172.38.0.2");
    web.addresses.push("fd00:26::2".to_owned());
    web.host_ports = vec![
        port("tcp", None, 8080, 80),
        port("udp", Some("192.0.2.1"), 53, 5353),
        port("tcp", Some("2001:db8::1"), 443, 8443),
    ];
    let mut long = attachment("observability/prometheus-node-exporter-7c9xk", "172.38.0.3");
    (long.interface, long.state, long.since_seconds) = (Some("net1".to_owned()), State::Dead, Some(59));
    let foreign = Attachment {
        pod: None,
        mac: None,
        host_interface: None,
        since_seconds: None,
        state: State::NotOurs,
        ..attachment("", "172.38.0.9")
    };
    let smartnet = Network {
        drained_by: None,
        name: "smartnet".to_owned(),
        bridge: Some("smartnet0".to_owned()),
        gateways: vec!["172.38.0.1/16".to_owned(), "fd00:26::1/64".to_owned()],
        pools: vec![
            Pool {
                ranges: "172.38.0.1-172.38.255.254".to_owned(),
                size: 65_533,
                used: 3,
                free: 65_530,
                reclaimable: 1,
            },
            Pool {
                ranges: "fd00:26::1-fd00:26::ffff:ffff:ffff:ffff".to_owned(),
                size: 18_446_744_073_709_551_614,
                used: 1,
                free: 18_446_744_073_709_551_613,
                reclaimable: 0,
            },
        ],
        attachments: vec![web, long, foreign],
    };
    let idle = Network { name: "idle".to_owned(), ..Network::default() };
    View { networks: vec![idle, smartnet], ..View::default() }
}

#[test]
fn the_table_fits_eighty_columns() {
    let text = text(&view(), None);
    assert_eq!(
        text,
        "\
network idle
no pods

network smartnet, bridge smartnet0, gateway 172.38.0.1/16 fd00:26::1/64
pool 172.38.0.1-172.38.255.254 (65533): 3 used, 65530 free, 1 reclaimable
pool fd00:26::1-fd00:26::ffff:ffff:ffff:ffff (over 10^19): 1 used, over 10^19
     free, 0 reclaimable
POD                        ADDRESS         MAC               HOST IF      SINCE
default/web-0              172.38.0.2      0a:58:ac:26:00:02 veth9ee7e15e 3h12m
                           fd00:26::2
                           8080->80/tcp 192.0.2.1:53->5353/udp
                           [2001:db8::1]:443->8443/tcp
observability/prometheus-node-exporter-7c9xk net1
                           172.38.0.3      0a:58:ac:26:00:02 veth9ee7e15e 59s
                           dead: its namespace is gone; smarter-cni reconcile
                           clears up
3f1c2a9be07d               172.38.0.9      -                 -            -
                           not ours: known from its lease alone

3 attachments, 2 networks
"
    );
    assert!(text.lines().all(|line| line.chars().count() <= 80));
}

#[test]
fn a_machine_gets_everything() {
    let mut view = view();
    view.networks.remove(0);
    view.networks[0].attachments.truncate(1);
    view.networks[0].pools.truncate(1);
    assert_eq!(
        json(&view),
        r#"{"version":1,"networks":[{"name":"smartnet","bridge":"smartnet0","gateways":["172.38.0.1/16","fd00:26::1/64"],"pools":[{"ranges":"172.38.0.1-172.38.255.254","size":65533,"used":3,"free":65530,"reclaimable":1}],"attachments":[{"pod":"default/web-0","container":"3f1c2a9be07d5566778899aabbccddee","interface":"eth0","addresses":["172.38.0.2","fd00:26::2"],"mac":"0a:58:ac:26:00:02","host_interface":"veth9ee7e15e","host_ports":[{"protocol":"tcp","host_ip":null,"host_port":8080,"container_port":80},{"protocol":"udp","host_ip":"192.0.2.1","host_port":53,"container_port":5353},{"protocol":"tcp","host_ip":"2001:db8::1","host_port":443,"container_port":8443}],"since_seconds":11530,"state":"attached"}]}],"unread":[]}
"#
    );
}

#[test]
fn an_empty_node_says_so() {
    let nothing = View::default();
    assert_eq!(text(&nothing, None), "no pods are attached, and no addresses are leased\n");
    assert_eq!(text(&nothing, Some("net")), "network net has no pods and no leases here\n");
    assert_eq!(json(&nothing), "{\"version\":1,\"networks\":[],\"unread\":[]}\n");
}

#[test]
fn what_could_not_be_read_is_named() {
    let unread =
        "attachment records: open /run/smarter-cni/attachments: permission denied; run as root".to_owned();
    let view = View { unread: vec![unread], ..View::default() };
    assert_eq!(
        text(&view, None),
        "no pods are attached, and no addresses are leased
not read: attachment records: open /run/smarter-cni/attachments: permission
          denied; run as root
"
    );
}

#[test]
fn ages_are_told_in_two_units() {
    let shown = |seconds| age(seconds);
    assert_eq!(
        [0, 59, 60, 310, 3600, 86_399, 86_400, 8_640_000].map(shown),
        ["0s", "59s", "1m0s", "5m10s", "1h0m", "23h59m", "1d0h", "100d"]
    );
}

#[test]
fn names_are_shown_with_their_pods_and_whether_anybody_serves_them() {
    let mut view = view();
    let web = [
        "web-0.default.svc.cluster.local",
        "web-0.default.pod.cluster.local",
        "web-0.cluster.local",
        "web-0",
    ];
    let [ref mut first, ref mut second, _] = view.networks[1].attachments[..] else { panic!("three") };
    (first.names, second.names) = (Some(web.map(str::to_owned).to_vec()), Some(Vec::new()));
    let (domain, addresses) = ("cluster.local".to_owned(), vec!["169.254.0.2:53".to_owned()]);
    view.names = Some(Served { domain, server: Server::Serving, addresses });
    let shown = names(&view, None);
    assert_eq!(
        shown,
        "\
POD                                            ADDRESS
default/web-0                                  172.38.0.2 fd00:26::2
  web-0.default.svc.cluster.local web-0.default.pod.cluster.local
  web-0.cluster.local web-0
observability/prometheus-node-exporter-7c9xk net1
                                               172.38.0.3
  has no name

2 pods, domain cluster.local; the name server answers at 169.254.0.2:53
"
    );
    assert!(shown.lines().all(|line| line.chars().count() <= 80));
    assert!(json(&view).ends_with(
        r#""names":{"domain":"cluster.local","server":"serving","addresses":["169.254.0.2:53"]}}
"#
    ));
    assert!(json(&view).contains(r#""since_seconds":59,"names":[],"state":"dead"}"#));
    view.names =
        Some(Served { domain: "edge.example".to_owned(), server: Server::None, addresses: Vec::new() });
    view.networks.clear();
    assert_eq!(
        names(&view, Some("net")),
        "0 pods of network net, domain edge.example; no name server runs: these are the
  names that smarter-cni dns would serve
"
    );
}
