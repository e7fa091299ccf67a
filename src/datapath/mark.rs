//! How our things in the kernel are named and marked, so that any later run finds them without being told.
//!
//! Names and MACs are derived, never random: a crash between creating a link and remembering it loses nothing.
//! The mark is the link's `ifalias`, which `ip link` shows and no other program writes by itself.
//!
//! Pure.

use ipnetwork::IpNetwork;

use crate::net::{AttachmentId, IfName, stable_hash};
use crate::spec::Attachment;
pub use crate::spec::OWNER;

/// The kernel keeps 255 bytes and a NUL (`IFALIASZ`, linux/if.h).
const ALIAS_MAX: usize = 255;

/// The host end's name: `veth` and 8 hex digits. `attempt` is 0 unless a foreign link has the first name.
pub fn host_veth(id: &AttachmentId, attempt: u32) -> IfName {
    let attempt = attempt.to_string();
    let hash = stable_hash(&[&id.network, &id.container, id.if_name.as_str(), &attempt]);
    // The two halves are folded so that every input byte counts.
    let name = format!("veth{:08x}", (hash >> 32) ^ (hash & 0xffff_ffff));
    name.parse().expect("veth and 8 hex digits are 12 plain bytes")
}

/// What the `ifalias` of a host veth says:
/// `smarter-cni <network> <container> <interface> <addresses or -> [pod <namespace>/<name>]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VethMark {
    pub id: AttachmentId,
    pub addresses: Vec<IpNetwork>,
    /// `namespace/name`.
    pub pod: Option<String>,
}

impl VethMark {
    pub fn of(want: &Attachment) -> Self {
        Self { id: want.id.clone(), addresses: want.pod.addresses.clone(), pod: want.pod_name.clone() }
    }

    /// The pod's name comes last and is what gives way when the whole is too long.
    pub fn render(&self) -> String {
        let AttachmentId { network, container, if_name } = &self.id;
        let mut text = format!("{OWNER} {network} {container} {if_name} {}", join(&self.addresses));
        if let Some(pod) = &self.pod {
            text.push_str(" pod ");
            text.push_str(pod);
        }
        while text.len() > ALIAS_MAX {
            text.pop();
        }
        text
    }

    /// `None` for a link that is not a host veth of ours.
    pub fn parse(alias: &str) -> Option<Self> {
        let mut words = alias.split(' ');
        if words.next()? != OWNER {
            return None;
        }
        let (network, container) = (words.next()?.to_owned(), words.next()?.to_owned());
        let if_name = words.next()?.parse().ok()?;
        let addresses = split(words.next()?)?;
        let pod = match (words.next(), words.next()) {
            (Some("pod"), Some(pod)) => Some(pod.to_owned()),
            _ => None,
        };
        Some(Self { id: AttachmentId { network, container, if_name }, addresses, pod })
    }
}

/// What the `ifalias` of a bridge that we created or adopted says: `smarter-cni bridge <gateways or ->`. An address of
/// the bridge that is not in this list was put there by somebody else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BridgeMark {
    pub gateways: Vec<IpNetwork>,
}

impl BridgeMark {
    const KIND: &str = "bridge";

    pub fn render(&self) -> String {
        let mut gateways = self.gateways.clone();
        loop {
            let text = format!("{OWNER} {} {}", Self::KIND, join(&gateways));
            if text.len() <= ALIAS_MAX {
                return text;
            }
            gateways.pop();
        }
    }

    pub fn parse(alias: &str) -> Option<Self> {
        let mut words = alias.split(' ');
        if (words.next()?, words.next()?) != (OWNER, Self::KIND) {
            return None;
        }
        Some(Self { gateways: split(words.next()?)? })
    }
}

fn join(addresses: &[IpNetwork]) -> String {
    if addresses.is_empty() {
        return "-".to_owned();
    }
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn split(text: &str) -> Option<Vec<IpNetwork>> {
    if text == "-" {
        return Some(Vec::new());
    }
    text.split(',').map(|address| address.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> AttachmentId {
        AttachmentId { network: "smartnet".into(), container: "c1".into(), if_name: "eth0".parse().unwrap() }
    }

    #[test]
    fn the_host_veth_is_derived_and_differs_by_every_part() {
        let name = host_veth(&id(), 0);
        assert_eq!(name, host_veth(&id(), 0));
        assert_eq!((name.as_str().len(), &name.as_str()[..4]), (12, "veth"));
        let others = [
            host_veth(&AttachmentId { network: "other".into(), ..id() }, 0),
            host_veth(&AttachmentId { container: "c2".into(), ..id() }, 0),
            host_veth(&AttachmentId { if_name: "eth1".parse().unwrap(), ..id() }, 0),
            host_veth(&id(), 1),
        ];
        assert!(others.iter().all(|other| *other != name));
    }

    #[test]
    fn marks_read_back_as_they_were_written() {
        let mark = VethMark {
            id: id(),
            addresses: vec!["172.38.0.5/16".parse().unwrap(), "fd00::5/64".parse().unwrap()],
            pod: Some("default/web-0".into()),
        };
        assert_eq!(mark.render(), "smarter-cni smartnet c1 eth0 172.38.0.5/16,fd00::5/64 pod default/web-0");
        assert_eq!(VethMark::parse(&mark.render()), Some(mark.clone()));
        let bare = VethMark { addresses: vec![], pod: None, ..mark };
        assert_eq!(VethMark::parse(&bare.render()), Some(bare));

        let bridge = BridgeMark { gateways: vec!["172.38.0.1/16".parse().unwrap()] };
        assert_eq!(bridge.render(), "smarter-cni bridge 172.38.0.1/16");
        assert_eq!(BridgeMark::parse(&bridge.render()), Some(bridge));
        assert_eq!(BridgeMark::parse("smarter-cni bridge -"), Some(BridgeMark::default()));
    }

    #[test]
    fn what_others_wrote_is_not_ours() {
        for alias in ["", "uplink", "smarter-cni", "smarter-cni bridge", "smarter-cnix a b eth0 -"] {
            assert_eq!(VethMark::parse(alias), None, "{alias:?}");
            assert_eq!(BridgeMark::parse(alias), None, "{alias:?}");
        }
        assert_eq!(VethMark::parse("smarter-cni bridge 172.38.0.1/16"), None);
    }

    #[test]
    fn a_mark_that_is_too_long_loses_the_end_of_the_pod_name() {
        let mark = VethMark {
            id: AttachmentId { container: "c".repeat(64), ..id() },
            addresses: vec!["172.38.0.5/16".parse().unwrap()],
            pod: Some(format!("default/{}", "x".repeat(253))),
        };
        assert_eq!(mark.render().len(), 255);
        assert_eq!(VethMark::parse(&mark.render()).unwrap().id, mark.id);
    }
}
