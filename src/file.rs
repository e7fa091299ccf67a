//! How a file is read that somebody else may have written, or put in the place of one of ours.
//!
//! Whoever may write to a directory decides what stands there under a name: a pipe that nobody fills, a link to a device
//! that never ends, a file larger than the node's memory. This is the one way in: never waits, takes plain files only, and
//! no more of them than the caller has a use for. A test holds every other way closed. Refuses to know what is in a file.

pub mod changes;
pub mod lock;

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use rustix::buffer::spare_capacity;
use rustix::fs::{FileType, Mode, OFlags, fstat, makedev};
use rustix::io::{Errno, read};

/// More than any configuration, record or result has.
pub const MOST: usize = 1 << 20;

/// Does not wait for anybody at the other end of a pipe or a line.
pub const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// The bytes of a plain file; links are followed. One that has more than `most` is an error.
pub fn bytes(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    bytes_of(&opened(path)?, most)
}

/// A plain file, to be read in parts.
pub fn open(path: &Path) -> io::Result<File> {
    let file = opened(path)?;
    plain_size(&file)?;
    Ok(file)
}

/// A directory, to lock or to sync.
pub fn directory(path: &Path) -> io::Result<File> {
    Ok(File::from(rustix::fs::open(path, FLAGS.union(OFlags::DIRECTORY), Mode::empty())?))
}

fn opened(path: &Path) -> io::Result<File> {
    match rustix::fs::open(path, FLAGS, Mode::empty()) {
        Ok(fd) => Ok(File::from(fd)),
        // A socket, or a device without a driver.
        Err(Errno::NXIO) => Err(not_plain()),
        Err(errno) => Err(errno.into()),
    }
}

fn not_plain() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it is no plain file")
}

/// Whether an error says that something else than a plain file, or far too large a one, has the name.
pub fn is_no_file_of_ours(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::FileTooLarge)
        && error.raw_os_error().is_none()
}

/// Length of a plain file; an error for anything else.
fn plain_size(file: &File) -> io::Result<u64> {
    let stat = fstat(file)?;
    let null = makedev(1, 3);
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(u64::try_from(stat.st_size).unwrap_or(0)),
        // A link to /dev/null is how administrators switch a file off (sysctl.d(5), systemd.unit(5)): an empty one.
        FileType::CharacterDevice if stat.st_rdev == null => Ok(0),
        FileType::Directory => Err(Errno::ISDIR.into()),
        _ => Err(not_plain()),
    }
}

/// What is left of a file that was opened with [`FLAGS`]. Costs one look and, as long as nobody writes, one read.
pub fn bytes_of(file: &File, most: usize) -> io::Result<Vec<u8>> {
    let too_large = || io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {most} bytes"));
    let size = plain_size(file)?;
    let size = usize::try_from(size).ok().filter(|size| *size <= most).ok_or_else(too_large)?;
    // One more than there is: where that stays empty, the file has ended.
    let mut bytes = Vec::with_capacity(size + 1);
    loop {
        if bytes.len() == bytes.capacity() {
            // It has grown since.
            bytes.reserve(bytes.len());
        }
        let room = bytes.capacity() - bytes.len();
        let count = match read(file, spare_capacity(&mut bytes)) {
            Err(Errno::INTR) => continue,
            count => count?,
        };
        if bytes.len() > most {
            return Err(too_large());
        }
        // Files of the kernel's own say that they are empty, and come in parts.
        if count == 0 || (size > 0 && bytes.len() >= size && count < room) {
            return Ok(bytes);
        }
    }
}

/// How much of a program is in memory while somebody looks through it.
const PIECE: usize = 16 * 1024;

/// Whether these bytes stand anywhere in what is left of a file, which is read piece by piece.
pub fn holds(file: &File, wanted: &[u8]) -> io::Result<bool> {
    let mut window = Vec::with_capacity(PIECE + wanted.len());
    loop {
        // What could be the beginning stays for the next piece.
        let kept = window.len().saturating_sub(wanted.len());
        window.drain(..kept);
        if file.take(PIECE as u64).read_to_end(&mut window)? == 0 {
            return Ok(false);
        }
        if window.windows(wanted.len()).any(|part| part == wanted) {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_plain_file_is_read_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        for length in [0, 1, 4095, 4096, 4097, 100_000] {
            let content = vec![b'x'; length];
            fs::write(&path, &content).unwrap();
            assert_eq!(bytes(&path, length).unwrap(), content);
            assert!(bytes(&path, length).unwrap().capacity() <= length + 8);
            if let Some(less) = length.checked_sub(1) {
                let error = bytes(&path, less).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::FileTooLarge, "{length}: {error}");
            }
        }
        let link = directory.path().join("link");
        symlink(&path, &link).unwrap();
        assert_eq!(bytes(&link, MOST).unwrap().len(), 100_000);
        assert_eq!(bytes(&directory.path().join("none"), MOST).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_a_file_holds_is_found_wherever_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("program");
        let mark = b"the mark of it";
        let holds = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            holds(&File::open(&path).unwrap(), mark).unwrap()
        };
        assert!(!holds(b""));
        assert!(!holds(&vec![b'x'; 3 * PIECE]));
        for before in [0, 17, PIECE - 5, PIECE, 2 * PIECE - mark.len() + 1] {
            assert!(holds(&[vec![b'x'; before], mark.to_vec(), vec![0; 10]].concat()), "{before}");
        }
        assert!(!holds(&mark[1..]));
    }

    #[test]
    fn a_file_of_the_kernels_is_read_to_its_end() {
        let path = Path::new("/proc/self/mountinfo");
        assert_eq!(bytes(path, MOST).unwrap(), fs::read(path).unwrap());
    }

    #[test]
    fn a_file_that_is_switched_off_is_empty() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("99-tuning.conf");
        symlink("/dev/null", &link).unwrap();
        assert_eq!(bytes(&link, MOST).unwrap(), b"");
    }

    /// None of these comes back from a plain read, or not with memory left.
    #[test]
    fn nothing_else_is_waited_for_or_taken() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let pipe = FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), pipe, Mode::RWXU, 0).unwrap();
        symlink("/dev/zero", at("endless")).unwrap();
        symlink(at("circle"), at("circle")).unwrap();
        let _listener = UnixListener::bind(at("socket")).unwrap();
        fs::create_dir(at("directory")).unwrap();
        let sparse = File::create(at("sparse")).unwrap();
        sparse.set_len(1 << 40).unwrap();
        for name in ["pipe", "endless", "circle", "socket", "directory", "sparse"] {
            assert!(bytes(&at(name), MOST).is_err(), "{name}");
            assert!(name == "sparse" || open(&at(name)).is_err(), "{name}");
        }
        // With somebody at the other end, who says something and never stops.
        let mut writer = fs::OpenOptions::new().read(true).write(true).open(at("pipe")).unwrap();
        writer.write_all(b"{}").unwrap();
        assert!(bytes(&at("pipe"), MOST).is_err());
    }
}
