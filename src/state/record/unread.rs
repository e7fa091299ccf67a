//! From bytes to a record, or why not.
//!
//! Pure.

use std::fmt;

use serde::Deserialize;

use super::version_1::Version1;
use super::{BootId, Record, VERSION, attachment_part, container_part};
use crate::net::{AttachmentId, IfName};

/// Why a file is no record for this program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    Damaged(String),
    /// Of a later version than ours: what it promises there, nobody here knows.
    Newer(u32),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged(why) => f.write_str(why),
            Self::Newer(version) => write!(
                f,
                "it is of version {version}, and this program knows {VERSION} at most: install the newer smarter-cni again, \
                 or restart the pod"
            ),
        }
    }
}

/// `None` for one of another boot, which is void whatever it says.
pub(super) fn parse(bytes: &[u8], boot: Option<&BootId>) -> Result<Option<Record>, Reason> {
    let of_this_boot = |its: &BootId| boot.is_none_or(|boot| its == boot);
    let damaged = |error: serde_json::Error| Reason::Damaged(error.to_string());
    let record = match serde_json::from_slice::<Record>(bytes) {
        Ok(record) if record.version == VERSION => record,
        other => match serde_json::from_slice::<Stamp>(bytes).map_err(damaged)? {
            Stamp { boot_id: Some(its), .. } if !of_this_boot(&its) => return Ok(None),
            Stamp { version, .. } if version > VERSION => return Err(Reason::Newer(version)),
            Stamp { version, .. } if version < VERSION => {
                serde_json::from_slice::<Version1>(bytes).map_err(damaged)?.into()
            }
            _ => other.map_err(damaged)?,
        },
    };
    if !of_this_boot(&record.boot_id) {
        return Ok(None);
    }
    if !record.is_consistent() {
        return Err(Reason::Damaged("what it promises is promised to another attachment".to_owned()));
    }
    Ok(Some(record))
}

/// What every version begins with.
#[derive(Deserialize)]
struct Stamp {
    version: u32,
    #[serde(default)]
    boot_id: Option<BootId>,
}

/// A file under a record's name that this program cannot read. Its name still tells whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    pub(super) file: String,
}

impl Unread {
    pub fn plugin(&self) -> &str {
        self.file.split('.').nth(1).unwrap_or_default()
    }

    /// Whether it is of that container.
    pub fn is_of(&self, container: &str) -> bool {
        self.parts().is_some_and(|(part, _)| part == container_part(container))
    }

    /// Whether it is of a container's interface of this name in that network.
    pub fn is_in(&self, network: &str, if_name: &IfName) -> bool {
        let (network, container) = (network.to_owned(), String::new());
        let id = AttachmentId { network, container, if_name: if_name.clone() };
        self.parts().is_some_and(|(_, part)| part == attachment_part(&id))
    }

    fn parts(&self) -> Option<(&str, &str)> {
        let (container, rest) = self.file.split_once('-')?;
        Some((container, rest.split_once('.')?.0))
    }
}
