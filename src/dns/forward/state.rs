//! The forwarder's upstreams: who they are now, and what lookups report about them.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use super::question::{Group, Wishes};
use super::schedule::{Failure, Schedule};
use super::servers::{Order, Servers};
use super::{Forwarder, Source};
use crate::dns::upstreams::{self, Upstream, watch};

/// An uplink that has worked a moment ago is about to be replaced rather than gone: its routes go before those of the next
/// one come.
const HOLD: Duration = Duration::from_secs(2);

impl Forwarder {
    /// Addresses on which this process answers: they are never asked.
    pub(crate) fn own_addresses(&self, addresses: Vec<IpAddr>) {
        let addresses: Vec<_> = addresses.into_iter().map(|address| address.to_canonical()).collect();
        if *self.own.borrow() != addresses {
            self.own.replace(addresses);
            self.choose();
        }
    }

    /// Follows the files that name the upstreams, and the routes to them; does not end.
    pub(crate) async fn watch(self: Rc<Self>) {
        let paths = match &self.settings.upstreams {
            Source::Files(paths) => paths.clone(),
            Source::Named(_) => Vec::new(),
        };
        let files = watch::files(&paths, || self.reload());
        let routes = watch::routes(|change| {
            let leads_there = self.uplink.borrow().upstreams().any(|upstream| change.leads_to(upstream))
                || self.cluster.borrow().upstreams().any(|upstream| change.leads_to(upstream));
            if leads_there {
                self.ways_changed();
            }
        });
        watch::both(files, routes).await;
    }

    /// Reads the files again.
    pub(crate) fn reload(&self) {
        if let Source::Files(paths) = &self.settings.upstreams {
            self.found.replace(paths.iter().map(|path| watch::read(path)).collect());
        }
        self.choose();
    }

    fn choose(&self) {
        let own = self.own.borrow();
        let (source, chosen) = match &self.settings.upstreams {
            Source::Named(named) => ("the configuration".to_owned(), upstreams::named(named, &own)),
            Source::Files(paths) => match upstreams::choose(&self.found.borrow(), &own) {
                Some((at, servers)) => {
                    (paths.get(at).map(|path| path.display().to_string()).unwrap_or_default(), servers)
                }
                None => (String::new(), Vec::new()),
            },
        };
        let cluster = upstreams::named(&self.settings.cluster, &own);
        drop(own);
        let changed = self.uplink.borrow_mut().replace(&chosen);
        if changed {
            report(&source, &chosen);
        }
        if self.cluster.borrow_mut().replace(&cluster) || changed {
            self.cache.borrow_mut().forget_failures();
            self.lookups.changed();
        }
    }

    /// What failed may work now.
    fn ways_changed(&self) {
        self.uplink.borrow_mut().forgive();
        self.cluster.borrow_mut().forgive();
        self.cache.borrow_mut().forget_failures();
        self.lookups.changed();
    }

    pub(super) fn servers(&self, group: Group) -> &RefCell<Servers> {
        match group {
            Group::Uplink => &self.uplink,
            Group::Cluster => &self.cluster,
        }
    }

    pub(super) fn order(&self, group: Group, now: Duration) -> Order {
        self.servers(group).borrow_mut().order(now)
    }

    pub(super) fn schedule(&self, group: Group, wishes: Wishes, now: Duration) -> Schedule {
        let order = self.order(group, now);
        let hold =
            if self.servers(group).borrow().answered_within(HOLD, now) { HOLD } else { Duration::ZERO };
        Schedule::new(order, wishes, now, hold)
    }

    pub(super) fn asks(&self, group: Group, upstream: &Upstream) {
        self.servers(group).borrow_mut().asked(upstream);
    }

    pub(super) fn are_late(&self, group: Group, upstreams: &[Upstream], now: Duration) {
        for upstream in upstreams {
            self.servers(group).borrow_mut().failed(upstream, now);
        }
    }

    pub(super) fn has_answered(
        &self,
        group: Group,
        upstream: &Upstream,
        edns: bool,
        again: bool,
        now: Duration,
    ) {
        self.servers(group).borrow_mut().answered(upstream, edns, again, now);
    }

    pub(super) fn has_failed(&self, group: Group, upstream: &Upstream, failure: &Failure, now: Duration) {
        let mut servers = self.servers(group).borrow_mut();
        match failure {
            Failure::NoRoute | Failure::Closed | Failure::Cut(None) => servers.failed(upstream, now),
            Failure::Wrong => servers.lied(upstream, now),
            Failure::Refused(_) => servers.refused(upstream),
            Failure::OnlyPlain => servers.is_plain(upstream),
            // It has answered; and what is missing here says nothing about it.
            Failure::Cut(Some(_)) | Failure::Local => {}
        }
    }
}

fn report(source: &str, chosen: &[Upstream]) {
    if chosen.is_empty() {
        tracing::warn!(
            "no upstream name server: other names than this node's are answered from the cache, or not at all"
        );
        return;
    }
    let names: Vec<_> = chosen.iter().map(ToString::to_string).collect();
    tracing::info!("upstream name servers of {source}: {}", names.join(", "));
}
