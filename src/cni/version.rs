//! The versions of the specification that the plugins speak, and the questions a version decides.
//!
//! Pure.

use std::cmp::Ordering;

use super::error::{Code, Error, Result};
use super::quote::{quoted, quoted_list};
use super::request::Verb;

/// A version of the CNI specification, oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SpecVersion {
    V0_1_0,
    V0_2_0,
    V0_3_0,
    V0_3_1,
    V0_4_0,
    V1_0_0,
    V1_1_0,
}

impl SpecVersion {
    pub const ALL: [Self; 7] =
        [Self::V0_1_0, Self::V0_2_0, Self::V0_3_0, Self::V0_3_1, Self::V0_4_0, Self::V1_0_0, Self::V1_1_0];

    pub const LATEST: Self = Self::V1_1_0;

    pub fn as_str(self) -> &'static str {
        match self {
            Self::V0_1_0 => "0.1.0",
            Self::V0_2_0 => "0.2.0",
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// Exactly one of the known texts: `1.1` is none.
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.as_str() == text)
    }
}

impl std::fmt::Display for SpecVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Lets a verb pass or not, by the configuration's version (CNI SPEC "CHECK", "STATUS", "GC": since 0.4.0 and
/// 1.1.0).
///
/// The comparison is numeric, the last test an exact match, so `1.1` gets past the first and fails the last.
pub(super) fn gate(verb: Verb, configured: &str) -> Result<SpecVersion> {
    let since = match verb {
        Verb::Add | Verb::Del => None,
        Verb::Check => Some(SpecVersion::V0_4_0),
        Verb::Status | Verb::Gc => Some(SpecVersion::V1_1_0),
    };
    if let Some(since) = since {
        let refuse =
            |who| Error::new(Code::IncompatibleVersion, format_args!("{who} version does not allow {verb}"));
        if compare(configured, since.as_str())? == Ordering::Less {
            return Err(refuse("config"));
        }
        if compare(configured, SpecVersion::LATEST.as_str())? == Ordering::Greater {
            return Err(refuse("plugin"));
        }
    }
    SpecVersion::from_text(configured).ok_or_else(|| {
        Error::new(Code::IncompatibleVersion, "incompatible CNI versions").with_details(format_args!(
            "config is {}, plugin supports {}",
            quoted(configured),
            quoted_list(SpecVersion::ALL.map(SpecVersion::as_str))
        ))
    })
}

fn compare(one: &str, other: &str) -> Result<Ordering> {
    Ok(numbers(one)?.cmp(&numbers(other)?))
}

/// Up to three numbers with dots between; missing ones are 0, no text at all is 0.1.0.
fn numbers(text: &str) -> Result<[i64; 3]> {
    let mut numbers = [0; 3];
    if text.is_empty() {
        return Ok([0, 1, 0]);
    }
    if text.split('.').count() > numbers.len() {
        let msg = format!("invalid version {}: too many parts", quoted(text));
        return Err(Error::new(Code::Decoding, msg));
    }
    for ((part, number), place) in text.split('.').zip(&mut numbers).zip(["major", "minor", "micro"]) {
        *number = part.parse().map_err(|error: std::num::ParseIntError| {
            let why = match error.kind() {
                std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => {
                    "value out of range"
                }
                _ => "invalid syntax",
            };
            let part = quoted(part);
            let msg =
                format!("failed to convert {place} version part {part}: strconv.Atoi: parsing {part}: {why}");
            Error::new(Code::Decoding, msg)
        })?;
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(verb: Verb, version: &str) -> (u32, String, String) {
        let error = gate(verb, version).unwrap_err();
        (error.code.number(), error.msg, error.details)
    }

    #[test]
    fn each_verb_passes_from_its_version_on() {
        for version in SpecVersion::ALL {
            for (verb, since) in [
                (Verb::Add, SpecVersion::V0_1_0),
                (Verb::Del, SpecVersion::V0_1_0),
                (Verb::Check, SpecVersion::V0_4_0),
                (Verb::Status, SpecVersion::V1_1_0),
                (Verb::Gc, SpecVersion::V1_1_0),
            ] {
                match gate(verb, version.as_str()) {
                    Ok(passed) => assert!(passed == version && version >= since),
                    Err(error) => {
                        assert!(version < since);
                        assert_eq!(error.code, Code::IncompatibleVersion);
                        assert_eq!(error.msg, format!("config version does not allow {verb}"));
                    }
                }
            }
        }
    }

    #[test]
    fn a_version_that_is_not_in_the_list_is_refused_with_the_list() {
        for verb in [Verb::Add, Verb::Del] {
            let details = "config is \"9.0.0\", plugin supports \
                           [\"0.1.0\" \"0.2.0\" \"0.3.0\" \"0.3.1\" \"0.4.0\" \"1.0.0\" \"1.1.0\"]";
            assert_eq!(refused(verb, "9.0.0"), (1, "incompatible CNI versions".into(), details.into()));
        }
        assert_eq!(refused(Verb::Check, "0.5.0").1, "incompatible CNI versions");
        for verb in [Verb::Check, Verb::Gc, Verb::Status] {
            assert_eq!(
                refused(verb, "1.2.0"),
                (1, format!("plugin version does not allow {verb}"), String::new())
            );
            assert_eq!(refused(verb, "1.1").1, "incompatible CNI versions");
        }
    }

    #[test]
    fn a_version_that_is_not_made_of_numbers_cannot_be_compared() {
        let syntax =
            "failed to convert major version part \"abc\": strconv.Atoi: parsing \"abc\": invalid syntax";
        assert_eq!(refused(Verb::Check, "abc"), (6, syntax.into(), String::new()));
        assert_eq!(
            refused(Verb::Gc, "1.x").1,
            "failed to convert minor version part \"x\": strconv.Atoi: parsing \"x\": invalid syntax"
        );
        assert_eq!(
            refused(Verb::Status, "1.1.99999999999999999999").1,
            "failed to convert micro version part \"99999999999999999999\": strconv.Atoi: parsing \
             \"99999999999999999999\": value out of range"
        );
        assert_eq!(refused(Verb::Check, "1.0.0.0").1, "invalid version \"1.0.0.0\": too many parts");
        assert_eq!(refused(Verb::Add, "abc").1, "incompatible CNI versions");
    }
}
