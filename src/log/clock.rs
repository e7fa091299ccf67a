//! How long the stages of a run took, and what was said in them. Pure: whoever asks brings the time along.

use std::time::{Duration, Instant};

/// A run that complains or works without end must not eat the memory of the node.
const MOST_WARNINGS: usize = 32;
const MOST_STEPS: usize = 512;
const MOST_STAGES: usize = 64;

#[derive(Debug)]
pub(super) struct Clock {
    begun: Instant,
    stages: Vec<(&'static str, Instant)>,
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
        Self { begun: now, stages: Vec::new(), steps: Vec::new(), warnings: Vec::new() }
    }

    pub(super) fn stage(&mut self, name: &'static str, now: Instant) {
        if self.stages.len() < MOST_STAGES {
            self.stages.push((name, now));
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
    fn a_stage_lasts_until_the_next_and_counts_once() {
        let begun = Instant::now();
        let at = |ms: u64| begun + Duration::from_millis(ms);
        let mut clock = Clock::begin(begun);
        clock.stage("read", at(1));
        clock.stage("record", at(3));
        clock.stage("lease", at(7));
        clock.stage("record", at(15));
        let ms = Duration::from_millis;
        let measured = clock.read(at(31));
        assert_eq!(measured.stages, [("read", ms(2)), ("record", ms(20)), ("lease", ms(8))]);
        assert_eq!(measured.total, ms(31));
    }

    #[test]
    fn a_step_lasts_until_the_next_step_or_the_end_of_its_stage() {
        let begun = Instant::now();
        let at = |ms: u64| begun + Duration::from_millis(ms);
        let mut clock = Clock::begin(begun);
        clock.stage("apply", at(1));
        clock.step("a".into(), at(2));
        clock.step("b".into(), at(4));
        clock.stage("result", at(8));
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
            clock.stage("t", now);
        }
        let Measured { steps, warnings, .. } = clock.read(now);
        assert_eq!((steps.len(), warnings.len()), (MOST_STEPS, MOST_WARNINGS));
    }
}
