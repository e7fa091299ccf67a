//! One takes over from another, and no question is lost; and what becomes of it when either ends.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::*;
use crate::sandbox::sandboxed;

const QUESTION: &[u8] = b"\0\0\x01\0\0\x01\0\0\0\0\0\0\x03web\0\0\x01\0\x01";

/// Asks every 2 ms until `done`, each time from a port of its own as resolvers do. How many were asked, and how many got no
/// answer.
fn asked(done: &AtomicBool) -> (u32, u32) {
    let mut open = Vec::new();
    let mut count = 0;
    while !done.load(Ordering::Relaxed) {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect((GATEWAY, 53)).unwrap();
        socket.send(QUESTION).unwrap();
        open.push(socket);
        count += 1;
        thread::sleep(Duration::from_millis(2));
    }
    let lost = open.iter().filter(|socket| {
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        socket.recv(&mut [0; 512]).is_err()
    });
    (count, u32::try_from(lost.count()).unwrap())
}

#[test]
fn a_successor_loses_no_question() {
    sandboxed(|| {
        let web = Pod::new("ns1", "web");
        let first = Role::start(&[]);
        let done = AtomicBool::new(false);
        let (count, lost) = thread::scope(|scope| {
            let asking = scope.spawn(|| web.netns.inside(|| asked(&done)));
            let mut running = first;
            for _ in 0..5 {
                let next = Role::start(&[]);
                // The one that answers for itself is the new one once it has no count of before.
                eventually("the successor serves", PATIENCE, || socket_owner() == Some(next.child.id()));
                running.end();
                running = next;
            }
            done.store(true, Ordering::Relaxed);
            asking.join().unwrap()
        });
        assert!(count > 50, "only {count} questions were asked");
        assert_eq!(lost, 0, "of {count}");
    });
}

/// Which process listens at the socket beside the records.
pub(super) fn socket_owner() -> Option<u32> {
    let stream = std::os::unix::net::UnixStream::connect(SOCKET).ok()?;
    let peer = rustix::net::sockopt::socket_peercred(&stream).ok()?;
    u32::try_from(peer.pid.as_raw_nonzero().get()).ok()
}

#[test]
fn who_was_replaced_serves_again_when_the_other_dies() {
    sandboxed(|| {
        let web = Pod::new("ns1", "web");
        let first = Role::start(&[]);
        let second = Role::start(&[]);
        eventually("the successor serves", PATIENCE, || socket_owner() == Some(second.child.id()));
        second.signal("KILL");
        eventually("the first one serves again", PATIENCE, || answer(&web.netns, "web") == web.address);
        eventually("and is found", PATIENCE, || socket_owner() == Some(first.child.id()));
        assert!(first.end().contains("this one serves again"));
    });
}

#[test]
fn what_systemd_holds_is_taken() {
    sandboxed(|| {
        let web = Pod::new("ns1", "web");
        let binary = lab::binary();
        // As systemd does it: the sockets are 3 and 4, and stay with it.
        let script = format!(
            "import os, socket\n\
             held = [socket.socket(socket.AF_INET, kind) for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM)]\n\
             for one in held: one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); one.bind(('{GATEWAY}', 53))\n\
             held[1].listen()\n\
             numbers = [os.dup2(os.dup(one.fileno()), 100 + at) for at, one in enumerate(held)]\n\
             for at, number in enumerate(numbers): os.dup2(number, 3 + at)\n\
             os.execve('{}', ['smarter-cni', 'dns'], dict(os.environ, LISTEN_PID=str(os.getpid()), LISTEN_FDS='2'))\n",
            binary.display()
        );
        let path = std::path::Path::new("/run/activate.py");
        std::fs::write(path, script).unwrap();
        let mut command = Node.command("python3 /run/activate.py");
        let role = Role { child: command.stderr(Stdio::piped()).spawn().unwrap() };
        // Without SO_REUSEPORT on the one that is held, nobody else could bind it.
        eventually("it serves", PATIENCE, || answer(&web.netns, "web") == web.address);
        assert_eq!(answer(&web.netns, "+tcp web"), web.address);
        let words = role.end();
        assert!(words.contains(&format!("{GATEWAY}:53")) && !words.contains("taken by"), "{words}");
    });
}
