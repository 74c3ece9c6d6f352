//! Answers that the supervisor gives in a guest's place. Pure data: `app` and the reactor choose them, `http` writes them.

use std::borrow::Cow;
use std::time::Duration;

use crate::control::counters::Outcome;

/// A status with a few words for the client; the log has the rest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    pub status: u16,
    pub detail: &'static str,
    /// The value of `Allow` (RFC 9110, section 10.2.1).
    pub allow: Option<String>,
    /// The value of `Retry-After` in seconds (RFC 9110, section 10.2.3).
    pub retry_after: Option<Cow<'static, str>>,
    /// What a 503 is for.
    pub refused: Outcome,
}

impl Answer {
    /// Too many requests for the workers that there are.
    pub const OVERLOADED: Answer = Answer::brief("all workers are busy", Outcome::QueueFull);

    /// The server stops, and has no time for this any more.
    pub const STOPPING: Answer = Answer::brief("the server is stopping", Outcome::Stopped);

    /// The guest, or the worker with it, is gone.
    pub const CRASHED: Answer = Answer::new(502, "the handler failed");

    /// The guest's time is over.
    pub const TIMED_OUT: Answer = Answer::new(504, "the handler took too long");

    /// `https`, in the clear, from somebody who cannot have secured it (RFC 9110, sections 7.4 and 15.5.20).
    pub const MISDIRECTED: Answer = Answer::new(421, "the target says https, and this port is not secured");

    /// The manifest promises something that is not there.
    pub const BROKEN: Answer = Answer::new(500, "this route has no handler");

    pub const fn new(status: u16, detail: &'static str) -> Answer {
        Answer { status, detail, allow: None, retry_after: None, refused: Outcome::Malformed }
    }

    /// 503, and a second later things may be different.
    const fn brief(detail: &'static str, refused: Outcome) -> Answer {
        Answer { status: 503, detail, allow: None, retry_after: Some(Cow::Borrowed("1")), refused }
    }

    /// Such requests have killed workers.
    pub fn poisoned(retry_after: Duration) -> Answer {
        Answer::unavailable("requests like this one have crashed", Outcome::Poisoned, retry_after)
    }

    /// The component has killed workers, or could not be loaded.
    pub fn suspended(retry_after: Duration) -> Answer {
        Answer::unavailable("the handler is out of service for the moment", Outcome::Suspended, retry_after)
    }

    fn unavailable(detail: &'static str, refused: Outcome, retry_after: Duration) -> Answer {
        let seconds = retry_after.as_secs().max(1);
        Answer { retry_after: Some(Cow::Owned(seconds.to_string())), ..Answer::brief(detail, refused) }
    }

    /// What becomes of a request that is answered so instead of going to a worker.
    pub fn outcome(&self) -> Outcome {
        match self.status {
            204 | 404 | 405 => Outcome::Unrouted,
            500 => Outcome::BrokenRoute,
            503 => self.refused,
            _ => Outcome::Malformed,
        }
    }

    /// An answer with an `Allow` field.
    pub fn allowing(status: u16, detail: &'static str, allow: String) -> Answer {
        Answer { allow: Some(allow), ..Answer::new(status, detail) }
    }
}
