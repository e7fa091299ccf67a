//! Network managers that look after every interface they see: which ones run here, and whether they are told to keep
//! their hands off ours. What each of them reads is in its manual page; the verdicts are pure.
//!
//! A manager that takes a veth of ours asks it for an address by DHCP, takes it out of its bridge, or makes it the node's
//! default route.

use std::io;
use std::path::Path;

use super::dropins::{self, TextFile};
use super::pattern;
use crate::host::root::Root;

/// Stands for every host end: all of them are `veth` and 8 hex digits.
const VETH: &str = "veth0a1b2c3d";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    NetworkManager,
    Dhcpcd,
    Connman,
    Networkd,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::NetworkManager, Self::Dhcpcd, Self::Connman, Self::Networkd];

    /// What exists while it runs.
    fn traces(self) -> &'static [&'static str] {
        match self {
            Self::NetworkManager => &["/run/NetworkManager"],
            Self::Dhcpcd => &["/run/dhcpcd.pid", "/run/dhcpcd/pid"],
            Self::Connman => &["/run/connman"],
            Self::Networkd => &["/run/systemd/netif/state"],
        }
    }
}

/// A manager that runs, and the files that it reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manager {
    pub kind: Kind,
    pub files: Vec<TextFile>,
}

/// Which of our interfaces it takes, and the line that makes it, when one does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grab {
    pub interface: String,
    pub because: String,
}

pub fn load(root: &Root) -> io::Result<Vec<Manager>> {
    let runs = |kind: &Kind| kind.traces().iter().any(|path| root.exists(Path::new(path)));
    Kind::ALL.into_iter().filter(runs).map(|kind| Ok(Manager { kind, files: files(root, kind)? })).collect()
}

fn files(root: &Root, kind: Kind) -> io::Result<Vec<TextFile>> {
    let one = |path: &str| dropins::file(root, Path::new(path));
    Ok(match kind {
        Kind::NetworkManager => {
            let base = ["/etc", "/run", "/usr/lib"];
            let conf = base.map(|base| format!("{base}/NetworkManager/conf.d"));
            let rules = base.map(|base| format!("{base}/udev/rules.d"));
            // What the distribution and this boot say counts first, the main file then, and /etc has the last word.
            let all = dropins::read(root, &conf.each_ref().map(String::as_str), ".conf")?;
            let (etc, other): (Vec<_>, Vec<_>) =
                all.into_iter().partition(|file| file.path.starts_with("/etc/"));
            let main = one("/etc/NetworkManager/NetworkManager.conf")?;
            let udev = dropins::read(root, &rules.each_ref().map(String::as_str), ".rules")?;
            let udev = udev.into_iter().filter(|file| file.text.contains("NM_UNMANAGED"));
            other.into_iter().chain(main).chain(etc).chain(udev).collect()
        }
        Kind::Dhcpcd => one("/etc/dhcpcd.conf")?.into_iter().collect(),
        Kind::Connman => {
            let main = one("/etc/connman/main.conf")?;
            main.into_iter().chain(dropins::read(root, &["/etc/connman/main.conf.d"], ".conf")?).collect()
        }
        Kind::Networkd => {
            let base = ["/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib"];
            let directories = base.map(|base| format!("{base}/systemd/network"));
            dropins::read(root, &directories.each_ref().map(String::as_str), ".network")?
        }
    })
}

impl Manager {
    /// The first of our interfaces that it does not keep its hands off. Bridges are only asked about where taking one
    /// harms it: NetworkManager leaves those that others made as they are.
    pub fn grabs(&self, bridges: &[String]) -> Option<Grab> {
        let veth = (VETH, Device { name: VETH, kind: "veth", class: "ether" });
        let bridges =
            bridges.iter().map(|name| (name.as_str(), Device { name, kind: "bridge", class: "bridge" }));
        let all = || [veth].into_iter().chain(bridges.clone());
        let grab = |shown: &str, because: String| {
            let interface = if shown == VETH { "veth*" } else { shown };
            Grab { interface: interface.to_owned(), because }
        };
        match self.kind {
            Kind::NetworkManager => networkmanager(&self.files, &veth.1).map(|because| grab(VETH, because)),
            Kind::Dhcpcd => all().find_map(|(name, _)| Some(grab(name, dhcpcd(&self.files, name)?))),
            Kind::Connman => connman(&self.files, VETH).map(|because| grab(VETH, because)),
            Kind::Networkd => {
                all().find_map(|(name, device)| Some(grab(name, networkd(&self.files, &device)?)))
            }
        }
    }

    /// The file to write, and the command that makes the manager read it.
    pub fn remedy(&self, bridges: &[String]) -> String {
        let mut names = vec!["veth*"];
        names.extend(bridges.iter().map(String::as_str));
        match self.kind {
            Kind::NetworkManager => {
                let devices: Vec<_> = names.iter().map(|name| format!("interface-name:{name}")).collect();
                format!(
                    "write /etc/NetworkManager/conf.d/90-smarter-cni.conf, then: nmcli general reload\n\
                     [keyfile]\nunmanaged-devices+={}",
                    devices.join(";")
                )
            }
            Kind::Dhcpcd => {
                let line = format!("denyinterfaces {}", names.join(" "));
                format!(
                    "add this line to /etc/dhcpcd.conf, before any \"interface\" line, and restart dhcpcd\n{line}"
                )
            }
            Kind::Connman => format!(
                "write /etc/connman/main.conf, or change the line there, and restart connman\n\
                 [General]\nNetworkInterfaceBlacklist=vmnet,vboxnet,virbr,ifb,ve-,vb-,veth{}",
                bridges.iter().fold(String::new(), |text, bridge| text + "," + bridge)
            ),
            Kind::Networkd => format!(
                "write /etc/systemd/network/00-smarter-cni.network, then: networkctl reload\n\
                 [Match]\nName={}\n\n[Link]\nUnmanaged=yes",
                names.join(" ")
            ),
        }
    }
}

#[derive(Clone, Copy)]
struct Device<'a> {
    name: &'a str,
    /// The driver's and rtnetlink's word.
    kind: &'a str,
    /// networkd's `Type=`.
    class: &'a str,
}

/// NetworkManager.conf(5): `[device…] managed=` before `[keyfile] unmanaged-devices=` before udev's NM_UNMANAGED.
fn networkmanager(files: &[TextFile], device: &Device<'_>) -> Option<String> {
    let mut managed: Option<bool> = None;
    let mut unmanaged = String::new();
    for file in files.iter().filter(|file| !file.is_rule()) {
        let entries = dropins::ini(&file.text);
        for (section, key, value) in &entries {
            match (*section, *key) {
                ("keyfile", "unmanaged-devices") => (*value).clone_into(&mut unmanaged),
                ("keyfile", "unmanaged-devices+") => unmanaged = format!("{unmanaged};{value}"),
                (section, "managed") if section.starts_with("device") => {
                    let about = entries.iter().find(|(s, key, _)| *s == section && *key == "match-device");
                    // The first section that matches decides.
                    if managed.is_none() && about.is_none_or(|(.., specs)| is_listed(specs, device)) {
                        managed = Some(!matches!(*value, "0" | "no" | "false"));
                    }
                }
                _ => {}
            }
        }
    }
    if managed == Some(false) || (managed.is_none() && is_listed(&unmanaged, device)) {
        return None;
    }
    if managed.is_none() && unmanaged_by_udev(files, device) {
        return None;
    }
    Some(
        "no unmanaged-devices= in its configuration names them, and no rule of udev sets NM_UNMANAGED"
            .to_owned(),
    )
}

/// NetworkManager.conf(5), "Device List Format".
fn is_listed(specs: &str, device: &Device<'_>) -> bool {
    let mut listed = false;
    for spec in specs.split([';', ',']).map(str::trim).filter(|spec| !spec.is_empty()) {
        let (except, spec) = match spec.strip_prefix("except:") {
            Some(spec) => (true, spec),
            None => (false, spec),
        };
        let found = match spec.split_once(':') {
            None => spec == "*" || pattern::matches(spec, device.name),
            Some(("interface-name", name)) => match name.strip_prefix('=') {
                Some(name) => name == device.name,
                None => pattern::matches(name.strip_prefix('~').unwrap_or(name), device.name),
            },
            Some(("driver", driver)) => {
                pattern::matches(driver.split('/').next().unwrap_or_default(), device.kind)
            }
            Some(("type", kind)) => kind == device.kind,
            Some(_) => false,
        };
        if found && except {
            return false;
        }
        listed |= found;
    }
    listed
}

/// The last rule about the driver wins. NetworkManager's own package brings one that leaves veths alone.
fn unmanaged_by_udev(files: &[TextFile], device: &Device<'_>) -> bool {
    let mut rules: Vec<_> = files.iter().filter(|file| file.is_rule()).collect();
    rules.sort_by_key(|file| file.path.rsplit('/').next().map(str::to_owned));
    let about = format!("ENV{{ID_NET_DRIVER}}==\"{}\"", device.kind);
    let mut unmanaged = false;
    for line in rules.iter().flat_map(|file| file.text.lines()).map(str::trim) {
        if line.starts_with('#') || !line.contains(&about) || !line.contains("NM_UNMANAGED") {
            continue;
        }
        let name = |operator: &str| {
            let (_, rest) = line.split_once(&format!("ENV{{INTERFACE}}{operator}\""))?;
            Some(
                rest.split('"')
                    .next()
                    .unwrap_or_default()
                    .split('|')
                    .any(|one| pattern::matches(one, device.name)),
            )
        };
        if name("==") == Some(false) || name("!=") == Some(true) {
            continue;
        }
        unmanaged = line.contains("ENV{NM_UNMANAGED}=\"1\"");
    }
    unmanaged
}

/// dhcpcd.conf(5): what is denied stays denied; with a list of allowed ones, all others are.
fn dhcpcd(files: &[TextFile], name: &str) -> Option<String> {
    let mut allowed: Option<bool> = None;
    for line in files.iter().flat_map(|file| file.text.lines()).map(str::trim) {
        let mut words = line.split([' ', '\t', ',']).filter(|word| !word.is_empty());
        let option = words.next();
        let named = words.any(|word| pattern::matches(word, name));
        match option {
            Some("denyinterfaces") if named => return None,
            Some("allowinterfaces") => allowed = Some(allowed.unwrap_or(false) || named),
            _ => {}
        }
    }
    match allowed {
        Some(false) => None,
        Some(true) => Some("allowinterfaces in /etc/dhcpcd.conf names it".to_owned()),
        None => Some("/etc/dhcpcd.conf has no denyinterfaces that names it".to_owned()),
    }
}

/// connman.conf(5): beginnings of names.
fn connman(files: &[TextFile], name: &str) -> Option<String> {
    let keys = ["NetworkInterfaceBlacklist", "NetworkInterfaceDenylist"];
    let mut entries = files.iter().flat_map(|file| dropins::ini(&file.text));
    let list = entries.rfind(|(section, key, _)| *section == "General" && keys.contains(key));
    let begins =
        |list: &str| list.split([',', ';']).map(str::trim).any(|b| !b.is_empty() && name.starts_with(b));
    match list {
        Some((_, key, list)) if !begins(list) => {
            Some(format!("{key}={list} has no beginning of their names"))
        }
        Some(_) => None,
        None => {
            Some("no NetworkInterfaceBlacklist is set, and the built-in one does not name them".to_owned())
        }
    }
}

/// systemd.network(5): the first file that matches decides.
fn networkd(files: &[TextFile], device: &Device<'_>) -> Option<String> {
    for file in files {
        let entries = dropins::ini(&file.text);
        if !is_matched(&entries, device) {
            continue;
        }
        let unmanaged =
            entries.iter().rev().find(|(section, key, _)| (*section, *key) == ("Link", "Unmanaged"));
        return match unmanaged {
            Some((.., value)) if matches!(*value, "yes" | "true" | "1" | "on") => None,
            _ => Some(format!("{} matches it", file.path)),
        };
    }
    None
}

/// All conditions of `[Match]` must hold. One that we cannot judge, such as a MAC or a bus path, holds for hardware only.
fn is_matched(entries: &[(&str, &str, &str)], device: &Device<'_>) -> bool {
    let mut conditions = entries.iter().filter(|(section, ..)| *section == "Match").peekable();
    if conditions.peek().is_none() {
        return false;
    }
    conditions.all(|(_, key, value)| {
        let subject = match *key {
            "Name" => device.name,
            "Kind" | "Driver" => device.kind,
            "Type" => device.class,
            // About the machine, not about the interface: taken to hold, except for what is for containers only.
            "Host" | "Virtualization" | "KernelCommandLine" | "KernelVersion" | "Architecture"
            | "Firmware" => {
                return *value != "container";
            }
            _ => return false,
        };
        let (negated, patterns) = match value.strip_prefix('!') {
            Some(patterns) => (true, patterns),
            None => (false, *value),
        };
        patterns.split_whitespace().any(|one| pattern::matches(one, subject)) != negated
    })
}

#[cfg(test)]
#[path = "managers_tests.rs"]
mod tests;
