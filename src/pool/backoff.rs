//! How long a slot waits before its next worker is started.

use std::time::Duration;

/// Wait after the first failure in a row.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(100);

/// Longest wait.
pub const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// The wait after this many workers of a slot, one after the other, ended before they had served anything.
pub fn delay(failures: u32) -> Duration {
    match failures.checked_sub(1) {
        None => Duration::ZERO,
        Some(doublings) => BACKOFF_FIRST.saturating_mul(1 << doublings.min(16)).min(BACKOFF_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_its_limit() {
        let millis: Vec<u128> = [0, 1, 2, 3, 9, 10, u32::MAX].map(|n| delay(n).as_millis()).into();
        assert_eq!(millis, [0, 100, 200, 400, 25_600, 30_000, 30_000]);
    }
}
