use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;

pub(super) fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/runtimes").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A host with nothing but what a test puts there.
struct Host {
    directory: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self, path: &str) -> PathBuf {
        let here = self.directory.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(here.parent().unwrap()).unwrap();
        here
    }

    fn with(self, path: &str, text: &str) -> Self {
        fs::write(self.path(path), text).unwrap();
        self
    }

    fn with_fixture(self, path: &str, name: &str) -> Self {
        self.with(path, &fixture(name))
    }

    fn with_directory(self, path: &str) -> Self {
        fs::create_dir_all(self.path(path)).unwrap();
        self
    }

    fn with_link(self, path: &str, target: &str) -> Self {
        symlink(target, self.path(path)).unwrap();
        self
    }

    fn root(&self) -> Root {
        Root::at(self.directory.path())
    }

    fn find(&self) -> Found {
        find(&self.root())
    }
}

fn only(runtime: Runtime) -> Found {
    Found { runtimes: vec![runtime], ..Found::default() }
}

/// What containerd is without a word in its configuration.
fn containerd() -> Runtime {
    Runtime {
        kind: Kind::Containerd,
        config: vec!["/etc/containerd/config.toml".into()],
        bin_dirs: vec!["/opt/cni/bin".into()],
        conf_dir: "/etc/cni/net.d".into(),
        otherwise: None,
        max_conf_num: Some(1),
        only_network: None,
        socket: "/run/containerd/containerd.sock".into(),
        evidence: "configuration /etc/containerd/config.toml".into(),
    }
}

const K3S_CONFIG: &str = "/var/lib/rancher/k3s/agent/etc/containerd/config.toml";

fn k3s() -> Runtime {
    Runtime {
        kind: Kind::K3s,
        config: vec![K3S_CONFIG.into()],
        bin_dirs: vec!["/var/lib/rancher/k3s/data/cni".into()],
        conf_dir: "/var/lib/rancher/k3s/agent/etc/cni/net.d".into(),
        otherwise: None,
        max_conf_num: Some(1),
        only_network: None,
        socket: "/run/k3s/containerd/containerd.sock".into(),
        evidence: format!("configuration {K3S_CONFIG}"),
    }
}

#[test]
fn an_empty_host_has_no_runtime() {
    assert_eq!(Host::new().find(), Found::default());
    // Directories that others make are no evidence.
    let host = Host::new()
        .with_directory("/etc/cni/net.d")
        .with_directory("/opt/cni/bin")
        .with_directory("/var/lib");
    assert_eq!(host.find(), Found::default());
}

#[test]
fn debian_names_its_plugin_directory() {
    let host = Host::new()
        .with_fixture("/etc/containerd/config.toml", "containerd-1.6-debian12/config.toml")
        .with("/usr/bin/containerd", "")
        .with("/run/containerd/containerd.sock", "");
    let expected = Runtime {
        bin_dirs: vec!["/usr/lib/cni".into()],
        evidence:
            "configuration /etc/containerd/config.toml, socket /run/containerd/containerd.sock, program \
                   /usr/bin/containerd"
                .into(),
        ..containerd()
    };
    assert_eq!(host.find(), only(expected));
}

#[test]
fn a_program_or_a_socket_alone_is_evidence() {
    for (trace, evidence) in [
        ("/usr/local/bin/containerd", "program /usr/local/bin/containerd"),
        ("/run/containerd/containerd.sock", "socket /run/containerd/containerd.sock"),
    ] {
        let expected = Runtime { config: Vec::new(), evidence: evidence.into(), ..containerd() };
        assert_eq!(Host::new().with(trace, "").find(), only(expected));
    }
}

#[test]
fn drop_ins_count_also_without_a_main_file() {
    let host = Host::new()
        .with("/usr/bin/containerd", "")
        .with_fixture("/etc/containerd/conf.d/10-cni.toml", "drop-ins/cni.toml")
        .with("/etc/containerd/conf.d/README", "not TOML");
    let expected = Runtime {
        config: vec!["/etc/containerd/conf.d/10-cni.toml".into()],
        bin_dirs: vec!["/usr/libexec/cni".into(), "/opt/cni/bin".into()],
        otherwise: Some(Places { bin_dirs: vec!["/opt/cni/bin".into()], conf_dir: "/etc/cni/net.d".into() }),
        evidence: "configuration /etc/containerd/conf.d/10-cni.toml, program /usr/bin/containerd; plugins in /opt/cni/bin and \
                   networks in /etc/cni/net.d for containerd before 2.2, which reads no drop-in without a main file"
            .into(),
        ..containerd()
    };
    assert_eq!(host.find(), only(expected));
}

/// The main file names Debian's directory, and another program's drop-in has a section of the CRI plugin without it.
#[test]
fn what_two_versions_read_differently_is_found_for_both() {
    let main = fixture("containerd-1.6-debian12/config.toml");
    let main = format!("imports = ['/etc/containerd/conf.d/*.toml']\n{main}");
    let host = Host::new()
        .with("/etc/containerd/config.toml", &main)
        .with_fixture("/etc/containerd/conf.d/99-nvidia.toml", "drop-ins/nvidia.toml");
    let found = host.find();
    assert_eq!(found.problems, []);
    let places: Vec<_> = found.runtimes[0].may_look_in().collect();
    let networks = Path::new("/etc/cni/net.d");
    let [one, two] = ["/opt/cni/bin", "/usr/lib/cni"].map(PathBuf::from);
    assert_eq!(places, [(networks, &[one][..]), (networks, &[two][..])]);
    let evidence = &found.runtimes[0].evidence;
    assert!(
        evidence.contains("; plugins in /usr/lib/cni and networks in /etc/cni/net.d for containerd 2,"),
        "{evidence}"
    );
}

#[test]
fn imports_are_followed_in_containerds_order() {
    let main =
        "version = 3\nimports = ['conf.d/*.toml', '/srv/last.toml']\n[grpc]\naddress = '/run/c.sock'\n";
    let cni = |dir: &str| format!("[plugins.'io.containerd.cri.v1.runtime'.cni]\nconf_dir = '{dir}'\n");
    let host = Host::new()
        .with("/etc/containerd/config.toml", main)
        .with("/etc/containerd/conf.d/20-b.toml", &cni("/b"))
        .with(
            "/etc/containerd/conf.d/10-a.toml",
            &format!("imports = ['../config.toml', 'deeper.toml']\n{}", cni("/a")),
        )
        .with(
            "/etc/containerd/conf.d/deeper.toml",
            "[plugins.'io.containerd.cri.v1.runtime'.cni]\nmax_conf_num = 0\n",
        )
        .with("/srv/last.toml", &cni("/last"));
    let found = host.find();
    let expected = Runtime {
        config: [
            "config.toml",
            "conf.d/10-a.toml",
            "conf.d/20-b.toml",
            "conf.d/deeper.toml",
            "/srv/last.toml",
        ]
        .iter()
        .map(|name| Path::new("/etc/containerd").join(name))
        .collect(),
        conf_dir: "/last".into(),
        max_conf_num: Some(0),
        socket: "/run/c.sock".into(),
        ..containerd()
    };
    assert_eq!(found, only(expected));
}

#[test]
fn circles_of_imports_end() {
    let host = Host::new()
        .with(
            "/etc/containerd/config.toml",
            "version = 2\nimports = ['config.toml', '/etc/containerd/b.toml']\n",
        )
        .with("/etc/containerd/b.toml", "imports = ['config.toml', 'b.toml', '*.toml']\n");
    assert_eq!(host.find().runtimes[0].config.len(), 2);
}

#[test]
fn dockers_containerd_is_left_out() {
    let host = Host::new()
        .with_fixture("/etc/containerd/config.toml", "docker-ce/config.toml")
        .with("/usr/bin/containerd", "");
    let found = host.find();
    assert_eq!((found.runtimes.len(), found.problems.len()), (0, 0));
    assert_eq!(
        found.left_out[0].to_string(),
        "containerd: runs no pods: disabled_plugins in /etc/containerd/config.toml switches its CRI plugin off \
         (configuration /etc/containerd/config.toml, program /usr/bin/containerd)"
    );
}

#[test]
fn yocto_has_its_plugins_below_libexec() {
    let yocto = Host::new().with("/usr/bin/containerd", "").with_directory("/usr/libexec/cni");
    let found = yocto.find();
    assert_eq!(found.runtimes[0].bin_dirs, [PathBuf::from("/usr/libexec/cni")]);
    assert!(
        found.runtimes[0].evidence.ends_with("this one exists (Yocto), and /opt/cni/bin does not"),
        "{found:?}"
    );
    // The link that newer recipes make is what containerd looks at; it is resolved when something is written.
    let newer = yocto.with_link("/opt/cni/bin", "/usr/libexec/cni/");
    let found = newer.find();
    assert_eq!(found.runtimes[0].bin_dirs, [PathBuf::from("/opt/cni/bin")]);
    assert_eq!(newer.root().resolve(&found.runtimes[0].bin_dirs[0]).unwrap(), Path::new("/usr/libexec/cni"));
    // What a configuration says counts, whatever there is.
    let told = Host::new()
        .with_directory("/usr/libexec/cni")
        .with_fixture("/etc/containerd/config.toml", "containerd-1.6-debian12/config.toml");
    assert_eq!(told.find().runtimes[0].bin_dirs, [PathBuf::from("/usr/lib/cni")]);
    assert_eq!(told.find().runtimes[0].evidence, "configuration /etc/containerd/config.toml");
}

#[test]
fn k3s_says_where_its_plugins_are() {
    for name in ["k3s-1.31", "k3s-1.34"] {
        let host = Host::new().with_fixture(K3S_CONFIG, &format!("{name}/config.toml"));
        assert_eq!(host.find(), only(k3s()), "{name}");
    }
    let host = Host::new()
        .with_fixture(K3S_CONFIG, "k3s-1.20/config.toml")
        .with("/usr/local/bin/k3s", "")
        .with("/run/k3s/containerd/containerd.sock", "");
    let found = host.find();
    let own = found.runtimes[0].bin_dirs[0].to_str().unwrap();
    assert!(own.starts_with("/var/lib/rancher/k3s/data/6fdab59c") && own.ends_with("/bin"), "{own}");
    assert_eq!(found.problems, []);
    assert_eq!(
        found.runtimes[0].evidence,
        format!(
            "configuration {K3S_CONFIG}, socket /run/k3s/containerd/containerd.sock, program /usr/local/bin/k3s"
        )
    );
}

#[test]
fn k3s_without_flannel_is_containerd_with_its_defaults() {
    let host = Host::new().with_fixture(K3S_CONFIG, "k3s-1.34-no-flannel/config.toml");
    let expected =
        Runtime { bin_dirs: vec!["/opt/cni/bin".into()], conf_dir: "/etc/cni/net.d".into(), ..k3s() };
    assert_eq!(host.find(), only(expected));
}

#[test]
fn a_moved_link_of_k3s_leads_to_the_new_place() {
    // As people write it into the template of k3s, so that it outlives an upgrade.
    let written = fixture("k3s-1.31/config.toml").replace("/data/cni", "/data/current/bin");
    let host = Host::new()
        .with(K3S_CONFIG, &written)
        .with_link("/var/lib/rancher/k3s/data/current", "/var/lib/rancher/k3s/data/one")
        .with_directory("/var/lib/rancher/k3s/data/one/bin")
        .with_directory("/var/lib/rancher/k3s/data/two/bin");
    let resolved = || host.root().resolve(&host.find().runtimes[0].bin_dirs[0]).unwrap();
    assert_eq!(resolved(), Path::new("/var/lib/rancher/k3s/data/one/bin"));
    fs::remove_file(host.path("/var/lib/rancher/k3s/data/current")).unwrap();
    symlink("/var/lib/rancher/k3s/data/two", host.path("/var/lib/rancher/k3s/data/current")).unwrap();
    assert_eq!(resolved(), Path::new("/var/lib/rancher/k3s/data/two/bin"));
}

#[test]
fn the_data_directory_of_k3s_may_be_elsewhere() {
    let config = "/data/k3s/agent/etc/containerd/config.toml";
    for (path, text) in [
        ("/etc/rancher/k3s/config.yaml", "write-kubeconfig-mode: \"0644\"\ndata-dir: /data/k3s\n"),
        ("/etc/rancher/k3s/config.yaml.d/50-disk.yaml", "data-dir: /data/k3s\n"),
        (
            "/etc/systemd/system/k3s-agent.service",
            "ExecStart=/usr/local/bin/k3s agent '--data-dir=/data/k3s'\n",
        ),
    ] {
        let host = Host::new().with_fixture(config, "k3s-1.31/config.toml").with(path, text);
        let expected =
            Runtime { config: vec![config.into()], evidence: format!("configuration {config}"), ..k3s() };
        assert_eq!(host.find(), only(expected), "{path}");
    }
}

#[test]
fn before_its_first_start_k3s_is_guessed_and_said_to_be() {
    let fresh = Host::new().with("/usr/local/bin/k3s", "");
    let found = fresh.find();
    let expected = Runtime {
        config: Vec::new(),
        bin_dirs: vec!["/opt/cni/bin".into()],
        conf_dir: "/etc/cni/net.d".into(),
        evidence: "program /usr/local/bin/k3s".into(),
        ..k3s()
    };
    assert_eq!(found.runtimes, std::slice::from_ref(&expected));
    assert_eq!(
        found.problems[0].to_string(),
        format!(
            "{K3S_CONFIG}: is not there: k3s writes it when it starts; assumed: plugins in /opt/cni/bin, networks in \
             /etc/cni/net.d"
        )
    );

    let unpacked = fresh.with_directory("/var/lib/rancher/k3s/data/cni");
    let own = Runtime { config: Vec::new(), evidence: expected.evidence.clone(), ..k3s() };
    assert_eq!(unpacked.find().runtimes, [own]);
    let without = unpacked.with("/etc/rancher/k3s/config.yaml", "flannel-backend: none\n");
    assert_eq!(without.find().runtimes, [expected]);
}

#[test]
fn k3s_may_run_pods_on_something_else() {
    let stale =
        || Host::new().with_fixture(K3S_CONFIG, "k3s-1.31/config.toml").with("/usr/local/bin/k3s", "");
    let endpoint = "container-runtime-endpoint: unix:///run/containerd/containerd.sock\n";
    let found = stale()
        .with("/etc/rancher/k3s/config.yaml", endpoint)
        .with("/run/containerd/containerd.sock", "")
        .find();
    assert_eq!(found.runtimes.iter().map(|runtime| runtime.kind).collect::<Vec<_>>(), [Kind::Containerd]);
    assert!(
        found.left_out[0].why.starts_with("runs pods on the runtime at /run/containerd/containerd.sock"),
        "{found:?}"
    );

    let found = stale().with("/etc/rancher/k3s/config.yaml", "docker: true\n").find();
    assert_eq!(found.runtimes[0].socket, Path::new("/run/k3s/cri-dockerd/cri-dockerd.sock"));
    assert_eq!((found.runtimes[0].config.len(), found.problems.len()), (0, 1));
}

#[test]
fn rke2_has_containerds_defaults_and_the_socket_of_k3s() {
    let config = "/var/lib/rancher/rke2/agent/etc/containerd/config.toml";
    let host = Host::new()
        .with_fixture(config, "rke2-1.31/config.toml")
        .with("/opt/rke2/bin/rke2", "")
        .with("/run/k3s/containerd/containerd.sock", "");
    let expected = Runtime {
        kind: Kind::Rke2,
        config: vec![config.into()],
        bin_dirs: vec!["/opt/cni/bin".into()],
        conf_dir: "/etc/cni/net.d".into(),
        evidence: format!("configuration {config}, program /opt/rke2/bin/rke2"),
        ..k3s()
    };
    assert_eq!(host.find(), only(expected));
}

#[test]
fn microk8s_fills_in_the_directories_of_its_snap() {
    let args = "/var/snap/microk8s/current/args";
    let microk8s = |revision: &str, config: &str| Runtime {
        kind: Kind::Microk8s,
        config: vec![format!("{args}/{config}").into()],
        bin_dirs: vec![format!("/var/snap/microk8s/{revision}/opt/cni/bin").into()],
        conf_dir: format!("/var/snap/microk8s/{revision}/args/cni-network").into(),
        otherwise: None,
        max_conf_num: Some(1),
        only_network: None,
        socket: "/var/snap/microk8s/common/run/containerd.sock".into(),
        evidence: format!("configuration {args}/{config}"),
    };
    let host = Host::new()
        .with_link("/var/snap/microk8s/current", "6089")
        .with_directory("/var/snap/microk8s/6089/args")
        .with_fixture("/var/snap/microk8s/6089/args/containerd", "microk8s-1.28/containerd")
        .with_fixture(
            "/var/snap/microk8s/6089/args/containerd-template.toml",
            "microk8s-1.28/containerd-template.toml",
        );
    assert_eq!(host.find(), only(microk8s("current", "containerd-template.toml")));
    let started = host
        .with_fixture("/var/snap/microk8s/6089/args/containerd.toml", "microk8s-1.28/containerd.toml")
        .with("/var/snap/microk8s/6089/args/containerd", "--address ${SNAP_COMMON}/run/other.sock\n");
    let expected = Runtime {
        socket: "/var/snap/microk8s/common/run/other.sock".into(),
        ..microk8s("6089", "containerd.toml")
    };
    assert_eq!(started.find(), only(expected));

    let installed = Host::new().with("/snap/bin/microk8s", "").find();
    assert_eq!(installed.runtimes[0].bin_dirs, [PathBuf::from("/var/snap/microk8s/current/opt/cni/bin")]);
    assert!(installed.problems[0].what.starts_with("is not there"), "{installed:?}");
}

#[test]
fn crio_reads_its_files_one_after_the_other() {
    let crio = Runtime {
        kind: Kind::Crio,
        config: vec!["/etc/crio/crio.conf".into()],
        bin_dirs: vec!["/opt/cni/bin".into()],
        conf_dir: "/etc/cni/net.d".into(),
        otherwise: None,
        max_conf_num: None,
        only_network: None,
        socket: "/var/run/crio/crio.sock".into(),
        evidence: "configuration /etc/crio/crio.conf".into(),
    };
    let host = Host::new().with_fixture("/etc/crio/crio.conf", "crio-1.24/crio.conf");
    assert_eq!(host.find(), only(crio.clone()));

    let host = Host::new()
        .with_fixture("/etc/crio/crio.conf.d/10-crio.conf", "crio-1.34/crio.conf.d/10-crio.conf")
        .with("/usr/bin/crio", "");
    let expected = Runtime {
        config: vec!["/etc/crio/crio.conf.d/10-crio.conf".into()],
        evidence: "configuration /etc/crio/crio.conf.d/10-crio.conf, program /usr/bin/crio".into(),
        ..crio.clone()
    };
    assert_eq!(host.find(), only(expected));

    let host = Host::new()
        .with_fixture("/etc/crio/crio.conf", "crio-fedora/crio.conf")
        .with_fixture("/etc/crio/crio.conf.d/10-crun.conf", "crio-fedora/crio.conf.d/10-crun.conf")
        .with("/etc/crio/crio.conf.d/20-more/a", "[crio.network]\ncni_default_network = \"first\"\n")
        .with("/etc/crio/crio.conf.d/30-net", "[crio.network]\ncni_default_network = \"smartnet\"\n");
    let expected = Runtime {
        config: ["crio.conf", "crio.conf.d/10-crun.conf", "crio.conf.d/20-more/a", "crio.conf.d/30-net"]
            .iter()
            .map(|name| Path::new("/etc/crio").join(name))
            .collect(),
        bin_dirs: vec!["/opt/cni/bin".into(), "/usr/libexec/cni".into()],
        only_network: Some("smartnet".into()),
        ..crio
    };
    assert_eq!(host.find(), only(expected));
}

#[test]
fn what_cannot_be_understood_is_a_problem_and_no_end() {
    let host = Host::new()
        .with("/etc/containerd/config.toml", "version = 2\nimports = ['none.toml', 'broken.toml']\n")
        .with("/etc/containerd/broken.toml", "[plugins")
        .with("/etc/crio/crio.conf", "[crio.network]\nnetwork_dir = 1\n")
        .with_directory("/var/lib/rancher/k3s/agent/etc/containerd/config.toml");
    let found = host.find();
    let kinds: Vec<Kind> = found.runtimes.iter().map(|runtime| runtime.kind).collect();
    assert_eq!(kinds, [Kind::Containerd, Kind::K3s, Kind::Crio]);
    let problems: Vec<String> = found.problems.iter().map(Problem::to_string).collect();
    assert_eq!(problems.len(), 4, "{problems:#?}");
    assert!(problems[0].starts_with("/etc/containerd/none.toml: is imported and not there"), "{problems:#?}");
    assert!(problems[1].starts_with("/etc/containerd/broken.toml: line 1 is no TOML"), "{problems:#?}");
    assert!(problems[2].starts_with(&format!("{K3S_CONFIG}: cannot be read: ")), "{problems:#?}");
    assert!(problems[3].starts_with("/etc/crio/crio.conf: network_dir is not a string"), "{problems:#?}");
}

#[test]
fn several_runtimes_are_all_found() {
    let host = Host::new()
        .with_fixture("/etc/containerd/config.toml", "containerd-2.1/config.toml")
        .with_fixture(K3S_CONFIG, "k3s-1.31/config.toml")
        .with("/usr/bin/crio", "");
    let kinds: Vec<Kind> = host.find().runtimes.iter().map(|runtime| runtime.kind).collect();
    assert_eq!(kinds, [Kind::Containerd, Kind::K3s, Kind::Crio]);
}
