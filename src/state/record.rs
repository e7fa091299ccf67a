//! Attachment records: what an ADD was about to do, or has done, for one attachment. One JSON file per attachment and
//! plugin, below `/run/smarter-cni/attachments`.
//!
//! Written before the kernel is touched, so that whatever a killed ADD left can be finished or undone. Refuses to
//! judge: a record says what was promised, not what is there. Nothing is synced to disk, because a record is void
//! after a reboot anyway.

mod unread;
mod version_1;
mod want;

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::boot::{BootId, boottime};
use super::directory::Directory;
use super::error::{Error, Result};
use super::holders::NetnsId;
use super::lease::DATA_DIR;
use super::lock::{NodeLock, RecordLock};
use super::owed::Owed;
use crate::net::{AttachmentId, IfName, Label, stable_hash};

pub use unread::Unread;
use unread::{Reason, parse};
pub use want::{Leases, Pool, Want};

/// Where the records of a node are; on a tmpfs.
pub const ROOT: &str = "/run/smarter-cni";

/// What this program writes. Version 1 is read, too; newer ones are refused.
pub const VERSION: u32 = 2;

/// Bytes of a record. A mapping of a host port takes some 70, and a request has at most 16 MiB.
const ROOM: usize = 16 << 20;
/// Less in unit tests, where so many mappings take an emulated processor seven minutes.
const LONGEST: usize = if cfg!(test) { ROOM / 64 } else { ROOM };

/// One attachment as one plugin knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub version: u32,
    pub boot_id: BootId,
    /// False from before the first effect until the ADD has succeeded.
    #[serde(default)]
    pub complete: bool,
    /// Milliseconds of CLOCK_BOOTTIME.
    #[serde(default)]
    pub created_boottime: u64,
    /// Whose record it is: `bridge`, `portmap`, `host-local`. Part of the file's name.
    pub plugin: String,
    pub id: AttachmentId,
    /// `CNI_NETNS` verbatim.
    #[serde(default)]
    pub netns: Option<String>,
    /// Absent when the path led nowhere: such an attachment is never judged dead.
    #[serde(default)]
    pub netns_id: Option<NetnsId>,
    #[serde(default)]
    pub pod: Option<Pod>,
    /// What else its owner calls the pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<Label>,
    /// What the ADD was asked for, as the plan takes it. Absent where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub want: Option<Want>,
    #[serde(default)]
    pub leases: Leases,
    /// The interface of the node that led to the pod when its ports were opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_link: Option<IfName>,
}

/// The pod as the runtime named it in `CNI_ARGS`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pod {
    pub namespace: Option<String>,
    pub name: Option<String>,
    pub uid: Option<String>,
}

impl Pod {
    /// `namespace/name`.
    pub fn full_name(&self) -> Option<String> {
        Some(format!("{}/{}", self.namespace.as_ref()?, self.name.as_ref()?))
    }
}

impl Record {
    /// The incomplete record of an ADD that begins now. The namespace's identity is taken from the path.
    pub fn begin(records: &Records, plugin: &str, id: &AttachmentId, netns: Option<&str>) -> Self {
        Self {
            version: VERSION,
            boot_id: records.boot.clone(),
            complete: false,
            created_boottime: u64::try_from(boottime().as_millis()).unwrap_or(u64::MAX),
            plugin: plugin.to_owned(),
            id: id.clone(),
            netns: netns.map(str::to_owned),
            netns_id: netns.and_then(NetnsId::of),
            pod: None,
            names: Vec::new(),
            want: None,
            leases: Leases::default(),
            pod_link: None,
        }
    }

    /// CLOCK_BOOTTIME at its making.
    pub fn created(&self) -> Duration {
        Duration::from_millis(self.created_boottime)
    }

    /// `namespace/name` of the pod where known, else the container ID.
    pub fn display_name(&self) -> String {
        match self.pod.as_ref().map(|pod| (&pod.namespace, &pod.name)) {
            Some((Some(namespace), Some(name))) => format!("{namespace}/{name}"),
            Some((None, Some(name))) => name.clone(),
            _ => self.id.container.clone(),
        }
    }
}

/// The records of this boot. Those of another boot are void: nobody gets to see them.
#[derive(Clone, Debug)]
pub struct Records {
    directory: PathBuf,
    boot: BootId,
    /// Opened when it is first needed: a verb comes here several times.
    open: OnceLock<Arc<Directory>>,
    /// Where the paths in them are for whoever reads.
    seen: Option<Seen>,
}

/// Where a path of the host is for us.
#[derive(Clone)]
struct Seen(Arc<dyn Fn(&str) -> String + Send + Sync>);

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seen")
    }
}

impl Records {
    /// `root` is [`ROOT`] on a node. Touches nothing.
    pub fn at(root: &Path, boot: BootId) -> Self {
        Self::of(root.join("attachments"), boot)
    }

    fn of(directory: PathBuf, boot: BootId) -> Self {
        Self { directory, boot, open: OnceLock::new(), seen: None }
    }

    /// To be read only, by whoever sees the host's `/` elsewhere: `seen` says where a path of the host is then.
    #[must_use]
    pub fn seen(self, seen: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        Self { seen: Some(Seen(Arc::new(seen))), ..self }
    }

    /// `None` when there is no such directory.
    fn existing(&self) -> Result<Option<Arc<Directory>>> {
        match self.open.get() {
            Some(open) => Ok(Some(open.clone())),
            None => Ok(Directory::existing(&self.directory)?.map(|directory| self.keep(directory))),
        }
    }

    fn keep(&self, directory: Directory) -> Arc<Directory> {
        let directory = Arc::new(directory);
        let _ = self.open.set(directory.clone());
        directory
    }

    pub fn boot(&self) -> &BootId {
        &self.boot
    }

    /// A set of its own beside this one, for attachments whose death is suspected but not yet proven.
    #[must_use]
    pub fn suspects(&self) -> Self {
        Self::of(self.directory.with_file_name("suspects"), self.boot.clone())
    }

    /// Flows that are to be forgotten when nobody waits for it.
    pub fn owed(&self) -> Owed {
        Owed::at(self.directory.with_file_name("flows"), self.boot.clone())
    }

    /// The lock of a record, whether there is one or not; waits some seconds for whoever has it.
    pub fn lock(&self, id: &AttachmentId, plugin: &str) -> Result<RecordLock> {
        RecordLock::take(&self.locks(), &stem(id, plugin))
    }

    /// As [`Self::lock`], without waiting: `None` while somebody else has it.
    pub fn try_lock(&self, id: &AttachmentId, plugin: &str) -> Result<Option<RecordLock>> {
        RecordLock::try_take(&self.locks(), &stem(id, plugin))
    }

    /// Whether an ADD, a DEL or a repair of it runs. Changes nothing.
    pub fn is_locked(&self, id: &AttachmentId, plugin: &str) -> bool {
        RecordLock::is_held(&self.locks(), &stem(id, plugin))
    }

    /// The node's lock, for whoever only looks: see [`NodeLock::beside`].
    pub fn beside_node(&self) -> Result<Option<NodeLock>> {
        self.directory.parent().map_or(Ok(None), NodeLock::beside)
    }

    fn locks(&self) -> PathBuf {
        self.directory.with_file_name("locks")
    }

    /// Removes what killed verbs left: temporary files, and the files of locks that nobody holds and that no record needs.
    /// Returns how many of the latter.
    pub fn sweep_locks(&self) -> Result<usize> {
        self.sweep_temporaries()?;
        self.suspects().sweep_temporaries()?;
        let Some(directory) = Directory::existing(&self.locks())? else { return Ok(0) };
        let mut stale = Vec::new();
        directory.each(|name, _| stale.push(name.to_owned()))?;
        let mut swept = 0;
        for name in stale {
            let needed = || self.directory.join(format!("{name}.json")).exists();
            if needed() {
                continue;
            }
            // A verb takes the lock before it writes the record: looked at again with the lock in hand.
            if let Some(lock) = RecordLock::try_take(&self.locks(), &name)?
                && !needed()
            {
                lock.forget();
                swept += 1;
            }
        }
        Ok(swept)
    }

    /// Removes what writers that were killed left under temporary names. One that is at it holds the lock, or writes again.
    pub fn sweep_temporaries(&self) -> Result<()> {
        let Some(directory) = self.existing()? else { return Ok(()) };
        let mut left = Vec::new();
        directory.each(|name, _| left.extend(stem_of_temporary(name).map(str::to_owned)))?;
        for stem in left {
            let Some(lock) = RecordLock::try_take(&self.locks(), &stem)? else { continue };
            let name = format!("{stem}.json");
            directory.remove(&temporary_name(&name))?;
            if directory.inode(&name)?.is_none() {
                lock.forget();
            }
        }
        Ok(())
    }

    /// Puts the record in place of an earlier one of the same attachment and plugin, all at once. One that could not be read
    /// again is not written.
    pub fn write(&self, record: &Record) -> Result<()> {
        let name = file_name(&record.id, &record.plugin);
        let bytes = serde_json::to_vec(record)
            .map_err(|error| Error::new("write", &self.directory.join(&name), std::io::Error::from(error)))?;
        if bytes.len() > LONGEST {
            let words = format!("it has more than {LONGEST} bytes; ask for fewer host ports");
            return Err(Error::new("write", &self.directory.join(&name), std::io::Error::other(words)));
        }
        let write = |directory: &Directory| directory.replace(&name, &temporary_name(&name), &bytes);
        let create = || Directory::create(&self.directory, 0o700);
        match self.open.get().map(|open| write(open)) {
            None => write(&self.keep(create()?)),
            // Somebody removed the directory since it was opened.
            Some(Err(error)) if error.is_missing() => write(&create()?),
            Some(written) => written,
        }
    }

    /// `None` when there is none of this boot, or only a damaged one, which is logged. One of a newer version is an error.
    pub fn read(&self, id: &AttachmentId, plugin: &str) -> Result<Option<Record>> {
        let Some(directory) = self.existing()? else { return Ok(None) };
        let name = file_name(id, plugin);
        let record = match self.decode(&directory, &name) {
            Err(newer @ Reason::Newer(_)) => {
                let cause = std::io::Error::other(newer.to_string());
                return Err(Error::new("read", &directory.path().join(&name), cause));
            }
            Err(damaged) => {
                warn(&directory, &name, &damaged);
                None
            }
            Ok(record) => record,
        };
        // Different attachments can share a hash.
        Ok(record.filter(|record| record.id == *id))
    }

    /// The records of one attachment, whichever plugin made them.
    pub fn of_attachment(&self, id: &AttachmentId) -> Result<Vec<Record>> {
        let prefix = format!("{}-{}.", container_part(&id.container), attachment_part(id));
        let mut records = self.with_prefix(&prefix)?;
        records.retain(|record| record.id == *id);
        Ok(records)
    }

    /// The records of a container in all networks.
    pub fn of_container(&self, container: &str) -> Result<Vec<Record>> {
        Ok(self.kept_of(container)?.records)
    }

    /// As [`Self::of_container`], and what of it cannot be read.
    pub fn kept_of(&self, container: &str) -> Result<Kept> {
        let mut kept = self.kept(&format!("{}-", container_part(container)))?;
        kept.records.retain(|record| record.id.container == container);
        Ok(kept)
    }

    /// Whether any of them is so. Reads no more than it takes to say yes; one that cannot be read may be so.
    pub fn any(&self, is_so: impl Fn(&Record) -> bool) -> Result<bool> {
        let Some(directory) = self.existing()? else { return Ok(false) };
        let is_so = |name: &String| match self.decode(&directory, name) {
            Ok(record) => record.is_some_and(|record| is_so(&record)),
            Err(_) => true,
        };
        Ok(names(&directory, "")?.iter().any(is_so))
    }

    /// All of them, in the order of their file names.
    pub fn all(&self) -> Result<Vec<Record>> {
        self.with_prefix("")
    }

    /// The record in one file, as a change of the directory announces it. `None` when there is none, or none of this boot.
    pub fn of_file(&self, name: &str) -> Result<Option<Record>> {
        let Some(directory) = self.existing()?.filter(|_| is_record(name, "")) else { return Ok(None) };
        self.decode(&directory, name).map_err(|reason| {
            Error::new("read", &directory.path().join(name), std::io::Error::other(reason.to_string()))
        })
    }

    /// All of them, each with the name of its file; what cannot be read is logged.
    pub fn files(&self) -> Result<Vec<(String, Record)>> {
        let Some(directory) = self.existing()? else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for name in names(&directory, "")? {
            match self.decode(&directory, &name) {
                Ok(record) => found.extend(record.map(|record| (name, record))),
                Err(reason) => warn(&directory, &name, &reason),
            }
        }
        Ok(found)
    }

    /// Files under a record's name that are none, with the reason.
    pub fn damaged(&self) -> Result<Vec<(String, String)>> {
        let Some(directory) = self.existing()? else { return Ok(Vec::new()) };
        let mut damaged = Vec::new();
        for name in names(&directory, "")? {
            if let Err(why) = self.decode(&directory, &name) {
                damaged.push((directory.path().join(&name).display().to_string(), why.to_string()));
            }
        }
        Ok(damaged)
    }

    /// All of them, and what cannot be read: for whoever removes what no record speaks of.
    pub fn all_kept(&self) -> Result<Kept> {
        self.kept("")
    }

    fn kept(&self, prefix: &str) -> Result<Kept> {
        let mut kept = Kept::default();
        let Some(directory) = self.existing()? else { return Ok(kept) };
        let mut found = Vec::new();
        directory.each(|name, _| {
            kept.leftovers |= stem_of_temporary(name).is_some();
            found.extend(is_record(name, prefix).then(|| name.to_owned()));
        })?;
        found.sort_unstable();
        for name in found {
            match self.decode(&directory, &name) {
                Ok(record) => kept.records.extend(record),
                Err(reason) => {
                    warn(&directory, &name, &reason);
                    kept.unread.push(Unread { file: name });
                }
            }
        }
        Ok(kept)
    }

    /// Removes what cannot be read.
    pub fn remove_unread(&self, unread: &Unread) -> Result<()> {
        let Some(directory) = self.existing()? else { return Ok(()) };
        directory.remove(&temporary_name(&unread.file))?;
        directory.remove(&unread.file).map(|_| ())
    }

    /// Whether one was ever about to be written here.
    pub fn exist(&self) -> bool {
        self.directory.parent().is_some_and(Path::is_dir)
    }

    /// Whether a record could be written, without writing one. What does not exist yet can be made where its nearest
    /// existing parent can be written.
    pub fn writable(&self) -> Result<()> {
        let existing = self.directory.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
        Directory::existing(existing)?.map_or(Ok(()), |directory| directory.writable())
    }

    /// Removes the record, also a damaged one or one of another boot, and what a killed writer left of it. Nothing there is
    /// fine.
    pub fn remove(&self, id: &AttachmentId, plugin: &str) -> Result<()> {
        let Some(directory) = self.existing()? else { return Ok(()) };
        let name = file_name(id, plugin);
        directory.remove(&temporary_name(&name))?;
        directory.remove(&name).map(|_| ())
    }

    /// Is there a record of the attachment? Answers from file names, without reading.
    pub fn names(&self) -> Result<Names> {
        let mut names = HashSet::new();
        if let Some(directory) = self.existing()? {
            directory.each(|name, _| {
                if let Some((attachment, _)) = name.split_once('.').filter(|(start, _)| !start.is_empty()) {
                    names.insert(attachment.to_owned());
                }
            })?;
        }
        Ok(Names(names))
    }

    fn with_prefix(&self, prefix: &str) -> Result<Vec<Record>> {
        Ok(self.kept(prefix)?.records)
    }

    /// `None` when there is none of this boot.
    fn decode(&self, directory: &Directory, name: &str) -> Result<Option<Record>, Reason> {
        let mut record = match directory.read_up_to(name, LONGEST) {
            Ok(None) => return Ok(None),
            Ok(Some(bytes)) => parse(&bytes, Some(&self.boot))?,
            Err(error) => return Err(Reason::Damaged(error.to_string())),
        };
        if let (Some(Seen(seen)), Some(record)) = (&self.seen, &mut record) {
            record.netns = record.netns.take().map(|path| seen(&path));
            let data_dir = record.leases.data_dir.take().filter(|path| !path.is_empty());
            record.leases.data_dir = Some(seen(data_dir.as_deref().unwrap_or(DATA_DIR)));
        }
        Ok(record)
    }

    /// Removes what another boot left, where the root is not on a tmpfs.
    pub fn forget_other_boots(&self) -> Result<()> {
        let Some(directory) = self.existing()? else { return Ok(()) };
        for name in names(&directory, "")? {
            if self.decode(&directory, &name) == Ok(None) {
                directory.remove(&name)?;
            }
        }
        Ok(())
    }
}

/// The attachments that have a record of whatever boot and plugin.
#[derive(Debug)]
pub struct Names(HashSet<String>);

impl Names {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    pub fn contains(&self, id: &AttachmentId) -> bool {
        self.0.contains(&format!("{}-{}", container_part(&id.container), attachment_part(id)))
    }
}

/// Records, and the files beside them that are none for us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    pub records: Vec<Record>,
    pub unread: Vec<Unread>,
    /// Somebody, whoever, was killed while it wrote one.
    pub leftovers: bool,
}

fn warn(directory: &Directory, name: &str, reason: &Reason) {
    let path = directory.path().join(name);
    tracing::warn!("attachment record {} cannot be read and counts as absent: {reason}", path.display());
}

fn names(directory: &Directory, prefix: &str) -> Result<Vec<String>> {
    let mut names = Vec::new();
    directory.each(|name, _| names.extend(is_record(name, prefix).then(|| name.to_owned())))?;
    names.sort_unstable();
    Ok(names)
}

fn is_record(name: &str, prefix: &str) -> bool {
    name.starts_with(prefix) && !name.starts_with('.') && name.strip_suffix(".json").is_some()
}

fn container_part(container: &str) -> String {
    format!("{:016x}", stable_hash(&[container]))
}

fn attachment_part(id: &AttachmentId) -> String {
    format!("{:016x}", stable_hash(&[&id.network, id.if_name.as_str()]))
}

/// The container comes first, so that all records of a container are found by the beginning of their names.
fn file_name(id: &AttachmentId, plugin: &str) -> String {
    format!("{}.json", stem(id, plugin))
}

fn stem(id: &AttachmentId, plugin: &str) -> String {
    format!("{}-{}.{plugin}", container_part(&id.container), attachment_part(id))
}

/// A runtime does not run two verbs for one attachment at once, so one name is enough, and whoever finds it knows that
/// its writer was killed.
fn temporary_name(name: &str) -> String {
    format!(".{name}.new")
}

fn stem_of_temporary(name: &str) -> Option<&str> {
    name.strip_prefix('.')?.strip_suffix(".json.new")
}

#[cfg(test)]
mod tests;
