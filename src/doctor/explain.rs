//! What docs/doctor.md says about each check. The page is part of the program, so that a node without it has it too.
//!
//! Pure.

const PAGE: &str = include_str!("../../docs/doctor.md");

/// The section of a check: from its heading, `### id`, to the next one.
pub fn section(id: &str) -> Option<&'static str> {
    let heading = format!("\n### {id}\n");
    let begin = PAGE.find(&heading)? + 1;
    let rest = &PAGE[begin..];
    let end = rest.match_indices("\n#").map(|(at, _)| at).find(|at| *at > 0).unwrap_or(rest.len());
    Some(rest[..end].trim_end())
}

/// The ids that have a section, in the order of the page.
#[cfg(test)]
pub(super) fn sections() -> Vec<&'static str> {
    PAGE.lines().filter_map(|line| line.strip_prefix("### ")).collect()
}
