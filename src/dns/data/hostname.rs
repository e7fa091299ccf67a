//! The hostnames of pods, from the files that runtimes keep for them: CNI's arguments do not have them.
//!
//! containerd writes `hostname` into the sandbox's directory right after the ADD and before anything runs in it
//! (setupSandboxFiles in its internal/cri/server/podsandbox), CRI-O into its `userdata` (server/sandbox_run_linux.go), and the
//! kubelet writes `etc-hosts` before the first container starts (kubelet_pods.go). Whoever is in there is a stranger: names
//! are what hosts may be called or nothing.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::known::{Hostname, Known};
use crate::dns::name::Label;
use crate::file;

/// `<sandbox>/hostname` below them: containerd, as k3s, RKE2, microk8s and k0s have it.
const SANDBOXES: &[&str] = &[
    "/var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes",
    "/var/lib/rancher/k3s/agent/containerd/io.containerd.grpc.v1.cri/sandboxes",
    "/var/lib/rancher/rke2/agent/containerd/io.containerd.grpc.v1.cri/sandboxes",
    "/var/snap/microk8s/common/var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes",
    "/var/lib/k0s/containerd/io.containerd.grpc.v1.cri/sandboxes",
];
/// `<sandbox>/userdata/hostname` below them: CRI-O, with both of its drivers.
const USERDATA: &[&str] =
    &["/run/containers/storage/overlay-containers", "/run/containers/storage/vfs-containers"];
/// `<uid>/etc-hosts` below them.
const PODS: &[&str] = &[
    "/var/lib/kubelet/pods",
    "/var/lib/edged/pods",
    "/var/snap/microk8s/common/var/lib/kubelet/pods",
    "/var/lib/k0s/kubelet/pods",
];

/// A hostname has 64 bytes at most (uname(2)).
const LONGEST_HOSTNAME: usize = 256;
const LONGEST_HOSTS: usize = 64 << 10;

/// Where this node's runtimes have them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    sandboxes: Vec<PathBuf>,
    userdata: Vec<PathBuf>,
    pods: Vec<PathBuf>,
}

impl Places {
    /// `root` is `/`.
    pub(crate) fn below(root: &Path) -> Self {
        let all = |paths: &[&str]| paths.iter().map(|path| root.join(path.trim_start_matches('/'))).collect();
        Self { sandboxes: all(SANDBOXES), userdata: all(USERDATA), pods: all(PODS) }
    }

    /// Whether there is any of them on this node.
    pub(super) fn exist(&self) -> bool {
        [&self.sandboxes, &self.userdata, &self.pods].into_iter().flatten().any(|path| path.is_dir())
    }

    /// In which there is something for each sandbox.
    pub(super) fn of_sandboxes(&self) -> impl Iterator<Item = &Path> {
        self.sandboxes.iter().chain(&self.userdata).map(PathBuf::as_path)
    }

    /// The runtime's word counts; the kubelet's file has the subdomain besides.
    pub(super) fn find(&self, known: &Known) -> Option<Hostname> {
        let of_runtime = self.of_runtime(&known.container);
        let of_kubelet = known.uid.as_deref().and_then(|uid| self.of_kubelet(uid, &known.addresses));
        match (of_runtime, of_kubelet) {
            (Some(host), Some(other)) if other.host == host => Some(other),
            (Some(host), _) => Some(Hostname { host, subdomain: None }),
            (None, other) => other,
        }
    }

    /// The pod's resolv.conf, which the runtime writes beside its hostname.
    pub(crate) fn resolv_conf(&self, container: &str) -> Option<String> {
        let container = path_part(container)?;
        let sandboxes = self.sandboxes.iter().map(|place| place.join(container).join("resolv.conf"));
        let userdata = self.userdata.iter().map(|place| place.join(container).join("userdata/resolv.conf"));
        let read = |path: PathBuf| file::bytes(&path, LONGEST_HOSTS).ok();
        let bytes = sandboxes.chain(userdata).find_map(read)?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn of_runtime(&self, container: &str) -> Option<Label> {
        let container = path_part(container)?;
        let sandboxes = self.sandboxes.iter().map(|place| place.join(container).join("hostname"));
        let userdata = self.userdata.iter().map(|place| place.join(container).join("userdata/hostname"));
        let read = |path: PathBuf| file::bytes(&path, LONGEST_HOSTNAME).ok();
        sandboxes.chain(userdata).find_map(read).and_then(|bytes| hostname(&bytes))
    }

    fn of_kubelet(&self, uid: &str, addresses: &[IpAddr]) -> Option<Hostname> {
        let uid = path_part(uid)?;
        let read = |place: &PathBuf| file::bytes(&place.join(uid).join("etc-hosts"), LONGEST_HOSTS).ok();
        self.pods.iter().find_map(read).and_then(|bytes| in_hosts(&bytes, addresses))
    }
}

/// What can be one element of a path and leads nowhere else.
fn path_part(text: &str) -> Option<&str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    ((1..=128).contains(&text.len()) && text.bytes().all(plain) && !text.starts_with('.')).then_some(text)
}

/// The first label: with `setHostnameAsFQDN` the domain stands behind it.
fn hostname(bytes: &[u8]) -> Option<Label> {
    let text = std::str::from_utf8(bytes).ok()?.trim();
    Label::parse(text.split('.').next()?)
}

/// `10.77.0.7 web.shop.ns1.svc.cluster.local web`, or without what stands in the middle.
fn in_hosts(bytes: &[u8], addresses: &[IpAddr]) -> Option<Hostname> {
    let text = std::str::from_utf8(bytes).ok()?;
    let of_line = |line: &str| {
        let mut words = line.split('#').next()?.split_whitespace();
        let address: IpAddr = words.next()?.parse().ok()?;
        if !addresses.contains(&address) {
            return None;
        }
        let names: Vec<&str> = words.collect();
        let host = Label::parse(names.last()?.split('.').next()?)?;
        let whole = names.first().filter(|_| names.len() > 1).map(|name| name.split('.').collect::<Vec<_>>());
        let subdomain = whole
            .filter(|labels| labels.get(3) == Some(&"svc"))
            .and_then(|labels| Label::parse(labels.get(1)?));
        Some(Hostname { host, subdomain })
    };
    text.lines().find_map(of_line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(text: &str) -> Label {
        Label::parse(text).unwrap()
    }

    #[test]
    fn hostnames_are_read_as_runtimes_write_them() {
        assert_eq!(hostname(b"web-0\n"), Some(label("web-0")));
        assert_eq!(hostname(b"Web.shop.ns1.svc.cluster.local"), Some(label("web")));
        for bad in [&b""[..], b"\n", b"a b", b"-x", b"\xff", b"../x"] {
            assert_eq!(hostname(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn the_kubelets_file_has_the_subdomain() {
        let text = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n10.77.0.7\tweb-0.shop.ns1.svc.cluster.local\tweb-0\n";
        let found = in_hosts(text.as_bytes(), &[[10, 77, 0, 7].into()]).unwrap();
        assert_eq!((found.host, found.subdomain), (label("web-0"), Some(label("shop"))));
        let found = in_hosts(b"10.77.0.7\tweb-0\n", &[[10, 77, 0, 7].into()]).unwrap();
        assert_eq!((found.host, found.subdomain), (label("web-0"), None));
        assert_eq!(in_hosts(text.as_bytes(), &[[10, 77, 0, 8].into()]), None);
    }

    #[test]
    fn nothing_leads_out_of_the_directory() {
        for bad in ["", ".", "..", "../x", "a/b", ".x", "a\0b", &"x".repeat(129)] {
            assert_eq!(path_part(bad), None, "{bad:?}");
        }
        let sandbox = "0f".repeat(32);
        assert_eq!(path_part(&sandbox), Some(sandbox.as_str()));
    }
}
