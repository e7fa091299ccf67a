//! Attachment records: what was promised to each pod, and whether the promise was kept.
//!
//! One small JSON file per attachment and plugin below `/run/smarter-cni/attachments`, replaced as a whole by rename. They
//! die with the kernel that carries the attachment: `/run` is gone after a reboot, and a record of another boot is void
//! wherever it is. A record that cannot be read counts as absent: everything it says can be derived or observed again.

use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnetwork::IpNetwork;
use rustix::fs::{Access, CWD, Mode, OFlags};
use serde::{Deserialize, Serialize};

use super::boot;
use super::lock::RUN_DIR;
use crate::net::{Mac, Route, stable_hash};

/// The format. A newer program reads older records; an older one refuses newer ones by this number.
const VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Record {
    version: u32,
    pub boot_id: String,
    /// ADD has returned success.
    pub complete: bool,
    /// CLOCK_BOOTTIME in milliseconds.
    pub created: u64,
    /// Whose promise it is: `bridge`, `host-local`, `portmap`.
    pub plugin: String,
    pub network: String,
    pub container_id: String,
    pub if_name: String,
    /// CNI_NETNS as the runtime gave it.
    #[serde(default)]
    pub netns: Option<String>,
    /// Device and inode of the namespace at ADD.
    #[serde(default)]
    pub netns_identity: Option<(u64, u64)>,
    #[serde(default)]
    pub pod: Option<Pod>,
    #[serde(default)]
    pub promised: Promised,
}

/// The pod as Kubernetes names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Pod {
    #[serde(default)]
    pub namespace: Option<String>,
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub uid: Option<String>,
}

/// What the attachment was promised. Absent keys have their default, unknown ones are skipped, so that neighbouring
/// versions of this program read each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a promise of its own")]
pub struct Promised {
    pub bridge: String,
    pub host_if: String,
    pub host_mac: Option<Mac>,
    pub pod_mac: Option<Mac>,
    pub addresses: Vec<PromisedAddress>,
    /// On the node, for this attachment's subnets.
    pub gateways: Vec<IpNetwork>,
    pub routes: Vec<Route>,
    /// Bytes.
    pub mtu: Option<u32>,
    pub hairpin: bool,
    pub isolated: bool,
    pub promiscuous: bool,
    pub vlan: Option<u16>,
    pub trunk: Vec<u16>,
    pub vlan_filtering: bool,
    pub preserve_default_vlan: bool,
    pub ip_masq: bool,
    pub mac_spoof_check: bool,
    pub is_gateway: bool,
    pub container_interface_disabled: bool,
    pub ipam_type: Option<String>,
    /// Where IPAM keeps its leases.
    pub data_dir: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct PromisedAddress {
    pub address: IpNetwork,
    #[serde(default)]
    pub gateway: Option<IpAddr>,
}

impl Record {
    /// An intent: nothing promised yet, nothing done.
    pub fn new(plugin: &str, network: &str, container_id: &str, if_name: &str) -> io::Result<Self> {
        let created = u64::try_from(boot::boottime().as_millis()).unwrap_or(u64::MAX);
        Ok(Self { boot_id: boot::boot_id()?, created, ..Self::void(plugin, network, container_id, if_name) })
    }

    /// Belongs to no boot: for removing what nobody remembers.
    pub fn void(plugin: &str, network: &str, container_id: &str, if_name: &str) -> Self {
        Self {
            version: VERSION,
            boot_id: String::new(),
            complete: false,
            created: 0,
            plugin: plugin.to_owned(),
            network: network.to_owned(),
            container_id: container_id.to_owned(),
            if_name: if_name.to_owned(),
            netns: None,
            netns_identity: None,
            pod: None,
            promised: Promised::default(),
        }
    }

    /// `namespace/name`, or the beginning of the container's ID.
    pub fn holder(&self) -> String {
        let pod = self
            .pod
            .as_ref()
            .and_then(|pod| Some(format!("{}/{}", pod.namespace.as_ref()?, pod.name.as_ref()?)));
        pod.unwrap_or_else(|| self.container_id.chars().take(12).collect())
    }

    pub fn age(&self, now: Duration) -> Duration {
        now.saturating_sub(Duration::from_millis(self.created))
    }

    /// Whether the namespace still exists; `None` when the record never knew it.
    pub fn namespace_lives(&self) -> Option<bool> {
        let (path, identity) = (self.netns.as_deref()?, self.netns_identity?);
        match std::fs::metadata(path) {
            Ok(found) => Some((found.dev(), found.ino()) == identity),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Some(false),
            // Not being able to look is no proof of death.
            Err(_) => None,
        }
    }
}

/// The directory of records.
#[derive(Clone, Debug)]
pub struct Records {
    directory: PathBuf,
    boot_id: Option<String>,
}

impl Records {
    /// Those of this node.
    pub fn of_node() -> Self {
        Self::at(&Path::new(RUN_DIR).join("attachments"), boot::boot_id().ok())
    }

    /// Those below another directory, as seen in the given boot.
    pub fn at(directory: &Path, boot_id: Option<String>) -> Self {
        Self { directory: directory.to_owned(), boot_id }
    }

    /// Replaces the record as a whole. No fsync: after a power cut it would be void anyway.
    pub fn write(&self, record: &Record) -> io::Result<()> {
        let bytes = serde_json::to_vec(record)?;
        let path = self.path(record);
        // The container's runtime does not run two verbs of one attachment at once, so the name is ours alone.
        let temporary = path.with_extension("tmp");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || rustix::fs::open(&temporary, flags, Mode::RUSR | Mode::WUSR);
        let file = match open() {
            Err(rustix::io::Errno::NOENT) => {
                if let Some(parent) = self.directory.parent() {
                    super::create_private_dir(parent)?;
                }
                super::create_private_dir(&self.directory)?;
                open()
            }
            other => other,
        };
        let written =
            std::fs::File::from(file?).write_all(&bytes).and_then(|()| std::fs::rename(&temporary, &path));
        if written.is_err() {
            let _ = std::fs::remove_file(&temporary);
        }
        written
    }

    /// `None` when there is none of this boot, or it is damaged.
    pub fn read(&self, network: &str, container: &str, if_name: &str, plugin: &str) -> Option<Record> {
        let record = self.load(&self.directory.join(file_name(network, container, if_name, plugin)))?;
        // Two identities may share a hash; the file then belongs to the other one.
        let same = record.network == network && record.container_id == container && record.if_name == if_name;
        same.then_some(record)
    }

    /// All records of a container, whatever network and plugin. Reads only those.
    pub fn of_container(&self, container: &str) -> Vec<Record> {
        let prefix = container_prefix(container);
        let mut records = self.listed(|name| name.starts_with(&prefix));
        records.retain(|record| record.container_id == container);
        records
    }

    /// Every record of this boot.
    pub fn all(&self) -> Vec<Record> {
        self.listed(|_| true)
    }

    fn listed(&self, wanted: impl Fn(&str) -> bool) -> Vec<Record> {
        let Ok(entries) = std::fs::read_dir(&self.directory) else { return Vec::new() };
        let is_record = |path: &Path| {
            path.extension() == Some(OsStr::new("json"))
                && path.file_name().and_then(OsStr::to_str).is_some_and(&wanted)
        };
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| is_record(path));
        paths.filter_map(|path| self.load(&path)).collect()
    }

    fn load(&self, path: &Path) -> Option<Record> {
        let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
            .ok()?;
        let bytes = io::read_to_string(std::fs::File::from(file)).ok()?;
        match serde_json::from_str::<Record>(&bytes) {
            Ok(record) if record.version <= VERSION => self.of_this_boot(record),
            Ok(newer) => {
                tracing::warn!("{}: written by a newer version ({}); ignored", path.display(), newer.version);
                None
            }
            Err(error) => {
                tracing::warn!("{}: damaged ({error}); ignored", path.display());
                None
            }
        }
    }

    fn of_this_boot(&self, record: Record) -> Option<Record> {
        self.boot_id.as_ref().is_none_or(|now| record.boot_id == *now).then_some(record)
    }

    /// Forgets; what is gone already is fine.
    pub fn remove(&self, record: &Record) -> io::Result<()> {
        match std::fs::remove_file(self.path(record)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Whether a record could be written, without writing one. A directory that does not exist yet can be made where its
    /// nearest existing parent can be written.
    pub fn writable(&self) -> io::Result<()> {
        let existing = self.directory.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
        rustix::fs::accessat(CWD, existing, Access::WRITE_OK, rustix::fs::AtFlags::EACCESS)
            .map_err(Into::into)
    }

    fn path(&self, record: &Record) -> PathBuf {
        let Record { network, container_id, if_name, plugin, .. } = record;
        self.directory.join(file_name(network, container_id, if_name, plugin))
    }
}

/// Hashes, because an ID may be longer than a file name; the container's first, so that all of its records are found by
/// listing the directory.
fn file_name(network: &str, container: &str, if_name: &str, plugin: &str) -> String {
    format!("{}{:016x}.{plugin}.json", container_prefix(container), stable_hash(&[network, if_name]))
}

fn container_prefix(container: &str) -> String {
    format!("{:016x}-", stable_hash(&[container]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let mut record =
            Record { boot_id: "this".into(), ..Record::void("bridge", "smartnet", "c1", "eth0") };
        record.netns = Some("/run/netns/a".into());
        record.netns_identity = Some((4, 4_026_532_000));
        record.pod = Some(Pod { namespace: Some("default".into()), name: Some("web".into()), uid: None });
        record.promised.host_mac = Some(Mac([2, 0, 0, 0, 0, 7]));
        record.promised.addresses =
            vec![PromisedAddress { address: "172.38.0.7/16".parse().unwrap(), gateway: None }];
        record.promised.routes =
            vec![Route::to("0.0.0.0/0".parse().unwrap(), Some("172.38.0.1".parse().unwrap()))];
        record
    }

    fn records(directory: &tempfile::TempDir, boot: &str) -> Records {
        Records::at(&directory.path().join("run/attachments"), Some(boot.to_owned()))
    }

    #[test]
    fn what_is_written_is_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let records = records(&directory, "this");
        records.write(&record()).unwrap();
        assert_eq!(records.read("smartnet", "c1", "eth0", "bridge"), Some(record()));
        assert_eq!(records.of_container("c1"), vec![record()]);
        assert_eq!(records.all(), vec![record()]);
        for (network, container, if_name, plugin) in [
            ("other", "c1", "eth0", "bridge"),
            ("smartnet", "c2", "eth0", "bridge"),
            ("smartnet", "c1", "eth0", "portmap"),
        ] {
            assert_eq!(records.read(network, container, if_name, plugin), None);
        }
        records.remove(&record()).unwrap();
        records.remove(&record()).unwrap();
        assert_eq!(records.all(), vec![]);
    }

    #[test]
    fn a_record_of_another_boot_is_void() {
        let directory = tempfile::tempdir().unwrap();
        records(&directory, "this").write(&record()).unwrap();
        assert_eq!(records(&directory, "next").read("smartnet", "c1", "eth0", "bridge"), None);
        assert_eq!(records(&directory, "next").all(), vec![]);
    }

    #[test]
    fn a_damaged_or_newer_record_counts_as_absent() {
        let directory = tempfile::tempdir().unwrap();
        let records = records(&directory, "this");
        records.write(&record()).unwrap();
        let path = records.path(&record());
        for text in ["", "{", "{\"version\":1}"] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(records.read("smartnet", "c1", "eth0", "bridge"), None, "{text:?}");
        }
        records.write(&Record { version: 2, ..record() }).unwrap();
        assert_eq!(records.read("smartnet", "c1", "eth0", "bridge"), None);
    }

    #[test]
    fn a_link_in_its_place_is_neither_read_nor_written_through() {
        let directory = tempfile::tempdir().unwrap();
        let records = records(&directory, "this");
        records.write(&record()).unwrap();
        let path = records.path(&record());
        let elsewhere = directory.path().join("elsewhere");
        std::fs::rename(&path, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        assert_eq!(records.read("smartnet", "c1", "eth0", "bridge"), None);
        std::os::unix::fs::symlink(&elsewhere, path.with_extension("tmp")).unwrap();
        assert!(records.write(&record()).is_err());
    }

    #[test]
    fn keys_of_the_future_are_skipped_and_missing_ones_have_their_default() {
        let text = r#"{"version":1,"boot_id":"this","complete":true,"created":5,"plugin":"bridge","network":"n",
            "container_id":"c","if_name":"eth0","colour":"blue","promised":{"bridge":"b0","shape":"round"}}"#;
        let record: Record = serde_json::from_str(text).unwrap();
        assert_eq!((record.promised.bridge.as_str(), record.netns, record.pod), ("b0", None, None));
    }

    #[test]
    fn a_namespace_lives_while_its_path_leads_to_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ns");
        std::fs::write(&path, "").unwrap();
        let found = std::fs::metadata(&path).unwrap();
        let mut record = record();
        record.netns = Some(path.to_str().unwrap().to_owned());
        assert_eq!(record.namespace_lives(), Some(false));
        record.netns_identity = Some((found.dev(), found.ino()));
        assert_eq!(record.namespace_lives(), Some(true));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(record.namespace_lives(), Some(false));
        record.netns_identity = None;
        assert_eq!(record.namespace_lives(), None);
    }
}
