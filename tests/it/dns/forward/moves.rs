//! An uplink goes and another comes while somebody asks 20 times a second, each time for another name.

use std::fs;
use std::os::unix::fs::symlink;

use super::client::{Asker, RESOLV, Role, nameservers, uplinks, write_file};
use super::upstream::{Manner, Uplink};
use crate::lab::{Node, Place as _};
use crate::sandbox::sandboxed;

/// Two seconds before and as much after.
const QUESTIONS: usize = 60;
const MOVE: usize = 20;

/// Asks all the time and moves in the middle of it. How many had no answer, and whom the last ones came from.
fn lost(uplinks: &[Uplink; 2], mut moves: impl FnMut()) -> usize {
    let names: Vec<_> = (0..QUESTIONS).map(|n| format!("n{n}.example.test")).collect();
    let heard = Asker::new().paced(&names, 20, |at| {
        if at == MOVE {
            uplinks[0].cut();
            moves();
        }
    });
    let from = |uplink: &Uplink, ids: std::ops::Range<usize>| {
        let own = [198, 51, uplink.number, 2];
        let id = |at: usize| u16::try_from(at).expect("few");
        ids.filter(|at| heard.get(&id(*at)).is_some_and(|reply| reply.rcode == 0 && reply.has(&own))).count()
    };
    assert_eq!(from(&uplinks[0], 0..MOVE), MOVE, "before it moved");
    let after = from(&uplinks[1], MOVE..QUESTIONS) + from(&uplinks[0], MOVE..QUESTIONS);
    QUESTIONS - MOVE - after
}

fn two() -> [Uplink; 2] {
    [Uplink::new(1, Manner::Answers), Uplink::new(2, Manner::Answers)]
}

#[test]
fn a_file_that_is_replaced_costs_one_question_at_most() {
    sandboxed(|| {
        let both = two();
        uplinks(&[&both[0].address()]);
        let _role = Role::start(&[]);
        let lost = lost(&both, || {
            let next = format!("{RESOLV}.next");
            write_file(&next, &nameservers(&[&both[1].address()]));
            fs::rename(&next, RESOLV).expect("the same directory");
        });
        assert!(lost <= 1, "{lost} questions had no answer");
    });
}

#[test]
fn a_link_that_turns_to_another_file_costs_one_question_at_most() {
    sandboxed(|| {
        let both = two();
        for uplink in &both {
            write_file(
                &format!("/run/uplinks/{}/resolv.conf", uplink.number),
                &nameservers(&[&uplink.address()]),
            );
        }
        fs::create_dir_all("/run/resolvconf").expect("a directory");
        symlink("../uplinks/1/resolv.conf", "/run/resolvconf/resolv.conf").expect("a link");
        let _role = Role::start(&[]);
        let lost = lost(&both, || {
            symlink("../uplinks/2/resolv.conf", "/run/resolvconf/next").expect("a link");
            fs::rename("/run/resolvconf/next", "/run/resolvconf/resolv.conf").expect("the same directory");
        });
        assert!(lost <= 1, "{lost} questions had no answer");
    });
}

#[test]
fn servers_of_one_link_move_to_servers_of_another() {
    sandboxed(|| {
        let both = two();
        uplinks(&[&both[0].scoped()]);
        let next = both[1].scoped();
        let _role = Role::start(&[]);
        // Rewritten in place, as resolvconf does.
        let lost = lost(&both, || uplinks(&[&next]));
        assert!(lost <= 1, "{lost} questions had no answer");
    });
}

/// The manager takes its time: first the way goes, then the names of its servers, then another uplink comes.
#[test]
fn a_gap_between_two_uplinks_is_bridged() {
    sandboxed(|| {
        let both = two();
        uplinks(&[&both[0].address()]);
        let _role = Role::start(&[]);
        let mut step = 0;
        let names: Vec<_> = (0..QUESTIONS).map(|n| format!("n{n}.example.test")).collect();
        let heard = Asker::new().paced(&names, 20, |at| {
            match (step, at) {
                (0, 20) => {
                    Node.run("ip link set up1 down");
                    Node.run("ip link set up2 down");
                }
                (1, 23) => uplinks(&[]),
                (2, 26) => Node.run("ip link set up2 up").clear(),
                (3, 29) => uplinks(&[&both[1].address()]),
                _ => return,
            }
            step += 1;
        });
        let good = heard.values().filter(|reply| reply.rcode == 0 && reply.answers == 1).count();
        assert!(good >= QUESTIONS - 1, "{} questions had no answer", QUESTIONS - good);
    });
}
