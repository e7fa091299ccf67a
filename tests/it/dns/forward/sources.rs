//! Whom the role asks, and whom it never does.

use std::time::Duration;

use super::client::{A, Asker, Role, SERVFAIL, TXT, ask_tcp, nameservers, uplinks, write_file};
use super::upstream::{Manner, Uplink};
use crate::lab::{Node, Place as _, eventually};
use crate::sandbox::sandboxed;

#[test]
fn nothing_that_leads_back_to_us_is_asked() {
    sandboxed(|| {
        uplinks(&["169.254.0.2", "127.0.0.53", "::1", "0.0.0.0"]);
        let uplink = Uplink::new(1, Manner::Answers);
        let _role = Role::start(&[]);
        let asker = Asker::new();
        let reply = asker.ask("one.example.test", A);
        assert_eq!((reply.rcode, reply.answers, uplink.asked()), (SERVFAIL, 0, 0));
        // The next source in line has a real one.
        write_file("/run/NetworkManager/resolv.conf", &nameservers(&["127.0.0.1", &uplink.address()]));
        eventually("the file is seen", Duration::from_secs(10), || {
            asker.ask("two.example.test", A).rcode == 0
        });
        assert_eq!(uplink.asked(), 1, "one question, one query");
    });
}

#[test]
fn who_lies_is_not_believed() {
    sandboxed(|| {
        let uplink = Uplink::new(1, Manner::Lies);
        uplinks(&[&uplink.address()]);
        let _role = Role::start(&[]);
        let asker = Asker::new();
        for n in 0..20 {
            let reply = asker.ask(&format!("n{n}.example.test"), A);
            assert_eq!((reply.rcode, reply.answers), (0, 1));
            assert!(reply.has(&[198, 51, 1, 2]) && !reply.has(&[203, 0, 113, 66]));
        }
        assert_eq!(uplink.asked(), 20);
    });
}

#[test]
fn a_long_answer_comes_over_tcp_whole() {
    sandboxed(|| {
        let uplink = Uplink::new(1, Manner::Truncates);
        uplinks(&[&uplink.address()]);
        let _role = Role::start(&[]);
        let cut = Asker::new().ask("many.example.test", A);
        assert!(cut.truncated && cut.wire.len() <= 512 && cut.answers >= 28, "{cut:?}");
        assert_eq!(ask_tcp("many.example.test", A).answers, 200);
        assert_eq!(uplink.asked(), 2, "once over UDP, once over TCP, then from the cache");
    });
}

#[test]
fn a_dead_server_delays_one_question_only() {
    sandboxed(|| {
        let (silent, works) = (Uplink::new(1, Manner::Silent), Uplink::new(2, Manner::Answers));
        uplinks(&[&silent.address(), &works.address()]);
        let _role = Role::start(&[]);
        let asker = Asker::new();
        for n in 0..20 {
            assert!(asker.ask(&format!("n{n}.example.test"), A).has(&[198, 51, 2, 2]));
        }
        assert_eq!((silent.asked(), works.asked()), (1, 20));
    });
}

#[test]
fn what_was_known_is_said_without_an_uplink() {
    sandboxed(|| {
        let uplink = Uplink::new(1, Manner::Answers);
        uplinks(&[&uplink.address()]);
        let _role = Role::start(&[]);
        let asker = Asker::new();
        assert!(asker.ask("web.example.test", A).has(&[198, 51, 1, 2]));
        Node.run("ip link del up1");
        uplinks(&[]);
        assert!(asker.ask("web.example.test", A).has(&[198, 51, 1, 2]));
        eventually("the file is seen", Duration::from_secs(10), || {
            asker.ask("other.example.test", TXT).rcode == SERVFAIL
        });
        assert!(asker.ask("WEB.example.test", A).has(&[198, 51, 1, 2]));
    });
}

/// The servers that programs of Debian are: what they say comes through.
#[test]
fn dnsmasq_is_understood() {
    sandboxed(|| {
        let uplink = crate::lab::Netns::new("isp");
        Node.run("ip link add up0 type veth peer name isp0 netns isp");
        Node.run("ip addr add 198.51.100.1/24 dev up0");
        Node.run("ip link set up0 up");
        uplink.run("ip addr add 198.51.100.2/24 dev isp0");
        uplink.run("ip link set isp0 up");
        uplink.run("ip link set lo up");
        let texts = ["a", "b", "c", "d", "e", "f"]
            .map(|letter| format!("--txt-record=long.example.test,{}", letter.repeat(250)));
        let line = format!(
            "dnsmasq --no-daemon --no-resolv --no-hosts --conf-file=/dev/null --pid-file= --user=root --local=/example.test/ \
             --address=/web.example.test/192.0.2.7 --cname=alias.example.test,web2.example.test \
             --host-record=web2.example.test,192.0.2.8 {}",
            texts.join(" ")
        );
        let mut dnsmasq = uplink.command(&line).spawn().expect("dnsmasq, from dnsmasq-base");
        uplinks(&["198.51.100.2"]);
        let _role = Role::start(&[]);
        let asker = Asker::new();
        eventually("dnsmasq answers", Duration::from_secs(10), || {
            asker.ask("web.example.test", A).has(&[192, 0, 2, 7])
        });
        let alias = asker.ask("alias.example.test", A);
        assert!(alias.answers == 2 && alias.has(&[192, 0, 2, 8]), "{alias:?}");
        assert_eq!(asker.ask("nosuch.example.test", A).rcode, 3);
        assert!(asker.ask("long.example.test", TXT).truncated);
        let whole = ask_tcp("long.example.test", TXT);
        assert!(whole.answers == 6 && whole.wire.len() > 1500, "{}", whole.wire.len());
        dnsmasq.kill().expect("it runs");
        dnsmasq.wait().expect("it ends");
    });
}
