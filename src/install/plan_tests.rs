use super::*;
use crate::conflist::{FILE_NAME, Range};
use crate::datapath::ground::{Bridge, By, Taken};
use crate::install::cli::Words;
use crate::install::have::ProgramIdentity;
use crate::install::settings::Wish;

const BIN: &str = "/opt/cni/bin";
const CONF: &str = "/etc/cni/net.d";

pub(super) fn settings() -> Settings {
    Settings {
        ranges: Wish::Default,
        network: Network::default(),
        host_dns: None,
        bin_dirs: vec![],
        conf_dirs: vec![],
        take_over: false,
        words: Words::default(),
        notes: vec![],
    }
}

fn taking_over() -> Settings {
    Settings { take_over: true, ..settings() }
}

fn bare_node() -> Have {
    Have {
        program: ProgramIdentity { version: "0.1.0".into(), digest: "d1".into(), size: 100 },
        bin_dirs: vec![BinDir { path: BIN.into(), ..BinDir::default() }],
        conf_dirs: vec![ConfDir { path: CONF.into(), ..ConfDir::default() }],
        ..Have::default()
    }
}

/// As after the plan was carried out.
pub(super) fn installed() -> Have {
    let mut have = bare_node();
    let names = [PROGRAM].iter().chain(OWN).chain(STANDARD);
    have.bin_dirs[0].names = names.map(|name| (*name, Found::Same)).collect();
    have.conf_dirs[0].files = vec![file(FILE_NAME, &render(&Network::default()))];
    have.installation = Some(plan(&settings(), &bare_node()).unwrap().installation);
    have
}

fn file(name: &str, bytes: &[u8]) -> ConfFile {
    let content = crate::install::observe::content(bytes);
    ConfFile { name: name.into(), bytes: bytes.to_vec(), content }
}

fn list(network: &str, types: &[&str]) -> Vec<u8> {
    let plugins: Vec<_> = types.iter().map(|name| serde_json::json!({ "type": name })).collect();
    serde_json::json!({ "cniVersion": "0.3.1", "name": network, "plugins": plugins }).to_string().into_bytes()
}

/// As Arm's smarter-cni writes it.
fn arms_list() -> Vec<u8> {
    let ipam = serde_json::json!({
        "type": "smarter-host-local", "subnet": "172.39.0.0/16", "gateway": "172.39.0.1",
        "dataDir": "/var/run/cni/networks",
    });
    let plugins = serde_json::json!([
        { "type": "smarter-bridge", "bridge": "smartnet0", "ipam": ipam },
        { "type": "smarter-portmap", "snat": true },
    ]);
    serde_json::json!({ "cniVersion": "0.3.1", "name": "smartnet", "plugins": plugins })
        .to_string()
        .into_bytes()
}

fn steps(want: &Settings, have: &Have) -> Vec<String> {
    plan(want, have).unwrap().steps.iter().map(ToString::to_string).collect()
}

#[test]
fn a_bare_node_gets_plugins_first_and_the_configuration_last() {
    let mut have = bare_node();
    have.bin_dirs[0].missing = vec!["/opt/cni".into(), BIN.into()];
    have.conf_dirs[0].missing = vec![CONF.into()];
    assert_eq!(
        steps(&settings(), &have),
        [
            "make directory /opt/cni",
            "make directory /opt/cni/bin",
            "place /opt/cni/bin/smarter-cni (100 bytes)",
            "link /opt/cni/bin/smarter-bridge to smarter-cni",
            "link /opt/cni/bin/smarter-ipam to smarter-cni",
            "link /opt/cni/bin/smarter-portmap to smarter-cni",
            "link /opt/cni/bin/smarter-loopback to smarter-cni",
            "link /opt/cni/bin/loopback to smarter-cni",
            "link /opt/cni/bin/portmap to smarter-cni",
            "execute the plugins in /opt/cni/bin with VERSION",
            "make directory /etc/cni/net.d",
            "write /etc/cni/net.d/0-smarter-bridge.conflist",
        ]
    );
    let installation = plan(&settings(), &have).unwrap().installation;
    assert_eq!(installation.plugins.len(), 7);
    assert_eq!(installation.directories.len(), 3);
    assert_eq!(installation.conflists, [PathBuf::from("/etc/cni/net.d/0-smarter-bridge.conflist")].into());
}

#[test]
fn all_plugins_of_all_directories_come_before_any_configuration() {
    let mut have = bare_node();
    have.bin_dirs.push(BinDir { path: "/usr/libexec/cni".into(), ..BinDir::default() });
    have.conf_dirs.push(ConfDir { path: "/etc/other".into(), ..ConfDir::default() });
    let steps = plan(&settings(), &have).unwrap().steps;
    let is_conflist = |step: &Step| matches!(step, Step::WriteConflist(..));
    let first = steps.iter().position(is_conflist).unwrap();
    assert!(steps[first..].iter().all(is_conflist));
    assert_eq!(steps[first..].len(), 2);
}

#[test]
fn an_installed_node_needs_nothing() {
    let plan = plan(&settings(), &installed()).unwrap();
    assert_eq!(plan.steps, []);
    assert_eq!(Some(plan.installation), installed().installation);
}

#[test]
fn what_is_damaged_is_repaired_and_nothing_of_ours_is_kept_for_that() {
    let mut have = installed();
    have.bin_dirs[0].names.insert(PROGRAM, Found::Broken("is empty".into()));
    have.bin_dirs[0].names.insert("smarter-ipam", Found::Absent);
    have.conf_dirs[0].files = vec![file(FILE_NAME, b"")];
    let plan = plan(&settings(), &have).unwrap();
    assert_eq!(
        plan.steps.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "place /opt/cni/bin/smarter-cni (100 bytes)",
            "link /opt/cni/bin/smarter-ipam to smarter-cni",
            "execute the plugins in /opt/cni/bin with VERSION",
            "write /etc/cni/net.d/0-smarter-bridge.conflist",
        ]
    );
    assert_eq!(
        plan.notes,
        [
            "/opt/cni/bin/smarter-cni is empty: replaced",
            "/etc/cni/net.d/0-smarter-bridge.conflist is empty: replaced"
        ]
    );
    assert!(plan.installation.kept.is_empty());
}

#[test]
fn another_build_takes_the_place_of_the_one_before() {
    let mut have = installed();
    have.program.digest = "d2".into();
    have.bin_dirs[0].names.insert(PROGRAM, Found::Ours);
    assert_eq!(
        steps(&settings(), &have),
        ["place /opt/cni/bin/smarter-cni (100 bytes)", "execute the plugins in /opt/cni/bin with VERSION"]
    );
    assert_eq!(plan(&settings(), &have).unwrap().installation.digest, "d2");
}

#[test]
fn standard_plugins_of_others_stay_and_broken_ones_are_replaced() {
    let mut have = bare_node();
    have.bin_dirs[0].names.insert("portmap", Found::Foreign);
    have.bin_dirs[0].names.insert("loopback", Found::Broken("is cut short".into()));
    let plan = plan(&settings(), &have).unwrap();
    let steps: Vec<_> = plan.steps.iter().map(ToString::to_string).collect();
    assert!(!steps.iter().any(|step| step.contains("/portmap")), "{steps:?}");
    assert!(
        steps.contains(&"keep /opt/cni/bin/loopback as /opt/cni/bin/loopback.kept-by-smarter-cni".to_owned())
    );
    assert_eq!(
        plan.notes,
        ["/opt/cni/bin/loopback is cut short: replaced", "/opt/cni/bin/portmap is somebody else's and stays"]
    );
    assert!(!plan.installation.plugins.contains(Path::new("/opt/cni/bin/portmap")));
}

#[test]
fn a_foreign_program_under_a_name_we_need_is_refused_or_kept() {
    let mut have = bare_node();
    have.bin_dirs[0].names.insert("smarter-bridge", Found::Foreign);
    have.bin_dirs[0].names.insert(PROGRAM, Found::Foreign);
    let refusals = plan(&settings(), &have).unwrap_err();
    assert_eq!(refusals.len(), 2);
    assert!(refusals[0].starts_with("/opt/cni/bin/smarter-cni is somebody else's program"), "{refusals:?}");
    let taken = plan(&taking_over(), &have).unwrap();
    assert_eq!(taken.installation.kept.len(), 2);
    assert_eq!(
        taken.steps[..2].iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "keep /opt/cni/bin/smarter-cni as /opt/cni/bin/smarter-cni.kept-by-smarter-cni",
            "place /opt/cni/bin/smarter-cni (100 bytes)"
        ]
    );
}

#[test]
fn a_configuration_in_front_is_refused_or_renamed_also_when_it_is_broken() {
    let mut have = bare_node();
    let cilium = list("cilium", &["cilium-cni"]);
    have.conf_dirs[0].files = vec![file("0-a.conf", b""), file("0-b.conflist", &cilium)];
    let refusals = plan(&settings(), &have).unwrap_err();
    assert_eq!(
        refusals,
        [
            "/etc/cni/net.d/0-a.conf (is empty) comes before 0-smarter-bridge.conflist, so the runtime would take it \
             instead of ours: remove it, or say --take-over, which renames it until uninstall",
            "/etc/cni/net.d/0-b.conflist (network cilium) comes before 0-smarter-bridge.conflist, so the runtime would \
             take it instead of ours: remove it, or say --take-over, which renames it until uninstall",
        ]
    );
    let taken = steps(&taking_over(), &have);
    let at = |text: &str| taken.iter().position(|step| step.contains(text)).unwrap();
    assert!(
        at("rename /etc/cni/net.d/0-a.conf to /etc/cni/net.d/0-a.conf.kept-by-smarter-cni") < at("write")
    );
}

#[test]
fn a_configuration_behind_is_named_and_stays() {
    let mut have = bare_node();
    have.conf_dirs[0].files = vec![file("05-cilium.conflist", &list("cilium", &["cilium-cni"]))];
    let plan = plan(&settings(), &have).unwrap();
    assert_eq!(
        plan.notes,
        ["/etc/cni/net.d/05-cilium.conflist (network cilium) comes after ours and is not used"]
    );
    assert!(plan.installation.kept.is_empty());
}

#[test]
fn arms_smarter_cni_is_taken_over_with_its_range() {
    let mut have = bare_node();
    for name in ["smarter-bridge", "smarter-portmap", "loopback"] {
        have.bin_dirs[0].names.insert(name, Found::Foreign);
    }
    have.conf_dirs[0].files = vec![file(FILE_NAME, &arms_list())];
    have.ground.bridges = vec![Bridge { name: "smartnet0".into(), marked: false }];
    have.ground.taken = vec![Taken {
        network: "172.39.0.0/16".parse().unwrap(),
        interface: "smartnet0".into(),
        by: By::Address("172.39.0.1".parse().unwrap()),
        tunnel: false,
        ours: false,
    }];
    let plan = plan(&settings(), &have).unwrap();
    assert_eq!(plan.network.ranges.first().to_string(), "172.39.0.0/16 (gateway 172.39.0.1)");
    assert!(plan.installation.bridge_is_foreign);
    let kept: Vec<_> =
        plan.installation.kept.iter().map(|kept| kept.original.display().to_string()).collect();
    assert_eq!(
        kept,
        [
            "/etc/cni/net.d/0-smarter-bridge.conflist",
            "/opt/cni/bin/smarter-bridge",
            "/opt/cni/bin/smarter-portmap"
        ]
    );
    assert!(plan.notes.iter().any(|note| note.contains("is taken over")), "{:?}", plan.notes);
}

#[test]
fn arms_older_configuration_would_come_first_and_is_renamed() {
    let mut have = bare_node();
    let bare = br#"{"name":"smartnet","type":"smarter-bridge","bridge":"smartnet0",
        "ipam":{"type":"smarter-host-local","subnet":"172.38.0.0/16"}}"#;
    have.conf_dirs[0].files = vec![file(PREDECESSOR, bare)];
    let steps = steps(&settings(), &have);
    assert!(
        steps.contains(
            &"rename /etc/cni/net.d/0-smarter-bridge.conf to \
              /etc/cni/net.d/0-smarter-bridge.conf.kept-by-smarter-cni"
                .to_owned()
        ),
        "{steps:?}"
    );
}

#[test]
fn every_reason_is_named_at_once() {
    let mut have = bare_node();
    have.bin_dirs[0].names.insert(PROGRAM, Found::Foreign);
    have.conf_dirs[0].files = vec![file(FILE_NAME, &list("other", &["bridge"]))];
    have.ground.taken = vec![Taken {
        network: "172.38.4.0/24".parse().unwrap(),
        interface: "wlan0".into(),
        by: By::Address("172.38.4.9".parse().unwrap()),
        tunnel: false,
        ours: false,
    }];
    let refusals = plan(&settings(), &have).unwrap_err();
    assert_eq!(refusals.len(), 3, "{refusals:?}");
    assert!(refusals[0].contains("wlan0"));
    assert!(refusals[2].contains("is somebody else's (network other)"));
}

#[test]
fn automatic_ranges_are_kept_by_what_was_written_down() {
    let want = Settings { ranges: Wish::Auto(None), ..settings() };
    let first = plan(&want, &bare_node()).unwrap();
    let range: Range = first.network.ranges.first();
    assert_eq!(first.installation.automatic, Some(range.subnet()));
    let mut have = installed();
    have.installation = Some(first.installation);
    have.ground.taken = vec![Taken {
        network: range.subnet(),
        interface: "eth0".into(),
        by: By::Address(range.gateway()),
        tunnel: false,
        ours: false,
    }];
    assert_eq!(plan(&want, &have).unwrap().network.ranges.first(), range);
}

#[test]
fn leftovers_go_first_and_damaged_results_last() {
    let mut have = installed();
    have.leftovers = vec!["/opt/cni/bin/.smarter-cni-new.smarter-cni".into()];
    have.damaged_cache = vec!["/var/lib/cni/results/smartnet-c1-eth0".into()];
    let steps = steps(&settings(), &have);
    assert!(steps[0].starts_with("remove /opt/cni/bin/.smarter-cni-new."), "{steps:?}");
    assert!(steps[1].starts_with("remove /var/lib/cni/results/smartnet-c1-eth0"), "{steps:?}");
}
