//! The first pod of a node that just booted: no module is loaded, so whatever a plugin asks of the kernel must make the
//! kernel load it. tests/vm/run boots such a node; on a machine in use, somebody else has loaded everything long ago.

use serde_json::json;

use crate::lab::{NODE, Netns, Node, Place, Plugin, WORLD, ask_udp, our_plugins, serve_udp, world};
use crate::sandbox::sandboxed;

#[test]
#[ignore = "needs a kernel without modules: run by tests/vm/run"]
fn the_first_pod_reaches_the_world_behind_the_nodes_address() {
    sandboxed(|| {
        let (world, pod) = (world(), Netns::new("pod"));
        let mut config = json!({
            "cniVersion": "1.0.0", "name": "net", "type": "bridge", "bridge": "br0",
            "isDefaultGateway": true, "ipMasq": true, "macspoofchk": true, "hairpinMode": true,
            "ipam": { "type": "host-local", "subnet": "10.98.0.0/24" },
        });
        let bridge = Plugin::new(our_plugins(), "bridge").container("pod").ifname("eth0").netns(&pod);
        let added = bridge.clone().command("ADD").json(&config).succeed();
        config["prevResult"] = added.json;
        bridge.clone().command("CHECK").json(&config).succeed();

        let server = serve_udp(&world, (WORLD, 7000), "world");
        let answer = ask_udp(&pod, server).unwrap();
        // The world has no route to pods: only a masqueraded question gets an answer.
        assert_eq!((answer.token.as_str(), answer.seen_as), ("world", NODE));

        bridge.command("DEL").json(&config).succeed();
        assert_eq!(pod.link("eth0"), None);
        assert!(Node.link("br0").is_some());
    });
}
