//! Which names announce a secret. Pure.
//!
//! A name is read in words: `db_pass`, `dbPass` and `DB-PASS` are `db` and `pass`, and `bypass` is neither.

/// Anywhere in a name, in lower case.
const WITHIN: [&str; 27] = [
    "token",
    "passw",
    "passphrase",
    "passcode",
    "passkey",
    "pwd",
    "secret",
    "credential",
    "authoriz",
    "kubeconfig",
    "bearer",
    "cookie",
    "psk",
    "private",
    "apikey",
    "presharedkey",
    "connectionstring",
    "signature",
    "session",
    "sessid",
    "kennwort",
    "contrase",
    "senha",
    "motdepasse",
    "mnemonic",
    "webhook",
    "community",
];

/// A word of a name, in lower case, without digits at its end.
const WORDS: [&str; 42] = [
    "pass",
    "pw",
    "cred",
    "creds",
    "sess",
    "access",
    "auth",
    "sig",
    "sas",
    "otp",
    "totp",
    "hotp",
    "pat",
    "jwt",
    "seed",
    "salt",
    "nonce",
    "hash",
    "shadow",
    "pin",
    "puk",
    "cpin",
    "cpwd",
    "clck",
    "wep",
    "wpa",
    "sae",
    "leap",
    "unlock",
    "activation",
    "license",
    "kek",
    "dek",
    "mek",
    "ki",
    "opc",
    "dsn",
    "hmac",
    "enc",
    "ticket",
    "refresh",
    "vault",
];

/// Words that end as a secret's name does.
const HARMLESS: [&str; 16] = [
    "bypass",
    "compass",
    "trespass",
    "surpass",
    "overpass",
    "underpass",
    "encompass",
    "monkey",
    "turkey",
    "donkey",
    "whiskey",
    "hockey",
    "jockey",
    "hotkey",
    "author",
    "authority",
];

/// Whose values are environments of processes.
const ENVIRONMENTS: [&str; 4] = ["env", "envs", "environ", "environment"];

/// Whether what has this name is secret.
pub(super) fn is_secret(name: &str) -> bool {
    let lower: String = name.to_lowercase().chars().filter(|c| c.is_alphanumeric()).collect();
    WITHIN.iter().any(|part| lower.contains(part)) || words(name).iter().any(|word| is_secret_word(word))
}

fn is_secret_word(word: &str) -> bool {
    let word = word.trim_end_matches(|c: char| c.is_ascii_digit());
    let ends = ["key", "keys", "pass", "pw", "auth"].iter().any(|end| word.ends_with(end));
    let begins = word.starts_with("auth");
    !HARMLESS.contains(&word)
        && (ends || begins || WORDS.contains(&word) || ENVIRONMENTS.contains(&word))
        && word != "authors"
}

/// Whether what has this name tells one thing from others of its kind.
pub(super) fn is_identity(name: &str) -> bool {
    const KINDS: [&str; 31] = [
        "id",
        "uid",
        "uuid",
        "guid",
        "container",
        "sandbox",
        "pod",
        "digest",
        "sha",
        "md",
        "crc",
        "commit",
        "revision",
        "rev",
        "git",
        "image",
        "layer",
        "snapshot",
        "checksum",
        "sum",
        "boot",
        "machine",
        "node",
        "build",
        "mac",
        "address",
        "addr",
        "netns",
        "ns",
        "version",
        "inode",
    ];
    let is_kind = |word: &String| {
        let word = word.trim_end_matches(|c: char| c.is_ascii_digit());
        KINDS.contains(&word) || word.ends_with("id")
    };
    words(name).iter().any(is_kind)
}

/// In lower case; a change from small to large letters begins one.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before_small = false;
    for c in name.chars() {
        if !c.is_alphanumeric() || (c.is_uppercase() && before_small) {
            words.push(String::new());
        }
        before_small = c.is_lowercase();
        if c.is_alphanumeric() {
            words.last_mut().into_iter().for_each(|word| word.extend(c.to_lowercase()));
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_words() {
        for name in [
            "pass",
            "db_pass",
            "dbPass",
            "DB-PASS",
            "pw",
            "root_pw",
            "ssid_pass",
            "creds",
            "session",
            "sessid",
            "access",
            "community",
            "K8S_CLIENT_KEY",
            "apiKey",
            "PIN2",
            "puk",
            "wep_key0",
            "AccountKey",
            "sig",
            "PGPASSWORD",
            "env",
            "MYSQL_PWD",
            "X-Amz-Signature",
            "Cookie",
            "AT+CPIN",
            "authKey",
            "preshared-key",
            "Passwort",
            "userpw",
        ] {
            assert!(is_secret(name), "{name}");
        }
        for name in [
            "bypass",
            "monkey",
            "author",
            "name",
            "mtu",
            "type",
            "digest",
            "id",
            "container_id",
            "image",
            "version",
            "keyboard",
            "spin",
            "pinned",
            "opinion",
            "passes",
            "accessible",
            "bridge",
            "dataDir",
            "address",
            "envelope",
        ] {
            assert!(!is_secret(name), "{name}");
        }
    }
}
