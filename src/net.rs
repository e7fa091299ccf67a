//! Plain nouns of networking, each impossible to build wrong. No I/O, no knowledge of CNI or of the kernel's messages.
//!
//! Pure.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

/// The name of a network interface: 1 to 15 bytes, not `.` or `..`, no `/`, `:` or white space (the kernel's
/// `dev_valid_name`, net/core/dev.c), so it is also safe as one element of a path. No `%` either: the kernel makes `br1` of
/// `br%d`, then `br2`, and lets no link have one in its name (`dev_prep_valid_name`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct IfName(String);

impl From<IfName> for String {
    fn from(name: IfName) -> Self {
        name.0
    }
}

impl TryFrom<String> for IfName {
    type Error = IfNameError;

    fn try_from(text: String) -> Result<Self, IfNameError> {
        text.parse()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfNameError {
    Empty,
    TooLong,
    Dots,
    Characters,
    Pattern,
}

impl fmt::Display for IfNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "interface name is empty",
            Self::TooLong => "interface name is too long",
            Self::Dots => "interface name is . or ..",
            Self::Characters => "interface name contains / or : or whitespace characters",
            Self::Pattern => "interface name contains %, in whose place the kernel puts a number",
        })
    }
}

impl std::error::Error for IfNameError {}

impl IfName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for IfName {
    type Err = IfNameError;

    fn from_str(text: &str) -> Result<Self, IfNameError> {
        if text.is_empty() {
            return Err(IfNameError::Empty);
        }
        if text.len() > 15 {
            return Err(IfNameError::TooLong);
        }
        if text == "." || text == ".." {
            return Err(IfNameError::Dots);
        }
        if text.chars().any(|c| c == '/' || c == ':' || c == '\0' || c.is_whitespace()) {
            return Err(IfNameError::Characters);
        }
        if text.contains('%') {
            return Err(IfNameError::Pattern);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// At which port names are asked for, over UDP and TCP (RFC 1035 section 4.2).
pub const DNS_PORT: u16 = 53;
/// Where the node's name server answers what pods asked of others, at its gateways; and at all its addresses while somebody
/// else has port 53, unless it was told another port.
pub const DNS_INTERCEPT_PORT: u16 = 9053;

/// A label of a name as hosts have them (RFC 1123 section 2.1): letters, digits and hyphens, none of these at an end; in lower
/// case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label(Box<str>);

impl Label {
    const LONGEST: usize = 63;

    /// `None` for what no host may be called.
    pub fn parse(text: &str) -> Option<Self> {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let right = (1..=Self::LONGEST).contains(&text.len())
            && text.bytes().all(inner)
            && !text.starts_with('-')
            && !text.ends_with('-');
        right.then(|| Self(text.to_ascii_lowercase().into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Label> for String {
    fn from(label: Label) -> Self {
        label.0.into()
    }
}

impl TryFrom<String> for Label {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("no host may be called that")
    }
}

/// What names an attachment (CNI SPEC: network name, CNI_CONTAINERID, CNI_IFNAME).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
pub struct AttachmentId {
    pub network: String,
    pub container: String,
    pub if_name: IfName,
}

/// An Ethernet address. Displays as `02:42:ac:11:00:02`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

impl TryFrom<String> for Mac {
    type Error = MacError;

    fn try_from(text: String) -> Result<Self, MacError> {
        text.parse()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MacError(String);

impl fmt::Display for MacError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "address {}: invalid MAC address", self.0)
    }
}

impl std::error::Error for MacError {}

impl FromStr for Mac {
    type Err = MacError;

    /// `aa:bb:cc:dd:ee:ff`, `aa-bb-cc-dd-ee-ff` or `aabb.ccdd.eeff`, in any case.
    fn from_str(text: &str) -> Result<Self, MacError> {
        let wrong = || MacError(text.to_owned());
        let (separator, digits) = match text.chars().find(|c| matches!(c, ':' | '-' | '.')) {
            Some('.') => ('.', 4),
            Some(separator) => (separator, 2),
            None => return Err(wrong()),
        };
        let mut bytes = Vec::with_capacity(6);
        for group in text.split(separator) {
            if group.len() != digits || !group.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(wrong());
            }
            for at in (0..digits).step_by(2) {
                bytes.push(u8::from_str_radix(&group[at..at + 2], 16).map_err(|_| wrong())?);
            }
        }
        bytes.try_into().map(Self).map_err(|_| wrong())
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            let colon = if at == 0 { "" } else { ":" };
            write!(f, "{colon}{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// `0.0.0.0/0` or `::/0`.
    pub fn default_route(self) -> IpNetwork {
        match self {
            Self::V4 => IpNetwork::V4(
                ipnetwork::Ipv4Network::new_checked(0.into(), 0).expect("0.0.0.0/0 is a network"),
            ),
            Self::V6 => {
                IpNetwork::V6(ipnetwork::Ipv6Network::new_checked(0.into(), 0).expect("::/0 is a network"))
            }
        }
    }
}

/// What no interface of a node can have for itself.
pub fn is_nobodys(address: Ipv4Addr) -> bool {
    address.is_unspecified() || address.is_loopback() || address.is_multicast() || address.is_broadcast()
}

/// The network an address with prefix belongs to: `10.1.2.5/24` gives `10.1.2.0/24`.
pub fn network_of(address: IpNetwork) -> IpNetwork {
    IpNetwork::new(address.network(), address.prefix()).expect("the prefix came from a network")
}

/// Whether it is valid on one link only, so that nobody can name it without that link (RFC 4291 section 2.5.6).
pub fn is_of_a_link(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// Whether any address is in both.
pub fn overlap(one: IpNetwork, other: IpNetwork) -> bool {
    one.is_ipv4() == other.is_ipv4() && (one.contains(other.network()) || other.contains(one.network()))
}

/// A VLAN identifier that a frame can carry: 1 to 4094 (IEEE 802.1Q).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct VlanId(u16);

impl From<VlanId> for u16 {
    fn from(vlan: VlanId) -> Self {
        vlan.0
    }
}

impl TryFrom<u16> for VlanId {
    type Error = &'static str;

    fn try_from(id: u16) -> Result<Self, Self::Error> {
        Self::new(id).ok_or("a VLAN is 1 to 4094")
    }
}

impl VlanId {
    pub fn new(id: u16) -> Option<Self> {
        (1..=4094).contains(&id).then_some(Self(id))
    }

    pub fn id(self) -> u16 {
        self.0
    }
}

impl fmt::Display for VlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A route as CNI writes it (SPEC "Success", `routes`). `None` and absent are the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
pub struct Route {
    /// Destination without host bits.
    pub dst: IpNetwork,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gw: Option<IpAddr>,
    /// Bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Bytes of TCP payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advmss: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// `rtnetlink(7)`: 0 universe, 200 site, 253 link, 254 host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<u8>,
}

impl Route {
    pub fn to(dst: IpNetwork, gw: Option<IpAddr>) -> Self {
        Self { dst, gw, mtu: None, advmss: None, priority: None, table: None, scope: None }
    }

    pub fn is_default(&self) -> bool {
        self.dst.prefix() == 0
    }
}

/// 64-bit FNV-1a, for names that must come out the same in every version of this program and on every machine.
/// The parts are kept apart: (`ab`, `c`) and (`a`, `bc`) differ. Not for secrets.
pub fn stable_hash(parts: &[&str]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut eat = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    for part in parts {
        part.bytes().for_each(&mut eat);
        eat(0);
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_are_what_the_kernel_takes() {
        for good in ["eth0", "a", "br-1.100", "0123456789abcde", "…"] {
            assert_eq!(good.parse::<IfName>().unwrap().as_str(), good);
        }
        assert_eq!("".parse::<IfName>(), Err(IfNameError::Empty));
        assert_eq!("0123456789abcdef".parse::<IfName>(), Err(IfNameError::TooLong));
        assert_eq!("..".parse::<IfName>(), Err(IfNameError::Dots));
        for bad in ["a/b", "a:b", "a b", "a\u{a0}b", "a\n"] {
            assert_eq!(bad.parse::<IfName>(), Err(IfNameError::Characters), "{bad:?}");
        }
        for pattern in ["br%d", "%", "a%sb"] {
            assert_eq!(pattern.parse::<IfName>(), Err(IfNameError::Pattern), "{pattern:?}");
        }
    }

    #[test]
    fn macs_are_read_in_all_three_notations() {
        let mac = Mac([0x02, 0x42, 0xac, 0x11, 0x00, 0x02]);
        for text in ["02:42:ac:11:00:02", "02-42-AC-11-00-02", "0242.ac11.0002"] {
            assert_eq!(text.parse(), Ok(mac));
        }
        assert_eq!(mac.to_string(), "02:42:ac:11:00:02");
        for bad in [
            "",
            "zz",
            "02:42:ac:11:00",
            "02:42:ac:11:00:02:03",
            "02:42-ac:11:00:02",
            "2:42:ac:11:00:02",
            "+2:42:ac:11:00:02",
        ] {
            assert_eq!(
                bad.parse::<Mac>().unwrap_err().to_string(),
                format!("address {bad}: invalid MAC address")
            );
        }
    }

    #[test]
    fn networks_overlap_when_one_is_in_the_other() {
        let overlaps = |one: &str, other: &str| overlap(one.parse().unwrap(), other.parse().unwrap());
        assert!(overlaps("10.0.0.0/8", "10.38.0.0/16") && overlaps("10.38.0.0/16", "10.38.4.7/8"));
        assert!(!overlaps("10.38.0.0/16", "10.39.0.0/16"));
        assert!(!overlaps("0.0.0.0/0", "::/0"));
    }

    #[test]
    fn the_stable_hash_is_stable_and_keeps_parts_apart() {
        assert_eq!(stable_hash(&["a"]), 0x089b_e207_b544_f1e4);
        assert_ne!(stable_hash(&["ab", "c"]), stable_hash(&["a", "bc"]));
    }
}
