use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use tempfile::TempDir;

use super::*;
use crate::cni::request::{self, Call};
use crate::cni::version::SpecVersion;

/// A directory with one plugin, a shell script, called `p`.
fn plugin(script: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("p");
    fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

fn request(dir: &TempDir, stdin: &str) -> Request {
    let path = dir.path().to_str().unwrap();
    let environment = [
        ("CNI_COMMAND", "DEL"),
        ("CNI_CONTAINERID", "c"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_PATH", path),
        ("PATH", "/usr/bin:/bin"),
        ("FOREIGN", "kept"),
    ];
    let environment = environment.iter().map(|(key, value)| (key.into(), value.into())).collect();
    match request::read(environment, stdin.as_bytes()) {
        Ok(Call::Run(request)) => request,
        other => panic!("{other:?}"),
    }
}

fn config(version: SpecVersion) -> String {
    format!(r#"{{"cniVersion":"{version}","name":"n"}}"#)
}

fn added(script: &str, version: SpecVersion) -> Result<AddResult> {
    let dir = plugin(script);
    add(&request(&dir, &config(version)), "p")
}

fn called(script: &str) -> Result<()> {
    let dir = plugin(script);
    call(&request(&dir, &config(SpecVersion::V1_1_0)), "p", Verb::Status)
}

/// What a failed call says, which must be code 999.
fn says<T: std::fmt::Debug>(result: Result<T>) -> String {
    let error = result.unwrap_err();
    assert_eq!((error.code.number(), &*error.details), (999, ""));
    error.msg
}

#[test]
fn the_first_regular_file_of_the_name_is_the_plugin() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::create_dir(one.path().join("p")).unwrap();
    fs::write(two.path().join("q"), "").unwrap();
    symlink("q", two.path().join("p")).unwrap();
    let path = format!("/nonexistent:{}:{}", one.path().display(), two.path().display());
    assert_eq!(find("p", &path).unwrap(), two.path().join("p"));
}

#[test]
fn a_plugin_that_cannot_be_found_is_named_with_the_path() {
    assert_eq!(says(find("", "/x")), "no plugin name provided");
    assert_eq!(says(find("a/b", "/x")), "invalid plugin name: a/b");
    assert_eq!(says(find("p", "")), "no paths provided");
    assert_eq!(says(find("nope", "/dir1:/dir2")), "failed to find plugin \"nope\" in path [/dir1 /dir2]");
}

#[test]
fn an_empty_directory_is_the_current_one_and_never_a_look_up_in_path() {
    assert_eq!(find("Cargo.toml", "/nonexistent:").unwrap(), Path::new("./Cargo.toml"));
}

#[test]
fn the_plugin_gets_environment_and_stdin_exactly_with_its_own_verb() {
    let dir = plugin("{ cat; echo; echo $CNI_COMMAND $CNI_CONTAINERID $FOREIGN $UNSET; } > \"${0%/p}/seen\"");
    let stdin = "{ \"cniVersion\":\"1.1.0\",\n\"name\":\"n\" }\n\n";
    call(&request(&dir, stdin), "p", Verb::Check).unwrap();
    assert_eq!(fs::read_to_string(dir.path().join("seen")).unwrap(), format!("{stdin}\nCHECK c kept\n"));
}

#[test]
fn an_add_may_be_answered_in_any_version() {
    for version in SpecVersion::ALL {
        let answer = r#"echo '{"cniVersion":"0.2.0","ip4":{"ip":"10.1.2.5/24"}}'"#;
        assert_eq!(added(answer, version).unwrap().ips.len(), 1);
        let answer = r#"echo '{"cniVersion":"1.0.0","ips":[{"address":"10.1.2.5/24"}]}'"#;
        assert_eq!(added(answer, version).unwrap().ips.len(), 1);
        assert_eq!(added("echo null", version).unwrap(), AddResult::default());
    }
    let unversioned = r#"echo '{"ips":[{"address":"10.1.2.5/24"}]}'"#;
    assert_eq!(added(unversioned, SpecVersion::V1_1_0).unwrap().ips.len(), 1);
    assert_eq!(added(unversioned, SpecVersion::V0_2_0).unwrap().ips.len(), 0);
}

#[test]
fn an_answer_that_is_no_result_is_an_error() {
    let latest = SpecVersion::LATEST;
    assert_eq!(says(added("", latest)), "failed to unmarshal raw result: unexpected end of JSON input");
    assert_eq!(
        says(added("echo []", latest)),
        "failed to unmarshal raw result: output of p: expected an object, found an array"
    );
    assert_eq!(says(added(r#"echo '{"cniVersion":"x"}'"#, latest)), "unsupported CNI result version \"x\"");
}

#[test]
fn an_error_of_the_plugin_is_passed_on_unchanged() {
    for code in [11, 50, 4, 999, 0, 123] {
        let error =
            called(&format!(r#"echo '{{"code":{code},"msg":"m","details":"d"}}'; exit 1"#)).unwrap_err();
        assert_eq!((error.code.number(), &*error.msg, &*error.details), (code, "m", "d"));
    }
}

#[test]
fn a_failure_without_words_is_told_by_what_there_is() {
    assert_eq!(says(called("exit 3")), "netplugin failed with no error message: exit status 3");
    assert_eq!(says(called("kill -9 $$")), "netplugin failed with no error message: signal: killed");
    assert_eq!(says(called("echo boom >&2; exit 1")), "netplugin failed: \"boom\\n\"");
    let text = says(called("echo notjson; exit 1"));
    assert!(
        text.starts_with(
            "netplugin failed but error parsing its diagnostic message \"notjson\\n\": expected"
        ),
        "{text}"
    );
    let text = says(called(r#"echo '{"msg":5}'; exit 1"#));
    assert!(text.ends_with("msg: expected a string, found the number 5"), "{text}");
}

#[test]
fn a_plugin_that_cannot_be_executed_is_an_error() {
    let dir = plugin("");
    let file = dir.path().join("p");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let text = says(call(&request(&dir, &config(SpecVersion::LATEST)), "p", Verb::Del));
    let path = file.display();
    assert_eq!(text, format!("netplugin failed with no error message: fork/exec {path}: permission denied"));
}

#[test]
fn a_plugin_that_is_being_written_is_tried_again() {
    let dir = plugin("echo '{}'");
    let writer = fs::OpenOptions::new().append(true).open(dir.path().join("p")).unwrap();
    let request = request(&dir, &config(SpecVersion::LATEST));
    thread::scope(|scope| {
        scope.spawn(move || {
            thread::sleep(Duration::from_millis(300));
            drop(writer);
        });
        assert_eq!(add(&request, "p").unwrap(), AddResult::default());
    });
}

#[test]
fn large_inputs_and_outputs_do_not_wait_for_each_other() {
    let stdin = format!(r#"{{"name":"n","x":"{}"}}"#, "y".repeat(1 << 20));
    let dir = plugin(
        "head -c 300000 /dev/zero | tr '\\0' ' '; head -c 300000 /dev/zero >&2; cat > /dev/null; exit 1",
    );
    let error = call(&request(&dir, &stdin), "p", Verb::Add).unwrap_err();
    assert!(error.msg.starts_with("netplugin failed but error parsing its diagnostic message"));
    let dir = plugin("echo '{}'");
    assert_eq!(add(&request(&dir, &stdin), "p").unwrap(), AddResult::default());
}

#[test]
fn an_answer_without_end_is_refused_and_its_plugin_ended() {
    let said = says(added("exec yes", SpecVersion::V1_0_0));
    assert!(said.contains("/p: it answers with more than 1048576 bytes, and was ended"), "{said}");
    // Also where it is a child of the plugin that does not stop.
    says(called("yes"));
}

#[test]
fn words_beside_the_answer_do_not_pile_up() {
    let said = says(called("head -c 10000000 /dev/zero | tr '\\0' x >&2; exit 1"));
    assert!(said.len() < 70_000 && said.starts_with("netplugin failed: \"xxx"), "{} bytes", said.len());
    let result = added(
        "head -c 10000000 /dev/zero >&2; cat >/dev/null; echo '{\"cniVersion\":\"1.0.0\"}'",
        SpecVersion::V1_0_0,
    );
    assert_eq!(result.unwrap(), AddResult::default());
}
