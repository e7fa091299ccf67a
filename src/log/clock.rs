//! How long the stages of a run took, and what was said in them. Pure: whoever asks brings the time along.
//!
//! A stage is a span of `tracing`. One within another interrupts it; what passes outside of all of them counts for the last.

use std::time::{Duration, Instant};

/// A run that complains or works without end must not eat the memory of the node.
const MOST_WARNINGS: usize = 32;
const MOST_STEPS: usize = 512;
const MOST_STAGES: usize = 128;

#[derive(Debug)]
pub(super) struct Clock {
    begun: Instant,
    /// Each stage once: a span has a number and no name.
    names: Vec<&'static str>,
    /// What began or went on when.
    stages: Vec<(&'static str, Instant)>,
    /// Those that have begun and not ended, the innermost last.
    open: Vec<&'static str>,
    /// What was said below a warning, each step before it is made.
    steps: Vec<(String, Instant)>,
    pub(super) warnings: Vec<String>,
}

/// A clock that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Measured {
    pub(super) total: Duration,
    /// Each stage once, in the order in which they began first.
    pub(super) stages: Vec<(&'static str, Duration)>,
    /// Each step with the time until the next step or stage.
    pub(super) steps: Vec<(String, Duration)>,
    pub(super) warnings: Vec<String>,
}

impl Clock {
    pub(super) fn begin(now: Instant) -> Self {
        Self {
            begun: now,
            names: Vec::new(),
            stages: Vec::new(),
            open: Vec::new(),
            steps: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// The same for the same name.
    pub(super) fn number_of(&mut self, stage: &'static str) -> u64 {
        let known = self.names.iter().position(|name| *name == stage);
        let number = known.unwrap_or_else(|| {
            self.names.push(stage);
            self.names.len() - 1
        });
        number as u64
    }

    /// Of a number that [`Self::number_of`] has given.
    pub(super) fn stage_of(&self, number: u64) -> &'static str {
        usize::try_from(number).ok().and_then(|number| self.names.get(number)).copied().unwrap_or_default()
    }

    pub(super) fn enter(&mut self, stage: &'static str, now: Instant) {
        self.open.push(stage);
        self.goes_on(now);
    }

    /// The innermost stage ends.
    pub(super) fn exit(&mut self, now: Instant) {
        self.open.pop();
        self.goes_on(now);
    }

    fn goes_on(&mut self, now: Instant) {
        if let Some(&stage) = self.open.last()
            && self.stages.last().is_none_or(|(last, _)| *last != stage)
            && self.stages.len() < MOST_STAGES
        {
            self.stages.push((stage, now));
        }
    }

    pub(super) fn step(&mut self, words: String, now: Instant) {
        if self.steps.len() < MOST_STEPS {
            self.steps.push((words, now));
        }
    }

    pub(super) fn warn(&mut self, words: String) {
        if self.warnings.len() < MOST_WARNINGS {
            self.warnings.push(words);
        }
    }

    pub(super) fn read(&self, now: Instant) -> Measured {
        let mut stages: Vec<(&'static str, Duration)> = Vec::new();
        for (at, (name, begun)) in self.stages.iter().enumerate() {
            let took = self.stages.get(at + 1).map_or(now, |(_, next)| *next) - *begun;
            match stages.iter_mut().find(|(known, _)| known == name) {
                Some((_, sum)) => *sum += took,
                None => stages.push((name, took)),
            }
        }
        let steps = self.steps.iter().enumerate().map(|(at, (words, begun))| {
            let next = self.steps.get(at + 1).map_or(now, |(_, next)| *next);
            let stage = self.stages.iter().map(|(_, stage)| *stage).find(|stage| stage >= begun);
            (words.clone(), stage.map_or(next, |stage| stage.min(next)) - *begun)
        });
        Measured { total: now - self.begun, stages, steps: steps.collect(), warnings: self.warnings.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_interrupted_by_one_within_it_and_counts_once() {
        let begun = Instant::now();
        let at = |ms: u64| begun + Duration::from_millis(ms);
        let mut clock = Clock::begin(begun);
        clock.enter("read", at(1));
        clock.enter("record", at(3));
        clock.enter("lease", at(7));
        clock.exit(at(15));
        clock.exit(at(31));
        clock.exit(at(63));
        clock.enter("answer", at(127));
        let ms = Duration::from_millis;
        let measured = clock.read(at(255));
        let stages = [("read", ms(98)), ("record", ms(20)), ("lease", ms(8)), ("answer", ms(128))];
        assert_eq!(measured.stages, stages);
        assert_eq!(measured.total, ms(255));
    }

    #[test]
    fn a_number_is_of_one_name() {
        let mut clock = Clock::begin(Instant::now());
        let numbers = ["read", "lease", "read"].map(|name| clock.number_of(name));
        assert_eq!(numbers.map(|number| clock.stage_of(number)), ["read", "lease", "read"]);
        assert_eq!((numbers[0], clock.stage_of(7)), (numbers[2], ""));
    }

    #[test]
    fn a_step_lasts_until_the_next_step_or_the_end_of_its_stage() {
        let begun = Instant::now();
        let at = |ms: u64| begun + Duration::from_millis(ms);
        let mut clock = Clock::begin(begun);
        clock.enter("apply", at(1));
        clock.step("a".into(), at(2));
        clock.step("b".into(), at(4));
        clock.enter("result", at(8));
        clock.step("c".into(), at(16));
        let took: Vec<_> = clock.read(at(32)).steps.into_iter().map(|(_, took)| took.as_millis()).collect();
        assert_eq!(took, [2, 4, 16]);
    }

    #[test]
    fn without_end_is_with_an_end() {
        let now = Instant::now();
        let mut clock = Clock::begin(now);
        for _ in 0..10_000 {
            clock.warn("w".into());
            clock.step("s".into(), now);
            clock.enter("t", now);
            clock.enter("u", now);
            clock.exit(now);
            clock.exit(now);
        }
        assert_eq!(clock.stages.len(), MOST_STAGES);
        let Measured { steps, warnings, .. } = clock.read(now);
        assert_eq!((steps.len(), warnings.len()), (MOST_STEPS, MOST_WARNINGS));
    }
}
