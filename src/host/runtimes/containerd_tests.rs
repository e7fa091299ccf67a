use super::super::tests::fixture;
use super::*;

fn file(name: &str) -> File {
    File::parse(&fixture(name)).unwrap()
}

fn dirs(effective: &Effective) -> (Vec<&str>, &str) {
    let bin_dirs = effective.cni.bin_dirs.iter().flatten().map(|dir| dir.to_str().unwrap()).collect();
    (bin_dirs, effective.cni.conf_dir.as_ref().map_or("", |dir| dir.to_str().unwrap()))
}

#[test]
fn every_version_says_where_plugins_and_networks_are() {
    const CNI: &str = "/etc/cni/net.d";
    const HASHED: &str =
        "/var/lib/rancher/k3s/data/7c994f47fd344e1637da337b92c51433c255b387d207b30b3e0262779457afe4/bin";
    const K3S: &str = "/var/lib/rancher/k3s/agent/etc/cni/net.d";
    for (name, bin_dirs, conf_dir, max, address) in [
        ("containerd-1.2", &["/home/kubernetes/bin"][..], CNI, None, None),
        ("containerd-1.6", &["/opt/cni/bin"], CNI, Some(1), Some("/run/containerd/containerd.sock")),
        ("containerd-1.6-debian12", &["/usr/lib/cni"], CNI, None, None),
        ("containerd-2.1", &["/opt/cni/bin"], CNI, Some(1), Some("/run/containerd/containerd.sock")),
        ("containerd-2.3", &["/opt/cni/bin"], CNI, Some(1), Some("/run/containerd/containerd.sock")),
        ("k3s-1.30", &[HASHED], K3S, None, None),
        (
            "k3s-1.31",
            &["/var/lib/rancher/k3s/data/cni"],
            K3S,
            None,
            Some("/run/k3s/containerd/containerd.sock"),
        ),
        (
            "k3s-1.34",
            &["/var/lib/rancher/k3s/data/cni"],
            K3S,
            None,
            Some("/run/k3s/containerd/containerd.sock"),
        ),
        ("k3s-1.34-no-flannel", &[], "", None, Some("/run/k3s/containerd/containerd.sock")),
        ("rke2-1.31", &[], "", None, Some("/run/k3s/containerd/containerd.sock")),
    ] {
        let effective = Effective::of(&[file(&format!("{name}/config.toml"))], None);
        assert_eq!(dirs(&effective), (bin_dirs.to_vec(), conf_dir), "{name}");
        assert_eq!(effective.cni.max_conf_num, max, "{name}");
        assert_eq!(effective.address.as_deref(), address.map(std::path::Path::new), "{name}");
        assert!(effective.serves_pods, "{name}");
        assert_eq!(effective.remarks, [], "{name}");
    }
}

#[test]
fn without_the_cri_plugin_there_are_no_pods() {
    assert!(!Effective::of(&[file("docker-ce/config.toml")], None).serves_pods);
    for name in ALL_OF_CRI {
        let file = File::parse(&format!("version = 2\ndisabled_plugins = [{name:?}]\n")).unwrap();
        assert!(!Effective::of(&[File::default(), file], None).serves_pods, "{name}");
    }
}

#[test]
fn containerd_1_replaces_the_section_of_a_plugin_and_containerd_2_does_not() {
    let main = File::parse(&format!("{}\nimports = ['x']\n", "version = 2")).unwrap();
    let debian = file("containerd-1.6-debian12/config.toml");
    let effective = Effective::of(&[debian.clone(), file("drop-ins/nvidia.toml")], None);
    assert_eq!(dirs(&effective), (vec![], ""), "tried with containerd 1.6: its default counts");
    assert_eq!(effective.remarks, []);
    let (kept, who) = effective.otherwise.clone().unwrap();
    assert_eq!(
        dirs(&Effective { cni: kept, ..effective }),
        (vec!["/usr/lib/cni"], "/etc/cni/net.d"),
        "tried with containerd 2.1"
    );
    assert!(who.starts_with("containerd 2, which keeps"), "{who}");

    let complete = Effective::of(&[main, debian], None);
    assert_eq!(dirs(&complete), (vec!["/usr/lib/cni"], "/etc/cni/net.d"));
    assert_eq!((complete.remarks, complete.otherwise), (vec![], None));
}

#[test]
fn containerd_2_merges_also_what_has_older_names() {
    let main = file("k3s-1.31/config.toml");
    let effective = Effective::of(&[main.clone(), file("drop-ins/nvidia.toml")], None);
    let own = "/var/lib/rancher/k3s/agent/etc/cni/net.d";
    assert_eq!(dirs(&effective), (vec!["/var/lib/rancher/k3s/data/cni"], own));
    let effective = Effective::of(&[main.clone(), file("drop-ins/cni.toml")], None);
    assert_eq!(dirs(&effective), (vec!["/usr/libexec/cni", "/opt/cni/bin"], own));
    let effective = Effective::of(&[main, file("containerd-1.6-debian12/config.toml")], None);
    assert_eq!(dirs(&effective), (vec!["/usr/lib/cni"], "/etc/cni/net.d"));
    assert_eq!((effective.remarks, effective.otherwise), (vec![], None));
}

#[test]
fn drop_ins_without_a_main_file_belong_to_a_newer_containerd() {
    let effective = Effective::of(&[file("drop-ins/cni.toml")], Some(3));
    assert_eq!(dirs(&effective), (vec!["/usr/libexec/cni", "/opt/cni/bin"], ""));
    assert_eq!(effective.remarks, []);
    let (older, who) = effective.otherwise.unwrap();
    assert_eq!((older, who.starts_with("containerd before 2.2")), (Cni::default(), true));
    assert_eq!(Effective::of(&[], Some(3)).otherwise, None);
}

fn remarks(text: &str) -> Vec<String> {
    let effective = Effective::of(&[File::parse(text).unwrap()], None);
    effective.remarks.iter().map(|(_, remark)| format!("{} -> {}", remark.what, remark.assumed)).collect()
}

#[test]
fn mistakes_that_people_make_are_named() {
    let both =
        "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.cni]\nbin_dir = '/a'\nbin_dirs = ['/b']\n";
    assert_eq!(remarks(both), ["containerd refuses bin_dir beside bin_dirs -> bin_dirs"]);

    let older = "version = 3\n[plugins.'io.containerd.grpc.v1.cri'.cni]\nbin_dir = '/a'\n";
    let [remark] = &remarks(older)[..] else { panic!() };
    assert!(remark.contains("has the plugin's name of version 2"), "{remark}");
    assert_eq!(dirs(&Effective::of(&[File::parse(older).unwrap()], None)), (vec![], ""));

    let unversioned = "[plugins.'io.containerd.grpc.v1.cri'.cni]\nbin_dir = '/a'\n";
    let [remark] = &remarks(unversioned)[..] else { panic!() };
    assert!(remark.starts_with("without `version = 2`"), "{remark}");
    assert_eq!(dirs(&Effective::of(&[File::parse(unversioned).unwrap()], None)), (vec!["/a"], ""));

    let relative = "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.cni]\nbin_dir = 'cni'\nconf_dir = 5\n";
    assert_eq!(
        remarks(relative),
        [
            "bin_dir \"cni\" is not an absolute path -> containerd's default",
            "conf_dir is not a string -> containerd's default"
        ]
    );
    assert!(File::parse("version = 2\n[plugins\n").unwrap_err().starts_with("line 2"));
    assert_eq!(File::parse("version = 'two'").unwrap_err(), "version is not a number");
}
