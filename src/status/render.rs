//! The view as a table of 80 columns, and as JSON. Pure.

use std::fmt::Write as _;
use std::net::IpAddr;

use serde::Serialize;

use super::view::{Attachment, HostPort, Network, Pool, Served, Server, View};
use crate::text::{WIDTH, wrapped};

/// Of the table of names: what stands there is longer.
const NAMED: usize = 46;
/// Together, with a blank between them, as wide as the table.
const POD: usize = 26;
const ADDRESS: usize = 15;
const MAC: usize = 17;
const HOST: usize = 12;

/// For a person. `filter` is the network that was asked for.
pub(super) fn text(view: &View, filter: Option<&str>) -> String {
    let mut text = String::new();
    for network in &view.networks {
        write_network(&mut text, network);
        text.push('\n');
    }
    if view.networks.is_empty() {
        let what = match filter {
            Some(network) => format!("network {network} has no pods and no leases here"),
            None => "no pods are attached, and no addresses are leased".to_owned(),
        };
        let _ = writeln!(text, "{what}");
    } else {
        let pods: usize = view.networks.iter().map(|network| network.attachments.len()).sum();
        let (pods, networks) = (counted(pods, "attachment"), counted(view.networks.len(), "network"));
        let _ = writeln!(text, "{pods}, {networks}");
    }
    for unread in &view.unread {
        write_folded(&mut text, "not read: ", unread, 10);
    }
    text
}

/// The same pods with their names, for a person.
pub(super) fn names(view: &View, filter: Option<&str>) -> String {
    let mut text = String::new();
    let attachments = view.networks.iter().flat_map(|network| &network.attachments);
    let rows: Vec<_> =
        attachments.filter_map(|attachment| Some((attachment, attachment.names.as_ref()?))).collect();
    if !rows.is_empty() {
        let _ = writeln!(text, "{:NAMED$} ADDRESS", "POD");
    }
    for (attachment, names) in &rows {
        write_names(&mut text, attachment, names);
    }
    if !rows.is_empty() {
        text.push('\n');
    }
    let whose = filter.map_or_else(String::new, |network| format!(" of network {network}"));
    match &view.names {
        Some(served) => write_folded(&mut text, "", &served_words(rows.len(), &whose, served), 2),
        None => write_folded(&mut text, "", "names are not known", 2),
    }
    for unread in &view.unread {
        write_folded(&mut text, "not read: ", unread, 10);
    }
    text
}

fn write_names(text: &mut String, attachment: &Attachment, names: &[String]) {
    let mut pod = pod_words(attachment);
    if pod.chars().count() > NAMED {
        let _ = writeln!(text, "{pod}");
        pod.clear();
    }
    let addresses = attachment.addresses.join(" ");
    let before = format!("{pod:NAMED$} ");
    write_folded(text, &before, &addresses, NAMED + 1);
    let words = if names.is_empty() { "has no name".to_owned() } else { names.join(" ") };
    write_folded(text, "  ", &words, 2);
}

fn served_words(pods: usize, whose: &str, about: &Served) -> String {
    let Served { domain, server, addresses } = about;
    let pods = counted(pods, "pod");
    let answers = match server {
        Server::Serving if addresses.is_empty() => "a name server runs and serves no address".to_owned(),
        Server::Serving => format!("the name server answers at {}", addresses.join(" ")),
        Server::None => {
            "no name server runs: these are the names that smarter-cni dns would serve".to_owned()
        }
        Server::Unknown => "whether a name server runs is not known".to_owned(),
    };
    format!("{pods}{whose}, domain {domain}; {answers}")
}

fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn write_network(text: &mut String, network: &Network) {
    let mut about = format!("network {}", network.name);
    if let Some(bridge) = &network.bridge {
        let _ = write!(about, ", bridge {bridge}");
    }
    if !network.gateways.is_empty() {
        let _ = write!(about, ", gateway {}", network.gateways.join(" "));
    }
    write_folded(text, "", &about, 2);
    if let Some(file) = &network.drained_by {
        let words = format!(
            "takes no new pods: {file} has the key `drain`; smarter-cni install lets them come, smarter-cni uninstall \
             --wait goes on"
        );
        write_folded(text, "", &words, 2);
    }
    for pool in &network.pools {
        write_folded(text, "pool ", &pool_words(pool), 5);
    }
    if network.attachments.is_empty() {
        text.push_str("no pods\n");
        return;
    }
    let _ = writeln!(text, "{:POD$} {:ADDRESS$} {:MAC$} {:HOST$} SINCE", "POD", "ADDRESS", "MAC", "HOST IF");
    for attachment in &network.attachments {
        write_attachment(text, attachment);
    }
}

fn pool_words(pool: &Pool) -> String {
    let Pool { ranges, size, used, free, reclaimable } = pool;
    format!(
        "{} ({}): {used} used, {} free, {reclaimable} reclaimable",
        ranges.replace(',', ", "),
        large(*size),
        large(*free)
    )
}

/// Nobody counts the addresses of an IPv6 subnet.
fn large(number: u64) -> String {
    if number < 1_000_000_000_000 { number.to_string() } else { format!("over 10^{}", number.ilog10()) }
}

fn write_attachment(text: &mut String, attachment: &Attachment) {
    let Attachment { addresses, mac, host_interface, host_ports, since_seconds, state, .. } = attachment;
    let mut name = pod_words(attachment);
    if name.chars().count() > POD {
        let _ = writeln!(text, "{name}");
        name.clear();
    }
    // What is too long for its column comes on a line of its own.
    let first = addresses.first().filter(|address| address.len() <= ADDRESS);
    let unknown = || "-".to_owned();
    let row = format!(
        "{name:POD$} {:ADDRESS$} {:MAC$} {:HOST$} {}",
        first.cloned().unwrap_or_default(),
        mac.clone().unwrap_or_else(unknown),
        host_interface.clone().unwrap_or_else(unknown),
        since_seconds.map_or_else(unknown, age)
    );
    let _ = writeln!(text, "{}", row.trim_end());
    for address in addresses.iter().skip(usize::from(first.is_some())) {
        let _ = writeln!(text, "{:POD$} {address}", "");
    }
    if !host_ports.is_empty() {
        let ports: Vec<_> = host_ports.iter().map(port_words).collect();
        write_folded(text, &format!("{:POD$} ", ""), &ports.join(" "), POD + 1);
    }
    if let Some(remark) = state.remark() {
        write_folded(text, &format!("{:POD$} ", ""), remark, POD + 1);
    }
}

/// `default/web-0`, or the beginning of the container's ID; with the interface where it is not the usual one.
fn pod_words(attachment: &Attachment) -> String {
    let container = attachment.container.as_deref().map(|id| id.get(..12).unwrap_or(id));
    let name = attachment.pod.as_deref().or(container).unwrap_or("?");
    match attachment.interface.as_deref() {
        None | Some("eth0") => name.to_owned(),
        Some(interface) => format!("{name} {interface}"),
    }
}

/// `8080->80/tcp`, `192.0.2.1:53->5353/udp`.
fn port_words(port: &HostPort) -> String {
    let at = match port.host_ip {
        Some(IpAddr::V4(ip)) => format!("{ip}:"),
        Some(IpAddr::V6(ip)) => format!("[{ip}]:"),
        None => String::new(),
    };
    format!("{at}{}->{}/{}", port.host_port, port.container_port, port.protocol)
}

/// The two largest units: `42s`, `5m10s`, `3h12m`, `9d4h`.
fn age(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m{}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h{}m", minutes % 60),
        (days, hours, _) if days < 100 => format!("{days}d{}h", hours % 24),
        (days, ..) => format!("{days}d"),
    }
}

/// Words on as many lines as they need; the second and later ones are indented.
fn write_folded(text: &mut String, before: &str, words: &str, indent: usize) {
    let _ = writeln!(text, "{before}{}", wrapped(words, WIDTH, before.chars().count(), indent));
}

/// One object on one line; the schema is in docs/status.md.
pub(super) fn json(view: &View) -> String {
    #[derive(Serialize)]
    struct Document<'a> {
        version: u32,
        #[serde(flatten)]
        view: &'a View,
    }
    let document = serde_json::to_string(&Document { version: 1, view });
    format!("{}\n", document.expect("strings and numbers have a JSON form"))
}

#[cfg(test)]
mod tests;
