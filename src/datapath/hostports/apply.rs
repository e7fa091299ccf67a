//! Tells the kernel about host ports: what is shared and all elements of the pod in one transaction, then the way for
//! 127.0.0.1, which the guard has to stand before. In two, somebody who flushes all rules in between would have to be met by
//! a second attempt, and on a busy node by one more. The flows that must not go on are left to whoever calls, who holds a
//! lock here.

use super::flows::Stale;
use super::observe::{route_localnet_key, rules_of};
use super::plan::Step;
use super::{missing, tables};
use crate::datapath::session::Session;
use crate::kernel::nft::{self, Command, Datum, Element, Transaction};
use crate::kernel::{self, NetfilterSocket, sysctl};
use crate::net::Family;

/// Runs the steps of one plan; on failure some may have been made. What it returns is for later, without the node's lock.
pub fn apply(session: &mut Session, steps: &[Step]) -> kernel::Result<Stale> {
    for step in steps {
        tracing::debug!("{step}");
    }
    let mut shared = Vec::new();
    let mut elements = Vec::new();
    for step in steps {
        match step {
            Step::Base(_) | Step::Siblings(_) | Step::Limits(..) => {
                shared.extend(still_missing(session.netfilter()?, step)?);
            }
            Step::RouteLocalnet(_) | Step::ForgetFlows(_) => {}
            Step::PodLink(..) | Step::Remove(_) | Step::Add(..) => elements.push(change(step)),
        }
    }
    let makes_rules = !shared.is_empty();
    let commands = shared.into_iter().chain(elements.into_iter().flatten()).collect();
    let committed = nft::commit(session.netfilter()?, &Transaction { commands });
    committed.map_err(|error| if makes_rules { without_fib(error) } else { error })?;
    for step in steps {
        if let Step::RouteLocalnet(link) = step {
            sysctl::write(&route_localnet_key(link), "1")?;
        }
    }
    Ok(Stale::of(steps))
}

/// Asked again, because a pod that was attached meanwhile may have made it.
fn still_missing(socket: &mut NetfilterSocket, step: &Step) -> kernel::Result<Vec<Command>> {
    match step {
        Step::Base(family) => missing::base(&mut rules_of(socket, *family), *family),
        Step::Siblings(subnet) => {
            let family = Family::of(subnet.ip());
            missing::siblings(&mut rules_of(socket, family), *subnet)
        }
        Step::Limits(family, limits) => missing::limits(&mut rules_of(socket, *family), *family, limits),
        _ => Ok(Vec::new()),
    }
}

/// Runs a removal: everything at once where the kernel still has what it had a moment ago, else piece by piece.
pub fn apply_removal(session: &mut Session, steps: &[Step]) -> kernel::Result<Stale> {
    let outcome = apply(session, steps);
    if outcome.as_ref().is_err_and(kernel::Error::is_missing) {
        for step in steps {
            match apply(session, std::slice::from_ref(step)) {
                Err(error) if !error.is_missing() => return Err(error),
                _ => {}
            }
        }
        return Ok(Stale::of(steps));
    }
    outcome
}

fn change(step: &Step) -> Vec<Command> {
    match step {
        Step::PodLink(family, link) => {
            let elements = vec![Element::of([Datum::IfName(link.clone())])];
            vec![Command::AddElements { table: tables::table(*family), set: tables::pod_links(), elements }]
        }
        Step::Remove(entry) => {
            let elements = vec![Element::of(tables::key_of(entry))];
            let (table, set) = (tables::table(entry.family()), tables::set_of(entry));
            vec![Command::DeleteElements { table, set, elements }]
        }
        Step::Add(entry, comment) => {
            let elements = vec![tables::element(entry, comment)];
            let (table, set) = (tables::table(entry.family()), tables::set_of(entry));
            vec![Command::AddElements { table, set, elements }]
        }
        _ => Vec::new(),
    }
}

/// The kernel answers ENOENT for an expression that it does not have.
fn without_fib(error: kernel::Error) -> kernel::Error {
    if error.is_missing() {
        return error.with_hint(
            "does this kernel have fib and nat? modules nft_fib_ipv4, nft_fib_ipv6, nft_nat, nft_masq",
        );
    }
    error
}
