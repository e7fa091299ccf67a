//! Loopback, and what all plugins share: environment, versions, errors.

use serde_json::json;

use super::super::{Act, Case, VERSIONS, call};
use super::{CHECKED, ONE, life, story};
use crate::lab::{Plugin, Plugins, UNDER_TEST};

pub(in crate::parity) fn loopbacks() -> Vec<Case> {
    let all = VERSIONS.as_slice();
    vec![
        story("loopback/life", "loopback", json!({}), all, vec![call("ADD").env("CNI_IFNAME", "lo").into(), call("DEL").env("CNI_IFNAME", "lo").into(), call("DEL").env("CNI_IFNAME", "lo").into()]),
        story("loopback/any-interface-name", "loopback", json!({}), ONE, life()),
        story("loopback/check", "loopback", json!({}), CHECKED, vec![call("CHECK").into(), call("ADD").into(), call("CHECK").into(), call("DEL").into(), call("CHECK").into()]),
        story("loopback/arguments-are-not-read", "loopback", json!({}), ONE, vec![call("ADD").env("CNI_ARGS", "none").into()]),
        story("loopback/namespace", "loopback", json!({}), ONE, vec![call("DEL").env("CNI_NETNS", "").into(), call("DEL").env("CNI_NETNS", "/run/netns/gone").into(), call("ADD").env("CNI_NETNS", "/run/netns/gone").into()]),
        story("loopback/previous-result", "loopback", json!({}), ONE, vec![call("ADD").with(json!({"prevResult": {"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "sandbox": "/x"}], "ips": [{"address": "10.1.2.3/24", "interface": 0}]}})).into()]),
    ]
}

pub(in crate::parity) fn protocol() -> Vec<Case> {
    let plugins = ["bridge", "host-local", "loopback", "portmap"];
    let good = r#"{"cniVersion":"1.0.0","name":"labnet"}"#;
    let errors: Vec<Act> = vec![
        call("ADD").env("CNI_CONTAINERID", "").says("[CNI_CONTAINERID]").into(),
        call("ADD").env("CNI_NETNS", "").says("[CNI_NETNS]").into(),
        call("ADD").env("CNI_IFNAME", "").says("[CNI_IFNAME]").into(),
        call("ADD").env("CNI_PATH", "").says("[CNI_PATH]").into(),
        call("ADD")
            .env("CNI_CONTAINERID", "")
            .env("CNI_NETNS", "")
            .env("CNI_IFNAME", "")
            .env("CNI_PATH", "")
            .says("CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH")
            .into(),
        call("DEL").env("CNI_CONTAINERID", "").says("[CNI_CONTAINERID]").into(),
        call("DEL").env("CNI_IFNAME", "").into(),
        call("CHECK").env("CNI_NETNS", "").into(),
        call("ADD").env("CNI_CONTAINERID", "../x").says("invalid characters in containerID").into(),
        call("ADD").env("CNI_CONTAINERID", "-x").says("-x").into(),
        call("ADD").env("CNI_IFNAME", "longer-than-fifteen").says("interface name is too long").into(),
        call("ADD").env("CNI_IFNAME", "..").says("interface name is . or ..").into(),
        call("ADD")
            .env("CNI_IFNAME", "a/b")
            .says("interface name contains / or : or whitespace characters")
            .into(),
        call("ADD").env("CNI_IFNAME", "a b").into(),
        call("ADD").env("CNI_IFNAME", "a:b").into(),
        call("FROB").raw(good).says("unknown CNI_COMMAND: FROB").into(),
        call("add").raw(good).says("unknown CNI_COMMAND: add").into(),
        call("ADD").raw("").into(),
        call("ADD").raw("{").into(),
        call("ADD").raw("[]").into(),
        call("ADD").raw("null").into(),
        call("ADD").raw(r#"{"cniVersion":"1.0.0","name":"labnet"}x"#).into(),
        call("ADD").raw(r#"{"cniVersion":"1.0.0"}"#).says("missing network name").into(),
        call("ADD").raw(r#"{"cniVersion":"1.0.0","name":""}"#).says("missing network name").into(),
        call("ADD")
            .raw(r#"{"cniVersion":"1.0.0","name":"a/b"}"#)
            .says("invalid characters found in network name")
            .into(),
        call("ADD").raw(r#"{"cniVersion":"1.0.0","name":1}"#).into(),
        call("ADD").raw(r#"{"cniVersion":1,"name":"labnet"}"#).into(),
        call("ADD").raw(r#"{"cniVersion":"9.0.0","name":"labnet"}"#).says("incompatible CNI versions").into(),
        call("ADD").raw(r#"{"cniVersion":"1.0","name":"labnet"}"#).says("incompatible CNI versions").into(),
        call("CHECK")
            .raw(r#"{"cniVersion":"0.3.1","name":"labnet"}"#)
            .says("config version does not allow CHECK")
            .into(),
        call("CHECK").raw(r#"{"name":"labnet"}"#).says("config version does not allow CHECK").into(),
        call("CHECK").raw(r#"{"cniVersion":"abc","name":"labnet"}"#).into(),
    ];
    let mut cases: Vec<Case> = plugins
        .into_iter()
        .map(|plugin| story("protocol/errors", plugin, json!({}), ONE, errors.clone()))
        .collect();
    let version =
        vec![call("VERSION").raw("").into(), call("VERSION").raw(r#"{"cniVersion":"0.4.0"}"#).into()];
    cases.extend(plugins.map(|plugin| story("protocol/version", plugin, json!({}), ONE, version.clone())));
    cases
}

/// Distribution packages print the version of a plugin by running it without anything.
pub(in crate::parity) fn introductions(peer: Plugins) {
    for whose in [peer, UNDER_TEST] {
        for name in ["bridge", "host-local", "loopback", "portmap"] {
            let out = Plugin::new(whose.dir(), name).run();
            assert_eq!((out.status, out.stdout.as_str()), (0, ""), "{name}: {out}");
            let mut lines = out.stderr.lines();
            let (first, second) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
            assert!(first.starts_with(&format!("CNI {name} plugin ")), "{name}: {out}");
            assert!(
                second.starts_with("CNI protocol versions supported: 0.1.0, 0.2.0, 0.3.0"),
                "{name}: {out}"
            );
        }
    }
}
