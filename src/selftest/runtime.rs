//! A container runtime in small: executes the plugins of a configuration list by their names, with the environment and
//! the standard input that the specification prescribes (CNI SPEC "Section 3: Execution of Network Configurations").

use std::fs;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Map, Value, json};

use super::world::{Host, World, plugin_directory};
use super::{Result, tried};
use crate::applet::{APPLETS, Applet};
use crate::conflist::DATA_DIR;
use crate::datapath::session::Session;
use crate::datapath::surplus;
use crate::file;
use crate::kernel::{RouteSocket, link};

#[derive(Debug)]
pub(super) struct Runtime {
    pub directory: PathBuf,
    list: Value,
}

impl Runtime {
    /// Links every plugin name to this binary.
    pub(super) fn prepare(_world: &World, list: Value) -> Result<Self> {
        let directory = plugin_directory();
        fs::create_dir_all(&directory).map_err(tried("make a plugin directory"))?;
        let binary = std::env::current_exe().map_err(tried("find this binary"))?;
        for (name, applet, _) in APPLETS {
            if matches!(applet, Applet::Plugin(_)) {
                std::os::unix::fs::symlink(&binary, directory.join(name))
                    .map_err(tried("link a plugin name"))?;
            }
        }
        Ok(Self { directory, list })
    }

    /// Runs the ADD chain and returns the pod's first address.
    pub(super) fn add(&self, pod: &Host) -> Result<IpAddr> {
        let result = self.chain("ADD", pod)?.ok_or("ADD printed no result")?;
        self.remember(pod, &result)?;
        let address =
            result["ips"][0]["address"].as_str().ok_or_else(|| format!("no address in {result}"))?;
        let address = address.split('/').next().unwrap_or_default();
        address.parse().map_err(|error| format!("address {address:?} of the result: {error}"))
    }

    pub(super) fn check(&self, pod: &Host) -> Result<()> {
        self.chain("CHECK", pod).map(drop)
    }

    /// Twice: a runtime repeats DEL, and the second must succeed too.
    pub(super) fn del(&self, pod: &Host) -> Result<()> {
        self.chain("DEL", pod)?;
        self.chain("DEL", pod).map(drop)
    }

    fn chain(&self, command: &str, pod: &Host) -> Result<Option<Value>> {
        let plugins = self.list["plugins"].as_array().cloned().unwrap_or_default();
        let mut previous = if command == "ADD" { None } else { self.recall(pod) };
        let ordered: Vec<_> =
            if command == "DEL" { plugins.iter().rev().collect() } else { plugins.iter().collect() };
        for plugin in ordered {
            let mut config = plugin.as_object().cloned().unwrap_or_default();
            self.complete(&mut config, pod, previous.as_ref());
            let output = self.execute(command, pod, &config)?;
            if command == "ADD" {
                previous = Some(serde_json::from_str(&output).map_err(tried("read the plugin's answer"))?);
            }
        }
        Ok(previous)
    }

    fn complete(&self, config: &mut Map<String, Value>, pod: &Host, previous: Option<&Value>) {
        for key in ["name", "cniVersion"] {
            config.insert(key.to_owned(), self.list[key].clone());
        }
        let capable = config.remove("capabilities").is_some_and(|wants| wants["portMappings"] == true);
        if let Some((host_port, container_port)) = pod.mapped_port.filter(|_| capable) {
            let mapping = json!({"hostPort": host_port, "containerPort": container_port, "protocol": "tcp"});
            config.insert("runtimeConfig".to_owned(), json!({ "portMappings": [mapping] }));
        }
        if let Some(previous) = previous {
            config.insert("prevResult".to_owned(), previous.clone());
        }
    }

    fn execute(&self, command: &str, pod: &Host, config: &Map<String, Value>) -> Result<String> {
        let plugin = config.get("type").and_then(Value::as_str).unwrap_or_default();
        let mut child = Command::new(self.directory.join(plugin))
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", container_id(pod))
            .env("CNI_NETNS", &pod.path)
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", &self.directory)
            .env("CNI_ARGS", format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=selftest;K8S_POD_NAME={}", pod.name))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(|error| format!("execute {plugin}: {error}"))?;
        let input = Value::Object(config.clone()).to_string();
        child
            .stdin
            .take()
            .map_or(Ok(()), |mut stdin| stdin.write_all(input.as_bytes()))
            .map_err(tried("configure the plugin"))?;
        let output = child.wait_with_output().map_err(tried("wait for the plugin"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            Ok(text)
        } else {
            Err(format!("{plugin} {command} failed: {}", in_one_line(&text)))
        }
    }

    /// libcni keeps the result of ADD for the other verbs; so do we.
    fn remember(&self, pod: &Host, result: &Value) -> Result<()> {
        fs::write(self.result_file(pod), result.to_string()).map_err(tried("keep the result"))
    }

    fn recall(&self, pod: &Host) -> Option<Value> {
        serde_json::from_slice(&file::bytes(&self.result_file(pod), file::MOST).ok()?).ok()
    }

    fn result_file(&self, pod: &Host) -> PathBuf {
        self.directory.join(format!("{}.result", pod.name))
    }

    /// Links of pods, leases, records and elements of rules must be gone. The bridge and the network's rule stay for the next pod.
    pub(super) fn nothing_left(&self, _world: &World) -> Result<()> {
        let mut socket = RouteSocket::open().map_err(|error| error.to_string())?;
        let links = link::all(&mut socket).map_err(|error| error.to_string())?;
        let left: Vec<_> =
            links.into_iter().map(|link| link.name).filter(|name| name.starts_with("veth")).collect();
        if !left.is_empty() {
            return Err(format!("links left: {}", left.join(", ")));
        }
        let network = self.list["name"].as_str().unwrap_or_default();
        let is_lease = |name: &str| name.parse::<IpAddr>().is_ok();
        none_of(&Path::new(DATA_DIR).join(network), "leases", is_lease)?;
        none_of(Path::new("/run/smarter-cni/attachments"), "attachment records", |_| true)?;
        let mut session = Session::open(None).map_err(|error| error.to_string())?;
        let present = surplus::observe::observe(&mut session).map_err(|error| error.to_string())?;
        let elements = present.entries.iter().map(|(entry, _)| format!("{} {{ {entry} }}", entry.set()));
        let checked = present.checked.iter().map(|port| format!("spoof_ports {{ {port} }}"));
        let left: Vec<_> = elements.chain(checked).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("rules left: {}", left.join(", "))) }
    }
}

fn none_of(directory: &Path, what: &str, counts: impl Fn(&str) -> bool) -> Result<()> {
    let Ok(entries) = fs::read_dir(directory) else { return Ok(()) };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let left: Vec<_> = names.filter(|name| counts(name)).collect();
    if left.is_empty() {
        Ok(())
    } else {
        Err(format!("{what} left in {}: {}", directory.display(), left.join(", ")))
    }
}

fn container_id(pod: &Host) -> String {
    format!("selftest-{}-{}", pod.name, std::process::id())
}

fn in_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
