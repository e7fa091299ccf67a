//! Files of the host that tell about networks: configurations, plugins, what is remembered, the log.
//!
//! Opened in a way that waits for nobody: somebody may have put a pipe there. Of other people's files only JSON is taken,
//! without what looks like a secret in it; of everything else, and of what runtimes are configured by, only that it is there.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{self, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::collection::{Collection, LARGEST};
use crate::conflist;
use crate::doctor::evidence::Given;
use crate::file;
use crate::host::root::Root;
use crate::install;
use crate::plugins::host_local;
use crate::state::lease::DATA_DIR;
use crate::state::record::ROOT;
use crate::state::{BootId, Records};

/// Of one directory.
const MOST_FILES: usize = 2000;

/// The bytes of a plain file, or why not.
fn read(here: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One more, so that what is too long is seen to be.
    file::open(here)?.take(LARGEST as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn read_json(root: &Root, path: &Path) -> Result<Value, String> {
    let bytes = root.locate(path).and_then(|here| read(&here)).map_err(|error| error.to_string())?;
    let value = serde_json::from_slice(&bytes).map_err(|error| {
        // Its words may quote the file.
        format!("{} bytes that are no JSON, from line {} on: not taken", bytes.len(), error.line())
    })?;
    Ok(value)
}

/// A name for an archive: of a path, without its beginning.
fn flat(path: &Path) -> String {
    path.to_string_lossy().trim_start_matches('/').replace('/', "_")
}

/// Sorted, and no more than a person would read.
fn names(root: &Root, directory: &Path, into: &mut Collection) -> Vec<PathBuf> {
    match root.list(directory) {
        Ok(mut names) => {
            if names.len() > MOST_FILES {
                into.missing(
                    &directory.display().to_string(),
                    format_args!("{} files, of which {MOST_FILES} were looked at", names.len()),
                );
                names.truncate(MOST_FILES);
            }
            names.into_iter().map(|name| directory.join(name)).collect()
        }
        Err(error) => {
            into.missing(&directory.display().to_string(), error);
            Vec::new()
        }
    }
}

/// Where networks and plugins are looked for, each place once.
fn directories(given: &Given) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let root = &given.root;
    let once = |paths: &mut dyn Iterator<Item = &PathBuf>| {
        let mut known: Vec<PathBuf> = Vec::new();
        for path in paths {
            if root.exists(path) && !known.iter().any(|other| root.same(other, path)) {
                known.push(path.clone());
            }
        }
        known
    };
    let conf = once(&mut given.lookups.iter().map(|lookup| &lookup.conf_dir));
    let bin = once(&mut given.lookups.iter().flat_map(|lookup| &lookup.bin_dirs));
    (conf, bin)
}

pub(super) fn configurations(given: &Given, into: &mut Collection) {
    let (conf_dirs, bin_dirs) = directories(given);
    let mut listing = String::new();
    for directory in &conf_dirs {
        let _ = writeln!(listing, "{}", directory.display());
        for path in names(&given.root, directory, into) {
            let _ = writeln!(listing, "  {}", describe(&given.root, &path, None));
            let is_network =
                path.extension().is_some_and(|end| end == "conf" || end == "conflist" || end == "json");
            if is_network {
                match read_json(&given.root, &path) {
                    Ok(value) => into.json(&format!("configuration/{}.json", flat(&path)), value),
                    Err(why) => into.missing(&path.display().to_string(), why),
                }
            }
        }
    }
    let mut digests = HashMap::new();
    for directory in &bin_dirs {
        let _ = writeln!(listing, "{}", directory.display());
        for path in names(&given.root, directory, into) {
            let _ = writeln!(listing, "  {}", describe(&given.root, &path, Some(&mut digests)));
        }
    }
    into.text("configuration/directories.txt", &listing);
}

/// By device and inode: most names of plugins are links to one file.
type Digests = HashMap<(u64, u64), String>;

/// `name 4096 755 -> target digest`
fn describe(root: &Root, path: &Path, digests: Option<&mut Digests>) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let parent = path.parent().and_then(|parent| root.locate(parent).ok()).unwrap_or_default();
    let target = fs::read_link(parent.join(&name))
        .map(|target| format!(" -> {}", target.display()))
        .unwrap_or_default();
    let here = match root.locate(path) {
        Ok(here) => here,
        Err(error) => return format!("{name}{target} {error}"),
    };
    let metadata = match fs::metadata(&here) {
        Ok(metadata) => metadata,
        Err(error) => return format!("{name}{target} {error}"),
    };
    let kind = if metadata.is_file() {
        ""
    } else if metadata.is_dir() {
        " directory"
    } else {
        " special"
    };
    let digest =
        digests.filter(|_| metadata.is_file()).map(|known| format!(" {}", digest(&here, &metadata, known)));
    format!(
        "{name} {} {:o}{kind}{target}{}",
        metadata.len(),
        metadata.mode() & 0o7777,
        digest.unwrap_or_default()
    )
}

fn digest(here: &Path, metadata: &Metadata, known: &mut Digests) -> String {
    let compute = || install::digest(here).unwrap_or_else(|error| error.to_string());
    known.entry((metadata.dev(), metadata.ino())).or_insert_with(compute).clone()
}

/// Attachments, leases, switches that we turned, the installation: files of ours, which hold no secret.
pub(super) fn remembered(root: &Root, into: &mut Collection) {
    let mut records = Vec::new();
    for path in names(root, &Path::new(ROOT).join("attachments"), into) {
        match read_json(root, &path) {
            Ok(value) => records.push(json!({"file": path.display().to_string(), "record": value})),
            Err(why) => into.missing(&path.display().to_string(), why),
        }
    }
    into.json("state/attachments.json", Value::from(records));
    for (name, path) in
        [("state/host.json", format!("{ROOT}/host.json")), ("state/install.json", install::RECORD.to_owned())]
    {
        // Neither has to be there.
        if root.exists(Path::new(&path)) {
            match read_json(root, Path::new(&path)) {
                Ok(value) => into.json(name, value),
                Err(why) => into.missing(&path, why),
            }
        }
    }
    leases(root, into);
}

fn leases(root: &Root, into: &mut Collection) {
    let mut places: Vec<PathBuf> = [DATA_DIR, conflist::DATA_DIR].map(PathBuf::from).to_vec();
    // Records of this boot say where else.
    let records = BootId::current().map_err(|error| error.to_string()).and_then(|boot| {
        let here = root.locate(Path::new(ROOT)).map_err(|error| error.to_string())?;
        Records::at(&here, boot).all().map_err(|error| error.to_string())
    });
    places.extend(records.iter().flatten().map(host_local::data_dir_of));
    let mut known: Vec<PathBuf> = Vec::new();
    for place in places {
        if root.exists(&place) && !known.iter().any(|other| root.same(other, &place)) {
            known.push(place);
        }
    }
    let mut text = String::new();
    let directories: Vec<PathBuf> = known.iter().flat_map(|place| names(root, place, into)).collect();
    for directory in directories {
        let is_directory = root.locate(&directory).is_ok_and(|here| here.is_dir());
        if !is_directory {
            continue;
        }
        let _ = writeln!(text, "{}", directory.display());
        for path in names(root, &directory, into) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let content = root.locate(&path).and_then(|here| read(&here));
            let _ = match content {
                Ok(bytes) => {
                    writeln!(text, "  {name} {:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(200)]))
                }
                Err(error) => writeln!(text, "  {name} cannot be read: {error}"),
            };
        }
    }
    into.text("state/leases.txt", &text);
}

/// What plugins wrote down about their calls, the older file first.
pub(super) fn log(root: &Root, into: &mut Collection) {
    for name in ["log.1", "log"] {
        let path = Path::new(ROOT).join(name);
        if !root.exists(&path) {
            continue;
        }
        match root.locate(&path).and_then(|here| read(&here)) {
            Ok(bytes) => into.lines(&format!("log/{name}"), &String::from_utf8_lossy(&bytes)),
            Err(error) => into.missing(&path.display().to_string(), error),
        }
    }
}
