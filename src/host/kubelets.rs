//! What the kubelets that run on this node tell pods about name servers: their options, and the files of programs that carry
//! a kubelet in themselves.
//!
//! The files are YAML or JSON; of them only the one list is read, wherever it stands.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::root::Root;
use crate::file;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Kubelet,
    K3s,
    Rke2,
    Microk8s,
    KubeEdge,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kubelet => "kubelet",
            Self::K3s => "k3s",
            Self::Rke2 => "rke2",
            Self::Microk8s => "microk8s",
            Self::KubeEdge => "KubeEdge",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kubelet {
    pub kind: Kind,
    /// The name servers of pods, in the order in which they were said; empty where nobody said any.
    pub servers: Vec<String>,
    /// The file is YAML that says nothing of them: a line can be added. A key twice, or a line behind JSON, keeps a kubelet from
    /// starting.
    pub is_open: bool,
    /// The file that says so, or would; `None` is the command line.
    pub file: Option<PathBuf>,
}

/// Where they have their options when nobody says otherwise.
const MICROK8S: &str = "/var/snap/microk8s/current/args/kubelet";
const KUBEEDGE: &str = "/etc/kubeedge/config/edgecore.yaml";
const K3S: &str = "/etc/rancher/k3s/config.yaml";
const K3S_MORE: &str = "/etc/rancher/k3s/config.yaml.d";

/// Those in the network namespace of whoever asks: others are of other nodes, in a test or in kind. Each once.
pub fn running(root: &Root) -> Vec<Kubelet> {
    let mut found: Vec<Kubelet> = Vec::new();
    let Some(here) = namespace(Path::new("/proc/thread-self")) else { return found };
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let is_process =
            process.file_name().to_str().is_some_and(|name| name.bytes().all(|b| b.is_ascii_digit()));
        if !is_process {
            continue;
        }
        let Ok(line) = file::bytes(&process.path().join("cmdline"), file::MOST) else { continue };
        let line = String::from_utf8_lossy(&line);
        let words: Vec<&str> = line.split(['\0', ' ']).filter(|word| !word.is_empty()).collect();
        let Some(kind) = kind(&words).filter(|_| namespace(&process.path()) == Some(here)) else { continue };
        let kubelet = told(root, kind, &words);
        if !found.contains(&kubelet) {
            found.push(kubelet);
        }
    }
    found
}

fn namespace(process: &Path) -> Option<(u64, u64)> {
    let namespace = fs::metadata(process.join("ns/net")).ok()?;
    Some((namespace.dev(), namespace.ino()))
}

/// Which of them a command line is; rke2 executes a kubelet of its own.
fn kind(words: &[&str]) -> Option<Kind> {
    let path = words.first()?;
    let carries = || words.iter().any(|word| ["server", "agent"].contains(word));
    match path.rsplit('/').next()? {
        "kubelet" if path.contains("/rke2/") => Some(Kind::Rke2),
        "kubelet" => Some(Kind::Kubelet),
        "kubelite" => Some(Kind::Microk8s),
        "k3s" | "k3s-server" | "k3s-agent" if carries() || path.contains('-') => Some(Kind::K3s),
        "edgecore" => Some(Kind::KubeEdge),
        _ => None,
    }
}

fn told(root: &Root, kind: Kind, words: &[&str]) -> Kubelet {
    let text = |path: &Path| root.read_text(path).ok().flatten().unwrap_or_default();
    let by_option = servers(&options(words, "cluster-dns"));
    let config = || options(words, "config").last().map(PathBuf::from);
    match kind {
        Kind::Kubelet | Kind::Rke2 if !by_option.is_empty() => {
            Kubelet { kind, servers: by_option, file: None, is_open: false }
        }
        Kind::Kubelet | Kind::Rke2 => {
            let file = config();
            let text = file.as_deref().map(text).unwrap_or_default();
            let said = in_configuration(&text);
            let is_open = said.is_none() && !text.trim().is_empty();
            Kubelet { kind, servers: servers(&said.unwrap_or_default()), file, is_open }
        }
        Kind::Microk8s => {
            let arguments = text(Path::new(MICROK8S));
            let words: Vec<&str> = arguments.split_whitespace().collect();
            let servers = servers(&options(&words, "cluster-dns"));
            Kubelet { kind, servers, file: Some(MICROK8S.into()), is_open: false }
        }
        Kind::KubeEdge => {
            let file = config().unwrap_or_else(|| KUBEEDGE.into());
            let said = list(&text(&file), "clusterDNS").unwrap_or_default();
            Kubelet { kind, servers: servers(&said), file: Some(file), is_open: false }
        }
        Kind::K3s => {
            let more = root.list(Path::new(K3S_MORE)).unwrap_or_default();
            let mut more: Vec<PathBuf> = more.iter().map(|name| Path::new(K3S_MORE).join(name)).collect();
            more.retain(|path| path.extension().is_some_and(|ending| ending == "yaml"));
            more.sort();
            let files: Vec<PathBuf> = std::iter::once(PathBuf::from(K3S)).chain(more).collect();
            let texts: Vec<String> = files.iter().map(|file| text(file)).collect();
            Kubelet { kind, servers: of_k3s(words, &texts), file: Some(K3S.into()), is_open: false }
        }
    }
}

/// `KubeletConfiguration`; `None` where it has not the key, and where a line more is no harm.
fn in_configuration(text: &str) -> Option<Vec<String>> {
    let Ok(Value::Object(object)) = serde_json::from_str(text) else { return list(text, "clusterDNS") };
    let said = object.get("clusterDNS").and_then(Value::as_array).into_iter().flatten();
    Some(said.filter_map(|server| server.as_str().map(str::to_owned)).collect())
}

/// What it hands to its kubelet counts more than its own option, its command line more than its files, and of those the last.
fn of_k3s(words: &[&str], files: &[String]) -> Vec<String> {
    let handed = |arguments: Vec<String>| -> Vec<String> {
        let of = |argument: &String| {
            argument.trim_start_matches("--").strip_prefix("cluster-dns=").map(str::to_owned)
        };
        arguments.iter().filter_map(of).collect()
    };
    let all = |text: &String, key| list(text, key).unwrap_or_default();
    let in_files = |read: &dyn Fn(&String) -> Vec<String>| -> Vec<String> {
        files.iter().rev().map(read).find(|found| !found.is_empty()).unwrap_or_default()
    };
    let sources = [
        handed(options(words, "kubelet-arg")),
        in_files(&|text| handed([all(text, "kubelet-arg"), all(text, "kubelet-arg+")].concat())),
        options(words, "cluster-dns"),
        in_files(&|text| all(text, "cluster-dns")),
    ];
    servers(&sources.into_iter().find(|found| !found.is_empty()).unwrap_or_default())
}

/// Several may stand in one word.
fn servers(said: &[String]) -> Vec<String> {
    let words = said.iter().flat_map(|words| words.split(','));
    words.map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Every `--key value` and `--key=value`.
fn options(words: &[&str], key: &str) -> Vec<String> {
    let value = |(place, word): (usize, &&str)| {
        let rest = word.trim_start_matches('-').strip_prefix(key).filter(|_| word.starts_with('-'))?;
        match rest.strip_prefix('=') {
            Some(value) => Some(value.to_owned()),
            None if rest.is_empty() => words.get(place + 1).map(|word| (*word).to_owned()),
            None => None,
        }
    };
    words.iter().enumerate().filter_map(value).collect()
}

/// The values behind `key:`, in whichever of YAML's forms; at whatever depth. `None` where there is no such key.
fn list(yaml: &str, key: &str) -> Option<Vec<String>> {
    let plain = |word: &str| {
        let word = word.split(" #").next().unwrap_or_default().trim();
        word.trim_matches(['"', '\'']).to_owned()
    };
    let mut lines = yaml.lines();
    let is_it = |line: &&str| line.trim_start().strip_prefix(key).is_some_and(|rest| rest.starts_with(':'));
    let line = lines.find(is_it)?;
    let value = line.split_once(':').map_or("", |(_, value)| value).trim();
    if let Some(inner) = value.strip_prefix('[') {
        let inner = inner.split(']').next().unwrap_or_default();
        return Some(inner.split(',').map(plain).filter(|word| !word.is_empty()).collect());
    }
    if !value.is_empty() && !value.starts_with('#') {
        return Some(vec![plain(value)]);
    }
    let items = lines.map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Some(items.map_while(|line| line.strip_prefix('-')).map(plain).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_list_is_read_in_every_form() {
        for yaml in [
            "kind: KubeletConfiguration\nclusterDNS:\n- 10.96.0.10\n- \"10.96.0.11\" # second\nclusterDomain: cluster.local\n",
            "  tailoredKubeletConfig:\n    clusterDNS:\n      - 10.96.0.10\n\n      - 10.96.0.11\n    x: y\n",
            "clusterDNS: [10.96.0.10, '10.96.0.11']\n",
        ] {
            assert_eq!(list(yaml, "clusterDNS").unwrap(), ["10.96.0.10", "10.96.0.11"], "{yaml}");
        }
        assert_eq!(list("clusterDNS: 10.96.0.10 # one\n", "clusterDNS").unwrap(), ["10.96.0.10"]);
        let empty = "clusterDNSx: 1\n#clusterDNS: 2\nclusterDNS:\nother:\n- 3\n";
        assert_eq!(list(empty, "clusterDNS").unwrap(), [""; 0]);
        assert_eq!(list("clusterDNSx: 1\n#clusterDNS: 2\n", "clusterDNS"), None);
    }

    #[test]
    fn a_line_is_added_only_where_there_is_room_for_it() {
        assert_eq!(in_configuration("kind: KubeletConfiguration\n"), None);
        for taken in [
            "clusterDNS: []\n",
            "clusterDNS:\n",
            "{\"kind\": \"KubeletConfiguration\"}",
            "{\"clusterDNS\": []}\n",
        ] {
            assert_eq!(in_configuration(taken), Some(Vec::new()), "{taken}");
        }
        let json = "{\n  \"clusterDNS\": [\"10.96.0.10\"]\n}\n";
        assert_eq!(in_configuration(json).unwrap(), ["10.96.0.10"]);
    }

    #[test]
    fn a_command_line_says_which_program_it_is() {
        let of = |line: &str| kind(&line.split(' ').collect::<Vec<_>>());
        assert_eq!(of("/usr/bin/kubelet --config=/var/lib/kubelet/config.yaml"), Some(Kind::Kubelet));
        assert_eq!(of("/var/lib/rancher/rke2/bin/kubelet --x"), Some(Kind::Rke2));
        assert_eq!(of("/usr/local/bin/k3s agent"), Some(Kind::K3s));
        assert_eq!(of("/usr/local/bin/k3s kubectl get pods"), None);
        assert_eq!(of("/snap/microk8s/1/kubelite --x"), Some(Kind::Microk8s));
        assert_eq!(of("edgecore"), Some(Kind::KubeEdge));
        assert_eq!(of("sh -c kubelet"), None);
    }

    #[test]
    fn what_k3s_hands_to_its_kubelet_counts_most() {
        let file = |text: &str| vec![text.to_owned()];
        let own = file("cluster-dns: 10.43.0.10\n");
        assert_eq!(of_k3s(&["k3s", "server"], &own), ["10.43.0.10"]);
        assert_eq!(
            of_k3s(&["k3s", "server", "--cluster-dns=169.254.0.2,10.43.0.10"], &own),
            ["169.254.0.2", "10.43.0.10"]
        );
        let handed = "cluster-dns: 10.43.0.10\nkubelet-arg+: [\"cluster-dns=169.254.0.2\", \"v=2\"]\n";
        assert_eq!(of_k3s(&["k3s", "server"], &file(handed)), ["169.254.0.2"]);
        let line = ["k3s", "agent", "--kubelet-arg", "cluster-dns=10.1.1.1", "--kubelet-arg=v=2"];
        assert_eq!(of_k3s(&line, &file(handed)), ["10.1.1.1"]);
        assert_eq!(of_k3s(&["k3s", "agent"], &[]), [""; 0]);
    }

    proptest! {
        #[test]
        fn no_text_makes_reading_panic(text in "(clusterDNS|cluster-dns|kubelet-arg|--|[-:='\"#\\[\\], \n\\\\é]|.){0,24}") {
            let _ = in_configuration(&text);
            let words: Vec<&str> = text.split(' ').collect();
            let _ = (kind(&words), of_k3s(&words, std::slice::from_ref(&text)));
        }
    }
}
