//! The runtimes of the host: where those that run look by their own word, and which sandboxes they have. Files can mislead: other files may have been
//! named on the command line, or two releases make different things of the same ones.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::cri::{self, Cni};
use super::root::Root;
use super::runtimes::{self, Found, Kind, Places, Runtime};

/// Looks the host over, and asks each runtime that listens; `patience` is for one of them.
pub fn find(root: &Root, patience: Duration) -> Found {
    let mut found = runtimes::find(root);
    for runtime in &mut found.runtimes {
        let socket = root.locate(&runtime.socket).ok().filter(|socket| socket.exists());
        let said = socket.and_then(|socket| cri::status(&socket, patience).ok()?.cni);
        if let Some(said) = said {
            *runtime = as_it_says(runtime.clone(), &said, &|one, other| root.same(one, other));
        }
    }
    found
}

/// Where the runtimes of the host are asked that have a socket.
pub fn sockets(root: &Root) -> Vec<(Kind, PathBuf)> {
    let socket = |runtime: Runtime| {
        let socket = root.locate(&runtime.socket).ok().filter(|socket| socket.exists())?;
        Some((runtime.kind, socket))
    };
    runtimes::find(root).runtimes.into_iter().filter_map(socket).collect()
}

/// What each of them says which sandboxes it has; `patience` is for one of them.
pub fn sandboxes(root: &Root, patience: Duration) -> Vec<(Kind, Result<HashSet<String>, cri::Error>)> {
    sockets(root).into_iter().map(|(kind, socket)| (kind, cri::sandboxes(&socket, patience))).collect()
}

/// Of the places that its files can mean the one in which it looks, if that is any of them.
pub fn meant<'a>(
    runtime: &'a Runtime,
    said: &Cni,
    same: &dyn Fn(&Path, &Path) -> bool,
) -> Option<(&'a Path, &'a [PathBuf])> {
    runtime.may_look_in().find(|(conf_dir, bin_dirs)| {
        let is_searched = |dir| said.plugin_dirs.iter().any(|said| same(said, dir));
        same(conf_dir, &said.conf_dir) && bin_dirs.first().is_some_and(|dir| is_searched(dir))
    })
}

/// With the one place that is meant. Else with what it says, and then what its files say: it was started with others, and
/// looks there when it is started again.
fn as_it_says(runtime: Runtime, said: &Cni, same: &dyn Fn(&Path, &Path) -> bool) -> Runtime {
    let dirs = said.plugin_dirs.iter().chain([&said.conf_dir]);
    if said.plugin_dirs.is_empty() || !dirs.into_iter().all(|dir| dir.is_absolute()) {
        return runtime;
    }
    if let Some((conf_dir, bin_dirs)) = meant(&runtime, said, same) {
        let (conf_dir, bin_dirs) = (conf_dir.to_owned(), bin_dirs.to_owned());
        return Runtime { conf_dir, bin_dirs, otherwise: None, ..runtime };
    }
    let said = Places { bin_dirs: said.plugin_dirs.clone(), conf_dir: said.conf_dir.clone() };
    let evidence = format!("{}; it says of itself: {said}", runtime.evidence);
    let files = Places { bin_dirs: runtime.bin_dirs, conf_dir: runtime.conf_dir };
    Runtime { bin_dirs: said.bin_dirs, conf_dir: said.conf_dir, otherwise: Some(files), evidence, ..runtime }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime() -> Runtime {
        Runtime {
            kind: Kind::Containerd,
            config: vec![],
            bin_dirs: vec!["/usr/lib/cni".into()],
            conf_dir: "/etc/cni/net.d".into(),
            otherwise: Some(Places {
                bin_dirs: vec!["/opt/cni/bin".into()],
                conf_dir: "/etc/cni/net.d".into(),
            }),
            max_conf_num: Some(1),
            only_network: None,
            socket: "/run/containerd/containerd.sock".into(),
            evidence: "socket".into(),
        }
    }

    /// Where ours goes when it says this.
    fn places(bin_dirs: &[&str], conf_dir: &str) -> Vec<(String, String)> {
        let plugin_dirs = bin_dirs.iter().map(PathBuf::from).collect();
        let said = Cni { plugin_dirs, conf_dir: conf_dir.into(), ..Cni::default() };
        let runtime = as_it_says(runtime(), &said, &|one, other| one == other);
        let first = |dirs: &[PathBuf]| dirs[0].display().to_string();
        runtime.may_look_in().map(|(conf, bin)| (conf.display().to_string(), first(bin))).collect()
    }

    fn place(conf_dir: &str, bin_dir: &str) -> (String, String) {
        (conf_dir.to_owned(), bin_dir.to_owned())
    }

    #[test]
    fn of_two_meanings_of_its_files_its_word_takes_one() {
        assert_eq!(places(&["/opt/cni/bin"], "/etc/cni/net.d"), [place("/etc/cni/net.d", "/opt/cni/bin")]);
        assert_eq!(places(&["/usr/lib/cni"], "/etc/cni/net.d"), [place("/etc/cni/net.d", "/usr/lib/cni")]);
        // Today's containerd of Debian looks in its own directory and in everybody's.
        let both = ["/srv/cni", "/opt/cni/bin"];
        assert_eq!(places(&both, "/etc/cni/net.d"), [place("/etc/cni/net.d", "/opt/cni/bin")]);
    }

    #[test]
    fn what_its_files_do_not_say_is_served_and_they_are_for_its_next_start() {
        let files = place("/etc/cni/net.d", "/usr/lib/cni");
        assert_eq!(places(&["/srv/bin"], "/srv/net.d"), [place("/srv/net.d", "/srv/bin"), files.clone()]);
        assert_eq!(places(&["/usr/lib/cni"], "/srv/net.d"), [place("/srv/net.d", "/usr/lib/cni"), files]);
    }

    #[test]
    fn what_is_no_place_is_not_believed() {
        let files = [place("/etc/cni/net.d", "/usr/lib/cni"), place("/etc/cni/net.d", "/opt/cni/bin")];
        for (bin_dirs, conf_dir) in [(&[][..], "/srv/net.d"), (&["/srv/bin"], ""), (&["srv"], "/srv/net.d")] {
            assert_eq!(places(bin_dirs, conf_dir), files);
        }
    }
}
