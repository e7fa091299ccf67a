//! What was sent from pods and to them, and did not come back. Only with `--probe`.
//!
//! Pure.

use std::collections::BTreeMap;

use crate::datapath::survey::packets::{Carrier, Reach};
use crate::doctor::check::{Check, Finding, Group as G, Need, Pass, Severity, Verdict};
use crate::doctor::evidence::Evidence;
use crate::doctor::evidence::packets::{Exchanged, Reached};

use Severity::Broken;

pub(super) const CHECKS: &[Check] = &[
    G::Pods.check(
        "pod-gateway",
        "every pod reaches its gateway",
        Broken,
        &[Need::Attachments, Need::Packets],
        gateway,
    ),
    G::Pods.check(
        "pod-flows",
        "tokens get from pods to pods, to the node, out of it and back",
        Broken,
        &[Need::Attachments, Need::Packets],
        tokens,
    ),
];

fn gateway(evidence: &Evidence) -> Verdict {
    evidence.attachments()?;
    let Some(reached) = &evidence.packets()?.reach else {
        return Err(Pass::skipped("packets are sent from pods only with --probe"));
    };
    let mut findings = Vec::new();
    for Reached { pod, gateway, mtu, reach } in reached {
        let (found, fix) = match reach {
            Reach::Whole => continue,
            Reach::Refused(why) => {
                findings.push(Finding::Unknown { object: pod.clone(), why: why.clone() });
                continue;
            }
            Reach::Small => (
                format!("its gateway {gateway} answers small packets, and none of {mtu} bytes"),
                "compare the MTUs of the pod, its port and the bridge (ip link)".to_owned(),
            ),
            Reach::Nothing => (
                format!("its gateway {gateway} does not answer"),
                "if nothing else is named above: a rule in the bridge or netdev family may drop its frames, nft \
                 list ruleset"
                    .to_owned(),
            ),
        };
        findings.push(Finding::problem(pod.clone(), found, fix));
    }
    Ok(findings)
}

/// What fails is a problem, also where no other check knows why.
fn tokens(evidence: &Evidence) -> Verdict {
    evidence.attachments()?;
    let packets = evidence.packets()?;
    if packets.reach.is_none() {
        return Err(Pass::skipped("packets are sent from pods only with --probe"));
    }
    let mut findings = Vec::new();
    let mut lost: Vec<&Exchanged> = Vec::new();
    for exchanged in &packets.exchanged {
        match &exchanged.reach {
            Reach::Whole => {}
            Reach::Refused(why) => findings.push(Finding::Unknown {
                object: exchanged.from.clone().or_else(|| exchanged.to.clone()).unwrap_or_default(),
                why: why.clone(),
            }),
            Reach::Small | Reach::Nothing => lost.push(exchanged),
        }
    }
    let mut words: BTreeMap<String, Vec<String>> = BTreeMap::new();
    while let Some(worst) = most_named(&lost) {
        let (his, others): (Vec<_>, Vec<_>) =
            lost.into_iter().partition(|exchanged| names(exchanged, &worst));
        words.entry(worst).or_default().extend(his.into_iter().map(in_words));
        lost = others;
    }
    for Reached { pod, gateway, mtu, reach } in &packets.routers {
        let lost = match reach {
            Reach::Whole | Reach::Refused(_) => continue,
            Reach::Small => format!("of packets of {mtu} bytes to the router {gateway} none is answered"),
            Reach::Nothing => format!("the router {gateway} answers the node and not the pod"),
        };
        words.entry(pod.clone()).or_default().push(lost);
    }
    findings.extend(words.into_iter().map(|(pod, lost)| {
        Finding::problem(
            pod,
            lost.join("; "),
            "if nothing else is named above, follow the packets: tcpdump -n -e -i any, nft monitor trace",
        )
    }));
    Ok(findings)
}

fn names(exchanged: &Exchanged, pod: &str) -> bool {
    exchanged.from.as_deref() == Some(pod) || exchanged.to.as_deref() == Some(pod)
}

/// The pod that most of what is lost has in common: it is to blame, and the others only asked it.
fn most_named(lost: &[&Exchanged]) -> Option<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for pod in lost.iter().flat_map(|exchanged| exchanged.from.iter().chain(&exchanged.to)) {
        *counts.entry(pod).or_default() += 1;
    }
    // Of equals the first by name.
    let most = *counts.values().max()?;
    counts.into_iter().find(|(_, count)| *count == most).map(|(pod, _)| pod.to_owned())
}

fn in_words(exchanged: &Exchanged) -> String {
    let Exchanged { from, to, address, carrier, mtu, reach } = exchanged;
    let end = |end: &Option<String>| end.clone().unwrap_or_else(|| "the node".to_owned());
    let carrier = if *carrier == Carrier::Tcp { "TCP" } else { "UDP" };
    let lost = match reach {
        Reach::Small => format!("small tokens come back, packets of {mtu} bytes do not"),
        _ => "no token comes back".to_owned(),
    };
    format!("{carrier} from {} to {} ({address}): {lost}", end(from), end(to))
}
