//! Names with `*` and `?`, as Go's `filepath.Match` has them, without character classes. Reads nothing.
//!
//! Pure.

/// Does the whole name match?
pub(super) fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    // Where to go on when what follows the last `*` does not fit.
    let mut retry = None;
    loop {
        match (pattern.get(p), name.get(n)) {
            (None, None) => return true,
            (Some(b'*'), _) => {
                retry = Some((p + 1, n));
                p += 1;
            }
            (Some(b'?'), Some(_)) => (p, n) = (p + 1, n + 1),
            (Some(want), Some(have)) if want == have => (p, n) = (p + 1, n + 1),
            _ => match retry {
                Some((after, taken)) if taken < name.len() => {
                    retry = Some((after, taken + 1));
                    (p, n) = (after, taken + 1);
                }
                _ => return false,
            },
        }
    }
}

pub(super) fn is_pattern(name: &[u8]) -> bool {
    name.iter().any(|byte| matches!(byte, b'*' | b'?'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn stars_take_as_much_as_is_needed() {
        let matches = |pattern: &str, name: &str| matches(pattern.as_bytes(), name.as_bytes());
        for (pattern, name) in [
            ("*.toml", "10-a.toml"),
            ("*", ""),
            ("a*b*c", "abbbc"),
            ("??-*.toml", "10-x.toml"),
            ("*.toml", ".toml"),
            ("plain", "plain"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in
            [("*.toml", "a.toml~"), ("a?", "a"), ("*a", "b"), ("a*b*c", "abb"), ("", "a"), ("plain", "plai")]
        {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    proptest! {
        #[test]
        fn it_is_what_trying_everything_finds(pattern in "[ab*?]{0,6}", name in "[ab]{0,6}") {
            fn slowly(pattern: &[u8], name: &[u8]) -> bool {
                match (pattern, name) {
                    ([], name) => name.is_empty(),
                    ([b'*', rest @ ..], name) => (0..=name.len()).any(|taken| slowly(rest, &name[taken..])),
                    ([want, rest @ ..], [have, after @ ..]) => {
                        (*want == b'?' || want == have) && slowly(rest, after)
                    }
                    _ => false,
                }
            }
            let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
            prop_assert_eq!(matches(pattern, name), slowly(pattern, name));
        }
    }
}
