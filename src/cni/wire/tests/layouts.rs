use super::*;

/// Indented as on the wire, from a compact text with one space per level and no commas lost.
fn wire(lines: &[&str]) -> String {
    let indented = lines.iter().map(|line| {
        let text = line.trim_start_matches(' ');
        format!("{}{text}", "    ".repeat(line.len() - text.len()))
    });
    indented.collect::<Vec<_>>().join("\n")
}

#[test]
fn since_1_0_0_all_keys_are_alphabetical() {
    for version in [SpecVersion::V1_0_0, SpecVersion::V1_1_0] {
        let first = format!(" \"cniVersion\": \"{version}\",");
        let wanted = wire(&[
            "{",
            &first,
            " \"dns\": {",
            "  \"domain\": \"d\",",
            "  \"nameservers\": [",
            "   \"1.1.1.1\"",
            "  ],",
            "  \"options\": [",
            "   \"o\"",
            "  ],",
            "  \"search\": [",
            "   \"s\"",
            "  ]",
            " },",
            " \"interfaces\": [",
            "  {",
            "   \"mac\": \"02:00:00:00:00:01\",",
            "   \"name\": \"veth\\u003c1\\u003e\"",
            "  },",
            "  {",
            "   \"mtu\": 1400,",
            "   \"name\": \"eth0\",",
            "   \"pciID\": \"0000:00\",",
            "   \"sandbox\": \"/run/netns/x\",",
            "   \"socketPath\": \"/s\"",
            "  }",
            " ],",
            " \"ips\": [",
            "  {",
            "   \"address\": \"10.1.2.5/24\",",
            "   \"gateway\": \"10.1.2.1\",",
            "   \"interface\": 0",
            "  },",
            "  {",
            "   \"address\": \"fd00::5/64\"",
            "  },",
            "  {",
            "   \"address\": \"10.3.0.1/8\",",
            "   \"interface\": 1",
            "  }",
            " ],",
            " \"routes\": [",
            "  {",
            "   \"dst\": \"0.0.0.0/0\",",
            "   \"gw\": \"10.1.2.1\"",
            "  },",
            "  {",
            "   \"dst\": \"::/0\",",
            "   \"gw\": \"fd00::1\"",
            "  },",
            "  {",
            "   \"advmss\": 1200,",
            "   \"dst\": \"10.9.0.0/16\",",
            "   \"mtu\": 1300,",
            "   \"priority\": 7,",
            "   \"scope\": 0,",
            "   \"table\": 0",
            "  }",
            " ]",
            "}",
        ]);
        assert_eq!(render(&full(), version).unwrap(), wanted);
    }
}

#[test]
fn from_0_3_0_addresses_say_their_family_and_dns_is_last() {
    for version in [SpecVersion::V0_3_0, SpecVersion::V0_3_1, SpecVersion::V0_4_0] {
        let first = format!(" \"cniVersion\": \"{version}\",");
        let wanted = wire(&[
            "{",
            &first,
            " \"interfaces\": [",
            "  {",
            "   \"name\": \"veth\\u003c1\\u003e\",",
            "   \"mac\": \"02:00:00:00:00:01\"",
            "  },",
            "  {",
            "   \"name\": \"eth0\",",
            "   \"sandbox\": \"/run/netns/x\"",
            "  }",
            " ],",
            " \"ips\": [",
            "  {",
            "   \"version\": \"4\",",
            "   \"interface\": 0,",
            "   \"address\": \"10.1.2.5/24\",",
            "   \"gateway\": \"10.1.2.1\"",
            "  },",
            "  {",
            "   \"version\": \"6\",",
            "   \"address\": \"fd00::5/64\"",
            "  },",
            "  {",
            "   \"version\": \"4\",",
            "   \"interface\": 1,",
            "   \"address\": \"10.3.0.1/8\"",
            "  }",
            " ],",
            " \"routes\": [",
            "  {",
            "   \"dst\": \"0.0.0.0/0\",",
            "   \"gw\": \"10.1.2.1\"",
            "  },",
            "  {",
            "   \"dst\": \"::/0\",",
            "   \"gw\": \"fd00::1\"",
            "  },",
            "  {",
            "   \"dst\": \"10.9.0.0/16\",",
            "   \"mtu\": 1300,",
            "   \"advmss\": 1200,",
            "   \"priority\": 7,",
            "   \"table\": 0,",
            "   \"scope\": 0",
            "  }",
            " ],",
            " \"dns\": {",
            "  \"nameservers\": [",
            "   \"1.1.1.1\"",
            "  ],",
            "  \"domain\": \"d\",",
            "  \"search\": [",
            "   \"s\"",
            "  ],",
            "  \"options\": [",
            "   \"o\"",
            "  ]",
            " }",
            "}",
        ]);
        assert_eq!(render(&full(), version).unwrap(), wanted);
    }
}

#[test]
fn before_0_3_0_there_is_one_address_per_family_with_its_routes() {
    let result = AddResult { dns: Dns::default(), ..full() };
    for version in [SpecVersion::V0_1_0, SpecVersion::V0_2_0] {
        let first = format!(" \"cniVersion\": \"{version}\",");
        let wanted = wire(&[
            "{",
            &first,
            " \"ip4\": {",
            "  \"ip\": \"10.1.2.5/24\",",
            "  \"gateway\": \"10.1.2.1\",",
            "  \"routes\": [",
            "   {",
            "    \"dst\": \"0.0.0.0/0\",",
            "    \"gw\": \"10.1.2.1\"",
            "   },",
            "   {",
            "    \"dst\": \"10.9.0.0/16\"",
            "   }",
            "  ]",
            " },",
            " \"ip6\": {",
            "  \"ip\": \"fd00::5/64\",",
            "  \"routes\": [",
            "   {",
            "    \"dst\": \"::/0\",",
            "    \"gw\": \"fd00::1\"",
            "   }",
            "  ]",
            " },",
            " \"dns\": {}",
            "}",
        ]);
        assert_eq!(render(&result, version).unwrap(), wanted);
    }
}

#[test]
fn before_0_3_0_a_route_needs_an_address_of_its_family() {
    let mut result = full();
    result.ips.retain(|ip| ip.address.is_ipv6());
    let text = render(&result, SpecVersion::V0_2_0).unwrap();
    assert!(text.contains("\"dst\": \"::/0\"") && !text.contains("0.0.0.0/0") && !text.contains("ip4"));
}

#[test]
fn an_empty_result_has_a_layout_of_its_own_in_each_version() {
    for version in SpecVersion::ALL {
        let rendered = render(&AddResult::default(), version);
        match Layout::of(version) {
            Layout::Ip4Ip6 => {
                let error = rendered.unwrap_err();
                assert_eq!(
                    (error.code.number(), &*error.msg),
                    (999, "cannot convert: no valid IP addresses")
                );
            }
            Layout::Lists => {
                assert_eq!(
                    rendered.unwrap(),
                    format!("{{\n    \"cniVersion\": \"{version}\",\n    \"dns\": {{}}\n}}")
                );
            }
            Layout::Sorted => {
                assert_eq!(rendered.unwrap(), format!("{{\n    \"cniVersion\": \"{version}\"\n}}"));
            }
        }
    }
}

#[test]
fn zeros_and_empty_texts_are_left_out_except_where_they_mean_something() {
    let mut result = full();
    result.interfaces = vec![Interface {
        mac: Some(String::new()),
        mtu: Some(0),
        sandbox: Some(String::new()),
        ..Interface::default()
    }];
    result.routes =
        vec![Route { mtu: Some(0), advmss: Some(0), priority: Some(0), ..route("10.0.0.0/8", "") }];
    for version in &SpecVersion::ALL[2..] {
        let text: String = render(&result, *version).unwrap().split_whitespace().collect();
        assert!(text.contains(r#""interfaces":[{"name":""}]"#), "{text}");
        assert!(text.contains(r#""routes":[{"dst":"10.0.0.0/8"}]"#), "{text}");
    }
}
