//! Chains of somebody else that need no second look: an ADD on a node with ten thousand rules in FORWARD costs what it costs
//! on another one.
//!
//! A chain is settled when nothing was missing the last time that it was read, its table looks the same from afar (which
//! chains there are, how many rules and jumps each has, the policy), and the accepts of ours are still the rules that
//! they were. Only ADD takes that for an answer; CHECK, reconcile and the doctor read everything. What escapes it: as many rules
//! taken away as were added, in the same chain and between two ADDs, without ours among them.

use std::hash::{Hash as _, Hasher as _};
use std::path::Path;

use super::passage::{ForwardTable, Traffic, commented};
use super::reading;
use super::way::Maker;
use crate::datapath::rules::lock;
use crate::kernel::nft::{self, ChainInfo};
use crate::kernel::{self, NetfilterSocket, Netns};
use crate::net::IfName;
use crate::state::settled::{Settled, SettledChains};
use crate::state::{BootId, NetnsId, record};

pub(super) struct Memory {
    file: SettledChains,
    known: Vec<Settled>,
    now: Vec<Settled>,
}

impl Memory {
    /// `None` where it cannot be told which namespace this is: then everything is read.
    pub(super) fn of(bridge: &IfName, boot: BootId) -> Option<Self> {
        let (dev, ino) = Netns::current_identity().ok()?;
        let netns = NetnsId { dev, ino };
        let file = SettledChains::at(Path::new(record::ROOT), bridge.as_str(), boot, netns);
        let known = file.read();
        Some(Self { file, known, now: Vec::new() })
    }

    /// Whether nothing has to be read of the chain.
    pub(super) fn knows(
        &mut self,
        socket: &mut NetfilterSocket,
        chain: &ChainInfo,
        traffic: &[Traffic],
    ) -> kernel::Result<bool> {
        let print = print(chain, traffic);
        let Some(settled) = self.known.iter().find(|known| known.print == print).cloned() else {
            return Ok(false);
        };
        for (name, handle) in &settled.rules {
            let rule = nft::rule(socket, &chain.table, name, *handle)?;
            let interface = rule.as_ref().and_then(reading::comment).as_deref().and_then(commented);
            if !interface.is_some_and(|interface| traffic.iter().any(|own| own.interface == interface)) {
                return Ok(false);
            }
        }
        self.now.push(settled);
        Ok(true)
    }

    /// A chain that was read, and needs nothing.
    pub(super) fn learn(&mut self, chain: &ChainInfo, traffic: &[Traffic], table: &ForwardTable) {
        let mut rules = Vec::new();
        for (name, standing) in &table.chains.rules {
            for rule in standing {
                if matches!(&rule.maker, Maker::Ours(of, _) if traffic.iter().any(|own| own.interface == *of))
                {
                    rules.push((name.clone(), rule.handle));
                }
            }
        }
        self.now.push(Settled { print: print(chain, traffic), rules });
    }

    /// Writes down what changed. A memory that cannot be written costs the next ADD a look.
    pub(super) fn keep(self) {
        if self.now == self.known {
            return;
        }
        let written = lock()
            .map_err(|error| error.to_string())
            .and_then(|_lock| self.file.write(self.now).map_err(|error| error.to_string()));
        if let Err(error) = written {
            tracing::debug!("chains of others are read again by the next ADD: {error}");
        }
    }
}

/// The chain with its table from afar, and for whom it was looked at.
pub(super) fn print(chain: &ChainInfo, traffic: &[Traffic]) -> u64 {
    // Good for one build: another one reads again.
    let mut hasher = std::hash::DefaultHasher::new();
    env!("CARGO_PKG_VERSION").hash(&mut hasher);
    (chain.table_print, chain.handle, &chain.name, &chain.table).hash(&mut hasher);
    format!("{:?} {traffic:?}", chain.hook).hash(&mut hasher);
    hasher.finish()
}
