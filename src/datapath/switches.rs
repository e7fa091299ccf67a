//! Switches of the kernel that belong to the whole host: turned only with a note of what they were, and given back.
//!
//! Which ones, and when, is the plan's business.

use std::path::Path;

use super::firewall;
use super::mark::OWNER;
use super::observe::forwarding_key;
use super::session::Side;
use crate::kernel::netns::Netns;
use crate::kernel::{self, link, sysctl};
use crate::net::{Family, IfName};
use crate::spec::Attachment;
use crate::state::host::{Change, HostChanges, changes_exist};
use crate::state::lock::NodeLock;
use crate::state::{BootId, NetnsId, record};

/// Notes the old value, then writes the new one.
pub fn turn(boot: &BootId, key: &str, new: &str) -> kernel::Result<()> {
    let _lock = NodeLock::take().map_err(failed)?;
    // Another first pod may have been quicker: then the note is there, and true.
    match sysctl::read(key)? {
        Some(old) if old != new => {
            let change = Change { netns: here()?, key: key.to_owned(), old, new: new.to_owned() };
            changes(boot).remember(change).map_err(failed)?;
        }
        _ => {}
    }
    sysctl::write(key, new)
}

/// The families among these in which we switched forwarding on.
pub fn switched_on(boot: &BootId, families: &[Family]) -> kernel::Result<Vec<Family>> {
    let known = changes(boot).read().map_err(failed)?;
    if known.is_empty() {
        return Ok(Vec::new());
    }
    let netns = here()?;
    let ours = |family: &&Family| {
        known.iter().any(|change| change.netns == netns && change.key == forwarding_key(**family))
    };
    Ok(families.iter().filter(ours).copied().collect())
}

/// Links that take router advertisements as long as the node does not forward (`accept_ra` 1): the uplinks. Bridges and
/// host ends of ours take none.
pub fn listeners(node: &mut Side, want: &Attachment) -> kernel::Result<Vec<IfName>> {
    let mut found = Vec::new();
    for link in link::all(&mut node.route)? {
        let Ok(name) = link.name.parse::<IfName>() else { continue };
        let ours = link.alias.is_some_and(|alias| alias.starts_with(OWNER));
        if ours || name.as_str() == "lo" || firewall::inside(want).contains(&name) {
            continue;
        }
        if link.accept_ra == Some(1) {
            found.push(name);
        }
    }
    Ok(found)
}

/// The switches that we turned in this namespace and that are still as we turned them, as `key=old value`.
pub fn turned(boot: &BootId) -> kernel::Result<Vec<String>> {
    let netns = here()?;
    let mut found = Vec::new();
    for change in changes(boot).read().map_err(failed)?.into_iter().filter(|change| change.netns == netns) {
        if sysctl::read(&change.key)?.as_deref() == Some(change.new.as_str()) {
            found.push(format!("{}={}", change.key.replace('/', "."), change.old));
        }
    }
    Ok(found)
}

/// Gives back what was changed in this network namespace, last change first. A switch that somebody else has turned
/// since then stays. Goes on when one fails and returns the first failure; what failed is still known afterwards.
pub fn undo(boot: &BootId) -> kernel::Result<()> {
    give_back_all(boot, &NodeLock::take().map_err(failed)?).map(drop)
}

/// The same for whoever holds the node's lock. Says what was given back, in the order in which it was made.
pub(super) fn give_back_all(boot: &BootId, _lock: &NodeLock) -> kernel::Result<Vec<Change>> {
    let netns = here()?;
    let host = changes(boot);
    let (mut given_back, mut failure) = (Vec::new(), None);
    for change in host.read().map_err(failed)?.into_iter().rev().filter(|change| change.netns == netns) {
        match give_back(&change) {
            Ok(()) => given_back.push(change),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    host.forget(&given_back).map_err(failed)?;
    given_back.reverse();
    failure.map_or(Ok(given_back), Err)
}

/// Turns again what was just given back.
pub(super) fn turn_again(boot: &BootId, _lock: &NodeLock, changes_again: Vec<Change>) -> kernel::Result<()> {
    let host = changes(boot);
    for change in changes_again {
        let (key, new) = (change.key.clone(), change.new.clone());
        host.remember(change).map_err(failed)?;
        sysctl::write(&key, &new)?;
    }
    Ok(())
}

/// Whether anything was ever turned, in whichever namespace and boot: most DELs need to know no more.
pub(super) fn were_turned() -> bool {
    changes_exist(Path::new(record::ROOT))
}

/// Whether we turned anything in this namespace.
pub(super) fn any_turned(boot: &BootId) -> kernel::Result<bool> {
    let known = changes(boot).read().map_err(failed)?;
    if known.is_empty() {
        return Ok(false);
    }
    let netns = here()?;
    Ok(known.iter().any(|change| change.netns == netns))
}

fn give_back(change: &Change) -> kernel::Result<()> {
    match sysctl::read(&change.key)? {
        Some(now) if now == change.new => sysctl::write(&change.key, &change.old),
        _ => Ok(()),
    }
}

fn changes(boot: &BootId) -> HostChanges {
    HostChanges::at(Path::new(record::ROOT), boot.clone())
}

fn here() -> kernel::Result<NetnsId> {
    let (dev, ino) = Netns::current_identity()?;
    Ok(NetnsId { dev, ino })
}

fn failed(error: impl std::fmt::Display) -> kernel::Error {
    kernel::Error::new(error.to_string(), std::io::ErrorKind::Other.into())
}
