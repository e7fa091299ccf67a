//! JSON as the reference plugins read it, which is as Go's `encoding/json` does.
//!
//! Keys match in any case (containerd sends `HostPort` for `hostPort`), of equal keys the last one counts,
//! `null` is the same as absent, nothing is coerced. Owns the value tree and its typed look-ups; [`parse`]
//! makes it from bytes.
//!
//! Pure.

mod parse;
pub(super) mod text;

use std::fmt::Write;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::address::{parse_cidr, parse_ip};
use super::error::{Error, Result};

pub use parse::parse;

#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    Array(Vec<Json>),
    Object(Object),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    Integer(i64),
    /// Written with a point or an exponent, or too large for 64 bits: never an integer, whatever its value.
    Float(f64),
}

/// A JSON object in the order it was written, duplicates included. It knows where it stood in its document,
/// so that errors can say it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object {
    path: Box<str>,
    entries: Vec<(String, Json)>,
}

impl Json {
    /// The elements, all of which must be objects; `place` is for the error.
    pub fn objects(&self, place: &str) -> Result<Vec<&Object>> {
        let Self::Array(elements) = self else { return Err(mismatch(place, "an array of objects", self)) };
        let mut objects = Vec::with_capacity(elements.len());
        for (at, element) in elements.iter().enumerate() {
            match element {
                Self::Object(object) => objects.push(object),
                other => return Err(mismatch(&format!("{place}[{at}]"), "an object", other)),
            }
        }
        Ok(objects)
    }

    /// The value in words, scalars with their content: `the string "1500"`.
    fn in_words(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(value) => format!("the boolean {value}"),
            Self::Number(Number::Integer(value)) => format!("the number {value}"),
            Self::Number(Number::Float(value)) => format!("the number {value:?}"),
            Self::String(value) => {
                let mut words = String::from("the string ");
                let shown: String = value.chars().take(64).collect();
                let dots = if shown.len() < value.len() { "…" } else { "" };
                let _ = write!(words, "{shown:?}{dots}");
                words
            }
            Self::Array(_) => "an array".to_owned(),
            Self::Object(_) => "an object".to_owned(),
        }
    }
}

/// `<place>: expected <expected>, found <the value in words>`, code 999 as for every configuration error that
/// a plugin finds by itself.
pub fn mismatch(place: &str, expected: &str, found: &Json) -> Error {
    Error::internal(format_args!("{place}: expected {expected}, found {}", found.in_words()))
}

impl Object {
    /// The last value whose key matches in any case; `null` counts as absent.
    pub fn get(&self, key: &str) -> Option<&Json> {
        let (_, value) = self.entries.iter().rev().find(|(name, _)| name.eq_ignore_ascii_case(key))?;
        (*value != Json::Null).then_some(value)
    }

    /// Whether the key is there, be it `null`.
    pub fn mentions(&self, key: &str) -> bool {
        self.entries.iter().any(|(name, _)| name.eq_ignore_ascii_case(key))
    }

    /// All entries as written, `null` and duplicates included.
    pub fn entries(&self) -> &[(String, Json)] {
        &self.entries
    }

    /// Where `key` stands in the document: `ipam.ranges[0][1].subnet`.
    pub fn place(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn expect<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        pick: impl FnOnce(&'a Json) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        pick(value).map(Some).ok_or_else(|| mismatch(&self.place(key), expected, value))
    }

    /// Like [`Self::string`], without the copy.
    pub fn text(&self, key: &str) -> Result<Option<&str>> {
        self.expect(key, "a string", |value| match value {
            Json::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    pub fn string(&self, key: &str) -> Result<Option<String>> {
        Ok(self.text(key)?.map(str::to_owned))
    }

    pub fn boolean(&self, key: &str) -> Result<Option<bool>> {
        self.expect(key, "a boolean", |value| match value {
            Json::Bool(value) => Some(*value),
            _ => None,
        })
    }

    pub fn integer(&self, key: &str) -> Result<Option<i64>> {
        self.expect(key, "an integer", |value| match value {
            Json::Number(Number::Integer(value)) => Some(*value),
            _ => None,
        })
    }

    /// An integer of a narrower type: `object.integer_in::<u8>("scope", "0 to 255")`.
    pub fn integer_in<T: TryFrom<i64>>(&self, key: &str, range: &str) -> Result<Option<T>> {
        let Some(value) = self.integer(key)? else { return Ok(None) };
        T::try_from(value).map(Some).map_err(|_| {
            mismatch(
                &self.place(key),
                &format!("an integer from {range}"),
                &Json::Number(Number::Integer(value)),
            )
        })
    }

    pub fn object(&self, key: &str) -> Result<Option<&Object>> {
        self.expect(key, "an object", |value| match value {
            Json::Object(object) => Some(object),
            _ => None,
        })
    }

    pub fn array(&self, key: &str) -> Result<Option<&[Json]>> {
        self.expect(key, "an array", |value| match value {
            Json::Array(elements) => Some(elements.as_slice()),
            _ => None,
        })
    }

    /// An array of objects. A `null` element is an error.
    pub fn objects(&self, key: &str) -> Result<Option<Vec<&Object>>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.objects(&self.place(key)).map(Some)
    }

    /// An array of strings. A `null` element is an error.
    pub fn strings(&self, key: &str) -> Result<Option<Vec<String>>> {
        let Some(elements) = self.array(key)? else { return Ok(None) };
        let string = |(at, element): (usize, &Json)| match element {
            Json::String(text) => Ok(text.clone()),
            other => Err(mismatch(&format!("{}[{at}]", self.place(key)), "a string", other)),
        };
        elements.iter().enumerate().map(string).collect::<Result<_>>().map(Some)
    }

    /// An IP address; `""` is the same as absent. The error is `invalid IP address: <text>`, its details say
    /// where.
    pub fn address(&self, key: &str) -> Result<Option<IpAddr>> {
        match self.text(key)? {
            None | Some("") => Ok(None),
            Some(text) => parse_ip(text).map(Some).ok_or_else(|| self.invalid(key, "IP", text)),
        }
    }

    /// An address with prefix, host part kept. The error is `invalid CIDR address: <text>`, its details say
    /// where.
    pub fn cidr(&self, key: &str) -> Result<Option<IpNetwork>> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        parse_cidr(text).map(Some).ok_or_else(|| self.invalid(key, "CIDR", text))
    }

    fn invalid(&self, key: &str, kind: &str, text: &str) -> Error {
        Error::internal(format_args!("invalid {kind} address: {text}"))
            .with_details(format_args!("in {}", self.place(key)))
    }
}

#[cfg(test)]
pub(super) mod tests;
