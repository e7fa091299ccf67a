//! The fields that every network configuration shares (CNI SPEC "Section 1: Network configuration format").
//!
//! All of them are type-checked, also those a plugin does not use, as the reference plugins do. What only one
//! plugin understands is decoded by that plugin.
//!
//! Pure.

use super::error::Result;
use super::json::{Json, Object, mismatch};
use super::result::Dns;

/// The common part of a configuration. `None` means absent, `null` or empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NetConf {
    /// `type`: the plugin's own name.
    pub plugin_type: Option<String>,
    pub capabilities: Vec<(String, bool)>,
    /// `ipam.type`; without it there is no address management.
    pub ipam_type: Option<String>,
    /// `dns`, when it says anything: any of its lists is there (even empty) or its domain is not empty. It
    /// then replaces what the address management says.
    pub dns: Option<Dns>,
    /// Not decoded: see [`super::wire::parse_prev_result`]. `{}` is present.
    pub prev_result: Option<Object>,
    /// `cni.dev/valid-attachments` of GC: (containerID, ifname). `null` is the empty list.
    pub valid_attachments: Option<Vec<(String, String)>>,
}

impl NetConf {
    pub fn decode(config: &Object) -> Result<Self> {
        config.text("cniVersion")?;
        config.text("name")?;
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        let plugin_type = filled(config.string("type")?);
        let capabilities = capabilities(config)?;
        let ipam_type = match config.object("ipam")? {
            Some(ipam) => filled(ipam.string("type")?),
            None => None,
        };
        let dns = match config.object("dns")? {
            Some(object) => {
                let dns = dns(object)?;
                let lists = ["nameservers", "search", "options"];
                let says_something =
                    !dns.domain.is_empty() || lists.iter().any(|key| object.get(key).is_some());
                says_something.then_some(dns)
            }
            None => None,
        };
        let prev_result = config.object("prevResult")?.cloned();
        let valid_attachments = valid_attachments(config)?;
        Ok(Self { plugin_type, capabilities, ipam_type, dns, prev_result, valid_attachments })
    }
}

fn capabilities(config: &Object) -> Result<Vec<(String, bool)>> {
    let Some(object) = config.object("capabilities")? else { return Ok(Vec::new()) };
    let capability = |(name, value): &(String, Json)| match value {
        Json::Bool(wanted) => Ok((name.clone(), *wanted)),
        Json::Null => Ok((name.clone(), false)),
        other => Err(mismatch(&object.place(name), "a boolean", other)),
    };
    object.entries().iter().map(capability).collect()
}

/// The runtimes' library writes an empty list as `null`. Only without the key nobody said which attachments are valid.
fn valid_attachments(config: &Object) -> Result<Option<Vec<(String, String)>>> {
    let key = "cni.dev/valid-attachments";
    let Some(objects) = config.objects(key)? else { return Ok(config.mentions(key).then(Vec::new)) };
    let attachment = |object: &Object| {
        Ok((object.string("containerID")?.unwrap_or_default(), object.string("ifname")?.unwrap_or_default()))
    };
    objects.into_iter().map(attachment).collect::<Result<_>>().map(Some)
}

/// A `dns` object, of a configuration or of a result.
pub fn dns(object: &Object) -> Result<Dns> {
    Ok(Dns {
        nameservers: object.strings("nameservers")?.unwrap_or_default(),
        domain: object.string("domain")?.unwrap_or_default(),
        search: object.strings("search")?.unwrap_or_default(),
        options: object.strings("options")?.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cni::json;

    fn decode(text: &str) -> Result<NetConf> {
        let Json::Object(object) = json::parse(text.as_bytes()).unwrap() else { panic!("{text}") };
        NetConf::decode(&object)
    }

    #[test]
    fn the_common_fields_are_read() {
        let conf = decode(
            r#"{"cniVersion":"1.1.0","name":"n","Type":"bridge","capabilities":{"portMappings":true,"mac":null},
                "ipam":{"type":"host-local"},"prevResult":{},
                "cni.dev/valid-attachments":[{"containerID":"a","ifname":"eth0"},{}],
                "dns":{"nameservers":["1.1.1.1"],"domain":"d","search":["s"],"options":["o"]}}"#,
        )
        .unwrap();
        assert_eq!(conf.plugin_type.as_deref(), Some("bridge"));
        assert_eq!(conf.ipam_type.as_deref(), Some("host-local"));
        assert_eq!(conf.capabilities, [("portMappings".to_owned(), true), ("mac".to_owned(), false)]);
        let one = |text: &str| vec![text.to_owned()];
        let dns =
            Dns { nameservers: one("1.1.1.1"), domain: "d".to_owned(), search: one("s"), options: one("o") };
        assert_eq!(conf.dns, Some(dns));
        assert!(conf.prev_result.is_some_and(|object| object.entries().is_empty()));
        let attachments = [("a".to_owned(), "eth0".to_owned()), (String::new(), String::new())];
        assert_eq!(conf.valid_attachments.as_deref(), Some(&attachments[..]));
    }

    #[test]
    fn absent_null_and_empty_are_none() {
        let nothing = NetConf::default();
        assert_eq!(decode("{}").unwrap(), nothing);
        let nulls = r#"{"cniVersion":null,"name":null,"type":null,"capabilities":null,"ipam":null,"dns":null,
                        "prevResult":null}"#;
        assert_eq!(decode(nulls).unwrap(), nothing);
        assert_eq!(
            decode(r#"{"type":"","ipam":{"type":""},"dns":{"domain":""},"capabilities":{}}"#).unwrap(),
            nothing
        );
        for none in ["[]", "null"] {
            let none_valid = decode(&format!(r#"{{"CNI.dev/valid-attachments":{none}}}"#)).unwrap();
            assert_eq!(none_valid.valid_attachments, Some(vec![]), "{none}");
        }
    }

    #[test]
    fn an_empty_dns_list_says_something_too() {
        for text in ["nameservers", "search", "options"] {
            assert_eq!(decode(&format!(r#"{{"dns":{{"{text}":[]}}}}"#)).unwrap().dns, Some(Dns::default()));
            assert_eq!(decode(&format!(r#"{{"dns":{{"{text}":null}}}}"#)).unwrap().dns, None);
        }
    }

    #[test]
    fn every_field_is_type_checked_even_if_nobody_uses_it() {
        for (text, says) in [
            (r#"{"cniVersion":1}"#, "cniVersion: expected a string, found the number 1"),
            (r#"{"name":{}}"#, "name: expected a string, found an object"),
            (r#"{"type":[]}"#, "type: expected a string, found an array"),
            (
                r#"{"capabilities":{"mac":"true"}}"#,
                "capabilities.mac: expected a boolean, found the string \"true\"",
            ),
            (r#"{"capabilities":[]}"#, "capabilities: expected an object, found an array"),
            (r#"{"ipam":"host-local"}"#, "ipam: expected an object, found the string \"host-local\""),
            (r#"{"ipam":{"type":true}}"#, "ipam.type: expected a string, found the boolean true"),
            (
                r#"{"dns":{"nameservers":"1.1.1.1"}}"#,
                "dns.nameservers: expected an array, found the string \"1.1.1.1\"",
            ),
            (r#"{"dns":{"search":[null]}}"#, "dns.search[0]: expected a string, found null"),
            (r#"{"prevResult":[]}"#, "prevResult: expected an object, found an array"),
            (
                r#"{"cni.dev/valid-attachments":[null]}"#,
                "cni.dev/valid-attachments[0]: expected an object, found null",
            ),
            (
                r#"{"cni.dev/valid-attachments":[{"ifname":1}]}"#,
                "cni.dev/valid-attachments[0].ifname: expected a string, found the number 1",
            ),
        ] {
            let error = decode(text).unwrap_err();
            assert_eq!((error.code.number(), &*error.msg), (999, says));
        }
    }

    proptest! {
        #[test]
        fn no_document_makes_decoding_panic(value in json::tests::any_json()) {
            if let Ok(Json::Object(object)) = json::parse(value.to_string().as_bytes()) {
                let _ = NetConf::decode(&object);
            }
        }
    }
}
