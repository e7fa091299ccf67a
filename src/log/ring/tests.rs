use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::TempDir;

use super::*;

fn directory() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    (directory, path)
}

fn append(path: &Path, cap: u64, line: &str) -> io::Result<Fate> {
    Ring::at(path, cap).append(line, false, None)
}

#[test]
fn when_the_file_is_full_it_becomes_the_predecessor() {
    let (_directory, path) = directory();
    for line in ["1234567\n", "abcdefg\n", "ABCDEFG\n", "!?.,;:-\n", "xyz\n"] {
        assert_eq!(append(&path, 16, line).unwrap(), Fate::Written);
    }
    assert_eq!(fs::read_to_string(path.join("log")).unwrap(), "xyz\n");
    assert_eq!(fs::read_to_string(path.join("log.1")).unwrap(), "ABCDEFG\n!?.,;:-\n");
    assert_eq!(append(&path, 16, "seventeen letters").unwrap(), Fate::Lost);
    assert_eq!(fs::metadata(path.join("log")).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn fifty_writers_never_pass_the_cap_and_tear_no_line() {
    const CAP: u64 = 4096;
    let (_directory, path) = directory();
    let done = AtomicBool::new(false);
    let sizes = thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut largest = 0;
            while !done.load(Ordering::Relaxed) {
                for name in ["log", "log.1"] {
                    largest = largest.max(fs::metadata(path.join(name)).map_or(0, |file| file.size()));
                }
            }
            largest
        });
        let writers: Vec<_> = (0..50)
            .map(|writer| {
                let path = &path;
                scope.spawn(move || {
                    for round in 0..40 {
                        let line = format!("{writer} {round} {}\n", "x".repeat(writer * 3));
                        append(path, CAP, &line).unwrap();
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
        watcher.join().unwrap()
    });
    assert!(sizes <= CAP && sizes > CAP / 2, "{sizes}");
    for name in ["log", "log.1"] {
        let text = fs::read_to_string(path.join(name)).unwrap();
        assert!(text.len() as u64 <= CAP && text.ends_with('\n'));
        for line in text.lines() {
            let (writer, rest) = line.split_once(' ').unwrap();
            assert_eq!(rest.matches('x').count(), writer.parse::<usize>().unwrap() * 3, "{line}");
        }
    }
}

#[test]
fn whoever_keeps_the_lock_keeps_nobody_waiting() {
    let (_directory, path) = directory();
    let held = Ring::at(&path, 100).open(false).unwrap();
    assert!(lock(&held).unwrap());
    assert_eq!(append(&path, 100, "x\n").unwrap(), Fate::Lost);
    drop(held);
    assert_eq!(append(&path, 100, "x\n").unwrap(), Fate::Written);
}

#[test]
fn a_missing_directory_is_made_only_when_asked_for() {
    let (_directory, path) = directory();
    let path = path.join("run");
    assert!(append(&path, 100, "x\n").is_err());
    assert!(!path.exists());
    assert_eq!(Ring::at(&path, 100).append("x\n", true, None).unwrap(), Fate::Written);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn links_and_other_things_at_the_places_of_files_are_left_alone() {
    let (_directory, path) = directory();
    let precious = path.join("precious");
    fs::write(&precious, "debug").unwrap();
    symlink(&precious, path.join("log")).unwrap();
    symlink(&precious, path.join("log-level")).unwrap();
    assert!(append(&path, 100, "x\n").is_err());
    assert_eq!(word(&path.join("log-level")), None);
    assert_eq!(fs::read(&precious).unwrap(), b"debug");
    fs::remove_file(path.join("log")).unwrap();
    fs::create_dir(path.join("log")).unwrap();
    assert!(append(&path, 100, "x\n").is_err());
    fs::remove_dir(path.join("log")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, path.join("log"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    assert_eq!(append(&path, 100, "x\n").unwrap(), Fate::Lost, "nobody waits for a reader");
    // A predecessor that cannot be replaced does not make the log grow.
    fs::remove_file(path.join("log")).unwrap();
    fs::create_dir(path.join("log.1")).unwrap();
    for _ in 0..3 {
        assert_eq!(append(&path, 3, "x\n").unwrap(), Fate::Written);
    }
    assert_eq!(fs::read_to_string(path.join("log")).unwrap(), "x\n");
}

#[test]
fn what_is_known_is_not_written_again() {
    let (_directory, path) = directory();
    append(&path, 1 << 20, &format!("{}end\n", "é".repeat(5000))).unwrap();
    let ring = Ring::at(&path, 1 << 20);
    let seen = RefCell::new(String::new());
    let is_known = |tail: &str| {
        tail.clone_into(&mut seen.borrow_mut());
        true
    };
    assert_eq!(ring.append("x\n", false, Some(&is_known)).unwrap(), Fate::Known);
    let seen = seen.into_inner();
    assert!(seen.ends_with("éend\n") && seen.len() <= 4100, "{}", seen.len());
}

#[test]
fn a_level_file_is_a_short_word() {
    let (_directory, path) = directory();
    let file = path.join("log-level");
    assert_eq!(word(&file), None);
    fs::write(&file, "debug\n").unwrap();
    assert_eq!(word(&file).as_deref(), Some("debug\n"));
    fs::write(&file, "x".repeat(100_000)).unwrap();
    assert_eq!(word(&file).unwrap().len(), 64);
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    assert_eq!(word(&file), None);
}
