//! The fault matrix: one thing is broken on a healthy node, and `doctor` names exactly that, with the right object.
//!
//! Every fault has a sandbox and a test of its own. Where one fault makes several findings, all of them are listed: they are
//! what a person sees. Anything beyond the list fails the test.

mod addresses;
mod bridge;
mod configuration;
mod flows;
mod host;
mod kernel;
mod leases;
mod names;
mod plugins;
mod pods;
mod rules;
mod runtime;

use std::collections::BTreeSet;

use serde_json::Value;

use super::ground::{Alive, Ground};
use super::node::{Kind, Lab};
use super::{Diagnosis, diagnose, typed};

/// One row of the matrix.
pub(super) struct Fault<'a> {
    pub(super) kind: Kind,
    pub(super) pods: usize,
    pub(super) inject: &'a dyn Fn(&Lab),
    /// For `doctor`.
    pub(super) options: &'a str,
    /// The findings: id and object.
    pub(super) expect: &'a [(&'a str, &'a str)],
    pub(super) status: i32,
    /// What is seen only once the rest is repaired.
    pub(super) behind: &'a [(&'a str, &'a str)],
    /// The commands that it prints can be typed here, and are enough.
    pub(super) by_hand: bool,
    /// Whoever measures flows keeps the pods' namespaces alive.
    pub(super) measured: bool,
    /// Words of the flows to and from an address for which two answer: who asks anew, because what it knew has expired, may
    /// get either.
    pub(super) contested: &'a [&'a str],
    /// Flows die by it, and all of them live again once the printed words are typed.
    pub(super) kills: bool,
}

impl Fault<'_> {
    pub(super) fn prove(&self) {
        let lab = Lab::new(&self.kind, self.pods);
        let healthy = diagnose("--strict");
        assert_eq!(healthy.problems(), BTreeSet::new(), "sick before the fault:\n{}", healthy.words());
        let ground = if self.measured { Ground::new(&lab) } else { Ground::default() };
        let well = ground.alive();
        (self.inject)(&lab);
        // What only the fault lets through (a port that was isolated) ends with it.
        let mut ill: Alive = ground.alive().intersection(&well).cloned().collect();
        ill.retain(|flow| !self.contested.iter().any(|words| flow.contains(words)));
        assert!(!self.kills || ill.len() < well.len(), "nothing died by it: {ill:#?}");
        let sick = diagnose(self.options);
        let expected: BTreeSet<_> =
            self.expect.iter().map(|(id, object)| ((*id).to_owned(), (*object).to_owned())).collect();
        assert_eq!(sick.problems(), expected, "\n{}", sick.words());
        assert_eq!(sick.rows("unknown").count(), 0, "\n{}", sick.words());
        for row in sick.rows("problem") {
            assert!(
                !row["found"].as_str().unwrap().is_empty() && !row["fix"].as_str().unwrap().is_empty(),
                "{row:#}"
            );
        }
        assert_eq!(sick.status, self.status, "\n{}", sick.words());
        self.repair(&sick);
        ground.assert_no_worse(&ill, "after --fix");
        if self.by_hand {
            typed::follow(self.options);
            ground
                .assert_no_worse(if self.kills { &well } else { &ill }, "after the printed words were typed");
        }
        drop(lab);
    }

    /// `--fix` repairs what says that reconcile does, and nothing else.
    fn repair(&self, sick: &Diagnosis) {
        let promised = |row: &&Value| row["fix"].as_str().unwrap().starts_with("smarter-cni reconcile");
        let problem = |row: &Value| {
            (row["id"].as_str().unwrap().to_owned(), row["object"].as_str().unwrap().to_owned())
        };
        let promised: BTreeSet<_> = sick.rows("problem").filter(promised).map(problem).collect();
        let fixed = diagnose(&format!("--fix {}", self.options));
        let before: BTreeSet<_> = fixed.json["before"].as_array().unwrap().iter().map(problem).collect();
        assert_eq!(before, sick.problems());
        let behind = self.behind.iter().map(|(id, object)| ((*id).to_owned(), (*object).to_owned()));
        let left: BTreeSet<_> = sick.problems().difference(&promised).cloned().chain(behind).collect();
        assert_eq!(fixed.problems(), left, "after {:#}\n{}", fixed.json["repair"], fixed.words());
        let broken = fixed.rows("problem").any(|row| row["severity"] == "broken");
        assert_eq!(fixed.status, i32::from(broken), "the exit code is that of the second look");
    }
}

/// Rows of the matrix: a test for each, `name: findings => status, |lab| what is done`, in a sandbox of its own.
macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident $([$($field:ident: $value:expr),*])?
       : [$($expected:expr),* $(,)?] => $status:literal, $inject:expr;)*) => {$(
        $(#[$doc])*
        #[test]
        fn $name() {
            crate::sandbox::sandboxed(|| {
                #[allow(clippy::needless_update, reason = "some rows set every field")]
                let fault = $crate::doctor::faults::Fault {
                    inject: &$inject,
                    expect: &[$($expected),*],
                    status: $status,
                    $($($field: $value,)*)?
                    ..$crate::doctor::faults::usual()
                };
                fault.prove();
            });
        }
    )*};
}
pub(super) use faults;

/// Three pods of IPv4.
pub(super) fn usual() -> Fault<'static> {
    Fault {
        kind: Kind::default(),
        pods: 3,
        inject: &|_| {},
        options: "",
        expect: &[],
        status: 0,
        behind: &[],
        by_hand: true,
        contested: &[],
        kills: false,
        measured: true,
    }
}

pub(super) fn dual() -> Kind {
    Kind { dual: true, ..Kind::default() }
}
