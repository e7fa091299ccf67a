//! Does the holder of a lease still live?
//!
//! Answers from what is remembered and from the namespace's path. Death must be proven: whatever cannot be decided is
//! alive here, and only the kernel, asked by somebody else, knows better.

use std::path::Path;
use std::time::Duration;

use rustix::fs::{stat, statfs};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::error::Error;
use super::lease::Holder;
use super::record::Record;
use crate::file;

/// How long an attachment is left alone after its ADD began. CLOCK_BOOTTIME.
pub const GRACE: Duration = Duration::from_secs(5);

/// Where libcni keeps the results of successful ADDs.
pub const LIBCNI_RESULTS: &str = "/var/lib/cni/results";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    Alive,
    Dead,
    /// Nothing that is remembered tells.
    Unknown,
}

/// Device and inode of a namespace: the same only while it is the same namespace (namespaces(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NetnsId {
    pub dev: u64,
    pub ino: u64,
}

impl NetnsId {
    /// `None` when nothing is at the path.
    pub fn of(path: &str) -> Option<Self> {
        stat(path).ok().map(|stat| Self { dev: stat.st_dev, ino: stat.st_ino })
    }
}

/// Judges by the attachment's own record, which is one of this boot. `now` is CLOCK_BOOTTIME.
pub fn of_record(record: &Record, now: Duration) -> Liveness {
    if is_gone(record) && now >= record.created() + GRACE { Liveness::Dead } else { Liveness::Alive }
}

/// Is the namespace of the record gone, however young the record? Where it never had one, it is not.
pub fn is_gone(record: &Record) -> bool {
    match (&record.netns, record.netns_id) {
        (Some(path), Some(id)) => NetnsId::of(path) != Some(id),
        _ => false,
    }
}

/// Where the namespace of a record is, as far as its path tells from here. Finer than [`is_gone`], for whoever would tear
/// down what it takes for dead without having been asked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whereabouts {
    Here,
    /// Nothing is at the path any more, or another namespace.
    Gone,
    /// Why it cannot be told.
    Unclear(String),
}

pub fn whereabouts(record: &Record) -> Whereabouts {
    let (Some(path), Some(id)) = (&record.netns, record.netns_id) else {
        return Whereabouts::Unclear("its record names no namespace".to_owned());
    };
    match stat(path) {
        Ok(stat) if (NetnsId { dev: stat.st_dev, ino: stat.st_ino }) == id => Whereabouts::Here,
        Ok(_) if is_namespace(path) => Whereabouts::Gone,
        // What a container sees whose view of the host does not follow the host's mounts: not a sign of death.
        Ok(_) => Whereabouts::Unclear(format!("{path} is no namespace, as seen from here")),
        Err(Errno::NOENT) => Whereabouts::Gone,
        Err(error) => Whereabouts::Unclear(Error::new("stat", Path::new(path), error).to_string()),
    }
}

/// Judges an attachment without record by libcni's cache file `<results>/<network>-<container>-<interface>`, which
/// holds the namespace's path. `results` is [`LIBCNI_RESULTS`] on a node.
pub fn of_cache(results: &Path, network: &str, holder: &Holder) -> Liveness {
    let Some(if_name) = &holder.if_name else { return Liveness::Unknown };
    let name = format!("{network}-{}-{if_name}", holder.container);
    // Asked with the lease lock held: whatever somebody put there must not keep all pods waiting.
    let Ok(bytes) = file::bytes(&results.join(name), file::MOST) else { return Liveness::Unknown };
    match cached_netns(&bytes) {
        Some(path) if is_namespace(&path) => Liveness::Alive,
        Some(_) => Liveness::Dead,
        None => Liveness::Unknown,
    }
}

/// The file may be truncated after a power cut, and those of old versions are a bare result.
fn cached_netns(bytes: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Cache {
        netns: Option<String>,
    }
    let cache: Cache = serde_json::from_slice(bytes).ok()?;
    cache.netns.filter(|path| !path.is_empty())
}

/// After an unmount the path of a namespace is a plain file.
fn is_namespace(path: &str) -> bool {
    // NSFS_MAGIC and PROC_SUPER_MAGIC, include/uapi/linux/magic.h: kernels before 3.19 had namespaces in procfs.
    statfs(path).is_ok_and(|fs| matches!(fs.f_type, 0x6e73_6673 | 0x9fa0))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;
    use crate::net::AttachmentId;
    use crate::state::boot::{BootId, boottime};
    use crate::state::record::Records;

    fn record(netns: Option<&str>) -> Record {
        let records = Records::at(Path::new("/nowhere"), BootId::current().unwrap());
        let (network, container) = ("net".to_owned(), "cid".to_owned());
        let id = AttachmentId { network, container, if_name: "eth0".parse().unwrap() };
        Record::begin(&records, "bridge", &id, netns)
    }

    #[test]
    fn a_record_lives_as_long_as_its_namespace() {
        let directory = tempfile::tempdir().unwrap();
        let netns = directory.path().join("netns");
        fs::write(&netns, "").unwrap();
        let record = record(netns.to_str());
        let later = boottime() + GRACE + Duration::from_secs(1);
        assert_eq!(of_record(&record, later), Liveness::Alive);
        let kept = directory.path().join("kept");
        fs::rename(&netns, &kept).unwrap();
        assert_eq!(of_record(&record, boottime()), Liveness::Alive, "in its first seconds");
        assert_eq!(of_record(&record, later), Liveness::Dead);
        fs::write(&netns, "").unwrap();
        assert_eq!(of_record(&record, later), Liveness::Dead, "another one took the path");
    }

    #[test]
    fn without_identity_nothing_is_dead() {
        let later = boottime() + GRACE * 2;
        assert_eq!(of_record(&record(None), later), Liveness::Alive);
        assert_eq!(of_record(&record(Some("/no/such/netns")), later), Liveness::Alive);
    }

    #[test]
    fn a_plain_file_in_place_of_a_namespace_proves_nothing() {
        let namespace = record(Some("/proc/self/ns/net"));
        assert_eq!(whereabouts(&namespace), Whereabouts::Here);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("netns");
        fs::write(&path, "").unwrap();
        let at = |netns: &str| Record { netns: Some(netns.to_owned()), ..namespace.clone() };
        assert!(matches!(whereabouts(&at(path.to_str().unwrap())), Whereabouts::Unclear(_)));
        assert_eq!(whereabouts(&at("/proc/self/ns/uts")), Whereabouts::Gone, "another one took the path");
        assert_eq!(whereabouts(&at("/no/such/netns")), Whereabouts::Gone);
        assert!(matches!(whereabouts(&record(None)), Whereabouts::Unclear(_)));
    }

    #[test]
    fn libcnis_cache_tells_of_the_others() {
        let results = tempfile::tempdir().unwrap();
        let holder = Holder::new("cid", &"eth0".parse().unwrap());
        let judge = || of_cache(results.path(), "net", &holder);
        assert_eq!(judge(), Liveness::Unknown);
        let plain = results.path().join("plain");
        fs::write(&plain, "").unwrap();
        let cache = |netns: &str| {
            format!(r#"{{"kind":"cniCacheV1","containerId":"cid","netns":"{netns}","result":{{}}}}"#)
        };
        for (content, liveness) in [
            (cache("/proc/self/ns/net"), Liveness::Alive),
            (cache("/no/such/netns"), Liveness::Dead),
            (cache(plain.to_str().unwrap()), Liveness::Dead),
            (cache(""), Liveness::Unknown),
            (cache("/proc/self/ns/net")[..40].to_owned(), Liveness::Unknown),
            (r#"{"cniVersion":"0.4.0","ips":[]}"#.to_owned(), Liveness::Unknown),
        ] {
            fs::write(results.path().join("net-cid-eth0"), &content).unwrap();
            assert_eq!(judge(), liveness, "{content}");
        }
        let legacy = Holder { container: "cid".into(), if_name: None };
        assert_eq!(of_cache(results.path(), "net", &legacy), Liveness::Unknown);
    }

    #[test]
    fn whatever_stands_in_the_cache_nobody_waits_for_it() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        mknodat(CWD, at("net-pipe-eth0"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        symlink("/dev/zero", at("net-endless-eth0")).unwrap();
        fs::File::create(at("net-sparse-eth0")).unwrap().set_len(1 << 40).unwrap();
        fs::create_dir(at("net-directory-eth0")).unwrap();
        for container in ["pipe", "endless", "sparse", "directory", "none"] {
            let holder = Holder::new(container, &"eth0".parse().unwrap());
            assert_eq!(of_cache(directory.path(), "net", &holder), Liveness::Unknown, "{container}");
        }
    }
}
