//! Configuration in directories of small files, where a file of the same name in a better place takes another's place.
//!
//! Knows where such files lie and in which order they count; not what they say.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::host::root::Root;

/// A file with its path as the host sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextFile {
    pub path: String,
    pub text: String,
}

impl TextFile {
    /// Rules of udev, as opposed to configuration.
    pub fn is_rule(&self) -> bool {
        Path::new(&self.path).extension().is_some_and(|ending| ending == "rules")
    }

    #[cfg(test)]
    pub fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }
}

/// The files with that ending, by name. Of one name the one in the directory that comes first counts.
pub fn read(root: &Root, directories: &[&str], ending: &str) -> io::Result<Vec<TextFile>> {
    let mut chosen: BTreeMap<String, PathBuf> = BTreeMap::new();
    for directory in directories.iter().map(Path::new) {
        for name in root.list(directory)? {
            let Some(name) = name.to_str().filter(|name| name.ends_with(ending)) else { continue };
            chosen.entry(name.to_owned()).or_insert_with(|| directory.join(name));
        }
    }
    let mut files = Vec::new();
    for path in chosen.into_values() {
        files.extend(file(root, &path)?);
    }
    Ok(files)
}

/// One file, when it is there.
pub fn file(root: &Root, path: &Path) -> io::Result<Option<TextFile>> {
    let text = root.read_text(path)?;
    Ok(text.map(|text| TextFile { path: path.display().to_string(), text }))
}

/// The lines of a file in sections (`[Match]`), without comments and blank ones: section, key, value.
pub fn ini(text: &str) -> Vec<(&str, &str, &str)> {
    let mut section = "";
    let mut entries = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name.trim();
        } else if let Some((key, value)) = line.split_once('=') {
            entries.push((section, key.trim(), value.trim()));
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_better_directory_wins_and_names_decide_the_order() {
        let tree = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("etc/x.d/20-b.conf", "etc"),
            ("usr/lib/x.d/20-b.conf", "usr"),
            ("usr/lib/x.d/10-a.conf", "a"),
            ("usr/lib/x.d/README", "no"),
        ] {
            let path = tree.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let found = read(&Root::at(tree.path()), &["/etc/x.d", "/run/x.d", "/usr/lib/x.d"], ".conf").unwrap();
        assert_eq!(
            found,
            [TextFile::new("/usr/lib/x.d/10-a.conf", "a"), TextFile::new("/etc/x.d/20-b.conf", "etc")]
        );
    }

    #[test]
    fn sections_keys_and_values_are_read_without_comments() {
        let text = "# c\n[Match]\nName = veth* \n;x=y\n\n[Link]\nUnmanaged=yes\nbroken\n";
        assert_eq!(ini(text), [("Match", "Name", "veth*"), ("Link", "Unmanaged", "yes")]);
    }
}
