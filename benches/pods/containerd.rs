//! A containerd of this bench alone, on a node of its own: network, plugins, images and state.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::Result;
use crate::cri::Cri;
use crate::peers;
use crate::plugins;
use crate::stage::Stage;

/// One file: the meter, which sleeps under this name.
const IMAGE: &str = "localhost/pause:latest";

#[derive(Debug)]
pub(crate) struct Containerd {
    pub(crate) cri: Cri,
    /// What the meter wrote about the plugins.
    pub(crate) metered: PathBuf,
    daemon: Child,
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // The process namespace ends whatever this leaves.
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// Where one is to run. The calling thread is on its node already.
#[derive(Debug)]
pub(crate) struct Site<'a> {
    /// On a disk, and not on an overlay: containerd makes overlays in it.
    pub(crate) directory: PathBuf,
    /// Short; names the network, too.
    pub(crate) name: &'a str,
    /// containerd, its shim and runc.
    pub(crate) runtime: &'a Path,
    pub(crate) plugins: &'a Stage,
    pub(crate) meter: &'a Path,
}

impl Site<'_> {
    pub(crate) fn start(&self) -> Result<Containerd> {
        let state = PathBuf::from(format!("/run/{}", self.name));
        let metered = state.join("metered");
        for directory in [&state.join("net.d"), &self.directory.join("plugins")] {
            fs::create_dir_all(directory)?;
        }
        self.wrap_plugins()?;
        fs::write(state.join("net.d/10-bench.conflist"), self.network().to_string())?;
        let (config, socket) = (state.join("config.toml"), state.join("containerd.sock"));
        fs::write(&config, self.configuration(&state))?;
        let log = File::create(state.join("log"))?;
        // The plugins find what they execute among their own files first.
        let runtime =
            ["usr/bin", "usr/sbin"].map(|dir| self.runtime.join(dir).display().to_string()).join(":");
        let path = format!("{}:{runtime}:{}", self.plugins.directory().display(), peers::search_path());
        let daemon = Command::new(self.runtime.join("usr/bin/containerd"))
            .arg("--config")
            .arg(config)
            .env("PATH", path)
            .env("METER_PLUGINS", self.plugins.directory())
            .env("METER_FILE", &metered)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .map_err(|error| format!("containerd: {error}"))?;
        let containerd = Containerd { cri: Cri { socket: socket.clone() }, metered, daemon };
        wait("containerd's socket", || socket.exists()).map_err(|error| with_log(&state, &error))?;
        self.import(&socket)?;
        wait("containerd", || containerd.cri.ready(IMAGE)).map_err(|error| with_log(&state, &error))?;
        Ok(containerd)
    }

    /// The meter under the name of every plugin.
    fn wrap_plugins(&self) -> Result<()> {
        let directory = self.directory.join("plugins");
        fs::copy(self.meter, directory.join("meter"))?;
        for plugin in plugins::NAMES {
            symlink("meter", directory.join(plugin))?;
        }
        Ok(())
    }

    fn network(&self) -> serde_json::Value {
        json!({
            "cniVersion": "1.0.0", "name": format!("bench-{}", self.name), "plugins": [
                {
                    "type": "bridge", "bridge": "br-bench", "isGateway": true, "isDefaultGateway": true, "ipMasq": true,
                    "ipam": { "type": "host-local", "subnet": "10.97.0.0/24" },
                },
                { "type": "portmap", "capabilities": { "portMappings": true } },
            ],
        })
    }

    /// `restrict_oom_score_adj`: where CAP_SYS_RESOURCE is missing no pod starts without it. The `opt` plugin would make
    /// /opt/containerd on the machine.
    fn configuration(&self, state: &Path) -> String {
        let (directory, state) = (self.directory.display(), state.display());
        format!(
            r#"
version = 3
root = "{directory}/root"
state = "{state}/state"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.tracing.processor.v1.otlp", "io.containerd.nri.v1.nri"]
[grpc]
address = "{state}/containerd.sock"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{IMAGE}"
[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["{directory}/plugins"]
conf_dir = "{state}/net.d"
"#
        )
    }

    /// Makes the image as `docker save` does, and containerd knows it.
    fn import(&self, socket: &Path) -> Result<()> {
        let at = self.directory.join("image");
        fs::create_dir_all(at.join("layer"))?;
        fs::copy(self.meter, at.join("layer/pause"))?;
        let tar = |archive: &str, from: &str, what: &[&str]| {
            let mut tar = Command::new("tar");
            tar.arg("--create")
                .arg("--file")
                .arg(at.join(archive))
                .arg("--directory")
                .arg(at.join(from))
                .args(what);
            output(&mut tar)
        };
        tar("layer.tar", "layer", &["--numeric-owner", "--owner", "0", "--group", "0", "pause"])?;
        let digest = output(Command::new("sha256sum").arg(at.join("layer.tar")))?;
        let digest = digest.split_whitespace().next().ok_or("no digest")?;
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let config = json!({
            "architecture": architecture, "os": "linux", "config": { "Cmd": ["/pause"] },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{digest}")] },
        });
        let manifest = json!([{ "Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"] }]);
        fs::write(at.join("config.json"), config.to_string())?;
        fs::write(at.join("manifest.json"), manifest.to_string())?;
        tar("image.tar", "", &["manifest.json", "config.json", "layer.tar"])?;
        let mut ctr = Command::new(self.runtime.join("usr/bin/ctr"));
        ctr.arg("--address")
            .arg(socket)
            .args(["--namespace", "k8s.io", "images", "import"])
            .arg(at.join("image.tar"));
        output(&mut ctr).map(drop)
    }
}

fn output(command: &mut Command) -> Result<String> {
    let out = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if out.status.success() {
        return Ok(String::from_utf8(out.stdout)?);
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&out.stderr)).into())
}

fn wait(what: &str, ready: impl Fn() -> bool) -> Result<(), String> {
    for _ in 0..600 {
        if ready() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(100));
    }
    Err(format!("{what} is not ready"))
}

fn with_log(state: &Path, error: &str) -> String {
    let log = fs::read_to_string(state.join("log")).unwrap_or_default();
    let last: Vec<_> = log.lines().rev().take(20).collect();
    format!("{error}; the last it said:\n{}", last.into_iter().rev().collect::<Vec<_>>().join("\n"))
}
