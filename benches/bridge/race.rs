//! Turn by turn, so that whatever the machine does meanwhile hits all contestants.

use std::fs::File;
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use rustix::fs::{Advice, fadvise, fdatasync};

use crate::Result;
use crate::contestant::{Contestant, GUEST, Kind, Work};
use crate::cost::Cost;
use crate::stage::Stage;

/// The kernel finishes some work of a call behind its back; the next contestant shall not pay for it.
const SETTLE: Duration = Duration::from_millis(30);

/// What the page cache has of the contestant's programs when ADD begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pages {
    /// All of them: copied a moment ago.
    Fresh,
    /// Nothing: memory was short.
    Dropped,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Heat {
    pub(crate) work: Work,
    pub(crate) pages: Pages,
    pub(crate) rounds: usize,
    /// Those who execute iptables get one round out of so many.
    pub(crate) patience: usize,
}

/// One ADD and the DEL that takes it back.
#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) add: Cost,
    pub(crate) del: Cost,
}

impl Heat {
    /// Every contestant shows that it does the work; then every round gives each one turn, in an order of chance. The results are
    /// in the order of the contestants.
    pub(crate) fn run(self, contestants: &[Contestant], chance: &mut Rng) -> Result<Vec<Vec<Turn>>> {
        for contestant in contestants {
            contestant.stage.lay()?;
            contestant.prove(self.work)?;
        }
        let mut turns: Vec<Vec<Turn>> = contestants.iter().map(|_| Vec::new()).collect();
        let mut order: Vec<usize> = (0..contestants.len()).collect();
        for round in 0..self.rounds {
            chance.shuffle(&mut order);
            for who in &order {
                if contestants[*who].kind != Kind::GoIptables || round % self.patience == 0 {
                    turns[*who].push(self.turn(&contestants[*who])?);
                }
            }
        }
        Ok(turns)
    }

    fn turn(self, contestant: &Contestant) -> Result<Turn> {
        if self.pages == Pages::Dropped {
            drop_pages(&contestant.stage)?;
        }
        let (result, add) = contestant.attach(&GUEST, self.work, &[])?;
        if self.pages == Pages::Dropped && add.read == 0 {
            return Err(format!(
                "{}: nothing was read from the disk: is {} in memory?",
                contestant.title,
                contestant.stage.directory().display()
            )
            .into());
        }
        thread::sleep(SETTLE);
        let del = contestant.detach(&GUEST, self.work, &result)?;
        thread::sleep(SETTLE);
        Ok(Turn { add, del })
    }
}

/// Has the kernel forget what it read of the programs, as it does when memory is short. Libraries stay, in favour of those who
/// need any.
fn drop_pages(stage: &Stage) -> Result<()> {
    for path in stage.files() {
        let file = File::open(path)?;
        // What is not yet on the disk cannot be dropped.
        fdatasync(&file)?;
        fadvise(&file, 0, None, Advice::DontNeed)?;
    }
    Ok(())
}
