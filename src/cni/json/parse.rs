//! From bytes to the value tree. The grammar is serde_json's; what Go accepts beyond it (bytes that are not
//! UTF-8, half a surrogate pair) is repaired first.
//!
//! Pure.

use std::borrow::Cow;
use std::fmt::{self, Write};

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::{Json, Number, Object};
use crate::cni::error::{Code, Error, Result};

/// Parses one document; white space may follow, any other byte may not. Errors have code 6.
pub fn parse(bytes: &[u8]) -> Result<Json> {
    let text = whole_surrogates(whole_letters(bytes));
    let mut deserializer = serde_json::Deserializer::from_str(&text);
    let value = Value(None).deserialize(&mut deserializer);
    value.and_then(|value| deserializer.end().map(|()| value)).map_err(|error| {
        if error.is_eof() {
            return Error::new(Code::Decoding, "unexpected end of JSON input");
        }
        Error::new(Code::Decoding, error)
    })
}

/// Each byte that is no UTF-8 becomes U+FFFD. Outside of strings that is as wrong as it was before.
fn whole_letters(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    Cow::Owned(text)
}

/// `\ud800` without its other half becomes `\ufffd`.
fn whole_surrogates(text: Cow<'_, str>) -> Cow<'_, str> {
    if !text.contains("\\ud") && !text.contains("\\uD") {
        return text;
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = &*text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let kept = match (escaped_unit(rest), rest.get(6..).and_then(escaped_unit)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(0xd800..=0xdfff), _) => {
                out.push_str("\\ufffd");
                rest = &rest[6..];
                continue;
            }
            // The backslash and the letter it escapes, which may be another backslash.
            _ => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
        };
        out.push_str(&rest[..kept]);
        rest = &rest[kept..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// The UTF-16 unit of a leading `\uXXXX`.
fn escaped_unit(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u16::from_str_radix(digits, 16).ok()
}

/// Where a value stands: kept on the stack, written out only for objects.
struct Place<'a> {
    parent: Option<&'a Place<'a>>,
    step: Step<'a>,
}

enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

impl Place<'_> {
    /// At most [`Short::MAX`] bytes: the path is for people, and a document of large keys and many objects
    /// must not cost memory by the square of its size.
    fn in_words(&self) -> String {
        let mut path = Short(String::new());
        if write!(path, "{self}").is_err() {
            path.0.push('…');
        }
        path.0
    }
}

/// Takes text until it is full.
struct Short(String);

impl Short {
    const MAX: usize = 512;
}

impl Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = Self::MAX - self.0.len();
        if text.len() <= room {
            self.0.push_str(text);
            return Ok(());
        }
        self.0.push_str(&text[..text.floor_char_boundary(room)]);
        Err(fmt::Error)
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Key(key) if self.parent.is_some() => write!(f, ".{key}"),
            Step::Key(key) => f.write_str(key),
            Step::Index(at) => write!(f, "[{at}]"),
        }
    }
}

struct Value<'a>(Option<&'a Place<'a>>);

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(Number::Integer(value)))
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "beyond 64 bits it is no integer any more, only something to show"
    )]
    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(i64::try_from(value).map_or(Number::Float(value as f64), Number::Integer)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Number(Number::Float(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Json, E> {
        Ok(Json::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let mut elements = Vec::new();
        loop {
            let place = Place { parent: self.0, step: Step::Index(elements.len()) };
            match access.next_element_seed(Value(Some(&place)))? {
                Some(element) => elements.push(element),
                None => return Ok(Json::Array(elements)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let path = self.0.map(Place::in_words).unwrap_or_default().into_boxed_str();
        let mut entries = Vec::new();
        while let Some(key) = access.next_key::<String>()? {
            let value =
                access.next_value_seed(Value(Some(&Place { parent: self.0, step: Step::Key(&key) })))?;
            entries.push((key, value));
        }
        Ok(Json::Object(Object { path, entries }))
    }
}
