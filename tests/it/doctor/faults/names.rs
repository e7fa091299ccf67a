use serde_json::json;

use super::faults;
use crate::doctor::node::{Kind, Lab, sh};
use crate::stranger::Stranger;

fn with_name_server() -> Kind {
    Kind { keys: json!({"nodeDns": "169.254.0.2"}), ..Kind::default() }
}

/// It came while the bridge had lost the address.
fn instead(stranger: Stranger, lab: &Lab) {
    sh("ip addr del 169.254.0.2/32 dev smartnet0");
    stranger.comes(&lab.world);
}

/// The address, and what is still dropped of the packets that are for it.
const TAKEN: &[(&str, &str)] =
    &[("dns-taken", "address 169.254.0.2"), ("rules-leftover", "table ip smarter-cni")];

faults! {
    a_route_leads_to_the_name_servers_address [kind: with_name_server()]: [TAKEN[0], TAKEN[1]] => 1, |lab: &Lab| {
        instead(Stranger::Route, lab);
    };
    a_neighbour_has_the_name_servers_address [kind: with_name_server()]: [TAKEN[0], TAKEN[1]] => 1, |lab: &Lab| {
        instead(Stranger::Neighbour, lab);
    };
    another_link_has_the_name_servers_address [kind: with_name_server()]: [TAKEN[0], TAKEN[1]] => 1, |lab: &Lab| {
        instead(Stranger::Address, lab);
    };
    a_connection_leads_to_the_name_servers_address [kind: with_name_server()]: [TAKEN[0], TAKEN[1]] => 1, |lab: &Lab| {
        instead(Stranger::Connection, lab);
    };
    somebody_uses_the_address_that_pods_have [kind: with_name_server()]: [("dns-taken", "address 169.254.0.2")] => 1, |lab: &Lab| {
        Stranger::Route.comes(&lab.world);
    };
    somebody_uses_the_address_before_the_first_pod [kind: with_name_server(), pods: 0]: [
        ("dns-taken", "address 169.254.0.2"),
    ] => 1, |lab: &Lab| Stranger::Neighbour.comes(&lab.world);
}
