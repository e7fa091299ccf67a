//! Every refusal that needs no kernel: it has a code, names what is wrong, and says what to do.

use serde_json::{Value, json};

use super::*;

const NETWORK: &str = r#"{"cniVersion":"1.1.0","name":"net""#;

/// One call, as words of the environment and a configuration, and what it is refused with.
struct Refusal {
    plugin: Plugin,
    /// `CNI_COMMAND`, and variables that are not the usual ones; an empty value takes one away.
    verb: &'static str,
    environment: &'static [(&'static str, &'static str)],
    stdin: String,
    code: u64,
    /// What is wrong: stands in the message or in the details.
    object: &'static str,
}

fn answer(refusal: &Refusal) -> (Outcome, Value) {
    let usual = [
        ("CNI_COMMAND", refusal.verb),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_NETNS", "/run/netns/there-is-none"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_PATH", "/opt/cni/bin"),
    ];
    let mut environment: Vec<(OsString, OsString)> = Vec::new();
    for (name, value) in refusal.environment.iter().chain(&usual) {
        environment.push((name.into(), value.into()));
    }
    let outcome = run(refusal.plugin, environment, refusal.stdin.as_bytes());
    let reply = serde_json::from_str(&outcome.stdout).unwrap_or(Value::Null);
    (outcome, reply)
}

/// The configuration with these keys behind the usual ones.
fn keys(keys: &str) -> String {
    format!("{NETWORK}{}{keys}}}", if keys.is_empty() { "" } else { "," })
}

fn refusal(
    plugin: Plugin,
    verb: &'static str,
    stdin: String,
    (code, object): (u64, &'static str),
) -> Refusal {
    Refusal { plugin, verb, environment: &[], stdin, code, object }
}

/// Of the protocol, the same for all plugins.
fn of_protocol() -> Vec<Refusal> {
    let add = |environment, stdin: &str, code, object| Refusal {
        plugin: Plugin::Portmap,
        verb: "ADD",
        environment,
        stdin: stdin.to_owned(),
        code,
        object,
    };
    let good = &keys("");
    vec![
        add(&[("CNI_COMMAND", "FOO")], good, 4, "FOO"),
        add(&[("CNI_CONTAINERID", "")], good, 4, "CNI_CONTAINERID"),
        add(&[("CNI_CONTAINERID", "../x")], good, 4, "../x"),
        add(&[("CNI_NETNS", "")], good, 4, "CNI_NETNS"),
        add(&[("CNI_IFNAME", "sixteencharacter")], good, 4, "interface name"),
        add(&[("CNI_IFNAME", "a/b")], good, 4, "interface name"),
        add(&[("CNI_PATH", "")], good, 4, "CNI_PATH"),
        add(&[], "", 6, "unexpected end of JSON input"),
        add(&[], "{\"name\":", 6, "network config"),
        add(&[], "[]", 6, "an array"),
        add(&[], r#"{"name":5}"#, 6, "name"),
        add(&[], r#"{"cniVersion":"1.0.0"}"#, 7, "network name"),
        add(&[], r#"{"cniVersion":"1.0.0","name":"../x"}"#, 7, "../x"),
        add(&[], r#"{"cniVersion":"9.0.0","name":"n"}"#, 1, "9.0.0"),
        add(&[], r#"{"cniVersion":"one","name":"n"}"#, 1, "one"),
        refusal(Plugin::Bridge, "CHECK", r#"{"cniVersion":"0.3.1","name":"n"}"#.into(), (1, "CHECK")),
        refusal(Plugin::Bridge, "GC", r#"{"cniVersion":"1.0.0","name":"n"}"#.into(), (1, "GC")),
    ]
}

/// Of configurations and arguments.
fn of_plugins() -> Vec<Refusal> {
    let bridge = |keys_: &str, object| refusal(Plugin::Bridge, "ADD", keys(keys_), (999, object));
    let portmap = |keys_: &str, object| refusal(Plugin::Portmap, "ADD", keys(keys_), (999, object));
    let ipam = |keys_: &str, object| {
        let keys_ = format!("\"ipam\":{{\"type\":\"host-local\"{keys_}}}");
        refusal(Plugin::HostLocal, "ADD", keys(&keys_), (999, object))
    };
    let args = |plugin, stdin, environment| Refusal {
        environment,
        ..refusal(plugin, "ADD", stdin, (999, "MOOD=good"))
    };
    let gc = |plugin| refusal(plugin, "GC", keys(""), (7, "cni.dev/valid-attachments"));
    let range = "\"ipam\":{\"type\":\"host-local\",\"subnet\":\"10.1.2.0/24\"}";
    vec![
        bridge("\"mtu\":\"1500\"", "mtu"),
        bridge("\"bridge\":\"a/b\"", "interface name"),
        bridge("\"vlan\":5000", "5000"),
        bridge("\"vlanTrunk\":[{\"minID\":9,\"maxID\":3}]", "minID"),
        bridge("\"hairpinMode\":true,\"promiscMode\":true", "hairpin mode"),
        bridge("\"ipMasq\":true,\"ipMasqBackend\":\"pf\",\"ipam\":{\"type\":\"x\"}", "pf"),
        bridge("\"runtimeConfig\":{\"mac\":\"mac\"}", "mac"),
        bridge("\"disableContainerInterface\":true,\"ipam\":{\"type\":\"x\"}", "IPAM"),
        bridge("", "/run/netns/there-is-none"),
        refusal(Plugin::Bridge, "ADD", keys("\"drain\":true"), (11, "net")),
        refusal(Plugin::Bridge, "STATUS", keys("\"drain\":true"), (50, "net")),
        args(Plugin::Bridge, keys(""), &[("CNI_ARGS", "MOOD=good")]),
        gc(Plugin::Bridge),
        portmap("", "chained plugin"),
        portmap("\"backend\":\"pf\"", "pf"),
        portmap("\"prevResult\":5", "prevResult"),
        portmap("\"prevResult\":{},\"runtimeConfig\":{\"portMappings\":[{\"hostPort\":0}]}", "port"),
        portmap("\"markMasqBit\":77", "MasqMarkBit"),
        gc(Plugin::Portmap),
        refusal(Plugin::Portmap, "CHECK", keys(""), (999, "prevResult")),
        ipam("", "IP ranges"),
        ipam(",\"subnet\":\"10.1.2.1/24\"", "10.1.2.0"),
        ipam(",\"subnet\":\"10.1.2.0/32\"", "10.1.2.0/32"),
        ipam(",\"ranges\":{}", "ipam.ranges"),
        ipam(",\"subnet\":\"10.1.2.0/24\",\"gateway\":\"10.9\"", "10.9"),
        refusal(Plugin::HostLocal, "ADD", keys(""), (999, "ipam")),
        args(Plugin::HostLocal, keys(range), &[("CNI_ARGS", "MOOD=good")]),
        refusal(Plugin::Loopback, "ADD", keys("\"dns\":5"), (999, "dns")),
        refusal(Plugin::Loopback, "ADD", keys(""), (999, "/run/netns/there-is-none")),
        refusal(Plugin::Loopback, "CHECK", keys(""), (999, "/run/netns/there-is-none")),
    ]
}

#[test]
fn every_refusal_has_a_code_names_its_object_and_says_what_to_do() {
    let mut wrong = Vec::new();
    for refusal in of_protocol().iter().chain(&of_plugins()) {
        let (outcome, reply) = answer(refusal);
        let text = |key: &str| reply[key].as_str().unwrap_or_default();
        let says = |words: &str| format!("{}; {}", text("msg"), text("details")).contains(words);
        let is_right = outcome.status == 1
            && reply["code"] == json!(refusal.code)
            && says(refusal.object)
            && !text("msg").is_empty()
            && !text("details").is_empty();
        let logged = outcome.entry.and_then(|entry| entry.failure);
        if !is_right || logged.and_then(|failure| failure.code).map(u64::from) != Some(refusal.code) {
            let (plugin, stdin) = (refusal.plugin.standard_name(), &refusal.stdin);
            wrong.push(format!("{plugin} {} {:?} {stdin}: {reply}", refusal.verb, refusal.environment));
        }
    }
    assert!(wrong.is_empty(), "{} refusals:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn advice_goes_only_where_there_is_none() {
    let advised = |error: Error, verb: &str| next_move::advised(error, verb).details;
    assert_eq!(advised(Error::internal("x").with_details("do y"), "ADD"), "do y");
    assert!(advised(Error::internal("x"), "CHECK").contains("reconcile"));
    assert!(advised(Error::internal("x"), "ADD").contains("doctor"));
    for code in (0..1100).map(Code::from) {
        assert!(!advised(Error::new(code, "x"), "DEL").is_empty());
    }
}
