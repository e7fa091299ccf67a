//! What looks like a secret goes, whoever's file it stands in. Pure.
//!
//! By the name of a key, and by the form of a value: a bundle is mailed around, and a word too many that was removed
//! costs a question, a token that was not costs a cluster.

use serde_json::Value;

pub(super) const REMOVED: &str = "(removed)";

/// In lower case, anywhere in a name.
const NAMES: [&str; 13] = [
    "token",
    "passw",
    "passphrase",
    "pwd",
    "secret",
    "key",
    "credential",
    "auth",
    "kubeconfig",
    "bearer",
    "cookie",
    "psk",
    "private",
];
/// Whose values are environments of processes.
const ENVIRONMENTS: [&str; 2] = ["env", "environment"];

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    NAMES.iter().any(|word| name.contains(word)) || ENVIRONMENTS.contains(&name.as_str())
}

pub(super) fn scrub(value: &mut Value) {
    match value {
        Value::String(text) => *text = scrub_text(text),
        Value::Array(values) => values.iter_mut().for_each(scrub),
        Value::Object(object) => {
            // `{"name": "API_TOKEN", "value": "…"}`, as environments are written.
            let named = object.get("name").and_then(Value::as_str).is_some_and(is_secret);
            for (key, value) in object.iter_mut() {
                if is_secret(key) || (named && key.eq_ignore_ascii_case("value")) {
                    *value = Value::from(REMOVED);
                } else {
                    scrub(value);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Text of any kind: `token=…`, `password: …`, `Bearer …`, `https://user:password@…`, keys in PEM, JSON web tokens.
pub(super) fn scrub_text(text: &str) -> String {
    if text.contains("-----BEGIN") {
        return REMOVED.to_owned();
    }
    let mut clean = String::with_capacity(text.len());
    let mut next_is_secret = false;
    let mut before = "";
    for piece in
        text.split_inclusive(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ',' | ';' | '&'))
    {
        let word =
            piece.trim_end_matches(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ',' | ';' | '&'));
        if word.is_empty() {
            clean.push_str(piece);
            continue;
        }
        let (kept, announces) = scrub_word(word, next_is_secret);
        clean.push_str(&kept);
        clean.push_str(&piece[word.len()..]);
        // `secret = …`
        next_is_secret = announces || (matches!(word, "=" | ":") && is_secret(before));
        before = word;
    }
    clean
}

/// What is to be shown of a word, and whether the next one is what it announces.
fn scrub_word(word: &str, secret: bool) -> (String, bool) {
    let scheme = ["bearer", "basic"].iter().any(|scheme| word.eq_ignore_ascii_case(scheme));
    if scheme {
        return (word.to_owned(), true);
    }
    if matches!(word, "=" | ":") {
        return (word.to_owned(), secret);
    }
    if secret || (word.starts_with("eyJ") && word.contains('.')) {
        return (REMOVED.to_owned(), false);
    }
    if let Some((scheme, rest)) = word.split_once("://") {
        let authority = rest.split('/').next().unwrap_or(rest);
        if let Some((user, _)) = authority.rsplit_once('@') {
            return (format!("{scheme}://{REMOVED}{}", &rest[user.len()..]), false);
        }
    }
    match word.find(['=', ':']) {
        Some(at) if is_secret(&word[..at]) => {
            let rest = &word[at + 1..];
            let shown = if rest.is_empty() { "" } else { REMOVED };
            (format!("{}{shown}", &word[..=at]), rest.is_empty())
        }
        // `--token abc`
        None if word.starts_with("--") && is_secret(word) => (word.to_owned(), true),
        _ => (word.to_owned(), false),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn scrubbed(mut value: Value) -> Value {
        scrub(&mut value);
        value
    }

    #[test]
    fn values_of_keys_that_look_secret_go_at_any_depth() {
        let found = scrubbed(json!({
            "name": "net", "plugins": [{
                "type": "calico", "policy": {"k8s_auth_token": "abc", "K8S_CLIENT_KEY": ["a", "b"]},
                "kubernetes": {"kubeconfig": "/etc/cni/net.d/calico-kubeconfig"}, "mtu": 1400, "apiKey": 7,
                "env": [{"name": "A", "value": "hunter2"}], "args": [{"name": "DB_PASSWORD", "value": "hunter2"}],
            }],
        }));
        let plugin = &found["plugins"][0];
        assert_eq!(plugin["policy"], json!({"k8s_auth_token": REMOVED, "K8S_CLIENT_KEY": REMOVED}));
        assert_eq!(plugin["kubernetes"]["kubeconfig"], REMOVED);
        assert_eq!(
            (&plugin["mtu"], &plugin["type"], &plugin["apiKey"]),
            (&json!(1400), &json!("calico"), &json!(REMOVED))
        );
        assert_eq!(plugin["env"], REMOVED);
        assert_eq!(plugin["args"][0]["value"], REMOVED);
    }

    #[test]
    fn our_own_configuration_stays_as_it_is() {
        let ours = crate::conflist::conflist(&crate::conflist::Network::default()).to_string();
        let ours: Value = serde_json::from_str(&ours).unwrap();
        assert_eq!(scrubbed(ours.clone()), ours);
    }

    #[test]
    fn text_loses_what_is_announced_as_secret() {
        for (text, clean) in [
            ("kubelet --token=abc --v=2", "kubelet --token=(removed) --v=2"),
            ("kubelet --token abc --v 2", "kubelet --token (removed) --v 2"),
            ("password: hunter2, mtu: 1400", "password: (removed), mtu: 1400"),
            ("secret = x y", "secret = (removed) y"),
            ("Authorization: Bearer abc.def", "Authorization: Bearer (removed)"),
            ("with bearer abc", "with bearer (removed)"),
            ("from https://me:pw@host:443/x", "from https://(removed)@host:443/x"),
            ("eyJhbGciOi.J9.x", "(removed)"),
            ("-----BEGIN RSA PRIVATE KEY-----\nabc", "(removed)"),
            ("eth0: link becomes ready 10.0.0.1:80", "eth0: link becomes ready 10.0.0.1:80"),
        ] {
            assert_eq!(scrub_text(text), clean);
        }
    }

    proptest! {
        #[test]
        fn no_secret_survives_wherever_it_stands(
            path in prop::collection::vec("[a-z]{1,6}", 0..4), secret in "s3cr3t[a-z0-9]{4}",
            name in prop::sample::select(&["token", "clientSecret", "AUTH", "tls-key", "Passwd"][..]), kind in 0..3,
        ) {
            let hidden = match kind {
                0 => json!({ name: secret }),
                1 => json!([{"name": name, "value": secret}]),
                _ => json!(format!("--{name}={secret}")),
            };
            let value = path.iter().fold(hidden, |value, key| json!({ key: [value] }));
            prop_assert!(!scrubbed(value).to_string().contains(&secret));
        }

        #[test]
        fn text_without_secrets_stays(text in "[a-df-z0-9 .,/-]{0,60}") {
            prop_assume!(!NAMES.iter().chain(&["basic"]).any(|name| text.contains(name)));
            prop_assert_eq!(scrub_text(&text), text);
        }
    }
}
