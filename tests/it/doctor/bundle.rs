//! `doctor --bundle`: what is in it, what never is, how it is put down, and nodes on which nearly nothing works.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::node::{Kind, Lab, sh, write};
use super::{diagnose, doctor};
use crate::lab::{self, Node, Place};
use crate::sandbox::sandboxed;

const TAR: &str = "/run/bundle.tar";
const LOG: &str = "/run/smarter-cni/log";

/// Names without the directory that all of them are in, as Python's tarfile reads them.
fn unpack(tar: &str) -> BTreeMap<String, String> {
    let script = "import json, sys, tarfile\n\
                  files = {}\n\
                  for member in tarfile.open(sys.argv[1], 'r:'):\n\
                  \x20   assert member.isreg() and member.mode == 0o600 and member.uid == 0, member\n\
                  \x20   files[member.name] = tarfile.open(sys.argv[1]).extractfile(member).read().decode()\n\
                  json.dump(files, sys.stdout)";
    let out = Command::new("python3").args(["-c", script, tar]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let files: BTreeMap<String, String> = serde_json::from_slice(&out.stdout).unwrap();
    let directory = files.keys().next().unwrap().split('/').next().unwrap().to_owned() + "/";
    assert!(directory.starts_with("smarter-cni-") && directory.ends_with("-bundle/"), "{directory}");
    files.into_iter().map(|(name, text)| (name.strip_prefix(&directory).unwrap().to_owned(), text)).collect()
}

/// What GNU tar says of it must be no more than what is in it.
fn listed(tar: &str) -> usize {
    Node.run(&format!("tar -tvf {tar}")).lines().count()
}

fn bundled(options: &str) -> BTreeMap<String, String> {
    let out = doctor(&format!("--bundle {TAR} {options}"));
    let errors = String::from_utf8(out.stderr).unwrap();
    assert!(errors.starts_with(&format!("wrote {TAR}: ")) && errors.lines().count() == 1, "{errors}");
    let files = unpack(TAR);
    assert_eq!(listed(TAR), files.len());
    files
}

fn parsed(files: &BTreeMap<String, String>, name: &str) -> Value {
    let text = files.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", files.keys()));
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Whatever is called JSON is some.
fn assert_documents(files: &BTreeMap<String, String>) {
    let is_json = |name: &&String| Path::new(name).extension().is_some_and(|end| end == "json");
    let documents: Vec<_> = files.keys().filter(is_json).collect();
    assert!(documents.len() > 3, "{documents:?}");
    for name in documents {
        parsed(files, name);
    }
}

#[test]
fn it_holds_what_somebody_asks_for_who_cannot_look() {
    sandboxed(|| {
        let lab = Lab::new(&Kind::default(), 2);
        sh("sysctl -qw net.ipv4.ip_forward=0; iptables-nft -A FORWARD -j ACCEPT");
        let out = doctor(&format!("--bundle {TAR}"));
        assert_eq!(out.status.code(), Some(1), "the exit code is doctor's own");
        assert!(String::from_utf8_lossy(&out.stdout).contains("forwarding"));
        assert_eq!(fs::metadata(TAR).unwrap().permissions().mode() & 0o7777, 0o600);
        let files = unpack(TAR);
        assert_documents(&files);
        let report = parsed(&files, "report.json");
        super::schema::validate(&report);
        let port = lab.port(0);
        for (name, word) in [
            ("report.txt", "forwarding"),
            ("versions.txt", "digest of this program: "),
            ("versions.txt", "seconds since the boot: "),
            ("status.txt", "default/web-0"),
            ("network/links.txt", port),
            ("network/addresses.txt", "10.7.0.1/24 dev smartnet0"),
            ("network/routes.txt", "0.0.0.0/0 via 192.0.2.2"),
            ("network/policy-rules.txt", "32766"),
            ("network/neighbours.txt", ""),
            ("network/link-counters.txt", port),
            ("rules/nf_tables.txt", "table ip smarter-cni {"),
            ("rules/nf_tables.txt", "masquerade"),
            ("rules/nf_tables.txt", "hostports tcp . 8080 : 10.7.0.2 . 80"),
            (
                "rules/nf_tables.txt",
                "chain FORWARD {\n    type filter hook forward priority 0; policy accept;\n",
            ),
            ("sysctls.txt", "net/ipv4/ip_forward = 0\n"),
            ("sysctls.txt", "net/ipv4/conf/smartnet0/route_localnet = 1\n"),
            ("configuration/directories.txt", "  smarter-bridge "),
            ("state/leases.txt", "10.7.0.2 \"web-0\\r\\neth0\""),
            ("state/host.json", "net/ipv4/ip_forward"),
            ("errors.txt", ""),
        ] {
            let text = files.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", files.keys()));
            assert!(text.contains(word), "{name} has no {word:?}:\n{text}");
        }
        let steps = parsed(&files, "reconcile-plan.json")["changes"].to_string();
        assert!(steps.contains("net.ipv4.ip_forward=1"), "{steps}");
        assert_eq!(parsed(&files, "status.json")["networks"][0]["attachments"].as_array().unwrap().len(), 2);
        assert_eq!(parsed(&files, "state/attachments.json").as_array().unwrap().len(), 4);
        let conflist = parsed(&files, "configuration/etc_cni_net.d_0-smarter.conflist.json");
        assert_eq!(conflist["name"], "smartnet");
    });
}

const SECRET: &str = "s3cr3t";

/// Wherever a secret may lie on a node, one that can be recognised.
fn hide_secrets() {
    write(
        "/etc/cni/net.d/10-calico.conflist",
        &format!(
            r#"{{"name":"calico","plugins":[{{"type":"loopback","k8s_auth_token":"{SECRET}-1","policy":{{"Password":"{SECRET}-2"}},
            "kubernetes":{{"kubeconfig":"{SECRET}-3"}},"env":[{{"name":"A","value":"{SECRET}-4"}}],
            "server":"https://admin:{SECRET}-5@10.0.0.1/","args":["--token={SECRET}-6"]}}]}}"#
        ),
    );
    write("/etc/cni/net.d/calico-kubeconfig", &format!("users: [{{user: {{token: {SECRET}-7}}}}]\n"));
    write("/etc/cni/net.d/20-broken.conflist", &format!("{{\"name\":\"broken\",\"token\":\"{SECRET}-8\""));
    write(
        "/etc/containerd/config.toml",
        &format!(
            "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry.configs.\"r\".auth]\npassword = \"{SECRET}-9\"\n= broken\n"
        ),
    );
    write("/etc/rancher/k3s/config.yaml", &format!("token: {SECRET}-10\n"));
    write("/etc/kubernetes/admin.conf", &format!("client-key-data: {SECRET}-11\n"));
    write(
        LOG,
        &format!(
            "{{\"verb\":\"ADD\",\"pod\":\"default/web-0\",\"auth\":{{\"x\":\"{SECRET}-12\"}}}}\n{{\"cut\": \"password={SECRET}-13\n"
        ),
    );
}

#[test]
fn no_secret_is_in_it() {
    sandboxed(|| {
        let lab = Lab::new(&Kind::default(), 1);
        hide_secrets();
        let mut process = Command::new("sleep");
        process.arg("60").env("API_TOKEN", format!("{SECRET}-14")).stdout(Stdio::null());
        let mut process = process.spawn().unwrap();
        let out = doctor(&format!("--bundle {TAR}"));
        process.kill().unwrap();
        process.wait().unwrap();
        assert!(String::from_utf8_lossy(&out.stderr).starts_with("wrote "), "{out:?}");
        let files = unpack(TAR);
        for (name, text) in &files {
            assert!(!text.contains(SECRET), "{name}:\n{text}");
        }
        // They were seen.
        let calico = &parsed(&files, "configuration/etc_cni_net.d_10-calico.conflist.json")["plugins"][0];
        assert_eq!(calico["k8s_auth_token"], "(removed)");
        assert_eq!((&calico["server"], &calico["type"]), (&"(removed)".into(), &"loopback".into()));
        assert!(files["configuration/directories.txt"].contains("calico-kubeconfig "));
        assert!(
            files["errors.txt"].contains("20-broken.conflist: 35 bytes that are no JSON"),
            "{}",
            files["errors.txt"]
        );
        assert!(
            files["log/log"]
                .starts_with("{\"auth\":\"(removed)\",\"pod\":\"default/web-0\",\"verb\":\"ADD\"}\n")
        );
        assert!(files["versions.txt"].contains("runtime containerd: "), "{}", files["versions.txt"]);
        drop(lab);
    });
}

const SECRETS: &str = include_str!("../../corpus/secrets.txt");
const HARMLESS: &str = include_str!("../../corpus/harmless.txt");

/// A secret and a text that holds it.
fn secrets() -> Vec<(&'static str, String)> {
    let rows = SECRETS.lines().map(|line| line.split_once('\t').unwrap());
    rows.map(|(secret, text)| (secret, text.replace("\\n", "\n"))).collect()
}

/// Wherever somebody else's words come from.
fn plant(texts: &[&str]) {
    // The language has no quotes in quotes, and a kernel's comment 128 bytes; an alias has 255.
    let plain = |text: &&&str| !text.contains(['"', '\n', '\\']) && text.len() < 120;
    let rules: String = texts.iter().filter(plain).fold(String::new(), |rules, text| {
        rules + "add rule ip theirs c tcp dport 9 accept comment \"" + text + "\"\n"
    });
    write("/run/rules", &format!("add table ip theirs\nadd chain ip theirs c\n{rules}"));
    sh("nft -f /run/rules");
    for (number, text) in texts.iter().filter(plain).step_by(16).enumerate() {
        let names = (format!("x{number}"), format!("y{number}"));
        Node.run(&format!("ip link add {} type veth peer name {}", names.0, names.1));
        let alias = Command::new("ip").args(["link", "set", &names.0, "alias", text]).status().unwrap();
        assert!(alias.success());
    }
    for (number, text) in texts.iter().enumerate() {
        write(&format!("/run/cni/networks/smartnet/10.99.0.{number}"), text);
        if !text.contains(['/', '\n']) {
            write(&format!("/opt/cni/bin/{text}"), "");
        }
    }
    let json = |value: Value| value.to_string();
    let log: String = texts
        .iter()
        .flat_map(|text| {
            [json(serde_json::json!({"verb": "ADD", "msg": text, "warnings": [text]})), (*text).to_owned()]
        })
        .map(|line| line + "\n")
        .collect();
    write(LOG, &log);
    let document = serde_json::json!({"cniVersion": "1.0.0", "name": texts, "x": texts, "args": {"cni": texts},
        "plugins": [{"type": "loopback", "dns": {"search": texts}}]});
    write("/etc/cni/net.d/60-corpus.conflist", &json(document.clone()));
    write("/etc/cni/net.d/61-corpus.conf", &texts.join("\n"));
    write("/var/lib/cni/results/corpus-c-eth0", &json(document));
    let record = serde_json::json!({"version": 2, "pod": {"name": texts}, "leases": {"data_dir": texts, "more": texts}});
    write("/run/smarter-cni/attachments/corpus.bridge.json", &json(record));
    write("/etc/os-release", &format!("ID=test\nPRETTY_NAME=\"Test\"\n{}\n", texts.join("\n")));
}

#[test]
fn no_secret_of_the_corpus_is_in_it_wherever_it_was_put() {
    sandboxed(|| {
        let lab = Lab::new(&Kind::default(), 1);
        let secrets = secrets();
        assert!(secrets.len() > 130);
        plant(&secrets.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>());
        for options in ["", "--redact"] {
            let line = format!("{} doctor --bundle {TAR} {options}", lab::binary().display());
            let out =
                Node.command(&line).env("API_TOKEN", "hunter2-z1").env("LAN", "hunter2-z2").output().unwrap();
            let said = String::from_utf8(out.stderr).unwrap();
            assert!(
                said.contains("without what is called or looks like a secret")
                    && !said.contains("no secrets"),
                "{said}"
            );
            let files = unpack(TAR);
            let mut left = Vec::new();
            for (name, text) in &files {
                let shown =
                    secrets.iter().filter(|(secret, _)| text.contains(secret) || name.contains(secret));
                left.extend(shown.map(|(secret, text)| format!("{name}: {secret} of {text}")));
                assert!(!text.contains("hunter2-z"), "{name}");
            }
            assert!(left.is_empty(), "{} are left:\n{}", left.len(), left.join("\n"));
            assert!(files["rules/nf_tables.txt"].matches("(removed)").count() > 90, "they were seen");
            assert!(
                files["network/links.txt"].contains("(removed)") && files["log/log"].contains("(removed)")
            );
            assert!(files["state/leases.txt"].contains("10.99.0.7") || options == "--redact");
        }
        drop(lab);
    });
}

#[test]
fn what_a_helper_needs_is_in_it_wherever_it_stood() {
    sandboxed(|| {
        let lab = Lab::new(&Kind::default(), 1);
        let texts: Vec<_> = HARMLESS.lines().collect();
        plant(&texts);
        let files = bundled("");
        let mut gone = Vec::new();
        for text in texts {
            let quoted = format!("{text:?}");
            for name in
                ["rules/nf_tables.txt", "log/log", "state/leases.txt", "configuration/directories.txt"]
            {
                let skipped = (name.starts_with("rules") && text.contains('"'))
                    || (name.starts_with("conf") && text.contains('/'));
                if !files[name].contains(text) && !files[name].contains(&quoted) && !skipped {
                    gone.push(format!("{name}: {text}"));
                }
            }
        }
        assert!(gone.is_empty(), "{} are gone:\n{}", gone.len(), gone.join("\n"));
        drop(lab);
    });
}

/// Addresses and MACs of the node and its pods that say something about it.
fn identities(lab: &Lab) -> Vec<String> {
    let mut found = Vec::new();
    let mut see = |text: String| {
        let words = text.split_whitespace().map(|word| word.split('/').next().unwrap().to_owned());
        found.extend(words.filter(|word| {
            let address = word.parse::<std::net::IpAddr>().is_ok_and(|address| {
                !address.is_loopback() && !address.is_unspecified() && !address.is_multicast()
            });
            let mac = word.len() == 17
                && word.matches(':').count() == 5
                && !word.starts_with("ff:ff")
                && !word.starts_with("00:00:00");
            address || mac
        }));
    };
    for command in [
        "ip link",
        "ip addr",
        "ip route show table all type unicast",
        "ip -6 route show table all",
        "ip neigh",
    ] {
        see(Node.run(command));
        lab.pods.iter().for_each(|pod| see(pod.netns.run(command)));
    }
    found.sort_unstable();
    found.dedup();
    found
}

#[test]
fn redacted_it_has_no_address_and_no_name_of_the_host() {
    sandboxed(|| {
        let lab = Lab::new(
            &Kind { dual: true, keys: serde_json::json!({"macspoofchk": true}), ..Kind::default() },
            2,
        );
        lab.pods[0].netns.run("ping -c 1 -W 2 10.7.0.1");
        sh("iptables-nft -t nat -A PREROUTING -p tcp --dport 8081 -j DNAT --to-destination 192.0.2.77:80
            nft 'table ip x { chain c { type nat hook prerouting priority -100; tcp dport 81 dnat to 192.0.2.78:80; }; }'
            ip link set up0 alias 'to edge-7 by 192.0.2.79'");
        write("/etc/hostname", "edge-7.example.com\n");
        write(LOG, "{\"msg\":\"edge-7: \\b10.7.0.2\\ffd07::2 gone\"}\n");
        let originals = identities(&lab);
        assert!(originals.len() > 12, "{originals:?}");
        let line =
            format!("hostname edge-7; exec {} doctor --bundle {TAR} --redact", lab::binary().display());
        let out = Command::new("unshare").args(["--uts", "sh", "-c", &line]).output().unwrap();
        assert!(
            String::from_utf8_lossy(&out.stderr).contains("addresses and the host's name replaced"),
            "{out:?}"
        );
        let archive = String::from_utf8(fs::read(TAR).unwrap()).unwrap();
        let words: Vec<_> =
            archive.split(|c: char| !(c.is_ascii_hexdigit() || matches!(c, '.' | ':'))).collect();
        let extra = ["192.0.2.77", "192.0.2.78", "192.0.2.79"].map(str::to_owned);
        for original in originals.iter().chain(&extra) {
            let address = original.parse::<std::net::IpAddr>();
            let left = words.iter().find(|word| {
                let word = word.trim_matches(['.', ':']);
                word == original || address.as_ref().is_ok_and(|address| word.parse().as_ref() == Ok(address))
            });
            assert_eq!(left, None, "{original} is still there");
        }
        for hexadecimal in ["c000024d", "c000024e", "0a070002"] {
            assert!(!archive.contains(hexadecimal), "an address in other clothes");
        }
        assert!(!archive.contains("edge-7"));
        let files = unpack(TAR);
        assert_documents(&files);
        let addresses = &files["network/addresses.txt"];
        assert!(addresses.contains("127.0.0.1/8 dev lo"), "{addresses}");
        // The same names in all files: the gateway's is in the record and on the bridge.
        let gateway = addresses
            .lines()
            .find(|line| line.contains("/24 dev smartnet0"))
            .unwrap()
            .split(' ')
            .next()
            .unwrap();
        assert!(
            gateway.starts_with("ip4-") && files["state/attachments.json"].contains(gateway),
            "{gateway}"
        );
    });
}

#[test]
fn only_a_new_file_or_an_earlier_bundle_is_written_to() {
    sandboxed(|| {
        let lab = Lab::new(&Kind::default(), 1);
        bundled("");
        let first = fs::metadata(TAR).unwrap().ino();
        bundled("");
        assert_ne!(fs::metadata(TAR).unwrap().ino(), first, "in place of the earlier one");
        write("/run/diary", "dear diary\n");
        symlink("/run/diary", "/run/link").unwrap();
        symlink(TAR, "/run/link-to-bundle").unwrap();
        let refused = |place: &str, why: &str| {
            let out = doctor(&format!("--bundle {place}"));
            let errors = String::from_utf8(out.stderr).unwrap();
            assert_eq!(out.status.code(), Some(2), "{errors}");
            assert!(errors.contains(why), "{errors}");
        };
        refused("/run/diary", "is no bundle of this program");
        refused("/run/link", "is no plain file");
        refused("/run/link-to-bundle", "is no plain file");
        refused("/dev/full", "is no plain file");
        refused("/run/no/such/directory/x.tar", "No such file");
        assert_eq!(fs::read_to_string("/run/diary").unwrap(), "dear diary\n");
        assert!(fs::symlink_metadata("/run/link-to-bundle").unwrap().is_symlink());
        let full = format!("{} doctor --bundle - > /dev/full", lab::binary().display());
        let out = Command::new("sh").args(["-c", &full]).output().unwrap();
        assert_eq!(out.status.code(), Some(2));
        assert!(
            String::from_utf8_lossy(&out.stderr).contains("could not write standard output: No space left")
        );
        let leftovers = lab::files("/run").into_iter().filter(|name| name.contains("smarter-cni-new"));
        assert_eq!(leftovers.count(), 0);
        drop(lab);
    });
}

/// As over ssh: nothing but the archive on standard output, and no file.
fn streamed() -> BTreeMap<String, String> {
    let line = format!("{} doctor --bundle -", lab::binary().display());
    let begun = Instant::now();
    let out = Node.command(&line).output().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(30), "it hangs");
    assert!(matches!(out.status.code(), Some(0 | 1)), "{}", String::from_utf8_lossy(&out.stderr));
    fs::write("/dev/shm/streamed.tar", &out.stdout).unwrap();
    let files = unpack("/dev/shm/streamed.tar");
    fs::remove_file("/dev/shm/streamed.tar").unwrap();
    files
}

#[test]
fn a_broken_node_is_collected_all_the_same() {
    sandboxed(|| {
        let lab = Lab::new(&Kind::default(), 2);
        // Nobody writes into this pipe.
        sh("mkfifo /etc/cni/net.d/5-pipe.conflist; ln -s /nowhere /opt/cni/bin/dangling; mkdir /opt/cni/bin/dir
            echo '{' > /run/smarter-cni/attachments/0-0.bridge.json; nft flush ruleset; ip link del smartnet0");
        let files = streamed();
        assert!(
            files["errors.txt"].contains("5-pipe.conflist: it is no plain file"),
            "{}",
            files["errors.txt"]
        );
        assert!(
            files["errors.txt"].contains("0-0.bridge.json: 2 bytes that are no JSON"),
            "{}",
            files["errors.txt"]
        );
        assert!(files["configuration/directories.txt"].contains("dangling -> /nowhere"));
        assert!(files["report.txt"].contains("bridge-missing"));
        sh("rm -r /run/smarter-cni /run/cni /etc/cni");
        let files = streamed();
        assert_eq!(files["state/leases.txt"], "");
        sh("mount -o remount,ro /run; mount -o remount,ro /etc; mount -o remount,ro /opt");
        let files = streamed();
        assert!(files.contains_key("report.json") && files.contains_key("network/links.txt"));
        drop(lab);
    });
}

#[test]
fn without_rights_it_says_what_it_could_not_have() {
    sandboxed(|| {
        let lab = Lab::new(&Kind::default(), 1);
        let binary = lab::binary();
        let line =
            format!("setpriv --bounding-set -all --inh-caps -all {} doctor --bundle {TAR}", binary.display());
        let out = Node.command(&line).output().unwrap();
        assert!(String::from_utf8_lossy(&out.stderr).contains(" could not be had (errors.txt)"), "{out:?}");
        let files = unpack(TAR);
        assert!(files["errors.txt"].contains("rules/nf_tables.txt: "), "{}", files["errors.txt"]);
        assert!(files.contains_key("network/links.txt"));
        drop(lab);
    });
}

#[test]
fn below_another_root_it_takes_the_hosts_files() {
    sandboxed(|| {
        let lab = Lab::new(&Kind::default(), 1);
        sh("mkdir /opt/host; mount --rbind / /opt/host");
        let files = bundled("--root /opt/host");
        assert!(files["errors.txt"].contains("status and reconcile-plan.json: "), "{}", files["errors.txt"]);
        assert!(
            files["state/leases.txt"].contains("/run/cni/networks/smartnet\n"),
            "{}",
            files["state/leases.txt"]
        );
        drop(lab);
    });
}

#[test]
fn nothing_but_the_bundle_is_written() {
    sandboxed(|| {
        let lab = Lab::new(&Kind::default(), 2);
        let calls = "open,openat,creat,mkdir,mkdirat,rename,renameat,renameat2,unlink,unlinkat,link,linkat,symlink,symlinkat,\
                     truncate,ftruncate,chmod,fchmod,fchmodat,mknod,mknodat,execve,fork,vfork";
        Node.run(&format!(
            "strace -f -qq -o /run/trace -e trace={calls} {} doctor --bundle {TAR}",
            lab::binary().display()
        ));
        let trace = fs::read_to_string("/run/trace").unwrap();
        let writes = ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC"];
        let changes = trace.lines().filter(|line| {
            let opens = line.contains("open");
            !line.contains("execve(") && (!opens || writes.iter().any(|flag| line.contains(flag)))
        });
        let elsewhere: Vec<_> =
            changes.filter(|line| !line.contains("bundle.tar") && !line.contains("fchmod(")).collect();
        assert_eq!(elsewhere, Vec::<&str>::new());
        assert_eq!(diagnose("--strict").status, 0);
        drop(lab);
    });
}
