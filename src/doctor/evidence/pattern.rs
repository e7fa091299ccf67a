//! Patterns of names as shells and network managers write them (fnmatch(3)): `*`, `?` and `[…]`. Pure.

/// Whether the whole of `name` matches.
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    walk(&pattern, &name)
}

fn walk(pattern: &[char], name: &[char]) -> bool {
    match (pattern, name) {
        ([], []) => true,
        (['*', rest @ ..], _) => (0..=name.len()).any(|skipped| walk(rest, &name[skipped..])),
        (['?', rest @ ..], [_, behind @ ..]) => walk(rest, behind),
        (['[', rest @ ..], [letter, behind @ ..]) => match rest.iter().position(|c| *c == ']') {
            Some(end) if end > 0 => in_class(&rest[..end], *letter) && walk(&rest[end + 1..], behind),
            _ => *letter == '[' && walk(rest, behind),
        },
        ([one, rest @ ..], [letter, behind @ ..]) => one == letter && walk(rest, behind),
        (_, []) | ([], _) => false,
    }
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
}
