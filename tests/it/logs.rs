//! What a run leaves in the log: one line per verb in a file that never grows beyond its bounds, one sentence in the
//! system's log, and nothing of it where it does not belong.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod places;
mod system;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::lab::{self, DEBIAN_PLUGINS, Netns, Node, Output, Place, Plugin, our_plugins};
use crate::sandbox::sandboxed;

const DIRECTORY: &str = "/run/smarter-cni";
const LOG: &str = "/run/smarter-cni/log";
const LEVEL: &str = "/run/smarter-cni/log-level";
const CAP: usize = 256 * 1024;

fn bridge() -> Value {
    json!({
        "cniVersion": "1.1.0", "name": "net", "type": "bridge", "bridge": "br0", "isGateway": true,
        "ipam": {"type": "host-local", "subnet": "10.1.2.0/24", "dataDir": "/run/leases"}
    })
}

fn call(name: &str, verb: &str, pod: &Netns, config: &Value) -> Plugin {
    Plugin::new(our_plugins(), name)
        .command(verb)
        .container(pod.name())
        .netns(pod)
        .ifname("eth0")
        .env("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0")
        .json(config)
}

fn with(mut config: Value, key: &str, value: Value) -> Value {
    config[key] = value;
    config
}

/// The lines of the log since the last time.
fn lines() -> Vec<Value> {
    let text = fs::read_to_string(LOG).unwrap_or_default();
    if Path::new(LOG).exists() {
        fs::write(LOG, "").unwrap();
    }
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

fn only_line() -> Value {
    let mut lines = lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines.remove(0)
}

/// The line with what is different every time as its type. Durations must be plausible: parts within the whole.
#[expect(
    clippy::disallowed_methods,
    reason = "std's clock, which another one made the line with, is as good here"
)]
fn masked(mut line: Value) -> Value {
    let total = line["ms"].as_f64().unwrap();
    let mut sum = 0.0;
    for step in line["steps"].as_array_mut().into_iter().flatten() {
        sum += step[1].as_f64().unwrap();
        *step = step[0].take();
    }
    assert!(sum <= total + 0.1 && total < 60_000.0, "{sum} of {total}");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((now - line["time"].as_f64().unwrap()).abs() < 60.0, "{line}");
    for key in ["time", "uptime", "ms"] {
        assert!(line[key].is_f64(), "{key} of {line}");
        line.as_object_mut().unwrap().remove(key);
    }
    line
}

/// Lists of things without keys, as JSON.
fn list(words: &str) -> Vec<&str> {
    words.split_whitespace().collect()
}

#[test]
fn every_verb_that_changes_something_has_one_line_that_tells_who_what_and_how_long() {
    sandboxed(|| {
        let pod = Netns::new("pod1");
        let said = |plugin: &str, verb: &str, steps: &str| {
            json!({
                "level": "info", "plugin": plugin, "verb": verb, "network": "net", "container": "pod1",
                "interface": "eth0", "pod": "shop/web-0", "result": "ok", "steps": list(steps),
            })
        };
        let with_address = |line: Value| with(line, "addresses", json!(["10.1.2.2/24"]));

        let added = call("bridge", "ADD", &pod, &bridge()).succeed().json;
        let steps = "read config record lease observe apply result answer";
        assert_eq!(masked(only_line()), with_address(said("bridge", "ADD", steps)));

        let mappings = json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]);
        let ports = json!({
            "cniVersion": "1.1.0", "name": "net", "type": "portmap", "prevResult": added,
            "runtimeConfig": {"portMappings": mappings}
        });
        call("portmap", "ADD", &pod, &ports).succeed();
        let steps = "read config lock record observe apply answer";
        assert_eq!(masked(only_line()), with_address(said("portmap", "ADD", steps)));

        call("portmap", "DEL", &pod, &ports).succeed();
        assert_eq!(masked(only_line()), said("portmap", "DEL", "read config lock ports answer"));
        call("bridge", "DEL", &pod, &bridge()).succeed();
        let steps = "read config record links ports lease answer";
        assert_eq!(masked(only_line()), said("bridge", "DEL", steps));

        let ipam = bridge();
        call("host-local", "ADD", &pod, &ipam).succeed();
        let line =
            with(said("host-local", "ADD", "read config lease answer"), "addresses", json!(["10.1.2.3/24"]));
        assert_eq!(masked(only_line()), line);
        let lo = json!({"cniVersion": "1.1.0", "name": "net", "type": "loopback"});
        call("loopback", "DEL", &pod, &lo).succeed();
        assert_eq!(masked(only_line()), said("loopback", "DEL", "read config apply answer"));

        let valid = with(bridge(), "cni.dev/valid-attachments", json!([]));
        Plugin::new(our_plugins(), "bridge").command("GC").json(&valid).succeed();
        let line = json!({
            "level": "info", "plugin": "bridge", "verb": "GC", "network": "net", "result": "ok",
            "steps": list("read collect answer"),
        });
        assert_eq!(masked(only_line()), line);
    });
}

#[test]
fn a_verb_that_fails_says_why_and_what_to_do() {
    sandboxed(|| {
        let pod = Netns::new("pod1");
        // Nothing of ours was ever here, and the first thing is a failure.
        let out = call("bridge", "ADD", &pod, &bridge()).env("CNI_NETNS", "/run/netns/gone").run();
        assert_eq!(out.status, 1);
        let line = masked(only_line());
        for (key, expected) in [
            ("level", json!("error")),
            ("result", json!("failed")),
            ("code", json!(999)),
            ("msg", out.json["msg"].clone()),
            ("details", out.json["details"].clone()),
            ("container", json!("pod1")),
        ] {
            assert_eq!(line[key], expected, "{key} of {line}");
        }
        // What was never understood is told as far as it was.
        let out = call("portmap", "ADD", &pod, &json!({})).stdin("{").run();
        let line = masked(only_line());
        assert_eq!(
            (&line["verb"], &line["code"], &line["msg"]),
            (&json!("ADD"), &json!(6), &out.json["msg"])
        );
        let missing = call("bridge", "DEL", &pod, &bridge()).env("CNI_CONTAINERID", "").run();
        let line = masked(only_line());
        assert_eq!((&line["code"], &line["msg"]), (&json!(4), &missing.json["msg"]));
        call("bridge", "FOO", &pod, &bridge()).run();
        assert_eq!(only_line()["verb"], "FOO");
    });
}

#[test]
fn who_only_looks_is_silent_and_who_keeps_failing_is_heard_once() {
    sandboxed(|| {
        let pod = Netns::new("pod1");
        let added = call("bridge", "ADD", &pod, &bridge()).succeed().json;
        lines();
        let status = |config: &Value| Plugin::new(our_plugins(), "bridge").command("STATUS").json(config);
        let looks = || {
            status(&bridge()).succeed();
            call("bridge", "CHECK", &pod, &with(bridge(), "prevResult", added.clone())).succeed();
            call("bridge", "VERSION", &pod, &bridge()).succeed();
        };
        looks();
        assert_eq!(lines(), Vec::<Value>::new());

        let drained = with(bridge(), "drain", json!(true));
        for _ in 0..5 {
            assert_eq!(status(&drained).run().status, 1);
        }
        let line = only_line();
        assert_eq!((&line["verb"], &line["level"]), (&json!("STATUS"), &json!("error")));

        fs::write(LEVEL, "debug").unwrap();
        looks();
        let verbs: Vec<_> = lines().iter().map(|line| line["verb"].as_str().unwrap().to_owned()).collect();
        assert_eq!(verbs, ["STATUS", "CHECK", "VERSION"]);
    });
}

/// The levels of the lines that these calls leave: an ADD with a warning, its DEL, a DEL that fails.
fn levels(pod: &Netns, config: &Value, environment: &str) -> Vec<String> {
    lines();
    // A rule that is there already is no occasion for a warning.
    Node.run("nft flush ruleset");
    let warned = with(with(config.clone(), "ipMasq", json!(true)), "ipMasqBackend", json!("iptables"));
    call("bridge", "ADD", pod, &warned).env("SMARTER_CNI_LOG", environment).succeed();
    call("bridge", "DEL", pod, config).env("SMARTER_CNI_LOG", environment).succeed();
    call("bridge", "DEL", pod, config).env("SMARTER_CNI_LOG", environment).env("CNI_IFNAME", "").run();
    lines().iter().map(|line| line["level"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_level_comes_from_the_file_else_the_environment_else_the_configuration() {
    sandboxed(|| {
        let pod = Netns::new("pod1");
        let key = |level: &str| with(bridge(), "logLevel", json!(level));
        // The call without an interface fails before its configuration is read, which then has no say.
        assert_eq!(levels(&pod, &bridge(), ""), ["warn", "info", "error"]);
        assert_eq!(levels(&pod, &key("warn"), ""), ["warn", "error"]);
        assert_eq!(levels(&pod, &key("off"), "warn"), ["warn", "error"]);
        assert_eq!(levels(&pod, &key("debug"), "error"), ["error"]);
        assert_eq!(levels(&pod, &key("debug"), "off"), ["error"; 0]);
        // At run time, without any restart.
        fs::write(LEVEL, "off\n").unwrap();
        assert_eq!(levels(&pod, &key("debug"), "debug"), ["error"; 0]);
        fs::write(LEVEL, "error\n").unwrap();
        assert_eq!(levels(&pod, &key("debug"), "off"), ["error"]);
        fs::write(LEVEL, "loud\n").unwrap();
        assert_eq!(levels(&pod, &key("off"), ""), ["error"], "nobody but the configuration says a level");
        fs::remove_file(LEVEL).unwrap();
        assert_eq!(levels(&pod, &bridge(), ""), ["warn", "info", "error"]);
    });
}

#[test]
fn at_debug_every_step_is_in_the_line_with_its_duration() {
    sandboxed(|| {
        let pod = Netns::new("pod1");
        fs::create_dir(DIRECTORY).unwrap();
        fs::write(LEVEL, "debug").unwrap();
        let out = call("bridge", "ADD", &pod, &bridge()).succeed();
        assert_eq!(out.stderr, "", "the file says nothing about standard error");
        let line = only_line();
        let trace: Vec<(&str, f64)> = line["trace"]
            .as_array()
            .unwrap()
            .iter()
            .map(|step| (step[0].as_str().unwrap(), step[1].as_f64().unwrap()))
            .collect();
        for words in ["ip link add br0 ", "ip addr add 10.1.2.2/24 dev eth0"] {
            assert!(trace.iter().any(|(step, _)| step.contains(words)), "{words}: {trace:?}");
        }
        let sum: f64 = trace.iter().map(|(_, took)| took).sum();
        assert!(sum > 0.0 && sum <= line["ms"].as_f64().unwrap(), "{sum} of {line}");

        fs::write(LEVEL, "info").unwrap();
        call("bridge", "DEL", &pod, &bridge()).succeed();
        assert_eq!(only_line()["trace"], Value::Null);
    });
}

#[test]
fn a_wrong_level_in_the_configuration_keeps_no_pod_from_starting_or_going() {
    sandboxed(|| {
        let pod = Netns::new("pod1");
        for (wrong, words) in [
            (
                json!("verbose"),
                "logLevel says \"verbose\", which is no level: say off, error, warn, info or debug",
            ),
            (json!(5), "the log keeps its level: logLevel: expected a string, found the number 5"),
        ] {
            let config = with(bridge(), "logLevel", wrong);
            for verb in ["ADD", "DEL"] {
                let out = call("bridge", verb, &pod, &config).succeed();
                assert_eq!(out.stderr, format!(" WARN {words}\n"));
                let line = only_line();
                assert_eq!((&line["level"], &line["warnings"]), (&json!("warn"), &json!([words])));
            }
        }
        let config = with(with(bridge(), "logLevel", json!("warn")), "cniVersion", json!("1.0.0"));
        let go = Plugin::new(DEBIAN_PLUGINS, "bridge").json(&config);
        let go = go.container("pod1").netns(&pod).ifname("eth0");
        go.clone().command("ADD").succeed();
        go.command("DEL").succeed();
    });
}

#[test]
fn standard_error_says_what_it_always_said() {
    sandboxed(|| {
        let pod = Netns::new("pod1");
        let config = with(with(bridge(), "ipMasq", json!(true)), "ipMasqBackend", json!("iptables"));
        let warning = " WARN ipMasqBackend iptables: nftables does the masquerading, with the same effect\n";
        let stderr = |level: &str| {
            let out = call("bridge", "ADD", &pod, &config).env("SMARTER_CNI_LOG", level).succeed();
            call("bridge", "DEL", &pod, &config).succeed();
            Node.run("nft flush ruleset");
            out.stderr
        };
        fs::create_dir_all(DIRECTORY).unwrap();
        for file in ["", "off", "debug"] {
            fs::write(LEVEL, file).unwrap();
            assert_eq!(stderr(""), warning);
            assert_eq!(stderr("loud"), warning);
            assert_eq!(stderr("error"), "");
            let all = stderr("debug");
            assert!(all.contains("DEBUG node: ip link add veth") && all.contains(warning), "{all}");
        }
    });
}

/// `smarter-cni <arguments>`.
fn command(arguments: &str) -> Output {
    let out = Node.command(&format!("{} {arguments}", lab::binary().display())).output().unwrap();
    Output {
        status: out.status.code().unwrap_or(-1),
        stdout: String::from_utf8(out.stdout).unwrap(),
        stderr: String::from_utf8(out.stderr).unwrap(),
        json: Value::Null,
    }
}

#[test]
fn a_reconcile_has_a_line_when_it_did_something() {
    sandboxed(|| {
        let pod = Netns::new("pod1");
        call("bridge", "ADD", &pod, &bridge()).succeed();
        lines();
        assert_eq!(command("reconcile").status, 0);
        assert_eq!(lines(), Vec::<Value>::new());
        Node.run("ip link set br0 down");
        assert_eq!(command("reconcile --dry-run").status, 0);
        assert_eq!(lines(), Vec::<Value>::new());
        assert_eq!(command("reconcile").status, 0);
        let line = masked(only_line());
        assert_eq!(
            (&line["verb"], &line["result"], &line["level"]),
            (&json!("reconcile"), &json!("ok"), &json!("info"))
        );
        let changes = line["changes"].as_array().unwrap();
        assert!(
            changes.iter().any(|step| step == "net: shop/web-0 (eth0): node: ip link set br0 up"),
            "{line}"
        );
    });
}

#[test]
fn an_installation_is_logged_on_the_host_when_it_changed_something() {
    sandboxed(|| {
        let root = Path::new("/run/host");
        for sub in ["opt/cni/bin", "etc/cni/net.d", "run/smarter-cni", "var/lib", "proc"] {
            fs::create_dir_all(root.join(sub)).unwrap();
        }
        let install = "install --root /run/host --log-level warn --subnet 10.38.0.0/16";
        let out = command(install);
        assert_eq!(out.status, 0, "{out}");
        let text = fs::read_to_string(root.join("run/smarter-cni/log")).unwrap();
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&line["verb"], &line["result"]), (&json!("install"), &json!("ok")));
        assert!(line["changes"].as_array().unwrap().len() > 3, "{line}");
        assert!(!Path::new(DIRECTORY).exists(), "the container has no log of its own");
        command(install);
        assert_eq!(
            fs::read_to_string(root.join("run/smarter-cni/log")).unwrap(),
            text,
            "nothing was to be done"
        );

        let list = fs::read_to_string(root.join("etc/cni/net.d/0-smarter-bridge.conflist")).unwrap();
        let list: Value = serde_json::from_str(&list).unwrap();
        let levels: Vec<_> =
            list["plugins"].as_array().unwrap().iter().map(|plugin| &plugin["logLevel"]).collect();
        assert_eq!(levels, ["warn", "warn"]);
        let refused = command("install --root /run/host --log-level loud");
        assert_eq!(refused.status, 2);
        assert!(
            refused.stderr.contains("--log-level=loud: say off, error, warn, info or debug"),
            "{refused}"
        );
    });
}
