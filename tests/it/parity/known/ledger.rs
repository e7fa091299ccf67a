//! Keeps the table of known differences honest: what is needed is covered, what is not needed any more is named.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{BOTH, Difference, KNOWN, Release};
use crate::lab::{Plugins, UNDER_TEST};
use crate::parity::{Case, cases};

/// Keeps book of what was needed while stories are told.
#[derive(Debug)]
pub(in crate::parity) struct Ledger {
    release: Release,
    /// Entry, pattern of stories, difference.
    needed: BTreeSet<(usize, usize, usize)>,
}

/// Every combination of pattern and difference, with its place in the table.
fn combinations(
    release: Release,
) -> impl Iterator<Item = ((usize, usize, usize), &'static str, &'static Difference)> {
    let entries = KNOWN.iter().enumerate().filter(move |(_, known)| known.of.contains(&release));
    entries.flat_map(|(entry, known)| {
        known.stories.iter().enumerate().flat_map(move |(pattern, story)| {
            let differences = known.differences.iter().enumerate();
            differences.map(move |(at, difference)| ((entry, pattern, at), *story, difference))
        })
    })
}

impl Ledger {
    pub(in crate::parity) fn of(release: Release) -> Self {
        Self { release, needed: BTreeSet::new() }
    }

    /// Whether this difference is wanted.
    pub(in crate::parity) fn covers(
        &mut self,
        story: &str,
        path: &str,
        theirs: &Value,
        ours: &Value,
    ) -> bool {
        let hit = combinations(self.release).find(|(_, stories, difference)| {
            let (paths, left, right) = difference;
            matches(stories, story)
                && matches(paths, path)
                && matches_value(left, theirs)
                && matches_value(right, ours)
        });
        hit.is_some_and(|(place, ..)| {
            self.needed.insert(place);
            true
        })
    }

    /// What the table says about these stories and none of them needed, one line each: there it has become wrong.
    pub(in crate::parity) fn not_needed(&self, told: &[&Case]) -> Vec<String> {
        if UNDER_TEST != Plugins::Ours {
            return Vec::new();
        }
        combinations(self.release)
            .filter(|(place, stories, _)| {
                told.iter().any(|case| matches(stories, case.name)) && !self.needed.contains(place)
            })
            .map(|((entry, ..), stories, difference)| {
                format!("{stories} {difference:?} is known, but there is none: {}", KNOWN[entry].reason)
            })
            .collect()
    }
}

fn matches_value(pattern: &str, value: &Value) -> bool {
    pattern == "*" || serde_json::from_str::<Value>(pattern).expect("JSON in the table") == *value
}

fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|text| {
            let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            ends.into_iter().any(|at| matches(rest, &text[at..]))
        }),
    }
}

#[test]
fn every_known_difference_is_about_a_story_and_says_why() {
    let stories = cases::all();
    for (_, pattern, _) in BOTH.iter().flat_map(|release| combinations(*release)) {
        assert!(stories.iter().any(|case| matches(pattern, case.name)), "no story is called {pattern}");
    }
    for known in KNOWN {
        assert!(known.reason.ends_with('.') && !known.differences.is_empty(), "{:?}", known.stories);
    }
}

#[test]
fn a_pattern_matches_where_its_words_come_in_order() {
    for (pattern, text) in [("*", ""), ("a*", "abc"), ("*c", "abc"), ("a*b*c", "a-b-b-c"), ("abc", "abc")] {
        assert!(matches(pattern, text), "{pattern} {text}");
    }
    for (pattern, text) in [("", "a"), ("a*", "ba"), ("*b", "abc"), ("a*b*c", "acb"), ("ab", "abc")] {
        assert!(!matches(pattern, text), "{pattern} {text}");
    }
}
