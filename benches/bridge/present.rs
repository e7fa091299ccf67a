//! Fills a contestant's tables with pods that have a port mapped, as many as asked for, without making the pods.
//!
//! Ours and the floor get the elements of such a pod in their maps (`nft -f`); ours gets copies of its two attachment
//! records too, because it looks through their names. The Go plugins get the chain, its three rules and the rule that leads
//! there (`iptables-restore --noflush`), as their `portmap` makes them; the chains that its `bridge` would have made for the
//! masquerading of these pods are left out, in their favour. Nobody gets leases: the format is the same for all.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{Contestant, Program, Result};

/// Far from the port of the guest.
const FIRST_PORT: usize = 20_000;
const RECORDS: &str = "/run/smarter-cni/attachments";

/// The pods from one number up to another, exclusive.
pub(crate) fn fill(contestant: &Contestant, pods: std::ops::Range<usize>) -> Result<()> {
    if pods.is_empty() {
        return Ok(());
    }
    match &contestant.program {
        Program::Floor(_) => feed(&["nft", "-f", "-"], &elements("floor", pods)),
        Program::Plugins(_) if contestant.name == "ours" => {
            feed(&["nft", "-f", "-"], &elements("smarter-cni", pods.clone()))?;
            copy_records(pods)
        }
        Program::Plugins(_) => feed(&["iptables-restore", "--noflush"], &chains(contestant.subnet, pods)),
    }
}

fn address(pod: usize) -> String {
    format!("10.98.{}.{}", pod / 250, pod % 250 + 2)
}

/// As long as a runtime's.
fn container(pod: usize) -> String {
    format!("{pod:064x}")
}

fn elements(table: &str, pods: std::ops::Range<usize>) -> String {
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
fn copy_records(pods: std::ops::Range<usize>) -> Result<()> {
    let files = fs::read_dir(RECORDS)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    for plugin in ["bridge", "portmap"] {
        let end = format!(".{plugin}.json");
        let model = files.iter().find(|path| path.to_string_lossy().ends_with(&end)).ok_or("no record")?;
        let mut record: Value = serde_json::from_slice(&fs::read(model)?)?;
        for pod in pods.clone() {
            record["container_id"] = container(pod).into();
            fs::write(format!("{RECORDS}/{pod:016x}-{pod:016x}{end}"), record.to_string())?;
        }
    }
    Ok(())
}

fn chains(subnet: u8, pods: std::ops::Range<usize>) -> String {
    let mut text = "*nat\n".to_owned();
    for pod in pods.clone() {
        let _ = writeln!(text, ":CNI-DN-{pod:021x} - [0:0]");
    }
    for pod in pods {
        let (chain, port) = (format!("CNI-DN-{pod:021x}"), FIRST_PORT + pod);
        let _ = writeln!(
            text,
            "-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment \"dnat name: \\\"bench-peer\\\" id: \\\"{}\\\"\" \
             -m multiport --dports {port} -j {chain}\n\
             -A {chain} -s 10.97.{subnet}.0/24 -p tcp -m tcp --dport {port} -j CNI-HOSTPORT-SETMARK\n\
             -A {chain} -s 127.0.0.1/32 -p tcp -m tcp --dport {port} -j CNI-HOSTPORT-SETMARK\n\
             -A {chain} -p tcp -m tcp --dport {port} -j DNAT --to-destination {}:80",
            container(pod),
            address(pod)
        );
    }
    text + "COMMIT\n"
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
