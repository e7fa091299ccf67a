//! The text forms of IP addresses that configurations, results and `CNI_ARGS` use.
//!
//! As in Go's `net` package, which the reference plugins decode with: an IPv4 address inside IPv6
//! (`::ffff:10.0.0.1`) is the IPv4 address, there are no zones, and no leading zeros in octets.
//!
//! Pure.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

/// `10.0.0.1`, `fd00::1`, `::ffff:10.0.0.1`.
pub fn parse_ip(text: &str) -> Option<IpAddr> {
    text.parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

/// `10.1.1.5/24`; the host part is kept. The prefix may have leading zeros (`/024`).
pub fn parse_cidr(text: &str) -> Option<IpNetwork> {
    let (ip, prefix) = text.split_once('/')?;
    let ip: IpAddr = ip.parse().ok()?;
    if prefix.is_empty() || !prefix.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits = prefix.trim_start_matches('0');
    let prefix: u8 = if digits.is_empty() { 0 } else { digits.parse().ok()? };
    match (ip, ip.to_canonical()) {
        (IpAddr::V6(_), canonical @ IpAddr::V4(_)) => IpNetwork::new(canonical, prefix.checked_sub(96)?).ok(),
        (ip, _) => IpNetwork::new(ip, prefix).ok(),
    }
}

/// A requested address: `10.0.0.1` or `10.0.0.1/24`, whose prefix must be right but does not matter.
pub fn parse_requested_ip(text: &str) -> Option<IpAddr> {
    if text.contains('/') { parse_cidr(text).map(|cidr| cidr.ip()) } else { parse_ip(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_go_reads_them() {
        for (text, ip) in [("10.0.0.1", "10.0.0.1"), ("::ffff:10.0.0.1", "10.0.0.1"), ("FD00::1", "fd00::1")]
        {
            assert_eq!(parse_ip(text), Some(ip.parse().unwrap()), "{text}");
        }
        for bad in
            ["", "10.0.0.01", "10.0.0", "10.0.0.0.1", "fe80::1%eth0", " 10.0.0.1", "10.0.0.1/24", "::1::"]
        {
            assert_eq!(parse_ip(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn networks_keep_their_host_part_and_take_zeros_before_the_prefix() {
        let show = |text| parse_cidr(text).map(|cidr| cidr.to_string());
        assert_eq!(show("10.1.1.5/24").as_deref(), Some("10.1.1.5/24"));
        assert_eq!(show("10.1.1.5/00000000000000000024").as_deref(), Some("10.1.1.5/24"));
        assert_eq!(show("::/0").as_deref(), Some("::/0"));
        assert_eq!(show("0.0.0.0/00").as_deref(), Some("0.0.0.0/0"));
        assert_eq!(show("::ffff:10.0.0.1/120").as_deref(), Some("10.0.0.1/24"));
        for bad in [
            "",
            "/",
            "10.0.0.1",
            "10.0.0.1/",
            "10.0.0.1/33",
            "::1/129",
            "10.0.0.1/+8",
            "10.0.0.1/8/8",
            "::ffff:1.2.3.4/24",
        ] {
            assert_eq!(parse_cidr(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_requested_address_may_carry_a_prefix() {
        assert_eq!(parse_requested_ip("10.0.0.7/24"), parse_ip("10.0.0.7"));
        assert_eq!(parse_requested_ip("10.0.0.7"), parse_ip("10.0.0.7"));
        assert_eq!(parse_requested_ip("10.0.0.7/99"), None);
    }
}
