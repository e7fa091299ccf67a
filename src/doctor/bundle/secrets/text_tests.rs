use proptest::prelude::*;

use super::*;

/// A secret, and a text that holds it.
const SECRETS: &str = include_str!("../../../../tests/corpus/secrets.txt");
const HARMLESS: &str = include_str!("../../../../tests/corpus/harmless.txt");

fn secrets() -> Vec<(&'static str, String)> {
    let row = |line: &'static str| {
        let (secret, text) = line.split_once('\t').unwrap();
        (secret, text.replace("\\n", "\n"))
    };
    SECRETS.lines().map(row).collect()
}

#[test]
fn no_secret_of_the_corpus_is_left() {
    let rows = secrets();
    assert!(rows.len() > 130);
    let left: Vec<_> = rows
        .iter()
        .flat_map(|(secret, text)| {
            // Alone, within a sentence, and within a quoted text.
            let around = [
                text.clone(),
                format!("eth0: {text}"),
                format!("msg=\"{}\" ms=3", text.replace('"', "\\\"")),
                format!("{text:?}"),
            ];
            around.map(|text| (*secret, scrub_text(&text), text))
        })
        .filter(|(secret, clean, _)| clean.contains(secret))
        .map(|(_, clean, text)| format!("{text}\n   is shown as {clean}"))
        .collect();
    assert!(left.is_empty(), "{} are left:\n{}", left.len(), left.join("\n"));
}

#[test]
fn what_a_helper_needs_stays() {
    let changed: Vec<_> = HARMLESS
        .lines()
        .map(|text| (text, scrub_text(text)))
        .filter(|(text, clean)| text != clean)
        .map(|(text, clean)| format!("{text}\n   is shown as {clean}"))
        .collect();
    assert!(changed.is_empty(), "{} are changed:\n{}", changed.len(), changed.join("\n"));
}

#[test]
fn around_a_secret_the_text_stays() {
    for (text, clean) in [
        ("kubelet --token=abc --v=2", "kubelet --token=(removed) --v=2"),
        ("kubelet --token abc --v 2", "kubelet --token (removed) --v 2"),
        ("password: hunter2, mtu: 1400", "password: (removed), mtu: 1400"),
        ("Authorization: Bearer abc.def", "Authorization: (removed)"),
        ("from https://me:pw@host:443/x", "from https://(removed)@host:443/x"),
        ("GET /p?token=abc HTTP/1.1", "GET /p?(removed) HTTP/1.1"),
        ("a -----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY----- b", "a (removed) b"),
        ("x\n-----BEGIN PRIVATE KEY-----\nYWJj\nZGVm\neth0 is up", "x\n(removed)\neth0 is up"),
        ("\"password\": \"x y\", \"mtu\": 1400", "\"password\": \"(removed)\", \"mtu\": 1400"),
        ("password: (removed)", "password: (removed)"),
        ("auth: true", "auth: true"),
    ] {
        assert_eq!(scrub_text(text), clean);
    }
}

proptest! {
    #[test]
    fn any_text_is_taken(text in "(?s).{0,200}") {
        let clean = scrub_text(&text);
        prop_assert_eq!(scrub_text(&clean), clean);
    }

    #[test]
    fn whatever_a_name_announces_goes(
        name in prop::sample::select(&["token", "clientSecret", "AUTH", "tls-key", "db_pass", "pin"][..]),
        sign in prop::sample::select(&["=", ": ", " = ", "\": \"", "=>"][..]), secret in "s3cr3t[a-z0-9]{4}",
    ) {
        let text = format!("x {name}{sign}{secret}");
        prop_assert!(!scrub_text(&text).contains(&secret));
    }
}
