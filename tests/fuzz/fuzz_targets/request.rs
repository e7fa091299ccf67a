//! What a runtime says to a plugin: variables and standard input, and every plugin's reading of them.
//!
//! Input: verb, container, interface and arguments in one line each, then standard input.
#![no_main]

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use libfuzzer_sys::fuzz_target;
use smarter_cni::cni::config::NetConf;
use smarter_cni::cni::request::{self, Call};
use smarter_cni::cni::{Error, Json, Request, SpecVersion, json, wire};
use smarter_cni::plugins::{bridge, host_local, portmap};
use smarter_cni_fuzz::bounded;

fuzz_target!(|input: &[u8]| {
    let mut lines = input.splitn(5, |byte| *byte == b'\n');
    let mut word = || OsString::from_vec(lines.next().unwrap_or_default().to_vec());
    let mut environment = vec![("CNI_PATH".into(), "/opt/cni/bin".into())];
    environment.push(("CNI_NETNS".into(), "/run/netns/x".into()));
    for name in ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_IFNAME", "CNI_ARGS"] {
        environment.push((name.into(), word()));
    }
    let stdin = lines.next().unwrap_or_default();
    bounded(input, || match request::read(environment, stdin) {
        Ok(Call::Run(request)) => plugins(&request),
        Ok(Call::About | Call::Version) => {}
        Err(error) => is_a_reply(&error),
    });
});

fn plugins(request: &Request) {
    let config = &request.config;
    if let Ok(common) = NetConf::decode(config)
        && let Some(previous) = &common.prev_result
    {
        result_survives(previous, request.version);
    }
    for read in [
        bridge::config::Config::parse(config, &request.args).map(|config| {
            let _ = config.refuse_contradictions();
        }),
        host_local::Config::decode(request).map(drop),
        host_local::Config::decode_for_status(request).map(drop),
        portmap::config::Config::parse(request).map(drop),
    ] {
        if let Err(error) = read {
            is_a_reply(&error);
        }
    }
    let _ = bridge::config::RemovalConfig::read(config);
    let _ = portmap::config::ports_leniently(config);
}

/// What was read of a result is written so that it reads the same.
fn result_survives(previous: &json::Object, version: SpecVersion) {
    let Ok(result) = wire::parse_prev_result(previous, version) else { return };
    let Ok(text) = wire::render(&result, version) else { return };
    let Ok(Json::Object(object)) = json::parse(text.as_bytes()) else { panic!("no JSON: {text}") };
    let again = wire::parse_prev_result(&object, version).expect("what was written can be read");
    let once_more = wire::render(&again, version).expect("what was read can be written");
    assert_eq!(text, once_more);
}

fn is_a_reply(error: &Error) {
    let reply = error.reply("1.1.0");
    let reply: serde_json::Value = serde_json::from_str(&reply).expect("a reply is JSON");
    assert!(reply["code"].is_number() && reply["msg"].is_string());
}
