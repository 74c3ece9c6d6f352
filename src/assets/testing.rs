//! What the tests of this room share: requests as `http` reads them.

use std::rc::Rc;
use std::time::Instant;

use crate::http::{Connection, Context, Event, RequestHead, Scheme};

#[expect(clippy::disallowed_methods, reason = "an `Instant` has no other beginning")]
fn some_instant() -> Instant {
    Instant::now()
}

/// Has `look` see a request with these field lines, each ended by CRLF.
pub(super) fn with_headers<T>(method: &str, target: &str, fields: &str, look: impl FnOnce(&RequestHead<'_>) -> T) -> T {
    let now = some_instant();
    let mut connection = Connection::new(Rc::new(Context::default()), Scheme::Http, now);
    connection.handle_input(format!("{method} {target} HTTP/1.1\r\nhost: a\r\n{fields}\r\n").as_bytes(), now);
    match connection.poll_event(now) {
        Some(Event::Request(head)) => look(&head),
        other => panic!("no request: {other:?}"),
    }
}
