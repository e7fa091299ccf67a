//! Pods that are there by name alone: records as ADD leaves them, of containers that nobody runs.

use std::fs;
use std::net::Ipv4Addr;

use serde_json::json;

use crate::{Result, pod_address, write};

const RECORDS: &str = "/run/smarter-cni/attachments";
const DOMAIN: &str = "cluster.local";

/// So many of them.
pub(crate) struct Pods(pub(crate) usize);

impl Pods {
    /// Puts them where our server looks, in place of all that were there. Their records promise addresses and no interface of
    /// the node: otherwise these would have to exist.
    pub(crate) fn attach(&self) -> Result<()> {
        let _ = fs::remove_dir_all(RECORDS);
        fs::create_dir_all(RECORDS)?;
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        for at in 0..self.0 {
            let (namespace, pod) = named(at);
            let record = json!({
                "version": 2, "boot_id": boot.trim(), "complete": true, "created_boottime": 1, "plugin": "bridge",
                "id": {"network": "lab", "container": format!("{at:064x}"), "if_name": "eth0"},
                "pod": {"namespace": namespace, "name": pod},
                "want": {"addresses": [format!("{}/16", pod_address(at)?)]},
            });
            let path = format!("{RECORDS}/{at:016x}-{at:016x}-bridge.json");
            write(path.as_ref(), &record.to_string())?;
        }
        Ok(())
    }

    /// All that ours makes of them, each with its address.
    pub(crate) fn names(&self) -> impl Iterator<Item = (String, Ipv4Addr)> {
        self.by_address().flat_map(|(address, names)| names.into_iter().map(move |name| (name, address)))
    }

    pub(crate) fn by_address(&self) -> impl Iterator<Item = (Ipv4Addr, Vec<String>)> {
        (0..self.0).filter_map(|at| {
            let address = pod_address(at).ok()?;
            let ((namespace, pod), dashed) = (named(at), address.to_string().replace('.', "-"));
            let names = vec![
                format!("{pod}.{namespace}.svc.{DOMAIN}"),
                format!("{pod}.{namespace}.pod.{DOMAIN}"),
                format!("{dashed}.{namespace}.pod.{DOMAIN}"),
                format!("{pod}.svc.{DOMAIN}"),
                format!("{pod}.{DOMAIN}"),
                pod,
            ];
            Some((address, names))
        })
    }
}

fn named(at: usize) -> (String, String) {
    (format!("ns{}", at % 4), format!("sensor-reader-{at}"))
}
