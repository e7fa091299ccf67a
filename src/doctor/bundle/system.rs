//! What the machine says of itself: versions, switches, counters, and what the kernel wrote about networks.
//!
//! Takes no environment, no command line and nothing of a process: secrets stand there.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use super::collection::Collection;
use crate::datapath::survey::{self, Network};
use crate::host::cri;
use crate::host::root::Root;
use crate::host::runtimes;
use crate::install;
use crate::state::BootId;
use crate::state::boot::boottime;

/// For what a runtime says of itself.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) fn versions(root: &Root, into: &mut Collection) {
    let mut text = format!("smarter-cni {}\n", env!("CARGO_PKG_VERSION"));
    let mut line = |what: &str, value: io::Result<String>| {
        let _ = match value {
            Ok(value) => writeln!(text, "{what}: {}", value.trim_end()),
            Err(error) => writeln!(text, "{what}: unknown, {error}"),
        };
    };
    line("digest of this program", install::digest(Path::new("/proc/self/exe")));
    line("machine", Ok(rustix::system::uname().machine().to_string_lossy().into_owned()));
    line("kernel", fs::read_to_string("/proc/sys/kernel/osrelease"));
    line("kernel build", fs::read_to_string("/proc/sys/kernel/version"));
    line("boot", BootId::current().map(|boot| boot.as_str().to_owned()));
    line("seconds since the boot", Ok(boottime().as_secs().to_string()));
    let found = runtimes::find(root);
    for problem in &found.problems {
        // What is wrong with it may quote it.
        let words = format_args!("could not be understood; taken instead: {}", problem.assumed);
        into.missing(&problem.file.display().to_string(), words);
    }
    for runtime in found.runtimes {
        let said = root.locate(&runtime.socket).map_err(|error| error.to_string());
        let said = said.and_then(|socket| cri::status(&socket, PATIENCE).map_err(|error| error.to_string()));
        let said = match said {
            Ok(status) => {
                let conditions = status.conditions.iter().map(|condition| {
                    format!("; {} {}: {}", condition.kind, condition.met, condition.message)
                });
                format!("{} {}{}", status.name, status.version, conditions.collect::<String>())
            }
            Err(error) => error,
        };
        let paths = |paths: &[std::path::PathBuf]| {
            paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
        };
        let _ = writeln!(text, "runtime {}: {}", runtime.kind, said);
        let _ = writeln!(text, "  found by {}", runtime.evidence);
        let _ = writeln!(text, "  configured by {}", paths(&runtime.config));
        let _ = writeln!(
            text,
            "  networks in {}, plugins in {}",
            runtime.conf_dir.display(),
            paths(&runtime.bin_dirs)
        );
    }
    into.text("versions.txt", &text);
    match root.read_text(Path::new("/etc/os-release")) {
        Ok(Some(release)) => into.text("os-release.txt", &known_of(&release)),
        Ok(None) => into.missing("/etc/os-release", "there is none"),
        Err(error) => into.missing("/etc/os-release", error),
    }
}

/// Of os-release(5), what tells one system from another.
fn known_of(release: &str) -> String {
    const KNOWN: [&str; 11] = [
        "NAME",
        "VERSION",
        "ID",
        "ID_LIKE",
        "VERSION_ID",
        "VERSION_CODENAME",
        "PRETTY_NAME",
        "BUILD_ID",
        "IMAGE_ID",
        "IMAGE_VERSION",
        "VARIANT_ID",
    ];
    let known = |line: &&str| line.split_once('=').is_some_and(|(name, _)| KNOWN.contains(&name.trim()));
    release.lines().filter(known).fold(String::new(), |text, line| text + line + "\n")
}

/// Those that decide about packets of pods.
const SWITCHES: [&str; 15] = [
    "kernel/modules_disabled",
    "net/ipv4/ip_forward",
    "net/ipv4/ip_local_port_range",
    "net/ipv4/conf/all/rp_filter",
    "net/ipv4/conf/all/route_localnet",
    "net/ipv4/conf/default/rp_filter",
    "net/ipv4/neigh/default/gc_thresh3",
    "net/ipv6/conf/all/forwarding",
    "net/ipv6/conf/all/disable_ipv6",
    "net/ipv6/conf/default/disable_ipv6",
    "net/bridge/bridge-nf-call-iptables",
    "net/bridge/bridge-nf-call-ip6tables",
    "net/netfilter/nf_conntrack_count",
    "net/netfilter/nf_conntrack_max",
    "net/netfilter/nf_conntrack_buckets",
];
const PER_LINK: [&str; 8] = [
    "net/ipv4/conf/*/forwarding",
    "net/ipv4/conf/*/rp_filter",
    "net/ipv4/conf/*/route_localnet",
    "net/ipv4/conf/*/proxy_arp",
    "net/ipv4/conf/*/arp_ignore",
    "net/ipv6/conf/*/disable_ipv6",
    "net/ipv6/conf/*/accept_ra",
    "net/ipv6/conf/*/forwarding",
];

pub(super) fn switches(network: Option<&Network>, into: &mut Collection) {
    let mut keys: Vec<String> = SWITCHES.map(str::to_owned).to_vec();
    for link in network.iter().flat_map(|network| &network.links) {
        keys.extend(PER_LINK.map(|key| key.replace('*', &link.name)));
    }
    let mut text = String::new();
    for key in keys {
        match survey::switch(&key) {
            Ok(Some(value)) => {
                let _ = writeln!(text, "{key} = {value}");
            }
            Ok(None) => {}
            Err(error) => into.missing(&format!("/proc/sys/{key}"), error),
        }
    }
    into.text("sysctls.txt", &text);
}

/// Of the namespace of the calling thread; `/proc/net` would be the main thread's.
const COUNTERS: [(&str, &str); 5] = [
    ("network/conntrack-counters.txt", "/proc/thread-self/net/stat/nf_conntrack"),
    ("network/link-counters.txt", "/proc/thread-self/net/dev"),
    ("network/protocol-counters.txt", "/proc/thread-self/net/snmp"),
    ("rules/ip_tables_names.txt", "/proc/thread-self/net/ip_tables_names"),
    ("rules/ip6_tables_names.txt", "/proc/thread-self/net/ip6_tables_names"),
];

pub(super) fn counters(into: &mut Collection) {
    for (name, path) in COUNTERS {
        match fs::read_to_string(path) {
            Ok(text) => into.text(name, &text),
            // A kernel without the feature counts nothing.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => into.missing(path, error),
        }
    }
    // Name, size and users; where in memory they are is nobody's business.
    let modules = fs::read_to_string("/proc/modules").map(|text| -> String {
        text.lines().map(|line| line.split(' ').take(4).collect::<Vec<_>>().join(" ") + "\n").collect()
    });
    match modules {
        Ok(text) => into.text("modules.txt", &text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => into.missing("/proc/modules", error),
    }
}

/// The kernel's newest words about networks.
const MESSAGES: usize = 200;
/// More than any kernel keeps; whoever writes faster than we read does not hold us up.
const MOST: usize = 1 << 20;
/// linux/printk.h: the longest record with its head.
const RECORD: usize = 8192;

pub(super) fn messages(into: &mut Collection) {
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let opened = OpenOptions::new().read(true).custom_flags(nonblocking).open("/dev/kmsg");
    let mut log = match opened {
        Ok(log) => log,
        Err(error) => return into.missing("/dev/kmsg", error),
    };
    let mut kept: VecDeque<String> = VecDeque::new();
    let mut record = vec![0; RECORD];
    for _ in 0..MOST {
        match log.read(&mut record) {
            Ok(0) => break,
            Ok(length) => {
                kept.extend(message(&String::from_utf8_lossy(&record[..length])));
                if kept.len() > MESSAGES {
                    kept.pop_front();
                }
            }
            // Overwritten before it was read: the next read goes on with the oldest that there is.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => {
                into.missing("/dev/kmsg", error);
                break;
            }
        }
    }
    let text: String = kept.into_iter().map(|line| line + "\n").collect();
    into.text("kernel-messages.txt", &text);
}

/// In lower case.
const ABOUT_NETWORKS: [&str; 20] = [
    "veth",
    "bridge",
    " br",
    "eth",
    "wlan",
    "wwan",
    "enp",
    "ens",
    "wl",
    "link ",
    "carrier",
    "nf_",
    "nft",
    "netfilter",
    "iptables",
    "conntrack",
    "neighbour",
    "ipv6",
    "martian",
    "smarter",
];

/// A record of `/dev/kmsg` (Documentation/ABI/testing/dev-kmsg) as a line, when it is about networks.
fn message(record: &str) -> Option<String> {
    let (head, rest) = record.split_once(';')?;
    let words = rest.lines().next()?;
    let microseconds: u64 = head.split(',').nth(2)?.parse().ok()?;
    let lower = words.to_lowercase();
    let about = ABOUT_NETWORKS.iter().any(|word| lower.contains(word));
    about.then(|| {
        let (seconds, rest) = (microseconds / 1_000_000, microseconds % 1_000_000);
        format!("[{seconds}.{rest:06}] {words}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_about_networks_are_kept_with_their_time() {
        let line = "6,339,5140900,-;NET: Registered PF_INET6\n SUBSYSTEM=x\n";
        assert_eq!(message(line), None);
        let line = "6,340,5690716,-,caller=T1;eth0: link becomes ready\n DEVICE=+x\n";
        assert_eq!(message(line).as_deref(), Some("[5.690716] eth0: link becomes ready"));
        assert_eq!(message("rubbish"), None);
    }
}
