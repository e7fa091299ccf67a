//! Instructions as words again, for rules that somebody else wrote. For people, best effort: what has no short
//! word stands in brackets.

use std::fmt::Write;
use std::net::IpAddr;

use super::bytecode::{Instruction, Listed};
use super::data::protocol_name;
use super::expression::CtState;
use super::number::{
    CT_STATE, CT_STATUS, FIB_ADDRTYPE, FIB_DADDR, IPS_DST_NAT, LINK_HEADER, META_IIFNAME, META_L4PROTO,
    META_MARK, META_NFPROTO, META_OIFNAME, META_PROTOCOL, NETWORK_HEADER, NFPROTO_IPV4, RTN_LOCAL, TCP_SYN,
    TRANSPORT_HEADER, VERDICT_ACCEPT, VERDICT_DROP, VERDICT_GOTO, VERDICT_JUMP, VERDICT_REGISTER,
    VERDICT_RETURN,
};

/// The text of a rule, as near to `nft` as a line of a report needs.
pub(super) fn text(instructions: &[Instruction]) -> String {
    let mut words = Vec::new();
    // What was loaded and not yet used. Everybody uses it in the order of loading, so registers need no following.
    let mut pending: Vec<Loaded> = Vec::new();
    for instruction in instructions {
        match instruction {
            Instruction::Bitwise { mask, xor, .. } => {
                if let Some(last) = pending.last_mut() {
                    last.mask = Some((mask.clone(), xor.clone()));
                }
            }
            Instruction::ToNetworkOrder { .. } => {}
            Instruction::Lookup { result: Some(VERDICT_REGISTER), among: Some(among), .. } => {
                let before = std::mem::take(&mut pending);
                words.push(format!("{} vmap {}", joined(&before), braces(&before, among)));
            }
            Instruction::Lookup { set, result: Some(_), .. } => {
                pending = vec![Loaded::new(format!("{} map @{set}", joined(&pending)))];
            }
            other => match load(other) {
                Some(what) => pending.push(Loaded::new(what)),
                None => words.push(act(other, &std::mem::take(&mut pending))),
            },
        }
    }
    words.join(" ")
}

struct Loaded {
    what: String,
    /// `value & mask ^ xor`
    mask: Option<(Vec<u8>, Vec<u8>)>,
}

impl Loaded {
    fn new(what: String) -> Self {
        Self { what, mask: None }
    }

    fn text(&self) -> String {
        match &self.mask {
            None => self.what.clone(),
            Some((mask, xor)) if xor.iter().all(|byte| *byte == 0) => {
                format!("{} & {}", self.what, hex(mask))
            }
            // Bits that are set are cleared before: the same as "or".
            Some((mask, xor)) => format!("{} & {} | {}", self.what, hex(mask), hex(xor)),
        }
    }
}

fn joined(pending: &[Loaded]) -> String {
    pending.iter().map(Loaded::text).collect::<Vec<_>>().join(" . ")
}

fn load(instruction: &Instruction) -> Option<String> {
    Some(match instruction {
        Instruction::Meta { key, .. } => meta(*key),
        Instruction::Payload { base, offset, length, .. } => field(*base, *offset, *length),
        Instruction::Conntrack { key: CT_STATE, .. } => "ct state".to_owned(),
        Instruction::Conntrack { key: CT_STATUS, .. } => "ct status".to_owned(),
        Instruction::Conntrack { key, .. } => format!("ct key {key}"),
        Instruction::Fib { flags: FIB_DADDR, result: FIB_ADDRTYPE, .. } => "fib daddr type".to_owned(),
        Instruction::Fib { flags, result, .. } => format!("fib {flags} {result}"),
        Instruction::Immediate { data, .. } => hex(data),
        Instruction::RouteMss { .. } => "rt mtu".to_owned(),
        _ => return None,
    })
}

fn act(instruction: &Instruction, pending: &[Loaded]) -> String {
    match instruction {
        Instruction::Compare { op, data, .. } => match pending.last() {
            Some(loaded) => compare(loaded, op.0, data),
            None => format!("[compare {}]", hex(data)),
        },
        Instruction::Lookup { set, inverted, among, .. } => {
            let set = among.as_ref().map_or_else(|| format!("@{set}"), |among| braces(pending, among));
            format!("{} {}{set}", joined(pending), if *inverted { "!= " } else { "" })
        }
        Instruction::SetMeta { key, .. } => format!("{} set {}", meta(*key), joined(pending)),
        Instruction::Verdict { code, chain } => verdict(*code, chain.as_deref()),
        Instruction::Masquerade => "masquerade".to_owned(),
        Instruction::Dnat { family, .. } => {
            let family = if *family == u32::from(NFPROTO_IPV4) { "ip" } else { "ip6" };
            format!("dnat {family} to {}", joined(pending))
        }
        Instruction::Counter => "counter".to_owned(),
        Instruction::NoTrack => "notrack".to_owned(),
        Instruction::WriteMss { .. } => format!("tcp option maxseg size set {}", joined(pending)),
        Instruction::XtMatch { name, info, .. } if name == "comment" => {
            let text = info.split(|byte| *byte == 0).next().unwrap_or_default();
            format!("comment \"{}\"", String::from_utf8_lossy(text))
        }
        Instruction::XtMatch { name, .. } => format!("[xt match {name}]"),
        Instruction::Other { name, .. } => format!("[{name}]"),
        other => format!("[{other:?}]"),
    }
}

/// The first of them: a line has room for no more.
fn braces(pending: &[Loaded], among: &[Listed]) -> String {
    const SHOWN: usize = 8;
    let what = pending.last().map(|loaded| loaded.what.as_str()).unwrap_or_default();
    let one = |Listed { first, last, verdict: to }: &Listed| {
        let range = if first == last { String::new() } else { format!("-{}", value(what, last)) };
        let to = to.as_ref().map(|(code, chain)| format!(" : {}", verdict(*code, chain.as_deref())));
        format!("{}{range}{}", value(what, first), to.unwrap_or_default())
    };
    let mut shown: Vec<String> = among.iter().take(SHOWN).map(one).collect();
    if among.len() > SHOWN {
        shown.push("…".to_owned());
    }
    format!("{{ {} }}", shown.join(", "))
}

fn compare(loaded: &Loaded, op: u32, data: &[u8]) -> String {
    let op = match op {
        0 => "",
        1 => "!= ",
        2 => "< ",
        3 => "<= ",
        4 => "> ",
        _ => ">= ",
    };
    let what = loaded.what.as_str();
    let Some((mask, _)) = &loaded.mask else {
        return format!("{what} {op}{}", value(what, data));
    };
    if let Some(prefix) = address_prefix(what, mask) {
        return format!("{what} {op}{}/{prefix}", value(what, data));
    }
    let bits = mask.first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes));
    match (what, op) {
        ("ct state", "!= ") => format!("ct state {}", states(bits)),
        ("ct status", "!= ") if bits == IPS_DST_NAT => "ct status dnat".to_owned(),
        ("tcp flags", "!= ") if mask == &[TCP_SYN] => "tcp flags syn".to_owned(),
        _ => format!("{} {}{}", loaded.text(), if op.is_empty() { "== " } else { op }, value(what, data)),
    }
}

fn states(bits: u32) -> String {
    let states = CtState::ALL.into_iter().filter(|state| bits & state.bit() != 0);
    states.map(CtState::name).collect::<Vec<_>>().join(",")
}

/// The length of a prefix that a mask of an address stands for.
fn address_prefix(what: &str, mask: &[u8]) -> Option<u32> {
    let ones: u32 = mask.iter().map(|byte| byte.count_ones()).sum();
    let leading = mask
        .iter()
        .position(|byte| *byte != 0xff)
        .map_or(0, |at| mask[at].leading_ones() + 8 * u32::try_from(at).unwrap_or(0));
    let whole = mask.iter().all(|byte| *byte == 0xff);
    (what.starts_with("ip") && what.ends_with("addr") && (whole || ones == leading)).then_some(ones)
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
        (LINK_HEADER, 12, 2) => "ether type",
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
                u64::from(offset) * 8,
                u64::from(length) * 8
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
        "ct state" if data.first_chunk().is_some_and(|b| u32::from_ne_bytes(*b) != 0) => {
            states(data.first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes)))
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_at_any_place_has_words() {
        let (base, offset, length) = (LINK_HEADER, u32::MAX, u32::MAX);
        let text = text(&[
            Instruction::Payload { base, offset, length, register: 1 },
            Instruction::Compare { register: 1, op: super::super::Comparison(0), data: vec![1] },
        ]);
        assert_eq!(text, "@ll,34359738360,34359738360 0x01");
    }
}
