//! Puts the server together and keeps it so: whenever records, links or hostnames change, names and addresses follow.

mod wake;
mod wanted;
mod words;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use super::control::{self, Control, Inside};
use super::data::{Attachments, Change, HostNetwork, LinkEvent, Links, Notify, Places, all_links};
use super::forward::Forwarder;
use super::handover::{self, Taken};
use super::server::{Server, is_of_this_node};
use super::settings::Settings;
use super::signals::{Caught, Signal, Signals};
use super::sockets::Sockets;
use super::zone::HostPod;
use crate::net::DNS_INTERCEPT_PORT;
use crate::state::{BootId, fallback, record};
use wake::Woken;
pub(super) use wanted::zone;
use words::{say, unwatched};

/// Who waits for an answer when the end comes, waits no longer than this.
const GRACE: Duration = Duration::from_secs(2);
/// A runtime that works says within this time which pods it has.
const FIRST_WORD: Duration = Duration::from_secs(1);
/// A port that somebody else has is tried again so often.
const RETRY: Duration = Duration::from_secs(5);
/// A hostname is written some milliseconds behind the record; by some kubelets when the first image has come.
const FIRST_LOOK: Duration = Duration::from_millis(2);
const LAST_LOOK: Duration = Duration::from_mins(5);

/// Ends by a signal.
pub(super) fn run(settings: Settings, environment: &[(OsString, OsString)]) -> Result<(), String> {
    let caught = Caught::catch().map_err(|error| format!("cannot catch signals: {error}"))?;
    let boot = BootId::current().map_err(|error| format!("the identity of this boot: {error}"))?;
    for note in &settings.notes {
        say(note);
    }
    let of_systemd = handover::of_systemd(environment).unwrap_or_else(|error| {
        say(&format!("the sockets of systemd cannot be taken: {error}"));
        Vec::new()
    });
    let mut taken = None;
    if of_systemd.is_empty() {
        taken = handover::take(Path::new(handover::SOCKET)).unwrap_or_else(|error| {
            say(&format!("the one that runs hands nothing over: {error}; questions may be lost"));
            None
        });
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
    let runtime = runtime.map_err(|error| format!("cannot start: {error}"))?;
    let tasks = tokio::task::LocalSet::new();
    let served = tasks.block_on(&runtime, async {
        let inherited = match &mut taken {
            Some(taken) => std::mem::take(&mut taken.sockets),
            None => of_systemd,
        };
        let resident = Resident::new(settings, boot, Sockets::new(inherited), taken);
        resident.stay(caught.listen()?).await
    });
    served.map_err(|error: io::Error| error.to_string())
}

struct Resident {
    server: Rc<Server>,
    sockets: Rc<RefCell<Sockets>>,
    attachments: Attachments,
    notify: Option<Notify>,
    links: Option<Links>,
    host_network: Option<HostNetwork>,
    addresses: Vec<IpAddr>,
    /// When a hostname is looked for again, and how long after that once more.
    look: Option<(Instant, Duration)>,
    /// When a port is tried again.
    retry: Option<Instant>,
    /// Its connection lasts as long as we do.
    predecessor: Option<Taken>,
    resumed: Rc<tokio::sync::Notify>,
    door: Option<AbortHandle>,
    /// Where it answers instead of at port 53, as was said to those who make rules. Nothing was, at the start.
    said: Option<Vec<SocketAddrV4>>,
}

impl Resident {
    /// Within the runtime. Subscribes before it reads, so that nothing happens in between.
    fn new(settings: Settings, boot: BootId, sockets: Sockets, predecessor: Option<Taken>) -> Self {
        let directory = Path::new(record::ROOT).join("attachments");
        let notify = Notify::of(&directory).inspect_err(unwatched);
        let links = Links::subscribe();
        let links =
            links.inspect_err(|error| say(&format!("pods that die without a DEL keep their names: {error}")));
        let places = Places::below(Path::new("/"));
        let runtimes = settings.host_network.clone();
        let host_network = runtimes.and_then(|runtimes| HostNetwork::watch(runtimes, &places));
        let forwarder = Forwarder::new(wanted::forwarding(&settings));
        if let Some(predecessor) = &predecessor {
            forwarder.import_cache(&predecessor.cache);
        }
        let attachments = Attachments::new(Path::new(record::ROOT).to_owned(), boot, places);
        let zone = zone(&settings, attachments.gathered());
        let server = Server::new(settings, zone, forwarder);
        server.news.come_by(notify.as_ref().ok().map(Notify::descriptor));
        Self {
            server,
            sockets: Rc::new(RefCell::new(sockets)),
            attachments,
            notify: notify.ok(),
            links: links.ok(),
            host_network,
            addresses: Vec::new(),
            look: None,
            retry: None,
            predecessor,
            resumed: Rc::default(),
            door: None,
            said: None,
        }
    }

    async fn stay(mut self, mut signals: Signals) -> io::Result<()> {
        self.read_all();
        self.as_the_predecessor_knows().await;
        self.apply();
        if let Some(predecessor) = &mut self.predecessor {
            predecessor
                .serving()
                .unwrap_or_else(|error| say(&format!("the predecessor is gone already: {error}")));
        }
        self.announce();
        self.open();
        tokio::task::spawn_local(self.server.forwarder().clone().watch());
        loop {
            let woken = wake::next(&mut self, &mut signals).await;
            match woken {
                Woken::Signal(Signal::End) => break,
                Woken::Signal(Signal::Reload) => {
                    self.server.forwarder().reload();
                    self.read_all();
                }
                Woken::Resumed => {
                    // The successor may have said something else.
                    self.said = None;
                    self.open();
                    self.read_all();
                }
                Woken::Records(changes) => {
                    if !self.records(changes) {
                        continue;
                    }
                }
                Woken::Link(event) => {
                    if !self.link(event.as_ref()) {
                        continue;
                    }
                }
                Woken::HostPods(pods) => self.host_pods(pods),
                Woken::Look => {
                    if !self.look_again() {
                        continue;
                    }
                }
                Woken::Retry => self.retry = None,
            }
            self.apply();
        }
        let is_last = !self.sockets.borrow().is_paused();
        self.sockets.borrow_mut().pause();
        // Who has asked by now has asked for the names of now, and nobody reads of later ones.
        self.read_all();
        self.apply();
        self.server.news.come_by(None);
        let _ = timeout(GRACE, self.server.idle()).await;
        // Of a successor's ports it is the successor that speaks.
        if is_last {
            self.say_where(Vec::new());
        }
        Ok(())
    }

    /// The door for programs of this node. A successor that is gone had put its own in the place of ours.
    fn open(&mut self) {
        let inside = Inside {
            server: self.server.clone(),
            sockets: self.sockets.clone(),
            resumed: self.resumed.clone(),
        };
        if let Some(earlier) = self.door.take() {
            earlier.abort();
        }
        match Control::bind(Path::new(handover::SOCKET)) {
            Ok(control) => {
                self.door = Some(tokio::task::spawn_local(control::accept(control, inside)).abort_handle());
            }
            Err(error) => {
                let socket = handover::SOCKET;
                say(&format!(
                    "{socket}: {error}: a restart will lose questions, and status shows no counters"
                ));
            }
        }
    }

    fn read_all(&mut self) {
        if let Err(error) = self.attachments.rescan() {
            tracing::warn!("names stay as they are: {error}");
        }
        if let Some(names) = all_links() {
            self.attachments.link(&LinkEvent::All(names));
        }
        self.expect_hostnames();
    }

    /// Whether names may have changed.
    fn records(&mut self, changes: io::Result<Vec<Change>>) -> bool {
        let changes = changes.unwrap_or_else(|error| {
            unwatched(&error);
            self.notify = None;
            self.server.news.come_by(None);
            vec![Change::Everything]
        });
        if changes.contains(&Change::Everything) {
            self.read_all();
            return true;
        }
        let mut any = false;
        for change in &changes {
            if let Change::File(file) = change {
                any |= self.attachments.changed(file);
            }
        }
        self.expect_hostnames();
        any
    }

    fn link(&mut self, event: Option<&LinkEvent>) -> bool {
        if let Some(event) = event {
            return self.attachments.link(event);
        }
        say("pods that die without a DEL keep their names: the kernel's announcements have ended");
        self.links = None;
        false
    }

    /// Nobody waits for a runtime but whoever takes over: those who ask are answered meanwhile, and names must not be away.
    async fn as_the_predecessor_knows(&mut self) {
        let Some(host_network) = self.host_network.as_mut().filter(|_| self.predecessor.is_some()) else {
            return;
        };
        if let Ok(pods) = timeout(FIRST_WORD, host_network.next()).await {
            self.host_pods(pods);
        }
    }

    fn host_pods(&mut self, pods: Option<BTreeSet<HostPod>>) {
        match pods {
            Some(pods) => self.attachments.set_host_pods(pods),
            None => self.host_network = None,
        }
    }

    fn expect_hostnames(&mut self) {
        self.look = self.attachments.lacks_hostnames().then(|| (Instant::now() + FIRST_LOOK, FIRST_LOOK));
    }

    fn look_again(&mut self) -> bool {
        let changed = self.attachments.find_hostnames();
        let pause = self.look.map_or(FIRST_LOOK, |(_, pause)| pause * 2);
        let again = pause <= LAST_LOOK && self.attachments.lacks_hostnames();
        self.look = again.then(|| (Instant::now() + pause, pause));
        changed
    }

    /// Names, who may ask, and where, as everything is now.
    fn apply(&mut self) {
        let settings = self.server.settings();
        let gathered = self.attachments.gathered();
        let mut addresses = wanted::addresses(settings, &gathered);
        // The last pod takes no gateway along: programs of the node may still ask there.
        let kept = self.addresses.iter().filter(|address| is_of_this_node(**address));
        let kept: Vec<IpAddr> = kept.filter(|address| !addresses.contains(address)).copied().collect();
        addresses.extend(kept);
        let ranges = gathered.ranges.clone();
        let besides: Vec<_> =
            gathered.intercepting.iter().map(|at| SocketAddr::new(*at, DNS_INTERCEPT_PORT)).collect();
        self.server.set_zone(zone(settings, gathered), ranges);
        let mut sockets = self.sockets.borrow_mut();
        // A socket that nobody reads would take questions from the successor.
        if sockets.is_paused() {
            return;
        }
        for taken in sockets.serve(&self.server, &addresses, &besides, settings.fallback_port) {
            words::taken(&taken);
        }
        self.retry = sockets.lacks().then(|| Instant::now() + RETRY);
        let instead = sockets.instead(settings.fallback_port);
        drop(sockets);
        self.say_where(instead);
        if addresses != self.addresses {
            self.server.forwarder().own_addresses(addresses.clone());
            self.addresses = addresses;
        }
    }

    /// Tells those who may change rules where questions are answered.
    fn say_where(&mut self, instead: Vec<SocketAddrV4>) {
        if self.said.as_ref() == Some(&instead) {
            return;
        }
        if let Err(error) = fallback::write(Path::new(record::ROOT), &instead) {
            say(&format!("nobody leads questions to another port: {error}"));
        }
        self.said = Some(instead);
    }

    fn announce(&self) {
        let addresses: Vec<String> =
            self.sockets.borrow().addresses().iter().map(ToString::to_string).collect();
        say(&format!(
            "serving {} names of {} at {}",
            self.server.names(),
            self.server.settings().domain.to_string().trim_end_matches('.'),
            addresses.join(", ")
        ));
    }
}
