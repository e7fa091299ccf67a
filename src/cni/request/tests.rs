use std::io;

use proptest::prelude::*;

use super::*;

type Environment = Vec<(OsString, OsString)>;

const FULL: [(&str, &str); 6] = [
    ("CNI_COMMAND", "ADD"),
    ("CNI_CONTAINERID", "a1B_.-"),
    ("CNI_NETNS", "/var/run/netns/x"),
    ("CNI_IFNAME", "eth0"),
    ("CNI_ARGS", "IgnoreUnknown=1"),
    ("CNI_PATH", "/opt/cni/bin"),
];

/// The full environment with some variables replaced; an empty value is the same as unset.
fn environment(changes: &[(&str, &str)]) -> Environment {
    let kept = FULL.iter().filter(|(key, _)| changes.iter().all(|(changed, _)| changed != key));
    kept.chain(changes).map(|(key, value)| (key.into(), value.into())).collect()
}

fn request(changes: &[(&str, &str)], stdin: &str) -> Request {
    match read(environment(changes), stdin.as_bytes()) {
        Ok(Call::Run(request)) => request,
        other => panic!("{other:?}"),
    }
}

fn refused(changes: &[(&str, &str)], stdin: &str) -> (u32, String, String) {
    let error = read(environment(changes), stdin.as_bytes()).unwrap_err();
    (error.code.number(), error.msg, error.details)
}

fn only(code: u32, msg: &str) -> (u32, String, String) {
    (code, msg.to_owned(), String::new())
}

/// A stdin that must not be touched.
struct Untouchable;

impl Read for Untouchable {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        panic!("stdin was read");
    }
}

/// A stdin that cannot be read.
struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::from_raw_os_error(5))
    }
}

#[test]
fn an_add_is_read_whole_for_every_version() {
    for version in SpecVersion::ALL {
        let stdin = format!(r#"{{"cniVersion":"{version}","name":"net-1","x":[1]}} "#);
        let request = request(&[("OTHER", "1")], &stdin);
        assert_eq!((request.verb, request.version, request.network.as_str()), (Verb::Add, version, "net-1"));
        let target = request.attachment().unwrap();
        assert_eq!(target.container.as_str(), "a1B_.-");
        assert_eq!(target.if_name.as_str(), "eth0");
        assert_eq!(target.netns.as_deref(), Some("/var/run/netns/x"));
        assert_eq!((&*request.args, &*request.path), ("IgnoreUnknown=1", "/opt/cni/bin"));
        assert_eq!(request.stdin, stdin.as_bytes());
        assert!(request.environment.contains(&("OTHER".into(), "1".into())));
        assert!(request.config.array("x").unwrap().is_some());
        assert!(!request.netns_override);
    }
}

#[test]
fn no_version_is_0_1_0() {
    for stdin in [r#"{"name":"n"}"#, r#"{"name":"n","cniVersion":null}"#, r#"{"NAME":"n","cniversion":""}"#] {
        assert_eq!(request(&[], stdin).version, SpecVersion::V0_1_0);
    }
}

#[test]
fn without_a_command_a_person_is_looking() {
    for environment in [vec![], environment(&[("CNI_COMMAND", "")])] {
        assert!(matches!(read(environment, Untouchable), Ok(Call::About)));
    }
    assert!(about("bridge").starts_with("CNI bridge plugin v"));
    assert!(
        about("bridge").ends_with(
            "\nCNI protocol versions supported: 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0\n"
        )
    );
}

#[test]
fn version_needs_nothing_and_does_not_read_stdin() {
    assert!(matches!(read(vec![("CNI_COMMAND".into(), "VERSION".into())], Untouchable), Ok(Call::Version)));
    assert_eq!(
        version_reply(),
        "{\"cniVersion\":\"1.1.0\",\"supportedVersions\":[\"0.1.0\",\"0.2.0\",\"0.3.0\",\"0.3.1\",\"0.4.0\",\"1.0.0\",\
         \"1.1.0\"]}\n"
    );
}

#[test]
fn a_stdin_that_does_not_end_is_refused() {
    let error = read(environment(&[]), io::repeat(b' ')).unwrap_err();
    assert_eq!((error.code, &*error.msg), (Code::Io, "error reading from stdin: more than 16777216 bytes"));
}

#[test]
fn missing_variables_are_named_together_in_their_order_before_stdin_is_read() {
    let missing = |verb: &str| {
        let error = read(vec![("CNI_COMMAND".into(), verb.into())], Untouchable).unwrap_err();
        (error.code.number(), error.msg)
    };
    let text = |names| (4, format!("required env variables [{names}] missing"));
    assert_eq!(missing("ADD"), text("CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH"));
    assert_eq!(missing("CHECK"), text("CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH"));
    assert_eq!(missing("DEL"), text("CNI_CONTAINERID,CNI_IFNAME,CNI_PATH"));
    assert_eq!(missing("STATUS"), text("CNI_PATH"));
    assert_eq!(missing("GC"), text("CNI_PATH"));
    assert_eq!(
        refused(&[("CNI_NETNS", ""), ("CNI_PATH", "")], "{"),
        only(4, "required env variables [CNI_NETNS,CNI_PATH] missing")
    );
}

#[test]
fn a_malformed_variable_is_reported_before_missing_ones() {
    assert_eq!(
        refused(&[("CNI_CONTAINERID", "-x"), ("CNI_NETNS", "")], ""),
        (4, "invalid characters in containerID".into(), "-x".into())
    );
    assert_eq!(
        refused(&[("CNI_PATH", ""), ("CNI_IFNAME", "a/b")], "").1.split(' ').next(),
        Some("interface")
    );
}

#[test]
fn container_ids_and_interface_names_are_checked() {
    for bad in ["x\n", "ä", "_a", ".a", "a/b", "a b"] {
        assert_eq!(
            refused(&[("CNI_CONTAINERID", bad)], ""),
            (4, "invalid characters in containerID".into(), bad.into())
        );
    }
    assert_eq!(
        refused(&[("CNI_IFNAME", "0123456789abcdef")], ""),
        (4, "interface name is too long".into(), "interface name should be less than 16 characters".into())
    );
    for dots in [".", ".."] {
        assert_eq!(refused(&[("CNI_IFNAME", dots)], ""), only(4, "interface name is . or .."));
    }
    for bad in ["a/b", "a:b", "a b", "a\u{a0}"] {
        let text = "interface name contains / or : or whitespace characters";
        assert_eq!(refused(&[("CNI_IFNAME", bad)], ""), only(4, text));
    }
}

#[cfg(unix)]
#[test]
fn variables_that_are_no_utf_8_are_refused_by_name() {
    use std::os::unix::ffi::OsStringExt;
    for (name, says) in [("CNI_NETNS", "CNI_NETNS is not UTF-8"), ("CNI_IFNAME", "CNI_IFNAME is not UTF-8")] {
        let mut environment = environment(&[(name, "")]);
        environment.retain(|(key, _)| key != name);
        environment.push((name.into(), OsString::from_vec(vec![b'/', 0xff])));
        let error = read(environment, Untouchable).unwrap_err();
        assert_eq!((error.code, &*error.msg), (Code::InvalidEnvironment, says));
    }
}

#[test]
fn status_and_gc_look_at_no_attachment() {
    for verb in ["STATUS", "GC"] {
        let changes =
            [("CNI_COMMAND", verb), ("CNI_CONTAINERID", "/"), ("CNI_IFNAME", "a/b"), ("CNI_NETNS", "")];
        let request = request(&changes, r#"{"cniVersion":"1.1.0","name":"n"}"#);
        assert_eq!(request.target, None);
        assert_eq!(request.attachment().unwrap_err().code, Code::InvalidEnvironment);
    }
}

#[test]
fn del_works_without_a_namespace() {
    let request = request(&[("CNI_COMMAND", "DEL"), ("CNI_NETNS", "")], r#"{"name":"n"}"#);
    assert_eq!(request.attachment().unwrap().netns, None);
}

#[test]
fn an_unreadable_stdin_has_code_5() {
    let error = read(environment(&[]), Broken).unwrap_err();
    // The words for EIO are the C library's.
    let words = if cfg!(target_env = "musl") { "i/O error" } else { "input/output error" };
    assert_eq!((error.code, error.msg), (Code::Io, format!("error reading from stdin: {words}")));
}

#[test]
fn stdin_must_be_json_with_an_acceptable_name() {
    for verb in ["ADD", "DEL", "CHECK", "STATUS", "GC", "FOO"] {
        let verb = [("CNI_COMMAND", verb)];
        assert_eq!(
            refused(&verb, ""),
            only(6, "error unmarshall network config: unexpected end of JSON input")
        );
        assert_eq!(
            refused(&verb, "[]"),
            only(6, "error unmarshall network config: stdin: expected an object, found an array")
        );
        assert_eq!(
            refused(&verb, r#"{"name":5}"#),
            only(6, "error unmarshall network config: name: expected a string, found the number 5")
        );
        for nameless in ["{}", "null", r#"{"name":""}"#, r#"{"name":null}"#] {
            assert_eq!(refused(&verb, nameless), only(7, "missing network name"));
        }
        assert_eq!(
            refused(&verb, r#"{"name":"a/b"}"#),
            (7, "invalid characters found in network name".into(), "a/b".into())
        );
    }
}

#[test]
fn an_unknown_command_is_refused_after_the_name_and_before_the_version() {
    for command in ["FOO", "add", "Version"] {
        let verb = [("CNI_COMMAND", command), ("CNI_PATH", ""), ("CNI_CONTAINERID", "")];
        let says = only(4, &format!("unknown CNI_COMMAND: {command}"));
        assert_eq!(refused(&verb, r#"{"name":"n","cniVersion":5}"#), says);
    }
}

#[test]
fn the_version_must_be_a_string_and_one_we_speak() {
    assert_eq!(
        refused(&[], r#"{"name":"n","cniVersion":1}"#),
        only(6, "decoding version from network config: cniVersion: expected a string, found the number 1")
    );
    assert_eq!(refused(&[], r#"{"name":"n","cniVersion":"9.0.0"}"#).1, "incompatible CNI versions");
    assert_eq!(
        refused(&[("CNI_COMMAND", "CHECK")], r#"{"name":"n"}"#),
        only(1, "config version does not allow CHECK")
    );
}

#[test]
fn an_early_error_replies_in_the_caller_s_version_when_we_speak_it() {
    let reply =
        |stdin: &str| read(environment(&[("CNI_COMMAND", "GC")]), stdin.as_bytes()).unwrap_err().reply("");
    assert!(reply(r#"{"name":"n","cniVersion":"0.4.0"}"#).contains(r#""cniVersion": "0.4.0""#));
    assert!(reply(r#"{"name":"n","cniVersion":"9.0.0"}"#).contains(r#""cniVersion": "1.1.0""#));
    assert!(reply("").contains(r#""cniVersion": "1.1.0""#));
}

#[test]
fn the_override_is_1_or_true() {
    for (value, wanted) in
        [("1", true), ("true", true), ("TrUe", true), ("0", false), ("yes", false), ("", false)]
    {
        let request = request(&[("CNI_NETNS_OVERRIDE", value)], r#"{"name":"n"}"#);
        assert_eq!(request.netns_override, wanted, "{value:?}");
    }
}

#[test]
fn of_a_variable_given_twice_the_first_counts() {
    let mut environment = environment(&[]);
    environment.push(("CNI_COMMAND".into(), "DEL".into()));
    let Ok(Call::Run(request)) = read(environment, &br#"{"name":"n"}"#[..]) else { panic!("refused") };
    assert_eq!(request.verb, Verb::Add);
}

proptest! {
    #[test]
    fn no_input_makes_reading_panic(
        command in prop::sample::select(vec!["", "ADD", "DEL", "CHECK", "STATUS", "GC", "VERSION", "FOO"]),
        values in prop::collection::vec(".{0,20}", 5),
        stdin in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..80),
            json::tests::any_json().prop_map(|value| value.to_string().into_bytes()),
        ],
    ) {
        let names = ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS", "CNI_PATH"];
        let changes: Vec<_> = names.into_iter().zip(values.iter().map(String::as_str)).collect();
        let mut all = vec![("CNI_COMMAND", command)];
        all.extend(&changes);
        let _ = read(environment(&all), &*stdin);
        let _ = read(environment(&[("CNI_COMMAND", command)]), &*stdin);
    }

    #[test]
    fn identifiers_are_exactly_the_specification_s(text in "[a-c_./\n é-]{0,6}") {
        let mut letters = text.chars();
        let inner = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        let wanted = letters.next().is_some_and(|c| c.is_ascii_alphanumeric()) && letters.all(inner);
        prop_assert_eq!(ContainerId::parse(&text).is_ok(), wanted);
        prop_assert_eq!(NetworkName::parse(&text).is_ok(), wanted);
    }
}
