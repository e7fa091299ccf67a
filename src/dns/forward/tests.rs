//! A forwarder and scripted upstreams on loopback addresses, in one thread.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::sleep;

use super::question::{Wishes, query};
use super::sample::{self, ASKED, Message, name, question, record};
use super::*;

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 9));
const PATIENCE: Duration = Duration::from_millis(1800);

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test)
}

/// What an upstream does with a question: messages that it sends back.
type Script = Rc<dyn Fn(&Asked) -> Vec<Vec<u8>>>;

/// A question as an upstream sees it.
struct Asked {
    id: u16,
    question: Vec<u8>,
    edns: bool,
    tcp: bool,
    /// How many came before it.
    before: usize,
    wire: Vec<u8>,
}

impl Asked {
    fn reply(&self, rcode: u8) -> Message {
        Message::reply(self.id, self.question.clone(), rcode)
    }

    fn address(&self, ttl: u32) -> Vec<u8> {
        Message { answer: vec![record(ASKED, sample::A, ttl, &[192, 0, 2, 1])], ..self.reply(0) }.wire()
    }
}

struct Server {
    upstream: Upstream,
    seen: Rc<RefCell<Vec<SocketAddr>>>,
}

impl Server {
    fn asked(&self) -> usize {
        self.seen.borrow().len()
    }
}

async fn server(script: impl Fn(&Asked) -> Vec<Vec<u8>> + 'static) -> Server {
    let script: Script = Rc::new(script);
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let at = udp.local_addr().unwrap();
    let tcp = TcpListener::bind(at).await.unwrap();
    let seen = Rc::new(RefCell::new(Vec::new()));
    let (log, by_udp) = (seen.clone(), script.clone());
    spawn_local(async move {
        let mut buffer = [0; 2048];
        loop {
            let (length, from) = udp.recv_from(&mut buffer).await.unwrap();
            let before = log.borrow().len();
            log.borrow_mut().push(from);
            for message in by_udp(&read(&buffer[..length], false, before)) {
                udp.send_to(&message, from).await.unwrap();
            }
        }
    });
    let log = seen.clone();
    spawn_local(async move {
        loop {
            let (mut stream, from) = tcp.accept().await.unwrap();
            let length = stream.read_u16().await.unwrap();
            let mut wire = vec![0; length.into()];
            stream.read_exact(&mut wire).await.unwrap();
            let before = log.borrow().len();
            log.borrow_mut().push(from);
            for message in script(&read(&wire, true, before)) {
                stream.write_u16(message.len().try_into().unwrap()).await.unwrap();
                stream.write_all(&message).await.unwrap();
            }
        }
    });
    Server { upstream: at.to_string().parse().unwrap(), seen }
}

fn read(wire: &[u8], tcp: bool, before: usize) -> Asked {
    let client = Client::read(wire).expect("a question");
    Asked {
        id: client.id,
        question: client.question.to_vec(),
        edns: client.edns,
        tcp,
        before,
        wire: wire.to_vec(),
    }
}

fn forwarder(servers: &[&Server]) -> Rc<Forwarder> {
    let named = servers.iter().map(|server| server.upstream.clone()).collect();
    Forwarder::new(Settings { upstreams: Source::Named(named), ..Settings::default() })
}

fn ask(name: &str) -> Vec<u8> {
    query(0x4711, &question(name, sample::A), Wishes::default(), true)
}

fn rcode(message: &[u8]) -> u8 {
    message[3] & 0x0f
}

/// The code of the extended error, which our OPT record ends with.
fn reason(message: &[u8]) -> Option<u16> {
    let tail = message.last_chunk::<6>().unwrap();
    (tail[..4] == [0, 15, 0, 2]).then(|| u16::from_be_bytes([tail[4], tail[5]]))
}

fn good(message: &[u8]) -> bool {
    rcode(message) == 0 && message[7] == 1
}

#[test]
fn an_answer_comes_back_as_the_client_asked() {
    run(async {
        let up = server(|asked| vec![asked.address(60)]).await;
        let forwarder = forwarder(&[&up]);
        let asked = question("WeB.example", sample::A);
        let first = forwarder.answer(&query(9, &asked, Wishes::default(), true), CLIENT).await;
        let want = Message {
            answer: vec![record(ASKED, sample::A, 60, &[192, 0, 2, 1])],
            additional: vec![sample::opt(false, None)],
            ..Message::reply(9, asked, 0)
        };
        assert_eq!(first, want.wire());
        // From the cache, in another case, without EDNS.
        let asked = question("web.EXAMPLE", sample::A);
        let second = forwarder.answer(&query(10, &asked, Wishes::default(), false), CLIENT).await;
        assert_eq!((second[1], &second[12..12 + asked.len()], second[11]), (10, &asked[..], 0));
        assert!(good(&second));
        let counters = forwarder.counters();
        assert_eq!((counters.queries, counters.hits, counters.in_flight, counters.cached), (2, 1, 0, 1));
        assert_eq!((up.asked(), counters.upstreams[0].counters.answered), (1, 1));
    });
}

#[test]
fn the_same_question_is_asked_once() {
    run(async {
        let up = server(|asked| vec![asked.address(60)]).await;
        let forwarder = forwarder(&[&up]);
        let tasks: Vec<_> = (0..50)
            .map(|n| {
                let forwarder = forwarder.clone();
                let source = IpAddr::from([10, 77, 0, n]);
                spawn_local(async move { forwarder.answer(&ask("web.example"), source).await })
            })
            .collect();
        for task in tasks {
            assert!(good(&task.await.unwrap()));
        }
        assert_eq!((up.asked(), forwarder.counters().joined), (1, 49));
    });
}

#[test]
fn lies_do_not_get_in() {
    run(async {
        let liar = server(|asked| {
            let other = question("bank.example", sample::A);
            let records = vec![record(ASKED, sample::A, 60, &[198, 51, 100, 66])];
            let guess = |id: u16, question: Vec<u8>| {
                Message { answer: records.clone(), ..Message::reply(id, question, 0) }.wire()
            };
            let right = asked.address(60);
            vec![guess(asked.id ^ 1, asked.question.clone()), guess(asked.id, other), b"x".to_vec(), right]
        })
        .await;
        let forwarder = forwarder(&[&liar]);
        let got = forwarder.answer(&ask("web.example"), CLIENT).await;
        assert!(good(&got) && got.windows(4).any(|part| part == [192, 0, 2, 1]));

        // One that answers more than was asked is passed over.
        let thief = server(|asked| {
            let stolen = record(&name("bank.example"), sample::A, 60, &[198, 51, 100, 66]);
            let own = record(ASKED, sample::A, 60, &[198, 51, 100, 66]);
            vec![Message { answer: vec![own, stolen], ..asked.reply(0) }.wire()]
        })
        .await;
        let honest = server(|asked| vec![asked.address(60)]).await;
        let two = self::forwarder(&[&thief, &honest]);
        let got = two.answer(&ask("web.example"), CLIENT).await;
        assert!(good(&got) && got.windows(4).any(|part| part == [192, 0, 2, 1]));
        assert_eq!(two.counters().upstreams[0].counters.wrong, 1);
    });
}

#[test]
fn who_guesses_is_left_by_tcp() {
    run(async {
        let up = server(|asked| {
            if asked.tcp {
                return vec![asked.address(60)];
            }
            let guesses = (1..=200_u16).map(|n| {
                let records = vec![record(ASKED, sample::A, 60, &[198, 51, 100, 66])];
                Message { answer: records, ..Message::reply(asked.id ^ n, asked.question.clone(), 0) }.wire()
            });
            guesses.chain([asked.address(60)]).collect()
        })
        .await;
        let got = forwarder(&[&up]).answer(&ask("web.example"), CLIENT).await;
        assert!(good(&got) && got.windows(4).any(|part| part == [192, 0, 2, 1]));
        assert_eq!(up.asked(), 2);
    });
}

#[test]
fn ports_and_numbers_are_never_the_same_twice_in_a_row() {
    run(async {
        let ids = Rc::new(RefCell::new(Vec::new()));
        let log = ids.clone();
        let up = server(move |asked| {
            log.borrow_mut().push(asked.id);
            vec![asked.address(60)]
        })
        .await;
        let forwarder = forwarder(&[&up]);
        for n in 0..40 {
            assert!(good(&forwarder.answer(&ask(&format!("n{n}.example")), CLIENT).await));
        }
        let distinct = |mut values: Vec<u16>| {
            values.sort_unstable();
            values.dedup();
            values.len()
        };
        let ports = up.seen.borrow().iter().map(SocketAddr::port).collect();
        // Of 28,000 ports and 65,536 numbers: fewer than 30 different ones in 40 is no chance.
        assert!(distinct(ports) > 30 && distinct(ids.borrow().clone()) > 30);
    });
}

#[test]
fn what_does_not_fit_comes_by_tcp() {
    run(async {
        let up = server(|asked| {
            if asked.tcp {
                let records = vec![record(ASKED, sample::A, 60, &[192, 0, 2, 1]); 300];
                return vec![Message { answer: records, ..asked.reply(0) }.wire()];
            }
            let mut cut = asked.reply(0);
            cut.flags[0] |= 0x02;
            vec![cut.wire()]
        })
        .await;
        let got = forwarder(&[&up]).answer(&ask("web.example"), CLIENT).await;
        assert_eq!((rcode(&got), &got[6..8], got[2] & 0x02), (0, &300_u16.to_be_bytes()[..], 0));
    });
}

#[test]
fn the_next_server_is_asked_where_one_refuses_or_is_silent() {
    run(async {
        let refuses = server(|asked| vec![asked.reply(5).wire()]).await;
        let fails = server(|asked| vec![asked.reply(2).wire()]).await;
        let silent = server(|_| vec![]).await;
        let works = server(|asked| vec![asked.address(60)]).await;
        let all = forwarder(&[&refuses, &fails, &silent, &works]);
        assert!(good(&all.answer(&ask("one.example"), CLIENT).await));
        assert_eq!([&refuses, &fails, &silent, &works].map(Server::asked), [1; 4]);
        // The silent one goes last now; no is an answer.
        assert!(good(&all.answer(&ask("two.example"), CLIENT).await));
        assert_eq!([&refuses, &fails, &silent, &works].map(Server::asked), [2, 2, 1, 2]);
        let none = forwarder(&[&refuses, &fails]);
        let got = none.answer(&ask("web.example"), CLIENT).await;
        assert_eq!((rcode(&got), reason(&got)), (SERVFAIL, Some(22)));
        // For a second it is not asked again.
        let before = refuses.asked();
        assert_eq!(rcode(&none.answer(&ask("web.example"), CLIENT).await), SERVFAIL);
        assert_eq!(refuses.asked(), before);
    });
}

#[test]
fn a_server_from_before_edns_is_asked_without() {
    run(async {
        let up =
            server(|asked| vec![if asked.edns { asked.reply(1).wire() } else { asked.address(60) }]).await;
        let forwarder = forwarder(&[&up]);
        assert!(good(&forwarder.answer(&ask("one.example"), CLIENT).await));
        assert!(good(&forwarder.answer(&ask("two.example"), CLIENT).await));
        assert_eq!(up.asked(), 3);
    });
}

#[test]
fn a_question_that_was_lost_is_asked_again_without_edns() {
    run(async {
        let up = server(|asked| if asked.before == 0 { vec![] } else { vec![asked.address(60)] }).await;
        let forwarder = forwarder(&[&up]);
        assert!(good(&forwarder.answer(&ask("web.example"), CLIENT).await));
        let counters = forwarder.counters().upstreams[0].counters;
        assert_eq!((counters.asked, counters.answered, counters.failures), (2, 1, 1));
    });
}

#[test]
fn a_silent_upstream_keeps_nobody_waiting_for_long() {
    run(async {
        let up = server(|_| vec![]).await;
        let forwarder = forwarder(&[&up]);
        let begun = Instant::now();
        let got = forwarder.answer(&ask("web.example"), CLIENT).await;
        assert_eq!((rcode(&got), reason(&got)), (SERVFAIL, Some(22)));
        assert!(begun.elapsed() >= PATIENCE);
        // Meanwhile it is still being asked; a late answer is of use to the next one.
        assert_eq!(forwarder.counters().in_flight, 1);
    });
}

#[test]
fn without_servers_or_ways_the_answer_is_there_at_once() {
    run(async {
        let none = Forwarder::new(Settings { upstreams: Source::Named(Vec::new()), ..Settings::default() });
        let got = none.answer(&ask("web.example"), CLIENT).await;
        assert_eq!((rcode(&got), reason(&got)), (SERVFAIL, Some(22)));
        // A link that does not exist.
        let nowhere = vec!["fe80::1%nosuchlink0".parse().unwrap()];
        let nowhere = Forwarder::new(Settings { upstreams: Source::Named(nowhere), ..Settings::default() });
        let got = nowhere.answer(&ask("web.example"), CLIENT).await;
        assert_eq!((rcode(&got), reason(&got)), (SERVFAIL, Some(23)));
        let own = Forwarder::new(Settings {
            upstreams: Source::Named(vec!["169.254.0.2".parse().unwrap()]),
            ..Settings::default()
        });
        own.own_addresses(vec![IpAddr::from([169, 254, 0, 2])]);
        assert_eq!(own.counters().upstreams, []);
    });
}

#[test]
fn what_has_expired_is_said_when_nobody_answers() {
    run(async {
        let up = server(|asked| if asked.before == 0 { vec![asked.address(1)] } else { vec![] }).await;
        let forwarder = forwarder(&[&up]);
        assert!(good(&forwarder.answer(&ask("web.example"), CLIENT).await));
        sleep(Duration::from_millis(1100)).await;
        let begun = Instant::now();
        let stale = forwarder.answer(&ask("web.example"), CLIENT).await;
        assert!(good(&stale) && begun.elapsed() >= PATIENCE);
        assert_eq!(reason(&stale), Some(3));
        let ttl = HEADER_AND_QUESTION + 2 + 4;
        assert_eq!(stale[ttl..ttl + 4], 30_u32.to_be_bytes());
        // Its servers are known not to work now, and it was tried a moment ago: nobody waits, nobody is asked.
        let asked = up.asked();
        assert!(good(&forwarder.answer(&ask("web.example"), CLIENT).await));
        assert_eq!((forwarder.counters().stale, up.asked()), (2, asked));
    });
}

/// Of `web.example`.
const HEADER_AND_QUESTION: usize = 12 + 13 + 4;

#[test]
fn there_is_a_bound_to_what_waits() {
    run(async {
        let up = server(|_| vec![]).await;
        let upstreams = Source::Named(vec![up.upstream.clone()]);
        let patience = Duration::from_mins(1);
        let forwarder = Forwarder::new(Settings { upstreams, patience, ..Settings::default() });
        let mut tasks = Vec::new();
        for client in 0..6 {
            for n in 0..70 {
                let forwarder = forwarder.clone();
                let source = IpAddr::from([10, 77, 0, client]);
                let query = ask(&format!("n{client}-{n}.example"));
                tasks.push(spawn_local(async move { forwarder.answer(&query, source).await }));
            }
        }
        // However busy the machine is, each of them has begun.
        while forwarder.counters().queries < 6 * 70 {
            sleep(Duration::from_millis(1)).await;
        }
        let counters = forwarder.counters();
        assert_eq!((counters.in_flight, counters.dropped), (256, 6 * 70 - 256));
        let (mut refused, mut over) = (0, 0);
        for task in tasks {
            if !task.is_finished() {
                task.abort();
            }
            if let Ok(got) = task.await {
                // On an emulated processor the first may have waited for their whole life by now.
                assert!(rcode(&got) == SERVFAIL && [Some(14), Some(22)].contains(&reason(&got)), "{got:?}");
                *if reason(&got) == Some(14) { &mut refused } else { &mut over } += 1;
            }
        }
        assert_eq!(refused, 6 * 70 - 256);
        assert!(forwarder.clients.borrow().is_empty(), "nobody waits");
        // What nobody waits for any more makes room.
        let late = forwarder.clone();
        let late = spawn_local(async move { late.answer(&ask("late.example"), CLIENT).await });
        while forwarder.counters().queries < 6 * 70 + 1 {
            sleep(Duration::from_millis(1)).await;
        }
        let counters = forwarder.counters();
        assert_eq!(counters.dropped, 6 * 70 - 256);
        assert!(counters.in_flight == 256 || over > 0, "{counters:?}");
        late.abort();
    });
}

#[test]
fn signatures_and_flags_are_asked_for_by_who_wants_them() {
    run(async {
        let flags = Rc::new(RefCell::new(Vec::new()));
        let log = flags.clone();
        let up = server(move |asked| {
            let dnssec = asked.wire[asked.wire.len() - 4] & 0x80 != 0;
            log.borrow_mut().push((asked.wire[3] & 0x30, dnssec));
            let mut reply =
                Message { answer: vec![record(ASKED, sample::A, 60, &[192, 0, 2, 1])], ..asked.reply(0) };
            reply.flags[1] |= 0x20;
            if dnssec {
                reply.answer.push(record(ASKED, sample::RRSIG, 60, &[0; 40]));
            }
            vec![reply.wire()]
        })
        .await;
        let forwarder = forwarder(&[&up]);
        let mut got = Vec::new();
        for (dnssec, unchecked, authentic) in
            [(false, false, false), (true, false, false), (false, true, false), (false, false, true)]
        {
            let wishes = Wishes { dnssec, unchecked, authentic };
            let message =
                forwarder.answer(&query(1, &question("web.example", sample::A), wishes, true), CLIENT).await;
            got.push((message[3] & 0x30, message[7]));
        }
        assert_eq!(*flags.borrow(), [(0, false), (0, true), (0x10, false), (0x20, false)]);
        // AD only where AD or DO was set, CD as the client has it, the signature with DO.
        assert_eq!(got, [(0, 1), (0x20, 2), (0x10, 1), (0x20, 1)]);
    });
}

#[test]
fn the_cluster_is_asked_apart() {
    run(async {
        let uplink = server(|asked| vec![asked.reply(3).wire()]).await;
        let cluster = server(|asked| vec![asked.address(60)]).await;
        let forwarder = Forwarder::new(Settings {
            upstreams: Source::Named(vec![uplink.upstream.clone()]),
            cluster: vec![cluster.upstream.clone()],
            ..Settings::default()
        });
        let query = ask("db.default.svc.cluster.local");
        assert!(good(&forwarder.answer_from(Group::Cluster, &query, CLIENT).await));
        assert_eq!((uplink.asked(), cluster.asked()), (0, 1));
        assert_eq!(rcode(&forwarder.answer(&query, CLIENT).await), 3);
        assert!(good(&forwarder.answer_from(Group::Cluster, &query, CLIENT).await));
    });
}

#[test]
fn an_uplink_that_is_replaced_loses_no_question() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("resolv.conf");
        let forwarder =
            Forwarder::new(Settings { upstreams: Source::Files(vec![path.clone()]), ..Settings::default() });
        assert_eq!(forwarder.counters().upstreams, []);
        let watching = spawn_local(forwarder.clone().watch());
        // A server of TEST-NET-1, which is nowhere: whatever this machine does with it, no answer comes.
        std::fs::write(&path, "nameserver 192.0.2.1\n").unwrap();
        let named = |forwarder: &Forwarder| {
            forwarder.counters().upstreams.iter().map(|one| one.address.clone()).collect::<Vec<_>>()
        };
        while named(&forwarder).is_empty() {
            sleep(Duration::from_millis(1)).await;
        }
        let next = directory.path().join("next");
        std::fs::write(&next, "nameserver 192.0.2.2\nnameserver fe80::1%lo\nnameserver 127.0.0.1\n").unwrap();
        std::fs::rename(&next, &path).unwrap();
        while named(&forwarder) != ["192.0.2.2", "fe80::1%lo"] {
            sleep(Duration::from_millis(1)).await;
        }
        watching.abort();
    });
}

#[test]
fn what_is_known_already_is_said_to_who_wants_no_recursion() {
    run(async {
        let up = server(|asked| vec![asked.address(60)]).await;
        let forwarder = forwarder(&[&up]);
        let mut query = ask("web.example");
        query[2] &= !0x01;
        let got = forwarder.answer(&query, CLIENT).await;
        assert_eq!((rcode(&got), reason(&got), up.asked()), (REFUSED, Some(20), 0));
        assert!(good(&forwarder.answer(&ask("web.example"), CLIENT).await));
        assert!(good(&forwarder.answer(&query, CLIENT).await));
        assert_eq!(up.asked(), 1);
        let got = forwarder.answer(b"ab", CLIENT).await;
        assert_eq!(got, [b'a', b'b', 0x80, 0x81, 0, 0, 0, 0, 0, 0, 0, 0]);
    });
}
