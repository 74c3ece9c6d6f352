//! Answers that the supervisor gives in a guest's place. Pure data: `app` and the reactor choose them, `http` writes them.

use std::borrow::Cow;

/// A status with a few words for the client; the log has the rest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    pub status: u16,
    pub detail: &'static str,
    /// The value of `Allow` (RFC 9110, section 10.2.1).
    pub allow: Option<String>,
    /// The value of `Retry-After` in seconds (RFC 9110, section 10.2.3).
    pub retry_after: Option<Cow<'static, str>>,
}

impl Answer {
    /// Too many requests for the workers that there are.
    pub const OVERLOADED: Answer =
        Answer { status: 503, detail: "all workers are busy", allow: None, retry_after: Some(Cow::Borrowed("1")) };

    /// The server stops, and has no time for this any more.
    pub const STOPPING: Answer =
        Answer { status: 503, detail: "the server is stopping", allow: None, retry_after: Some(Cow::Borrowed("1")) };

    /// The guest, or the worker with it, is gone.
    pub const CRASHED: Answer = Answer::new(502, "the handler failed");

    /// The guest's time is over.
    pub const TIMED_OUT: Answer = Answer::new(504, "the handler took too long");

    /// The manifest promises something that is not there.
    pub const BROKEN: Answer = Answer::new(500, "this route has no handler");

    pub const fn new(status: u16, detail: &'static str) -> Answer {
        Answer { status, detail, allow: None, retry_after: None }
    }

    /// 503 for so many seconds, rounded up, because of what such requests have done before.
    pub fn unavailable(detail: &'static str, retry_after: std::time::Duration) -> Answer {
        let seconds = (retry_after + std::time::Duration::from_millis(999)).as_secs().max(1);
        Answer { status: 503, detail, allow: None, retry_after: Some(Cow::Owned(seconds.to_string())) }
    }

    /// An answer with an `Allow` field.
    pub fn allowing(status: u16, detail: &'static str, allow: String) -> Answer {
        Answer { status, detail, allow: Some(allow), retry_after: None }
    }
}
