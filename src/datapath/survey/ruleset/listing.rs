//! The whole packet filter as text, for somebody who cannot look at it.
//!
//! Pure.

use std::fmt::Write as _;

use super::Ruleset;

impl Ruleset {
    /// In the manner of `nft list ruleset`. Elements of sets are those of ours; what has no short word stands in brackets.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for table in &self.tables {
            let owned = if self.owned.contains(table) { " flags owner;" } else { "" };
            let _ = writeln!(text, "table {table} {{{owned}");
            for chain in self.chains.iter().filter(|chain| chain.table == *table) {
                let _ = writeln!(text, "  chain {} {{", chain.name);
                if let Some(hook) = &chain.hook {
                    let _ = writeln!(text, "    {hook}");
                }
                for rule in self.rules_of(table, &chain.name) {
                    let comment =
                        rule.comment.as_ref().map(|comment| format!(" comment {:?}", comment.as_str()));
                    let _ = writeln!(text, "    {}{}", rule.text(), comment.unwrap_or_default());
                }
                text.push_str("  }\n");
            }
            text.push_str("}\n");
        }
        self.write_elements(&mut text);
        text
    }

    fn write_elements(&self, text: &mut String) {
        text.push_str("\nelements of ours:\n");
        for (mapping, comment) in &self.mappings {
            let host = mapping.host_ip.map(|ip| format!("{ip} . ")).unwrap_or_default();
            let (protocol, port, pod, pod_port) =
                (mapping.protocol, mapping.host_port, mapping.pod, mapping.pod_port);
            let _ = writeln!(
                text,
                "  hostports {host}{protocol} . {port} : {pod} . {pod_port} comment {comment:?}"
            );
        }
        for pod in &self.local_clients {
            let _ = writeln!(text, "  local_clients {pod}");
        }
        for (family, set, interface) in &self.interfaces {
            let _ = writeln!(text, "  {set} ({family:?}) {interface}");
        }
        for (port, mac) in &self.spoof_allowed {
            let _ = writeln!(text, "  spoof_allowed {port} . {mac}");
        }
    }
}
