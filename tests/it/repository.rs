//! What the repository says about itself: its dependencies, their licences, and what is generated from the program.
//!
//! Reads files and asks cargo; needs neither the network nor the finished binary.

mod dependencies;
mod manual;
mod pages;

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use toml::de::DeTable;

fn file(path: &str) -> String {
    let at = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&at).unwrap_or_else(|error| panic!("{}: {error}", at.display()))
}

/// What is between `<!-- name -->` and `<!-- /name -->`.
fn marked<'a>(text: &'a str, name: &str) -> &'a str {
    let behind = text.split_once(&format!("<!-- {name} -->")).expect("the mark").1;
    behind.split_once(&format!("<!-- /{name} -->")).expect("the end mark").0
}

/// A list of texts in deny.toml.
fn listed(table: &str, key: &str) -> Vec<String> {
    let text = file("deny.toml");
    let document = DeTable::parse(&text).expect("TOML");
    let list = document.get_ref().get(table).and_then(|table| table.get_ref().get(key));
    let list = list.and_then(|list| list.get_ref().as_array()).unwrap_or_else(|| panic!("{table}.{key}"));
    list.iter().map(|word| word.get_ref().as_str().expect("a text").to_owned()).collect()
}

/// The crate, and everything it is built of on the systems that we build for.
fn metadata() -> Value {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR")).args(["metadata", "--locked", "--format-version", "1"]);
    for target in listed("graph", "targets") {
        cargo.args(["--filter-platform", &target]);
    }
    let output = cargo.output().expect("cargo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}
