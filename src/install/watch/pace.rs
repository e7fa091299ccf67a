//! When the network may be looked at again. Pure: times are given, as spans since the beginning.
//!
//! Damage is repaired at once. Somebody who destroys it again and again gets a repair every few seconds and no more; a
//! repair that fails is tried again, each time after twice as long.
//!
//! Pure.

use std::time::Duration;

/// Looks that may follow each other at once.
const BURST: u32 = 3;
/// And then one in so much time: with what it takes to notice and to repair less than the five seconds that are promised.
const INTERVAL: Duration = Duration::from_secs(3);
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_mins(1);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pace {
    /// Looks of the current burst, and when its next one may be forgotten.
    spent: u32,
    refill: Duration,
    /// Wait before the next attempt, and its time.
    backoff: Option<Duration>,
    retry: Option<Duration>,
}

impl Pace {
    /// From when on the next look may begin.
    pub(super) fn earliest(&self) -> Duration {
        if self.spent < BURST { Duration::ZERO } else { self.refill }
    }

    /// When to look again without a new reason, because something could not be repaired.
    pub(super) fn retry(&self) -> Option<Duration> {
        self.retry
    }

    pub(super) fn looked(&mut self, now: Duration, whole: bool) {
        while self.spent > 0 && self.refill <= now {
            self.spent -= 1;
            self.refill += INTERVAL;
        }
        if self.spent == 0 {
            self.refill = now + INTERVAL;
        }
        self.spent += 1;
        self.backoff =
            (!whole).then(|| self.backoff.map_or(FIRST_RETRY, |backoff| (backoff * 2).min(LAST_RETRY)));
        self.retry = self.backoff.map(|backoff| now + backoff);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    /// When looks happen, when somebody damages something all the time.
    fn fought(from: Duration, until: Duration) -> Vec<Duration> {
        let (mut pace, mut now, mut looks) = (Pace::default(), from, Vec::new());
        while now < until {
            pace.looked(now, true);
            looks.push(now);
            now = (now + Duration::from_millis(100)).max(pace.earliest());
        }
        looks
    }

    #[test]
    fn the_first_repairs_of_a_fight_are_immediate_and_then_one_every_three_seconds() {
        let looks = fought(seconds(100), seconds(160));
        assert_eq!(looks[2], Duration::from_millis(100_200));
        assert!(looks.len() <= 3 + 60 / 3, "{looks:?}");
        let gaps = looks.windows(2).map(|pair| pair[1].saturating_sub(pair[0]));
        assert!(gaps.clone().max().is_some_and(|gap| gap <= INTERVAL), "{looks:?}");
    }

    #[test]
    fn who_breaks_something_now_and_then_never_waits() {
        let mut pace = Pace::default();
        for now in (0..1000).step_by(4).map(seconds) {
            assert!(pace.earliest() <= now, "{now:?}: {pace:?}");
            pace.looked(now, true);
        }
    }

    #[test]
    fn a_long_peace_forgives_everything() {
        let mut pace = Pace::default();
        for _ in 0..3 {
            pace.looked(seconds(1), true);
        }
        assert_eq!(pace.earliest(), seconds(4));
        pace.looked(seconds(1000), true);
        assert_eq!(pace.earliest(), Duration::ZERO);
    }

    #[test]
    fn what_fails_is_tried_again_after_twice_as_long_until_it_succeeds() {
        let mut pace = Pace::default();
        let mut waits = Vec::new();
        let mut now = seconds(10);
        for _ in 0..8 {
            pace.looked(now, false);
            let retry = pace.retry().unwrap();
            waits.push(retry.saturating_sub(now).as_secs());
            now = retry;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        pace.looked(now, true);
        assert_eq!(pace.retry(), None);
        pace.looked(now, false);
        assert_eq!(pace.retry(), Some(now + FIRST_RETRY));
    }
}
