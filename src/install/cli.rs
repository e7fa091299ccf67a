//! What a person, an environment or a ConfigMap can say to `install` and `uninstall`, as words.
//!
//! A flag counts more than a variable of the environment, a variable under its new name more than one under the name that
//! Arm's smarter-cni used. Refuses to understand the words: that is `settings`'.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::Parser;
use serde::{Deserialize, Serialize};

use super::host_dns::DOMAIN;

#[derive(Debug, Parser)]
#[command(
    name = "smarter-cni install",
    about = "Put the plugins and the network's configuration on this node",
    after_help = "Each setting can also be given in the environment, in upper or lower case, which is how the keys of a \
                  ConfigMap arrive: SUBNET (or CIDR), GATEWAY (or GW), MTU, HAIRPIN, MASQUERADE, FORWARD_OTHERS, DNS, DNS_INTERCEPT, HOST_DNS, HOST_PORTS, \
                  HOST_PORT_SNAT, HOST_PORT_STRICT, HOST_PORT_INTERFACES, DENY_HOST_PORT_INTERFACES, NETWORK, BRIDGE, \
                  BIN_DIR (or DEST_DIR), CONF_DIR, HOST_ROOT, TAKE_OVER, LOG_LEVEL. A flag counts more. Without any \
                  setting those of the last installation count again.\n\n\
                  Exit code 0: installed, or nothing to do; 1: refused or failed, the reason is printed; 2: a word that \
                  makes no sense; 3: everything is in place, and the container runtime answers that it has not loaded the \
                  network, the reason is printed."
)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(super) struct Install {
    /// Range of the pods, which must be the cluster's cluster-cidr. One IPv4 network, one IPv6 network, or one of each
    /// with a comma; `auto` picks a free IPv4 one [default: 172.38.0.0/16]
    #[arg(long, value_name = "CIDR|auto")]
    pub(super) subnet: Option<String>,
    /// Address of the bridge, one for each range [default: the first of the range]
    #[arg(long, value_name = "IP")]
    pub(super) gateway: Option<String>,
    /// Bytes, or `auto`: that of the default route's uplink [default: what the kernel gives a bridge]
    #[arg(long, value_name = "BYTES|auto")]
    pub(super) mtu: Option<String>,
    /// A pod reaches itself through its host port [default: true]
    #[arg(long, value_name = "true|false")]
    pub(super) hairpin: Option<String>,
    /// Packets that leave the range get the uplink's address [default: true]
    #[arg(long, value_name = "true|false")]
    pub(super) masquerade: Option<String>,
    /// Where forwarding is on because of pods, uplinks reach each other through the node too [default: false]
    #[arg(long, value_name = "true|false")]
    pub(super) forward_others: Option<String>,
    /// Where pods ask the node's name server, beside the gateway, such as 169.254.0.2, or off [default: off]
    #[arg(long, value_name = "IP|off")]
    pub(super) dns: Option<String>,
    /// What pods ask of other name servers is asked of the node's [default: false]
    #[arg(long, value_name = "true|false")]
    pub(super) dns_intercept: Option<String>,
    /// Programs of the node find pods, too: tells its own resolver to ask there for names of this domain, by a file of
    /// ours that `uninstall` takes back. `off`, or cluster.local where no domain is named [default: off]
    #[arg(long, value_name = "DOMAIN|off", num_args = 0..=1, default_missing_value = DOMAIN)]
    pub(super) host_dns: Option<String>,
    /// Pods can have ports of the node [default: true]
    #[arg(long, value_name = "true|false")]
    pub(super) host_ports: Option<String>,
    /// Masquerade clients of host ports that need it, and open 127.0.0.1 [default: true]
    #[arg(long, value_name = "true|false")]
    pub(super) host_port_snat: Option<String>,
    /// A process of the node on a wanted port is an error instead of a warning [default: false]
    #[arg(long, value_name = "true|false")]
    pub(super) host_port_strict: Option<String>,
    /// Host ports answer only through these interfaces: names or beginnings such as lan*
    #[arg(long, value_name = "NAMES")]
    pub(super) host_port_interfaces: Option<String>,
    /// Host ports do not answer through these, such as wwan*,ppp*
    #[arg(long, value_name = "NAMES")]
    pub(super) deny_host_port_interfaces: Option<String>,
    /// Name of the network [default: smartnet]
    #[arg(long, value_name = "NAME")]
    pub(super) network: Option<String>,
    /// Name of the bridge [default: smartnet0]
    #[arg(long, value_name = "NAME")]
    pub(super) bridge: Option<String>,
    /// How much the plugins log to /run/smarter-cni/log: off, error, warn, info or debug [default: info]
    #[arg(long, value_name = "LEVEL")]
    pub(super) log_level: Option<String>,
    /// Where the plugins go, as the host sees it; several with commas [default: where the node's runtimes look]
    #[arg(long, value_name = "DIR")]
    pub(super) bin_dir: Option<String>,
    /// Where the configuration goes, as the host sees it; several with commas [default: where the runtimes look]
    #[arg(long, value_name = "DIR")]
    pub(super) conf_dir: Option<String>,
    /// Where the host's / is mounted; everything is read and written below it [default: /]
    #[arg(long, value_name = "DIR")]
    pub(super) root: Option<String>,
    /// Move configurations out of the way that a runtime would take instead of ours; uninstall gives them back
    #[arg(long)]
    pub(super) take_over: bool,
    /// Print what would be done, and do nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
    /// Stay, and repair what gets lost of the installation and of the pods' network, until SIGTERM or SIGINT; leaves
    /// everything in place
    #[arg(long, conflicts_with_all = ["dry_run", "json"])]
    pub(super) watch: bool,
    /// One look of --watch: repair the installation, and say what was done and what to watch as JSON
    #[arg(long, hide = true, conflicts_with_all = ["watch", "dry_run", "json"])]
    pub(super) look: bool,
    /// The same for the network of the pods, also with --look
    #[arg(long, hide = true, conflicts_with_all = ["watch", "dry_run", "json"])]
    pub(super) repair: bool,
}

#[derive(Debug, Parser)]
#[command(
    name = "smarter-cni uninstall",
    about = "Take everything of smarter-cni away from this node",
    long_about = "Lets no new pods come first. While pods are attached nothing is removed, because the runtime needs plugins \
                  and configuration to detach them. Then go the configuration, our rules, the bridge, the switches of the kernel that \
                  were turned, and the plugins; what was moved out of the way at the installation comes back.",
    after_help = "Exit code 0: everything is gone; 1: something stays, the reason is printed; 2: a word that makes no sense."
)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(super) struct Uninstall {
    /// Where the host's / is mounted; everything is read and removed below it [default: /]
    #[arg(long, value_name = "DIR")]
    pub(super) root: Option<String>,
    /// Also while pods are attached: they lose their network, and the runtime cannot detach them
    #[arg(long)]
    pub(super) force: bool,
    /// Wait until the pods that are attached are gone, and go on at once; says whom it waits for
    #[arg(long, conflicts_with_all = ["dry_run", "force"])]
    pub(super) wait: bool,
    /// When everything is gone, stay until SIGTERM or SIGINT: a container that ended would be started again
    #[arg(long, conflicts_with = "dry_run")]
    pub(super) stay: bool,
    /// Print what would be done, and do nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// A word and where it was said, for refusals. Written down it is its text alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub(super) struct Word {
    pub(super) text: String,
    /// `--subnet`, `CIDR`…
    pub(super) source: String,
}

impl From<String> for Word {
    fn from(text: String) -> Self {
        Self { text, source: "the earlier installation's setting".to_owned() }
    }
}

impl From<Word> for String {
    fn from(word: Word) -> Self {
        word.text
    }
}

/// Where words come from: the environment, read once at the edge.
#[derive(Clone, Debug, Default)]
pub struct Environment(Vec<(OsString, OsString)>);

impl Environment {
    pub fn new(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        Self(variables.into_iter().collect())
    }

    /// An empty value is none: that is what an empty key of a ConfigMap becomes.
    fn get(&self, name: &str) -> Option<Word> {
        let named = |wanted: &str| {
            let (_, value) = self.0.iter().find(|(name, _)| name == OsStr::new(wanted))?;
            let text = value.to_string_lossy().trim().to_owned();
            (!text.is_empty()).then(|| Word { text, source: wanted.to_owned() })
        };
        named(name).or_else(|| named(&name.to_lowercase()))
    }
}

/// Every setting by its word.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Words {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) subnet: Option<Word>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) gateway: Option<Word>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mtu: Option<Word>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hairpin: Option<Word>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) masquerade: Option<Word>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) forward_others: Option<Word>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) dns: Option<Word>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) dns_intercept: Option<Word>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) host_dns: Option<Word>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) host_ports: Option<Word>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) host_port_snat: Option<Word>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) host_port_strict: Option<Word>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) host_port_interfaces: Option<Word>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) deny_host_port_interfaces: Option<Word>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) network: Option<Word>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bridge: Option<Word>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bin_dir: Option<Word>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) conf_dir: Option<Word>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) take_over: Option<Word>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) log_level: Option<Word>,
}

impl Words {
    /// As they are written down: each setting with its text.
    pub(super) fn written(&self) -> BTreeMap<String, String> {
        let object = serde_json::to_value(self).and_then(serde_json::from_value);
        object.expect("an object of texts")
    }

    /// Of what was written down. A setting that only a newer program knows is left to that.
    pub(super) fn of_written(settings: &BTreeMap<String, String>) -> Self {
        serde_json::to_value(settings).and_then(serde_json::from_value).unwrap_or_default()
    }

    /// Nobody said anything.
    pub(super) fn is_silent(&self) -> bool {
        *self == Self::default()
    }
}

impl Install {
    pub(super) fn words(&self, environment: &Environment) -> Words {
        let word = |flag: &str, given: Option<&String>, names: &[&str]| {
            given
                .map(|text| Word { text: text.trim().to_owned(), source: format!("--{flag}") })
                .or_else(|| names.iter().find_map(|name| environment.get(name)))
        };
        Words {
            subnet: word("subnet", self.subnet.as_ref(), &["SUBNET", "CIDR"]),
            gateway: word("gateway", self.gateway.as_ref(), &["GATEWAY", "GW"]),
            mtu: word("mtu", self.mtu.as_ref(), &["MTU"]),
            hairpin: word("hairpin", self.hairpin.as_ref(), &["HAIRPIN"]),
            masquerade: word("masquerade", self.masquerade.as_ref(), &["MASQUERADE"]),
            forward_others: word("forward-others", self.forward_others.as_ref(), &["FORWARD_OTHERS"]),
            dns: word("dns", self.dns.as_ref(), &["DNS"]),
            dns_intercept: word("dns-intercept", self.dns_intercept.as_ref(), &["DNS_INTERCEPT"]),
            host_dns: word("host-dns", self.host_dns.as_ref(), &["HOST_DNS"]),
            host_ports: word("host-ports", self.host_ports.as_ref(), &["HOST_PORTS"]),
            host_port_snat: word("host-port-snat", self.host_port_snat.as_ref(), &["HOST_PORT_SNAT"]),
            host_port_strict: word("host-port-strict", self.host_port_strict.as_ref(), &["HOST_PORT_STRICT"]),
            host_port_interfaces: word(
                "host-port-interfaces",
                self.host_port_interfaces.as_ref(),
                &["HOST_PORT_INTERFACES"],
            ),
            deny_host_port_interfaces: word(
                "deny-host-port-interfaces",
                self.deny_host_port_interfaces.as_ref(),
                &["DENY_HOST_PORT_INTERFACES"],
            ),
            network: word("network", self.network.as_ref(), &["NETWORK"]),
            bridge: word("bridge", self.bridge.as_ref(), &["BRIDGE"]),
            bin_dir: word("bin-dir", self.bin_dir.as_ref(), &["BIN_DIR", "DEST_DIR"]),
            conf_dir: word("conf-dir", self.conf_dir.as_ref(), &["CONF_DIR"]),
            take_over: self
                .take_over
                .then(|| Word { text: "true".to_owned(), source: "--take-over".to_owned() })
                .or_else(|| environment.get("TAKE_OVER")),
            log_level: word("log-level", self.log_level.as_ref(), &["LOG_LEVEL"]),
        }
    }
}

/// `/` unless the flag or HOST_ROOT says otherwise.
pub(super) fn root(flag: Option<&String>, environment: &Environment) -> PathBuf {
    let word = environment.get("HOST_ROOT").map(|word| word.text);
    flag.cloned().or(word).map_or_else(|| PathBuf::from("/"), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment::new(variables.iter().map(|(name, value)| (name.into(), value.into())))
    }

    fn words(flags: &[&str], variables: &[(&str, &str)]) -> Words {
        let install = Install::try_parse_from([&["install"], flags].concat()).unwrap();
        install.words(&environment(variables))
    }

    #[allow(clippy::unnecessary_wraps, reason = "words are optional")]
    fn word(text: &str, source: &str) -> Option<Word> {
        Some(Word { text: text.into(), source: source.into() })
    }

    #[test]
    fn flags_count_more_than_variables_and_new_names_more_than_old_ones() {
        let old = [("CIDR", "10.1.0.0/16"), ("GW", "10.1.0.9")];
        assert_eq!(words(&[], &old).subnet, word("10.1.0.0/16", "CIDR"));
        assert_eq!(words(&[], &old).gateway, word("10.1.0.9", "GW"));
        let both = [("CIDR", "10.1.0.0/16"), ("subnet", "10.2.0.0/16")];
        assert_eq!(words(&[], &both).subnet, word("10.2.0.0/16", "subnet"));
        assert_eq!(words(&["--subnet", "10.3.0.0/16"], &both).subnet, word("10.3.0.0/16", "--subnet"));
        assert_eq!(words(&[], &[("DEST_DIR", "/opt/cni/bin")]).bin_dir, word("/opt/cni/bin", "DEST_DIR"));
        assert_eq!(
            words(&["--log-level", "warn"], &[("LOG_LEVEL", "off")]).log_level,
            word("warn", "--log-level")
        );
    }

    #[test]
    fn the_node_is_told_of_a_domain_or_of_the_usual_one() {
        assert_eq!(words(&["--host-dns", "edge.lan"], &[]).host_dns, word("edge.lan", "--host-dns"));
        assert_eq!(words(&["--host-dns", "--look"], &[]).host_dns, word("cluster.local", "--host-dns"));
        assert_eq!(words(&[], &[("host_dns", "off")]).host_dns, word("off", "host_dns"));
        assert_eq!(words(&[], &[]).host_dns, None);
    }

    #[test]
    fn an_empty_variable_says_nothing() {
        assert_eq!(
            words(&[], &[("SUBNET", " "), ("CIDR", "10.1.0.0/16\n")]).subnet,
            word("10.1.0.0/16", "CIDR")
        );
        assert_eq!(words(&[], &[("TAKE_OVER", "")]).take_over, None);
        assert_eq!(words(&["--take-over"], &[]).take_over, word("true", "--take-over"));
    }

    #[test]
    fn what_was_said_is_said_again() {
        let said = words(&["--subnet", "10.3.0.0/16", "--take-over"], &[("MTU", "1400")]);
        let written = said.written();
        let texts: Vec<_> = written.iter().map(|(key, text)| (key.as_str(), text.as_str())).collect();
        assert_eq!(texts, [("mtu", "1400"), ("subnet", "10.3.0.0/16"), ("take_over", "true")]);
        let again = Words::of_written(&written);
        assert_eq!(again.subnet, word("10.3.0.0/16", "the earlier installation's setting"));
        assert_eq!(again.written(), written);
        assert!(words(&[], &[]).is_silent() && !again.is_silent());
        let newer = [("subnet", "10.3.0.0/16"), ("colour", "blue")];
        let newer = newer.map(|(key, text)| (key.to_owned(), text.to_owned())).into();
        assert_eq!(Words::of_written(&newer).subnet, again.subnet);
    }

    #[test]
    fn the_root_is_the_host_itself_unless_said() {
        let in_container = environment(&[("HOST_ROOT", "/host")]);
        assert_eq!(root(None, &environment(&[])), PathBuf::from("/"));
        assert_eq!(root(None, &in_container), PathBuf::from("/host"));
        assert_eq!(root(Some(&"/mnt".to_owned()), &in_container), PathBuf::from("/mnt"));
    }
}
