//! Which words are secret by their form alone. Pure.
//!
//! What a node is full of must pass: identities of containers, pods and boots, digests, MACs, addresses, versions, names of
//! interfaces and paths. They have letters of one case, or are hexadecimal, or shorter than [`SHORTEST`].

/// Names of interfaces have fifteen letters at most (IFNAMSIZ), and nothing else that is short has a form.
const SHORTEST: usize = 16;

/// What services put before their tokens; behind it follows the rest of the word.
const PREFIXES: [&str; 71] = [
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "gldt-",
    "glrt-",
    "glcbt-",
    "glptt-",
    "glsa_",
    "glc_",
    "AKIA",
    "ASIA",
    "AROA",
    "AIDA",
    "AGPA",
    "ANPA",
    "ABIA",
    "ACCA",
    "AIza",
    "ya29.",
    "GOCSPX-",
    "xoxb-",
    "xoxp-",
    "xoxa-",
    "xoxr-",
    "xoxs-",
    "xoxe-",
    "xoxe.",
    "xoxd-",
    "xoxc-",
    "xapp-",
    "sk_live_",
    "sk_test_",
    "pk_live_",
    "rk_live_",
    "rk_test_",
    "whsec_",
    "sk-ant-",
    "sk-proj-",
    "SG.",
    "npm_",
    "pypi-",
    "dop_v1_",
    "doo_v1_",
    "dor_v1_",
    "hvs.",
    "hvb.",
    "hvr.",
    "dckr_pat_",
    "NRAK-",
    "lin_api_",
    "shpat_",
    "shpss_",
    "shpca_",
    "tskey-",
    "AGE-SECRET-KEY-",
    "PMAK-",
    "sq0atp-",
    "sq0csp-",
    "amzn.mws.",
    "ATATT3",
    "ATBB",
    "xkeysib-",
    "rubygems_",
    "figd_",
    "sntrys_",
    "syt_",
    "nfp_",
];

/// Prefixes that are short enough to stand before something else: what follows must be long.
const WEAK_PREFIXES: [(&str, usize); 10] = [
    ("eyJ", 12),
    ("hf_", 24),
    ("sk-", 20),
    ("LTAI", 12),
    ("AKID", 16),
    ("dapi", 32),
    ("key-", 32),
    ("oy2", 40),
    ("K10", 48),
    ("s.", 24),
];

/// Schemes of password hashes, between dollars (crypt(5) and others).
const HASHES: [&str; 20] = [
    "1",
    "2a",
    "2b",
    "2x",
    "2y",
    "5",
    "6",
    "7",
    "8",
    "9",
    "y",
    "gy",
    "apr1",
    "md5",
    "sha1",
    "argon2i",
    "argon2d",
    "argon2id",
    "pbkdf2-sha256",
    "scrypt",
];

/// Where in the word a secret begins, whose form somebody gave it.
pub(super) fn marked(word: &str) -> Option<usize> {
    let boundaries = word
        .char_indices()
        .filter(|(at, _)| *at == 0 || word[..*at].chars().next_back().is_some_and(|c| !c.is_alphanumeric()));
    let strong = |rest: &str| {
        PREFIXES.iter().any(|prefix| rest.strip_prefix(prefix).is_some_and(|rest| run(rest) >= 8))
            || WEAK_PREFIXES
                .iter()
                .any(|(prefix, length)| rest.strip_prefix(prefix).is_some_and(|rest| run(rest) >= *length))
            || is_hash(rest)
            || is_bot(rest)
    };
    let found = boundaries.map(|(at, _)| at).find(|at| strong(&word[*at..]));
    found.or_else(|| is_bootstrap(word).then_some(0))
}

/// How long a token goes on.
fn run(text: &str) -> usize {
    text.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '=' | '+' | '/')))
        .unwrap_or(text.len())
}

/// `$6$salt$…`, `{SSHA}…`, `pbkdf2_sha256$…`
fn is_hash(rest: &str) -> bool {
    let crypt = rest
        .strip_prefix('$')
        .and_then(|rest| rest.split_once('$'))
        .is_some_and(|(scheme, rest)| HASHES.contains(&scheme) && rest.len() > 7);
    crypt || (rest.starts_with("pbkdf2_") && rest.contains('$'))
}

/// `123456789:AA…`
fn is_bot(rest: &str) -> bool {
    rest.split_once(':').is_some_and(|(number, rest)| {
        (8..=10).contains(&number.len())
            && number.bytes().all(|b| b.is_ascii_digit())
            && rest.starts_with("AA")
            && run(rest) >= 30
    })
}

/// Of kubeadm: `[a-z0-9]{6}.[a-z0-9]{16}`
fn is_bootstrap(word: &str) -> bool {
    let small = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    word.split_once('.').is_some_and(|(id, rest)| {
        let digits = |text: &str| text.bytes().any(|b| b.is_ascii_digit());
        id.len() == 6 && rest.len() == 16 && small(id) && small(rest) && digits(rest) && !is_hex(rest)
    })
}

fn is_hex(text: &str) -> bool {
    let digits = |c: char| c.is_ascii_digit() || matches!(c, '-' | ':' | '_' | '.');
    text.chars().all(|c| digits(c) || matches!(c, 'a'..='f'))
        || text.chars().all(|c| digits(c) || matches!(c, 'A'..='F'))
}

/// Whether it has as many hexadecimal digits as a token has. So has every identity: whoever asks knows by its name what it is
/// not.
pub(super) fn is_long_hex(text: &str) -> bool {
    text.len() >= 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether the word looks as if dice had made it. `assigned`: it stands behind `=` or `:`, where less is enough.
pub(super) fn is_random(word: &str, assigned: bool) -> bool {
    if is_hex(word) || word.strip_prefix("0x").is_some_and(is_hex) {
        return false;
    }
    let pieces = word.split(['/', '.', '-', '_', '~', '+', ':', '@', ',']).filter(|piece| !piece.is_empty());
    is_padded(word)
        || mixes_cases(word)
        || pieces.clone().any(mixes_cases)
        || (assigned && (pieces.clone().any(mixes_digits) || has_symbols(word)))
}

#[derive(Default)]
struct Letters {
    upper: usize,
    lower: usize,
    digits: usize,
    others: usize,
    /// Runs of small letters.
    runs: usize,
    /// Changes between letters and digits.
    changes: usize,
}

impl Letters {
    fn of(text: &str) -> Self {
        let mut letters = Self::default();
        let mut before = ' ';
        for c in text.chars() {
            match c {
                'A'..='Z' => letters.upper += 1,
                'a'..='z' => letters.lower += 1,
                '0'..='9' => letters.digits += 1,
                _ => letters.others += 1,
            }
            letters.runs += usize::from(c.is_ascii_lowercase() && !before.is_ascii_lowercase());
            letters.changes += usize::from(c.is_ascii_digit() != before.is_ascii_digit());
            before = c;
        }
        letters
    }
}

/// `dGhpcyBpcyBh…`: of base64 every second letter begins or ends a run of small ones. Words that somebody made of words have
/// longer runs, however they are written (`FailedCreatePodSandBox2`).
fn mixes_cases(text: &str) -> bool {
    let found = Letters::of(text);
    let long = text.len() >= SHORTEST && (found.digits > 0 || text.len() >= 24);
    long && found.upper > 1
        && found.lower > 1
        && found.others * 8 <= text.len()
        && found.lower * 2 <= found.runs * 5
}

/// `k3j9x0q2m4…`
fn mixes_digits(text: &str) -> bool {
    let found = Letters::of(text);
    let one_case = found.upper == 0 || found.lower == 0;
    let enough = if found.lower == 0 { SHORTEST } else { 20 };
    text.len() >= enough
        && one_case
        && found.others == 0
        && found.digits > 2
        && found.changes * 10 >= text.len() * if found.lower == 0 { 2 } else { 3 }
        && !is_hex(text)
}

/// `Tr0ub4dor!3`
fn has_symbols(text: &str) -> bool {
    let found = Letters::of(text);
    text.len() >= 8
        && !text.contains('/')
        && text.contains(['!', '$', '^', '*', '?', '~', '#'])
        && found.digits > 0
        && found.upper + found.lower > 2
}

/// The end of base64.
fn is_padded(text: &str) -> bool {
    let bare = text.trim_end_matches('=');
    let padding = text.len() - bare.len();
    let found = Letters::of(bare);
    (1..=2).contains(&padding)
        && text.len() >= 12
        && text.len().is_multiple_of(4)
        && bare.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'))
        && found.upper > 0
        && found.lower > 0
        && (padding == 2 || found.digits > 0)
}
