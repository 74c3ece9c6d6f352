//! What workers have outlived lately, again and again: that is not condemned because of a few deaths in a row, for it is more likely that somebody kills workers.
//!
//! Counted for every request, so that an entry is a few bytes at a fixed place and nothing is looked up. Pure state; the two tables drive it.

use std::time::{Duration, Instant};

/// So many requests outlived, with no longer pause than [`PAUSE_MAX`] between two, are a good name.
pub const GOOD_NAME: u32 = 20;

/// The longest pause.
pub const PAUSE_MAX: Duration = Duration::from_secs(60);

/// What has a good name is condemned when no worker has outlived it for so long since the first death in a row...
pub const GOOD_NAME_LASTS: Duration = Duration::from_secs(2);

/// ... or when so many times more workers than usual have died in a row.
pub const GOOD_NAME_FACTOR: usize = 10;

/// Requests of one kind that workers have outlived.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Outlived {
    times: u32,
    /// When the last one ended, in seconds since the origin.
    last_s: u32,
}

impl Outlived {
    pub fn handle_success(&mut self, now_s: u32) {
        self.times = if self.is_recent(now_s) { self.times.saturating_add(1) } else { 1 };
        self.last_s = now_s;
    }

    /// Its name is lost.
    pub fn clear(&mut self) {
        *self = Outlived::default();
    }

    /// Whether this run of deaths condemns it, where `deaths_max` of something unknown would.
    pub fn is_condemned(self, run: Run, deaths_max: usize, now: Instant, now_s: u32) -> bool {
        let has_good_name = self.times >= GOOD_NAME && self.is_recent(now_s);
        run.deaths >= deaths_max
            && (!has_good_name
                || run.deaths >= deaths_max.saturating_mul(GOOD_NAME_FACTOR)
                || now.saturating_duration_since(run.first) >= GOOD_NAME_LASTS)
    }

    fn is_recent(self, now_s: u32) -> bool {
        u64::from(now_s.saturating_sub(self.last_s)) <= PAUSE_MAX.as_secs()
    }
}

/// Deaths one after the other, with nothing outlived in between.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub deaths: usize,
    pub first: Instant,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(clippy::disallowed_methods, reason = "an arbitrary origin; no time passes in these tests")]
    fn origin() -> Instant {
        Instant::now()
    }

    const MS: Duration = Duration::from_millis(1);

    fn after(times: u32) -> Outlived {
        let mut outlived = Outlived::default();
        (0..times).for_each(|_| outlived.handle_success(100));
        outlived
    }

    #[test]
    fn a_good_name_takes_its_number_of_requests_and_not_one_less() {
        let now = origin();
        let run = Run { deaths: 2, first: now };
        assert!(after(GOOD_NAME - 1).is_condemned(run, 2, now, 100));
        assert!(!after(GOOD_NAME).is_condemned(run, 2, now, 100));
    }

    #[test]
    fn a_good_name_is_lost_after_the_longest_pause_and_not_before() {
        let now = origin();
        let run = Run { deaths: 2, first: now };
        let mut outlived = after(GOOD_NAME);
        assert!(!outlived.is_condemned(run, 2, now, 160));
        assert!(outlived.is_condemned(run, 2, now, 161));
        outlived.handle_success(161);
        assert!(outlived.is_condemned(run, 2, now, 161), "it is earned anew");
        let mut steady = after(1);
        (1..GOOD_NAME).for_each(|turn| steady.handle_success(100 + 60 * turn));
        assert!(!steady.is_condemned(run, 2, now, 100 + 60 * (GOOD_NAME - 1)));
        steady.clear();
        assert!(steady.is_condemned(run, 2, now, 100 + 60 * (GOOD_NAME - 1)));
    }

    #[test]
    fn a_good_name_lasts_for_its_time_and_its_deaths_and_not_longer() {
        let now = origin();
        let outlived = after(GOOD_NAME);
        let condemned = |deaths, length| outlived.is_condemned(Run { deaths, first: now }, 2, now + length, 100);
        assert!(!condemned(2, GOOD_NAME_LASTS - MS));
        assert!(condemned(2, GOOD_NAME_LASTS));
        assert!(!condemned(1, GOOD_NAME_LASTS * 2), "fewer than usual never do");
        assert!(!condemned(19, MS));
        assert!(condemned(20, MS));
    }

    #[test]
    fn what_has_no_name_is_condemned_at_the_usual_number_and_not_one_before() {
        let now = origin();
        let condemned = |deaths| Outlived::default().is_condemned(Run { deaths, first: now }, 5, now, 0);
        assert!(!condemned(4));
        assert!(condemned(5));
    }
}
