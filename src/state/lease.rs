//! The leases of one network: which address is promised to whom, in host-local's format.
//!
//! `<data dir>/<network>/` holds one file per address (`<container ID>\r\n<interface>`), `last_reserved_ip.<set>`, and
//! `lock`, on which everybody who changes something takes flock(2). The Go plugin's binary may work in the same
//! directory at the same time. Nothing is synced to disk: a lease is void after a reboot, and an empty or damaged file,
//! which is what a power cut leaves, is a free address. Refuses to choose addresses and to judge their holders.

mod content;
mod marker;

use std::collections::HashSet;
use std::fs::File;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::boot::BootId;
use super::directory::Directory;
use super::error::{Error, Result};
use super::lock::PATIENCE;
use crate::file::lock;
use marker::Seal;

pub use content::{Holder, Lease};

/// From so many leases on, neither all their names nor all their files are read for a single pod: a name takes 0.2 µs, a
/// file 2 µs.
pub const MANY: usize = 4096;

/// Where host-local keeps leases when the configuration does not say.
pub const DATA_DIR: &str = "/var/lib/cni/networks";

const LOCK: &str = "lock";
const LAST_RESERVED: &str = "last_reserved_ip.";
/// Written only under the lock, so one name is enough, and whoever finds it knows that its writer was killed.
const TEMPORARY: &str = ".lease.new";

/// An attachment and the addresses that the kernel still carries for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    pub holder: Holder,
    pub addresses: Vec<IpAddr>,
}

/// The lease directory of one network.
#[derive(Debug)]
pub struct Store {
    directory: Directory,
    /// `None` where it can neither be opened nor made, as on a disk that is full or read-only; nobody can allocate
    /// there then, and removing needs no lock. Nor does looking.
    lock: Option<File>,
}

impl Store {
    /// Opens the network's directory, made (0755) with its parents where missing. `network` must be one element of a
    /// path.
    pub fn open(data_dir: &Path, network: &str) -> Result<Self> {
        let directory = Directory::create(&path(data_dir, network)?, 0o755)?;
        let lock = directory.open(LOCK, OFlags::RDONLY | OFlags::CREATE, 0o750)?;
        Ok(Self { directory, lock: Some(lock) })
    }

    /// Opens the network's directory for looking and removing; `None` when there is none.
    pub fn existing(data_dir: &Path, network: &str) -> Result<Option<Self>> {
        let Some(directory) = Directory::existing(&path(data_dir, network)?)? else { return Ok(None) };
        let lock = match directory.open(LOCK, OFlags::RDONLY | OFlags::CREATE, 0o750) {
            Ok(lock) => Some(lock),
            Err(error) => {
                tracing::warn!("working without the lock: {error}");
                None
            }
        };
        Ok(Some(Self { directory, lock }))
    }

    /// As [`Self::existing`], for looking only: [`Self::lock`] locks nothing then and waits for nobody.
    pub fn beside(data_dir: &Path, network: &str) -> Result<Option<Self>> {
        let directory = Directory::existing(&path(data_dir, network)?)?;
        Ok(directory.map(|directory| Self { directory, lock: None }))
    }

    /// Looks at the directory without making or locking anything; `None` when there is none.
    pub fn glance(data_dir: &Path, network: &str) -> Result<Option<Glance>> {
        Ok(Directory::existing(&path(data_dir, network)?)?.map(Glance))
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Waits for everybody else who holds the lock; after some seconds the error names it.
    pub fn lock(&mut self) -> Result<Locked<'_>> {
        let directory = &self.directory;
        let Some(lock) = &self.lock else {
            return Ok(Locked { directory, seal: Seal::unknown(), guard: None });
        };
        let place = directory.path().join(LOCK);
        lock::exclusive(lock, &place, PATIENCE).map_err(|error| Error::new("lock", &place, error))?;
        Ok(Locked { directory, seal: Seal::unknown(), guard: Some(Guard(lock)) })
    }
}

fn path(data_dir: &Path, network: &str) -> Result<PathBuf> {
    if network.is_empty() || network.contains(['/', '\0']) || matches!(network, "." | "..") {
        return Err(Error::new("open", &data_dir.join(network), Errno::INVAL));
    }
    Ok(data_dir.join(network))
}

/// A lease directory that is only looked at.
#[derive(Debug)]
pub struct Glance(Directory);

impl Glance {
    /// Any directory that exists.
    pub fn at(path: &Path) -> Result<Self> {
        Directory::existing(path)?.map(Self).ok_or_else(|| Error::new("open", path, Errno::NOENT))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Can leases be made here? Writes nothing.
    pub fn writable(&self) -> Result<()> {
        self.0.writable()
    }

    /// Will the next ADD find the leases void, because they are of another boot?
    pub fn is_void(&self, boot: &BootId) -> Result<bool> {
        Ok(marker::read(&self.0)?.is_some_and(|mark| mark.boot.as_ref() != Some(boot)))
    }

    /// The addresses that have a file, in no order.
    pub fn addresses(&self) -> Result<Vec<IpAddr>> {
        survey(&self.0, usize::MAX).map(|survey| survey.addresses)
    }

    /// `None` when the address has no file.
    pub fn lease(&self, address: IpAddr) -> Result<Option<Lease>> {
        lease(&self.0, address)
    }
}

/// One pass over the names in a lease directory, broken off after [`MANY`] addresses.
#[derive(Debug)]
pub struct Survey {
    /// The addresses that have a file, in no order.
    pub addresses: Vec<IpAddr>,
    /// Not broken off.
    pub whole: bool,
    digest: u64,
}

/// The lease directory while nobody else changes it.
#[derive(Debug)]
pub struct Locked<'a> {
    directory: &'a Directory,
    seal: Seal,
    #[expect(dead_code, reason = "held for its drop")]
    guard: Option<Guard<'a>>,
}

/// The file stays open for the next time.
#[derive(Debug)]
struct Guard<'a>(&'a File);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        lock::unlock(self.0);
    }
}

/// What [`Locked::enter`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered {
    /// Leases were made here in this boot.
    SameBoot,
    /// Never used by this program; the leases there, if any, are another's.
    Unmarked,
    /// So many leases of another boot were removed.
    OtherBoot(usize),
}

impl Locked<'_> {
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Must come before anything is reserved. The directory carries the identity of the boot its leases belong to;
    /// leases of another boot are removed, except those that `survives` vouches for: the Go plugin, which does not
    /// know the mark, may have made them since. Leases in a directory without the mark are kept.
    pub fn enter(&self, boot: &BootId, survives: impl Fn(IpAddr, &Holder) -> bool) -> Result<Entered> {
        let mark = marker::read(self.directory)?;
        if let Some(mark) = mark.as_ref().filter(|mark| mark.boot.as_ref() == Some(boot)) {
            self.seal.was_read(mark);
            return Ok(Entered::SameBoot);
        }
        let mut freed = 0;
        if mark.is_some() {
            for (address, lease) in self.leases()? {
                if !matches!(&lease, Lease::Held(holder) if survives(address, holder)) {
                    self.directory.remove(&address.to_string())?;
                    freed += 1;
                }
            }
            tracing::info!("{}: removed {freed} leases of another boot", self.path().display());
        }
        let survey = self.survey()?;
        marker::create(self.directory, boot, survey.addresses.is_empty().then_some(survey.digest))?;
        self.seal.forget();
        Ok(if mark.is_some() { Entered::OtherBoot(freed) } else { Entered::Unmarked })
    }

    pub fn survey(&self) -> Result<Survey> {
        survey(self.directory, MANY)
    }

    /// All addresses that have a file, however many, in no order.
    pub fn addresses(&self) -> Result<Vec<IpAddr>> {
        survey(self.directory, usize::MAX).map(|survey| survey.addresses)
    }

    /// Is the directory exactly as we left it, and does every lease in it have a record? Then nothing that the records
    /// do not tell is to be found by reading the files.
    pub fn is_sealed(&self, survey: &Survey) -> Result<bool> {
        Ok(survey.whole && self.seal.digest(self.directory)? == Some(survey.digest))
    }

    /// States that every lease in `survey`, which is what is there now, has a record.
    pub fn seal(&self, survey: &Survey) {
        if survey.whole {
            self.seal.set(survey.digest);
        }
    }

    /// Every lease, with the content of its file. Files that cannot be read are left out and logged.
    pub fn leases(&self) -> Result<Vec<(IpAddr, Lease)>> {
        let mut leases = Vec::new();
        for address in self.addresses()? {
            match self.lease(address) {
                Ok(lease) => leases.extend(lease.map(|lease| (address, lease))),
                Err(error) => tracing::warn!("lease left out: {error}"),
            }
        }
        leases.sort_unstable_by_key(|(address, _)| *address);
        Ok(leases)
    }

    /// `None` when the address has no file.
    pub fn lease(&self, address: IpAddr) -> Result<Option<Lease>> {
        lease(self.directory, address)
    }

    /// Has the address a file? Does not read it.
    pub fn is_taken(&self, address: IpAddr) -> Result<bool> {
        Ok(self.directory.inode(&address.to_string())?.is_some())
    }

    /// Makes the lease; `false` when somebody has it. A damaged file is replaced.
    pub fn reserve(&self, address: IpAddr, holder: &Holder) -> Result<bool> {
        match self.lease(address) {
            Ok(None) => {}
            Ok(Some(Lease::Damaged)) => {
                tracing::warn!("{}: the lease of {address} names nobody, it is free", self.path().display());
                self.release(address)?;
            }
            Ok(Some(Lease::Held(_))) => return Ok(false),
            Err(error) => {
                tracing::warn!("{address} is not used: {error}");
                return Ok(false);
            }
        }
        let name = address.to_string();
        let reserved = self.directory.place(&name, TEMPORARY, &holder.to_bytes())?;
        if reserved {
            self.seal.added(self.directory, &name);
        }
        Ok(reserved)
    }

    /// Removes the lease, whoever has it. Nothing there is fine.
    pub fn release(&self, address: IpAddr) -> Result<()> {
        let name = address.to_string();
        self.seal.removing(self.directory, &name);
        self.directory.remove(&name).map(|_| ())
    }

    /// Removes what a writer that was killed left.
    pub fn sweep(&self) {
        for name in [TEMPORARY, marker::TEMPORARY] {
            if let Err(error) = self.directory.remove(name) {
                tracing::warn!("{error}");
            }
        }
    }

    /// Makes the leases of attachments that the kernel still carries, where their files are gone. Returns how many.
    pub fn rebuild(&self, carried: &[Carried]) -> Result<usize> {
        if carried.is_empty() {
            return Ok(0);
        }
        let present: HashSet<IpAddr> = self.addresses()?.into_iter().collect();
        let mut made = 0;
        for Carried { holder, addresses } in carried {
            for address in addresses.iter().filter(|address| !present.contains(address)) {
                if self.reserve(*address, holder)? {
                    tracing::warn!("{}: made the lost lease of {address} again", self.path().display());
                    made += 1;
                }
            }
        }
        Ok(made)
    }

    /// The address handed out last from a range set. Unreadable or unparsable is as good as none.
    pub fn last_reserved(&self, set: usize) -> Option<IpAddr> {
        last_reserved(self.directory, set)
    }

    /// A hint and nothing more: failure is logged.
    pub fn set_last_reserved(&self, set: usize, address: IpAddr) {
        let name = format!("{LAST_RESERVED}{set}");
        if let Err(error) = self.directory.overwrite(&name, 0o600, address.to_string().as_bytes()) {
            tracing::warn!("the next address will not follow the last one: {error}");
        }
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        self.seal.store(self.directory);
    }
}

fn lease(directory: &Directory, address: IpAddr) -> Result<Option<Lease>> {
    Ok(directory.read(&address.to_string())?.map(|bytes| Lease::parse(&bytes)))
}

fn last_reserved(directory: &Directory, set: usize) -> Option<IpAddr> {
    match directory.read(&format!("{LAST_RESERVED}{set}")) {
        Ok(bytes) => std::str::from_utf8(&bytes?).ok()?.trim().parse().ok(),
        Err(error) => {
            tracing::warn!("Error retrieving last reserved ip: {error}");
            None
        }
    }
}

fn survey(directory: &Directory, limit: usize) -> Result<Survey> {
    let mut survey = Survey { addresses: Vec::new(), whole: true, digest: 0 };
    directory.each_until(|name, inode| {
        if !name.starts_with('.') && name != LOCK && !name.starts_with(LAST_RESERVED) {
            survey.digest = survey.digest.wrapping_add(marker::digest(name, inode));
            survey.addresses.extend(name.parse::<IpAddr>().ok());
        }
        survey.whole = survey.addresses.len() < limit;
        if survey.whole { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(survey)
}

#[cfg(test)]
mod tests;
