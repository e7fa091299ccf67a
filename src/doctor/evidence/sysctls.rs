//! Which file sets a switch of the kernel: sysctl.d(5). Pure but for the loading.

use std::io;
use std::path::Path;

use super::dropins::{self, TextFile};
use super::pattern;
use crate::host::root::Root;

/// In the order of precedence for files of one name.
const DIRECTORIES: [&str; 5] =
    ["/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d", "/lib/sysctl.d"];
/// Read last by `sysctl --system` of procps; Debian links it into the directory as well.
const LAST: &str = "/etc/sysctl.conf";

/// One line that sets a key, or everything that a pattern matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    pub file: String,
    pub line: usize,
    /// Below `/proc/sys`, with slashes: `net/ipv4/ip_forward`.
    key: String,
    /// `None` excludes the key from patterns.
    value: Option<String>,
}

impl Assignment {
    /// `/etc/sysctl.d/99-hardening.conf line 3`
    pub fn place(&self) -> String {
        format!("{} line {}", self.file, self.line)
    }

    pub fn value(&self) -> &str {
        self.value.as_deref().unwrap_or_default()
    }
}

pub fn load(root: &Root) -> io::Result<Vec<Assignment>> {
    let mut files = dropins::read(root, &DIRECTORIES, ".conf")?;
    files.extend(dropins::file(root, Path::new(LAST))?);
    Ok(parse(&files))
}

pub fn parse(files: &[TextFile]) -> Vec<Assignment> {
    let mut found = Vec::new();
    for file in files {
        for (at, line) in file.text.lines().enumerate() {
            found.extend(parse_line(line).map(|(key, value)| Assignment {
                file: file.path.clone(),
                line: at + 1,
                key,
                value,
            }));
        }
    }
    found
}

fn parse_line(line: &str) -> Option<(String, Option<String>)> {
    let line = line.trim();
    if line.is_empty() || line.starts_with(['#', ';']) {
        return None;
    }
    let (unmarked, marked) = match line.strip_prefix('-') {
        Some(rest) => (rest.trim_start(), true),
        None => (line, false),
    };
    match unmarked.split_once('=') {
        Some((key, value)) => Some((normal(key.trim()), Some(value.trim().to_owned()))),
        None => marked.then(|| (normal(unmarked), None)),
    }
}

/// If the first separator is a dot, dots and slashes change places.
fn normal(key: &str) -> String {
    match key.find(['.', '/']) {
        Some(at) if key[at..].starts_with('.') => key
            .chars()
            .map(|c| {
                if c == '.' {
                    '/'
                } else if c == '/' {
                    '.'
                } else {
                    c
                }
            })
            .collect(),
        _ => key.to_owned(),
    }
}

/// The line that has the last word about a key: a later one wins, and one that names the key wins over a pattern.
pub fn setter<'a>(assignments: &'a [Assignment], key: &str) -> Option<&'a Assignment> {
    let named = assignments.iter().rev().find(|assignment| assignment.key == key);
    if let Some(named) = named {
        return Some(named).filter(|named| named.value.is_some());
    }
    assignments.iter().rev().find(|assignment| {
        assignment.value.is_some()
            && assignment.key.contains(['*', '?', '['])
            && matches(&assignment.key, key)
    })
}

/// A star does not reach beyond a slash.
fn matches(pattern: &str, key: &str) -> bool {
    let (patterns, keys): (Vec<_>, Vec<_>) = (pattern.split('/').collect(), key.split('/').collect());
    patterns.len() == keys.len() && patterns.iter().zip(&keys).all(|(p, k)| pattern::matches(p, k))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(files: &[(&str, &str)], key: &str) -> Option<String> {
        let files: Vec<_> = files.iter().map(|(path, text)| TextFile::new(path, text)).collect();
        setter(&parse(&files), key).map(|found| format!("{} {}", found.place(), found.value()))
    }

    #[test]
    fn the_last_file_has_the_last_word() {
        let files = [
            ("/usr/lib/sysctl.d/10-a.conf", "net.ipv4.ip_forward = 1"),
            ("/etc/sysctl.d/99-b.conf", "# off\n\nnet/ipv4/ip_forward=0"),
        ];
        assert_eq!(set(&files, "net/ipv4/ip_forward").as_deref(), Some("/etc/sysctl.d/99-b.conf line 3 0"));
        assert_eq!(
            set(&files[..1], "net/ipv4/ip_forward").as_deref(),
            Some("/usr/lib/sysctl.d/10-a.conf line 1 1")
        );
        assert_eq!(set(&files, "net/ipv6/conf/all/forwarding"), None);
    }

    #[test]
    fn a_name_wins_over_a_pattern_and_may_be_left_out_of_it() {
        let files = [(
            "/etc/sysctl.d/a.conf",
            "net.ipv4.conf.eth0.rp_filter=2\nnet.ipv4.conf.*.rp_filter = 1\n-net.ipv4.conf.all.rp_filter\n-x.y=1",
        )];
        let place = |key| set(&files, key);
        assert_eq!(place("net/ipv4/conf/eth0/rp_filter").as_deref(), Some("/etc/sysctl.d/a.conf line 1 2"));
        assert_eq!(place("net/ipv4/conf/wlan0/rp_filter").as_deref(), Some("/etc/sysctl.d/a.conf line 2 1"));
        assert_eq!(place("net/ipv4/conf/all/rp_filter"), None);
        assert_eq!(
            place("x/y").as_deref(),
            Some("/etc/sysctl.d/a.conf line 4 1"),
            "a failure that is ignored"
        );
    }

    #[test]
    fn interfaces_with_dots_are_written_with_slashes() {
        let files = [("/etc/sysctl.conf", "net.ipv4.conf.eth0/100.forwarding=0")];
        assert!(set(&files, "net/ipv4/conf/eth0.100/forwarding").is_some());
    }
}
