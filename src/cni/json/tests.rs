use proptest::prelude::*;

use super::*;

fn object(text: &str) -> Object {
    match parse(text.as_bytes()) {
        Ok(Json::Object(object)) => object,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn keys_match_in_any_case_and_the_last_one_counts() {
    let document = object(r#"{"bridge":"x1","HostPort":80,"Bridge":"x2"}"#);
    assert_eq!(document.string("bridge").unwrap().as_deref(), Some("x2"));
    assert_eq!(document.integer("hostPort").unwrap(), Some(80));
    assert_eq!(document.entries().len(), 3);
    assert_eq!(object(r#"{"a":1,"a":2}"#).integer("A").unwrap(), Some(2));
}

#[test]
fn null_is_the_same_as_absent() {
    let document = object(r#"{"a":null}"#);
    assert_eq!(document.get("a"), None);
    assert_eq!(document.string("a").unwrap(), None);
    assert_eq!(document.boolean("a").unwrap(), None);
    assert_eq!(document.integer("a").unwrap(), None);
    assert_eq!(document.object("a").unwrap(), None);
    assert_eq!(document.array("a").unwrap(), None);
    assert_eq!(document.strings("a").unwrap(), None);
    assert_eq!(document.objects("a").unwrap(), None);
    assert_eq!(document.address("a").unwrap(), None);
    assert_eq!(document.cidr("a").unwrap(), None);
}

#[test]
fn nothing_is_coerced_and_the_error_says_where_what_and_what_instead() {
    let document = object(
        r#"{"ipam":{"ranges":[[{"subnet":5}],null],"list":["a",null]},
            "i":"1500","f":1500.0,"e":1e3,"b":"true","o":[],"big":18446744073709551616,"u":9223372036854775808}"#,
    );
    let ipam = document.object("ipam").unwrap().unwrap();
    let ranges = ipam.array("ranges").unwrap().unwrap();
    let range = ranges[0].objects("ipam.ranges[0]").unwrap()[0];
    let text = |error: Error| {
        assert_eq!(error.code.number(), 999);
        error.msg
    };
    assert_eq!(
        text(range.cidr("subnet").unwrap_err()),
        "ipam.ranges[0][0].subnet: expected a string, found the number 5"
    );
    assert_eq!(
        text(ranges[1].objects("ipam.ranges[1]").unwrap_err()),
        "ipam.ranges[1]: expected an array of objects, found null"
    );
    assert_eq!(text(ipam.strings("list").unwrap_err()), "ipam.list[1]: expected a string, found null");
    assert_eq!(
        text(ipam.objects("list").unwrap_err()),
        "ipam.list[0]: expected an object, found the string \"a\""
    );
    assert_eq!(text(document.integer("i").unwrap_err()), "i: expected an integer, found the string \"1500\"");
    assert_eq!(text(document.integer("f").unwrap_err()), "f: expected an integer, found the number 1500.0");
    assert_eq!(text(document.integer("e").unwrap_err()), "e: expected an integer, found the number 1000.0");
    assert_eq!(text(document.boolean("b").unwrap_err()), "b: expected a boolean, found the string \"true\"");
    assert_eq!(text(document.object("o").unwrap_err()), "o: expected an object, found an array");
    assert_eq!(text(document.array("ipam").unwrap_err()), "ipam: expected an array, found an object");
    assert!(document.integer("big").is_err());
    assert!(document.integer("u").is_err());
    assert_eq!(
        text(object(r#"{"scope":300}"#).integer_in::<u8>("scope", "0 to 255").unwrap_err()),
        "scope: expected an integer from 0 to 255, found the number 300"
    );
    let long = "é".repeat(100);
    let error = object(&format!(r#"{{"i":"{long}"}}"#)).integer("i").unwrap_err();
    assert_eq!(error.msg, format!("i: expected an integer, found the string \"{}\"…", "é".repeat(64)));
}

#[test]
fn integers_reach_both_ends_of_64_bits() {
    let document = object(r#"{"min":-9223372036854775808,"max":9223372036854775807,"zero":0}"#);
    assert_eq!(document.integer("min").unwrap(), Some(i64::MIN));
    assert_eq!(document.integer("max").unwrap(), Some(i64::MAX));
    assert_eq!(document.integer("zero").unwrap(), Some(0));
}

#[test]
fn white_space_may_follow_and_nothing_else() {
    assert_eq!(parse(b" {} \r\n\t").unwrap(), Json::Object(Object::default()));
    for bad in [
        &b"{}x"[..],
        b"{}{}",
        b"{},",
        b"{}\0",
        b"\xef\xbb\xbf{}",
        b"\xff{}",
        b"{} \xff",
        b"'a'",
        b"{a:1}",
        b"[1,]",
    ] {
        assert_eq!(parse(bad).unwrap_err().code.number(), 6, "{}", bad.escape_ascii());
    }
    for short in [&b""[..], b"  ", b"{", b"{\"a\":", b"\"abc"] {
        assert_eq!(parse(short).unwrap_err().msg, "unexpected end of JSON input", "{}", short.escape_ascii());
    }
}

#[test]
fn what_is_no_unicode_becomes_replacement_characters() {
    let text = |bytes: &[u8]| match parse(bytes) {
        Ok(Json::String(text)) => text,
        other => panic!("{}: {other:?}", bytes.escape_ascii()),
    };
    assert_eq!(text(b"\"a\xffb\""), "a\u{fffd}b");
    assert_eq!(text(b"\"\xe2\x82\""), "\u{fffd}\u{fffd}");
    assert_eq!(text(br#""\ud800""#), "\u{fffd}");
    assert_eq!(text(br#""\uDC00x""#), "\u{fffd}x");
    assert_eq!(text(br#""\ud800\ud83d\ude00""#), "\u{fffd}\u{1f600}");
    assert_eq!(text(br#""\\ud800""#), "\\ud800");
    assert_eq!(text(br#""\\\ud800\n""#), "\\\u{fffd}\n");
    assert_eq!(text("\"\\ud800é\"".as_bytes()), "\u{fffd}é");
    assert!(parse(br#""\ud80""#).is_err());
    assert!(parse(b"\"\\ud800\\").is_err());
}

#[test]
fn depth_is_an_error_and_no_overflow() {
    assert!(parse("[".repeat(100_000).as_bytes()).is_err());
    assert!(parse("{\"a\":".repeat(100_000).as_bytes()).is_err());
    assert!(parse(format!("{}{}", "[".repeat(100), "]".repeat(100)).as_bytes()).is_ok());
}

#[test]
fn the_path_of_an_object_is_cut_and_the_object_is_not() {
    let key = "ké".repeat(1000);
    let document = object(&format!(r#"{{"{key}":{{"a":1}}}}"#));
    let inner = document.object(&key).unwrap().unwrap();
    assert_eq!(inner.integer("a").unwrap(), Some(1));
    assert_eq!(inner.place("a"), format!("{}k….a", "ké".repeat(170)));
}

#[test]
fn addresses_may_be_empty_and_networks_may_not() {
    let document =
        object(r#"{"n":{"ip":"","bad":"10.9.0.0.1","mapped":"::ffff:10.0.0.1","net":"10.1.1.5/024"}}"#);
    let n = document.object("n").unwrap().unwrap();
    assert_eq!(n.address("ip").unwrap(), None);
    assert_eq!(n.address("mapped").unwrap(), Some("10.0.0.1".parse().unwrap()));
    assert_eq!(n.cidr("net").unwrap().unwrap().to_string(), "10.1.1.5/24");
    let error = n.address("bad").unwrap_err();
    assert_eq!((&*error.msg, &*error.details), ("invalid IP address: 10.9.0.0.1", "in n.bad"));
    let error = n.cidr("ip").unwrap_err();
    assert_eq!(
        (error.code.number(), &*error.msg, &*error.details),
        (999, "invalid CIDR address: ", "in n.ip")
    );
}

/// The tree without places, for comparing with what serde_json itself reads.
fn plain(json: &Json) -> serde_json::Value {
    match json {
        Json::Null => serde_json::Value::Null,
        Json::Bool(value) => (*value).into(),
        Json::Number(Number::Integer(value)) => (*value).into(),
        Json::Number(Number::Float(value)) => (*value).into(),
        Json::String(value) => value.clone().into(),
        Json::Array(elements) => elements.iter().map(plain).collect(),
        Json::Object(object) => {
            object.entries().iter().map(|(key, value)| (key.clone(), plain(value))).collect()
        }
    }
}

pub(in crate::cni) fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        (-1000i32..1000).prop_map(|halves| (f64::from(halves) / 2.0).into()),
        ".{0,8}".prop_map(Into::into),
        prop::sample::select(vec![
            "10.0.0.1/24",
            "fd00::1/64",
            "10.0.0.1",
            "::1",
            "1.0.0",
            "0.4.0",
            "0.2.0",
            ""
        ])
        .prop_map(Into::into),
    ];
    let key = prop_oneof![
        ".{0,4}",
        prop::sample::select(vec![
            "cniVersion",
            "name",
            "ipam",
            "type",
            "dns",
            "interfaces",
            "ips",
            "routes",
            "ip4",
            "ip6",
            "ip",
            "address",
            "gateway",
            "dst",
            "gw",
            "mtu",
            "table",
            "scope",
            "interface",
            "nameservers",
            "capabilities",
            "prevResult",
            "cni.dev/valid-attachments",
            "sandbox",
            "mac",
            "code",
            "msg"
        ])
        .prop_map(str::to_owned),
    ];
    leaf.prop_recursive(4, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::hash_map(key.clone(), inner, 0..6)
                .prop_map(|entries| serde_json::Value::Object(entries.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_document_is_read_as_it_is(value in any_json()) {
        let read = plain(&parse(value.to_string().as_bytes()).unwrap());
        // Beyond i64 a number is only something to show.
        let beyond = |text: &str| text.split(|c: char| !c.is_ascii_digit()).any(|digits| digits.len() > 18);
        if !beyond(&value.to_string()) {
            prop_assert_eq!(read, value);
        }
    }

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn no_almost_json_makes_the_parser_panic(
        text in r#"([{}\[\],:"\\]|\\u[dD][89a-f]..|null|true|-?[0-9]{1,3}|e|\.|[a-zé ]){0,24}"#,
    ) {
        let _ = parse(text.as_bytes());
    }
}
