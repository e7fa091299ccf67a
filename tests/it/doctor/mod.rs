//! `doctor` against real nodes: healthy ones on which it must find nothing, and sick ones on which it must find exactly
//! what is wrong.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod agreement;
mod bundle;
mod codes;
mod faults;
mod fix;
mod ground;
mod healthy;
mod node;
mod runtime;
mod schema;
mod typed;
mod words;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::lab::{self, Node, Place};

/// What `doctor` said about the sandbox.
struct Diagnosis {
    status: i32,
    json: Value,
}

fn doctor(options: &str) -> Output {
    let binary = lab::binary();
    Node.command(&format!("{} doctor {options}", binary.display())).output().expect("doctor runs")
}

fn diagnose(options: &str) -> Diagnosis {
    let out = doctor(&format!("--json {options}"));
    let stderr = String::from_utf8_lossy(&out.stderr);
    let json: Value = serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {out:?}"));
    assert_eq!(stderr, "", "nothing but findings is said");
    schema::validate(&json);
    Diagnosis { status: out.status.code().expect("an exit code"), json }
}

/// A check that no test has seen finding something may be one that cannot fail.
#[test]
fn every_check_has_a_fault_that_it_finds() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let faults: String = ["doctor", "doctor/faults", "vm"]
        .iter()
        .flat_map(|directory| fs::read_dir(sources.join(directory)).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "rs"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let unproven: Vec<_> = smarter_cni::doctor::checks::all()
        .map(|check| check.id)
        .filter(|id| !faults.contains(&format!("\"{id}\"")))
        .collect();
    assert_eq!(unproven, Vec::<&str>::new(), "no fault is injected for these checks");
}

impl Diagnosis {
    fn rows(&self, status: &str) -> impl Iterator<Item = &Value> {
        let findings = self.json["findings"].as_array().unwrap().iter();
        findings.filter(move |row| row["status"] == status)
    }

    /// Problems: id and object.
    fn problems(&self) -> BTreeSet<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        self.rows("problem").map(|row| (text(&row["id"]), text(&row["object"]))).collect()
    }

    /// Whatever is not as on a healthy node, for a person who reads a failed test.
    fn words(&self) -> String {
        let strange = self.rows("problem").chain(self.rows("unknown"));
        strange.map(|row| format!("{row:#}")).collect::<Vec<_>>().join("\n")
    }
}
