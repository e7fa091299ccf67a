//! Who takes part, and where their programs come from.

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::Result;
use crate::build;
use crate::contestant::{Contestant, Kind};
use crate::peers::{self, Newest};
use crate::stage::Stage;

/// What the four roles are called on disk.
const PLUGINS: [&str; 4] = ["bridge", "host-local", "portmap", "loopback"];

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
    against: &[Peer],
    stable: &Path,
    directory: &Path,
) -> Result<Vec<Contestant>> {
    let stage = |name| Stage::new(directory.join(name));
    let ours = stage("ours").with_file("smarter-cni", ours).with_links("smarter-cni", &PLUGINS);
    let mut all = vec![contestant("ours", "ours", Kind::Ours, ours)];
    let asked_for = |peers: &[Peer]| against.iter().any(|peer| peers.contains(peer));
    if asked_for(&[Peer::Newest, Peer::NewestNft, Peer::Netavark]) {
        let newest = Newest::fetch()?;
        let go = format!("Go {}", newest.version("containernetworking-plugins")?);
        let plugins = newest.file("usr/lib/cni");
        if asked_for(&[Peer::Newest]) {
            let stage = with_iptables(with_plugins(stage("newest"), &plugins)?)?;
            all.push(contestant(&go, "newest", Kind::GoIptables, stage));
        }
        if asked_for(&[Peer::NewestNft]) {
            let stage = with_nft(with_plugins(stage("newest-nft"), &plugins)?)?;
            all.push(contestant(&format!("{go}, nftables"), "newest-nft", Kind::GoNftables, stage));
        }
        if asked_for(&[Peer::Netavark]) {
            let title = format!("netavark {}", newest.version("netavark")?);
            let stage = stage("netavark").with_file("netavark", newest.file("usr/lib/podman/netavark"));
            all.push(contestant(&title, "netavark", Kind::Netavark, with_nft(stage)?));
        }
    }
    if asked_for(&[Peer::Stable]) {
        let stage = with_iptables(with_plugins(stage("stable"), stable)?)?;
        all.push(contestant(&stable_title(stable), "stable", Kind::GoIptables, stage));
    }
    let floor = stage("floor").with_file("floor", build::example("floor")?);
    all.push(contestant("floor", "floor", Kind::Floor, floor));
    Ok(all)
}

fn contestant(title: &str, name: &str, kind: Kind, stage: Stage) -> Contestant {
    Contestant { title: title.to_owned(), name: name.to_owned(), kind, stage }
}

/// Only of Debian's is it known which they are.
fn stable_title(stable: &Path) -> String {
    let version = peers::installed_version("containernetworking-plugins");
    match version.filter(|_| stable == Path::new(peers::STABLE)) {
        Some(version) => format!("Go {version}"),
        None => format!("Go in {}", stable.display()),
    }
}

fn with_plugins(stage: Stage, from: &Path) -> Result<Stage> {
    PLUGINS.iter().try_fold(stage, |stage, name| {
        let file = from.join(name);
        let file = file.canonicalize().map_err(|error| {
            format!("{}: {error}; as root: apt-get install containernetworking-plugins", file.display())
        })?;
        Ok(stage.with_file(name, file))
    })
}

/// One program that asks for its name.
fn with_iptables(stage: Stage) -> Result<Stage> {
    Ok(stage.with_file("iptables", peers::find("iptables")?).with_links("iptables", &["ip6tables"]))
}

fn with_nft(stage: Stage) -> Result<Stage> {
    Ok(stage.with_file("nft", peers::find("nft")?))
}
