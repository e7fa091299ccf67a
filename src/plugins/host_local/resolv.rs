//! The DNS part of a result, read from a file in the format of resolv.conf(5).
//!
//! As the Go plugin reads it: `search` and `options` of several lines add up, where the C library would keep the last.

use std::path::Path;

use crate::cni::{Dns, Error, Result};
use crate::file;

/// A longer line cannot be read by the Go plugin either.
const LONGEST_LINE: usize = 64 * 1024;

pub(super) fn load(path: &Path) -> Result<Dns> {
    let text =
        file::bytes(path, file::MOST).map_err(|error| crate::state::Error::new("open", path, error))?;
    parse(&String::from_utf8_lossy(&text)).map_err(|error| error.context(path.display()))
}

pub(super) fn parse(text: &str) -> Result<Dns> {
    let mut dns = Dns::default();
    for (number, line) in text.lines().enumerate() {
        if line.len() >= LONGEST_LINE {
            return Err(Error::internal(format_args!("line {} is longer than 64 KiB", number + 1)));
        }
        let line = line.trim();
        if line.starts_with(['#', ';']) {
            continue;
        }
        let mut fields = line.split_whitespace().map(str::to_owned);
        let (Some(keyword), Some(first)) = (fields.next(), fields.next()) else { continue };
        match keyword.as_str() {
            "nameserver" => dns.nameservers.push(first),
            "domain" => dns.domain = first,
            "search" => dns.search.extend(std::iter::once(first).chain(fields)),
            "options" => dns.options.extend(std::iter::once(first).chain(fields)),
            _ => {}
        }
    }
    Ok(dns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_add_up() {
        let dns = parse(
            "# comment\n;nameserver 9.9.9.9\n\n nameserver 192.0.2.1 extra\r\nnameserver 192.0.2.2\ndomain a.example\n\
             domain b.example\nsearch one two\nsearch three\noptions ndots:5\toptions\nsortlist 1.2.3.4\nnameserver\n",
        )
        .unwrap();
        assert_eq!(dns.nameservers, ["192.0.2.1", "192.0.2.2"]);
        assert_eq!(dns.domain, "b.example");
        assert_eq!(dns.search, ["one", "two", "three"]);
        assert_eq!(dns.options, ["ndots:5", "options"]);
        assert_eq!(parse("").unwrap(), Dns::default());
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let error = parse(&format!("domain a\n{}", "x".repeat(70_000))).unwrap_err();
        assert_eq!(error.msg, "line 2 is longer than 64 KiB");
        assert_eq!(load(Path::new("/nope")).unwrap_err().msg, "open /nope: no such file or directory");
    }
}
