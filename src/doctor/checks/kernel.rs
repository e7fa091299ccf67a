//! Can this kernel do what pods need? Asked by having it done in a throw-away namespace.
//!
//! Pure.

use crate::datapath::survey::trial::Feature;
use crate::doctor::check::{Check, Finding, Group as G, Need, Pass, Severity, Verdict};
use crate::doctor::evidence::Evidence;
use crate::net::Family;

const TRIED: &[Need] = &[Need::Scratch, Need::Files, Need::Network];
use Severity::{Broken, Warning};

pub(super) const CHECKS: &[Check] = &[
    G::Kernel.check("kernel-veth", "the kernel makes veth pairs", Broken, TRIED, veth),
    G::Kernel.check("kernel-bridge", "the kernel makes bridges", Broken, TRIED, bridge),
    G::Kernel.check("kernel-nftables", "the kernel filters packets with nf_tables", Broken, TRIED, nf_tables),
    G::Kernel.check("kernel-nat", "the kernel rewrites addresses", Broken, TRIED, nat),
    G::Kernel.check("kernel-masquerade", "the kernel masquerades", Broken, TRIED, masquerade),
    G::Kernel.check("kernel-fib", "the kernel knows its own addresses in rules", Broken, TRIED, fib),
    G::Kernel.check("kernel-conntrack", "the kernel tracks connections in rules", Broken, TRIED, conntrack),
    G::Kernel.check("kernel-mss-clamp", "the kernel lowers TCP segment sizes", Warning, TRIED, clamp),
    G::Kernel.check(
        "kernel-bridge-filter",
        "the kernel filters frames of bridges",
        Warning,
        BRIDGED,
        bridge_filter,
    ),
    G::Kernel.check("kernel-isolation", "bridge ports can be isolated", Warning, BRIDGED, isolation),
    G::Kernel.check("kernel-vlan", "bridges can filter by VLAN", Broken, BRIDGED, vlan),
    G::Kernel.check(
        "kernel-br-netfilter",
        "frames between pods pass the packet filter",
        Warning,
        &[Need::Network, Need::Attachments],
        br_netfilter,
    ),
    G::Kernel.check("kernel-module-blocked", "no module that pods need is blocked", Warning, TRIED, blocked),
    G::Kernel.check(
        "conntrack-full",
        "the table of connections has room",
        Warning,
        &[Need::Network],
        conntrack_full,
    ),
    G::Kernel.check(
        "neighbours-full",
        "the table of neighbours has room",
        Warning,
        &[Need::Network],
        neighbours_full,
    ),
];

const BRIDGED: &[Need] = &[Need::Scratch, Need::Files, Need::Network, Need::Attachments];

/// What a feature is called in kernel configurations, and which modules have it.
struct Known {
    feature: Feature,
    option: &'static str,
    modules: &'static [&'static str],
    /// Without this one, trying is pointless.
    after: Option<Feature>,
}

const fn known(
    feature: Feature,
    option: &'static str,
    modules: &'static [&'static str],
    after: Option<Feature>,
) -> Known {
    Known { feature, option, modules, after }
}

use Family::{V4, V6};
use Feature as F;

const KNOWN: &[Known] = &[
    known(F::Veth, "CONFIG_VETH", &["veth"], None),
    known(F::Bridge, "CONFIG_BRIDGE", &["bridge"], None),
    known(F::VlanFiltering, "CONFIG_BRIDGE_VLAN_FILTERING", &["bridge"], Some(F::Bridge)),
    known(F::PortIsolation, "Linux 4.18", &["bridge"], Some(F::Bridge)),
    known(F::NfTables, "CONFIG_NF_TABLES", &["nf_tables"], None),
    known(F::Nat(V4), "CONFIG_NFT_NAT", &["nft_chain_nat", "nf_nat"], Some(F::NfTables)),
    known(F::Nat(V6), "CONFIG_NFT_NAT", &["nft_chain_nat", "nf_nat"], Some(F::NfTables)),
    known(F::Dnat(V4), "CONFIG_NFT_NAT", &["nft_nat"], Some(F::Nat(V4))),
    known(F::Dnat(V6), "CONFIG_NFT_NAT", &["nft_nat"], Some(F::Nat(V6))),
    known(F::Masquerade(V4), "CONFIG_NFT_MASQ", &["nft_masq"], Some(F::Nat(V4))),
    known(F::Masquerade(V6), "CONFIG_NFT_MASQ", &["nft_masq"], Some(F::Nat(V6))),
    known(F::Fib(V4), "CONFIG_NFT_FIB_IPV4", &["nft_fib_ipv4", "nft_fib"], Some(F::NfTables)),
    known(F::Fib(V6), "CONFIG_NFT_FIB_IPV6", &["nft_fib_ipv6", "nft_fib"], Some(F::NfTables)),
    known(F::Conntrack, "CONFIG_NFT_CT", &["nft_ct", "nf_conntrack"], Some(F::NfTables)),
    known(F::ClampMss, "CONFIG_NF_TABLES with rt and exthdr", &["nf_tables"], Some(F::NfTables)),
    known(F::BridgeFilter, "CONFIG_NF_TABLES_BRIDGE", &["nf_tables"], Some(F::NfTables)),
];

fn lacking(feature: Feature, evidence: &Evidence) -> Result<Option<String>, Pass> {
    let trial = evidence.trials()?.iter().find(|trial| trial.feature == feature);
    let trial = trial.ok_or_else(|| Pass::Unknown("this was not tried".to_owned()))?;
    Ok(trial.outcome.as_ref().err().cloned())
}

/// One finding for each of the features that the kernel lacks.
fn tried(evidence: &Evidence, features: &[Feature], without: &str) -> Verdict {
    let mut findings = Vec::new();
    // A node without IPv6 needs none of it.
    let without_ipv6 = evidence.node().is_ok_and(|node| !node.has_ipv6());
    for feature in features {
        let for_ipv6 = matches!(feature, F::Nat(V6) | F::Dnat(V6) | F::Masquerade(V6) | F::Fib(V6));
        if for_ipv6 && without_ipv6 {
            continue;
        }
        let Some(known) = KNOWN.iter().find(|known| known.feature == *feature) else { continue };
        if let Some(after) = known.after
            && lacking(after, evidence)?.is_some()
        {
            // It is named above.
            if features.contains(&after) {
                continue;
            }
            return Err(Pass::skipped("nothing of it was tried, because the kernel lacks what it builds on"));
        }
        let Some(refusal) = lacking(*feature, evidence)? else { continue };
        let family = if for_ipv6 { " for IPv6" } else { "" };
        let fix = remedy(known, evidence);
        let object = known.modules[0];
        findings.push(Finding::problem(
            format!("module {object}"),
            format!("the kernel refused it{family}: {refusal}; {without}"),
            fix,
        ));
    }
    Ok(findings)
}

fn remedy(known: &Known, evidence: &Evidence) -> String {
    let files = evidence.files();
    let blocked = files.iter().flat_map(|files| &files.blocked);
    if let Some(blocked) = blocked.clone().find(|blocked| known.modules.contains(&blocked.module.as_str())) {
        return format!(
            "{} keeps module {} from being loaded: remove that line there",
            blocked.file, blocked.module
        );
    }
    if known.option.starts_with("Linux") {
        return format!("install a kernel of {} or newer", known.option);
    }
    format!(
        "modprobe -a {}\nwhere there is no such module, install the distribution's extra modules (Ubuntu: \
         linux-modules-extra-…) or a kernel with {}",
        known.modules.join(" "),
        known.option
    )
}

fn veth(evidence: &Evidence) -> Verdict {
    tried(evidence, &[F::Veth], "no pod can be attached")
}

fn bridge(evidence: &Evidence) -> Verdict {
    tried(evidence, &[F::Bridge], "no pod can be attached")
}

fn nf_tables(evidence: &Evidence) -> Verdict {
    tried(evidence, &[F::NfTables], "there is no masquerading and there are no host ports")
}

fn nat(evidence: &Evidence) -> Verdict {
    tried(evidence, &[F::Nat(V4), F::Nat(V6), F::Dnat(V4), F::Dnat(V6)], "host ports lead nowhere")
}

fn masquerade(evidence: &Evidence) -> Verdict {
    tried(evidence, &[F::Masquerade(V4), F::Masquerade(V6)], "pods reach nothing beyond the node")
}

fn fib(evidence: &Evidence) -> Verdict {
    tried(evidence, &[F::Fib(V4), F::Fib(V6)], "host ports cannot be mapped")
}

fn conntrack(evidence: &Evidence) -> Verdict {
    tried(evidence, &[F::Conntrack], "host ports cannot be mapped")
}

fn clamp(evidence: &Evidence) -> Verdict {
    tried(evidence, &[F::ClampMss], "connections through narrow uplinks may hang")
}

fn bridge_filter(evidence: &Evidence) -> Verdict {
    let wanted = evidence.attachments()?.live().any(|pod| pod.wants(|want| want.spoof_check));
    wanted_by_pods(wanted, "no pod asked for the check of source addresses")?;
    tried(evidence, &[F::BridgeFilter], "frames with a forged source pass")
}

fn isolation(evidence: &Evidence) -> Verdict {
    let wanted = evidence.attachments()?.live().any(|pod| pod.wants(|want| want.port.isolated));
    wanted_by_pods(wanted, "no pod asked for an isolated port")?;
    tried(evidence, &[F::PortIsolation], "pods reach each other though they should not")
}

fn vlan(evidence: &Evidence) -> Verdict {
    let wanted = evidence.attachments()?.live().any(|pod| pod.wants(|want| want.bridge.vlan_filtering));
    wanted_by_pods(wanted, "no pod is in a VLAN")?;
    tried(evidence, &[F::VlanFiltering], "pods cannot be put into VLANs")
}

fn wanted_by_pods(wanted: bool, otherwise: &str) -> Result<(), Pass> {
    if wanted { Ok(()) } else { Err(Pass::skipped(otherwise)) }
}

/// Not a matter of our own rules, which do without: of services that somebody else's rules translate.
fn br_netfilter(evidence: &Evidence) -> Verdict {
    evidence.attachments()?;
    let node = evidence.node()?;
    let mut findings = Vec::new();
    for (key, family) in
        [("net/bridge/bridge-nf-call-iptables", V4), ("net/bridge/bridge-nf-call-ip6tables", V6)]
    {
        if !evidence.attachments()?.routed().contains(&family) {
            continue;
        }
        let dotted = key.replace('/', ".");
        let consequence = "a ClusterIP that leads to a pod on the same bridge does not answer";
        match node.switch(key) {
            Some("0") => findings.push(Finding::problem(
                format!("sysctl {dotted}"),
                format!("{dotted} is 0: {consequence}"),
                format!("sysctl -w {dotted}=1\nand the same in /etc/sysctl.d, for the next boot"),
            )),
            Some(_) => {}
            None => {
                findings.push(Finding::problem(
                    "module br_netfilter",
                    format!("the module is not loaded: {consequence}"),
                    "modprobe br_netfilter\nand for the next boot: echo br_netfilter > /etc/modules-load.d/br_netfilter.conf",
                ));
                break;
            }
        }
    }
    Ok(findings)
}

/// A module that is not loaded, and whose feature works all the same, is part of the kernel: nobody can block it.
fn blocked(evidence: &Evidence) -> Verdict {
    let files = evidence.files()?;
    let mut findings = Vec::new();
    for blocked in &files.blocked {
        let module = blocked.module.as_str();
        let loaded = files.loaded.contains(module);
        let features =
            KNOWN.iter().filter(|known| known.modules.contains(&module)).map(|known| known.feature);
        let mut missing = false;
        for feature in features {
            missing |= lacking(feature, evidence)?.is_some();
        }
        missing |= module == "br_netfilter"
            && evidence.node()?.switch("net/bridge/bridge-nf-call-iptables").is_none();
        let known = module == "br_netfilter" || KNOWN.iter().any(|known| known.modules.contains(&module));
        if !known || !(loaded || missing) {
            continue;
        }
        let now = if loaded { "it is loaded now, and will not be after a reboot" } else { "pods need it" };
        findings.push(Finding::problem(
            format!("module {module}"),
            format!("{} keeps it from being loaded; {now}", blocked.file),
            format!("remove the line about {module} from {}", blocked.file),
        ));
    }
    Ok(findings)
}

/// Percent of a table from which on a node should know.
const NEARLY_FULL: u64 = 80;

fn conntrack_full(evidence: &Evidence) -> Verdict {
    let node = evidence.node()?;
    let (Some(count), Some(max)) =
        (node.number("net/netfilter/nf_conntrack_count"), node.number("net/netfilter/nf_conntrack_max"))
    else {
        return Err(Pass::skipped("the kernel tracks no connections yet"));
    };
    if max == 0 || count * 100 < max * NEARLY_FULL {
        return Ok(Vec::new());
    }
    Ok(vec![Finding::problem(
        "sysctl net.netfilter.nf_conntrack_max",
        format!(
            "{count} of {max} entries are in use; when none is left, new connections of pods and of the node are \
             dropped"
        ),
        format!(
            "sysctl -w net.netfilter.nf_conntrack_max={}\nand the same in /etc/sysctl.d, for the next boot",
            max * 4
        ),
    )])
}

fn neighbours_full(evidence: &Evidence) -> Verdict {
    let node = evidence.node()?;
    let Some(max) = node.number("net/ipv4/neigh/default/gc_thresh3") else {
        return Err(Pass::skipped("this namespace has no limit of its own"));
    };
    let count = node.network.neighbours.iter().filter(|neighbour| neighbour.ip.is_ipv4()).count() as u64;
    if max == 0 || count * 100 < max * NEARLY_FULL {
        return Ok(Vec::new());
    }
    Ok(vec![Finding::problem(
        "sysctl net.ipv4.neigh.default.gc_thresh3",
        format!("{count} of {max} neighbours are known; when none is free, new pods do not answer"),
        format!(
            "sysctl -w net.ipv4.neigh.default.gc_thresh3={}\nand the same in /etc/sysctl.d, for the next boot",
            max * 4
        ),
    )])
}
