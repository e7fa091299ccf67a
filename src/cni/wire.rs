//! How results look on the wire, for every version of the specification, in both directions.
//!
//! Inside there is one shape, [`AddResult`]. [`render`] writes it in the layout of a version, byte for byte
//! as the reference plugins do; [`parse_result`] and [`parse_prev_result`] read any layout back.
//!
//! Pure.

mod layout;
mod parse;

use super::error::Result;
use super::result::AddResult;
use super::version::SpecVersion;

pub use parse::{parse_prev_result, parse_result, route};

/// The three families of result layouts (CNI SPEC "Success" of 0.2.0, 0.4.0 and 1.0.0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// 0.1.0 and 0.2.0: one address per family.
    Ip4Ip6,
    /// 0.3.0, 0.3.1 and 0.4.0: lists, and each address says its family.
    Lists,
    /// 1.0.0 and 1.1.0.
    Sorted,
}

impl Layout {
    fn of(version: SpecVersion) -> Self {
        match version {
            SpecVersion::V0_1_0 | SpecVersion::V0_2_0 => Self::Ip4Ip6,
            SpecVersion::V0_3_0 | SpecVersion::V0_3_1 | SpecVersion::V0_4_0 => Self::Lists,
            SpecVersion::V1_0_0 | SpecVersion::V1_1_0 => Self::Sorted,
        }
    }
}

/// The reply to an ADD: indented by 4, no newline at the end.
///
/// Before 0.3.0 only the first address of each family, and the routes of that family, can be said; a result
/// without any address cannot be said at all: `cannot convert: no valid IP addresses`.
pub fn render(result: &AddResult, version: SpecVersion) -> Result<String> {
    match Layout::of(version) {
        Layout::Ip4Ip6 => layout::ip4_ip6(result, version),
        Layout::Lists => Ok(layout::lists(result, version)),
        Layout::Sorted => Ok(layout::sorted(result, version)),
    }
}

#[cfg(test)]
mod tests;
