//! What is on the node already: reads directories, programs and configurations below the root, and the node's networks.
//! Changes nothing.

mod host_dns;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ipnetwork::IpNetwork;
use serde_json::Value;

use super::have::{BinDir, ConfDir, ConfFile, Content, Found, Have, OWN, PROGRAM, STANDARD};
use super::installation::{self, Installation};
use super::program::{self, Program};
use crate::conflist::{DATA_DIR, Range, Ranges};
use crate::datapath::ground;
use crate::file;
use crate::host::elf::{self, Soundness};
use crate::host::place;
use crate::host::root::Root;
use crate::state::holders::LIBCNI_RESULTS;
use crate::state::results;

/// What libcni reads in a configuration directory (libcni `ConfFiles`, as all runtimes call it).
const EXTENSIONS: &[&str] = &["conf", "conflist", "json"];

/// Directories as the host sees them. The text of an error names what could not be looked at.
pub(super) fn observe(
    root: &Root,
    program: &Program,
    network: &str,
    bin_dirs: &[PathBuf],
    conf_dirs: &[PathBuf],
) -> Result<Have, String> {
    let mut have = Have {
        program: program.identity.clone(),
        installation: installation(root)?,
        ground: ground::survey().map_err(|error| format!("cannot look at the node's networks: {error}"))?,
        leases: root.exists(&Path::new(DATA_DIR).join(network)),
        damaged_cache: damaged_cache(root, network)?,
        ..Have::default()
    };
    leftovers_in(root, Path::new(installation::DIRECTORY), &mut have.leftovers)?;
    have.resolver_files = host_dns::files(root, &mut have.leftovers)?;
    for path in resolved(root, bin_dirs)? {
        let dir = bin_dir(root, program, path, &mut have.leftovers)?;
        have.bin_dirs.push(dir);
    }
    for path in resolved(root, conf_dirs)? {
        let dir = conf_dir(root, path, &mut have.leftovers)?;
        have.conf_dirs.push(dir);
    }
    Ok(have)
}

fn failed(path: &Path) -> impl Fn(io::Error) -> String + '_ {
    move |error| format!("cannot look at {}: {error}", path.display())
}

/// `None` also for a damaged one: what it knew is lost, what is on the node is still found by its marks.
pub(crate) fn installation(root: &Root) -> Result<Option<Installation>, String> {
    let path = Path::new(installation::FILE);
    let Some(bytes) = root.read(path).map_err(failed(path))? else { return Ok(None) };
    match Installation::parse(&bytes) {
        Ok(installation) => Ok(Some(installation)),
        Err(error) => {
            tracing::warn!("{} is damaged and counts as absent: {error}", path.display());
            Ok(None)
        }
    }
}

/// Each directory once, whatever links lead there.
fn resolved(root: &Root, directories: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    for directory in directories {
        let path = root.resolve(directory).map_err(failed(directory))?;
        if !found.contains(&path) {
            found.push(path);
        }
    }
    Ok(found)
}

/// Those parts of the path that are not there, the outermost first.
fn missing(root: &Root, path: &Path) -> Vec<PathBuf> {
    let mut missing: Vec<_> =
        path.ancestors().take_while(|part| !root.exists(part)).map(Path::to_owned).collect();
    missing.reverse();
    missing
}

fn leftovers_in(root: &Root, path: &Path, found: &mut Vec<PathBuf>) -> Result<Vec<String>, String> {
    let names = root.list(path).map_err(failed(path))?;
    let names: Vec<String> = names.into_iter().filter_map(|name| name.into_string().ok()).collect();
    found.extend(names.iter().filter(|name| name.starts_with(place::TEMPORARY)).map(|name| path.join(name)));
    Ok(names)
}

fn bin_dir(
    root: &Root,
    program: &Program,
    path: PathBuf,
    leftovers: &mut Vec<PathBuf>,
) -> Result<BinDir, String> {
    leftovers_in(root, &path, leftovers)?;
    let mut names = BTreeMap::new();
    for name in [PROGRAM].iter().chain(OWN).chain(STANDARD) {
        let at = path.join(name);
        names.insert(*name, found(root, program, &at, *name == PROGRAM).map_err(failed(&at))?);
    }
    Ok(BinDir { missing: missing(root, &path), path, names })
}

pub(super) fn found(root: &Root, program: &Program, path: &Path, is_program: bool) -> io::Result<Found> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let here = root.locate(parent)?.join(path.file_name().unwrap_or_default());
    let metadata = match fs::symlink_metadata(&here) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Absent),
        Err(error) => return Err(error),
    };
    if metadata.is_symlink() {
        let target = fs::read_link(&here)?;
        if !is_program && target == Path::new(PROGRAM) {
            return Ok(Found::Same);
        }
        return match file::open(&root.locate(path)?) {
            Ok(file) => judged(&file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok(Found::Broken(format!("is a link to {}, which is not there", target.display())))
            }
            Err(error) => Err(error),
        };
    }
    if !metadata.is_file() {
        return Ok(Found::Foreign);
    }
    let file = file::open(&here)?;
    if is_program
        && metadata.len() == program.identity.size
        && metadata.permissions().mode() & 0o111 == 0o111
        && place::is_same(&file, &mut program.open()?)
    {
        return Ok(Found::Same);
    }
    judged(&file::open(&here)?)
}

fn judged(file: &File) -> io::Result<Found> {
    Ok(match elf::judge(file)? {
        Soundness::Broken(why) => Found::Broken(why),
        Soundness::Sound if program::is_ours(file)? => Found::Ours,
        Soundness::Sound => Found::Foreign,
    })
}

fn conf_dir(root: &Root, path: PathBuf, leftovers: &mut Vec<PathBuf>) -> Result<ConfDir, String> {
    let mut files = Vec::new();
    for name in leftovers_in(root, &path, leftovers)? {
        let at = path.join(&name);
        let extension = at.extension().and_then(|extension| extension.to_str());
        if !extension.is_some_and(|extension| EXTENSIONS.contains(&extension)) {
            continue;
        }
        let here = root.locate(&at).map_err(failed(&at))?;
        // libcni passes over sub-directories.
        if here.is_dir() {
            continue;
        }
        let (bytes, content) = match root.read(&at) {
            Ok(Some(bytes)) => {
                let content = content(&bytes);
                (bytes, content)
            }
            Ok(None) => (Vec::new(), Content::Broken("is a link that leads nowhere".to_owned())),
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                (Vec::new(), Content::Broken("is too large".to_owned()))
            }
            Err(error) if file::is_no_file_of_ours(&error) => {
                (Vec::new(), Content::Broken("is no plain file".to_owned()))
            }
            Err(error) => return Err(failed(&at)(error)),
        };
        files.push(ConfFile { name, bytes, content });
    }
    Ok(ConfDir { missing: missing(root, &path), path, files, shared: false })
}

/// What a configuration or a list of configurations is for.
pub(super) fn content(bytes: &[u8]) -> Content {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Content::Broken("is empty".to_owned());
    }
    let document: Value = match serde_json::from_slice(bytes) {
        Ok(document) => document,
        Err(error) => return Content::Broken(format!("is not JSON: {error}")),
    };
    let plugins: Vec<&Value> = match document.get("plugins") {
        Some(Value::Array(plugins)) => plugins.iter().collect(),
        Some(_) => return Content::Broken("has `plugins` that are no array".to_owned()),
        None => vec![&document],
    };
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let types: Option<Vec<String>> = plugins.iter().map(|plugin| text(plugin, "type")).collect();
    match (text(&document, "name"), types) {
        (Some(network), Some(types)) if !types.is_empty() => {
            let ranges = plugins[0].get("ipam").and_then(ranges);
            let subnets = plugins.iter().filter_map(|plugin| plugin.get("ipam")).flat_map(subnets).collect();
            let bridges = plugins.iter().filter_map(|plugin| text(plugin, "bridge")).collect();
            Content::List { network, types, ranges, subnets, bridges }
        }
        (None, _) => Content::Broken("has no `name`".to_owned()),
        _ => Content::Broken("has no plugin with a `type`".to_owned()),
    }
}

/// The ranges in both forms of host-local. `None` when they are not such as we could take over.
fn ranges(ipam: &Value) -> Option<Ranges> {
    let range = |value: &Value| {
        let subnet = value.get("subnet")?.as_str()?.parse().ok()?;
        let gateway = match value.get("gateway") {
            Some(gateway) => Some(gateway.as_str()?.parse::<IpAddr>().ok()?),
            None => None,
        };
        Range::new(subnet, gateway).ok()
    };
    let sets = ipam.get("ranges").and_then(Value::as_array);
    let in_sets = sets.into_iter().flatten().map(|set| set.as_array()?.first().and_then(range));
    let older = ipam.get("subnet").map(|_| range(ipam));
    let all: Option<Vec<Range>> = older.into_iter().chain(in_sets).collect();
    Ranges::new(all?).ok()
}

/// Every subnet in whichever form.
fn subnets(ipam: &Value) -> Vec<IpNetwork> {
    let sets = ipam.get("ranges").and_then(Value::as_array).into_iter().flatten();
    let ranges = sets.filter_map(Value::as_array).flatten().chain([ipam]);
    ranges.filter_map(|range| range.get("subnet")?.as_str()?.parse().ok()).collect()
}

/// Results of our network that keep pods from being deleted.
fn damaged_cache(root: &Root, network: &str) -> Result<Vec<PathBuf>, String> {
    let directory = Path::new(LIBCNI_RESULTS);
    let here = root.locate(directory).map_err(failed(directory))?;
    let names = results::damaged(&here, network).map_err(failed(directory))?;
    Ok(names.into_iter().map(|name| directory.join(name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_says_its_network_its_plugins_and_its_ranges() {
        let one =
            content(br#"{"name":"n","type":"bridge","ipam":{"subnet":"10.1.0.0/16","gateway":"10.1.0.9"}}"#);
        let Content::List { network, types, ranges, .. } = one else { panic!("{one:?}") };
        assert_eq!((network.as_str(), types.as_slice()), ("n", &["bridge".to_owned()][..]));
        assert_eq!(ranges.unwrap().first().to_string(), "10.1.0.0/16 (gateway 10.1.0.9)");
        let list = crate::install::plan::render(&crate::conflist::Network::default());
        let Content::List { ranges, .. } = content(&list) else { panic!("ours") };
        assert_eq!(ranges.unwrap(), crate::conflist::Network::default().ranges);
        for (bytes, why) in [
            ("", "is empty"),
            ("\n \n", "is empty"),
            ("{\"name\":", "is not JSON: "),
            (r#"{"type":"bridge"}"#, "has no `name`"),
            (r#"{"name":"n","plugins":[]}"#, "has no plugin with a `type`"),
            (r#"{"name":"n","plugins":{}}"#, "has `plugins` that are no array"),
        ] {
            let Content::Broken(reason) = content(bytes.as_bytes()) else { panic!("{bytes}") };
            assert!(reason.starts_with(why), "{reason}");
        }
    }
}
