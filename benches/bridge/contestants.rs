//! Who takes part, and where their programs come from.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::ValueEnum;

use crate::Result;
use crate::contestant::{Contestant, Kind};
use crate::peers::{self, Newest};
use crate::stage::Stage;

/// What Debian's newest Go plugins with iptables are called.
pub(crate) const NEWEST: &str = "newest";
/// Where Debian installs its Go plugins.
pub(crate) const STABLE: &str = "/usr/lib/cni";

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    /// The Go plugins of Debian's sid (x86_64 only), with iptables
    Newest,
    /// The same with nftables
    NewestNft,
    /// The Go plugins of this machine, with iptables
    Stable,
    /// netavark of Debian's sid (x86_64 only), with nftables
    Netavark,
}

/// Ours, those of `against`, and the floor, below `directory`. `stable` is where this machine has Go plugins.
pub(crate) fn gather(
    ours: PathBuf,
    floor: PathBuf,
    against: &[Peer],
    stable: &Path,
    directory: &Path,
) -> Result<Vec<Contestant>> {
    let stage = |name| Stage::new(directory.join(name));
    let ours = stage("ours").with_our_plugins(ours);
    let mut all = vec![contestant("ours", "ours", Kind::Ours, ours)];
    let asked_for = |peers: &[Peer]| against.iter().any(|peer| peers.contains(peer));
    if asked_for(&[Peer::Newest, Peer::NewestNft, Peer::Netavark]) {
        let newest = Newest::fetch()?;
        let go = format!("Go {}", newest.version("containernetworking-plugins")?);
        let plugins = newest.file("usr/lib/cni");
        if asked_for(&[Peer::Newest]) {
            let stage = stage(NEWEST).with_go_plugins(&plugins)?.with_iptables()?;
            all.push(contestant(&go, NEWEST, Kind::GoIptables, stage));
        }
        if asked_for(&[Peer::NewestNft]) {
            let stage = with_nft(stage("newest-nft").with_go_plugins(&plugins)?)?;
            all.push(contestant(&format!("{go}, nftables"), "newest-nft", Kind::GoNftables, stage));
        }
        if asked_for(&[Peer::Netavark]) {
            let title = format!("netavark {}", newest.version("netavark")?);
            let stage = stage("netavark").with_file("netavark", newest.file("usr/lib/podman/netavark"));
            all.push(contestant(&title, "netavark", Kind::Netavark, with_nft(stage)?));
        }
    }
    if asked_for(&[Peer::Stable]) {
        let stage = stage("stable").with_go_plugins(stable)?.with_iptables()?;
        all.push(contestant(&stable_title(stable), "stable", Kind::GoIptables, stage));
    }
    all.push(contestant("floor", "floor", Kind::Floor, stage("floor").with_file("floor", floor)));
    Ok(all)
}

fn contestant(title: &str, name: &str, kind: Kind, stage: Stage) -> Contestant {
    Contestant { title: title.to_owned(), name: name.to_owned(), kind, stage }
}

/// Only of Debian's is it known which they are.
fn stable_title(stable: &Path) -> String {
    match installed_version("containernetworking-plugins").filter(|_| stable == Path::new(STABLE)) {
        Some(version) => format!("Go {version}"),
        None => format!("Go in {}", stable.display()),
    }
}

fn with_nft(stage: Stage) -> Result<Stage> {
    Ok(stage.with_file("nft", peers::find("nft")?))
}

/// Of a package of this machine.
fn installed_version(package: &str) -> Option<String> {
    let query =
        Command::new("dpkg-query").args(["--show", "--showformat", "${Version}", package]).output().ok()?;
    query.status.success().then(|| peers::upstream(&String::from_utf8_lossy(&query.stdout)))
}
