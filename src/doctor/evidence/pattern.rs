//! Patterns of names as shells and network managers write them (fnmatch(3)): `*`, `?` and `[…]`.
//!
//! Pure.

/// Whether the whole of `name` matches. Takes no longer than the product of both lengths: other programs' configuration has the
/// pattern.
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where to go on when what follows the last `*` does not fit.
    let mut retry = None;
    loop {
        match (pattern.get(p), name.get(n)) {
            (None, None) => return true,
            (Some('*'), _) => {
                p += 1;
                retry = Some((p, n));
                continue;
            }
            (Some(_), Some(letter)) => {
                if let Some(length) = taken_by(&pattern[p..], *letter) {
                    (p, n) = (p + length, n + 1);
                    continue;
                }
            }
            _ => {}
        }
        match retry {
            Some((after, skipped)) if skipped < name.len() => {
                (p, n) = (after, skipped + 1);
                retry = Some((p, n));
            }
            _ => return false,
        }
    }
}

/// How much of the beginning of a pattern stands for the letter, if it does.
fn taken_by(pattern: &[char], letter: char) -> Option<usize> {
    let (fits, length) = match pattern {
        ['?', ..] => (true, 1),
        ['[', rest @ ..] => match rest.iter().position(|c| *c == ']') {
            Some(end) if end > 0 => (in_class(&rest[..end], letter), end + 2),
            _ => (letter == '[', 1),
        },
        [one, ..] => (*one == letter, 1),
        [] => (false, 0),
    };
    fits.then_some(length)
}

fn in_class(class: &[char], letter: char) -> bool {
    let (negated, mut class) = match class {
        ['!' | '^', rest @ ..] => (true, rest),
        class => (false, class),
    };
    let mut found = false;
    while let [first, rest @ ..] = class {
        if let ['-', last, behind @ ..] = rest {
            found |= (*first..=*last).contains(&letter);
            class = behind;
        } else {
            found |= *first == letter;
            class = rest;
        }
    }
    found != negated
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn names_match_as_in_a_shell() {
        for (pattern, name) in [
            ("veth*", "veth0a1b2c3d"),
            ("*", "smartnet0"),
            ("[ew]*", "wlan0"),
            ("eth[0-9]", "eth7"),
            ("eth[!0]", "eth1"),
            ("e?h0", "eth0"),
            ("*net*", "smartnet0"),
            ("a*b[0-9]*", "aabb1b"),
            ("*", ""),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("ve-*", "veth0a1b2c3d"),
            ("eth[0-9]", "eth"),
            ("eth[!0]", "eth0"),
            ("eth", "eth0"),
            ("", "eth0"),
            ("?", ""),
            ("[", "x"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    /// Trying every way for every star would outlive the node.
    #[test]
    fn many_stars_are_no_trouble() {
        let name = "a".repeat(60);
        assert!(!matches(&format!("{}b", "*a".repeat(30)), &name));
        assert!(matches(&format!("{}*", "*a".repeat(60)), &name));
    }
}
