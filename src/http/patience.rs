//! How long a slow client is still waited for: least rates, kept over time rather than at every moment.
//!
//! Owns the arithmetic alone: `connection` says when somebody is waited for and what has come of it. Apache (`mod_reqtimeout`) and Kestrel count in the
//! same way. What is different here: what a client has been faster buys no more time than the grace, so that nobody can be fast once and then
//! hold a connection for an hour.

use std::time::{Duration, Instant};

/// A look at what a client has read costs a system call: there is one in this time at the most, and a client that is nearly late gets it as a present.
const LOOK_MIN: Duration = Duration::from_secs(1);

/// How slow a client may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MinRate {
    /// 0 is as slow as it likes.
    pub bytes_per_s: u64,
    /// How far it may fall behind that.
    pub grace: Duration,
}

/// What is left of the grace: waiting takes from it, and bytes give it back at the rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    left_ns: u64,
}

impl MinRate {
    /// The time that so many bytes may take, in nanoseconds.
    fn time_ns(&self, bytes: u64) -> u64 {
        bytes.saturating_mul(1_000_000_000).checked_div(self.bytes_per_s).unwrap_or_default()
    }

    fn grace_ns(&self) -> u64 {
        nanoseconds(self.grace)
    }
}

impl Patience {
    pub fn new(rate: &MinRate) -> Patience {
        Patience { left_ns: rate.grace_ns() }
    }

    /// The client has been waited for, and has moved so many bytes.
    #[must_use]
    pub fn after(self, rate: &MinRate, waited: Duration, bytes: u64) -> Patience {
        let left_ns = self.left_ns.saturating_add(rate.time_ns(bytes)).saturating_sub(nanoseconds(waited));
        Patience { left_ns: left_ns.min(rate.grace_ns()) }
    }

    /// When it is over with a client that is waited for since then and has moved so many bytes; `None` without a least rate.
    pub fn end(self, rate: &MinRate, since: Instant, bytes: u64) -> Option<Instant> {
        let left_ns = self.left_ns.saturating_add(rate.time_ns(bytes));
        (rate.bytes_per_s > 0).then(|| since.checked_add(Duration::from_nanos(left_ns))).flatten()
    }

    /// The same where what has been moved has to be asked for.
    pub fn next_look(self, rate: &MinRate, since: Instant) -> Option<Instant> {
        let left = Duration::from_nanos(self.left_ns);
        let left = if left.is_zero() { left } else { left.max(LOOK_MIN) };
        (rate.bytes_per_s > 0).then(|| since + left)
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::corpus::some_instant;

    const RATE: MinRate = MinRate { bytes_per_s: 100, grace: Duration::from_secs(5) };

    const fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn patience_lasts_for_the_grace_and_for_each_byte_a_little_longer() {
        let start = some_instant();
        let fresh = Patience::new(&RATE);
        assert_eq!(fresh.end(&RATE, start, 0), Some(start + ms(5000)));
        let later = fresh.after(&RATE, ms(2000), 100);
        assert_eq!(later.end(&RATE, start, 0), Some(start + ms(4000)), "of two seconds, one has been earned");
    }

    #[test]
    fn a_client_at_the_rate_is_waited_for_without_end_and_one_below_it_is_not() {
        let start = some_instant();
        let (mut enough, mut short) = (Patience::new(&RATE), Patience::new(&RATE));
        for _ in 0..10_000 {
            enough = enough.after(&RATE, ms(1000), 100);
            short = short.after(&RATE, ms(1000), 99);
        }
        assert_eq!(enough, Patience::new(&RATE));
        assert_eq!(short.end(&RATE, start, 0), Some(start), "it is over");
    }

    #[test]
    fn being_fast_once_buys_the_grace_and_no_more() {
        let rich = Patience::new(&RATE).after(&RATE, ms(0), u64::MAX);
        assert_eq!(rich, Patience::new(&RATE));
    }

    #[test]
    fn a_byte_now_and_then_does_not_bring_back_a_patience_that_is_over() {
        let start = some_instant();
        let mut patience = Patience::new(&RATE);
        for _ in 0..6 {
            patience = patience.after(&RATE, ms(1000), 1);
        }
        assert_eq!(patience.end(&RATE, start, 0), Some(start));
        assert_eq!(patience.next_look(&RATE, start), Some(start));
    }

    #[test]
    fn looks_are_a_second_apart_for_who_is_nearly_late() {
        let start = some_instant();
        let nearly = Patience::new(&RATE).after(&RATE, ms(4999), 0);
        assert_eq!(nearly.end(&RATE, start, 0), Some(start + ms(1)));
        assert_eq!(nearly.next_look(&RATE, start), Some(start + LOOK_MIN));
    }

    #[test]
    fn without_a_rate_there_is_no_end() {
        let none = MinRate { bytes_per_s: 0, grace: ms(5000) };
        let spent = Patience::new(&none).after(&none, ms(90_000), 0);
        assert_eq!((spent.end(&none, some_instant(), 0), spent.next_look(&none, some_instant())), (None, None));
        assert_eq!(spent.end(&none, some_instant(), u64::MAX), None);
    }
}
