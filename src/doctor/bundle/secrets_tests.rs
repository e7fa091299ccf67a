use proptest::prelude::*;
use serde_json::json;

use super::*;

fn scrubbed(mut value: Value) -> Value {
    scrub(&mut value);
    value
}

#[test]
fn no_known_key_announces_a_secret() {
    let secret: Vec<_> = KNOWN.split_whitespace().filter(|key| is_secret(key)).collect();
    assert_eq!(secret, Vec::<&str>::new());
}

#[test]
fn of_a_document_that_others_wrote_known_fields_stay() {
    let found = scrubbed(json!({
        "name": "net", "plugins": [{
            "type": "calico", "mtu": 1400, "policy": {"type": "k8s", "k8s_auth_token": "abc", "K8S_CLIENT_KEY": ["a", "b"]},
            "kubernetes": {"kubeconfig": "/etc/cni/net.d/calico-kubeconfig"}, "apiKey": 7, "pin": 4711, "lan": "hunter2",
            "wifi": ["hunter2", 5], "peer": "10.0.0.1", "on": true, "ghp_abcdefghijklmnop": 1,
            "env": [{"name": "A", "value": "hunter2"}], "labels": [{"key": "token", "value": "hunter2"}],
            "args": ["--token", "hunter2"], "capabilities": ["--token", "hunter2"],
        }],
    }));
    assert_eq!(
        found["plugins"][0],
        json!({
            "type": "calico", "mtu": 1400, "policy": {"type": "k8s", "k8s_auth_token": REMOVED, "K8S_CLIENT_KEY": REMOVED},
            "kubernetes": {"kubeconfig": REMOVED}, "apiKey": REMOVED, "pin": REMOVED, "lan": REMOVED,
            "wifi": [REMOVED, REMOVED], "peer": "10.0.0.1", "on": true, REMOVED: REMOVED,
            "env": REMOVED, "labels": [{"key": REMOVED, "value": REMOVED}],
            "args": [REMOVED, REMOVED], "capabilities": ["--token", REMOVED],
        })
    );
    assert_eq!(found["name"], "net");
}

#[test]
fn our_own_configuration_stays_as_it_is() {
    let ours = crate::conflist::conflist(&crate::conflist::Network::default()).to_string();
    let ours: Value = serde_json::from_str(&ours).unwrap();
    assert_eq!(scrubbed(ours.clone()), ours);
}

#[test]
fn what_we_remember_stays_as_it_is() {
    let switches = json!({
        "version": 1, "boot_id": "6f1a2b3c-4d5e-6f70-8192-a3b4c5d6e7f8",
        "changes": [{"netns": {"dev": 4, "ino": 4_026_531_840_u32}, "key": "net/ipv4/ip_forward", "old": "0", "new": "1"}],
    });
    assert_eq!(scrubbed(switches.clone()), switches);
}

proptest! {
    #[test]
    fn no_secret_survives_wherever_it_stands(
        path in prop::collection::vec("[a-z]{1,6}", 0..4), secret in "s3cr3t[a-z0-9]{4}",
        name in prop::sample::select(&["token", "clientSecret", "AUTH", "tls-key", "Passwd", "whatever"][..]), kind in 0..3,
    ) {
        let hidden = match kind {
            0 => json!({ name: secret }),
            1 => json!([{"name": name, "value": secret}]),
            _ => json!({ "name": format!("--{name} token={secret}") }),
        };
        let value = path.iter().fold(hidden, |value, key| json!({ key: [value] }));
        prop_assert!(!scrubbed(value).to_string().contains(&secret));
    }
}
