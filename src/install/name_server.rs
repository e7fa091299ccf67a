//! Whether pods can be given an address of the node's name server; who uses it says [`crate::datapath::claim`].
//!
//! Pure.

use std::net::Ipv4Addr;

use super::installation::Installation;
use crate::datapath::claim::{self, Use};

/// Refused to a first installation, and said of one that is there: its pods live with what they have. `Ok` is what to say.
pub(super) fn judge(
    wanted: Ipv4Addr,
    earlier: Option<&Installation>,
    bridge: &str,
    uses: &[Use],
) -> Result<Option<String>, String> {
    let Some(taken) = claim::taken(wanted, bridge, uses) else { return Ok(None) };
    let another = match claim::free(bridge, uses) {
        Some(free) => format!("say another address, such as --dns {free}, or --dns off"),
        None => "say another address with --dns, or --dns off".to_owned(),
    };
    let installed = earlier.and_then(|earlier| earlier.settings.get("dns")?.parse().ok());
    if installed == Some(wanted) {
        let gateway = "it stays theirs, and pods find the name server at their gateway";
        return Ok(Some(format!("{taken}; {gateway}; to end this, {another}")));
    }
    Err(format!("{taken}, and would not be reached any more: {another}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::claim::How;

    const OWN: Ipv4Addr = Ipv4Addr::new(169, 254, 0, 2);

    fn disk() -> Vec<Use> {
        let how = How::Connection { port: 3260 };
        vec![Use { network: OWN.into(), interface: String::new(), how, ours: false }]
    }

    fn installed(dns: &str) -> Installation {
        Installation { settings: [("dns".to_owned(), dns.to_owned())].into(), ..Installation::default() }
    }

    #[test]
    fn an_address_of_somebody_else_is_refused_with_what_to_type() {
        assert_eq!(judge(OWN, None, "smartnet0", &[]), Ok(None));
        assert_eq!(
            judge(OWN, None, "smartnet0", &disk()).unwrap_err(),
            "169.254.0.2 is used by somebody else: a connection to its port 3260 is open, and would not be reached any \
             more: say another address, such as --dns 169.254.53.53, or --dns off"
        );
        for other in ["off", "169.254.53.53"] {
            assert!(judge(OWN, Some(&installed(other)), "smartnet0", &disk()).is_err(), "new to this node");
        }
        assert!(judge(OWN, Some(&Installation::default()), "smartnet0", &disk()).is_err());
    }

    #[test]
    fn an_installed_network_stays_and_it_is_said() {
        let said = judge(OWN, Some(&installed("169.254.0.2")), "smartnet0", &disk()).unwrap().unwrap();
        assert!(said.contains("it stays theirs, and pods find the name server at their gateway"), "{said}");
        assert!(said.ends_with("say another address, such as --dns 169.254.53.53, or --dns off"), "{said}");
    }
}
