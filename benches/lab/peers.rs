//! Programs of others: where they are, which version they are, and how to get what is missing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::build::repository;
use crate::Result;

const DIRECTORIES: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Debian's newest programs below one directory.
pub(crate) struct Newest {
    root: PathBuf,
    versions: String,
}

impl Newest {
    /// Takes them from Debian where they are not there yet.
    pub(crate) fn fetch() -> Result<Self> {
        let script = repository().join("tests/peers/fetch");
        let needs = Command::new(&script).arg("--needs").output()?;
        let needs = String::from_utf8(needs.stdout)?;
        let needs: Vec<_> = needs.lines().filter_map(|line| line.split_once(':')).collect();
        require(&needs)?;
        let fetch = Command::new(script).stderr(Stdio::inherit()).output()?;
        let text = String::from_utf8(fetch.stdout)?;
        let root = match text.lines().last() {
            Some(line) if fetch.status.success() => PathBuf::from(line),
            _ => return Err("tests/peers/fetch did not get Debian's newest programs".into()),
        };
        Ok(Self { versions: fs::read_to_string(root.join("versions"))?, root })
    }

    pub(crate) fn file(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    pub(crate) fn version(&self, package: &str) -> Result<String> {
        let line = self.versions.lines().find_map(|line| line.strip_prefix(package)?.strip_prefix(' '));
        Ok(upstream(line.ok_or_else(|| format!("no version of {package} is known"))?))
    }
}

/// Without what Debian adds: `1:1.9.1+ds1-1` is 1.9.1.
pub(crate) fn upstream(version: &str) -> String {
    let version = version.split_once(':').map_or(version, |(_, rest)| rest);
    version.split(['+', '-', '~']).next().unwrap_or_default().to_owned()
}

/// Refuses unless every program (a name, or a path) is there, and says which command gets the packages of the others.
pub(crate) fn require(programs: &[(&str, &str)]) -> Result<()> {
    let mut missing: Vec<_> = programs.iter().filter(|(program, _)| find(program).is_err()).collect();
    missing.dedup_by_key(|(_, package)| *package);
    if missing.is_empty() {
        return Ok(());
    }
    let (programs, packages): (Vec<_>, Vec<_>) = missing.into_iter().copied().unzip();
    let (programs, packages) = (programs.join(", "), packages.join(" "));
    Err(format!("{programs}: missing; as root: apt-get install --no-install-recommends {packages}").into())
}

/// The file itself, behind all links.
pub(crate) fn find(program: &str) -> Result<PathBuf> {
    let found = DIRECTORIES.iter().map(|dir| Path::new(dir).join(program)).find(|path| path.exists());
    Ok(found.ok_or_else(|| format!("there is no {program}"))?.canonicalize()?)
}

/// What a contestant that searches others finds behind its own directory.
pub(crate) fn search_path() -> String {
    DIRECTORIES.join(":")
}
