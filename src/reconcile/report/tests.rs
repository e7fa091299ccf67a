//! The report as a person and as a machine reads it.

use super::*;
use crate::datapath::step::{PodStep, Step as LinkStep};
use crate::net::Family;

fn web() -> Subject {
    Subject::named(&id(), Some("default/web-0".into()))
}

fn id() -> AttachmentId {
    let container = "0a1b2c3d4e5f60718293a4b5c6d7e8f9".into();
    AttachmentId { network: "smartnet".into(), container, if_name: "eth0".parse().unwrap() }
}

fn nameless() -> Subject {
    Subject::named(&id(), None)
}

fn report() -> Report {
    let mut report = Report { attachments: 3, ..Report::default() };
    let link = |name: &str| name.parse().unwrap();
    let join = LinkStep::Join { link: link("veth9ee7e15e"), bridge: link("smartnet0") };
    report.change(&web(), Action::Repair, vec![Step::Link(join)]);
    report.change(&web(), Action::Repair, vec![Step::Link(LinkStep::Forward(Family::V4))]);
    let remove = LinkStep::RemoveLink { link: link("veth0000aaaa") };
    report.change(&nameless(), Action::Remove, vec![Step::Link(remove)]);
    report.change(&Subject::Node, Action::Remove, Vec::new());
    let up = Step::Link(LinkStep::Pod(PodStep::Up { link: link("eth0") }));
    for _ in 0..2 {
        report.failure(&web(), Some(up.clone()), Obstacle::Refused, "operation not permitted");
    }
    report.note(&nameless(), "its ADD was interrupted; the next ADD or DEL finishes it");
    report
}

#[test]
fn a_person_reads_who_what_and_why() {
    assert_eq!(
        report().text(),
        "smartnet: default/web-0 (eth0)
  node: ip link set veth9ee7e15e master smartnet0 up
  node: sysctl -w net.ipv4.ip_forward=1
smartnet: 0a1b2c3d4e5f (eth0), wanted by nobody
  node: ip link del veth0000aaaa
FAILED smartnet: default/web-0 (eth0): pod:  ip link set eth0 up: operation not permitted
note   smartnet: 0a1b2c3d4e5f (eth0): its ADD was interrupted; the next ADD or DEL finishes it
reconcile: 3 attachments, 3 steps made, 1 failed
"
    );
}

#[test]
fn a_machine_reads_the_same() {
    assert_eq!(
        report().json(),
        r#"{"version":1,"dry_run":false,"attachments":3,"changes":[{"subject":{"network":"smartnet","container":"0a1b2c3d4e5f60718293a4b5c6d7e8f9","interface":"eth0","pod":"default/web-0"},"action":"repair","steps":["node: ip link set veth9ee7e15e master smartnet0 up","node: sysctl -w net.ipv4.ip_forward=1"]},{"subject":{"network":"smartnet","container":"0a1b2c3d4e5f60718293a4b5c6d7e8f9","interface":"eth0","pod":null},"action":"remove","steps":["node: ip link del veth0000aaaa"]}],"failures":[{"subject":{"network":"smartnet","container":"0a1b2c3d4e5f60718293a4b5c6d7e8f9","interface":"eth0","pod":"default/web-0"},"step":"pod:  ip link set eth0 up","reason":"operation not permitted"}],"notes":[{"subject":{"network":"smartnet","container":"0a1b2c3d4e5f60718293a4b5c6d7e8f9","interface":"eth0","pod":null},"text":"its ADD was interrupted; the next ADD or DEL finishes it"}]}
"#
    );
}

#[test]
fn the_last_line_says_whether_anything_is_to_be_done() {
    let idle = Report { attachments: 1, ..Report::default() };
    assert!(idle.is_idle() && idle.is_whole());
    assert_eq!(idle.text(), "reconcile: 1 attachment, nothing to do\n");
    let mut planned = Report { dry_run: true, ..Report::default() };
    planned.change(&Subject::Node, Action::Remove, vec![Step::Lease("/x".into())]);
    assert_eq!(
        planned.text(),
        "node, wanted by nobody\n  node: lease /x\nreconcile: 0 attachments, 1 step to make; nothing was changed\n"
    );
    assert_eq!(
        planned.json(),
        "{\"version\":1,\"dry_run\":true,\"attachments\":0,\"changes\":[{\"subject\":null,\"action\":\"remove\",\"steps\":[\"node: lease /x\"]}],\"failures\":[],\"notes\":[]}\n"
    );
}
