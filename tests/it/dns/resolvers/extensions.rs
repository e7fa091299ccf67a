//! Flags and extensions, on what others answered, and messages that are broken.

use std::net::UdpSocket;

use super::*;

/// Bytes of the answer, as `dig` counts them.
fn size(text: &str) -> usize {
    text.split("rcvd: ").nth(1).unwrap_or_else(|| panic!("{text}")).trim().parse().unwrap()
}

#[test]
fn a_datagram_is_never_longer_than_its_asker_can_take() {
    sandboxed(|| {
        let web = Pod::new("ns1", "web");
        let uplink = Uplink::new(1, Manner::Truncates);
        uplinks(&[&uplink.address()]);
        let _role = Role::start(&[]);
        for (words, most) in
            [("+noedns", 512), ("+bufsize=512", 512), ("+bufsize=1232", 1232), ("+bufsize=4096", 1232)]
        {
            let text = dig(&web.netns, &format!("+ignore {words} many.example.test"));
            assert!(size(&text) <= most && text.contains("flags: qr tc rd ra;"), "{words}: {text}");
            // dig asks over TCP by itself.
            let whole = dig(&web.netns, &format!("{words} many.example.test"));
            assert!(whole.contains("ANSWER: 200,"), "{words}: {whole}");
        }
    });
}

#[test]
fn signatures_are_for_whoever_asks_for_them() {
    sandboxed(|| {
        let web = Pod::new("ns1", "web");
        let uplink = Uplink::new(1, Manner::Signs);
        uplinks(&[&uplink.address()]);
        let _role = Role::start(&[]);
        // Whoever comes first: the two are kept apart.
        for round in 0..2 {
            let signed = dig(&web.netns, "+dnssec signed.example.test");
            assert!(signed.contains("RRSIG") && signed.contains("flags: qr rd ra ad;"), "{round}: {signed}");
            let plain = dig(&web.netns, "+nodnssec +noadflag signed.example.test");
            assert!(!plain.contains("RRSIG") && plain.contains("flags: qr rd ra;"), "{round}: {plain}");
        }
        assert_eq!(uplink.asked(), 2, "once with and once without");
        let unchecked = dig(&web.netns, "+cdflag signed.example.test");
        assert!(unchecked.contains("flags: qr rd ra") && unchecked.contains(" cd;"), "{unchecked}");
        // It was told so, and not answered from what was checked.
        assert_eq!(uplink.asked(), 3);
    });
}

#[test]
fn a_failure_is_said_and_not_waited_out() {
    sandboxed(|| {
        let web = Pod::new("ns1", "web");
        let _role = Role::start(&[]);
        let begun = Instant::now();
        let nobody = dig(&web.netns, "one.example.test");
        assert!(nobody.contains("status: SERVFAIL") && nobody.contains("; EDE: 2"), "{nobody}");
        assert!(begun.elapsed() < AT_ONCE, "nobody can be asked: {:?}", begun.elapsed());
        for (number, manner) in [(1, Manner::Fails), (2, Manner::Silent)] {
            let uplink = Uplink::new(number, manner);
            uplinks(&[&uplink.address()]);
            eventually("the file is seen", PATIENCE, || {
                dig(&web.netns, &format!("n{}.example.test", uplink.asked()));
                uplink.asked() > 0
            });
            // dig itself waits for 2 s: with silence there would be no status.
            let text = dig(&web.netns, "two.example.test");
            assert!(text.contains("status: SERVFAIL"), "{manner:?}: {text}");
            assert!(text.contains("flags: qr rd ra;"), "{manner:?}: {text}");
        }
    });
}

#[test]
fn an_answer_of_before_is_better_than_none() {
    sandboxed(|| {
        let web = Pod::new("ns1", "web");
        let uplink = Uplink::new(1, Manner::Brief);
        uplinks(&[&uplink.address()]);
        let _role = Role::start(&[]);
        assert_eq!(answer(&web.netns, "brief.example.test"), "198.51.1.2");
        uplink.cut();
        // Its second is over.
        std::thread::sleep(Duration::from_millis(2200));
        let text = dig(&web.netns, "brief.example.test");
        assert!(text.contains("30\tIN\tA\t198.51.1.2") && text.contains("EDE: 3 "), "{text}");
        let plain = dig(&web.netns, "+noedns brief.example.test");
        assert!(plain.contains("30\tIN\tA\t198.51.1.2") && !plain.contains("EDE"), "{plain}");
    });
}

/// What a resolver that validates asks before it believes anything, and what services are called.
#[test]
fn questions_that_no_pod_has_an_answer_to_do_not_deny_it() {
    sandboxed(|| {
        let web = Pod::new("ns1", "web");
        let _role = Role::start(&[]);
        for words in [
            "-t SOA web.ns1.svc.cluster.local",
            "+dnssec -t DS web.ns1.svc.cluster.local",
            "+dnssec -t DS cluster.local",
            "+dnssec -t DNSKEY cluster.local",
            "svc.cluster.local",
            "pod.cluster.local",
            "cluster.local",
        ] {
            let text = dig(&web.netns, words);
            assert!(
                text.contains("status: NOERROR") && text.contains("ANSWER: 0, AUTHORITY: 1"),
                "{words}: {text}"
            );
        }
        let service = dig(&web.netns, "-t SRV _http._tcp.web.ns1.svc.cluster.local");
        assert!(service.contains("status: NXDOMAIN"), "{service}");
        assert_eq!(counted("forwarded"), Some(0));
    });
}

#[test]
fn broken_messages_are_met_as_the_standard_says() {
    const QUESTION: &[u8] = b"\x03WeB\x03Ns1\x03sVc\x07ClusteR\x05LocaL\0\0\x01\0\x01";
    sandboxed(|| {
        let web = Pod::new("ns1", "web");
        let _role = Role::start(&[]);
        let socket = web.netns.inside(|| UdpSocket::bind("0.0.0.0:0")).unwrap();
        socket.connect((GATEWAY, 53)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let header = |id: u8, flags: u8, questions: u8| [0, id, flags, 0, 0, questions, 0, 0, 0, 0, 0, 0];
        let send = |header: &[u8], rest: &[u8]| socket.send(&[header, rest].concat()).unwrap();
        let next = || {
            let mut answer = [0; 512];
            let length = socket.recv(&mut answer).unwrap();
            answer[..length].to_vec()
        };
        // An answer, and less than a header: silence. The next one that is answered is behind them.
        send(&header(1, 0x81, 1), QUESTION);
        send(&header(2, 1, 1)[..11], &[]);
        for (id, questions, rest) in [(3, 0, Vec::new()), (4, 2, [QUESTION, QUESTION].concat())] {
            send(&header(id, 1, questions), &rest);
            let answer = next();
            assert_eq!((answer[1], answer[3] & 0x0f), (id, 1), "FORMERR: {answer:?}");
        }
        send(&header(5, 1, 1), QUESTION);
        let answer = next();
        assert_eq!((answer[1], answer[3] & 0x0f, answer[7]), (5, 0, 1), "{answer:?}");
        assert_eq!(&answer[12..12 + QUESTION.len()], QUESTION, "byte for byte");
    });
}
