//! What an ADD achieved, in the newest shape (CNI SPEC 1.1.0 "Success"). How older versions write it is for
//! [`super::wire`].
//!
//! Pure.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::net::Route;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    pub mac: Option<String>,
    /// Bytes.
    pub mtu: Option<u32>,
    /// The namespace path as the runtime gave it; `None` for the host.
    pub sandbox: Option<String>,
    pub socket_path: Option<String>,
    pub pci_id: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpConfig {
    /// Index into [`AddResult::interfaces`].
    /// Plugins pass on what they got: a number that names none of them is kept.
    pub interface: Option<i64>,
    /// With the host part: `10.1.2.5/24`.
    pub address: IpNetwork,
    pub gateway: Option<IpAddr>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    pub nameservers: Vec<String>,
    /// Empty when there is none.
    pub domain: String,
    pub search: Vec<String>,
    pub options: Vec<String>,
}

impl Dns {
    pub fn is_empty(&self) -> bool {
        self.nameservers.is_empty()
            && self.domain.is_empty()
            && self.search.is_empty()
            && self.options.is_empty()
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddResult {
    pub interfaces: Vec<Interface>,
    pub ips: Vec<IpConfig>,
    pub routes: Vec<Route>,
    pub dns: Dns,
}
