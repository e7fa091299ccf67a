//! What is left of pods that are gone.

use super::{Fault, lease, table, who};
use crate::datapath::hostports::Entry;
use crate::datapath::hostports::plan::Step as PortStep;
use crate::datapath::step::Step as LinkStep;
use crate::datapath::surplus::{Member, Removal};
use crate::doctor::checks::RECONCILE;
use crate::reconcile::{Step, Subject};

/// Its namespace is mounted, and nobody is in it.
pub(super) fn abandoned(subject: &Subject) -> Fault {
    let found = "no runtime lists its sandbox, and no process lives in its network namespace: the runtime was killed and \
                 never sent DEL";
    Fault::new("pod-namespace", who(subject), found).with_fix(format!(
        "{RECONCILE}\nnow and once more after a minute: the second look removes what is left, if nobody knows the pod by then"
    ))
}

fn gone(subject: &Subject) -> Fault {
    let found = "it is gone, and the runtime never sent DEL: links, rules or records of it are left";
    Fault::new("pod-namespace", who(subject), found)
        .with_fix(format!("{RECONCILE}\nremoves what is left of it"))
}

/// Of a removal, every step but those that only matter while something changes.
pub(super) fn link(step: &LinkStep, subject: &Subject) -> Option<Fault> {
    (!step.is_transient()).then(|| gone(subject))
}

pub(super) fn port(step: &PortStep, subject: &Subject) -> Option<Fault> {
    match step {
        PortStep::Remove(entry @ Entry::Port(_)) => Some(super::ports::stale(entry, || who(subject))),
        step => (!step.is_transient()).then(|| gone(subject)),
    }
}

pub(super) fn memory(step: &Step, subject: &Subject) -> Fault {
    match step {
        Step::Release(file) => Fault::new(
            "lease-dead",
            lease(file),
            format!("{} holds it, and is gone: the runtime never sent DEL", who(subject)),
        )
        .with_fix(format!("{RECONCILE}\nor nothing: an ADD takes the address when no other is free")),
        _ => gone(subject),
    }
}

/// Things of ours that no attachment wants.
pub(super) fn surplus(removal: &Removal) -> Fault {
    let leftover = |object: String, found: String| Fault::new("rules-leftover", object, found);
    match removal {
        Removal::SpoofCheck(port) => leftover(
            "table bridge smarter-cni".to_owned(),
            format!("frames of {port} are checked, and there is no such port"),
        ),
        Removal::Masquerade(rule) => leftover(
            table(rule.family),
            format!(
                "a rule masquerades network {}, which has neither a bridge nor a pod: {}",
                rule.network, rule.text
            ),
        ),
        Removal::Member(Member { family, set, interface }) => {
            leftover(table(*family), format!("set {} has {interface}, which is gone", set.name()))
        }
        Removal::Accepts(chain, interface) => leftover(
            format!("chain {chain}"),
            format!("it accepts the packets of {interface}, which is gone"),
        ),
        Removal::Intercept(family, link) => leftover(
            table(*family),
            format!(
                "what is asked through {link} is led to the name server, and nobody attached was promised that"
            ),
        ),
        Removal::Entry(entry) => {
            let object = table(entry.family());
            super::ports::stale(entry, || object)
        }
    }
}
