//! What the documentation gives a reader to paste, as it is printed. Blocks for clusters are pasted in [`crate::deployment`].

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::deployment::{as_a_node, stripped};
use crate::lab::{self, DEBIAN_PLUGINS, Netns, Node, Place, Plugin};
use crate::sandbox::{run, sandboxed_daemons};

fn text(page: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).expect("a page")
}

/// All that is to be typed into a shell on a page, in its order.
pub(crate) fn blocks(page: &str) -> Vec<String> {
    let text = text(page);
    let blocks = text.split("\n```sh\n").skip(1);
    blocks.map(|rest| rest.split_once("```").expect("its end").0.to_owned()).collect()
}

/// The first of a section.
pub(crate) fn block(page: &str, section: &str) -> String {
    let text = text(page);
    let (_, rest) = text.split_once(section).unwrap_or_else(|| panic!("{page}: {section}"));
    let (_, rest) = rest.split_once("```sh\n").expect("a block");
    rest.split_once("```").expect("its end").0.to_owned()
}

const BIN: &str = "/opt/cni/bin";
const NAMES: [&str; 4] = ["bridge", "host-local", "portmap", "loopback"];

/// Pasted in a directory in which the program was built.
fn paste(block: &str) -> String {
    run("bash", &["-c", &format!("cd /mnt/checkout\n{block}")])
}

/// A node with Debian's Go plugins, where nothing of ours is yet, and a checkout with our program.
fn node_with_go_plugins() {
    as_a_node();
    fs::create_dir_all(BIN).expect("a directory");
    for name in NAMES {
        fs::copy(Path::new(DEBIAN_PLUGINS).join(name), Path::new(BIN).join(name)).expect("a Go plugin");
    }
    fs::create_dir_all("/mnt/checkout/out").expect("a directory");
    fs::copy(stripped(&lab::binary()), "/mnt/checkout/out/smarter-cni").expect("the program");
}

fn config() -> Value {
    json!({
        "cniVersion": "1.0.0", "name": "old", "type": "bridge", "bridge": "old0", "isDefaultGateway": true, "ipMasq": true,
        "ipam": {"type": "host-local", "dataDir": "/run/leases", "subnet": "10.9.0.0/24"}
    })
}

fn call(plugin: &str, verb: &str, pod: &Netns, config: &Value) -> Plugin {
    Plugin::new(BIN, plugin).command(verb).container(pod.name()).netns(pod).ifname("eth0").json(config)
}

fn ports(result: &Value, port: u16) -> Value {
    json!({
        "cniVersion": "1.0.0", "name": "old", "type": "portmap", "prevResult": result, "backend": "iptables",
        "runtimeConfig": {"portMappings": [{"hostPort": port, "containerPort": 80, "protocol": "tcp"}]}
    })
}

fn leases() -> usize {
    lab::files("/run/leases/old").iter().filter(|name| name.parse::<std::net::IpAddr>().is_ok()).count()
}

/// Whose program stands under the name.
fn is_ours(name: &str) -> bool {
    Node.run(&format!("{BIN}/{name} --version")).starts_with("smarter-cni ")
}

const PAGE: &str = "docs/migration.md";

#[test]
fn from_the_go_plugins_and_back() {
    sandboxed_daemons(|| {
        node_with_go_plugins();
        let pod = ["one", "two", "three"].map(Netns::new);
        call("bridge", "ADD", &pod[0], &config()).succeed();
        assert!(!NAMES.iter().any(|name| is_ours(name)));

        paste(&block(PAGE, "\n## From the Go plugins\n"));
        assert!(NAMES.iter().all(|name| is_ours(name)));
        let second = call("bridge", "ADD", &pod[1], &config()).succeed().json;
        call("portmap", "ADD", &pod[1], &ports(&second, 8081)).succeed();
        call("bridge", "ADD", &pod[2], &config()).succeed();
        call("bridge", "DEL", &pod[0], &config()).succeed();
        assert_eq!(leases(), 2);
        // As the page says: pods with host ports go before.
        call("portmap", "DEL", &pod[1], &ports(&second, 8081)).succeed();
        call("bridge", "DEL", &pod[1], &config()).succeed();

        paste(&block(PAGE, "\n## And back\n"));
        assert!(!NAMES.iter().any(|name| is_ours(name)));
        // With iptables on the node the first DEL reports an error, and the repetition succeeds.
        call("bridge", "DEL", &pod[2], &config()).run();
        call("bridge", "DEL", &pod[2], &config()).succeed();
        assert_eq!(leases(), 0);
        let rest =
            blocks(PAGE).into_iter().find(|block| block.contains("nft delete table")).expect("a block");
        assert!(Node.run("nft list tables").contains("smarter-cni"));
        paste(&rest);
        assert!(!Node.run("nft list tables").contains("smarter-cni"));
        assert!(!Path::new("/run/smarter-cni").exists());
        call("bridge", "ADD", &pod[0], &config()).succeed();
    });
}

#[test]
fn what_the_go_plugins_left_goes_and_nothing_else() {
    sandboxed_daemons(|| {
        node_with_go_plugins();
        let (old, new) = (Netns::new("old"), Netns::new("new"));
        let result = call("bridge", "ADD", &old, &config()).succeed().json;
        call("portmap", "ADD", &old, &ports(&result, 8080)).succeed();
        Node.run("iptables -t nat -A PREROUTING -p tcp --dport 9 -j REDIRECT --to-ports 10");
        paste(&block(PAGE, "\n## From the Go plugins\n"));
        call("bridge", "ADD", &new, &config()).succeed();
        call("portmap", "DEL", &old, &ports(&result, 8080)).succeed();
        call("bridge", "DEL", &old, &config()).succeed();
        let theirs = || Node.run("iptables-save -t nat");
        assert!(theirs().contains("CNI-"), "the premise: {}", theirs());
        paste(&block(PAGE, "\n## What the Go plugins leave behind\n"));
        let left = theirs();
        assert!(!left.contains("CNI-") && left.contains("--to-ports 10"), "{left}");
        assert!(Node.run("nft list table ip smarter-cni").contains("masquerade"));
    });
}

/// Every block of these pages is pasted by a test: here, or in [`crate::deployment`].
#[test]
fn no_block_of_the_page_on_migration_is_left_out() {
    let here = [
        "kubectl apply -f k8s/smartercni_ds.yaml",
        "kubectl -n kube-system delete daemonset --selector k8s-app=smarter-dns",
        "{ echo '*nat'",
        "bin=/opt/cni/bin",
        "bin=/opt/cni/bin",
        "for family",
        "clean()",
    ];
    let blocks = blocks(PAGE);
    assert_eq!(blocks.len(), here.len(), "{blocks:#?}");
    for (block, begins) in blocks.iter().zip(here) {
        assert!(block.starts_with(begins), "{block}");
    }
}
