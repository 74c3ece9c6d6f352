//! How long to wait before the next worker is started.

use std::time::Duration;

use crate::random::Random;

/// Wait after the first failure in a row.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(100);

/// Longest wait, before jitter.
pub const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Workers in a row that may end ready and without having served anything before that is taken for a failure: somebody may be killing
/// them.
pub const UNSERVED_MAX: u32 = 64;

/// The wait after `failures` workers, one after the other, that ended before they were ready, and `unserved` that were ready and served
/// nothing. It is longer by up to a quarter, so that several servers do not move in step.
pub fn delay(failures: u32, unserved: u32, random: &mut Random) -> Duration {
    let Some(doublings) = failures.max(unserved.saturating_sub(UNSERVED_MAX)).checked_sub(1) else {
        return Duration::ZERO;
    };
    let delay = BACKOFF_FIRST.saturating_mul(1 << doublings.min(16)).min(BACKOFF_MAX);
    let quarter = u64::try_from(delay.as_millis() / 4).unwrap_or(u64::MAX);
    delay + Duration::from_millis(random.up_to(quarter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_its_limit() {
        let mut random = Random::new(1);
        for (failures, millis) in [(0, 0), (1, 100), (2, 200), (3, 400), (9, 25_600), (10, 30_000), (u32::MAX, 30_000)]
        {
            for _ in 0..100 {
                let delay = delay(failures, 0, &mut random).as_millis();
                assert!((millis..=millis + millis / 4).contains(&delay), "{failures}: {delay}");
            }
        }
    }

    #[test]
    fn workers_that_served_nothing_are_excused_up_to_a_limit() {
        let mut random = Random::new(1);
        assert_eq!(delay(0, UNSERVED_MAX, &mut random), Duration::ZERO);
        assert!(delay(0, UNSERVED_MAX + 1, &mut random) >= BACKOFF_FIRST);
    }
}
