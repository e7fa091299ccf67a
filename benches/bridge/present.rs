//! Fills a contestant's node with what is there already when a pod comes: pods that have a port mapped, without making the pods,
//! and rules of somebody else.
//!
//! Ours and the floor get the elements of such a pod in their maps; ours gets copies of its two attachment records too, because
//! it looks through their names. The Go plugins get the rules and chains that their `portmap` makes, netavark those of its own;
//! what would masquerade these pods is left out, in their favour. Nobody gets leases: the format is the same for all.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::ops::Range;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::Result;
use crate::contestant::{Contestant, Kind};

/// Far from the port of the guest.
const FIRST_PORT: usize = 20_000;
/// In one transaction: an ordinary user's socket takes no larger ones.
const PODS_AT_ONCE: usize = 50;
const RULES_AT_ONCE: usize = 250;
const RECORDS: &str = "/run/smarter-cni/attachments";

/// Where somebody else's rules are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    /// In a chain that no packet sees.
    Elsewhere,
    /// In the way of every packet of a pod, so that whoever wants to know what becomes of those must read them.
    Forward,
}

impl Contestant {
    /// The pods from one number up to another, exclusive.
    pub(crate) fn fill(&self, pods: Range<usize>) -> Result<()> {
        self.enter()?;
        let parts = pods.clone().step_by(PODS_AT_ONCE);
        parts.map(|from| from..pods.end.min(from + PODS_AT_ONCE)).try_for_each(|some| self.fill_some(some))
    }

    fn fill_some(&self, pods: Range<usize>) -> Result<()> {
        match self.kind {
            Kind::Floor => nft(&elements("floor", pods)),
            Kind::Ours => {
                nft(&elements("smarter-cni", pods.clone()))?;
                copy_records(pods)
            }
            Kind::GoIptables => feed(&["iptables-restore", "--noflush"], &iptables_chains(&self.name, pods)),
            Kind::GoNftables => nft(&pods.map(go_rules).collect::<Vec<_>>().concat()),
            Kind::Netavark => nft(&netavark_chains(pods)),
        }
    }

    /// So many rules that are nobody's business here, as a firewall or kube-proxy would have them.
    pub(crate) fn add_foreign_rules(&self, count: usize, place: Place) -> Result<()> {
        self.enter()?;
        let hook = match place {
            Place::Elsewhere => "",
            Place::Forward => "{ type filter hook forward priority 10; policy accept; }",
        };
        nft(&format!("add table inet foreign\nadd chain inet foreign rules {hook}\n"))?;
        let rule = |rule| {
            format!(
                "add rule inet foreign rules ip saddr 10.99.{}.{} tcp dport {} counter accept comment \"service {rule}\"\n",
                rule / 250,
                rule % 250 + 1,
                1024 + rule
            )
        };
        let rules: Vec<String> = (0..count).map(rule).collect();
        rules.chunks(RULES_AT_ONCE).try_for_each(|some| nft(&some.concat()))
    }

    pub(crate) fn remove_foreign_rules(&self) -> Result<()> {
        self.enter()?;
        nft("delete table inet foreign\n")
    }
}

fn address(pod: usize) -> String {
    format!("10.98.{}.{}", pod / 250, pod % 250 + 2)
}

/// As long as a runtime's.
fn container(pod: usize) -> String {
    format!("{pod:064x}")
}

fn elements(table: &str, pods: Range<usize>) -> String {
    let list = |element: &dyn Fn(usize) -> String| pods.clone().map(element).collect::<Vec<_>>().join(", ");
    let comment = |pod| format!("comment \"shop/web-{pod} {}\"", container(pod));
    let sets = [
        (
            "hostports",
            list(&|pod| format!("tcp . {} {} : {} . 80", FIRST_PORT + pod, comment(pod), address(pod))),
        ),
        ("local_clients", list(&|pod| format!("{} {}", address(pod), comment(pod)))),
        ("hairpin", list(&|pod| format!("{0} . {0} {1}", address(pod), comment(pod)))),
    ];
    sets.map(|(set, list)| format!("add element ip {table} {set} {{ {list} }}\n")).concat()
}

/// Of the pod that stays: the same contents under the name of another container.
fn copy_records(pods: Range<usize>) -> Result<()> {
    let files = fs::read_dir(RECORDS)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    for plugin in ["bridge", "portmap"] {
        let end = format!(".{plugin}.json");
        let model = files.iter().find(|path| path.to_string_lossy().ends_with(&end)).ok_or("no record")?;
        let mut record: Value = serde_json::from_slice(&fs::read(model)?)?;
        for pod in pods.clone() {
            for path in ["/id/container", "/want/attachment/id/container", "/want/host_ports/owner/container"]
            {
                if let Some(name) = record.pointer_mut(path) {
                    *name = container(pod).into();
                }
            }
            fs::write(format!("{RECORDS}/{pod:016x}-{pod:016x}{end}"), record.to_string())?;
        }
    }
    Ok(())
}

fn iptables_chains(name: &str, pods: Range<usize>) -> String {
    let mut text = "*nat\n".to_owned();
    for pod in pods.clone() {
        let _ = writeln!(text, ":CNI-DN-{pod:021x} - [0:0]");
    }
    for pod in pods {
        let (chain, port) = (format!("CNI-DN-{pod:021x}"), FIRST_PORT + pod);
        let _ = writeln!(
            text,
            "-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment \"dnat name: \\\"bench-{name}\\\" id: \\\"{}\\\"\" \
             -m multiport --dports {port} -j {chain}\n\
             -A {chain} -s 10.97.0.0/24 -p tcp -m tcp --dport {port} -j CNI-HOSTPORT-SETMARK\n\
             -A {chain} -s 127.0.0.1/32 -p tcp -m tcp --dport {port} -j CNI-HOSTPORT-SETMARK\n\
             -A {chain} -p tcp -m tcp --dport {port} -j DNAT --to-destination {}:80",
            container(pod),
            address(pod)
        );
    }
    text + "COMMIT\n"
}

fn go_rules(pod: usize) -> String {
    let (port, address, id) = (FIRST_PORT + pod, address(pod), container(pod));
    format!(
        "add rule ip cni_hostport hostports tcp dport {port} dnat to {address}:80 comment \"{id}\"\n\
         add rule ip cni_hostport masquerading ip saddr {address} ip daddr {address} masquerade comment \"{id}\"\n\
         add rule ip cni_hostport masquerading ip saddr 127.0.0.1 ip daddr {address} masquerade comment \"{id}\"\n"
    )
}

/// Its chains are one per network: the pods are in the one that is there.
fn netavark_chains(pods: Range<usize>) -> String {
    let chain = "nv_00000000_10_97_0_0_nm24_dnat";
    pods.map(|pod| {
        let (port, address) = (FIRST_PORT + pod, address(pod));
        format!(
            "add rule inet netavark NETAVARK-HOSTPORT-DNAT tcp dport {port} jump {chain}\n\
             add rule inet netavark {chain} ip saddr 10.97.0.0/24 tcp dport {port} jump NETAVARK-HOSTPORT-SETMARK\n\
             add rule inet netavark {chain} ip saddr 127.0.0.1 tcp dport {port} jump NETAVARK-HOSTPORT-SETMARK\n\
             add rule inet netavark {chain} tcp dport {port} dnat ip to {address}:80\n"
        )
    })
    .collect::<Vec<_>>()
    .concat()
}

fn nft(text: &str) -> Result<()> {
    feed(&["nft", "-f", "-"], text)
}

fn feed(words: &[&str], text: &str) -> Result<()> {
    let mut command = Command::new(words[0]);
    let mut child = command.args(&words[1..]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().ok_or("no pipe")?.write_all(text.as_bytes())?;
    let out = child.wait_with_output()?;
    if out.status.success() {
        return Ok(());
    }
    let words = words.join(" ");
    Err(format!("{words}: {}", String::from_utf8_lossy(&out.stderr).chars().take(400).collect::<String>())
        .into())
}
