//! A session and its streams without sockets: frames in, events out, and the limits and times of a connection.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::*;
use crate::http::connection::Event;
use crate::http::corpus::some_instant;
use crate::http::limits::{H2_CANCELS_MAX, H2_OUTPUT_BYTES_HIGH, H2_OVERHEAD_BYTES_MAX};
use crate::http::{BodyLength, Context, Limits, ResponseHead, Scheme, Timeouts, Version};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END: u8 = 1;
const ACK: u8 = 1;
const WHOLE: u8 = 4;

const GET: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")];
const POST: [(&str, &str); 4] = [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a")];

const OK: ResponseHead<'static> = ResponseHead { status: 200, headers: &[], request_id: "", body_length: None };

struct Bench {
    session: Session,
    streams: Vec<Stream>,
    now: Instant,
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    [&(payload.len() as u32).to_be_bytes()[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

fn head(stream: u32, fields: &[(&str, &str)], flags: u8) -> Vec<u8> {
    let mut block = Vec::new();
    for text in fields.iter().flat_map(|(name, value)| [name, value].into_iter().enumerate()) {
        if text.0 == 0 {
            block.push(0);
        }
        block.push(u8::try_from(text.1.len()).expect("a short text"));
        block.extend_from_slice(text.1.as_bytes());
    }
    frame(HEADERS, WHOLE | flags, stream, &block)
}

/// The kinds of the frames that are written, with their streams.
fn kinds(mut bytes: &[u8]) -> Vec<(u8, u32)> {
    let mut kinds = Vec::new();
    while let [a, b, c, kind, _, s, t, u, v, rest @ ..] = bytes {
        kinds.push((*kind, u32::from_be_bytes([*s, *t, *u, *v])));
        bytes = &rest[u32::from_be_bytes([0, *a, *b, *c]) as usize..];
    }
    assert!(bytes.is_empty(), "whole frames are written");
    kinds
}

impl Bench {
    fn new() -> Bench {
        Bench::with(Limits::default(), Timeouts::default())
    }

    fn with(limits: Limits, timeouts: Timeouts) -> Bench {
        let now = some_instant();
        let session = Session::new(Rc::new(Context::new(limits, timeouts)), Scheme::Http, now);
        Bench { session, streams: Vec::new(), now }
    }

    /// One to which the client has said hello.
    fn greeted() -> Bench {
        let mut bench = Bench::new();
        bench.input(PREFACE);
        bench.input(&[frame(SETTINGS, 0, 0, &[]), frame(SETTINGS, ACK, 0, &[])].concat());
        bench.output();
        bench
    }

    fn input(&mut self, bytes: &[u8]) {
        self.session.handle_input(bytes, self.now);
        self.advance();
    }

    fn advance(&mut self) {
        self.session.advance(self.now);
        for accepted in self.session.take_accepted() {
            let context = self.session.context().clone();
            self.streams.push(Stream::new(context, Scheme::Http, accepted, self.now));
        }
        self.streams.iter_mut().for_each(|stream| stream.advance(self.now));
        self.session.advance(self.now);
    }

    /// Everything that is written now.
    fn output(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        for _ in 0..64 {
            let output = self.session.output().to_vec();
            assert!(output.len() <= H2_OUTPUT_BYTES_HIGH);
            self.session.consume_output(output.len(), self.now);
            all.extend(output);
            self.advance();
        }
        all
    }

    fn later(&mut self, by: Duration) {
        self.now += by;
        self.session.handle_timeout(self.now);
        self.streams.iter_mut().for_each(|stream| stream.handle_timeout(self.now));
        self.advance();
    }

    /// The stream that came last has ended.
    fn end_stream(&mut self) {
        let stream = self.streams.pop().expect("there is one");
        let end = stream.end();
        drop(stream);
        self.session.handle_stream_end(end, self.now);
        self.advance();
    }
}

#[test]
fn a_request_becomes_events_and_its_response_frames() {
    let mut bench = Bench::greeted();
    bench.input(&[head(1, &POST, 0), frame(DATA, 0, 1, b"he"), frame(DATA, END, 1, b"llo")].concat());
    let stream = &mut bench.streams[0];
    let Some(Event::Request(request)) = stream.poll_event(bench.now) else { panic!("a request") };
    assert_eq!((request.method, request.path, request.authority), ("POST", "/", "a"));
    assert_eq!((request.version, request.body), (Version::Http2, BodyLength::Chunked));
    stream.advance(bench.now);
    assert!(matches!(stream.poll_event(bench.now), Some(Event::Body(b"hello"))));
    assert!(matches!(stream.poll_event(bench.now), Some(Event::BodyEnd { trailers }) if trailers.is_empty()));
    assert!(stream.poll_event(bench.now).is_none());
    stream.respond_head(&OK, bench.now).expect("it is owed");
    stream.respond_body(b"world", bench.now).expect("it has begun");
    stream.respond_end(&[("x-sum", b"1")], bench.now).expect("it has begun");
    assert!(stream.is_closed() && !stream.was_cut());
    bench.end_stream();
    assert_eq!(kinds(&bench.output()), [(HEADERS, 1), (DATA, 1), (HEADERS, 1)]);
}

#[test]
fn no_more_is_taken_of_a_response_than_the_windows_allow_and_the_rest_follows() {
    let mut bench = Bench::greeted();
    bench.input(&head(1, &GET, END));
    let stream = &mut bench.streams[0];
    assert!(matches!(stream.poll_event(bench.now), Some(Event::Request(_))));
    stream.respond_head(&OK, bench.now).expect("it is owed");
    stream.respond_body(&[0; 100_000], bench.now).expect("it has begun");
    stream.respond_end(&[], bench.now).expect("it has begun");
    bench.advance();
    bench.output();
    assert_eq!(bench.streams[0].unsent(), 100_000 - 65_535);
    assert!(!bench.streams[0].is_closed());
    let more = 50_000_u32.to_be_bytes();
    bench.input(&[frame(WINDOW_UPDATE, 0, 0, &more), frame(WINDOW_UPDATE, 0, 1, &more)].concat());
    assert!(bench.streams[0].is_closed() && !bench.streams[0].was_cut());
}

#[test]
fn a_body_is_kept_up_to_the_window_and_room_is_given_when_it_is_taken() {
    let mut bench = Bench::greeted();
    bench.input(&head(1, &POST, 0));
    assert!(matches!(bench.streams[0].poll_event(bench.now), Some(Event::Request(_))));
    for _ in 0..4 {
        bench.input(&frame(DATA, 0, 1, &[7; 16_384]));
    }
    assert!(!kinds(&bench.output()).contains(&(WINDOW_UPDATE, 1)), "nobody has taken any of it");
    assert!(matches!(bench.streams[0].poll_event(bench.now), Some(Event::Body(bytes)) if bytes.len() == 65_536));
    bench.advance();
    assert!(kinds(&bench.output()).contains(&(WINDOW_UPDATE, 1)));
    // One byte more than there is room for.
    for _ in 0..4 {
        bench.input(&frame(DATA, 0, 1, &[7; 16_384]));
    }
    bench.input(&frame(DATA, 0, 1, &[7]));
    assert_eq!(kinds(&bench.output()), [(RST_STREAM, 1)]);
    assert!(matches!(bench.streams[0].poll_event(bench.now), Some(Event::ClientGone)));
}

#[test]
fn a_cancelled_stream_is_gone_and_one_too_many_ends_the_connection() {
    let mut bench = Bench::greeted();
    for n in 0..=H2_CANCELS_MAX {
        assert!(bench.session.is_open(), "after {n}");
        bench.input(&head(1 + 2 * n, &GET, END));
        assert!(matches!(bench.streams[0].poll_event(bench.now), Some(Event::Request(_))));
        bench.input(&frame(RST_STREAM, 0, 1 + 2 * n, &8_u32.to_be_bytes()));
        assert!(matches!(bench.streams[0].poll_event(bench.now), Some(Event::ClientGone)));
        bench.end_stream();
        bench.session.consume_output(bench.session.output().len(), bench.now);
    }
    assert!(!bench.session.is_open());
}

#[test]
fn a_response_that_is_complete_makes_up_for_a_cancelled_one() {
    let mut bench = Bench::greeted();
    for n in 0..=2 * H2_CANCELS_MAX {
        bench.input(&head(1 + 2 * n, &GET, END));
        assert!(matches!(bench.streams[0].poll_event(bench.now), Some(Event::Request(_))));
        if n % 2 == 0 {
            bench.input(&frame(RST_STREAM, 0, 1 + 2 * n, &8_u32.to_be_bytes()));
        } else {
            bench.streams[0].respond_error(404, "", "", &[], bench.now);
        }
        bench.end_stream();
        bench.output();
    }
    assert!(bench.session.is_open());
}

#[test]
fn what_is_of_no_use_is_taken_up_to_its_limit() {
    let mut bench = Bench::new();
    bench.input(PREFACE);
    let mut left = H2_OVERHEAD_BYTES_MAX as usize - PREFACE.len();
    // Frames of a type that nobody knows cost the library nothing, and no answer.
    while left > 0 {
        let payload = (left - 9).min(16_384);
        let payload = if left - 9 - payload > 0 && left - 9 - payload < 9 { payload - 9 } else { payload };
        bench.input(&frame(0x16, 0, 0, &vec![0; payload]));
        left -= 9 + payload;
        bench.session.consume_output(bench.session.output().len(), bench.now);
    }
    assert!(bench.session.is_open());
    bench.input(&[0]);
    assert!(!bench.session.is_open());
    assert_eq!(kinds(bench.session.output()), [(GOAWAY, 0)]);
}

#[test]
fn a_client_that_does_not_read_is_not_answered_without_end() {
    let mut bench = Bench::greeted();
    let pings = frame(PING, 0, 0, &[1; 8]).repeat(1000);
    let mut fed = 0;
    while bench.session.wants_input() && bench.session.is_open() && fed < 100 {
        bench.input(&pings);
        fed += 1;
    }
    assert!(!bench.session.wants_input(), "it is read no further");
    assert!(fed < 20, "{fed}");
}

#[test]
fn a_connection_without_a_request_ends_in_time() {
    let timeouts = Timeouts::default();
    let mut silent = Bench::new();
    silent.later(timeouts.head);
    assert!(silent.session.is_closed());

    let mut idle = Bench::greeted();
    assert_eq!(idle.session.deadline(), Some(idle.now + timeouts.head));
    idle.input(&head(1, &GET, END));
    assert!(matches!(idle.streams[0].poll_event(idle.now), Some(Event::Request(_))));
    idle.output();
    assert_eq!(idle.session.deadline(), None, "a request is in progress");
    idle.streams[0].respond_error(404, "", "", &[], idle.now);
    idle.end_stream();
    idle.output();
    idle.later(timeouts.keep_alive - Duration::from_millis(1));
    assert!(idle.session.is_open());
    idle.later(Duration::from_millis(1));
    assert_eq!(kinds(&idle.output()), [(GOAWAY, 0)]);
    assert!(idle.session.should_shutdown_write());
    idle.session.handle_write_shutdown();
    idle.later(timeouts.linger);
    assert!(idle.session.is_closed() && !idle.session.was_cut());
}

#[test]
fn a_body_that_stops_coming_is_refused_and_a_response_that_stops_going_reset() {
    let timeouts = Timeouts::default();
    let mut bench = Bench::greeted();
    bench.input(&[head(1, &POST, 0), head(3, &GET, END)].concat());
    for stream in &mut bench.streams {
        assert!(matches!(stream.poll_event(bench.now), Some(Event::Request(_))));
    }
    let getter = &mut bench.streams[1];
    getter.respond_head(&OK, bench.now).expect("it is owed");
    getter.respond_body(&[0; 100_000], bench.now).expect("it has begun");
    bench.advance();
    bench.output();
    bench.later(timeouts.body.max(timeouts.write));
    let (poster, rest) = bench.streams.split_at_mut(1);
    assert!(matches!(poster[0].poll_event(bench.now), Some(Event::Refused { status: 408, .. })));
    assert!(matches!(rest[0].poll_event(bench.now), Some(Event::ClientGone)));
}

#[test]
fn a_drain_lets_requests_end_and_then_the_connection() {
    let mut bench = Bench::greeted();
    bench.input(&head(1, &GET, END));
    assert!(matches!(bench.streams[0].poll_event(bench.now), Some(Event::Request(_))));
    bench.session.begin_drain();
    bench.advance();
    assert_eq!(kinds(&bench.output()), [(GOAWAY, 0), (PING, 0)]);
    // One that was on its way is taken.
    bench.input(&head(3, &GET, END));
    assert_eq!(bench.streams.len(), 2);
    for _ in 0..2 {
        let stream = bench.streams.last_mut().expect("two");
        stream.poll_event(bench.now);
        stream.respond_error(404, "", "", &[], bench.now);
        bench.end_stream();
    }
    bench.output();
    // The client does not answer the ping.
    bench.later(Timeouts::default().linger);
    assert!(!bench.session.is_open());
}

#[test]
fn everything_that_a_connection_ends_is_gone_for_its_streams() {
    let mut bench = Bench::greeted();
    bench.input(&head(1, &GET, END));
    assert!(matches!(bench.streams[0].poll_event(bench.now), Some(Event::Request(_))));
    bench.session.handle_eof();
    bench.advance();
    assert!(!bench.session.is_open());
    assert!(bench.streams[0].is_woken() || bench.streams[0].is_closed());
    bench.streams[0].advance(bench.now);
    assert!(matches!(bench.streams[0].poll_event(bench.now), Some(Event::ClientGone)));
}

mod heads {
    use http::Request;

    use super::super::request;
    use crate::http::context::Buffers;
    use crate::http::error::RequestError;
    use crate::http::head::Headers;
    use crate::http::{Limits, Scheme};

    fn read(fields: &[(&str, &str)], limits: &Limits) -> Result<Vec<(String, String)>, RequestError> {
        let mut builder = Request::builder().uri("http://a.example/x?y").method("GET");
        for (name, value) in fields {
            builder = builder.header(*name, *value);
        }
        let (parts, ()) = builder.body(()).expect("the library would pass it").into_parts();
        let mut buffers = Buffers::default();
        let head = request::read(&parts, false, Scheme::Http, &mut buffers, limits)?;
        assert_eq!(head.authority.of(&buffers.input), b"a.example");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let headers = Headers::new(&buffers.input, &buffers.slots);
        Ok(headers.iter().map(|(name, value)| (name.to_owned(), text(value))).collect())
    }

    #[test]
    fn crumbs_of_a_cookie_become_one() {
        let fields = read(&[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2")], &Limits::default()).expect("legal");
        let pairs: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(pairs, [("host", "a.example"), ("x", "y"), ("cookie", "a=1; b=2")]);
    }

    #[test]
    fn what_only_http_2_can_get_wrong_is_refused() {
        for (field, error) in [
            (("host", "b.example"), RequestError::HostDisagrees),
            (("host", "a b"), RequestError::HostInvalid),
            (("x", " y"), RequestError::HeaderValue),
            (("x", "y\t"), RequestError::HeaderValue),
            (("cookie", "y "), RequestError::HeaderValue),
            (("connection", "close"), RequestError::ConnectionField),
            (("transfer-encoding", "chunked"), RequestError::ConnectionField),
            (("upgrade", "h2c"), RequestError::ConnectionField),
            (("te", "gzip"), RequestError::ConnectionField),
            (("http2-settings", "AA"), RequestError::ConnectionField),
            (("expect", "tea"), RequestError::Expectation),
            (("content-length", "+1"), RequestError::ContentLengthInvalid),
        ] {
            assert_eq!(read(&[field], &Limits::default()), Err(error), "{field:?}");
        }
        assert!(read(&[("host", "A.EXAMPLE:80")], &Limits::default()).is_ok());
        assert!(read(&[("te", "trailers")], &Limits::default()).is_ok());
    }

    #[test]
    fn a_head_is_as_large_as_it_would_be_in_http_1() {
        let whole = "GET /x?y HTTP/1.1\r\nhost: a.example\r\nx: yz\r\n\r\n".len();
        let limits = |head_bytes_max, headers_max| Limits { head_bytes_max, headers_max, ..Limits::default() };
        assert!(read(&[("x", "yz")], &limits(whole, 2)).is_ok());
        assert_eq!(read(&[("x", "yz")], &limits(whole - 1, 2)), Err(RequestError::HeadTooLarge));
        assert_eq!(read(&[("x", "yz")], &limits(whole, 1)), Err(RequestError::TooManyHeaders));
        let short = Limits { target_bytes_max: 3, ..Limits::default() };
        assert_eq!(read(&[], &short), Err(RequestError::TargetTooLong));
    }
}
