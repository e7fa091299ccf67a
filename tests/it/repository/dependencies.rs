//! Every dependency is explained, and every licence is one that deny.toml allows. `cargo deny` says more where it is there;
//! this is what holds everywhere.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use spdx::{Expression, LicenseId, ParseMode};

use super::{file, listed, marked, metadata};

/// Name → features, in the words of the table: what the manifest asks for, for the program or its development.
fn asked_for(metadata: &Value) -> BTreeMap<String, String> {
    let packages = metadata["packages"].as_array().expect("packages");
    let ours = packages.iter().find(|package| package["name"] == "smarter-cni").expect("this crate");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let mut asked: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for dependency in ours["dependencies"].as_array().expect("dependencies") {
        let features = dependency["features"].as_array().expect("features").iter().map(text);
        let default = (dependency["uses_default_features"] == true).then(|| "default".to_owned());
        asked.entry(text(&dependency["name"])).or_default().extend(features.chain(default));
    }
    let words = |features: BTreeSet<String>| {
        let mut features: Vec<_> = features.into_iter().collect();
        features.sort_by_key(|word| word != "default");
        if features.is_empty() { "none".to_owned() } else { features.join(", ") }
    };
    asked.into_iter().map(|(name, features)| (name, words(features))).collect()
}

/// The same of the table's rows: `| crate | features | … |`.
fn explained(table: &str) -> BTreeMap<String, String> {
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    let rows: Vec<Vec<String>> = table.lines().filter(|line| line.starts_with("| `")).map(cells).collect();
    for row in &rows {
        assert!(row.len() == 4 && row.iter().all(|cell| !cell.is_empty()), "an empty cell: {row:?}");
    }
    let of = |row: &Vec<String>| {
        let mut features: Vec<_> = row[1].split(", ").map(|word| word.trim_matches('`').to_owned()).collect();
        features.sort_by_key(|word| (word != "default", word.clone()));
        (row[0].trim_matches('`').to_owned(), features.join(", "))
    };
    let table: BTreeMap<_, _> = rows.iter().map(of).collect();
    assert_eq!(table.len(), rows.len(), "a crate has two rows");
    table
}

#[test]
fn every_dependency_is_explained_with_its_features() {
    let page = file("docs/development.md");
    assert_eq!(explained(marked(&page, "dependencies")), asked_for(&metadata()));
}

fn allowed() -> Vec<LicenseId> {
    let id = |word: &String| spdx::license_id(word).unwrap_or_else(|| panic!("SPDX knows no {word}"));
    listed("licenses", "allow").iter().map(id).collect()
}

/// Why a licence is none that we can give on.
fn refused(expression: Option<&str>, allowed: &[LicenseId]) -> Option<String> {
    let Some(expression) = expression else { return Some("says no licence".to_owned()) };
    // `MIT/Apache-2.0` is how crates said it before SPDX.
    let parsed = match Expression::parse_mode(expression, ParseMode::LAX) {
        Ok(parsed) => parsed,
        Err(error) => return Some(format!("{expression}: {}", error.reason)),
    };
    let fits = parsed.evaluate(|requirement| {
        let id = requirement.license.id();
        // An exception is a text of its own that somebody must have read.
        requirement.addition.is_none() && id.is_some_and(|id| allowed.contains(&id))
    });
    (!fits).then(|| expression.to_owned())
}

#[test]
fn every_licence_is_one_that_we_can_give_on() {
    let allowed = allowed();
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("packages");
    assert!(packages.len() > 50, "only {} packages were looked at", packages.len());
    let wrong = |package: &Value| {
        let why = refused(package["license"].as_str(), &allowed)?;
        Some(format!("{} {}: {why}", package["name"], package["version"]))
    };
    let wrong: Vec<_> = packages.iter().filter_map(wrong).collect();
    assert!(wrong.is_empty(), "licences that deny.toml does not allow:\n{}", wrong.join("\n"));
}

#[test]
fn a_licence_that_asks_for_more_is_seen() {
    let allowed = allowed();
    for fits in ["MIT", "MIT/Apache-2.0", "GPL-3.0-only OR MIT", "(MIT OR Apache-2.0) AND Unicode-3.0"] {
        assert_eq!(refused(Some(fits), &allowed), None, "{fits}");
    }
    for asks in ["GPL-3.0-only", "MIT AND MPL-2.0", "Apache-2.0 WITH LLVM-exception", "my own", ""] {
        assert!(refused(Some(asks), &allowed).is_some(), "{asks}");
    }
    assert!(refused(None, &allowed).is_some());
}
