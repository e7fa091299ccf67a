//! What needs no repetition: it is counted, and not timed.

use std::fs;
use std::path::Path;

use crate::Result;
use crate::contestant::{Contestant, GUEST, Kind, Work};
use crate::{peers, plugins};

impl Contestant {
    /// ADD and DEL of a bridge below a tool that writes to a file; returns what it wrote about the ADD.
    fn under(&self, tool: &[&str], file: &Path) -> Result<String> {
        let (result, _) = self.attach(&GUEST, Work::Bridge, tool)?;
        self.detach(&GUEST, Work::Bridge, &result)?;
        Ok(fs::read_to_string(file)?)
    }

    /// Programs started by one ADD, itself included.
    pub(crate) fn processes(&self, file: &Path) -> Result<usize> {
        let trace =
            self.under(&[&strace()?, "-f", "-qq", "-e", "trace=execve,execveat", "-o", text(file)?], file)?;
        Ok(trace.lines().filter(|line| line.ends_with(" = 0")).count())
    }

    /// By it and by everything that it starts.
    pub(crate) fn system_calls(&self, file: &Path) -> Result<u64> {
        let table = self.under(&[&strace()?, "-f", "-c", "-U", "calls,name", "-o", text(file)?], file)?;
        let total = table.lines().rev().find_map(|line| line.trim().strip_suffix("total"));
        Ok(total.ok_or("strace counted nothing")?.trim().parse()?)
    }

    /// Peak resident memory, in KiB, of the largest process of one ADD.
    pub(crate) fn memory(&self, meter: &Path, file: &Path) -> Result<u64> {
        // It appends.
        fs::write(file, "")?;
        let line = self.under(&[text(meter)?, text(file)?], file)?;
        let word = line.split_whitespace().find_map(|word| word.strip_prefix("kib="));
        Ok(word.ok_or("the meter wrote nothing")?.parse()?)
    }

    /// Bytes on disk of the programs of its package; the floor has none that anybody would install.
    pub(crate) fn size(&self) -> Result<Option<u64>> {
        let names: &[&str] = match self.kind {
            Kind::Ours => &["smarter-cni"],
            Kind::GoIptables | Kind::GoNftables => &plugins::NAMES,
            Kind::Netavark => &["netavark"],
            Kind::Floor => return Ok(None),
        };
        let sizes = names.iter().map(|name| Ok(fs::metadata(self.stage.file(name))?.len()));
        sizes.sum::<Result<u64>>().map(Some)
    }
}

fn strace() -> Result<String> {
    Ok(text(&peers::find("strace")?)?.to_owned())
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| format!("{} is not UTF-8", path.display()).into())
}
