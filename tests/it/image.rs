//! The one container image of the tests: busybox under the names of its applets, made here because no registry is in reach.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::lab::{Node, Place};

/// What containerd and podman call it after the import.
pub(crate) const NAME: &str = "localhost/lab:latest";

/// The only program in the image, static, from Debian's `busybox-static`.
const BUSYBOX: &str = "/bin/busybox";

const APPLETS: [&str; 9] = ["sh", "sleep", "cat", "ip", "nc", "ping", "wget", "nslookup", "true"];

/// Writes the image as `docker save` does and returns the archive. Its command sleeps, so it also serves as pause image.
pub(crate) fn archive(dir: &Path) -> PathBuf {
    let layer = dir.join("layer");
    for sub in ["bin", "etc", "proc", "sys", "dev", "tmp"] {
        fs::create_dir_all(layer.join(sub)).expect("directories of the image");
    }
    fs::copy(BUSYBOX, layer.join("bin/busybox")).expect("/bin/busybox, from busybox-static");
    for applet in APPLETS {
        symlink("busybox", layer.join("bin").join(applet)).expect("link an applet");
    }
    fs::write(layer.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n").expect("/etc/passwd of the image");
    let (at, layer) = (dir.display(), layer.display());
    Node.run(&format!(
        "tar --create --file {at}/layer.tar --directory {layer} --numeric-owner --owner 0 --group 0 ."
    ));
    let digest = Node.run(&format!("sha256sum {at}/layer.tar"));
    let digest = digest.split_whitespace().next().expect("a digest");

    let config = json!({
        "architecture": architecture(), "os": "linux",
        "config": {"Cmd": ["/bin/sleep", "1000000"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
    });
    let manifest = json!([{"Config": "config.json", "RepoTags": [NAME], "Layers": ["layer.tar"]}]);
    fs::write(dir.join("config.json"), config.to_string()).expect("config.json");
    fs::write(dir.join("manifest.json"), manifest.to_string()).expect("manifest.json");
    Node.run(&format!(
        "tar --create --file {at}/image.tar --directory {at} manifest.json config.json layer.tar"
    ));
    dir.join("image.tar")
}

/// This machine's architecture as image configurations call it (Go's GOARCH).
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}
