//! Standing still: the machine was suspended, or this process was stopped, or starved. Nobody is late because of it.
//!
//! Owns how that is noticed, and that every deadline moves. Whatever has a deadline also has the loop turn at least each [`HEARTBEAT`], so that a
//! standstill is noticed that is over before the deadline is. Driven by the loop, before it looks at any event.

use std::time::{Duration, Instant};

use super::{Phase, Reactor};

/// The loop turns at least so often while anything has a deadline.
pub(super) const HEARTBEAT: Duration = Duration::from_millis(500);

/// A turn that begins so much later than it was due tells of a standstill.
const STANDSTILL_MIN: Duration = Duration::from_millis(500);

impl Reactor<'_> {
    /// A turn was due at a time (`None`: whenever something happens), the last one began at `last`, and this one begins now.
    pub(super) fn notice_standstill(&mut self, due: Option<Instant>, last: Instant, now: Instant) {
        let Some(leap) = standstill(due, last, now) else { return };
        log::warn!("the machine, or this process, stood still for {leap:.1?}: deadlines are moved by that");
        for backend in self.generations.iter_mut() {
            backend.forgive(leap);
        }
        self.clients.forgive(leap);
        self.admin.forgive(leap);
        self.control.forgive(leap);
        self.reload_waits_until = self.reload_waits_until.map(|until| until + leap);
        if let Some(reload) = &mut self.reload {
            reload.forgive(leap);
        }
        if let Some(upgrade) = &mut self.upgrade {
            upgrade.forgive(leap);
        }
        match &mut self.phase {
            Phase::Draining { until } => *until += leap,
            Phase::Stopping { kill_at, .. } => *kill_at += leap,
            Phase::Starting | Phase::Serving | Phase::Stopped => {}
        }
    }
}

/// For how long nothing went on, if for long. When it began is not known: it may have been right after the last turn.
fn standstill(due: Option<Instant>, last: Instant, now: Instant) -> Option<Duration> {
    let is_late = now.saturating_duration_since(due?.max(last)) >= STANDSTILL_MIN;
    is_late.then(|| now.saturating_duration_since(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "an arbitrary origin; no time passes in this test")]
    fn a_turn_that_is_late_by_half_a_second_tells_of_a_standstill_since_the_last_one() {
        let last = Instant::now();
        let at = |ms| last + Duration::from_millis(ms);
        assert_eq!(standstill(Some(at(300)), last, at(799)), None);
        assert_eq!(standstill(Some(at(300)), last, at(800)), Some(Duration::from_millis(800)));
        assert_eq!(standstill(Some(last), last, at(499)), None, "a turn of its own may take a while");
        assert_eq!(standstill(None, last, at(90_000)), None, "nothing was due");
    }
}
