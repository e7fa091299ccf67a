//! The same call to the Go plugins and to ours: same exit status, same answer, same kernel, same leases.
//!
//! Two builds of the Go plugins are asked: that of Debian 12 (1.1.1, in [`debian`]), and that of Debian's sid (1.9 and
//! later, in [`today`]), which `tests/peers/fetch` gets. What differs between the two is decided by what a build says of
//! itself: where sid could not be had, "today's" is 1.1.1 too, and the stories that need more say that they were not told.
//!
//! Each side has its own node and pod namespaces and its own lease directory. MACs, host interface names and the names
//! of the sides are made equal before the comparison; texts of errors are ours to improve and are compared only where a
//! case says what both must mention. What may differ is listed in [`known`], with the reason; everything else fails.

mod cases;
mod chains;
mod exchange;
mod known;
mod state;

use serde_json::{Map, Value, json};

use self::known::Release;
use crate::lab::{Netns, Node, Place, Plugin, Plugins, UNDER_TEST};
use crate::sandbox::sandboxed;

/// Specification versions under which every configuration is tried.
const VERSIONS: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// The newest version that 1.1.1 speaks. For newer ones it is asked for this one, and the label is changed.
const NEWEST_OF_OLD: &str = "1.0.0";

/// A MAC that configurations ask for, so it must come out; all others are random.
const CHOSEN_MAC: &str = "02:11:22:33:44:55";

/// Stands for the side (`theirs`, `ours`) in configurations, paths and answers.
const SIDE: &str = "SIDE";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Theirs(Plugins),
    Ours,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Self::Theirs(_) => "theirs",
            Self::Ours => "ours",
        }
    }

    fn plugins(self) -> Plugins {
        match self {
            Self::Theirs(plugins) => plugins,
            Self::Ours => UNDER_TEST,
        }
    }
}

/// What is done to one node, one after the other.
#[derive(Debug, Clone)]
enum Act {
    /// A command on the node or in the pod, to prepare or to disturb.
    OnNode(&'static str),
    InPod(&'static str),
    Call(Call),
}

/// One call of a plugin. What is not set here is what a runtime would send.
#[derive(Debug, Clone)]
struct Call {
    verb: &'static str,
    environment: Vec<(&'static str, &'static str)>,
    stdin: Stdin,
    /// Words that both error texts must contain; empty for success or where texts are free.
    says: &'static str,
}

#[derive(Debug, Clone)]
enum Stdin {
    /// The configuration of the case, with the version under test, and the last ADD's answer for CHECK and DEL.
    Configured,
    /// The same with these keys changed.
    With(Value),
    Raw(&'static str),
}

/// One story, told to both sides.
#[derive(Debug, Clone)]
struct Case {
    name: &'static str,
    plugin: &'static str,
    config: Value,
    versions: &'static [&'static str],
    acts: Vec<Act>,
    /// Whether it is about something that 1.1.1 has not.
    newer: bool,
}

impl Case {
    fn newer(self) -> Self {
        Self { newer: true, ..self }
    }
}

fn call(verb: &'static str) -> Call {
    Call { verb, environment: Vec::new(), stdin: Stdin::Configured, says: "" }
}

impl Call {
    fn env(mut self, name: &'static str, value: &'static str) -> Self {
        self.environment.push((name, value));
        self
    }

    fn with(mut self, changes: Value) -> Self {
        self.stdin = Stdin::With(changes);
        self
    }

    fn raw(mut self, stdin: &'static str) -> Self {
        self.stdin = Stdin::Raw(stdin);
        self
    }

    fn says(mut self, words: &'static str) -> Self {
        self.says = words;
        self
    }
}

impl From<Call> for Act {
    fn from(call: Call) -> Self {
        Self::Call(call)
    }
}

/// Everything one side of a story left to compare.
fn tell(case: &Case, version: &str, side: Side) -> Value {
    let old = Release::of(side.plugins()) == Release::Old;
    let asked = if old && version == "1.1.0" { NEWEST_OF_OLD } else { version };
    let node = Netns::new(&format!("node-{}", side.name()));
    let pod = Netns::new(&format!("pod-{}", side.name()));
    node.run("ip link set lo up");
    let mut chapters = Map::new();
    let mut last_result = Value::Null;
    for act in &case.acts {
        match act {
            Act::OnNode(line) => drop(node.run(&line.replace(SIDE, side.name()))),
            Act::InPod(line) => drop(pod.run(&line.replace(SIDE, side.name()))),
            Act::Call(call) => {
                let out = plugin(case, call, asked, side, &last_result, &node, &pod).run();
                if call.verb == "ADD" && out.status == 0 {
                    last_result = out.json.clone();
                }
                let failed = out.status != 0;
                assert!(
                    !failed || out.stdout.contains(call.says),
                    "{} ({version}, {side:?}): {} does not mention {:?}: {out}",
                    case.name,
                    call.verb,
                    call.says
                );
                let answer = if failed {
                    json!({"code": out.json["code"]})
                } else {
                    normal(&out.json, side, asked, version)
                };
                // In the order of the story, for people who read paths.
                let chapter = format!("{:02} {}", chapters.len(), call.verb);
                let state = state::of(&node, &pod, side);
                chapters.insert(chapter, json!({"status": out.status, "answer": answer, "state": state}));
            }
        }
    }
    let leases = format!("/run/leases-{}", side.name());
    drop((node, pod));
    Node.run(&format!("rm -rf {leases}"));
    Value::Object(chapters)
}

fn plugin(
    case: &Case,
    call: &Call,
    version: &str,
    side: Side,
    last_result: &Value,
    node: &Netns,
    pod: &Netns,
) -> Plugin {
    let mut config = case.config.clone();
    config["cniVersion"] = version.into();
    if matches!(call.verb, "CHECK" | "DEL") && !last_result.is_null() {
        config["prevResult"] = last_result.clone();
    }
    let stdin = match &call.stdin {
        Stdin::Configured => config.to_string(),
        Stdin::With(changes) => {
            merge(&mut config, changes.clone());
            config.to_string()
        }
        Stdin::Raw(text) => (*text).to_owned(),
    };
    let mut plugin = Plugin::new(side.plugins().dir(), case.plugin)
        .on(node)
        .command(call.verb)
        .container("c1")
        .netns(pod)
        .ifname("eth0")
        .stdin(stdin.replace(SIDE, side.name()));
    for (name, value) in &call.environment {
        plugin = plugin.env(name, &value.replace(SIDE, side.name()));
    }
    plugin
}

/// Puts the keys of `changes` over those of `config`; null removes.
fn merge(config: &mut Value, changes: Value) {
    let (Value::Object(config), Value::Object(changes)) = (config, changes) else { return };
    for (key, value) in changes {
        match value {
            Value::Null => drop(config.remove(&key)),
            Value::Object(_) if config.get(&key).is_some_and(Value::is_object) => {
                merge(&mut config[&key], value);
            }
            _ => drop(config.insert(key, value)),
        }
    }
}

/// The value without what is random or names the side.
fn normal(value: &Value, side: Side, asked: &str, version: &str) -> Value {
    match value {
        Value::Object(object) => {
            let entry = |(key, value): (&String, &Value)| {
                let same = key == "cniVersion" && value == asked;
                (key.clone(), if same { version.into() } else { normal(value, side, asked, version) })
            };
            Value::Object(object.iter().map(entry).collect::<Map<_, _>>())
        }
        Value::Array(items) => items.iter().map(|v| normal(v, side, asked, version)).collect(),
        Value::String(text) => normal_text(text, side).into(),
        other => other.clone(),
    }
}

fn normal_text(text: &str, side: Side) -> String {
    if is_mac(text) && text != CHOSEN_MAC && text != "00:00:00:00:00:00" {
        return "<mac>".to_owned();
    }
    if text
        .strip_prefix("veth")
        .is_some_and(|hex| hex.len() == 8 && hex.chars().all(|c| c.is_ascii_hexdigit()))
    {
        return "<veth>".to_owned();
    }
    text.replace(&format!("-{}", side.name()), "-SIDE")
}

fn is_mac(text: &str) -> bool {
    text.len() == 17 && text.split(':').filter(|octet| octet.len() == 2).count() == 6
}

/// Where two values differ: path, left, right.
fn differences(path: &str, left: &Value, right: &Value, found: &mut Vec<(String, Value, Value)>) {
    match (left, right) {
        (Value::Object(l), Value::Object(r)) => {
            let keys: std::collections::BTreeSet<_> = l.keys().chain(r.keys()).collect();
            for key in keys {
                let (l, r) = (l.get(key).unwrap_or(&Value::Null), r.get(key).unwrap_or(&Value::Null));
                differences(&format!("{path}/{key}"), l, r, found);
            }
        }
        (Value::Array(l), Value::Array(r)) if l.len() == r.len() => {
            for (index, (l, r)) in l.iter().zip(r).enumerate() {
                differences(&format!("{path}/{index}"), l, r, found);
            }
        }
        (l, r) if l == r => {}
        (l, r) => found.push((path.to_owned(), l.clone(), r.clone())),
    }
}

/// Verbs and outcomes in a line, to see with `--nocapture` whether a story is about what its name says.
fn summary(told: &Value) -> String {
    let calls = told.as_object().into_iter().flatten();
    let word = |(chapter, call): (&String, &Value)| match &call["answer"]["code"] {
        Value::Null => format!(" {chapter}"),
        code => format!(" {chapter}!{code}"),
    };
    calls.map(word).collect()
}

/// Tells every story to both sides and fails with all differences that are not known, and with all known ones that are
/// none any more.
fn compare(peer: Plugins, cases: &[Case]) {
    let release = Release::of(peer);
    let (told, untold): (Vec<&Case>, Vec<&Case>) =
        cases.iter().partition(|case| !case.newer || release == Release::New);
    for case in untold {
        eprintln!("{}: not told, {peer:?} has 1.1.1", case.name);
    }
    let mut known = known::Ledger::of(release);
    let mut wrong = Vec::new();
    for case in &told {
        for version in case.versions {
            let theirs = tell(case, version, Side::Theirs(peer));
            let ours = tell(case, version, Side::Ours);
            eprintln!("{} ({version}):{}", case.name, summary(&theirs));
            let mut found = Vec::new();
            differences("", &theirs, &ours, &mut found);
            found.retain(|(path, l, r)| !known.covers(case.name, path, l, r));
            let line = |(p, l, r)| format!("{} ({version}) {p}: {peer:?} {l}, ours {r}", case.name);
            wrong.extend(found.into_iter().map(line));
        }
    }
    wrong.extend(known.not_needed(&told));
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}

/// The same tests with both builds of the Go plugins.
macro_rules! with_each_build {
    ($($test:ident: $tell:expr;)*) => {
        mod debian {
            use super::*;
            $(#[test] fn $test() { sandboxed(|| $tell(Plugins::Debian)); })*
        }
        mod today {
            use super::*;
            $(#[test] fn $test() { sandboxed(|| $tell(Plugins::Today)); })*

            #[test]
            fn what_is_new_is_alike() {
                sandboxed(|| cases::tell(Plugins::Today, cases::newer::newer));
            }
        }
    };
}

with_each_build! {
    bridge_attaches_alike: |peer| cases::tell(peer, cases::attach::bridges);
    check_finds_the_same: |peer| cases::tell(peer, cases::check::checks);
    disturbances_are_met_alike: |peer| cases::tell(peer, cases::disturbances::disturbances);
    host_local_gives_the_same_addresses: |peer| cases::tell(peer, cases::leases::leases);
    portmap_passes_on_and_refuses_alike: |peer| cases::tell(peer, cases::portmap::portmaps);
    loopback_is_alike: |peer| cases::tell(peer, cases::protocol::loopbacks);
    the_protocol_is_spoken_alike: |peer| cases::tell(peer, cases::protocol::protocol);
    requests_of_runtimes_are_heard_alike: |peer| cases::tell(peer, cases::requests::requests);
    addresses_routes_and_dns_are_alike: |peer| cases::tell(peer, cases::routes::addresses_and_routes);
    without_a_command_they_introduce_themselves: cases::protocol::introductions;
    leases_change_hands: exchange::leases_change_hands;
    the_marker_does_not_disturb_the_go_plugin: exchange::the_marker_does_not_disturb_the_go_plugin;
    both_reserve_at_once_without_a_clash: exchange::both_reserve_at_once_without_a_clash;
    attachments_change_hands: exchange::attachments_change_hands;
    an_attachment_is_released_after_its_namespace_went: exchange::an_attachment_is_released_after_its_namespace_went;
    others_behind_our_bridge: chains::others_behind_our_bridge;
    our_portmap_behind_others: chains::our_portmap_behind_others;
    static_addresses_under_our_bridge: chains::static_addresses_under_our_bridge;
    source_based_routing: chains::source_based_routing;
    nothing_is_left_of_a_forgotten_pod: chains::nothing_is_left_of_a_forgotten_pod;
}

#[test]
fn a_difference_is_seen_wherever_it_is() {
    let mut found = Vec::new();
    let left = json!({"same": 1, "list": [1, {"a": "x"}], "short": [1]});
    let right = json!({"same": 1, "list": [1, {"a": "y"}], "short": [1, 2], "more": true});
    differences("", &left, &right, &mut found);
    let paths: Vec<&str> = found.iter().map(|(path, _, _)| path.as_str()).collect();
    assert_eq!(paths, ["/list/1/a", "/more", "/short"]);
    assert_eq!(normal_text("02:aa:00:11:22:33", Side::Ours), "<mac>");
    assert_eq!(normal_text(CHOSEN_MAC, Side::Ours), CHOSEN_MAC);
    assert_eq!(normal_text("veth0123abcd", Side::Ours), "<veth>");
    assert_eq!(normal_text("/run/netns/pod-ours", Side::Ours), "/run/netns/pod-SIDE");
}
