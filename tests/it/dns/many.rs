//! As many pods as a node has, and each asked for in the moment its ADD returns. They are attachments by the plugin, each in a
//! network of its own and without a runtime; `containerd::names` has pods of a real one.

use std::collections::BTreeMap;
use std::thread;

use domain::base::iana::Rcode;

use super::ask::ask;
use super::restart::socket_owner;
use super::*;
use crate::sandbox::sandboxed;

const PODS: usize = 200;
/// Every tenth is a replica of one deployment.
const REPLICAS: usize = 10;

/// Which pods are attached now, by number.
type Pods = BTreeMap<usize, Pod>;

/// `(namespace, name)`.
fn called(number: usize) -> (String, String) {
    let name = if number.is_multiple_of(REPLICAS) { "rep".to_owned() } else { format!("pod{number}") };
    (format!("ns{}", if name == "rep" { 0 } else { number % 3 }), name)
}

fn attached(number: usize) -> (usize, Pod) {
    let (namespace, name) = called(number);
    (number, Pod::in_container(&namespace, &name, &format!("c{number}")))
}

fn full_name(number: usize) -> String {
    let (namespace, name) = called(number);
    format!("{name}.{namespace}.svc.cluster.local")
}

/// Of the pod itself, from its own network.
fn finds_itself((number, pod): (usize, Pod)) -> (usize, Pod) {
    let found = ask(&pod.netns, GATEWAY, &full_name(number));
    let own = pod.address.parse().unwrap();
    let is_right = found
        .as_ref()
        .is_ok_and(|all| all.contains(&own) && (all.len() == 1 || number.is_multiple_of(REPLICAS)));
    assert!(is_right, "pod {number}, whose ADD has returned, is {own}: {found:?}");
    (number, pod)
}

/// Each name has the addresses of its pods, and nothing else has any.
fn all_are_right(pods: &Pods) {
    let mut replicas: Vec<std::net::IpAddr> = Vec::new();
    for number in 0..PODS {
        let expected = pods.get(&number).map(|pod| pod.address.parse().unwrap());
        if number.is_multiple_of(REPLICAS) {
            replicas.extend(expected);
            continue;
        }
        let expected = expected.map(|address| vec![address]).ok_or(Rcode::NXDOMAIN);
        assert_eq!(ask(&Node, GATEWAY, &full_name(number)), expected, "pod {number}");
    }
    replicas.sort_unstable();
    let expected = if replicas.is_empty() { Err(Rcode::NXDOMAIN) } else { Ok(replicas) };
    assert_eq!(ask(&Node, GATEWAY, &full_name(0)), expected);
}

/// Four at a time, as a kubelet does it that has many to start or to end.
fn at_once<T: Send, R: Send>(all: Vec<T>, each: impl Fn(T) -> R + Sync) -> Vec<R> {
    let mut lanes: Vec<Vec<T>> = (0..4).map(|_| Vec::new()).collect();
    for (at, one) in all.into_iter().enumerate() {
        lanes[at % 4].push(one);
    }
    let each = &each;
    thread::scope(|scope| {
        let lane = |lane: Vec<T>| scope.spawn(move || lane.into_iter().map(each).collect::<Vec<_>>());
        let running: Vec<_> = lanes.into_iter().map(lane).collect();
        running.into_iter().flat_map(|lane| lane.join().unwrap()).collect()
    })
}

#[test]
fn two_hundred_attachments_are_found_when_add_returns_and_gone_when_del_does() {
    sandboxed(|| {
        let first = Role::start(&[]);
        let mut pods = Pods::from([attached(0)]);
        // The address that is asked comes with the first pod, and is served when its record was read.
        eventually("the gateway is served", PATIENCE, || answer(&Node, "rep") == pods[&0].address);
        pods.extend(at_once((1..80).collect(), |number| finds_itself(attached(number))));
        all_are_right(&pods);

        // Another one takes over while pods come.
        let (second, more) = thread::scope(|scope| {
            let coming = scope.spawn(|| (80..120).map(attached).map(finds_itself).collect::<Vec<_>>());
            let next = Role::start(&[]);
            eventually("the successor serves", PATIENCE, || socket_owner() == Some(next.child.id()));
            first.end();
            (next, coming.join().unwrap())
        });
        pods.extend(more);
        all_are_right(&pods);

        // It is killed; pods come and go while there is none.
        second.signal("KILL");
        drop(second);
        pods.extend(at_once((120..PODS).collect(), attached));
        at_once((0..40).filter_map(|number| pods.remove(&number)).collect(), |pod| pod.detach());
        let _third = Role::start(&[]);
        all_are_right(&pods);

        let gone = |(number, pod): (usize, Pod)| {
            pod.detach();
            let found = ask(&Node, GATEWAY, &full_name(number));
            let own = pod.address.parse().unwrap();
            let is_right = match &found {
                Ok(others) => number.is_multiple_of(REPLICAS) && !others.contains(&own),
                Err(code) => *code == Rcode::NXDOMAIN,
            };
            assert!(is_right, "pod {number}, whose DEL has returned, was {own}: {found:?}");
        };
        at_once(pods.into_iter().collect(), gone);
        all_are_right(&Pods::new());
    });
}
