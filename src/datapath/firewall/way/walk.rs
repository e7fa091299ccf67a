//! The walk itself: from the base chain along jumps and gotos to where the packets end.
//!
//! Pure.

use super::{Answer, Chains, DEEPEST, Missing, Packet, Rule, Spot, Verdict};

/// Where the way of the packets ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    Accepted,
    /// By the last of these rules; those before it are the jumps that lead there.
    Dropped(Vec<Spot>),
    /// By the policy of the base chain. The last spot is where they leave the rules: a `return`, or behind the last rule
    /// of a chain. Those before it are the gotos that lead there.
    DroppedByPolicy(Vec<Spot>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub fate: Fate,
    /// Rules on the way of which it cannot be said whether they refuse all of the packets.
    pub doubts: Vec<Spot>,
    /// Rules on the way that accept a part of the packets.
    pub exceptions: Vec<Spot>,
    /// The mark that the packets have in the end.
    pub mark: Option<u32>,
}

/// Where a chain leads.
enum Left {
    With(Fate),
    /// Back, from the last of these spots; those before it are gotos.
    Back(Vec<Spot>),
}

struct Walk<'a> {
    chains: &'a Chains,
    packet: Packet,
    without_ours: bool,
    trail: Vec<Spot>,
    doubts: Vec<Spot>,
    exceptions: Vec<Spot>,
}

/// The way of the packets through a base chain. `without_ours`: as if our accepts were not there.
pub fn follow(
    chains: &Chains,
    base: &str,
    policy_drops: bool,
    packet: &Packet,
    without_ours: bool,
) -> Result<Outcome, Missing> {
    let mut walk = Walk {
        chains,
        packet: packet.clone(),
        without_ours,
        trail: Vec::new(),
        doubts: Vec::new(),
        exceptions: Vec::new(),
    };
    let fate = match walk.chain(base)? {
        Left::With(fate) => fate,
        Left::Back(from) if policy_drops => Fate::DroppedByPolicy(from),
        Left::Back(_) => Fate::Accepted,
    };
    Ok(Outcome { fate, doubts: walk.doubts, exceptions: walk.exceptions, mark: walk.packet.mark })
}

impl Walk<'_> {
    fn chain(&mut self, name: &str) -> Result<Left, Missing> {
        let rules = self.chains.get(name)?;
        for (index, rule) in rules.iter().enumerate() {
            if self.without_ours && rule.is_for(self.packet.interface()) {
                continue;
            }
            let here = || Spot { chain: name.to_owned(), index };
            for rule in rule.parts().iter() {
                let answer = self.packet.answer(rule, self.chains);
                if answer == Answer::None {
                    continue;
                }
                if answer != Answer::All || rule.verdict == Verdict::Undecided {
                    self.pass_by(rule, answer, here);
                    continue;
                }
                if let Some(left) = self.take(&rule.verdict, here())? {
                    return Ok(left);
                }
                // The others are for other packets.
                break;
            }
        }
        Ok(Left::Back(vec![Spot { chain: name.to_owned(), index: rules.len() }]))
    }

    /// A rule that takes a part of the packets, or that cannot be decided.
    fn pass_by(&mut self, rule: &Rule, answer: Answer, here: impl Fn() -> Spot) {
        let doubtful = answer == Answer::Perhaps || answer == Answer::All;
        if doubtful && self.chains.may_refuse(rule, &self.packet, 0) {
            self.doubts.push(here());
        }
        match rule.verdict {
            Verdict::Accept => self.exceptions.push(here()),
            Verdict::Mark { .. } if doubtful => self.packet.mark = None,
            _ => {}
        }
    }

    /// What a rule does that takes all of the packets; `None` where the next rule follows.
    fn take(&mut self, verdict: &Verdict, here: Spot) -> Result<Option<Left>, Missing> {
        let (to, comes_back) = match verdict {
            Verdict::Accept => return Ok(Some(Left::With(Fate::Accepted))),
            Verdict::Drop => {
                self.trail.push(here);
                return Ok(Some(Left::With(Fate::Dropped(std::mem::take(&mut self.trail)))));
            }
            Verdict::Return => return Ok(Some(Left::Back(vec![here]))),
            Verdict::Mark { mask, value } => {
                self.packet.mark = self.packet.mark.map(|mark| mark & !mask ^ value);
                return Ok(None);
            }
            Verdict::Continue | Verdict::Undecided | Verdict::Map(_) => return Ok(None),
            Verdict::Jump(to) => (to, true),
            Verdict::Goto(to) => (to, false),
        };
        if self.trail.len() >= DEEPEST {
            return Ok(None);
        }
        self.trail.push(here.clone());
        match self.chain(to)? {
            left @ Left::With(_) => return Ok(Some(left)),
            Left::Back(from) if !comes_back => {
                self.trail.pop();
                return Ok(Some(Left::Back([vec![here], from].concat())));
            }
            Left::Back(_) => {}
        }
        self.trail.pop();
        Ok(None)
    }
}
