//! What stands in a lease file. Pure.

use crate::net::{AttachmentId, IfName};

/// To whom an address is promised.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Holder {
    pub container: String,
    /// `None` in files of host-local before 0.7, which are honoured.
    pub if_name: Option<IfName>,
}

impl Holder {
    pub fn of(id: &AttachmentId) -> Self {
        Self::new(&id.container, &id.if_name)
    }

    pub fn new(container: &str, if_name: &IfName) -> Self {
        Self { container: container.to_owned(), if_name: Some(if_name.clone()) }
    }

    /// Is this `other`, or `other`'s container in a file of the old format?
    pub fn covers(&self, other: &Self) -> bool {
        self.container == other.container && (self.if_name.is_none() || self.if_name == other.if_name)
    }

    /// The bytes of a lease file.
    pub fn to_bytes(&self) -> Vec<u8> {
        match &self.if_name {
            Some(if_name) => format!("{}\r\n{if_name}", self.container).into_bytes(),
            None => self.container.clone().into_bytes(),
        }
    }
}

/// What a lease file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lease {
    Held(Holder),
    /// Names nobody: the address is free.
    Damaged,
}

impl Lease {
    /// White space around the text does not count, as in the Go plugin. A container ID is letters, digits, `_`, `.`
    /// and `-`; anything else was not written by a plugin.
    pub fn parse(bytes: &[u8]) -> Self {
        let holder = || {
            let text = std::str::from_utf8(bytes).ok()?.trim();
            let (container, if_name) = match text.split_once("\r\n") {
                Some((container, if_name)) => (container, Some(if_name.parse().ok()?)),
                None => (text, None),
            };
            let right = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
            let named = !container.is_empty() && container.bytes().all(right);
            named.then(|| Holder { container: container.to_owned(), if_name })
        };
        holder().map_or(Self::Damaged, Self::Held)
    }
}
