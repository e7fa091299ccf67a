//! The steps of a repair: it goes on where an ADD gives up, and says what an ADD passes over.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::{Failure, change_filter, ignore, run};
use crate::datapath::rules;
use crate::datapath::session::Session;
use crate::datapath::step::Step;
use crate::kernel::conntrack::{Question, Tuple};
use crate::kernel::{self, address, conntrack};
use crate::net::Family;

/// Runs the steps of a repair, which goes as far as it can: when one fails, those that do not build on it are still made.
/// Returns what was made and what failed.
pub fn apply_repair(session: &mut Session, steps: Vec<Step>) -> (Vec<Step>, Vec<Failure>) {
    let (mut made, mut failures) = (Vec::new(), Vec::new());
    for step in steps {
        if !failures.is_empty() && !step.stands_alone() {
            continue;
        }
        // A repair has nobody waiting for a pod: what cannot be changed is said, not passed over.
        let outcome = if let Step::Filter(change) = &step {
            tracing::debug!("{step}");
            change_filter(session, change)
        } else {
            run(session, &step)
        };
        match outcome {
            Ok(()) => made.push(step),
            Err(error) => failures.push(Failure { step: Box::new(step), error }),
        }
    }
    (made, failures)
}

/// A flow whose first packet found no masquerade rule keeps the pod's address for as long as it is used.
pub(super) fn forget_unmasqueraded(session: &mut Session, subnet: IpNetwork) -> kernel::Result<()> {
    if !conntrack::count().is_ok_and(|count| count.unwrap_or(0) > 0) {
        return Ok(());
    }
    let own = address::all(&mut session.node.route)?;
    let is_local = |ip: IpAddr| own.iter().any(|address| address.address.ip() == ip);
    let lacks = |original: &Tuple, reply: &Tuple| {
        rules::lacks_masquerade(subnet, original.src, reply.src, reply.dst) && !is_local(reply.src)
    };
    let all = Question::all(Family::of(subnet.ip()), None);
    conntrack::forget(session.netfilter()?, &all, &[], lacks).map(drop).or_else(ignore)
}
