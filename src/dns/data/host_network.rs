//! Pods of the host's network, for whoever wants them named: CNI never hears of them, so only the runtime knows that they are
//! there. As with smarter-dns, their name is the value of their label `name`.
//!
//! The runtime is asked in a thread of its own, where nobody waits for it but this file: answers go on while it is silent, and
//! what it says is bounded by [`cri`]. Refuses to ask for anything but lists and status, and to start without being told to.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::sync::mpsc;

use super::hostname::Places;
use crate::dns::settings::Runtimes;
use crate::dns::zone::HostPod;
use crate::host::asked;
use crate::host::cri::{self, Labelled, Modes, Reason};
use crate::host::root::Root;

/// Of smarter-dns.
const LABEL: &str = "name";
/// For one runtime.
const PATIENCE: Duration = Duration::from_secs(5);
/// A sandbox's files are written some hundred milliseconds before it is listed, and stay for a while when it has ended. So a
/// look that something gave reason to is repeated, each time later, until it comes in this round: smarter-dns's own.
const ROUND: Duration = Duration::from_secs(30);
const FIRST_LOOK: Duration = Duration::from_millis(250);

/// The thread that asks, as long as this value is kept.
#[derive(Debug)]
pub(crate) struct HostNetwork {
    pods: mpsc::Receiver<BTreeSet<HostPod>>,
}

impl HostNetwork {
    /// `None` where the system has no thread for it, which is said.
    pub(crate) fn watch(runtimes: Runtimes, places: &Places) -> Option<Self> {
        let (found, pods) = mpsc::channel(1);
        let announced = Announced::of(places);
        let asking = Asking { runtimes, ..Asking::default() };
        let thread = thread::Builder::new().name("host-network".to_owned());
        match thread.spawn(move || ask_on(asking, &announced, &found)) {
            Ok(_) => Some(Self { pods }),
            Err(error) => {
                tracing::warn!("pods of the host's network have no names: {error}");
                None
            }
        }
    }

    /// All of them, whenever they are not those of before; `None` when nobody asks any more.
    pub(crate) async fn next(&mut self) -> Option<BTreeSet<HostPod>> {
        self.pods.recv().await
    }
}

fn ask_on(mut asking: Asking, announced: &Announced, found: &mpsc::Sender<BTreeSet<HostPod>>) {
    let mut before = None;
    let mut pause = FIRST_LOOK;
    loop {
        let pods = asking.look();
        if before.as_ref() != Some(&pods) && found.blocking_send(pods.clone()).is_err() {
            return;
        }
        before = Some(pods);
        pause = (pause * 2).min(ROUND);
        if announced.wait(pause) {
            // The more there is to see, the fewer looks for each.
            thread::sleep(FIRST_LOOK);
            pause = FIRST_LOOK;
        }
    }
}

impl Runtimes {
    fn sockets(&self) -> Vec<PathBuf> {
        match self {
            Self::At(socket) => vec![socket.clone()],
            Self::Found => asked::sockets(&Root::at("/")).into_iter().map(|(_, socket)| socket).collect(),
        }
    }
}

fn named(found: Labelled) -> HostPod {
    HostPod { namespace: found.namespace, name: found.label }
}

/// What is known of the runtimes.
#[derive(Debug, Default)]
struct Asking {
    runtimes: Runtimes,
    /// None until they are looked for, and again when one of them does not answer.
    sockets: Vec<PathBuf>,
    known: BTreeMap<PathBuf, (Modes, BTreeSet<HostPod>)>,
    trouble: Option<String>,
}

impl Asking {
    /// Whoever does not answer has the pods that it had.
    fn look(&mut self) -> BTreeSet<HostPod> {
        if self.sockets.is_empty() {
            self.sockets = self.runtimes.sockets();
        }
        let mut trouble = None;
        if self.sockets.is_empty() {
            trouble = Some("no runtime has a socket here; dns-host-network-names can be its path".to_owned());
        }
        for socket in &self.sockets {
            let (modes, pods) = self.known.entry(socket.clone()).or_default();
            match cri::on_the_node(socket, LABEL, PATIENCE, modes) {
                Ok(found) => *pods = found.into_iter().map(named).collect(),
                // Docker's containerd with the CRI plugin switched off: it has no sandboxes.
                Err(cri::Error { reason: Reason::NotCri(_), .. }) if self.runtimes == Runtimes::Found => {
                    pods.clear();
                }
                Err(error) => trouble = Some(error.to_string()),
            }
        }
        match &trouble {
            Some(_) => self.sockets.clear(),
            None => self.known.retain(|socket, _| self.sockets.contains(socket)),
        }
        self.say(trouble);
        self.known.values().flat_map(|(_, pods)| pods).cloned().collect()
    }

    /// Each once.
    fn say(&mut self, trouble: Option<String>) {
        if let Some(words) = trouble.as_ref().filter(|_| trouble != self.trouble) {
            tracing::warn!("pods of the host's network keep the names they had: {words}");
        }
        self.trouble = trouble;
    }
}

/// Where runtimes have a directory for each sandbox: one that comes or goes is announced there (inotify(7)).
#[derive(Debug)]
struct Announced {
    notify: Option<OwnedFd>,
    directories: Vec<PathBuf>,
}

impl Announced {
    fn of(places: &Places) -> Self {
        let notify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK);
        let notify = notify.inspect_err(|error| {
            tracing::warn!("pods of the host's network are looked for every {} s: {error}", ROUND.as_secs());
        });
        Self { notify: notify.ok(), directories: places.of_sandboxes().map(Path::to_owned).collect() }
    }

    /// Whether something was announced before the time was over.
    fn wait(&self, pause: Duration) -> bool {
        let Some(notify) = &self.notify else {
            thread::sleep(pause);
            return false;
        };
        let changes = WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::ONLYDIR;
        for directory in &self.directories {
            // One that is not there yet is watched from a later round on; one that is watched stays so.
            let _ = inotify::add_watch(notify, directory, changes);
        }
        let pause = Timespec { tv_sec: pause.as_secs().cast_signed(), tv_nsec: pause.subsec_nanos().into() };
        let is_ready = poll(&mut [PollFd::new(notify, PollFlags::IN)], Some(&pause));
        if !is_ready.is_ok_and(|ready| ready > 0) {
            return false;
        }
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(notify, &mut buffer);
        while reader.next().is_ok() {}
        true
    }
}
