//! More questions than anybody could answer, while the upstream says nothing.

use std::time::{Duration, Instant};

use super::client::{Asker, Role, SOA, query, uplinks};
use super::upstream::{Manner, Uplink};
use crate::lab::{Node, Place as _};
use crate::sandbox::sandboxed;

/// What the process has beside its program, which has 5 MiB at most when it is built to ship: 16 MiB together.
const MOST_KIB: u64 = 11 * 1024;
/// Who asks, each from an address of its own: one alone could not take all the places there are.
const CLIENTS: u8 = 8;
const QUESTIONS: u32 = 30_000;

#[test]
fn memory_and_our_own_names_survive_a_flood() {
    sandboxed(|| {
        let uplink = Uplink::new(1, Manner::Silent);
        uplinks(&[&uplink.address()]);
        for client in 1..=CLIENTS {
            Node.run(&format!("ip addr add 10.9.0.{client}/32 dev lo"));
        }
        let role = Role::start(&[]);
        let flood: Vec<_> = (1..=CLIENTS).map(|client| Asker::from(&format!("10.9.0.{client}"))).collect();
        for client in &flood {
            client.socket.set_nonblocking(true).expect("a socket");
        }
        let own = Asker::new();
        let begun = Instant::now();
        let (mut memory, mut descriptors) = (0, 0);
        for sent in 1..=QUESTIONS {
            let client = &flood[sent as usize % flood.len()];
            let name = format!("n{sent}.example.test");
            // What does not fit is lost, as on any network.
            let _ = client.socket.send(&query(u16::try_from(sent % 65_536).expect("two bytes"), &name, 1));
            if sent % 50 == 0 {
                for client in &flood {
                    while client.receive().is_some() {}
                }
                // 20,000 a second, as far as this machine goes along.
                let due = Duration::from_secs(1) * sent / 20_000;
                std::thread::sleep(due.saturating_sub(begun.elapsed()));
            }
            if sent % 2000 == 0 {
                assert_eq!(own.ask("cluster.local", SOA).rcode, 0, "after {sent}");
                memory = memory.max(role.memory("RssAnon"));
                descriptors = descriptors.max(role.descriptors());
            }
        }
        assert!(memory <= MOST_KIB, "{memory} KiB");
        // 256 questions with two sockets each at most.
        assert!((256..600).contains(&descriptors), "{descriptors} descriptors");
    });
}
