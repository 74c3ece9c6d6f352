//! The time of one turn of the loop, and the `Date` field that follows from it.

use std::time::{Instant, SystemTime};

use crate::http;

/// Read once in a turn, passed to everything.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    pub now: Instant,
    pub wall: SystemTime,
}

impl Clock {
    #[allow(clippy::disallowed_methods, reason = "the reactor owns the clock")]
    pub fn read() -> Clock {
        Clock { now: Instant::now(), wall: SystemTime::now() }
    }

    /// Differs between two runs, so that request ids in a log that spans both are not confused.
    pub fn seed(self) -> u64 {
        self.wall.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
    }
}

/// The `Date` field of responses, made anew once a second (RFC 9110, section 6.6.1).
#[derive(Debug, Default)]
pub(super) struct Date {
    second: u64,
}

impl Date {
    pub fn refresh(&mut self, clock: Clock, context: &http::Context) {
        let second = clock.seed() / 1000;
        if second != self.second {
            self.second = second;
            let text = httpdate::fmt_http_date(clock.wall);
            if let Ok(text) = text.as_bytes().try_into() {
                context.set_date(text);
            }
        }
    }
}
