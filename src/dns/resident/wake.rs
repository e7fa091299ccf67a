//! Waits for a reason to look: a signal, a record, a link, a hostname that may be there by now, a port that may be free, what a
//! runtime said.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::super::data::{Change, LinkEvent};
use super::super::signals::{Signal, Signals};
use super::super::zone::HostPod;
use super::Resident;

/// Between two looks where the kernel announces nothing.
const ROUND: Duration = Duration::from_secs(2);

/// Why it woke up.
pub(super) enum Woken {
    Signal(Signal),
    Records(io::Result<Vec<Change>>),
    Link(Option<LinkEvent>),
    HostPods(Option<BTreeSet<HostPod>>),
    Look,
    Retry,
    Resumed,
}

pub(super) async fn next(resident: &mut Resident, signals: &mut Signals) -> Woken {
    let Resident { notify, links, host_network, look, retry, resumed, .. } = resident;
    let changes = async {
        if let Some(notify) = notify {
            return notify.changes().await;
        }
        tokio::time::sleep(ROUND).await;
        Ok(vec![Change::Everything])
    };
    let link = async {
        match links {
            Some(links) => links.next().await,
            None => std::future::pending().await,
        }
    };
    let host_pods = async {
        match host_network {
            Some(host_network) => host_network.next().await,
            None => std::future::pending().await,
        }
    };
    let at = |when: Option<Instant>| async move {
        match when {
            Some(when) => sleep_until(when).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        signal = signals.next() => Woken::Signal(signal),
        changes = changes => Woken::Records(changes),
        link = link => Woken::Link(link),
        pods = host_pods => Woken::HostPods(pods),
        () = at(look.map(|(when, _)| when)) => Woken::Look,
        () = at(*retry) => Woken::Retry,
        () = resumed.notified() => Woken::Resumed,
    }
}
