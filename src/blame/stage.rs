//! What becomes of those that are blamed: watched, refused, on trial. The part that poison and crash loops have in common.
//!
//! Pure state; the two tables drive it.

use std::time::{Duration, Instant};

use rusmd_proto::RequestId;

/// How long a trial that says nothing of how it went is waited for; then the next request is let through.
pub const TRIAL_TIMEOUT: Duration = Duration::from_secs(60);

/// What `Retry-After` says while a trial runs, in seconds.
const RETRY_AFTER_TRIAL_S: u64 = 1;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// There is too little evidence to refuse anything.
    Watched,
    /// Nobody is let through before this time.
    Refused { until: Instant },
    /// This request is let through, to see what it does.
    OnTrial { request: RequestId, timeout: Instant },
}

/// A stage as the status shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// For so long.
    Refused {
        left: Duration,
    },
    /// The next request is let through, or the component is about to be loaded.
    Due,
    OnTrial {
        request: RequestId,
    },
    /// The component is being loaded again.
    Loading,
}

impl Stage {
    /// The value of `Retry-After`, or `None` when a request would be let through.
    pub fn refusal_s(self, now: Instant) -> Option<u64> {
        match self {
            Stage::Watched => None,
            Stage::Refused { until } => (now < until).then(|| whole_seconds(until - now)),
            Stage::OnTrial { timeout, .. } => (now < timeout).then_some(RETRY_AFTER_TRIAL_S),
        }
    }

    /// A request that [`Stage::refusal_s`] does not refuse is let through.
    pub fn begin(&mut self, request: RequestId, now: Instant) {
        match self {
            Stage::Watched => {}
            Stage::Refused { .. } | Stage::OnTrial { .. } => {
                *self = Stage::OnTrial { request, timeout: now + TRIAL_TIMEOUT };
            }
        }
    }

    /// If this request was the trial, another may take its place.
    pub fn handle_unstarted(&mut self, unstarted: RequestId, now: Instant) {
        match *self {
            Stage::OnTrial { request, .. } if request == unstarted => *self = Stage::Refused { until: now },
            Stage::OnTrial { .. } | Stage::Watched | Stage::Refused { .. } => {}
        }
    }

    pub fn is_watched(self) -> bool {
        self == Stage::Watched
    }

    /// `None` while nothing is refused.
    pub fn standing(self, now: Instant) -> Option<Standing> {
        match self {
            Stage::Watched => None,
            Stage::Refused { until } if now < until => Some(Standing::Refused { left: until - now }),
            Stage::Refused { .. } => Some(Standing::Due),
            Stage::OnTrial { request, .. } => Some(Standing::OnTrial { request }),
        }
    }
}

/// Rounded up: who comes back then is not refused again.
pub(super) fn whole_seconds(left: Duration) -> u64 {
    left.as_secs() + u64::from(left.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(clippy::disallowed_methods, reason = "an arbitrary origin; no time passes in these tests")]
    fn origin() -> Instant {
        Instant::now()
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_refusal_ends_at_its_time_and_not_before() {
        let now = origin();
        let stage = Stage::Refused { until: now + 2000 * MS };
        assert_eq!(stage.refusal_s(now), Some(2));
        assert_eq!(stage.refusal_s(now + MS), Some(2), "what is left is rounded up");
        assert_eq!(stage.refusal_s(now + 1999 * MS), Some(1));
        assert_eq!(stage.refusal_s(now + 2000 * MS), None);
        assert_eq!(stage.standing(now + 1999 * MS), Some(Standing::Refused { left: MS }));
        assert_eq!(stage.standing(now + 2000 * MS), Some(Standing::Due));
    }

    #[test]
    fn one_trial_is_in_flight_and_not_two() {
        let now = origin();
        let mut stage = Stage::Refused { until: now };
        assert_eq!(stage.refusal_s(now), None);
        stage.begin(RequestId(1), now);
        assert_eq!(stage.refusal_s(now), Some(1));
        assert_eq!(stage.standing(now), Some(Standing::OnTrial { request: RequestId(1) }));
    }

    #[test]
    fn a_trial_that_never_started_makes_way_for_the_next_and_no_other_request_does() {
        let now = origin();
        let mut stage = Stage::OnTrial { request: RequestId(1), timeout: now + TRIAL_TIMEOUT };
        stage.handle_unstarted(RequestId(2), now);
        assert_eq!(stage.refusal_s(now), Some(1));
        stage.handle_unstarted(RequestId(1), now);
        assert_eq!(stage.refusal_s(now), None);
        stage.begin(RequestId(3), now);
        assert_eq!(stage.standing(now), Some(Standing::OnTrial { request: RequestId(3) }));
    }

    #[test]
    fn a_trial_that_says_nothing_is_waited_for_until_its_timeout_and_not_longer() {
        let now = origin();
        let mut stage = Stage::Refused { until: now };
        stage.begin(RequestId(1), now);
        assert_eq!(stage.refusal_s(now + TRIAL_TIMEOUT - MS), Some(1));
        assert_eq!(stage.refusal_s(now + TRIAL_TIMEOUT), None);
        stage.begin(RequestId(2), now + TRIAL_TIMEOUT);
        assert_eq!(stage.refusal_s(now + TRIAL_TIMEOUT), Some(1));
    }

    #[test]
    fn who_is_watched_is_never_on_trial() {
        let now = origin();
        let mut stage = Stage::Watched;
        stage.begin(RequestId(1), now);
        stage.handle_unstarted(RequestId(1), now);
        assert!(stage.is_watched());
        assert_eq!((stage.refusal_s(now), stage.standing(now)), (None, None));
    }
}
