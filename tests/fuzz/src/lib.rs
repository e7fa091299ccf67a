//! What every target shares: how much memory one input may cost, and files for readers that open a path.
//!
//! Time is bounded by the fuzzer (`-timeout`). An allocation beyond the bound fails, which ends the program, as it would
//! on a node that has no more.

use std::alloc::System;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Once;

use cap::Cap;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Buffers that are there for every input (a directory's, a socket's, a program's first bytes).
const ROOM: usize = 512 * 1024;
/// Of the input's own length. A value of one byte becomes an element of 100 (a condition of CRI, a key of JSON); vectors
/// double.
const TIMES: usize = 400;

/// A bound that nobody enforces proves nothing.
static TRIED: Once = Once::new();

/// Runs a reader, which may have as much memory as an input of that length justifies.
pub fn bounded<T>(input: &[u8], read: impl FnOnce() -> T) -> T {
    let limit = ALLOCATOR.allocated() + ROOM + TIMES * input.len();
    ALLOCATOR.set_limit(limit).expect("more than there is");
    TRIED
        .call_once(|| assert!(Vec::<u8>::new().try_reserve_exact(limit).is_err(), "the bound does not hold"));
    let value = read();
    ALLOCATOR.set_limit(usize::MAX).expect("any number");
    value
}

/// The input in as many pieces as a target wants, at bytes of 0xff, which neither JSON nor TOML nor a path has.
pub fn pieces<const COUNT: usize>(input: &[u8]) -> [&[u8]; COUNT] {
    let mut rest = input.splitn(COUNT, |byte| *byte == 0xff);
    std::array::from_fn(|_| rest.next().unwrap_or_default())
}

/// As a reader of text sees bytes.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A directory in memory, for readers that open files.
#[derive(Debug)]
pub struct Place(tempfile::TempDir);

impl Place {
    pub fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let directory = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        Self(directory.expect("a directory"))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().expect("below the place")).expect("a directory");
        fs::write(&path, bytes).expect("a file");
        path
    }
}

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}
