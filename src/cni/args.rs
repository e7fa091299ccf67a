//! `CNI_ARGS`: `KEY=value` pairs with `;` between (CNI SPEC "Parameters"), by the rules of the reference
//! plugins.
//!
//! Keys are case-sensitive and a plugin refuses those it does not know, unless `IgnoreUnknown` says
//! otherwise; every runtime says so. Does not judge a MAC: that is for the plugin that sets it.
//!
//! Pure.

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

/// The pod an attachment belongs to, as Kubernetes runtimes tell (`K8S_POD_NAMESPACE`, `K8S_POD_NAME`,
/// `K8S_POD_UID`). For people to read: 1 to 253 bytes of printable ASCII, or absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    pub namespace: Option<String>,
    pub name: Option<String>,
    pub uid: Option<String>,
}

impl Args {
    /// Parses strictly. `known` holds those of `MAC` and `IP` that the plugin understands; the other is as
    /// unknown to it as `K8S_POD_NAME`. Of equal keys the last one counts. Errors have code 999.
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

    /// Takes what can be understood and never fails: on DEL a broken argument must not keep anything from
    /// being removed.
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BRIDGE: &[&str] = &["MAC"];
    const HOST_LOCAL: &[&str] = &["IP"];

    fn refused(text: &str, known: &[&str]) -> String {
        let error = Args::parse(text, known).unwrap_err();
        assert_eq!((error.code.number(), &*error.details), (999, ""));
        error.msg
    }

    #[test]
    fn nothing_says_nothing() {
        assert_eq!(Args::parse("", BRIDGE).unwrap(), Args::default());
    }

    #[test]
    fn a_piece_has_exactly_one_equals_sign() {
        for (text, piece) in [("none", "none"), ("IgnoreUnknown=1;", ""), ("IgnoreUnknown=1;A=b=c", "A=b=c")]
        {
            assert_eq!(refused(text, BRIDGE), format!("ARGS: invalid pair \"{piece}\""));
        }
    }

    #[test]
    fn each_plugin_knows_its_own_key() {
        let mac = "MAC=02:00:00:00:00:01";
        assert_eq!(Args::parse(mac, BRIDGE).unwrap().mac.as_deref(), Some("02:00:00:00:00:01"));
        assert_eq!(refused(mac, HOST_LOCAL), "ARGS: unknown args [\"MAC=02:00:00:00:00:01\"]");
        assert_eq!(Args::parse("IP=10.0.0.9/24", HOST_LOCAL).unwrap().ip, Some("10.0.0.9".parse().unwrap()));
        assert_eq!(refused("IP=10.0.0.9", BRIDGE), "ARGS: unknown args [\"IP=10.0.0.9\"]");
        let both = Args::parse("IP=nonsense;IgnoreUnknown=1;MAC=m", BRIDGE).unwrap();
        assert_eq!((both.ip, both.mac.as_deref()), (None, Some("m")));
        assert_eq!(Args::parse("IP=;MAC=", &["IP", "MAC"]).unwrap(), Args::default());
    }

    #[test]
    fn unknown_keys_are_an_error_unless_ignored_anywhere() {
        let text = "K8S_POD_NAME=a;K8S_POD_NAMESPACE=b";
        assert_eq!(refused(text, BRIDGE), "ARGS: unknown args [\"K8S_POD_NAME=a\" \"K8S_POD_NAMESPACE=b\"]");
        for ignoring in
            ["IgnoreUnknown=1;A=b", "A=b;IgnoreUnknown=TRUE", "IgnoreUnknown=0;A=b;IgnoreUnknown=True"]
        {
            assert!(Args::parse(ignoring, BRIDGE).is_ok());
        }
        for refusing in ["IgnoreUnknown=0;A=b", "IgnoreUnknown=1;A=b;IgnoreUnknown=False"] {
            assert_eq!(refused(refusing, BRIDGE), "ARGS: unknown args [\"A=b\"]");
        }
        assert_eq!(refused("mac=x", BRIDGE), "ARGS: unknown args [\"mac=x\"]");
        assert_eq!(refused("ip=10.0.0.1", HOST_LOCAL), "ARGS: unknown args [\"ip=10.0.0.1\"]");
    }

    #[test]
    fn values_that_do_not_parse_are_named_with_their_pair() {
        assert_eq!(
            refused("IgnoreUnknown=yes", BRIDGE),
            "ARGS: error parsing value of pair \"IgnoreUnknown=yes\": boolean unmarshal error: invalid input yes"
        );
        assert_eq!(
            refused("IP=bogus", HOST_LOCAL),
            "ARGS: error parsing value of pair \"IP=bogus\": invalid IP address bogus"
        );
    }

    #[test]
    fn of_equal_keys_the_last_counts() {
        assert_eq!(Args::parse("MAC=a;MAC=b", BRIDGE).unwrap().mac.as_deref(), Some("b"));
        assert_eq!(Args::parse("IP=10.0.0.1;IP=", HOST_LOCAL).unwrap().ip, None);
    }

    #[test]
    fn the_pod_is_what_the_runtime_says_if_it_is_plausible() {
        let args = Args::parse("IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=p-0;K8S_POD_UID=u", BRIDGE)
            .unwrap();
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(args.pod(), &Pod { namespace: text("ns"), name: text("p-0"), uid: text("u") });
        for bad in ["", "a\nb", "é", "\u{7f}", &"x".repeat(254)] {
            let args = Args::parse(&format!("K8S_POD_NAME={bad};IgnoreUnknown=1"), BRIDGE).unwrap();
            assert_eq!(args.pod().name, None);
        }
        assert_eq!(
            Args::parse_lenient(&format!("K8S_POD_NAME={}", "x".repeat(253)))
                .pod()
                .name
                .as_ref()
                .map(String::len),
            Some(253)
        );
    }

    #[test]
    fn leniently_everything_readable_is_taken() {
        let args = Args::parse_lenient("none;;A=b=c;IP=bogus;MAC=m;K8S_POD_UID=u;IgnoreUnknown=yes;X=y");
        assert_eq!((args.ip, args.mac.as_deref(), args.pod().uid.as_deref()), (None, Some("m"), Some("u")));
    }

    proptest! {
        #[test]
        fn no_text_makes_parsing_panic(
            text in "(IP|MAC|IgnoreUnknown|K8S_POD_NAME|.)?(=|;|1|true|10.0.0.1|/|.){0,12}",
        ) {
            let strict = Args::parse(&text, &["IP", "MAC"]);
            let lenient = Args::parse_lenient(&text);
            if let Ok(strict) = strict {
                prop_assert_eq!(strict, lenient);
            }
        }
    }
}
