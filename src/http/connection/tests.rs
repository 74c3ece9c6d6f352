//! The lifecycle of a connection, with a bench that stands in for the reactor. Bad requests are in `corpus`.

mod beside;
mod endings;
mod pacing;
mod responses;

use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::http::corpus::some_instant;
use crate::http::{
    Connection, Context, Event, Header, Limits, RequestHead, ResponseError, ResponseHead, Scheme, Timeouts,
};

const GET: &str = "GET / HTTP/1.1\r\nhost: h\r\n\r\n";
const GET_10: &str = "GET / HTTP/1.0\r\n\r\n";
const HEAD: &str = "HEAD / HTTP/1.1\r\nhost: h\r\n\r\n";
const POST_5: &str = "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\n\r\n";
const POST_CHUNKED: &str = "POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n";
const GET_TRAILERS: &str = "GET / HTTP/1.1\r\nhost: h\r\nte: trailers\r\nconnection: te\r\n\r\n";

struct Bench {
    connection: Connection,
    context: Rc<Context>,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        let (context, now) = (Rc::new(Context::new(limits, Timeouts::default())), some_instant());
        context.set_date(b"Sun, 06 Nov 1994 08:49:37 GMT");
        Self { connection: Connection::new(context.clone(), Scheme::Http, now), context, now }
    }

    fn fed(wire: &str) -> Self {
        let mut bench = Self::new();
        bench.feed(wire);
        bench
    }

    /// With a request that was read as far as it goes.
    fn asked(wire: &str) -> Self {
        let mut bench = Self::fed(wire);
        assert!(bench.poll().starts_with("request"));
        bench
    }

    fn feed(&mut self, wire: &str) {
        self.connection.handle_input(wire.as_bytes(), self.now);
    }

    /// All events that are due, in short.
    fn poll(&mut self) -> String {
        let mut log = Vec::new();
        while let Some(event) = self.connection.poll_event(self.now) {
            log.push(match event {
                Event::Request(_) => "request".into(),
                Event::Body(bytes) => format!("body {}", bytes.len()),
                Event::BodyEnd { trailers } => {
                    let fields = trailers.iter().map(|(name, value)| format!(" {name}={}", value.escape_ascii()));
                    format!("end{}", fields.collect::<String>())
                }
                Event::Refused { status, .. } => format!("refused {status}"),
                Event::ClientGone => "gone".into(),
            });
        }
        log.join(", ")
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.connection.handle_timeout(self.now);
    }

    /// Writes everything out, as a client with an open ear would take it.
    fn written(&mut self) -> String {
        let output = String::from_utf8_lossy(self.connection.output()).into_owned();
        self.connection.consume_output(output.len(), self.now);
        output
    }

    fn head(&mut self, status: u16, headers: &[Header<'_>], body_length: Option<u64>) -> Result<(), ResponseError> {
        self.connection.respond_head(&ResponseHead { status, headers, request_id: "", body_length }, self.now)
    }

    fn body(&mut self, bytes: &str) -> Result<(), ResponseError> {
        self.connection.respond_body(bytes.as_bytes(), self.now)
    }

    fn end(&mut self) -> Result<(), ResponseError> {
        self.connection.respond_end(&[], self.now)
    }

    fn respond(&mut self, status: u16, headers: &[Header<'_>], body_length: Option<u64>, body: &str) -> String {
        self.head(status, headers, body_length).expect("a valid head");
        self.body(body).expect("a body that fits");
        self.end().expect("a whole body");
        self.written()
    }

    fn error(&mut self, status: u16) {
        self.connection.respond_error(status, "why", "r-1", &[], self.now);
    }

    fn reads_as(wire: &str, check: impl FnOnce(RequestHead<'_>)) {
        let mut bench = Self::fed(wire);
        match bench.connection.poll_event(bench.now) {
            Some(Event::Request(head)) => check(head),
            other => panic!("{other:?}"),
        }
    }
}

pub const DATE: &str = "date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
