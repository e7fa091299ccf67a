//! Policy rules: which routing table is asked for which packets. Lists them; refuses to change any.

use std::fmt;

use ipnetwork::IpNetwork;

use super::attribute::{attributes, ip_address, string, u8_at, u32_at};
use super::error::Result;
use super::netlink::{Answer, RouteSocket};
use crate::net::Family;

const RTM_NEWRULE: u16 = 32;
const RTM_GETRULE: u16 = 34;

/// `struct fib_rule_hdr` and its attributes, linux/fib_rules.h.
const HEADER: usize = 12;
const FRA_DST: u16 = 1;
const FRA_SRC: u16 = 2;
const FRA_IIFNAME: u16 = 3;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_TABLE: u16 = 15;
const FRA_OIFNAME: u16 = 17;
const FIB_RULE_INVERT: u32 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The routing table with this number is asked.
    Table(u32),
    /// `goto` and `nop`.
    Other,
    /// `blackhole`, `unreachable`, `prohibit`: no way.
    Refuse,
}

/// Conditions that are absent hold for every packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyRule {
    pub family: Family,
    pub priority: u32,
    pub inverted: bool,
    pub from: Option<IpNetwork>,
    pub to: Option<IpNetwork>,
    pub incoming: Option<String>,
    pub outgoing: Option<String>,
    pub mark: Option<u32>,
    pub action: Action,
}

/// The rules of a family in the order in which the kernel asks them. A kernel without policy routing has none.
pub fn list(socket: &mut RouteSocket, family: Family) -> Result<Vec<PolicyRule>> {
    // AF_INET and AF_INET6, linux/socket.h.
    let number = if family == Family::V4 { 2 } else { 10 };
    let mut question = vec![0; HEADER];
    question[0] = number;
    let operation = || format!("ip -{} rule show", if family == Family::V4 { 4 } else { 6 });
    let read = |answer: Answer<'_>| {
        // Asked for a family it does not have, the kernel answers with all others (rtnl_dump_all).
        (u8_at(answer.payload, 0) == Some(number)).then(|| parse(answer, family))?
    };
    match socket.dump(RTM_GETRULE, &question, operation, read) {
        Ok(mut rules) => {
            rules.sort_by_key(|rule| rule.priority);
            Ok(rules)
        }
        Err(error) if error.is_unsupported() => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn parse(answer: Answer<'_>, family: Family) -> Option<PolicyRule> {
    let bytes = answer.payload;
    if answer.kind != RTM_NEWRULE {
        return None;
    }
    let (to_length, from_length) = (u8_at(bytes, 1)?, u8_at(bytes, 2)?);
    let (table, action, flags) = (u8_at(bytes, 4)?, u8_at(bytes, 7)?, u32_at(bytes, 8)?);
    let mut table = u32::from(table);
    let mut rule = PolicyRule {
        family,
        priority: 0,
        inverted: flags & FIB_RULE_INVERT != 0,
        from: None,
        to: None,
        incoming: None,
        outgoing: None,
        mark: None,
        action: Action::Other,
    };
    for (kind, value) in attributes(bytes.get(HEADER..)?) {
        match kind {
            FRA_DST => rule.to = IpNetwork::new(ip_address(value)?, to_length).ok(),
            FRA_SRC => rule.from = IpNetwork::new(ip_address(value)?, from_length).ok(),
            FRA_IIFNAME => rule.incoming = Some(string(value)),
            FRA_OIFNAME => rule.outgoing = Some(string(value)),
            FRA_PRIORITY => rule.priority = u32_at(value, 0)?,
            FRA_FWMARK => rule.mark = u32_at(value, 0).filter(|mark| *mark != 0),
            FRA_TABLE => table = u32_at(value, 0)?,
            _ => {}
        }
    }
    // FR_ACT_*
    rule.action = match action {
        1 => Action::Table(table),
        6..=8 => Action::Refuse,
        _ => Action::Other,
    };
    Some(rule)
}

/// As `ip rule show` does, without the names of tables.
impl fmt::Display for PolicyRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.priority)?;
        if self.inverted {
            f.write_str(" not")?;
        }
        match &self.from {
            Some(from) => write!(f, " from {from}")?,
            None => f.write_str(" from all")?,
        }
        if let Some(to) = &self.to {
            write!(f, " to {to}")?;
        }
        if let Some(mark) = self.mark {
            write!(f, " fwmark {mark:#x}")?;
        }
        for (word, name) in [("iif", &self.incoming), ("oif", &self.outgoing)] {
            name.as_ref().map_or(Ok(()), |name| write!(f, " {word} {name}"))?;
        }
        match self.action {
            Action::Table(table) => write!(f, " lookup {table}"),
            Action::Refuse => f.write_str(" unreachable"),
            Action::Other => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_reads_as_ip_shows_it() {
        let mut bytes = vec![2, 16, 0, 0, 100, 0, 0, 1];
        bytes.extend(0u32.to_ne_bytes());
        bytes.extend([8, 0, 1, 0, 10, 7, 0, 0]);
        bytes.extend([8, 0, 6, 0]);
        bytes.extend(99u32.to_ne_bytes());
        bytes.extend([8, 0, 15, 0]);
        bytes.extend(1000u32.to_ne_bytes());
        let rule = parse(Answer { kind: RTM_NEWRULE, payload: &bytes }, Family::V4).unwrap();
        assert_eq!(rule.to_string(), "99: from all to 10.7.0.0/16 lookup 1000");
        assert_eq!(rule.action, Action::Table(1000));

        bytes[7] = 7;
        bytes[8..12].copy_from_slice(&FIB_RULE_INVERT.to_ne_bytes());
        let rule = parse(Answer { kind: RTM_NEWRULE, payload: &bytes }, Family::V4).unwrap();
        assert_eq!(rule.to_string(), "99: not from all to 10.7.0.0/16 unreachable");
        assert_eq!(parse(Answer { kind: RTM_NEWRULE, payload: &[0; 8] }, Family::V4), None);
    }
}
