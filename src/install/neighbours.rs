//! The other networks of a directory: behind which of them ours belongs, and what they have of ours already. Pure.
//!
//! The kernel knows only networks with pods. Two that give away the same addresses from their files would meet on the day
//! on which both have one.

use ipnetwork::IpNetwork;

use super::have::{ConfDir, ConfFile, Content};
use crate::conflist::{FILE_NAMES, Network};
use crate::net::overlap;

/// The name under which ours is the one that pods get. A meta-plugin in front stays in front: it hands pods on to the next
/// file, and ahead of it ours would switch it off without a word.
pub(super) fn file_name(dir: &ConfDir) -> &'static str {
    let others = dir.files.iter().filter(|file| !FILE_NAMES.contains(&file.name.as_str()));
    let first = others.min_by(|one, other| one.name.cmp(&other.name));
    let meta = first.filter(|file| file.hands_on()).map_or("", |file| file.name.as_str());
    FILE_NAMES.into_iter().find(|name| *name > meta).unwrap_or(FILE_NAMES[0])
}

/// What a network of somebody else has in common with ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Clash {
    pub(super) what: Common,
    /// What it is, and what to do about it.
    pub(super) words: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Common {
    Name,
    Bridge,
    Range(IpNetwork),
}

/// Every one of a file. Those that a meta-plugin hands on to are files of their own, or copies of ours.
pub(super) fn clashes(dir: &ConfDir, file: &ConfFile, network: &Network) -> Vec<Clash> {
    let Content::List { network: name, subnets, bridges, .. } = &file.content else { return Vec::new() };
    if file.hands_on() || FILE_NAMES.contains(&file.name.as_str()) {
        return Vec::new();
    }
    let mut common = Vec::new();
    if *name == network.name.as_str() {
        common.push((Common::Name, format!("has the name {name}, too, and its leases with it"), "--network"));
    }
    if bridges.iter().any(|bridge| bridge == network.bridge.as_str()) {
        common.push((Common::Bridge, format!("has the bridge {}, too", network.bridge), "--bridge"));
    }
    for range in network.ranges.iter().map(crate::conflist::Range::subnet) {
        if let Some(subnet) = subnets.iter().find(|subnet| overlap(**subnet, range)) {
            let words = format!("gives away addresses of {subnet}, which overlaps with {range}");
            common.push((Common::Range(range), words, "--subnet"));
        }
    }
    let clash = |(what, words, flag): (Common, String, &str)| Clash {
        what,
        words: format!(
            "{}/{file} {words}: remove it if nobody uses it, or choose another one with {flag}",
            dir.path.display()
        ),
    };
    common.into_iter().map(clash).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::install::observe::content;

    fn dir(files: &[(&str, &str)]) -> ConfDir {
        let files = files.iter().map(|(name, text)| ConfFile {
            name: (*name).to_owned(),
            bytes: text.as_bytes().to_vec(),
            content: content(text.as_bytes()),
        });
        ConfDir { path: "/etc/cni/net.d".into(), files: files.collect(), ..ConfDir::default() }
    }

    const MULTUS: &str = r#"{"name":"multus-cni-network","type":"multus","delegates":[]}"#;
    const FLANNEL: &str = r#"{"name":"cbr0","plugins":[{"type":"flannel","delegate":{}}]}"#;

    #[test]
    fn ours_is_the_first_but_for_those_that_hand_on() {
        assert_eq!(file_name(&dir(&[])), "0-smarter-bridge.conflist");
        assert_eq!(file_name(&dir(&[("00-multus.conf", MULTUS)])), "01-smarter-bridge.conflist");
        assert_eq!(file_name(&dir(&[("0-multus.conf", MULTUS)])), "0-smarter-bridge.conflist");
        assert_eq!(file_name(&dir(&[("10-multus.conf", MULTUS)])), "10-smarter-bridge.conflist");
        assert_eq!(file_name(&dir(&[("70-multus.conf", MULTUS)])), "99-smarter-bridge.conflist");
        let thick = r#"{"name":"multus-cni-network","type":"multus-shim","clusterNetwork":"/x"}"#;
        assert_eq!(file_name(&dir(&[("00-multus.conf", thick)])), "01-smarter-bridge.conflist");
        // Somebody in front of it is the one that pods get, and refused.
        let both = [("00-a.conflist", FLANNEL), ("00-multus.conf", MULTUS)];
        assert_eq!(file_name(&dir(&both)), "0-smarter-bridge.conflist");
        let later = [("00-multus.conf", MULTUS), ("0-smarter-bridge.conflist", "{}")];
        assert_eq!(file_name(&dir(&later)), "01-smarter-bridge.conflist", "it was switched off");
    }

    fn found(text: &str) -> Vec<Clash> {
        let dir = dir(&[("87-other.conflist", text)]);
        clashes(&dir, &dir.files[0], &Network::default())
    }

    #[test]
    fn what_another_network_has_of_ours_is_named() {
        let nothing = r#"{"name":"podman","plugins":[{"type":"bridge","bridge":"cni-podman0","ipam":{"type":"host-local",
            "ranges":[[{"subnet":"10.88.0.0/16"}]]}}]}"#;
        assert_eq!(found(nothing), []);
        assert_eq!(found(FLANNEL), []);
        let all = r#"{"name":"smartnet","plugins":[{"type":"bridge","bridge":"smartnet0","ipam":{"type":"host-local",
            "ranges":[[{"subnet":"10.1.0.0/16"},{"subnet":"172.38.4.0/24"}]]}}]}"#;
        let all = found(all);
        let range = Network::default().ranges.first().subnet();
        let what: Vec<_> = all.iter().map(|clash| clash.what).collect();
        assert_eq!(what, [Common::Name, Common::Bridge, Common::Range(range)]);
        assert_eq!(
            all[2].words,
            "/etc/cni/net.d/87-other.conflist (network smartnet) gives away addresses of 172.38.4.0/24, which overlaps \
             with 172.38.0.0/16: remove it if nobody uses it, or choose another one with --subnet"
        );
        let second =
            r#"{"name":"n","plugins":[{"type":"x"},{"type":"macvlan","ipam":{"subnet":"172.38.0.0/16"}}]}"#;
        assert_eq!(found(second).len(), 1);
    }
}
