//! This very program as a file: what is placed on nodes, and how its like is told from other people's.

use std::fs::File;
use std::hash::Hasher;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::have::ProgramIdentity;
use crate::applet::ABOUT;
use crate::conflist::CNI_VERSION;
use crate::file;

/// Larger than any build of ours: what is longer is somebody else's and not worth reading.
const LARGEST: u64 = 128 << 20;
const CHUNK: usize = 16 * 1024;

#[derive(Debug)]
pub(super) struct Program {
    path: PathBuf,
    pub(super) identity: ProgramIdentity,
}

impl Program {
    /// The file that runs now, also when it was replaced since.
    pub(super) fn own() -> io::Result<Self> {
        Self::at(Path::new("/proc/self/exe"))
    }

    fn at(path: &Path) -> io::Result<Self> {
        let mut file = file::open(path)?;
        // Not for secrets: it only has to differ between builds.
        let mut digest = std::hash::DefaultHasher::new();
        let mut buffer = vec![0; CHUNK];
        let mut size = 0;
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                length => {
                    digest.write(&buffer[..length]);
                    size += length as u64;
                }
            }
        }
        let identity = ProgramIdentity {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            digest: format!("{:016x}", digest.finish()),
            size,
        };
        Ok(Self { path: path.to_owned(), identity })
    }

    pub(super) fn open(&self) -> io::Result<File> {
        file::open(&self.path)
    }
}

/// The digest by which builds are told apart: that of the installation's record.
pub fn digest(path: &Path) -> io::Result<String> {
    if std::fs::metadata(path)?.len() > LARGEST {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "too large to be a plugin"));
    }
    Ok(Program::at(path)?.identity.digest)
}

/// Whether a file is a smarter-cni of whatever build.
pub(super) fn is_ours(file: &File) -> io::Result<bool> {
    if file.metadata()?.len() > LARGEST {
        return Ok(false);
    }
    file::holds(file, ABOUT.as_bytes())
}

/// The answer to VERSION.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Versions {
    supported_versions: Vec<String>,
}

/// Executes a file as the plugin of that name with VERSION (CNI SPEC "VERSION"). The error says why it cannot be used.
pub(super) fn try_version(path: &Path, name: &str) -> io::Result<()> {
    use std::os::unix::process::CommandExt;
    let output = Command::new(path)
        .arg0(name)
        .env_clear()
        .env("CNI_COMMAND", "VERSION")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| {
            io::Error::new(error.kind(), format!("cannot be executed: {error}{}", noexec(&error)))
        })?;
    let speaks = serde_json::from_slice::<Versions>(&output.stdout)
        .is_ok_and(|versions| versions.supported_versions.iter().any(|version| version == CNI_VERSION));
    if output.status.success() && speaks {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let text = format!("does not answer VERSION as a CNI plugin ({}): {}", output.status, said.trim());
    Err(io::Error::other(text))
}

/// Root may execute whatever has the bit, unless the file system forbids it (mount(8), `noexec`).
fn noexec(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::PermissionDenied {
        "; is its file system mounted noexec? Remount it, or give another directory with --bin-dir"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_like_is_told_by_its_mark() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("program");
        let judged = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            is_ours(&File::open(&path).unwrap()).unwrap()
        };
        assert!(!judged(b"a program"));
        assert!(judged(&[b"a program, ", ABOUT.as_bytes(), b" and more"].concat()));
        let file = File::create(&path).unwrap();
        file.set_len(LARGEST + 1).unwrap();
        assert!(!is_ours(&File::open(&path).unwrap()).unwrap(), "too large to look through");
    }

    #[test]
    fn what_does_not_answer_is_not_used() {
        let error = |path: &str| try_version(Path::new(path), "smarter-bridge").unwrap_err().to_string();
        assert!(error("/no/such/program").starts_with("cannot be executed: "));
        assert!(error("/bin/true").starts_with("does not answer VERSION as a CNI plugin (exit status: 0)"));
        let shadow = error("/etc/passwd");
        assert!(shadow.contains("noexec"), "{shadow}");
    }

    #[test]
    fn a_program_has_an_identity() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("program");
        let identity = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            let program = Program::at(&path).unwrap();
            let mut read = Vec::new();
            program.open().unwrap().read_to_end(&mut read).unwrap();
            assert_eq!((read.as_slice(), program.identity.size), (bytes, bytes.len() as u64));
            program.identity
        };
        let mut bytes = vec![b'x'; 2 * CHUNK + 1];
        let before = identity(&bytes);
        assert_eq!(identity(&bytes), before);
        *bytes.last_mut().unwrap() = b'y';
        assert_ne!(identity(&bytes), before);
        assert_eq!(digest(&path).unwrap(), identity(&bytes).digest);
    }
}
