//! One step from have to want. Displays as the command a person would type: logs, CHECK, `--dry-run` and tests share
//! this text (`words`). A value; what it does to the kernel is in `apply`.
//!
//! Pure.

mod words;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::IpNetwork;

use super::firewall::ChainName;
use super::firewall::passage::{Change, Traffic};
use super::firewall::uplinks::Pair;
use crate::net::{Family, IfName, Mac, Route, VlanId};
use crate::spec::Attachment;

pub use words::{accept_commands, masquerade_words};

/// Whose trouble it is when a step is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concern {
    /// This attachment's: links, addresses and routes of its own, and elements that name it.
    Attachment,
    /// That of every pod of the bridge, the network or the node. One ADD, or a repair, mends it for all of them.
    Shared,
    /// Nobody's: packets get through without.
    Nobody,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    CreateBridge {
        name: IfName,
        mac: Mac,
        mtu: Option<u32>,
        vlan_filtering: bool,
    },
    /// Writes our mark, by which every later run knows the link as ours.
    Mark {
        link: IfName,
        alias: String,
    },
    /// From here on the bridge keeps this MAC, whatever ports come and go.
    FixMac {
        link: IfName,
        mac: Mac,
    },
    Promiscuous {
        link: IfName,
    },
    /// A pod must not be able to give the node a default route.
    RefuseAdvertisements {
        link: IfName,
    },
    Up {
        link: IfName,
    },
    /// A veth pair within the node, for a gateway in a VLAN.
    CreateVlanGateway {
        name: IfName,
        port: IfName,
        mtu: Option<u32>,
    },
    RemoveAddress {
        link: IfName,
        address: IpNetwork,
    },
    AddAddress {
        link: IfName,
        address: IpNetwork,
    },
    /// The name server is asked there.
    NameServerAddress {
        link: IfName,
        address: Ipv4Addr,
    },
    Forward(Family),
    /// Somebody gave the host end another name; it gets its own back.
    Rename {
        link: IfName,
        name: IfName,
    },
    /// What an interrupted run left behind.
    RemoveLink {
        link: IfName,
    },
    CreateVeth {
        host: IfName,
        host_mac: Option<Mac>,
        host_mtu: Option<u32>,
        bridge: IfName,
        pod: IfName,
        mac: Option<Mac>,
        pod_mtu: Option<u32>,
    },
    Join {
        link: IfName,
        bridge: IfName,
    },
    SetPort {
        link: IfName,
        hairpin: Option<bool>,
        isolated: Option<bool>,
    },
    RemoveVlan {
        link: IfName,
        vlan: u16,
    },
    AddVlan {
        link: IfName,
        vlan: VlanId,
        native: bool,
    },
    SetMtu {
        link: IfName,
        mtu: u32,
    },
    /// Once for all ports.
    SpoofRule,
    /// Without a MAC, that of the pod's interface is allowed.
    SpoofCheck {
        port: IfName,
        pod: IfName,
        mac: Option<Mac>,
    },
    /// Until the host end forwards.
    AwaitPort {
        link: IfName,
    },
    /// The old holder's MAC must not get the new one's packets.
    ForgetNeighbour {
        link: IfName,
        address: IpAddr,
    },
    /// The old holder's connections, and what was translated for them, must not catch the new one's packets.
    ForgetConnections {
        address: IpAddr,
    },
    Masquerade {
        network: String,
        subnet: IpNetwork,
    },
    /// Flows that began while the rule was away keep the pod's address until they are forgotten, and nobody answers them.
    ForgetUnmasqueraded {
        subnet: IpNetwork,
    },
    /// Somebody else's route through a host end, which is a port of a bridge and leads nowhere.
    RemoveRoute {
        link: IfName,
        route: Route,
    },
    RemoveSpoofCheck {
        port: IfName,
    },
    /// How packets get through, whoever filters.
    Filter(FilterStep),
    Pod(PodStep),
}

/// For all pods of the node or a link: guard, clamp, accepts in chains of others, the name server's rules, and what an uplink keeps
/// when the node forwards. What a network asks for, masquerading and checks of sources, are steps of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FilterStep {
    /// Questions to it are neither tracked nor translated, and come only from that link and from the node.
    NameServerRules {
        link: IfName,
        /// The address that every node has, unless somebody else uses it here.
        own: Option<Ipv4Addr>,
        gateways: Vec<Ipv4Addr>,
    },
    /// Neighbours elsewhere learn nothing of the address.
    GuardNameServer {
        link: IfName,
        address: Ipv4Addr,
    },
    /// Somebody else uses the address: what is for them is dropped no more.
    ReleaseNameServer {
        address: Ipv4Addr,
    },
    /// What pods behind that link ask of other name servers comes to the gateway, which has the prefix of their network.
    InterceptNames {
        link: IfName,
        gateway: IpNetwork,
    },
    /// Somebody else has port 53: what is asked there is led to this one. Or nobody has it any more.
    LeadNameServer {
        address: Ipv4Addr,
        port: Option<u16>,
    },
    /// What comes in by one uplink and leaves by another is not forwarded.
    GuardForward {
        family: Family,
        /// The chain and its rule are missing.
        rule: bool,
        add: BTreeSet<Pair>,
        remove: BTreeSet<Pair>,
    },
    /// An uplink takes router advertisements also when the node forwards.
    KeepAdvertisements {
        link: IfName,
    },
    ClampMss {
        family: Family,
        interface: IfName,
    },
    /// Lets the interface's packets through a chain of somebody else.
    AcceptForward {
        chain: ChainName,
        traffic: Traffic,
        change: Change,
    },
    /// The same where the chain is in the old x_tables.
    AcceptLegacy {
        family: Family,
        traffic: Traffic,
        change: Change,
    },
}

/// Within the pod's network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodStep {
    Sysctl {
        key: String,
        value: &'static str,
        required: bool,
    },
    /// The kernel tells the neighbours when an address comes up: before one does.
    ArpNotify {
        link: IfName,
    },
    Address {
        link: IfName,
        address: IpNetwork,
    },
    Up {
        link: IfName,
    },
    /// Until no IPv6 address of the interface is tentative any more.
    Settle {
        link: IfName,
    },
    Route {
        link: IfName,
        route: Route,
    },
    /// Neighbours learn the new holder of the addresses.
    Announce {
        link: IfName,
    },
    RemoveLink {
        link: IfName,
    },
}

impl Step {
    /// Whether it can only be made from within the pod's network namespace, or with it in hand.
    pub fn needs_pod(&self) -> bool {
        matches!(self, Self::CreateVeth { .. } | Self::Pod(_) | Self::SpoofCheck { mac: None, .. })
    }

    /// Whether it changes something within the pod's network namespace.
    pub fn is_in_pod(&self) -> bool {
        matches!(self, Self::Pod(_))
    }

    /// Whether it makes or changes the link of that name.
    pub fn is_about(&self, name: &IfName) -> bool {
        match self {
            Self::Mark { link, .. }
            | Self::Up { link }
            | Self::RemoveLink { link }
            | Self::RemoveAddress { link, .. }
            | Self::AddAddress { link, .. }
            | Self::RemoveRoute { link, .. }
            | Self::Join { link, .. }
            | Self::SetPort { link, .. }
            | Self::RemoveVlan { link, .. }
            | Self::AddVlan { link, .. }
            | Self::SetMtu { link, .. }
            | Self::AwaitPort { link } => link == name,
            Self::CreateVeth { host, .. } => host == name,
            Self::Rename { name: own, .. } => own == name,
            Self::SpoofCheck { port, .. } | Self::RemoveSpoofCheck { port } => port == name,
            _ => false,
        }
    }

    /// Whether it does its work also where an earlier step of the same plan failed.
    pub fn stands_alone(&self) -> bool {
        matches!(
            self,
            Self::Forward(_)
                | Self::SpoofRule
                | Self::Filter(_)
                | Self::Masquerade { .. }
                | Self::ForgetUnmasqueraded { .. }
        )
    }

    /// Whose trouble it is where it is missing of this attachment.
    pub fn concern(&self, want: &Attachment) -> Concern {
        match self {
            Self::CreateBridge { .. }
            | Self::FixMac { .. }
            | Self::Promiscuous { .. }
            | Self::RefuseAdvertisements { .. }
            | Self::CreateVlanGateway { .. }
            | Self::NameServerAddress { .. }
            | Self::Forward(_)
            | Self::SpoofRule
            | Self::Masquerade { .. }
            | Self::Filter(_) => Concern::Shared,
            Self::Up { link }
            | Self::AddAddress { link, .. }
            | Self::RemoveAddress { link, .. }
            | Self::RemoveRoute { link, .. }
            | Self::RemoveLink { link }
            | Self::Join { link, .. }
            | Self::SetPort { link, .. }
            | Self::RemoveVlan { link, .. }
            | Self::AddVlan { link, .. }
            | Self::SetMtu { link, .. } => {
                if *link == want.port.name {
                    Concern::Attachment
                } else {
                    Concern::Shared
                }
            }
            Self::CreateVeth { .. }
            | Self::Rename { .. }
            | Self::SpoofCheck { .. }
            | Self::RemoveSpoofCheck { .. }
            | Self::Pod(
                PodStep::Sysctl { .. }
                | PodStep::ArpNotify { .. }
                | PodStep::Address { .. }
                | PodStep::Up { .. }
                | PodStep::Route { .. }
                | PodStep::RemoveLink { .. },
            ) => Concern::Attachment,
            // A mark is for people and for repair.
            Self::Mark { .. }
            | Self::AwaitPort { .. }
            | Self::ForgetNeighbour { .. }
            | Self::ForgetConnections { .. }
            | Self::ForgetUnmasqueraded { .. }
            | Self::Pod(PodStep::Announce { .. } | PodStep::Settle { .. }) => Concern::Nobody,
        }
    }

    /// Steps that only matter while something changes; a node on which they are all that is missing is complete.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::AwaitPort { .. }
                | Self::ForgetNeighbour { .. }
                | Self::ForgetConnections { .. }
                | Self::ForgetUnmasqueraded { .. }
                | Self::Pod(PodStep::Announce { .. } | PodStep::Settle { .. })
        )
    }
}
