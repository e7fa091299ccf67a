//! Tells the kernel about host ports: what is shared first, then the way for 127.0.0.1, then all elements of the pod in one
//! transaction, and at last the flows that must not go on.

use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use super::observe::{route_localnet_key, rules_of};
use super::plan::{Ends, Step, Turn, is_stale};
use super::{Entry, Mapping, missing, tables};
use crate::datapath::session::Session;
use crate::kernel::nft::{self, Command, Datum, Element, Transaction};
use crate::kernel::{self, Socket, address, conntrack, sysctl};
use crate::net::Family;

/// Before a look for flows. Whoever had a port answers what it had received, after its flow was forgotten: that begins a flow
/// of its own, to which the client's next packets belong. So where there was a flow, all of these looks are made: such an
/// answer comes within milliseconds, on a busy board later. Where there was none, the first look is the last.
const LOOKS: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(5),
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(100),
];

/// Runs the steps of one plan; on failure some may have been made.
pub fn apply(session: &mut Session, steps: &[Step]) -> kernel::Result<()> {
    for step in steps {
        tracing::debug!("{step}");
    }
    let mut shared = Vec::new();
    let mut elements = Vec::new();
    let mut mappings = Vec::new();
    for step in steps {
        match step {
            Step::Base(_) | Step::Siblings(_) | Step::Limits(..) => {
                shared.extend(still_missing(session.netfilter()?, step)?);
            }
            Step::RouteLocalnet(_) => {}
            Step::PodLink(..) | Step::Remove(_) | Step::Add(..) => elements.push(change(step)),
            Step::ForgetFlows(mapping) => {
                let opens =
                    |step: &Step| matches!(step, Step::Add(Entry::Port(opened), _) if opened == mapping);
                let turn = if steps.iter().any(opens) { Turn::Opens } else { Turn::Closes };
                mappings.push((*mapping, turn));
            }
        }
    }
    if !shared.is_empty() {
        nft::commit(session.netfilter()?, &Transaction { commands: shared }).map_err(without_fib)?;
    }
    for step in steps {
        if let Step::RouteLocalnet(link) = step {
            sysctl::write(&route_localnet_key(link), "1")?;
        }
    }
    if !elements.is_empty() {
        nft::commit(session.netfilter()?, &elements.into_iter().flatten().collect())?;
    }
    forget_flows(session, &mappings);
    Ok(())
}

/// Asked again, because a pod that was attached meanwhile may have made it.
fn still_missing(socket: &mut Socket, step: &Step) -> kernel::Result<Vec<Command>> {
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
pub fn apply_removal(session: &mut Session, steps: &[Step]) -> kernel::Result<()> {
    let outcome = apply(session, steps);
    if outcome.as_ref().is_err_and(kernel::Error::is_missing) {
        for step in steps {
            match apply(session, std::slice::from_ref(step)) {
                Err(error) if !error.is_missing() => return Err(error),
                _ => {}
            }
        }
        return Ok(());
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

/// A node without connection tracking, or without connections, has nothing to forget. What cannot be forgotten ends by
/// itself, later: no reason to refuse a pod.
fn forget_flows(session: &mut Session, mappings: &[(Mapping, Turn)]) {
    if mappings.is_empty() || !conntrack::count().is_ok_and(|count| count.unwrap_or(0) > 0) {
        return;
    }
    let Ok(own) = address::all(&mut session.node.route) else { return };
    let is_local = |ip: IpAddr| ip.is_loopback() || own.iter().any(|address| address.address.ip() == ip);
    for (look, pause) in LOOKS.into_iter().enumerate() {
        thread::sleep(pause);
        let forgotten = session.netfilter().and_then(|socket| {
            mappings.iter().try_fold(0, |sum, mapping| Ok(sum + forget_stale(socket, mapping, &is_local)?))
        });
        match forgotten {
            Ok(0) if look == 0 => return,
            Ok(count) => tracing::debug!("{count} flows forgotten"),
            Err(error) => {
                return tracing::warn!(%error, "flows of a host port may go to its former holder for a while");
            }
        }
    }
}

fn forget_stale(
    socket: &mut Socket,
    (mapping, turn): &(Mapping, Turn),
    is_local: &dyn Fn(IpAddr) -> bool,
) -> kernel::Result<usize> {
    let protocol = mapping.protocol.number();
    let flows = conntrack::flows_at_port(socket, mapping.family(), protocol, mapping.host_port)?;
    let mut forgotten = 0;
    for flow in flows.iter().filter(|flow| is_stale(mapping, *turn, &ends(flow), is_local)) {
        conntrack::forget(socket, flow)?;
        forgotten += 1;
    }
    Ok(forgotten)
}

fn ends(flow: &conntrack::Flow) -> Ends {
    let source = |tuple: &conntrack::Tuple| (tuple.src, tuple.src_port.unwrap_or(0));
    let destination = |tuple: &conntrack::Tuple| (tuple.dst, tuple.dst_port.unwrap_or(0));
    Ends {
        from: source(&flow.original),
        to: destination(&flow.original),
        answer_from: source(&flow.reply),
        answer_to: destination(&flow.reply),
    }
}
