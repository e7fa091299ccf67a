//! The pods' names beside the pods, and whether anybody serves them.

use std::ffi::OsString;
use std::path::Path;

use super::view::{Served, Server, View};
use crate::dns::{self, Names, Running};

/// Fills in what the name server of this node says, or would say if it ran. Whether it does is told where that is `wanted`.
pub(super) fn add(view: &mut View, environment: &[(OsString, OsString)], wanted: bool) {
    let (server, about) = match dns::running(Path::new(dns::SOCKET)) {
        Running::Serves(about) => (Server::Serving, Some(about)),
        Running::Nobody => (Server::None, None),
        Running::Unknown(why) => {
            view.unread.extend(wanted.then(|| format!("whether a name server runs: {why}")));
            (Server::Unknown, None)
        }
    };
    let word = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    let domain = about.as_ref().and_then(|about| word(&about["domain"]));
    let at = about.as_ref().and_then(|about| about["addresses"].as_array());
    let addresses = at.into_iter().flatten().filter_map(word).collect();
    view.dns = about;
    match dns::names(domain.as_deref(), environment) {
        Ok(names) => {
            give(view, &names);
            view.names = wanted.then_some(Served { domain: names.domain, server, addresses });
        }
        Err(why) => view.unread.push(format!("names: {why}")),
    }
}

/// An address is what the server knows a pod by, so whoever is recorded with it has its names.
fn give(view: &mut View, names: &Names) {
    for attachment in view.networks.iter_mut().flat_map(|network| &mut network.attachments) {
        if !attachment.state.is_recorded() {
            continue;
        }
        let mut own: Vec<String> = Vec::new();
        let addresses = attachment.addresses.iter().filter_map(|address| address.parse().ok());
        for name in addresses.filter_map(|address| names.by_address.get(&address)).flatten() {
            if !own.contains(name) {
                own.push(name.clone());
            }
        }
        attachment.names = Some(own);
    }
}

#[cfg(test)]
mod tests {
    use super::super::view::{Attachment, Network, State};
    use super::*;

    fn attachment(addresses: &[&str], state: State) -> Attachment {
        Attachment {
            pod: Some("shop/web".to_owned()),
            container: None,
            interface: None,
            addresses: addresses.iter().map(|address| (*address).to_owned()).collect(),
            mac: None,
            host_interface: None,
            host_ports: Vec::new(),
            since_seconds: None,
            names: None,
            state,
        }
    }

    #[test]
    fn names_go_to_whoever_is_recorded_with_the_address() {
        let both = vec!["web.shop.svc.cluster.local".to_owned(), "web".to_owned()];
        let six = vec!["web".to_owned(), "six".to_owned()];
        let names = Names {
            domain: "cluster.local".to_owned(),
            by_address: [("10.8.0.2".parse().unwrap(), both), ("fd08::2".parse().unwrap(), six)].into(),
        };
        let attachments = vec![
            attachment(&["10.8.0.2", "fd08::2"], State::Attached),
            attachment(&["10.8.0.3"], State::Dead),
            attachment(&["10.8.0.2"], State::NotOurs),
        ];
        let mut view =
            View { networks: vec![Network { attachments, ..Network::default() }], ..View::default() };
        give(&mut view, &names);
        let given: Vec<_> = view.networks[0].attachments.iter().map(|row| row.names.clone()).collect();
        let words = ["web.shop.svc.cluster.local", "web", "six"].map(str::to_owned).to_vec();
        assert_eq!(given, [Some(words), Some(Vec::new()), None]);
    }
}
