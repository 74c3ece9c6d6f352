//! Waiting: the one place of the tests that reads a clock or sleeps.
//!
//! Owns deadlines and polling; touches no process and no socket. A test never sleeps for a length of time: it waits until
//! something is so, and fails with its name when that takes too long.

use std::time::{Duration, Instant};

/// How long anything may take that ought to happen at once. Generous, because the machine may be busy.
pub const SOON: Duration = Duration::from_secs(30);

/// Pause between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(5);

/// A point in time after which waiting is a failure.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    at: Instant,
}

impl Deadline {
    pub fn after(length: Duration) -> Deadline {
        Deadline { at: now() + length }
    }

    /// What is left, or `None` when the deadline has passed.
    pub fn left(&self) -> Option<Duration> {
        self.at.checked_duration_since(now()).filter(|left| !left.is_zero())
    }
}

/// Measures how long something took.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch {
    began: Instant,
}

impl Stopwatch {
    pub fn start() -> Stopwatch {
        Stopwatch { began: now() }
    }

    pub fn elapsed(&self) -> Duration {
        now().duration_since(self.began)
    }
}

/// Looks until `look` sees something, for at most `length`.
pub fn poll<T>(length: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Deadline::after(length);
    loop {
        if let Some(seen) = look() {
            return Some(seen);
        }
        deadline.left()?;
        pause();
    }
}

/// Waits until `look` is true; fails the test, naming `what`, when that is not so [`SOON`].
#[track_caller]
pub fn until(what: &str, mut look: impl FnMut() -> bool) {
    assert!(poll(SOON, || look().then_some(())).is_some(), "waited {SOON:?} in vain until {what}");
}

#[allow(clippy::disallowed_methods, reason = "tests wait on real processes, so somebody must read the real clock")]
fn now() -> Instant {
    Instant::now()
}

#[allow(clippy::disallowed_methods, reason = "conditions outside this process have no event to wait for")]
fn pause() {
    std::thread::sleep(PAUSE);
}
