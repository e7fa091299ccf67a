use proptest::prelude::*;
use serde_json::json;

use super::*;

fn hidden(text: &str) -> String {
    Pseudonyms::new(["edge-1.example.com"]).text(text)
}

#[test]
fn the_same_address_has_the_same_name_and_prefixes_stay() {
    for (text, expected) in [
        ("10.7.0.1/24 via 10.7.0.2 and 10.7.0.1", "ip4-1/24 via ip4-2 and ip4-1"),
        ("fd07::1/64, FD07:0::1", "ip6-1/64, ip6-1"),
        ("[fd07::1]:8080 192.0.2.1:80", "[ip6-1]:8080 ip4-2:80"),
        ("::ffff:10.7.0.1 is 10.7.0.1.", "::ffff:ip4-1 is ip4-1."),
        ("link/ether 02:00:5e:10:00:01 brd ff:ff:ff:ff:ff:ff", "link/ether mac-1 brd ff:ff:ff:ff:ff:ff"),
        ("MAC=02:00:00:00:00:01:02:00:00:00:00:02:08:00", "MAC=mac-1:mac-2:08:00"),
        ("enx02005e100001 and 02:00:5e:10:00:01", "enxmac-1 and mac-1"),
        ("dnat ip to 0x0a070001 . 0x0050; 10.7.0.1", "dnat ip to 0xip4-1 . 0x0050; ip4-1"),
        ("fe80::1%eth0", "ip6-1%eth0"),
        ("Edge-1 edge-1.example.com edge-10 edge-1-eth", "node node edge-10 node-eth"),
    ] {
        assert_eq!(hidden(text), expected);
    }
}

#[test]
fn what_says_nothing_about_anybody_stays() {
    for text in [
        "127.0.0.1 0.0.0.0/0 255.255.255.0 224.0.0.251 239.1.1.1",
        "::1 ::/0 ff02::1 ff02::fb",
        "00:00:00:00:00:00",
        "12:34:56 2026-11-30T01:02:03 Linux 6.1.0-13 tcp 8080:80",
        "smarter-cni 0.1.0, veth0a1b2c3d, 3f1c2a9be07d, fwmark 0x0000ffff",
    ] {
        assert_eq!(hidden(text), text);
    }
    assert_eq!(hidden("ff02::1:ffab:cdef"), "ip6-1", "it ends as an address does");
}

#[test]
fn keys_and_values_of_json_are_hidden_and_numbers_are_not() {
    let mut value = json!({"10.7.0.1": ["at 10.7.0.1", 10, true], "b": {"mac": "02:00:5e:10:00:01"}});
    Pseudonyms::new(["7"]).json(&mut value);
    assert_eq!(value, json!({"ip4-1": ["at ip4-1", 10, true], "b": {"mac": "mac-1"}}));
}

/// Not one that everybody has.
fn address() -> impl Strategy<Value = IpAddr> {
    let v4 = any::<[u8; 4]>().prop_map(|bytes| IpAddr::from(Ipv4Addr::from(bytes)));
    let v6 = any::<[u16; 8]>().prop_map(|parts| IpAddr::from(Ipv6Addr::from(parts)));
    prop_oneof![v4, v6].prop_filter("says something", |address| !is_public_knowledge(*address))
}

proptest! {
    #[test]
    fn no_address_survives_whatever_stands_around_it(
        addresses in prop::collection::vec((address(), "[ -~\n\t]{0,8}"), 1..6), end in "[ -~]{0,8}",
    ) {
        let words: Vec<_> = addresses.iter().map(|(address, before)| format!("{before} {address}")).collect();
        let text = words.concat();
        let clean = hidden(&format!("{text} {end}"));
        for (address, _) in &addresses {
            // As a whole: 1.2.3.4 is a part of 11.2.3.4.
            let words = clean.split(|c: char| !is_of_address(c));
            prop_assert!(!words.clone().any(|word| word.parse() == Ok(*address)), "{} in {}", address, clean);
        }
    }

    /// Letters that JSON and C put before an escaped character are digits of hexadecimal numbers.
    #[test]
    fn no_address_survives_behind_what_is_nearly_one_of_its_letters(
        address in address(), before in prop::sample::select(&["\\b", "\\f", "a", "0", "x0a", "n", "=", "::ffff:"][..]),
    ) {
        let clean = hidden(&format!("{before}{address}"));
        let text = address.to_string();
        prop_assert!(!clean.contains(&text), "{} in {}", text, clean);
    }

    #[test]
    fn no_mac_survives(mac in any::<[u8; 6]>(), before in "[ -~]{0,6}", end in "[ -~]{0,6}") {
        prop_assume!(mac != [0; 6] && mac != [0xff; 6]);
        let text = crate::net::Mac(mac).to_string();
        let clean = hidden(&format!("{before} {text} {end}"));
        prop_assert!(!clean.contains(&text), "{} in {}", text, clean);
    }

    #[test]
    fn the_host_does_not_survive(before in "[ -~]{0,6}[ /\"]", end in "[ /\".-][ -~]{0,6}") {
        let clean = hidden(&format!("{before}edge-1{end}"));
        prop_assert!(!clean.contains("edge-1"), "{}", clean);
    }
}
