//! What must go when an attachment goes, decided without touching anything: the reverse of `plan`.
//!
//! Shared things (bridge, gateway, forwarding, masquerade rule) stay: other pods use them, and they do not grow.
//!
//! Pure.

use std::net::IpAddr;

use super::step::{PodStep, Step};
use crate::net::IfName;

/// What is known of an attachment that goes, and what the kernel still carries of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remains {
    /// The host end, when it is there and is ours.
    pub port: Option<IfName>,
    /// The name CNI gave for the container end, when the namespace has such a link. It is removed whoever made it:
    /// the runtime asked for that name to be gone.
    pub pod: Option<IfName>,
    /// The pair is one: removing the host end takes the container end along.
    pub connected: bool,
    /// Where the port was, for neighbour entries.
    pub bridge: Option<IfName>,
    pub addresses: Vec<IpAddr>,
    /// The port's name when its frames were checked.
    pub spoof_check: Option<IfName>,
}

/// Links first: while one is left, the address is in use.
pub fn plan_removal(remains: &Remains) -> Vec<Step> {
    let mut steps = Vec::new();
    if let Some(link) = &remains.port {
        steps.push(Step::RemoveLink { link: link.clone() });
    }
    if let Some(link) = &remains.pod
        && !(remains.connected && remains.port.is_some())
    {
        steps.push(Step::Pod(PodStep::RemoveLink { link: link.clone() }));
    }
    if let Some(port) = &remains.spoof_check {
        steps.push(Step::RemoveSpoofCheck { port: port.clone() });
    }
    for address in &remains.addresses {
        if let Some(link) = &remains.bridge {
            steps.push(Step::ForgetNeighbour { link: link.clone(), address: *address });
        }
        steps.push(Step::ForgetConnections { address: *address });
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(remains: &Remains) -> Vec<String> {
        plan_removal(remains).iter().map(ToString::to_string).collect()
    }

    fn remains() -> Remains {
        Remains {
            port: Some("vethf3a1".parse().unwrap()),
            pod: Some("eth0".parse().unwrap()),
            connected: true,
            bridge: Some("smartnet0".parse().unwrap()),
            addresses: vec!["172.38.0.7".parse().unwrap()],
            spoof_check: None,
        }
    }

    #[test]
    fn removing_the_host_end_takes_the_container_end_along() {
        assert_eq!(
            text(&remains()),
            [
                "node: ip link del vethf3a1",
                "node: ip neigh del 172.38.0.7 dev smartnet0",
                "node: conntrack -D -s 172.38.0.7; conntrack -D -r 172.38.0.7"
            ]
        );
    }

    #[test]
    fn an_interface_of_the_go_plugin_goes_by_the_name_the_runtime_gives() {
        assert_eq!(
            text(&Remains { port: None, connected: false, addresses: vec![], ..remains() }),
            ["pod:  ip link del eth0"]
        );
    }

    #[test]
    fn a_second_removal_has_nothing_to_do() {
        assert_eq!(plan_removal(&Remains::default()), vec![]);
    }
}
