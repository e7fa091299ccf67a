//! Which events can mean that something of ours was damaged. Pure: what is there goes in as a list of links, what happens
//! as events.
//!
//! The ordinary traffic of ADD gives no reason for a look, that of foreign pods neither. A DEL takes links away as an
//! enemy would; so a loss of a pod's link is only suspected, and whoever asks knows whether the pod still has a record.
//!
//! Pure, over what the kernel says.

use std::collections::BTreeMap;

use crate::datapath::mark::{BridgeMark, OWNER, VethMark};
use crate::kernel::events::{Change, Event, RuleChange};
use crate::kernel::link::{Link, OperState};
use crate::net::{AttachmentId, is_of_a_link};

/// What may have been damaged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Suspicion {
    /// Something that no verb of ours takes away.
    pub certain: bool,
    /// Attachments that lost something; damage, if they are still attached.
    pub attachments: Vec<AttachmentId>,
}

impl Suspicion {
    pub fn is_none(&self) -> bool {
        !self.certain && self.attachments.is_empty()
    }
}

#[derive(Debug)]
pub(super) struct Judge {
    is_ours: fn(&str) -> bool,
    links: BTreeMap<u32, Known>,
    /// The transaction that is just announced removes elements of our sets.
    elements: bool,
    suspicion: Suspicion,
}

/// A link of ours as it was heard of last.
#[derive(Debug)]
struct Known {
    role: Role,
    link: Link,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Role {
    /// Also the gateway of a VLAN: whoever carries addresses of ours.
    Bridge,
    Port(AttachmentId),
    /// In a bridge of ours without a mark: the port of a VLAN's gateway, or somebody else's.
    Guest,
}

impl Judge {
    pub(super) fn new(is_ours: fn(&str) -> bool) -> Self {
        Self { is_ours, links: BTreeMap::new(), elements: false, suspicion: Suspicion::default() }
    }

    /// What is there is what it should be, as far as this is concerned: a look follows.
    pub(super) fn learn(&mut self, mut links: Vec<Link>) {
        self.links.clear();
        // Bridges first: guests are known by their bridge.
        links.sort_by_key(|link| link.kind.as_deref() != Some("bridge"));
        for link in links {
            if let Some(role) = self.role(&link) {
                self.links.insert(link.index, Known { role, link });
            }
        }
    }

    /// What was suspected since it was last asked.
    pub(super) fn suspicion(&mut self) -> Suspicion {
        std::mem::take(&mut self.suspicion)
    }

    /// Whether it is a reason to suspect something.
    pub(super) fn hear(&mut self, event: Event<'_>) -> bool {
        match event {
            Event::Link(link) => self.hear_link(*link),
            Event::Port { index, hairpin, isolated } => self.change(index, |link| {
                link.hairpin = hairpin.or(link.hairpin);
                link.isolated = isolated.or(link.isolated);
            }),
            Event::PortGone { index } => self.change(index, |link| link.master = None),
            Event::LinkGone { index } => match self.links.remove(&index) {
                Some(known) => self.suspect(known.role),
                None => false,
            },
            // The others the kernel gives and takes as links go up and down.
            Event::AddressGone { index, address } if !is_of_a_link(address) => {
                self.is_role(index, |role| *role == Role::Bridge) && self.suspect(Role::Bridge)
            }
            // A network manager took it for one of the node's own.
            Event::Address { index, address } if !is_of_a_link(address) => {
                match self.links.get(&index).filter(|known| known.role != Role::Bridge) {
                    Some(known) => self.suspect(known.role.clone()),
                    None => false,
                }
            }
            Event::Forwarding { on: false } | Event::Missed => self.suspect(Role::Bridge),
            Event::Rules(change) => self.hear_rules(change),
            Event::Committed { program } => {
                let ordinary = program.as_deref().is_some_and(self.is_ours);
                std::mem::take(&mut self.elements) && !ordinary && self.suspect(Role::Bridge)
            }
            Event::Address { .. } | Event::AddressGone { .. } | Event::Forwarding { on: true } => false,
        }
    }

    fn hear_link(&mut self, link: Link) -> bool {
        let role = self.role(&link);
        let Some(known) = self.links.get_mut(&link.index) else {
            if let Some(role) = role {
                self.links.insert(link.index, Known { role, link });
            }
            return false;
        };
        let before = known.role.clone();
        let unmarked = before != Role::Guest && role.as_ref() != Some(&before);
        let lost = unmarked || is_less(&before, &known.link, &link);
        // A port without its mark is no guest: it gets the mark back.
        *known =
            Known { role: role.filter(|role| *role != Role::Guest).unwrap_or_else(|| before.clone()), link };
        lost && self.suspect(before)
    }

    fn change(&mut self, index: u32, make: impl FnOnce(&mut Link)) -> bool {
        let Some(known) = self.links.get_mut(&index) else { return false };
        let before = known.link.clone();
        make(&mut known.link);
        let role = known.role.clone();
        is_less(&role, &before, &known.link) && self.suspect(role)
    }

    fn hear_rules(&mut self, change: RuleChange<'_>) -> bool {
        let about_us = change.mentions(OWNER);
        match change.what {
            Change::Deleted if about_us => self.suspect(Role::Bridge),
            Change::ElementsDeleted if about_us => {
                self.elements = true;
                false
            }
            // Of somebody else, and it may drop what pods send.
            Change::ForwardChain if !about_us && !self.links.is_empty() => self.suspect(Role::Bridge),
            _ => false,
        }
    }

    fn suspect(&mut self, role: Role) -> bool {
        match role {
            Role::Port(id) if self.suspicion.attachments.contains(&id) => {}
            Role::Port(id) => self.suspicion.attachments.push(id),
            Role::Bridge | Role::Guest => self.suspicion.certain = true,
        }
        true
    }

    fn is_role(&self, index: u32, is: impl FnOnce(&Role) -> bool) -> bool {
        self.links.get(&index).is_some_and(|known| is(&known.role))
    }

    /// `None` for a link that is none of ours.
    fn role(&self, link: &Link) -> Option<Role> {
        let alias = link.alias.as_deref().unwrap_or_default();
        if BridgeMark::parse(alias).is_some() {
            return Some(Role::Bridge);
        }
        if let Some(mark) = VethMark::parse(alias) {
            return Some(Role::Port(mark.id));
        }
        let (bridge, vlan) = link.name.rsplit_once('.').unwrap_or_default();
        let is_bridge = |known: &Known| known.role == Role::Bridge && known.link.name == bridge;
        if vlan.parse::<u16>().is_ok() && self.links.values().any(is_bridge) {
            return Some(Role::Bridge);
        }
        let joined = link.master.is_some_and(|master| self.is_role(master, |role| *role == Role::Bridge));
        joined.then_some(Role::Guest)
    }
}

/// Whether something that the link had is gone. What an ADD gives it one after the other is none: the alias, its port's
/// flags.
fn is_less(role: &Role, before: &Link, now: &Link) -> bool {
    let gone = |before: Option<bool>, now: Option<bool>| before == Some(true) && now == Some(false);
    let any = before.name != now.name
        || before.up && !now.up
        || before.master.is_some() && before.master != now.master
        || gone(before.hairpin, now.hairpin)
        || before.isolated.is_some() && now.isolated.is_some() && before.isolated != now.isolated;
    any || match role {
        // It follows its ports with the rest.
        Role::Bridge => before.promiscuous && !now.promiscuous,
        // The pod's end went down, or moved.
        Role::Port(_) => before.mtu != now.mtu || before.state == OperState::Up && now.state != OperState::Up,
        Role::Guest => false,
    }
}

#[cfg(test)]
mod tests;
