//! Pods by one of their labels, and whether their network is the node's: what a list of sandboxes and the status of one say of
//! it.
//!
//! Read field by field, in place. Decoded as a whole, a megabyte of entries of two bytes becomes forty in memory, and who asks
//! here is a resident in a container of 32 MB.
//!
//! Pure.

use super::Reason;
use crate::net::Label;

/// No node has as many pods. Those that come later in the list have no name.
pub(super) const MOST: usize = 512;
/// containerd and CRI-O have 64 hexadecimal digits.
const LONGEST_ID: usize = 128;
/// `NamespaceMode` NODE.
const NODE: u64 = 2;
/// `PodSandboxState` SANDBOX_READY, which is not sent.
const READY: u64 = 0;

/// A sandbox that runs and has the label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labelled {
    pub(super) id: String,
    pub namespace: Label,
    pub label: Label,
}

/// The message ends in the middle of a field, or has one that nobody sends.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Nonsense;

impl From<Nonsense> for Reason {
    fn from(Nonsense: Nonsense) -> Self {
        super::nonsense("word about sandboxes")
    }
}

/// Those of a `ListPodSandboxResponse` that run and have this label, if its value and their namespace are what a host may be
/// called.
pub(super) fn listed(response: &[u8], label: &str) -> Result<Vec<Labelled>, Nonsense> {
    let mut found = Vec::new();
    for field in Fields(response) {
        if let (1, Value::Bytes(item)) = field?
            && let Some(sandbox) = sandbox(item, label)?
            && found.len() < MOST
        {
            found.push(sandbox);
        }
    }
    Ok(found)
}

/// A `PodSandbox`: `id` 1, `metadata` 2 (its `namespace` is 3), `state` 3, `labels` 5.
fn sandbox(item: &[u8], label: &str) -> Result<Option<Labelled>, Nonsense> {
    let (mut id, mut metadata, mut state, mut value) = (&[][..], &[][..], READY, None);
    for field in Fields(item) {
        match field? {
            (1, Value::Bytes(bytes)) => id = bytes,
            (2, Value::Bytes(bytes)) => metadata = bytes,
            (3, Value::Number(number)) => state = number,
            // An entry of a map: its key is 1, its value 2.
            (5, Value::Bytes(entry)) if bytes(entry, &[1])? == label.as_bytes() => {
                value = Some(bytes(entry, &[2])?);
            }
            _ => {}
        }
    }
    let Some(value) = value.filter(|_| state == READY) else { return Ok(None) };
    let text = |bytes| std::str::from_utf8(bytes).ok();
    let parsed = |bytes| text(bytes).and_then(Label::parse);
    let id = text(id).filter(|id| (1..=LONGEST_ID).contains(&id.len()));
    let (Some(id), Some(namespace), Some(label)) = (id, parsed(bytes(metadata, &[3])?), parsed(value)) else {
        return Ok(None);
    };
    Ok(Some(Labelled { id: id.to_owned(), namespace, label }))
}

/// Whether a `PodSandboxStatusResponse` is about one in the node's network: `status` 1, `linux` 6, `namespaces` 1, `options` 2,
/// `network` 1.
pub(super) fn is_of_the_node(response: &[u8]) -> Result<bool, Nonsense> {
    let mut mode = 0;
    for field in Fields(bytes(response, &[1, 6, 1, 2])?) {
        if let (1, Value::Number(number)) = field? {
            mode = number;
        }
    }
    Ok(mode == NODE)
}

/// What is at the end of these numbers, each a message's in the one before; nothing where one is missing. Of several the last
/// one counts.
fn bytes<'m>(message: &'m [u8], path: &[u32]) -> Result<&'m [u8], Nonsense> {
    let mut inner = message;
    for wanted in path {
        let mut found = &[][..];
        for field in Fields(inner) {
            match field? {
                (number, Value::Bytes(bytes)) if number == *wanted => found = bytes,
                _ => {}
            }
        }
        inner = found;
    }
    Ok(inner)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value<'m> {
    Number(u64),
    Bytes(&'m [u8]),
    /// Fixed width: nobody here asks for one.
    Other,
}

/// The fields of a message with their numbers, in their order. Ends behind the first that makes no sense.
struct Fields<'m>(&'m [u8]);

impl<'m> Iterator for Fields<'m> {
    type Item = Result<(u32, Value<'m>), Nonsense>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field().ok_or(Nonsense);
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'m> Fields<'m> {
    fn field(&mut self) -> Option<(u32, Value<'m>)> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            1 => self.take(8).map(|_| Value::Other)?,
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Other)?,
            _ => return None,
        };
        Some((u32::try_from(key >> 3).ok()?, value))
    }

    fn take(&mut self, length: usize) -> Option<&'m [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

#[cfg(test)]
#[path = "labelled_tests.rs"]
mod tests;
