//! Golden outputs.

use super::*;
use crate::doctor::check::{Need, Severity};

fn check(id: &'static str, group: Group, title: &'static str, severity: Severity) -> &'static Check {
    Box::leak(Box::new(Check {
        id,
        group,
        title,
        severity,
        needs: &[Need::Network],
        run: Some(|_| Ok(Vec::new())),
    }))
}

fn sick() -> Report {
    let forwarding = check("forwarding", Group::Host, "the node forwards for its pods", Severity::Broken);
    let manager =
        check("manager-dhcpcd", Group::Host, "dhcpcd leaves pods' interfaces alone", Severity::Warning);
    let pods = check("pod-address", Group::Pods, "every pod has its addresses", Severity::Broken);
    let leases =
        check("lease-dead", Group::Leases, "no lease belongs to a pod that is gone", Severity::Warning);
    let veth = check("kernel-veth", Group::Kernel, "the kernel makes veth pairs", Severity::Broken);
    Report::new(vec![
        (veth, Ok(Vec::new())),
        (
            forwarding,
            Ok(vec![Finding::problem(
                "sysctl net.ipv4.ip_forward",
                "net.ipv4.ip_forward is 0: pods reach nothing beyond the node",
                "sysctl -w net.ipv4.ip_forward=1",
            )]),
        ),
        (
            manager,
            Ok(vec![Finding::problem(
                "interface veth*",
                "dhcpcd takes it for an uplink: /etc/dhcpcd.conf has no denyinterfaces that names it",
                "add this line to /etc/dhcpcd.conf\ndenyinterfaces veth*",
            )]),
        ),
        (leases, Err(Pass::skipped("no address was leased since the boot"))),
        (
            pods,
            Ok(vec![Finding::Unknown {
                object: "pod default/web-0".into(),
                why: "enter a network namespace: operation not permitted".into(),
            }]),
        ),
    ])
}

#[test]
fn a_person_sees_what_is_wrong_and_what_to_do() {
    assert_eq!(
        sick().text(Style::default()),
        "\
host
  ✗ forwarding      sysctl net.ipv4.ip_forward: net.ipv4.ip_forward is 0: pods
      reach nothing beyond the node
      fix:   sysctl -w net.ipv4.ip_forward=1
  ! manager-dhcpcd  interface veth*: dhcpcd takes it for an uplink:
      /etc/dhcpcd.conf has no denyinterfaces that names it
      fix:   add this line to /etc/dhcpcd.conf
             denyinterfaces veth*

pods
  ? pod-address  pod default/web-0: could not look: enter a network namespace:
      operation not permitted

✗ 1 thing is broken, 1 warning, 1 could not be looked at, 1 check fine, 1 does
  not apply (--explain ID says more)
"
    );
}

#[test]
fn verbose_lists_everything() {
    let text = sick().text(Style { verbose: true, ..Style::default() });
    assert!(text.starts_with("kernel\n  ✓ kernel-veth  the kernel makes veth pairs\n\nhost\n"), "{text}");
    let skipped = "leases\n  - lease-dead  no lease belongs to a pod that is gone (does not apply: no\n      address was leased since the boot)\n";
    assert!(text.contains(skipped), "{text}");
}

#[test]
fn colours_come_only_when_asked_for() {
    let plain = sick().text(Style::default());
    assert!(!plain.contains('\x1b'));
    let coloured =
        sick().text(Style { screen: Screen { colour: true, ..Screen::default() }, verbose: false });
    assert!(
        coloured.contains("\x1b[31m✗\x1b[0m forwarding")
            && coloured.contains("\x1b[33m!\x1b[0m manager-dhcpcd")
    );
    let mut stripped = coloured;
    for code in ["\x1b[0m", "\x1b[1m", "\x1b[31m", "\x1b[33m", "\x1b[36m"] {
        stripped = stripped.replace(code, "");
    }
    assert_eq!(stripped, plain);
}

#[test]
fn a_machine_gets_every_check_with_its_status() {
    assert_eq!(
        sick().json(),
        concat!(
            r#"{"findings":["#,
            r#"{"fix":"","found":"","group":"kernel","id":"kernel-veth","object":"","severity":"broken","status":"ok","title":"the kernel makes veth pairs"},"#,
            r#"{"fix":"sysctl -w net.ipv4.ip_forward=1","found":"net.ipv4.ip_forward is 0: pods reach nothing beyond the node","group":"host","id":"forwarding","object":"sysctl net.ipv4.ip_forward","severity":"broken","status":"problem","title":"net.ipv4.ip_forward is 0: pods reach nothing beyond the node"},"#,
            r#"{"fix":"add this line to /etc/dhcpcd.conf\ndenyinterfaces veth*","found":"dhcpcd takes it for an uplink: /etc/dhcpcd.conf has no denyinterfaces that names it","group":"host","id":"manager-dhcpcd","object":"interface veth*","severity":"warning","status":"problem","title":"dhcpcd takes it for an uplink: /etc/dhcpcd.conf has no denyinterfaces that names it"},"#,
            r#"{"fix":"","found":"no address was leased since the boot","group":"leases","id":"lease-dead","object":"","severity":"warning","status":"skipped","title":"no lease belongs to a pod that is gone"},"#,
            r#"{"fix":"","found":"enter a network namespace: operation not permitted","group":"pods","id":"pod-address","object":"pod default/web-0","severity":"broken","status":"unknown","title":"every pod has its addresses"}],"#,
            r#""summary":{"broken":1,"notes":0,"ok":1,"skipped":1,"unknown":1,"warnings":1},"version":1}"#,
            "\n"
        )
    );
}

#[test]
fn exit_codes_tell_broken_from_warnings_and_from_blindness() {
    let broken = check("x", Group::Host, "t", Severity::Broken);
    let warning = check("y", Group::Host, "t", Severity::Warning);
    let problem = || Ok(vec![Finding::problem("o", "f", "x")]);
    let status = |entries, strict| Report::new(entries).status(strict);
    assert_eq!(status(vec![(broken, problem()), (warning, Ok(vec![]))], false), 1);
    assert_eq!(status(vec![(broken, Ok(vec![])), (warning, problem())], false), 0);
    assert_eq!(status(vec![(broken, Ok(vec![])), (warning, problem())], true), 1);
    let blind = || Err(Pass::Unknown("no right".into()));
    assert_eq!(status(vec![(broken, blind()), (warning, Ok(vec![]))], false), 0);
    assert_eq!(status(vec![(broken, blind()), (warning, blind())], false), 2);
    let skipped = || Err(Pass::skipped("no pod is attached"));
    assert_eq!(status(vec![(broken, blind()), (warning, skipped())], false), 2, "nothing was looked at");
    assert_eq!(status(vec![(broken, skipped()), (warning, skipped())], false), 0);
    assert_eq!(status(vec![(broken, blind()), (broken, blind()), (warning, Ok(vec![]))], false), 2);
    assert_eq!(status(vec![(broken, blind()), (broken, blind()), (broken, problem())], false), 1);
}

#[test]
fn what_only_one_of_two_looks_saw_is_no_finding() {
    let pods = check("pod-port", Group::Pods, "t", Severity::Broken);
    let look = |objects: &[&str]| {
        let findings = objects.iter().map(|object| Finding::problem(*object, "f", "x"));
        Report::new(vec![(pods, Ok(findings.collect()))])
    };
    let first = look(&["pod a", "pod b"]);
    assert!(first.is_in_doubt() && !look(&[]).is_in_doubt());
    let both = look(&["pod b", "pod c"]).confirming(&first);
    assert_eq!(both.rows().iter().map(|row| row.object).collect::<Vec<_>>(), ["pod b"]);
    assert_eq!(look(&["pod c"]).confirming(&first).summary().ok, 1);

    // Of a bridge the object is the bridge, and the port of a pod that just came is in the words.
    let ports = check("bridge-foreign-port", Group::Bridge, "t", Severity::Warning);
    let look = |port: &str| Report::new(vec![(ports, Ok(vec![Finding::problem("bridge br0", port, "x")]))]);
    assert_eq!(look("veth1").confirming(&look("veth1")).summary().warnings, 1);
    assert_eq!(look("veth2").confirming(&look("veth1")).summary().ok, 1);
}

#[test]
fn what_could_not_be_looked_at_once_is_no_finding() {
    let pods = check("pod-port", Group::Pods, "t", Severity::Broken);
    let unseen = |object: &str| vec![Finding::Unknown { object: object.into(), why: "it ended".into() }];
    let look = |verdict| Report::new(vec![(pods, verdict)]);
    let first = look(Ok(unseen("pod a")));
    assert!(first.is_in_doubt());
    assert_eq!(look(Ok(unseen("pod a"))).confirming(&first).summary().unknown, 1);
    assert_eq!(look(Ok(unseen("pod b"))).confirming(&first).summary().ok, 1);
    let blind = || look(Err(Pass::Unknown("no right".into())));
    assert_eq!(blind().confirming(&blind()).summary().unknown, 1);
    assert_eq!(blind().confirming(&look(Ok(vec![]))).summary().ok, 1);
    assert_eq!(blind().confirming(&first).summary().unknown, 1);
}

#[test]
fn a_healthy_node_is_one_line() {
    let report = Report::new(vec![(check("x", Group::Host, "t", Severity::Broken), Ok(vec![]))]);
    assert_eq!(report.text(Style::default()), "✓ 1 check fine (--verbose lists them)\n");
}

#[test]
fn without_utf_8_every_mark_says_what_it_should() {
    let screen = Screen { utf8: false, width: 200, ..Screen::default() };
    let text = sick().text(Style { screen, verbose: true });
    assert!(text.is_ascii(), "{text}");
    assert!(text.contains("  X forwarding      sysctl") && text.contains("  + kernel-veth"), "{text}");
    assert!(text.ends_with("X 1 thing is broken, 1 warning, 1 could not be looked at, 1 check fine, 1 does not apply (--explain ID says more)\n"));
}

#[test]
fn what_is_broken_never_carries_the_words_of_what_is_fine() {
    let text = sick().text(Style::default());
    assert!(!text.contains("the node forwards for its pods"), "{text}");
}

#[test]
fn a_command_stays_whole_and_names_do_not_drive_the_terminal() {
    let long = format!("ip link set {} nomaster", "x".repeat(90));
    let found = Finding::problem(
        "bridge \x1b[2Jbr0",
        "a\u{202e}b",
        format!("{long}\nand so on {}", "word ".repeat(20)),
    );
    let check = check("bridge-foreign-port", Group::Bridge, "t", Severity::Warning);
    let text = Report::new(vec![(check, Ok(vec![found]))]).text(Style::default());
    assert!(text.contains(&long) && !text.contains('\x1b') && !text.contains('\u{202e}'), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80 || line.contains(&long)), "{text}");
}
