//! What of a node goes into a bundle: of documents that others wrote, fields that are known to hold no secret; of text,
//! whatever is not, and is not announced as, a secret.
//!
//! A bundle is mailed around, and a word too many that was removed costs a question, a token that was not costs a cluster.
//! What nobody can recognise (a password that is a word, in a sentence that does not say so) stays; the bundle says so when it
//! is written.
//!
//! Pure.

mod forms;
mod names;
mod text;

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde_json::Value;

use self::names::is_secret;
pub(super) use self::text::scrub_text;
use crate::net::Mac;

const REMOVED: &str = "(removed)";

/// Keys of network configurations of ours and of widespread plugins, of records and of lines of the log, in lower case and
/// without `-` and `_`. What stands below any other key is a value of which nobody knows what it is.
const KNOWN: &str = "
    accept address addresses advmss allmulti allowed allowipforwarding assignipv4 assignipv6 attachment automatic
    backend bandwidth bindir bootid bridge bridgeisforeign bridgemac capabilities chains changes clampmss clusternetwork
    cnidir cnitool cniversion cniversions code complete conditionsv4 conditionsv6 confdir conflists container
    containerid containerinterfacedisabled containerport containersettings createdboottime datadir datastoretype
    defaultnetwork defaultnetworks delegate delegates denied denyhostportinterfaces details detectduplicates dev device
    devid digest disablecheck disablecontainerinterface disablegc dns domain drain dst egressburst egressrate enabledad
    enabledebug externalsetmarkchain featurecontrol file files firewall flags floatingips force forceaddress forwarding
    from gateway gateways guard gw hairpin hairpinmode hostif hostip hostmac hostport hostportinterfaces hostports
    hostportsnat hostportstrict id ifname infinibandguid ingressburst ingressrate ingressrateburst ino inode installed
    interface interfaces ipaddrsnoipam ipam ipmasq ipmasqbackend ips ipv4pools ipv6pools ipvlan isdefault
    isdefaultgateway isgateway isolated keepdefault kept keptas leases leasesareforeign level limits link
    linkincontainer loadonlyinlinedplugins logfile logfilepath loglevel logtostderr mac macspoofcheck macspoofchk
    mappings markmasqbit masqall masquerade master matches maxid metric minid mode ms msg mtu name nameservers namespace
    namespaceisolation native negated netns netnsid network nodename nodenamefileoptional onlink options original owner
    path paths pid plugin plugins pod podcidr podlink podmac podname pods policy pools port portisolation portmappings
    portrules preservedefaultvlan prevresult priority program promisc promiscmode promiscuous promised protocol rangeend
    ranges rangestart readinessindicatorfile record removed resolvconf result routes rundirs sandbox scope search
    settings sha256 size snat spoofcheck src steps stricthostports subnet switches sysctl table tagged takeover time to
    trace trunk txqlen type uid up uptime usepodcidr v4 v6 valuebefore verb version via vlan vlanfiltering vlans
    vlantrunk want warnings was
";

/// A document of ours, every field of which was chosen.
pub(super) fn scrub_ours(value: &mut Value) {
    match value {
        Value::String(text) => *text = scrub_text(text),
        Value::Array(values) => values.iter_mut().for_each(scrub_ours),
        Value::Object(object) => {
            for (key, mut value) in std::mem::take(object) {
                scrub_ours(&mut value);
                object.insert(scrub_text(&key), value);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A document from a file, whoever wrote it.
pub(super) fn scrub(value: &mut Value) {
    scrub_below(value, true);
}

fn scrub_below(value: &mut Value, known: bool) {
    match value {
        Value::String(text) if known => *text = scrub_text(text),
        Value::String(text) if !is_address(text) => *value = Value::from(REMOVED),
        Value::Number(_) if !known => *value = Value::from(REMOVED),
        Value::Array(values) => {
            hide_arguments(values);
            for value in values {
                scrub_below(value, known);
            }
        }
        Value::Object(object) => {
            let of_switch = is_switch(object);
            for (key, mut value) in std::mem::take(object) {
                if is_known(&key) || (of_switch && ["key", "old", "new"].contains(&key.as_str())) {
                    scrub_below(&mut value, true);
                } else if is_secret(&key) && !matches!(value, Value::Null | Value::Bool(_)) {
                    value = Value::from(REMOVED);
                } else {
                    scrub_below(&mut value, false);
                }
                object.insert(scrub_text(&key), value);
            }
        }
        Value::Null | Value::Bool(_) | Value::String(_) | Value::Number(_) => {}
    }
}

/// `{"key": "net/ipv4/ip_forward", "old": "0", "new": "1"}`, as we remember what we switched.
fn is_switch(object: &serde_json::Map<String, Value>) -> bool {
    object.get("key").and_then(Value::as_str).is_some_and(|key| key.starts_with("net/"))
}

/// `["--token", "…"]`
fn hide_arguments(values: &mut [Value]) {
    let is_option = |value: &Value| {
        value.as_str().is_some_and(|text| {
            text.starts_with('-') && !text.contains(['=', ':', ' ']) && (is_secret(text) || text == "-p")
        })
    };
    for at in 1..values.len() {
        if is_option(&values[at - 1]) && values[at].is_string() {
            values[at] = Value::from(REMOVED);
        }
    }
}

/// Keys match in any case, as they do for plugins. The names of switches and interfaces are keys, too.
fn is_known(key: &str) -> bool {
    let plain: String =
        key.chars().filter(|c| !matches!(c, '-' | '_')).map(|c| c.to_ascii_lowercase()).collect();
    KNOWN.split_whitespace().any(|known| known == plain) || key.starts_with("net/") || key.starts_with("net.")
}

/// Says where something is, and nothing else.
fn is_address(text: &str) -> bool {
    text.is_empty()
        || text.parse::<IpAddr>().is_ok()
        || text.parse::<IpNetwork>().is_ok()
        || text.parse::<Mac>().is_ok()
}

#[cfg(test)]
#[path = "secrets_tests.rs"]
mod tests;
