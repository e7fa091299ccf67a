//! A host to install to: a file tree with the mounts that a container gets of a real one.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::lab::{self, Netns, Node, Output, Place, Plugin};

pub(crate) const BIN: &str = "opt/cni/bin";
pub(super) const CONF: &str = "etc/cni/net.d";
pub(super) const CONFLIST: &str = "etc/cni/net.d/0-smarter-bridge.conflist";
pub(super) const OWN: [&str; 4] = ["smarter-bridge", "smarter-ipam", "smarter-portmap", "smarter-loopback"];

/// On a file system of the sandbox, so it goes with it.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) root: PathBuf,
}

impl Host {
    /// With /proc and /run of the sandbox mounted, as a container has the host's.
    pub(crate) fn new() -> Self {
        Node.run("mount -t tmpfs tmpfs /mnt");
        let root = PathBuf::from("/mnt/host");
        for sub in ["proc", "run", "var/lib", BIN, CONF, "tmp"] {
            fs::create_dir_all(root.join(sub)).expect("directories of the host");
        }
        symlink("/run", root.join("var/run")).expect("/var/run");
        Node.run("mount --rbind /proc /mnt/host/proc");
        // Namespaces that are pinned later must be seen there too.
        Node.run("mount --make-rshared /run");
        Node.run("mount --rbind /run /mnt/host/run");
        Self { root }
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    pub(super) fn read(&self, below: &str) -> String {
        fs::read_to_string(self.path(below)).unwrap_or_else(|e| panic!("{below}: {e}"))
    }

    pub(crate) fn write(&self, below: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(below), content).unwrap_or_else(|e| panic!("{below}: {e}"));
    }

    /// A file that can be executed.
    pub(super) fn write_program(&self, below: &str, content: impl AsRef<[u8]>) {
        self.write(below, content);
        fs::set_permissions(self.path(below), fs::Permissions::from_mode(0o755)).expect("chmod");
    }

    pub(crate) fn conflist(&self) -> Value {
        serde_json::from_str(&self.read(CONFLIST)).expect("the conflist is JSON")
    }

    /// `smarter-cni install --root <here> <line>`.
    pub(super) fn install(&self, line: &str) -> Output {
        self.install_by(&lab::binary(), line)
    }

    pub(super) fn install_by(&self, program: &Path, line: &str) -> Output {
        run(self.command(program, "install").args(line.split_whitespace()))
    }

    /// With settings as a ConfigMap gives them.
    pub(super) fn install_with(&self, variables: &[(&str, &str)], line: &str) -> Output {
        let mut command = self.command(&lab::binary(), "install");
        run(command.envs(variables.iter().copied()).args(line.split_whitespace()))
    }

    pub(crate) fn installed(&self, line: &str) -> Output {
        let out = self.install(line);
        assert_eq!(out.status, 0, "install {line}: {out}");
        out
    }

    pub(super) fn uninstall(&self, line: &str) -> Output {
        run(self.command(&lab::binary(), "uninstall").args(line.split_whitespace()))
    }

    /// With nothing in the environment.
    pub(super) fn command(&self, program: &Path, verb: &str) -> Command {
        let mut command = Command::new(program);
        command.env_clear().arg(verb).arg("--root").arg(&self.root).stdin(Stdio::null());
        command
    }

    /// Every file below the tree but those of other file systems: type, mode, and content or target.
    pub(super) fn snapshot(&self) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        for sub in ["opt", "etc", "var/lib", "tmp", "run/smarter-cni", "run/cni"] {
            walk(&self.root, &self.path(sub), &mut found, &|metadata, path| {
                let content = if metadata.is_symlink() {
                    format!("-> {}", fs::read_link(path).expect("a link").display())
                } else if metadata.is_file() {
                    format!("{} bytes, {:x}", metadata.len(), digest(path))
                } else {
                    String::new()
                };
                format!("{:o} {content}", metadata.mode())
            });
        }
        found
    }

    /// Which file it is and when it was written last: whether anything was touched.
    pub(super) fn identities(&self) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        for sub in ["opt", "etc", "var/lib"] {
            walk(&self.root, &self.path(sub), &mut found, &|metadata, _| {
                format!("{} {}.{}", metadata.ino(), metadata.ctime(), metadata.ctime_nsec())
            });
        }
        found
    }

    /// A plugin as the runtime calls it after the installation, with the first plugin's configuration of the list.
    pub(super) fn plugin(&self, verb: &str, container: &str, pod: &Netns) -> Output {
        let list = self.conflist();
        self.plugin_with(&list, verb, container, pod)
    }

    pub(super) fn plugin_with(&self, list: &Value, verb: &str, container: &str, pod: &Netns) -> Output {
        let mut config = list["plugins"][0].clone();
        config["name"] = list["name"].clone();
        config["cniVersion"] = list["cniVersion"].clone();
        let name = config["type"].as_str().expect("a type").to_owned();
        Plugin::new(self.path(BIN), &name)
            .command(verb)
            .container(container)
            .ifname("eth0")
            .netns(pod)
            .json(&config)
            .run()
    }
}

fn run(command: &mut Command) -> Output {
    let done = command.output().expect("smarter-cni");
    let stdout = String::from_utf8_lossy(&done.stdout).into_owned();
    Output {
        status: done.status.code().unwrap_or(-1),
        json: serde_json::from_str(&stdout).unwrap_or(Value::Null),
        stdout,
        stderr: String::from_utf8_lossy(&done.stderr).into_owned(),
    }
}

fn walk(
    root: &Path,
    at: &Path,
    found: &mut BTreeMap<String, String>,
    look: &dyn Fn(&fs::Metadata, &Path) -> String,
) {
    let Ok(metadata) = fs::symlink_metadata(at) else { return };
    let name = at.strip_prefix(root).expect("below the root").display().to_string();
    found.insert(name, look(&metadata, at));
    if metadata.is_dir() {
        for entry in fs::read_dir(at).into_iter().flatten().flatten() {
            walk(root, &entry.path(), found, look);
        }
    }
}

fn digest(path: &Path) -> u64 {
    use std::hash::Hasher;
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(&fs::read(path).expect("a file"));
    hasher.finish()
}

/// Links, addresses, routes, rules and the switches of forwarding.
pub(crate) fn kernel() -> Value {
    let sysctls = ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding", "net.ipv4.conf.all.route_localnet"];
    json!({
        "links": Node.ip("link").as_array().expect("links").iter().map(|l| l["ifname"].clone()).collect::<Vec<_>>(),
        // Not whether there is a carrier: a bridge notices a moment later that its last port is gone.
        "addresses": Node.run("ip -br addr").lines().map(without_state).collect::<Vec<_>>(),
        "routes": Node.run("ip route show table all").replace(" linkdown", "").lines().filter(|l| !is_automatic(l)).collect::<Vec<_>>(),
        "rules": Node.run("nft list ruleset"),
        "sysctls": sysctls.map(|name| Node.run(&format!("sysctl {name}"))),
    })
}

/// Link-local addresses of IPv6 and what belongs to them come a moment after their link.
fn is_automatic(text: &str) -> bool {
    text.contains("fe80:") || text.contains("ff00::")
}

fn without_state(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().filter(|word| !is_automatic(word)).collect();
    [&words[..1], &words[2..]].concat().join(" ")
}

/// Another build: what an ELF loader does not read may differ.
pub(crate) fn another_build(of: &Path, directory: &Path) -> PathBuf {
    let path = directory.join("another-build");
    let mut bytes = fs::read(of).expect("the program under test");
    bytes.extend(b"another build");
    fs::write(&path, bytes).expect("another build");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
    path
}

/// Whether every plugin there answers, and the configuration is whole: `None` when it is not there at all.
pub(super) fn works(host: &Host) -> Option<()> {
    let text = fs::read_to_string(host.path(CONFLIST)).ok()?;
    let list: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("half a conflist: {e}: {text}"));
    assert_eq!(list["plugins"].as_array().map(Vec::len), Some(2));
    for name in OWN {
        answers(&host.path(BIN).join(name));
    }
    Some(())
}

pub(super) fn answers(plugin: &Path) {
    let directory = plugin.parent().expect("a directory");
    let name = plugin.file_name().and_then(|name| name.to_str()).expect("a name");
    let out = Plugin::new(directory, name).command("VERSION").run();
    assert_eq!(out.status, 0, "{}: {out}", plugin.display());
    assert!(out.stdout.contains("supportedVersions"), "{out}");
}
