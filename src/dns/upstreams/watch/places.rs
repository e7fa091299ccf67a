//! Where a change of a file would be seen: directories, and the names in them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::read_link;
use std::path::{Path, PathBuf};

/// Links in a row (the kernel follows 40, `MAXSYMLINKS`).
const MOST_LINKS: usize = 40;

pub(super) type Places = BTreeMap<PathBuf, BTreeSet<OsString>>;

pub(super) fn of(paths: &[PathBuf]) -> Places {
    let mut places = Places::new();
    for path in paths {
        let mut next = Some(path.clone());
        for _ in 0..MOST_LINKS {
            let Some(path) = next.take() else { break };
            next = add(&mut places, &path);
        }
    }
    places
}

/// Adds the first part of the path that is missing or a link, or the file itself; returns where a link leads.
fn add(places: &mut Places, path: &Path) -> Option<PathBuf> {
    let mut parts = path.components();
    let mut directory = PathBuf::from(parts.next()?.as_os_str());
    while let Some(part) = parts.next() {
        let here = directory.join(part);
        let rest = parts.as_path();
        let target = read_link(&here).ok();
        if target.is_some() || rest.as_os_str().is_empty() || !here.is_dir() {
            places.entry(directory.clone()).or_default().insert(part.as_os_str().to_owned());
        }
        if let Some(target) = target {
            // A relative one begins where the link is.
            return Some(directory.join(target).join(rest));
        }
        if !here.is_dir() {
            return None;
        }
        directory = here;
    }
    None
}

#[cfg(test)]
mod tests {
    use std::fs::{create_dir_all, write};
    use std::os::unix::fs::symlink;

    use super::*;

    /// Below a directory of the test, as text.
    fn seen(root: &Path, path: &str) -> Vec<String> {
        let mut seen = Vec::new();
        for (directory, names) in of(&[root.join(path)]) {
            let Ok(below) = directory.strip_prefix(root) else { continue };
            seen.extend(names.iter().map(|name| below.join(name).display().to_string()));
        }
        seen
    }

    #[test]
    fn a_file_is_watched_where_it_is_and_where_it_would_be() {
        let directory = tempfile::tempdir().unwrap();
        let root = &directory.path().canonicalize().unwrap();
        assert_eq!(seen(root, "run/systemd/resolve/resolv.conf"), ["run"]);
        create_dir_all(root.join("run/systemd")).unwrap();
        assert_eq!(seen(root, "run/systemd/resolve/resolv.conf"), ["run/systemd/resolve"]);
        create_dir_all(root.join("run/systemd/resolve")).unwrap();
        assert_eq!(seen(root, "run/systemd/resolve/resolv.conf"), ["run/systemd/resolve/resolv.conf"]);
        write(root.join("run/systemd/resolve/resolv.conf"), "").unwrap();
        assert_eq!(seen(root, "run/systemd/resolve/resolv.conf"), ["run/systemd/resolve/resolv.conf"]);
        write(root.join("run/file"), "").unwrap();
        assert_eq!(seen(root, "run/file/resolv.conf"), ["run/file"]);
    }

    #[test]
    fn links_are_watched_with_where_they_lead() {
        let directory = tempfile::tempdir().unwrap();
        let root = &directory.path().canonicalize().unwrap();
        create_dir_all(root.join("etc")).unwrap();
        create_dir_all(root.join("run/one")).unwrap();
        symlink("../run/one/resolv.conf", root.join("etc/resolv.conf")).unwrap();
        let seen_there = seen(root, "etc/resolv.conf");
        assert!(seen_there.contains(&"etc/resolv.conf".to_owned()), "{seen_there:?}");
        assert!(seen_there.iter().any(|place| place.ends_with("one/resolv.conf")), "{seen_there:?}");
        symlink(root.join("run"), root.join("var-run")).unwrap();
        assert_eq!(seen(root, "var-run/one/resolv.conf"), ["var-run", "run/one/resolv.conf"]);
        symlink("circle", root.join("circle")).unwrap();
        assert_eq!(seen(root, "circle"), ["circle"]);
    }
}
