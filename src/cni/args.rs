//! `CNI_ARGS`: `KEY=value` pairs with `;` between (CNI SPEC "Parameters"), by the rules of the reference plugins.
//!
//! Keys are case-sensitive and a plugin refuses those it does not know, unless `IgnoreUnknown` says otherwise; every
//! runtime says so. Does not judge a MAC: that is for the plugin that sets it.

use std::net::IpAddr;

use super::address::parse_requested_ip;
use super::error::{Error, Result};
use super::quote::{quoted, quoted_list};

/// What `CNI_ARGS` said. Fields of unknown keys stay `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Args {
    /// `MAC`, not parsed; never empty.
    pub mac: Option<String>,
    /// `IP`: an address, possibly written with a prefix.
    pub ip: Option<IpAddr>,
    pod: Pod,
}

/// The pod an attachment belongs to, as Kubernetes runtimes tell (`K8S_POD_NAMESPACE`, `K8S_POD_NAME`, `K8S_POD_UID`).
/// For people to read: 1 to 253 bytes of printable ASCII, or absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    pub namespace: Option<String>,
    pub name: Option<String>,
    pub uid: Option<String>,
}

impl Args {
    /// Parses strictly. `known` holds those of `MAC` and `IP` that the plugin understands; the other is as unknown to it
    /// as `K8S_POD_NAME`. Of equal keys the last one counts. Errors have code 999.
    pub fn parse(text: &str, known: &[&str]) -> Result<Self> {
        let mut args = Self::default();
        let mut ignore_unknown = false;
        let mut unknown = Vec::new();
        if text.is_empty() {
            return Ok(args);
        }
        for pair in text.split(';') {
            let Some((key, value)) = key_and_value(pair) else {
                return Err(Error::internal(format_args!("ARGS: invalid pair {}", quoted(pair))));
            };
            let failed = |why: String| {
                Error::internal(format!("ARGS: error parsing value of pair {}: {why}", quoted(pair)))
            };
            match key {
                "IgnoreUnknown" => {
                    ignore_unknown = boolean(value)
                        .ok_or_else(|| failed(format!("boolean unmarshal error: invalid input {value}")))?;
                }
                "MAC" | "IP" if known.contains(&key) => {
                    args.take(key, value).map_err(|()| failed(format!("invalid IP address {value}")))?;
                }
                _ => {
                    args.pod.take(key, value);
                    unknown.push(pair);
                }
            }
        }
        if !unknown.is_empty() && !ignore_unknown {
            return Err(Error::internal(format_args!("ARGS: unknown args {}", quoted_list(unknown))));
        }
        Ok(args)
    }

    /// Takes what can be understood and never fails: on DEL a broken argument must not keep anything from being removed.
    pub fn parse_lenient(text: &str) -> Self {
        let mut args = Self::default();
        for (key, value) in text.split(';').filter_map(key_and_value) {
            // An address that is none is as good as no address.
            let _ = args.take(key, value);
            args.pod.take(key, value);
        }
        args
    }

    pub fn pod(&self) -> &Pod {
        &self.pod
    }

    fn take(&mut self, key: &str, value: &str) -> Result<(), ()> {
        match key {
            "MAC" => self.mac = Some(value.to_owned()).filter(|mac| !mac.is_empty()),
            "IP" if value.is_empty() => self.ip = None,
            "IP" => self.ip = Some(parse_requested_ip(value).ok_or(())?),
            _ => {}
        }
        Ok(())
    }
}

impl Pod {
    fn take(&mut self, key: &str, value: &str) {
        let field = match key {
            "K8S_POD_NAMESPACE" => &mut self.namespace,
            "K8S_POD_NAME" => &mut self.name,
            "K8S_POD_UID" => &mut self.uid,
            _ => return,
        };
        let plausible = (1..=253).contains(&value.len()) && value.bytes().all(|b| matches!(b, b' '..=b'~'));
        *field = plausible.then(|| value.to_owned());
    }
}

/// Exactly one `=`.
fn key_and_value(pair: &str) -> Option<(&str, &str)> {
    pair.split_once('=').filter(|(_, value)| !value.contains('='))
}

fn boolean(text: &str) -> Option<bool> {
    if text == "1" || text.eq_ignore_ascii_case("true") {
        return Some(true);
    }
    (text == "0" || text.eq_ignore_ascii_case("false")).then_some(false)
}
