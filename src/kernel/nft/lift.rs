//! Instructions as words again, for rules that somebody else wrote. For people, best effort: what has no short
//! word stands in brackets.

use std::collections::HashMap;
use std::fmt::Write;
use std::net::IpAddr;

use super::bytecode::Instruction;
use super::data::protocol_name;
use super::number::{
    CT_STATE, CT_STATUS, FIB_ADDRTYPE, LINK_HEADER, META_IIFNAME, META_L4PROTO, META_MARK, META_NFPROTO,
    META_OIFNAME, META_PROTOCOL, NETWORK_HEADER, RTN_LOCAL, TRANSPORT_HEADER, VERDICT_ACCEPT, VERDICT_DROP,
    VERDICT_GOTO, VERDICT_JUMP, VERDICT_RETURN,
};

/// The text of a rule, as near to `nft` as a line of a report needs.
pub(super) fn text(instructions: &[Instruction]) -> String {
    let mut words = Vec::new();
    // What is in which register.
    let mut loaded: HashMap<u32, String> = HashMap::new();
    for instruction in instructions {
        if let Some((register, what)) = load(instruction, &loaded) {
            loaded.insert(register, what);
        } else {
            words.push(act(instruction, &loaded));
        }
    }
    words.join(" ")
}

fn load(instruction: &Instruction, loaded: &HashMap<u32, String>) -> Option<(u32, String)> {
    Some(match instruction {
        Instruction::Meta { key, register } => (*register, meta(*key)),
        Instruction::Payload { base, offset, length, register } => {
            (*register, field(*base, *offset, *length))
        }
        Instruction::Conntrack { key: CT_STATE, register } => (*register, "ct state".to_owned()),
        Instruction::Conntrack { key: CT_STATUS, register } => (*register, "ct status".to_owned()),
        Instruction::Conntrack { key, register } => (*register, format!("ct key {key}")),
        Instruction::Fib { result, register, .. } => {
            (*register, if *result == FIB_ADDRTYPE { "fib daddr type" } else { "fib" }.to_owned())
        }
        Instruction::Bitwise { register, mask, xor } if xor.iter().all(|byte| *byte == 0) => {
            (*register, format!("{} & {}", name(loaded, *register), hex(mask)))
        }
        Instruction::Bitwise { register, mask, xor } => {
            (*register, format!("{} & {} ^ {}", name(loaded, *register), hex(mask), hex(xor)))
        }
        Instruction::Immediate { register, data } => (*register, hex(data)),
        Instruction::RouteMss { register } => (*register, "rt mtu".to_owned()),
        Instruction::ToNetworkOrder { register } => (*register, name(loaded, *register)),
        Instruction::Lookup { set, register, result: Some(result), .. } => {
            (*result, format!("{} map @{set}", name(loaded, *register)))
        }
        _ => return None,
    })
}

fn name(loaded: &HashMap<u32, String>, register: u32) -> String {
    loaded.get(&register).cloned().unwrap_or_else(|| format!("[register {register}]"))
}

fn act(instruction: &Instruction, loaded: &HashMap<u32, String>) -> String {
    match instruction {
        Instruction::Compare { register, op, data } => {
            let what = name(loaded, *register);
            let op = ["", "!= ", "< ", "<= ", "> ", ">= "]
                .get(usize::try_from(op.0).unwrap_or(usize::MAX))
                .unwrap_or(&"? ");
            format!("{what} {op}{}", value(&what, data))
        }
        Instruction::Lookup { set, register, inverted, .. } => {
            format!("{} {}@{set}", name(loaded, *register), if *inverted { "!= " } else { "" })
        }
        Instruction::SetMeta { key, register } => format!("{} set {}", meta(*key), name(loaded, *register)),
        Instruction::Verdict { code, chain } => verdict(*code, chain.as_deref()),
        Instruction::Masquerade => "masquerade".to_owned(),
        Instruction::Dnat { address, .. } => format!("dnat to {}", name(loaded, *address)),
        Instruction::Counter => "counter".to_owned(),
        Instruction::WriteMss { register } => {
            format!("tcp option maxseg size set {}", name(loaded, *register))
        }
        Instruction::XtMatch { name, info, .. } if name == "comment" => {
            let text = info.split(|byte| *byte == 0).next().unwrap_or_default();
            format!("comment \"{}\"", String::from_utf8_lossy(text))
        }
        Instruction::XtMatch { name, .. } => format!("[xt match {name}]"),
        Instruction::Other { name, .. } => format!("[{name}]"),
        other => format!("[{other:?}]"),
    }
}

fn verdict(code: u32, chain: Option<&str>) -> String {
    let chain = chain.unwrap_or_default();
    match code {
        VERDICT_ACCEPT => "accept".to_owned(),
        VERDICT_DROP => "drop".to_owned(),
        VERDICT_RETURN => "return".to_owned(),
        VERDICT_JUMP => format!("jump {chain}"),
        VERDICT_GOTO => format!("goto {chain}"),
        code => format!("[verdict {}]", code.cast_signed()),
    }
}

fn meta(key: u32) -> String {
    match key {
        META_IIFNAME => "iifname".to_owned(),
        META_OIFNAME => "oifname".to_owned(),
        META_PROTOCOL => "meta protocol".to_owned(),
        META_MARK => "meta mark".to_owned(),
        META_NFPROTO => "meta nfproto".to_owned(),
        META_L4PROTO => "meta l4proto".to_owned(),
        4 => "iif".to_owned(),
        5 => "oif".to_owned(),
        19 => "meta pkttype".to_owned(),
        other => format!("meta key {other}"),
    }
}

fn field(base: u32, offset: u32, length: u32) -> String {
    let known = match (base, offset, length) {
        (LINK_HEADER, 0, 6) => "ether daddr",
        (LINK_HEADER, 6, 6) => "ether saddr",
        (NETWORK_HEADER, 9, 1) => "ip protocol",
        (NETWORK_HEADER, 12, 1..=4) => "ip saddr",
        (NETWORK_HEADER, 16, 1..=4) => "ip daddr",
        (NETWORK_HEADER, 8, 5..=16) => "ip6 saddr",
        (NETWORK_HEADER, 24, 5..=16) => "ip6 daddr",
        (TRANSPORT_HEADER, 0, 2) => "th sport",
        (TRANSPORT_HEADER, 2, 2) => "th dport",
        (TRANSPORT_HEADER, 13, 1) => "tcp flags",
        _ => {
            return format!(
                "@{},{},{}",
                ["ll", "nh", "th"].get(base as usize).unwrap_or(&"?"),
                offset * 8,
                length * 8
            );
        }
    };
    known.to_owned()
}

fn value(what: &str, data: &[u8]) -> String {
    match what {
        "iifname" | "oifname" => match data.iter().position(|byte| *byte == 0) {
            Some(end) => format!("\"{}\"", String::from_utf8_lossy(&data[..end])),
            None => format!("\"{}*\"", String::from_utf8_lossy(data)),
        },
        "meta l4proto" | "ip protocol" => match data {
            [number] => protocol_name(*number).map_or_else(|| number.to_string(), str::to_owned),
            _ => hex(data),
        },
        "th sport" | "th dport" => {
            data.first_chunk().map_or_else(|| hex(data), |bytes| u16::from_be_bytes(*bytes).to_string())
        }
        "fib daddr type" if data.first_chunk().map(|b| u32::from_ne_bytes(*b)) == Some(RTN_LOCAL) => {
            "local".to_owned()
        }
        _ if what.starts_with("ip saddr") || what.starts_with("ip daddr") => network::<4>(data),
        _ if what.starts_with("ip6 saddr") || what.starts_with("ip6 daddr") => network::<16>(data),
        _ => hex(data),
    }
}

/// An address, or the whole bytes of a prefix.
fn network<const SIZE: usize>(data: &[u8]) -> String
where
    IpAddr: From<[u8; SIZE]>,
{
    let mut bytes = [0; SIZE];
    for (to, from) in bytes.iter_mut().zip(data) {
        *to = *from;
    }
    let address = IpAddr::from(bytes);
    if data.len() < SIZE { format!("{address}/{}", data.len() * 8) } else { address.to_string() }
}

fn hex(data: &[u8]) -> String {
    let mut text = "0x".to_owned();
    // Numbers of the kernel are in its own order; nothing else is longer than they are and worth reading as one.
    if let Some(number) = data.first_chunk().filter(|_| data.len() == 4) {
        return format!("{:#010x}", u32::from_ne_bytes(*number));
    }
    for byte in data {
        let _ = write!(text, "{byte:02x}");
    }
    text
}
