use proptest::prelude::*;

use super::*;

fn upstream(text: &str) -> Upstream {
    text.parse().unwrap_or_else(|refusal| panic!("{text} {refusal}"))
}

fn servers(text: &str) -> Vec<String> {
    resolv_conf(text).iter().map(ToString::to_string).collect()
}

#[test]
fn servers_are_read_in_the_order_of_the_file() {
    let text = "# made by hand\n; nameserver 192.0.2.9\nsearch a.example\n nameserver 192.0.2.2 # second\r\n\
                nameserver\tfe80::1%eth0\nnameserver 192.0.2.1\nnameserver 192.0.2.2\noptions edns0 trust-ad\n\
                nameserver dns.example\nnameserver\nnameserver 192.0.2.3:53\nnameserverx 192.0.2.4\nnameserver 2001:db8::1";
    assert_eq!(servers(text), ["192.0.2.2", "fe80::1%eth0", "192.0.2.1", "2001:db8::1"]);
    assert_eq!(servers(""), [""; 0]);
    let many: Vec<_> = (0..40).map(|n| format!("nameserver 192.0.2.{n}")).collect();
    assert_eq!(servers(&many.join("\n")).len(), MOST);
}

#[test]
fn what_is_typed_is_read_and_printed_the_same() {
    for text in [
        "192.0.2.1",
        "192.0.2.1:5353",
        "2001:db8::1",
        "[2001:db8::1]:5353",
        "fe80::1%eth0",
        "[fe80::1%eth0]:5353",
        "fe80::1%7",
        "127.0.0.1:5053",
    ] {
        assert_eq!(upstream(text).to_string(), text);
    }
    assert_eq!(upstream("[2001:db8::1]:53").to_string(), "2001:db8::1");
    assert_eq!(upstream("[2001:db8::1]").to_string(), "2001:db8::1");
    for (text, refusal) in [
        ("", Refusal::NoAddress),
        ("dns.example", Refusal::NoAddress),
        ("192.0.2.1:0", Refusal::Port),
        ("192.0.2.1:+53", Refusal::Port),
        ("192.0.2.1:65536", Refusal::Port),
        ("[2001:db8::1]53", Refusal::Port),
        ("[2001:db8::1", Refusal::NoAddress),
        ("fe80::1", Refusal::NeedsScope),
        ("fe80::1%", Refusal::Scope),
        ("fe80::1%0", Refusal::Scope),
        ("fe80::1%a/b", Refusal::Scope),
        ("192.0.2.1%eth0", Refusal::Scope),
    ] {
        assert_eq!(text.parse::<Upstream>(), Err(refusal), "{text}");
    }
}

#[test]
fn nothing_that_leads_back_is_asked() {
    let own: Vec<IpAddr> = ["169.254.0.2", "10.77.0.1", "fd00::1"].map(|text| text.parse().unwrap()).to_vec();
    let found = resolv_conf(
        "nameserver 127.0.0.53\nnameserver ::1\nnameserver 0.0.0.0\nnameserver ::\nnameserver 169.254.0.2\n\
         nameserver 10.77.0.1\nnameserver ::ffff:10.77.0.1\nnameserver ::ffff:127.0.0.1\nnameserver fd00::1\n\
         nameserver 224.0.0.1\nnameserver 255.255.255.255\nnameserver ff02::fb\nnameserver fe80::1\n\
         nameserver 10.77.0.2\nnameserver fe80::1%eth0",
    );
    assert_eq!(found.len(), 15);
    assert_eq!(usable(&found, &own), [upstream("10.77.0.2"), upstream("fe80::1%eth0")]);
}

#[test]
fn a_server_of_the_node_is_asked_where_it_was_named() {
    let own = [IpAddr::from([169, 254, 0, 2]), IpAddr::from([127, 0, 0, 1])];
    let found = ["127.0.0.1:5053", "127.0.0.53", "169.254.0.2", "127.0.0.1", "192.0.2.1"].map(upstream);
    let left: Vec<_> = named(&found, &own).iter().map(ToString::to_string).collect();
    assert_eq!(left, ["127.0.0.1:5053", "127.0.0.53", "192.0.2.1"]);
}

#[test]
fn the_first_source_with_a_server_is_taken() {
    let own = [IpAddr::from([169, 254, 0, 2])];
    let sources = [
        "nameserver 127.0.0.1",
        "",
        "nameserver 169.254.0.2",
        "nameserver 192.0.2.1",
        "nameserver 192.0.2.2",
    ];
    let sources = sources.map(resolv_conf);
    assert_eq!(choose(&sources, &own), Some((3, vec![upstream("192.0.2.1")])));
    assert_eq!(choose(&sources[..3], &own), None);
}

proptest! {
    #[test]
    fn no_text_is_too_strange(text in "(nameserver|[a-z#;]{0,9})?[ \\t]?[0-9a-f:.%\\[\\]+a-z\u{0}é]{0,30}\n?") {
        for found in resolv_conf(&text) {
            prop_assert_eq!(address(&found.to_string()), Ok(found));
        }
        if let Ok(found) = text.parse::<Upstream>() {
            prop_assert_eq!(found.to_string().parse(), Ok(found));
        }
    }
}
