//! Every kind of step is named by a check that exists; consequences are not named beside their cause.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::*;
use crate::datapath::firewall::passage::{self, Traffic};
use crate::datapath::hostports::Entry;
use crate::datapath::hostports::plan::Step as PortStep;
use crate::datapath::step::{FilterStep, PodStep, Step as LinkStep};
use crate::datapath::surplus::{Member, MemberSet, Removal};
use crate::doctor::checks;
use crate::net::{AttachmentId, IfName};
use crate::spec::{Mapping, Protocol};

fn link(name: &str) -> IfName {
    name.parse().unwrap()
}

fn web() -> Subject {
    Subject::Attachment { id: id(), pod: Some("default/web-0".into()) }
}

fn id() -> AttachmentId {
    AttachmentId { network: "smartnet".into(), container: "0a1b2c3d4e5f".into(), if_name: link("eth0") }
}

fn port() -> IfName {
    crate::datapath::mark::host_veth(&id(), 0)
}

fn mapping() -> Mapping {
    let pod = "10.7.0.2".parse().unwrap();
    Mapping { protocol: Protocol::Tcp, host_ip: None, host_port: 8080, pod, pod_port: 80 }
}

fn planned(action: Action, steps: Vec<Step>) -> Vec<Fault> {
    let change = Change { subject: web(), action, steps };
    faults(&Report { changes: vec![change], ..Report::default() }, &[])
}

fn ids(faults: &[Fault]) -> Vec<&'static str> {
    faults.iter().map(|fault| fault.id).collect()
}

fn name_server_steps() -> Vec<LinkStep> {
    let bridge = link("smartnet0");
    let address = Ipv4Addr::new(169, 254, 0, 2);
    vec![
        LinkStep::NameServerAddress { link: bridge.clone(), address },
        LinkStep::Filter(FilterStep::NameServerRules {
            link: bridge.clone(),
            own: Some(address),
            gateways: vec![Ipv4Addr::new(10, 7, 0, 1)],
        }),
        LinkStep::Filter(FilterStep::ReleaseNameServer { address }),
        LinkStep::Filter(FilterStep::GuardNameServer { link: bridge.clone(), address }),
        LinkStep::Filter(FilterStep::LeadNameServer { address, port: Some(9053) }),
        LinkStep::Filter(FilterStep::LeadNameServer { address, port: None }),
        LinkStep::Filter(FilterStep::InterceptNames {
            link: bridge.clone(),
            gateway: "10.7.0.1/24".parse().unwrap(),
        }),
    ]
}

fn link_steps() -> Vec<LinkStep> {
    let (bridge, port, eth0) = (link("smartnet0"), port(), link("eth0"));
    let address = "10.7.0.2/24".parse().unwrap();
    let route = crate::net::Route {
        dst: "0.0.0.0/0".parse().unwrap(),
        gw: None,
        mtu: None,
        advmss: None,
        priority: None,
        table: None,
        scope: None,
    };
    let chain = crate::datapath::firewall::ChainName {
        family: None,
        table: "filter".into(),
        chain: "forward".into(),
    };
    let traffic = Traffic::of(&bridge, &[Family::V4], &[]);
    let change = passage::Change::default();
    let mac = crate::spec::Bridge::derived_mac(&bridge);
    let vlan = crate::net::VlanId::new(7).unwrap();
    let family = Family::V4;
    vec![
        LinkStep::CreateBridge { name: bridge.clone(), mac, mtu: None, vlan_filtering: false },
        LinkStep::Mark { link: bridge.clone(), alias: "smarter-cni bridge -".into() },
        LinkStep::FixMac { link: bridge.clone(), mac },
        LinkStep::Promiscuous { link: bridge.clone() },
        LinkStep::RefuseAdvertisements { link: bridge.clone() },
        LinkStep::Up { link: bridge.clone() },
        LinkStep::Up { link: port.clone() },
        LinkStep::CreateVlanGateway { name: link("smartnet0.7"), port: link("vlan7"), mtu: None },
        LinkStep::RemoveAddress { link: bridge.clone(), address },
        LinkStep::RemoveAddress { link: port.clone(), address },
        LinkStep::AddAddress { link: bridge.clone(), address },
        LinkStep::Forward(family),
        LinkStep::Rename { link: link("other0"), name: port.clone() },
        LinkStep::RemoveLink { link: port.clone() },
        LinkStep::CreateVeth {
            host: port.clone(),
            host_mac: None,
            host_mtu: None,
            bridge: bridge.clone(),
            pod: eth0.clone(),
            mac: None,
            pod_mtu: None,
        },
        LinkStep::Join { link: port.clone(), bridge: bridge.clone() },
        LinkStep::Join { link: link("vlan7"), bridge: bridge.clone() },
        LinkStep::SetPort { link: port.clone(), hairpin: Some(true), isolated: None },
        LinkStep::SetPort { link: port.clone(), hairpin: None, isolated: Some(false) },
        LinkStep::RemoveVlan { link: port.clone(), vlan: 7 },
        LinkStep::AddVlan { link: port.clone(), vlan, native: true },
        LinkStep::SetMtu { link: port.clone(), mtu: 1400 },
        LinkStep::SpoofRule,
        LinkStep::SpoofCheck { port: port.clone(), pod: eth0.clone(), mac: None },
        LinkStep::Pod(PodStep::Sysctl {
            key: "net/ipv6/conf/eth0/accept_dad".into(),
            value: "0",
            required: false,
        }),
        LinkStep::Pod(PodStep::ArpNotify { link: eth0.clone() }),
        LinkStep::Pod(PodStep::Address { link: eth0.clone(), address }),
        LinkStep::Pod(PodStep::Up { link: eth0.clone() }),
        LinkStep::Pod(PodStep::Route { link: eth0.clone(), route: route.clone() }),
        LinkStep::Masquerade { network: "smartnet".into(), subnet: "10.7.0.0/24".parse().unwrap() },
        LinkStep::RemoveRoute { link: port.clone(), route },
        LinkStep::RemoveSpoofCheck { port: port.clone() },
        LinkStep::Filter(FilterStep::GuardForward {
            family,
            rule: true,
            add: BTreeSet::new(),
            remove: BTreeSet::new(),
        }),
        LinkStep::Filter(FilterStep::KeepAdvertisements { link: link("up0") }),
        LinkStep::Filter(FilterStep::ClampMss { family, interface: bridge.clone() }),
        LinkStep::Filter(FilterStep::AcceptForward {
            chain,
            traffic: traffic.clone(),
            change: change.clone(),
        }),
        LinkStep::Filter(FilterStep::AcceptLegacy { family, traffic, change }),
        LinkStep::Pod(PodStep::RemoveLink { link: eth0 }),
    ]
}

fn entries() -> Vec<Entry> {
    let pod = mapping().pod;
    vec![
        Entry::Port(mapping()),
        Entry::PortAt(Family::V4, Protocol::Tcp, 8080),
        Entry::LocalClients(pod),
        Entry::Hairpin(pod),
        Entry::AllClients(pod),
        Entry::Limited("limits".into(), mapping()),
    ]
}

fn port_steps() -> Vec<PortStep> {
    let mut steps = vec![
        PortStep::Base(Family::V4),
        PortStep::Siblings("10.7.0.0/24".parse().unwrap()),
        PortStep::Limits(Family::V4, crate::spec::Limits::default()),
        PortStep::PodLink(Family::V4, link("smartnet0")),
        PortStep::RouteLocalnet(link("smartnet0")),
    ];
    steps.extend(entries().into_iter().map(|entry| PortStep::Add(entry, String::new())));
    steps.extend(entries().into_iter().map(PortStep::Remove));
    steps
}

fn every_step() -> Vec<(Action, Step)> {
    let mut steps: Vec<_> = link_steps()
        .into_iter()
        .chain(name_server_steps())
        .map(|step| (Action::Repair, Step::Link(step)))
        .collect();
    steps.extend(port_steps().into_iter().map(|step| (Action::Repair, Step::Port(step))));
    let removed = [LinkStep::RemoveLink { link: port() }, LinkStep::RemoveSpoofCheck { port: port() }];
    steps.extend(removed.map(|step| (Action::Remove, Step::Link(step))));
    steps.extend(entries().into_iter().map(|entry| (Action::Remove, Step::Port(PortStep::Remove(entry)))));
    let member = Member { family: Family::V6, set: MemberSet::Clamped, interface: link("old0") };
    let intercept = Removal::Intercept(Family::V4, link("old0"));
    let surplus = [Removal::SpoofCheck(port()), Removal::Member(member), intercept];
    steps.extend(surplus.map(|removal| (Action::Remove, Step::Surplus(removal))));
    steps.extend(entries().into_iter().map(|entry| (Action::Remove, Step::Surplus(Removal::Entry(entry)))));
    steps.push((Action::Repair, Step::Lease("/run/l/10.7.0.2".into())));
    steps.push((Action::Repair, Step::Recall { plugin: "bridge".into(), container: "x".into() }));
    steps.push((Action::Remove, Step::Release("/run/l/10.7.0.2".into())));
    steps.push((Action::Remove, Step::Forget { plugin: "bridge".into(), container: "x".into() }));
    steps
}

#[test]
fn every_step_is_named_by_a_check_that_there_is() {
    let known: BTreeSet<_> = checks::all().map(|check| check.id).collect();
    for (action, step) in every_step() {
        let faults = planned(action, vec![step.clone()]);
        assert_eq!(faults.len(), 1, "{step}");
        let fault = &faults[0];
        assert!(known.contains(fault.id), "{step}: {}", fault.id);
        assert!(!fault.object.is_empty() && !fault.found.is_empty() && !fault.fix.is_empty(), "{step}");
        assert!(fault.fix.starts_with(RECONCILE), "{step}: {}", fault.fix);
    }
}

#[test]
fn whatever_is_planned_at_once_something_is_named() {
    let (repairs, removals): (Vec<_>, Vec<_>) =
        every_step().into_iter().partition(|(action, _)| *action == Action::Repair);
    for (action, steps) in [(Action::Repair, repairs), (Action::Remove, removals)] {
        for first in &steps {
            for second in &steps {
                let both = vec![first.1.clone(), second.1.clone()];
                assert!(!planned(action, both).is_empty(), "{} and {}", first.1, second.1);
            }
        }
    }
}

#[test]
fn of_one_cause_a_person_reads_once() {
    let bridge = link("smartnet0");
    let created = LinkStep::CreateBridge {
        mac: crate::spec::Bridge::derived_mac(&bridge),
        name: bridge.clone(),
        mtu: None,
        vlan_filtering: false,
    };
    let join = LinkStep::Join { link: port(), bridge: bridge.clone() };
    let flags = LinkStep::SetPort { link: port(), hairpin: Some(true), isolated: None };
    let steps = [created, LinkStep::Up { link: bridge }, join.clone(), flags.clone()];
    let steps = steps.into_iter().map(Step::Link).collect();
    assert_eq!(ids(&planned(Action::Repair, steps)), ["bridge-missing"]);
    let steps = vec![Step::Link(join), Step::Link(flags)];
    assert_eq!(ids(&planned(Action::Repair, steps)), ["pod-port-detached"]);
}

#[test]
fn without_the_table_nothing_in_it_is_named_alone() {
    let guard = LinkStep::Filter(FilterStep::GuardForward {
        family: Family::V4,
        rule: true,
        add: BTreeSet::new(),
        remove: BTreeSet::new(),
    });
    let add = PortStep::Add(Entry::Port(mapping()), String::new());
    let steps = vec![Step::Link(guard), Step::Port(add)];
    let change = Change { subject: web(), action: Action::Repair, steps };
    let report = Report { changes: vec![change], ..Report::default() };
    assert_eq!(ids(&faults(&report, &[Family::V6])), ["table-incomplete", "hostport-missing"]);
    let gone = faults(&report, &[Family::V4]);
    assert_eq!(ids(&gone), ["table-missing", "table-missing"]);
    assert_eq!(merged(gone.into_iter()).len(), 1);
}

#[test]
fn what_could_not_be_looked_at_is_no_problem_and_not_passed_over() {
    let refused = |obstacle: Obstacle| Failure {
        subject: web(),
        step: None,
        reason: "Permission denied".into(),
        obstacle,
    };
    let plan = Report { failures: vec![refused(Obstacle::Refused)], ..Report::default() };
    assert_eq!(faults(&plan, &[]), vec![]);
    let evidence = Evidence { plan: Some(Ok(plan)), ..Evidence::default() };
    let found = verdict(&evidence, BLOCKED).unwrap();
    assert!(matches!(found.as_slice(), [Finding::Unknown { .. }]), "{found:?}");
    let plan = Report { failures: vec![refused(Obstacle::NoPromise)], ..Report::default() };
    assert_eq!(ids(&faults(&plan, &[])), [BLOCKED]);
}
