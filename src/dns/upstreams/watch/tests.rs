use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::symlink;
use std::rc::Rc;

use tokio::sync::mpsc;
use tokio::task::{LocalSet, spawn_local};

use super::*;

type Step = Box<dyn FnOnce()>;

/// Follows `path`, does one thing after the other, and hears what the file names after each of them.
fn heard(path: &Path, steps: Vec<(&str, Step)>) -> Vec<(String, String)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let (tell, mut told) = mpsc::unbounded_channel();
        let paths = vec![path.to_owned()];
        let last: Rc<RefCell<Option<String>>> = Rc::default();
        let following = spawn_local(async move {
            let changed = || {
                let names: Vec<_> = read(&paths[0]).iter().map(ToString::to_string).collect();
                let names = names.join(" ");
                if last.borrow().as_ref() != Some(&names) {
                    last.replace(Some(names.clone()));
                    tell.send(names).unwrap();
                }
            };
            files(&paths, changed).await;
        });
        let mut heard = vec![("first".to_owned(), told.recv().await.unwrap())];
        for (what, step) in steps {
            step();
            heard.push((what.to_owned(), told.recv().await.unwrap()));
        }
        following.abort();
        heard
    })
}

fn step(action: impl FnOnce() + 'static) -> Step {
    Box::new(action)
}

#[test]
fn every_way_to_replace_a_file_is_seen() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().to_owned();
    let at = |name: &str| root.join(name);
    let line = |last: u8| format!("nameserver 192.0.2.{last}\n");
    let path = at("run/resolve/resolv.conf");
    let (dir, file) = (at("run/resolve"), path.clone());
    let steps = vec![
        ("directory and file appear", {
            let (dir, file) = (dir.clone(), file.clone());
            step(move || {
                fs::create_dir_all(&dir).unwrap();
                fs::write(&file, line(1)).unwrap();
            })
        }),
        ("rewritten", {
            let file = file.clone();
            step(move || fs::write(&file, line(2)).unwrap())
        }),
        ("renamed over it", {
            let (next, file) = (at("run/resolve/.next"), file.clone());
            step(move || {
                fs::write(&next, line(3)).unwrap();
                fs::rename(&next, &file).unwrap();
            })
        }),
        ("a link takes its place", {
            let (other, temporary, file) = (at("other"), at("run/resolve/.link"), file.clone());
            step(move || {
                fs::create_dir(&other).unwrap();
                fs::write(other.join("one"), line(4)).unwrap();
                symlink(other.join("one"), &temporary).unwrap();
                fs::rename(&temporary, &file).unwrap();
            })
        }),
        ("the link's target is renamed over", {
            let other = at("other");
            step(move || {
                fs::write(other.join("next"), line(5)).unwrap();
                fs::rename(other.join("next"), other.join("one")).unwrap();
            })
        }),
        ("the link turns to another file", {
            let (other, temporary, file) = (at("other"), at("run/resolve/.link"), file.clone());
            step(move || {
                fs::write(other.join("two"), line(6)).unwrap();
                symlink("../../other/two", &temporary).unwrap();
                fs::rename(&temporary, &file).unwrap();
            })
        }),
        ("that file is rewritten", {
            let other = at("other");
            step(move || fs::write(other.join("two"), line(7)).unwrap())
        }),
        ("the directory goes", {
            let dir = dir.clone();
            step(move || fs::rename(&dir, dir.with_extension("old")).unwrap())
        }),
        ("and another comes in its place", {
            let dir = dir.clone();
            step(move || {
                let next = dir.with_extension("next");
                fs::create_dir(&next).unwrap();
                fs::write(next.join("resolv.conf"), line(8)).unwrap();
                fs::rename(&next, &dir).unwrap();
            })
        }),
    ];
    let heard = heard(&path, steps);
    let names: Vec<_> = heard.iter().map(|(_, names)| names.replace("192.0.2.", "")).collect();
    assert_eq!(names, ["", "1", "2", "3", "4", "5", "6", "7", "", "8"], "{heard:?}");
}

#[test]
fn what_is_no_plain_file_names_nobody() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(read(directory.path()), []);
    assert_eq!(read(Path::new("/dev/zero")), []);
    assert_eq!(read(&directory.path().join("none")), []);
    let large = directory.path().join("large");
    fs::write(&large, "nameserver 192.0.2.1\n".repeat(4000)).unwrap();
    assert_eq!(read(&large), []);
}
