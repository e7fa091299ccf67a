//! A containerd of one test: started, asked over the interface of kubelet, killed and started again.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use smarter_cni::host::cri::{self, Status};

use super::release::Release;
use crate::cri::{Cri, Pod, Sandbox};
use crate::image;
use crate::lab::eventually;

/// Generous: a machine that is busy with something else is no fault of containerd's.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Where it looks without being told.
pub(super) const CONFIG: &str = "/etc/containerd/config.toml";

/// Ends, with all its pods, when the sandbox does.
#[derive(Debug)]
pub(crate) struct Containerd {
    pub(crate) release: Release,
    dir: PathBuf,
    config: PathBuf,
    daemon: Child,
    pub(crate) cri: Cri,
}

impl Containerd {
    /// Starts it as a node has it before any network: its configuration where everybody looks for it, the directories of
    /// CNI by default. The caller keeps the machine's /etc and /opt away.
    pub(crate) fn start_on_bare_node(release: Release) -> Self {
        let dir = Path::new("/run/containerd");
        Self::start_as_a_node_has_it(release, &release.format().bare(dir), dir)
    }

    /// The same with another configuration. Nothing of it is waited for but that it answers.
    pub(crate) fn start_as_a_node_has_it(release: Release, configuration: &str, dir: &Path) -> Self {
        for path in [dir, Path::new("/etc/containerd")] {
            fs::create_dir_all(path).expect("directories of containerd");
        }
        let config = PathBuf::from(CONFIG);
        fs::write(&config, configuration).expect("config.toml");
        let containerd = Self::spawned(release, dir, config);
        containerd.wait(|cri| cri.conditions().is_some());
        containerd.import(&image::archive(dir));
        containerd
    }

    /// Starts it with these networks and imports the image. `plugins` is where the CNI plugins are.
    pub(crate) fn start(release: Release, plugins: &Path, conflist: &Value) -> Self {
        let dir = Self::directory();
        let configuration = release.format().with_directories(&dir, plugins);
        Self::start_with(release, &configuration, &[conflist])
    }

    /// The same with a configuration of the test's own.
    pub(crate) fn start_with(release: Release, configuration: &str, conflists: &[&Value]) -> Self {
        let dir = Self::directory();
        for (place, conflist) in conflists.iter().enumerate() {
            fs::write(dir.join(format!("net.d/1{place}-lab.conflist")), conflist.to_string())
                .expect("the network's configuration");
        }
        let containerd = Self::with(release, configuration);
        containerd.wait(Cri::ready);
        containerd.import(&image::archive(&containerd.dir));
        containerd
    }

    /// Starts it with this configuration and waits for nothing.
    pub(super) fn with(release: Release, configuration: &str) -> Self {
        let dir = Self::directory();
        let config = dir.join("config.toml");
        fs::write(&config, configuration).expect("config.toml");
        Self::spawned(release, &dir, config)
    }

    pub(super) fn spawned(release: Release, dir: &Path, config: PathBuf) -> Self {
        let cri = Cri::new(dir.join("containerd.sock"));
        Self { release, daemon: spawn(release, &config, dir), cri, dir: dir.to_owned(), config }
    }

    /// Below the sandbox's own /run: in memory, and gone with it.
    pub(super) fn directory() -> PathBuf {
        let dir = PathBuf::from("/run/lab-containerd");
        fs::create_dir_all(dir.join("net.d")).expect("directories of containerd");
        dir
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.dir.join("containerd.sock")
    }

    /// Makes an image in an archive known.
    pub(crate) fn import(&self, archive: &Path) {
        let out = self
            .release
            .command("ctr")
            .arg("--address")
            .arg(self.socket())
            .args(["--namespace", "k8s.io", "images", "import"])
            .arg(archive)
            .output()
            .expect("ctr, of containerd's package");
        assert!(out.status.success(), "import {}: {out:?}", archive.display());
    }

    /// Waits until it can be asked as our programs ask.
    pub(super) fn answers(&self) {
        eventually("containerd answers", Duration::from_mins(1), || {
            cri::status(&self.socket(), PATIENCE).is_ok()
        });
    }

    pub(super) fn says(&self) -> Status {
        cri::status(&self.socket(), PATIENCE).unwrap_or_else(|e| panic!("{e}:\n{}", self.log()))
    }

    fn wait(&self, ready: impl Fn(&Cri) -> bool) {
        for _ in 0..600 {
            if ready(&self.cri) {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("containerd is not ready:\n{}", self.log());
    }

    /// What it has written since the test began.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// Kills the daemon as a crash does (its pods go on) and starts it again.
    pub(crate) fn crash_and_restart(&mut self, meanwhile: impl FnOnce()) {
        self.kill();
        meanwhile();
        self.start_again();
        self.wait(Cri::ready);
    }

    /// Waits until it answers, whatever it says.
    pub(crate) fn start_again(&mut self) {
        self.daemon = spawn(self.release, &self.config, &self.dir);
        self.wait(|cri| cri.conditions().is_some());
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.daemon.try_wait().expect("its state").is_some()
    }

    pub(crate) fn kill(&mut self) {
        self.daemon.kill().expect("kill containerd");
        self.daemon.wait().expect("containerd ends");
    }

    pub(crate) fn run_pod(&self, pod: &Pod) -> Sandbox {
        self.cri.run_pod(pod).unwrap_or_else(|e| panic!("pod {}: {e}", pod.name))
    }

    /// As a kubelet ends a pod whose network may be taken away as soon as no pod has it: containerd 2 calls the plugins once
    /// more when it forgets a sandbox, and without any network it says so. A kubelet then comes back when there is one.
    pub(crate) fn end_pod(&self, sandbox: &Sandbox) {
        self.cri.stop_pod(&sandbox.id).unwrap_or_else(|e| panic!("stop {}: {e}", sandbox.id));
        if let Err(error) = self.cri.remove_pod(&sandbox.id) {
            let error = error.to_string();
            assert!(error.contains("cni plugin not initialized"), "remove {}: {error}", sandbox.id);
        }
    }

    pub(crate) fn remove_pod(&self, sandbox: &Sandbox) {
        self.cri.stop_pod(&sandbox.id).unwrap_or_else(|e| panic!("stop {}: {e}", sandbox.id));
        self.cri.remove_pod(&sandbox.id).unwrap_or_else(|e| panic!("remove {}: {e}", sandbox.id));
    }
}

fn spawn(release: Release, config: &Path, dir: &Path) -> Child {
    let log = File::options().create(true).append(true).open(dir.join("log")).expect("a log file");
    let mut command = release.command("containerd");
    // It does without this one, but not when it is told to take it.
    if config != Path::new(CONFIG) {
        command.arg("--config").arg(config);
    }
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("one more handle"))
        .stderr(log)
        .spawn()
        .expect("containerd, from the package of that name")
}
