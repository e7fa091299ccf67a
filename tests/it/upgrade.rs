//! Pods that the release before attached: its records and its rules, over links such as it made. Nobody restarts them for an
//! upgrade.
//!
//! The fixtures are what a build of 0.1.0 left, by `tests/fixtures/attachments/make`. A record is put in place with the boot, the
//! namespace and the MACs of this run; what it promises is as it was written. VLANs need another kernel than most test
//! machines have: what such a record means is compared with its configuration in `src/plugins/bridge/want/tests.rs`.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use serde_json::{Value, json};

use crate::lab::{self, Netns, Node, Output, Place, Plugin, our_plugins};
use crate::sandbox::sandboxed;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/attachments/0.1.0");
const PLUGINS: &str = "/run/plugins";
const RECORDS: &str = "/run/smarter-cni/attachments";

/// As in `make`: an address from somebody else's plugin.
const ELSEWHERE: &str = r#"#!/bin/sh
cat >/dev/null
[ "$CNI_COMMAND" != ADD ] || echo '{"cniVersion": "1.0.0", "ips": [{"address": "10.1.2.9/24", "gateway": "10.1.2.1"}], "routes": [{"dst": "10.7.0.0/16"}]}'
"#;

fn fixture(kind: &str, what: &str) -> String {
    fs::read_to_string(format!("{FIXTURES}/{kind}.{what}")).unwrap_or_else(|e| panic!("{kind}.{what}: {e}"))
}

fn json_of(kind: &str, what: &str) -> Value {
    serde_json::from_str(&fixture(kind, what)).unwrap()
}

/// A pod of one kind, as it stands behind the upgrade.
struct Inherited {
    pod: Netns,
    bridge: Value,
    portmap: Value,
}

impl Inherited {
    fn new(kind: &str) -> Self {
        let config = json_of(kind, "config.json");
        let pod = Netns::new(kind);
        pod.run("ip link set lo up");
        let mut inherited =
            Self { pod, bridge: config["bridge"].clone(), portmap: config["portmap"].clone() };
        let attached = inherited.bridge("ADD").succeed().json;
        let result = json_of(kind, "result.json");
        assert_eq!(attached["ips"], result["ips"], "{kind}: the same request got the same addresses");
        (inherited.bridge["prevResult"], inherited.portmap) =
            (result.clone(), with(inherited.portmap, &result));
        if inherited.is_mapped() {
            inherited.portmap("ADD").succeed();
        }
        inherited.put_back(kind, &result);
        inherited
    }

    /// Links get the MACs of the fixture, the rules are those of the release before, and so are the records.
    fn put_back(&self, kind: &str, result: &Value) {
        let interface = |at: usize, key: &str| result["interfaces"][at][key].as_str().unwrap().to_owned();
        Node.run(&format!("ip link set {} address {}", interface(1, "name"), interface(1, "mac")));
        self.pod.run(&format!("ip link set eth0 address {}", interface(2, "mac")));
        fs::write("/run/rules", format!("flush ruleset\n{}", fixture(kind, "nft"))).unwrap();
        Node.run("nft -f /run/rules");
        for name in lab::files(RECORDS) {
            let plugin = name.split('.').nth(1).unwrap();
            let path = format!("{RECORDS}/{name}");
            let ours: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            let mut theirs = json_of(kind, &format!("{plugin}.json"));
            assert_eq!(theirs["version"], 1);
            let namespace = fs::metadata(self.pod.path()).unwrap();
            theirs["boot_id"] = ours["boot_id"].clone();
            theirs["netns_id"] = json!({"dev": namespace.dev(), "ino": namespace.ino()});
            theirs["created_boottime"] = ours["created_boottime"].clone();
            fs::write(&path, theirs.to_string()).unwrap();
        }
        lab::grow_old();
    }

    fn is_mapped(&self) -> bool {
        self.portmap.is_object()
    }

    fn call(&self, plugin: &str, verb: &str, config: &Value) -> Plugin {
        let name = self.pod.name();
        Plugin::new(PLUGINS, plugin)
            .command(verb)
            .container(name)
            .netns(&self.pod)
            .ifname("eth0")
            .env(
                "CNI_ARGS",
                &format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME={name};K8S_POD_UID=6d5f"),
            )
            .json(config)
    }

    fn bridge(&self, verb: &str) -> Plugin {
        self.call("bridge", verb, &self.bridge)
    }

    fn portmap(&self, verb: &str) -> Plugin {
        self.call("portmap", verb, &self.portmap)
    }

    fn check(&self) {
        self.bridge("CHECK").succeed();
        if self.is_mapped() {
            self.portmap("CHECK").succeed();
        }
    }
}

fn with(mut config: Value, result: &Value) -> Value {
    if config.is_object() {
        config["prevResult"] = result.clone();
    }
    config
}

fn plugins() {
    fs::create_dir_all(PLUGINS).unwrap();
    for name in ["bridge", "host-local", "portmap"] {
        symlink(our_plugins().join(name), Path::new(PLUGINS).join(name)).unwrap();
    }
    let elsewhere = Path::new(PLUGINS).join("elsewhere");
    fs::write(&elsewhere, ELSEWHERE).unwrap();
    fs::set_permissions(&elsewhere, fs::Permissions::from_mode(0o755)).unwrap();
}

fn command(arguments: &str) -> Output {
    let line = format!("{} {arguments}", lab::binary().display());
    let out = Node.command(&line).output().unwrap();
    let stdout = String::from_utf8(out.stdout).unwrap();
    Output {
        status: out.status.code().unwrap_or(-1),
        json: serde_json::from_str(&stdout).unwrap_or(Value::Null),
        stdout,
        stderr: String::from_utf8(out.stderr).unwrap(),
    }
}

/// What reconcile would do, or has done.
fn steps(report: &Output) -> Vec<String> {
    assert_eq!((report.status, &report.json["failures"]), (0, &json!([])), "{report}");
    let changes = report.json["changes"].as_array().unwrap_or_else(|| panic!("no report: {report}"));
    let steps = changes.iter().flat_map(|change| change["steps"].as_array().unwrap());
    steps.map(|step| step.as_str().unwrap().to_owned()).collect()
}

/// Problems of what is ours.
fn problems() -> Vec<String> {
    let out = command("doctor --json --only bridge,rules,leases,pods");
    let findings = out.json["findings"].as_array().unwrap_or_else(|| panic!("no findings: {out}"));
    let wrong = findings.iter().filter(|row| row["status"] == "problem");
    wrong.map(|row| format!("{} {}: {}", row["id"], row["object"], row["found"])).collect()
}

fn stand(kind: &str) {
    let world = lab::world();
    plugins();
    let inherited = Inherited::new(kind);
    let as_left = command("reconcile --json --dry-run");
    let left = steps(&as_left);
    // Only what that release built in another way: its guard knew bridges, and not uplinks, and host ports had other chains.
    let rebuilt =
        |step: &String| step.contains("forward_guard") || step.contains("chains and maps of host ports");
    assert!(left.iter().all(rebuilt), "{kind}: {left:#?}");
    inherited.check();
    let found = problems();
    assert_eq!(found.is_empty(), left.is_empty(), "{kind}: {found:#?}");
    assert_eq!(steps(&command("reconcile --json")), left, "{kind}");
    assert_eq!(steps(&command("reconcile --json --dry-run")), Vec::<String>::new(), "{kind}");
    assert_eq!(problems(), Vec::<String>::new(), "{kind}");
    let status = command("status --json --network net").json;
    let row = &status["networks"][0]["attachments"][0];
    assert_eq!(
        (&row["pod"], &row["state"]),
        (&format!("shop/{kind}").into(), &"attached".into()),
        "{status}"
    );
    inherited.check();
    // What it lost comes back from its record.
    Node.run(&format!(
        "ip link set {} down",
        inherited.bridge["prevResult"]["interfaces"][1]["name"].as_str().unwrap()
    ));
    Node.run("nft flush ruleset");
    assert!(!steps(&command("reconcile --json")).is_empty(), "{kind}");
    assert_eq!(steps(&command("reconcile --json --dry-run")), Vec::<String>::new(), "{kind}");
    inherited.check();
    if inherited.is_mapped() {
        inherited.portmap("DEL").succeed();
    }
    inherited.bridge("DEL").succeed();
    assert_eq!(lab::files(RECORDS), Vec::<String>::new(), "{kind}");
    assert_eq!(steps(&command("reconcile --json --dry-run")), Vec::<String>::new(), "{kind}");
    let veth = inherited.bridge["prevResult"]["interfaces"][1]["name"].as_str().unwrap();
    assert!(Node.link(veth).is_none() && !Node.run("nft list ruleset").contains(veth), "{kind}");
    drop(world);
}

macro_rules! kinds {
    ($($kind:ident),*) => {$(
        #[test]
        fn $kind() {
            sandboxed(|| stand(stringify!($kind)));
        }
    )*};
}

kinds!(plain, dual, layer2, hairpin, promiscuous, isolated, checked, down, ported, foreign);
