//! The zone beside one that keeps nothing, and goes through all pods for every question.
//!
//! Pure.

use proptest::prelude::*;

use super::tests::{contents, label, said};
use super::*;

/// Labels of names and of what is asked: few, so that they meet. `svc` and `pod` are names of pods, too.
const WORDS: [&str; 7] = ["web", "db", "ns1", "ns2", "svc", "pod", "shop"];

fn pods() -> impl Strategy<Value = Vec<Pod>> {
    let word = || prop::sample::select(&WORDS[..]).prop_map(label);
    let pod = (
        prop::option::of(word()),
        prop::collection::vec(word(), 0..3),
        prop::option::of(word()),
        1_u8..5,
        any::<bool>(),
    );
    let pod = pod.prop_map(|(namespace, mut hosts, subdomain, number, dual)| {
        hosts.dedup();
        let mut addresses = vec![IpAddr::from([10, 77, 0, number])];
        if dual {
            addresses.push(format!("fd77::{number}").parse().unwrap());
        }
        Pod { namespace, hosts, subdomain, addresses }
    });
    prop::collection::vec(pod, 0..5)
}

fn question() -> impl Strategy<Value = (String, Rtype, u8)> {
    let word = prop_oneof![
        4 => prop::sample::select(&WORDS[..]).prop_map(str::to_owned),
        1 => (1_u8..6).prop_map(|number| format!("10-77-0-{number}")),
    ];
    let domain = prop::sample::select(&["", "cluster.local", "edge.example", "ns1.svc.cluster.local"][..]);
    let kind = prop::sample::select(&[Rtype::A, Rtype::AAAA, Rtype::TXT][..]);
    (prop::collection::vec(word, 0..5), domain, kind, 0_u8..6).prop_map(
        |(mut labels, domain, kind, source)| {
            labels.extend((!domain.is_empty()).then(|| domain.to_owned()));
            (if labels.is_empty() { "web".to_owned() } else { labels.join(".") }, kind, source)
        },
    )
}

/// As texts: every name of a host of the pod, and whether it says the namespace.
fn names(pod: &Pod, domain: &str) -> Vec<(String, bool)> {
    let mut names = Vec::new();
    let ns = pod.namespace.as_ref().map(ToString::to_string);
    for (at, host) in pod.hosts.iter().enumerate() {
        if let Some(ns) = &ns {
            names.push((format!("{host}.{ns}.svc.{domain}"), true));
            names.push((format!("{host}.{ns}.pod.{domain}"), true));
            if let Some(subdomain) = pod.subdomain.as_ref().filter(|_| at == 0 || pod.hosts[0] == *host) {
                names.push((format!("{host}.{subdomain}.{ns}.svc.{domain}"), true));
            }
        }
        names.push((format!("{host}.svc.{domain}"), false));
        if host.as_str() != "svc" && host.as_str() != "pod" {
            names.push((format!("{host}.{domain}"), false));
            names.push((format!("{host}.cluster.local"), false));
        }
        names.push((host.to_string(), false));
    }
    if let Some(ns) = &ns {
        for address in &pod.addresses {
            names.push((format!("{}.{ns}.pod.{domain}", address.to_string().replace(['.', ':'], "-")), true));
        }
    }
    names
}

/// The addresses that a pod has under a name.
fn under(pod: &Pod, name: &str, domain: &str) -> Vec<IpAddr> {
    let of_host =
        names(&Pod { addresses: Vec::new(), ..pod.clone() }, domain).iter().any(|(own, _)| own == name);
    let by_address = |address: &&IpAddr| {
        let ns = pod.namespace.as_ref().map(ToString::to_string).unwrap_or_default();
        name == format!("{}.{ns}.pod.{domain}", address.to_string().replace(['.', ':'], "-"))
    };
    if of_host { pod.addresses.clone() } else { pod.addresses.iter().filter(by_address).copied().collect() }
}

fn expected(pods: &[Pod], domain: &str, name: &str, kind: Rtype, source: IpAddr) -> String {
    let apexes = [domain, "cluster.local"];
    let apex = apexes.iter().find(|apex| name == **apex || name.ends_with(&format!(".{apex}")));
    let having: Vec<(&Pod, Vec<IpAddr>)> = pods
        .iter()
        .map(|pod| (pod, under(pod, name, domain)))
        .filter(|(_, addresses)| !addresses.is_empty())
        .collect();
    let says_namespace =
        pods.iter().flat_map(|pod| names(pod, domain)).any(|(own, says)| own == name && says);
    let own: Vec<&Option<Label>> =
        pods.iter().filter(|pod| pod.addresses.contains(&source)).map(|pod| &pod.namespace).collect();
    let of_own = having.iter().find(|(pod, _)| pod.namespace.is_some() && own.contains(&&pod.namespace));
    let first = of_own.map(|(pod, _)| pod.namespace.clone());
    let mut addresses: Vec<IpAddr> = Vec::new();
    for (pod, found) in &having {
        if says_namespace || first.as_ref().is_none_or(|first| *first == pod.namespace) {
            addresses.extend(found);
        }
    }
    addresses.retain(|address| match kind {
        Rtype::A => address.is_ipv4(),
        Rtype::AAAA => address.is_ipv6(),
        _ => false,
    });
    addresses.sort();
    addresses.dedup();
    if !addresses.is_empty() {
        return addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    }
    let fixed = [
        format!("svc.{domain}"),
        format!("pod.{domain}"),
        format!("ns.dns.{domain}"),
        domain.to_owned(),
        "cluster.local".to_owned(),
    ];
    let all: Vec<String> =
        pods.iter().flat_map(|pod| names(pod, domain)).map(|(own, _)| own).chain(fixed).collect();
    let exists = all.iter().any(|own| own == name || (apex.is_some() && own.ends_with(&format!(".{name}"))));
    let zone = match apex {
        Some(apex) => format!("{apex}."),
        None if !name.contains('.') => ".".to_owned(),
        None => return "forward".to_owned(),
    };
    format!("{} {zone}", if exists { "nodata" } else { "nxdomain" })
}

proptest! {
    #[test]
    fn it_says_what_a_walk_through_all_pods_says(
        pods in pods(),
        questions in prop::collection::vec(question(), 1..12),
        other in any::<bool>(),
    ) {
        let domain = if other { "edge.example" } else { "cluster.local" };
        let zone = Zone::build(&Contents { domain: Name::parse(domain).unwrap(), ..contents(pods.clone()) });
        for (name, kind, source) in questions {
            let source = IpAddr::from([10, 77, 0, source]);
            let mut words = said(&zone, &name, kind, source, 0);
            // The order is that of turns, which the reference does not know.
            if let Ok(mut addresses) = words.split(' ').map(str::parse::<IpAddr>).collect::<Result<Vec<_>, _>>() {
                addresses.sort();
                words = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            }
            prop_assert_eq!(words, expected(&pods, domain, &name, kind, source), "{} {} from {}", name, kind, source);
        }
    }
}
