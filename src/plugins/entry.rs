//! What a call has to say in the log: who asked for what, and how it went. Pure.
//!
//! Takes from the environment what names the attachment, from CNI_ARGS the pod, and from the configuration the network's
//! name: anything else in them may be a secret, and stays out of the log.

use std::ffi::{OsStr, OsString};

use crate::applet::Plugin;
use crate::cni::args::Args;
use crate::cni::error::Error;
use crate::cni::result::AddResult;
use crate::log::{Entry, Failure};

/// What is known before the request is understood.
pub fn entry(plugin: Plugin, environment: &[(OsString, OsString)]) -> Entry {
    let variable = |name: &str| {
        let found = environment.iter().find(|(key, _)| key == OsStr::new(name));
        found.map(|(_, value)| value.to_string_lossy().into_owned()).unwrap_or_default()
    };
    let args = Args::parse_lenient(&variable("CNI_ARGS"));
    let pod = args.pod();
    Entry {
        plugin: plugin.standard_name(),
        verb: variable("CNI_COMMAND"),
        container: variable("CNI_CONTAINERID"),
        interface: variable("CNI_IFNAME"),
        pod: match (&pod.namespace, &pod.name) {
            (Some(namespace), Some(name)) => format!("{namespace}/{name}"),
            (_, name) => name.clone().unwrap_or_default(),
        },
        ..Entry::default()
    }
}

pub(super) fn added(entry: &mut Entry, result: &AddResult) {
    entry.addresses = result.ips.iter().map(|ip| ip.address.to_string()).collect();
}

/// The call failed.
pub fn failed(entry: Entry, error: &Error) -> Entry {
    let failure = Failure {
        code: Some(error.code.number()),
        msg: without_args(&error.msg),
        details: without_args(&error.details),
    };
    Entry { failure: Some(failure), ..entry }
}

/// What is wrong with CNI_ARGS is answered with what they say, in the words of the reference plugins: `ARGS: …` and the pair
/// in quotes. The runtime knows them already; the log must not.
fn without_args(words: &str) -> String {
    let Some((before, about)) = words.split_once("ARGS: ") else { return words.to_owned() };
    match about.split_once(['"', '[']) {
        Some((what, _)) => format!("{before}ARGS: {what}…"),
        None => words.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(args: &str) -> Vec<(OsString, OsString)> {
        let variables = [
            ("CNI_COMMAND", "ADD"),
            ("CNI_CONTAINERID", "c1"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_ARGS", args),
            ("TOKEN", "hunter2"),
        ];
        variables.map(|(name, value)| (name.into(), value.into())).into()
    }

    #[test]
    fn the_pod_is_named_and_nothing_else_of_the_arguments() {
        let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;PASSWORD=hunter2";
        let entry = entry(Plugin::Bridge, &environment(args));
        assert_eq!(
            (entry.plugin, &*entry.verb, &*entry.container, &*entry.interface, &*entry.pod),
            ("bridge", "ADD", "c1", "eth0", "default/web-0")
        );
        assert!(!format!("{entry:?}").contains("hunter2"));
    }

    #[test]
    fn an_error_about_arguments_does_not_repeat_them() {
        for args in ["PASSWORD=hunter2", "hunter2", "IgnoreUnknown=hunter2", "IP=hunter2", "a=b;hunter2=c=d"]
        {
            let error = Args::parse(args, &["IP"]).unwrap_err().context("failed to load");
            assert!(error.msg.contains("hunter2"), "the premise: {error}");
            let failure = failed(entry(Plugin::HostLocal, &environment(args)), &error).failure.unwrap();
            assert!(failure.msg.starts_with("failed to load: ARGS: "), "{}", failure.msg);
            assert!(!failure.msg.contains("hunter2"), "{}", failure.msg);
        }
        let plain = Error::internal("no room").with_details("make some");
        let failure = failed(Entry::default(), &plain).failure.unwrap();
        assert_eq!((&*failure.msg, &*failure.details, failure.code), ("no room", "make some", Some(999)));
    }
}
