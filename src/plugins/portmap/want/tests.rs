//! What a configuration asks for is what its record keeps.

use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::cni::request::{self, Call};
use crate::net::AttachmentId;
use crate::state::record::Want;
use crate::state::{BootId, Record, Records};

fn config(keys: &Value) -> Config {
    let variables = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_NETNS", "/run/netns/c1"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_PATH", "/opt/cni/bin"),
    ];
    let environment = variables.map(|(name, value)| (name.into(), value.into())).to_vec();
    let ips = json!([{"address": "10.1.2.5/24"}, {"address": "fd00::5/64"}]);
    let mut document = json!({"cniVersion": "1.0.0", "name": "net", "type": "portmap",
                              "prevResult": {"cniVersion": "1.0.0", "ips": ips}});
    for (key, value) in keys.as_object().unwrap() {
        document[key] = value.clone();
    }
    let Call::Run(request) = request::read(environment, document.to_string().as_bytes()).unwrap() else {
        panic!("{document}")
    };
    Config::parse(&request).unwrap_or_else(|error| panic!("{keys}: {}", error.msg))
}

fn recorded(want: &HostPorts) -> Record {
    let id = AttachmentId { network: "net".into(), container: "c1".into(), if_name: "eth0".parse().unwrap() };
    let records = Records::at(Path::new("/nowhere"), BootId::current().unwrap());
    let mut record = Record::begin(&records, "portmap", &id, None);
    record.want = Some(Want::HostPorts(want.clone()));
    serde_json::from_str(&serde_json::to_string(&record).unwrap()).unwrap()
}

fn assert_round_trip(keys: &Value) {
    let config = config(keys);
    let named = Pod { namespace: Some("shop".into()), name: Some("web-0".into()), uid: None };
    for pod in [named, Pod::default()] {
        let want = host_ports(&config, "c1", &pod);
        assert_eq!(recorded(&want).host_ports(), Some(&want), "{keys}");
    }
}

fn mapped(port: &Value) -> Value {
    json!({"runtimeConfig": {"portMappings": [port]}})
}

#[test]
fn what_a_configuration_asks_for_is_what_its_record_keeps() {
    for keys in [
        json!({}),
        json!({"snat": false}),
        json!({"masqAll": true, "hostPortInterfaces": ["eth0", "lan*"], "denyHostPortInterfaces": ["wwan*"]}),
        json!({"conditionsV4": ["-s", "10.1.2.3/8", "!", "-i", "ppp+"], "conditionsV6": ["-d", "fd00::1"]}),
        json!({"conditionsV4": ["ip daddr != 192.0.2.1"], "conditionsV6": ["iifname eth0"]}),
        mapped(&json!({"hostPort": 8080, "containerPort": 80})),
        mapped(&json!({"hostPort": 53, "containerPort": 5353, "protocol": "UDP", "hostIP": "0.0.0.0"})),
        mapped(&json!({"hostPort": 53, "containerPort": 53, "protocol": "sctp", "hostIP": "::"})),
        mapped(&json!({"hostPort": 443, "containerPort": 443, "hostIP": "192.0.2.1"})),
        mapped(&json!({"hostPort": 443, "containerPort": 443, "hostIP": "2001:db8::1"})),
    ] {
        assert_round_trip(&keys);
    }
}

proptest! {
    #[test]
    fn no_limit_is_lost(
        allowed in proptest::collection::vec("[a-z]{1,8}[0-9*]?", 0..3), denied in proptest::collection::vec("[a-z]{1,8}[*]?", 0..3),
        network in any::<std::net::Ipv4Addr>(), prefix in 0_u8..=32, negated in any::<bool>(), snat in any::<bool>(),
    ) {
        let not = if negated { "!= " } else { "" };
        let condition = format!("ip saddr {not}{network}/{prefix}");
        assert_round_trip(&json!({
            "hostPortInterfaces": allowed, "denyHostPortInterfaces": denied, "conditionsV4": [condition], "snat": snat,
        }));
    }
}
