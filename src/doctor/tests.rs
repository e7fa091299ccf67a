//! The table of checks as a whole: ids, groups, documentation, and what each check looks at.

use std::collections::BTreeSet;

use super::check::{Group, Pass};
use super::cli::chosen;
use super::evidence::attachments::Attachments;
use super::evidence::configuration::Configuration;
use super::evidence::files::Files;
use super::evidence::flows::Flows;
use super::evidence::leases::Leases;
use super::evidence::names::Names;
use super::evidence::node::Node;
use super::evidence::packets::Packets;
use super::evidence::runtime::Runtimes;
use super::*;
use crate::datapath::survey::ruleset::Ruleset;
use crate::datapath::survey::trial::{Feature, Trial};
use crate::reconcile;

#[test]
fn ids_are_unique_plain_and_in_the_order_of_their_groups() {
    let ids: Vec<_> = checks::all().map(|check| check.id).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
    assert!(
        ids.iter().all(|id| id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'))
    );
    let groups: Vec<_> = checks::all().map(|check| check.group).collect();
    assert!(groups.is_sorted(), "the order of the groups is the order of the report");
    assert!(ids.iter().all(|id| Group::ALL.iter().all(|group| group.word() != *id)), "--only takes both");
}

#[test]
fn every_check_is_documented_in_its_place_and_no_other() {
    let ids: Vec<_> = checks::all().map(|check| check.id).collect();
    assert_eq!(explain::sections(), ids, "docs/doctor.md has the headings of the table, in its order");
    for check in checks::all() {
        let section = explain::section(check.id).unwrap();
        assert!(section.starts_with(&format!("### {}\n", check.id)), "{section}");
        assert!(section.lines().count() >= 3 && !section.contains("\n#"), "{section}");
        assert_eq!(section.matches("\n\nFix: ").count(), 1, "how to fix it, at the end: {section}");
        assert!(section.lines().all(|line| line.chars().count() <= 80), "{section}");
    }
    assert_eq!(explain::section("no-such-check"), None);
}

/// A check that looks at more than it says would say "could not look" on every node where only it was asked for.
#[test]
fn no_check_looks_at_what_it_does_not_name() {
    for check in checks::all() {
        let needs = |need: Need| check.needs.contains(&need);
        let evidence = Evidence {
            trials: needs(Need::Scratch).then(|| Ok(trials_that_succeed())),
            node: needs(Need::Network).then(|| Ok(Node::default())),
            filter: needs(Need::Filter).then(|| Ok(Ruleset::default())),
            files: needs(Need::Files).then(|| Ok(Files::default())),
            attachments: needs(Need::Attachments).then(|| Ok(Attachments::default())),
            leases: needs(Need::Leases).then(|| Ok(Leases::default())),
            runtime: needs(Need::Runtime).then(|| Ok(Runtimes::default())),
            packets: needs(Need::Packets).then(|| Ok(Packets::default())),
            plan: needs(Need::Plan).then(|| Ok(reconcile::Report::default())),
            names: needs(Need::Names).then(|| Ok(Names::default())),
            flows: needs(Need::Flows).then(|| Ok(Flows::default())),
            configuration: needs(Need::Configuration).then(|| Ok(Configuration::default())),
            ..Evidence::default()
        };
        let verdict = check.verdict(&evidence);
        assert!(!matches!(verdict, Err(Pass::Unknown(_))), "{}: {verdict:?}", check.id);
    }
}

fn trials_that_succeed() -> Vec<Trial> {
    Feature::ALL.iter().map(|feature| Trial { feature: *feature, outcome: Ok(()) }).collect()
}

#[test]
fn words_choose_checks_and_groups() {
    let words = |list: &[&str]| list.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    let ids = |only: &[&str], skip: &[&str]| {
        chosen(&words(only), &words(skip))
            .map(|checks| checks.iter().map(|check| check.id).collect::<Vec<_>>())
    };
    assert_eq!(ids(&["forwarding"], &[]).unwrap(), ["forwarding"]);
    assert!(
        ids(&["pods"], &["pod-mtu"]).unwrap().iter().all(|id| id.starts_with("pod-") && *id != "pod-mtu")
    );
    assert_eq!(ids(&[], &[]).unwrap().len(), checks::all().count());
    assert_eq!(ids(&["ip-forward"], &[]), Err("ip-forward".to_owned()));
    assert_eq!(ids(&[], &["x"]), Err("x".to_owned()));
}

#[test]
fn usage_errors_are_told_from_findings() {
    let run = |words: &[&str]| {
        let words: Vec<_> = words.iter().map(OsString::from).collect();
        run(&words, Screen::default(), &mut std::fs::File::open("/dev/null").unwrap())
    };
    assert_eq!(run(&["--no-such-option"]).status, 2);
    assert_eq!(run(&["--only", "no-such-check"]).status, 2);
    assert_eq!(run(&["--explain", "no-such-check"]).status, 2);
    assert_eq!(run(&["--pod-cidr", "10.0.0.0/33"]).status, 2);
    assert_eq!(run(&["--fix", "--only", "forwarding"]).status, 2, "a repair repairs more than that");
    assert_eq!(run(&["--fix", "--bundle", "-"]).status, 2);
    assert_eq!(run(&["--redact"]).status, 2, "there is nothing to redact");
    let listed = run(&["--list"]);
    assert_eq!((listed.status, listed.stdout.lines().count()), (0, checks::all().count()));
    assert!(run(&["--help"]).stdout.contains("hostNetwork"));
}
