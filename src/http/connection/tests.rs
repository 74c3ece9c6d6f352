//! The lifecycle of a connection: responses, the manner of its end, time and back-pressure. Bad requests are in `corpus`.

use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::http::corpus::some_instant;
use crate::http::limits::DRAIN_BYTES_MAX;
use crate::http::{
    BodyLength, Connection, Context, Event, Header, Limits, RequestHead, ResponseError, ResponseHead, Scheme,
    TargetForm, Timeouts, Version,
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
        self.connection.respond_head(&ResponseHead { status, headers, body_length }, self.now)
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

const DATE: &str = "date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";

#[test]
fn a_request_is_seen_normalised() {
    let wire = "PUT http://Example:80/a?b=c HTTP/1.1\r\nHOST: example\r\nX-One: 1 \r\nConnection: X-Two, keep-alive, host\r\n\
                x-two: 2\r\nTE: trailers\r\nExpect: 100-continue\r\nKeep-Alive: 5\r\nTransfer-Encoding: chunked\r\n\
                Upgrade: h2c\r\nProxy-Connection: x\r\nTrailer: t\r\nHTTP2-Settings: s\r\nx-one: 3\r\n\r\n";
    Bench::reads_as(wire, |head| {
        assert_eq!((head.method, head.form, head.scheme), ("PUT", TargetForm::Absolute, Scheme::Http));
        assert_eq!((head.authority, head.path, head.query), ("Example:80", "/a", Some("b=c")));
        assert_eq!((head.version, head.body), (Version::Http11, BodyLength::Chunked));
        assert!(head.expects_continue && head.keep_alive && head.accepts_trailers);
        let fields: Vec<_> = head.headers.iter().collect();
        assert_eq!(fields, [("host", &b"example"[..]), ("x-one", b"1"), ("x-one", b"3")]);
        assert_eq!((head.headers.len(), head.headers.find("x-one")), (3, Some(&b"1"[..])));
    });
}

#[test]
fn an_http_1_0_request_needs_no_host() {
    Bench::reads_as(GET_10, |head| {
        assert_eq!((head.authority, head.version, head.keep_alive), ("", Version::Http10, false));
        assert!(head.headers.is_empty());
    });
}

#[test]
fn trailers_are_told_apart_from_the_head_and_without_what_may_not_stand_there() {
    let mut bench = Bench::fed(POST_CHUNKED);
    bench.feed("1\r\na\r\n0\r\nX-Sum: 1\r\nContent-Length: 7\r\nAuthorization: x\r\n\r\n");
    assert_eq!(bench.poll(), "request, body 1, end x-sum=1");
}

#[test]
fn a_response_of_known_length_is_one_piece_of_output() {
    let mut bench = Bench::asked(GET);
    let output = bench.respond(200, &[("Content-Type", b"text/plain"), ("x", b"")], Some(2), "hi");
    assert_eq!(
        output,
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nx: \r\ncontent-length: 2\r\n{DATE}\r\nhi")
    );
    assert!(bench.connection.is_idle());
}

#[test]
fn a_response_of_unknown_length_is_chunked() {
    let mut bench = Bench::asked(GET);
    let output = bench.respond(200, &[], None, "hello, chunky world");
    assert_eq!(
        output,
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n{DATE}\r\n13\r\nhello, chunky world\r\n0\r\n\r\n")
    );
    assert!(bench.connection.is_idle());
}

#[test]
fn an_empty_piece_of_body_ends_no_chunked_response() {
    let mut bench = Bench::asked(GET);
    bench.head(200, &[], None).expect("a valid head");
    bench.written();
    bench.body("").expect("nothing");
    assert_eq!(bench.written(), "");
}

#[test]
fn for_http_1_0_an_unknown_length_ends_with_the_connection() {
    let mut bench = Bench::asked("GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n");
    let output = bench.respond(200, &[], None, "hi");
    assert_eq!(output, format!("HTTP/1.1 200 OK\r\n{DATE}connection: close\r\n\r\nhi"));
    assert!(bench.connection.is_closed() && !bench.connection.was_cut());
}

#[test]
fn an_http_1_0_client_that_asks_for_it_is_kept() {
    let mut bench = Bench::asked("GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n");
    let output = bench.respond(200, &[], Some(2), "hi");
    assert!(output.contains("connection: keep-alive\r\n"), "{output}");
    assert!(bench.connection.is_idle());
}

#[test]
fn a_response_to_head_has_a_length_and_no_body() {
    for (headers, length, expected) in [
        (&[][..], Some(5), "content-length: 5\r\n"),
        (&[("content-length", &b"9"[..])], Some(0), "content-length: 9\r\n"),
        (&[("content-length", b"9")], None, "content-length: 9\r\n"),
        (&[], Some(0), ""),
        (&[], None, ""),
    ] {
        let mut bench = Bench::asked(HEAD);
        let output = bench.respond(200, headers, length, "never");
        assert_eq!(output, format!("HTTP/1.1 200 OK\r\n{expected}{DATE}\r\n"));
        assert!(bench.connection.is_idle());
    }
}

#[test]
fn statuses_without_content_have_no_framing_whatever_the_guest_says() {
    for (status, reason, framing) in
        [(204, "No Content", ""), (304, "Not Modified", ""), (205, "Reset Content", "content-length: 0\r\n")]
    {
        let mut bench = Bench::asked(GET);
        let headers: &[Header<'_>] = &[("content-length", b"5"), ("transfer-encoding", b"chunked")];
        let output = bench.respond(status, headers, None, "never");
        assert_eq!(output, format!("HTTP/1.1 {status} {reason}\r\n{framing}{DATE}\r\n"));
        assert!(bench.connection.is_idle());
    }
}

#[test]
fn fields_of_the_connection_are_not_the_guests_to_set() {
    let mut bench = Bench::asked(GET);
    let headers: &[Header<'_>] = &[
        ("Connection", b"close"),
        ("KEEP-ALIVE", b"1"),
        ("transfer-encoding", b"gzip"),
        ("Upgrade", b"x"),
        ("trailer", b"x"),
        ("Date", b"today"),
        ("te", b"x"),
        ("proxy-connection", b"x"),
        ("set-cookie", b"a"),
        ("set-cookie", b"b"),
    ];
    let output = bench.respond(200, headers, Some(0), "");
    assert_eq!(output, format!("HTTP/1.1 200 OK\r\nset-cookie: a\r\nset-cookie: b\r\ncontent-length: 0\r\n{DATE}\r\n"));
}

#[test]
fn an_invalid_head_writes_nothing_and_leaves_room_for_another() {
    use ResponseError::*;
    let cases: &[(u16, &[Header<'_>], Option<u64>, ResponseError)] = &[
        (199, &[], None, Status(199)),
        (101, &[], None, Status(101)),
        (600, &[], None, Status(600)),
        (0, &[], None, Status(0)),
        (200, &[("", b"x")], None, HeaderName),
        (200, &[("a b", b"x")], None, HeaderName),
        (200, &[("a:", b"x")], None, HeaderName),
        (200, &[("a\r\nb", b"x")], None, HeaderName),
        (200, &[("ä", b"x")], None, HeaderName),
        (200, &[("a", b"x\r\ny: z")], None, HeaderValue),
        (200, &[("a", b"x\n")], None, HeaderValue),
        (200, &[("a", b"\0")], None, HeaderValue),
        (200, &[("ok", b"ok"), ("a", b"\x7f")], None, HeaderValue),
        (200, &[("content-length", b"x")], None, ContentLength),
        (200, &[("content-length", b"-1")], None, ContentLength),
        (200, &[("content-length", b"1, 1")], None, ContentLength),
        (200, &[("content-length", b"1"), ("Content-Length", b"1")], None, ContentLength),
        (200, &[("content-length", b"1")], Some(2), ContentLength),
        (200, &[("content-length", b"1")], Some(0), ContentLength),
    ];
    for &(status, headers, length, error) in cases {
        let mut bench = Bench::asked(GET);
        assert_eq!(bench.head(status, headers, length), Err(error), "{status} {headers:?}");
        assert_eq!(bench.connection.output(), b"");
        bench.error(502);
        assert!(bench.written().starts_with("HTTP/1.1 502 Bad Gateway\r\n"));
    }
    for status in [200, 299, 599] {
        assert_eq!(Bench::asked(GET).head(status, &[], None), Ok(()));
    }
}

#[test]
fn a_body_that_breaks_its_promise_is_an_error_and_then_a_cut() {
    let mut bench = Bench::asked(GET);
    bench.head(200, &[("content-length", b"3")], None).expect("a valid head");
    assert_eq!(bench.body("abc"), Ok(()));
    assert_eq!(bench.body("d"), Err(ResponseError::BodyTooLong));
    bench.error(502);
    assert!(bench.connection.was_cut() && bench.connection.output().is_empty());

    let mut bench = Bench::asked(GET);
    bench.head(200, &[("content-length", b"3")], None).expect("a valid head");
    assert_eq!(bench.body("ab"), Ok(()));
    assert_eq!(bench.end(), Err(ResponseError::BodyTooShort));
    bench.connection.abort();
    assert!(bench.connection.was_cut());
}

#[test]
fn parts_of_a_response_out_of_order_are_refused() {
    let mut bench = Bench::new();
    assert_eq!(bench.head(200, &[], None), Err(ResponseError::OutOfOrder));
    assert_eq!(bench.body("x"), Err(ResponseError::OutOfOrder));
    assert_eq!(bench.end(), Err(ResponseError::OutOfOrder));
    bench.error(500);
    assert_eq!(bench.connection.output(), b"");
    bench.feed(GET);
    bench.poll();
    assert_eq!(bench.body("x"), Err(ResponseError::OutOfOrder));
    bench.head(200, &[], None).expect("a valid head");
    assert!(bench.connection.is_head_sent());
    assert_eq!(bench.head(200, &[], None), Err(ResponseError::OutOfOrder));
}

#[test]
fn response_trailers_go_to_clients_that_accept_them() {
    let trailers: &[Header<'_>] = &[("x-sum", b"1"), ("Content-Length", b"9")];
    for (request, expected) in [(GET_TRAILERS, "0\r\nx-sum: 1\r\n\r\n"), (GET, "0\r\n\r\n")] {
        let mut bench = Bench::asked(request);
        bench.head(200, &[], None).expect("a valid head");
        bench.written();
        bench.connection.respond_end(trailers, bench.now).expect("valid trailers");
        assert_eq!(bench.written(), expected);
    }
    let mut bench = Bench::asked(GET_TRAILERS);
    bench.head(200, &[], None).expect("a valid head");
    assert_eq!(bench.connection.respond_end(&[("x", b"\n")], bench.now), Err(ResponseError::HeaderValue));
}

#[test]
fn continue_is_said_once_and_only_to_those_who_wait() {
    let expecting = "POST / HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    let mut bench = Bench::asked(expecting);
    bench.connection.respond_continue(bench.now);
    bench.connection.respond_continue(bench.now);
    assert_eq!(bench.written(), "HTTP/1.1 100 Continue\r\n\r\n");
    bench.feed("hello");
    assert_eq!(bench.poll(), "body 5, end");
    assert!(!bench.respond(200, &[], Some(0), "").contains("close"));

    let mut bench = Bench::asked(expecting);
    bench.feed("he");
    assert_eq!(bench.poll(), "body 2");
    bench.connection.respond_continue(bench.now);
    assert_eq!(bench.written(), "", "the body has begun");

    let mut bench = Bench::asked(GET);
    bench.connection.respond_continue(bench.now);
    assert_eq!(bench.written(), "");
}

#[test]
fn an_answer_instead_of_continue_closes() {
    let mut bench = Bench::asked("POST / HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n");
    let output = bench.respond(200, &[], Some(0), "");
    assert!(output.contains("connection: close\r\n"), "{output}");
    assert!(bench.connection.should_shutdown_write());
}

#[test]
fn error_answers_are_text_or_json_for_those_who_accept_only_that() {
    let accepting = |accept: &str| format!("GET / HTTP/1.1\r\nhost: h\r\n{accept}\r\n");
    for (accept, json) in [
        ("", false),
        ("accept: */*\r\n", false),
        ("accept: application/json\r\n", true),
        ("accept: application/json; q=1, application/problem+json\r\n", true),
        ("accept: application/json, text/plain, */*\r\n", false),
        ("accept: application/json\r\naccept: text/html\r\n", false),
        ("accept: text/html\r\naccept: application/json\r\n", false),
    ] {
        let mut bench = Bench::asked(&accepting(accept));
        bench.connection.respond_error(503, "the \"queue\"\\\n", "r-1", &[("retry-after", b"1")], bench.now);
        let output = bench.written();
        let (head, body) = output.split_once("\r\n\r\n").expect("a head");
        assert!(head.contains("retry-after: 1"), "{head}");
        if json {
            let expected = "{\"status\":503,\"error\":\"Service Unavailable\",\"detail\":\"the \\\"queue\\\"\\\\\\u000a\",\
                            \"request_id\":\"r-1\"}\n";
            assert_eq!(body, expected, "{accept}");
        } else {
            assert_eq!(body, "503 Service Unavailable\nthe \"queue\"\\\n\nrequest id: r-1\n", "{accept}");
        }
        assert!(bench.connection.is_idle());
    }
}

#[test]
fn an_error_answer_survives_fields_that_cannot_be_sent() {
    let mut bench = Bench::asked(GET);
    bench.connection.respond_error(503, "", "", &[("bad name", b"1")], bench.now);
    assert!(bench.written().starts_with("HTTP/1.1 500 "));
}

#[test]
fn an_error_answer_to_head_has_no_body() {
    let mut bench = Bench::asked(HEAD);
    bench.error(404);
    let output = bench.written();
    assert!(output.ends_with("\r\n\r\n") && output.contains("content-length: "), "{output}");
    assert!(bench.connection.is_idle());
}

#[test]
fn an_error_answer_keeps_a_connection_whose_body_has_arrived() {
    let mut bench = Bench::fed(POST_5);
    bench.feed("hello");
    bench.feed(GET);
    assert!(matches!(bench.connection.poll_event(bench.now), Some(Event::Request(_))));
    bench.error(404);
    assert!(!bench.written().contains("connection: close"));
    assert_eq!(bench.poll(), "request");
}

#[test]
fn an_error_answer_before_the_body_closes_and_lingers_until_the_client_has_ended() {
    let mut bench = Bench::asked(POST_5);
    bench.error(413);
    assert!(bench.connection.wants_input(), "what the client sends is still taken, and thrown away");
    assert!(!bench.connection.should_shutdown_write());
    assert!(bench.written().contains("connection: close\r\n"));
    assert!(bench.connection.should_shutdown_write());
    bench.connection.handle_write_shutdown();
    bench.feed("hello and much more");
    assert_eq!(bench.poll(), "");
    assert!(!bench.connection.is_closed() && bench.connection.wants_input());
    bench.connection.handle_eof(bench.now);
    assert!(bench.connection.is_closed() && !bench.connection.was_cut());
}

#[test]
fn lingering_ends_with_its_time() {
    let mut bench = Bench::asked(POST_5);
    bench.error(413);
    bench.written();
    bench.connection.handle_write_shutdown();
    assert_eq!(bench.connection.deadline(), Some(bench.now + Timeouts::default().linger));
    bench.pass(Timeouts::default().linger);
    assert!(bench.connection.is_closed());
}

#[test]
fn a_small_rest_of_a_body_is_discarded_and_the_connection_kept() {
    for (wire, rest) in [(POST_5, "hello"), (POST_CHUNKED, "5\r\nhello\r\n0\r\nx: y\r\n\r\n")] {
        let mut bench = Bench::asked(wire);
        assert!(!bench.respond(200, &[], Some(0), "").contains("close"));
        bench.feed(rest);
        assert_eq!(bench.poll(), "");
        assert!(bench.connection.is_idle());
        bench.feed(GET);
        assert_eq!(bench.poll(), "request");
    }
}

#[test]
fn a_rest_at_the_limit_is_discarded_and_one_past_it_closes() {
    let declaring = |length: u64| format!("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: {length}\r\n\r\n");
    for (length, kept) in [(DRAIN_BYTES_MAX, true), (DRAIN_BYTES_MAX + 1, false)] {
        let mut bench = Bench::asked(&declaring(length));
        bench.respond(200, &[], Some(0), "");
        assert_eq!(bench.connection.should_shutdown_write(), !kept);
    }
    // Framing counts as well: a chunk of one byte is six bytes on the wire.
    let chunks = "1\r\na\r\n".repeat(DRAIN_BYTES_MAX as usize / 6 + 1);
    let mut bench = Bench::asked(POST_CHUNKED);
    bench.respond(200, &[], Some(0), "");
    bench.feed(&chunks);
    assert_eq!(bench.poll(), "");
    assert!(bench.connection.should_shutdown_write());
}

#[test]
fn a_rest_that_does_not_come_is_not_waited_for_long() {
    let mut bench = Bench::asked(POST_5);
    bench.respond(200, &[], Some(0), "");
    bench.pass(Timeouts::default().linger);
    assert!(bench.connection.should_shutdown_write());
}

#[test]
fn a_malformed_rest_closes() {
    let mut bench = Bench::asked(POST_CHUNKED);
    bench.respond(200, &[], Some(0), "");
    bench.feed("nonsense");
    assert_eq!(bench.poll(), "");
    assert!(bench.connection.should_shutdown_write());
}

#[test]
fn a_response_may_come_before_the_body_has_ended() {
    let mut bench = Bench::asked(POST_CHUNKED);
    bench.head(200, &[], None).expect("a valid head");
    bench.feed("5\r\nhello\r\n");
    assert_eq!(bench.poll(), "body 5");
    bench.body("hello").expect("a piece");
    bench.feed("0\r\n\r\n");
    assert_eq!(bench.poll(), "end");
    bench.end().expect("the end");
    bench.written();
    assert!(bench.connection.is_idle());
}

#[test]
fn a_bad_body_is_refused_before_the_response_and_cut_after_its_head() {
    let mut bench = Bench::asked(POST_CHUNKED);
    bench.feed("zz\r\n");
    assert_eq!(bench.poll(), "refused 400");
    assert!(bench.written().starts_with("HTTP/1.1 400 "));

    let mut bench = Bench::asked(POST_CHUNKED);
    bench.head(200, &[], None).expect("a valid head");
    bench.feed("zz\r\n");
    assert_eq!(bench.poll(), "refused 400");
    assert!(bench.connection.was_cut() && bench.connection.output().is_empty());
}

#[test]
fn after_a_refusal_nothing_more_is_owed() {
    let mut bench = Bench::asked(POST_CHUNKED);
    bench.feed("zz\r\n");
    assert_eq!(bench.poll(), "refused 400");
    assert_eq!(bench.head(200, &[], None), Err(ResponseError::OutOfOrder));
    let before = bench.connection.output().len();
    bench.error(500);
    assert_eq!(bench.connection.output().len(), before);
}

#[test]
fn a_client_that_has_only_closed_its_half_still_gets_its_response() {
    let mut bench = Bench::asked(GET);
    bench.connection.handle_eof(bench.now);
    assert_eq!(bench.poll(), "");
    assert!(!bench.connection.wants_input());
    let output = bench.respond(200, &[], Some(2), "hi");
    assert!(output.ends_with("connection: close\r\n\r\nhi"), "{output}");
    assert!(bench.connection.is_closed() && !bench.connection.was_cut());
}

#[test]
fn requests_that_came_before_the_end_are_all_served() {
    let mut bench = Bench::fed(&GET.repeat(2));
    bench.connection.handle_eof(bench.now);
    for last in [false, true] {
        assert_eq!(bench.poll(), "request");
        assert_eq!(bench.respond(200, &[], Some(0), "").contains("close"), last);
    }
    assert!(bench.connection.is_closed());
}

#[test]
fn an_idle_client_that_closes_is_closed() {
    for wire in ["", "\r", "\r\n"] {
        let mut bench = Bench::fed(wire);
        bench.connection.handle_eof(bench.now);
        assert_eq!(bench.poll(), "");
        assert!(bench.connection.is_closed() && !bench.connection.was_cut());
    }
}

#[test]
fn a_body_that_breaks_off_is_refused() {
    let mut bench = Bench::asked(POST_5);
    bench.feed("hel");
    bench.connection.handle_eof(bench.now);
    assert_eq!(bench.poll(), "body 3, refused 400");
    bench.written();
    assert!(bench.connection.is_closed());
}

#[test]
fn a_reset_tells_that_the_client_is_gone_only_where_a_response_was_owed() {
    for (wire, expected) in [(GET, "gone"), (POST_5, "gone"), ("", ""), ("GET", "")] {
        let mut bench = Bench::fed(wire);
        bench.poll();
        bench.connection.handle_disconnect();
        assert_eq!(bench.poll(), expected, "{wire}");
        assert!(bench.connection.is_closed());
    }
}

#[test]
fn a_slow_head_gets_408_however_it_trickles() {
    let mut bench = Bench::fed("G");
    assert_eq!(bench.poll(), "");
    let deadline = bench.now + Timeouts::default().head;
    for _ in 0..9 {
        bench.pass(Duration::from_secs(1));
        bench.feed("E");
        assert_eq!(bench.poll(), "");
        assert_eq!(bench.connection.deadline(), Some(deadline));
    }
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.poll(), "refused 408");
    assert!(bench.written().starts_with("HTTP/1.1 408 "));
}

#[test]
fn silence_is_closed_silently_at_first_and_between_requests() {
    let mut bench = Bench::new();
    assert_eq!(bench.connection.deadline(), Some(bench.now + Timeouts::default().head));
    bench.pass(Timeouts::default().head);
    assert!(bench.connection.is_closed() && bench.poll().is_empty());

    let mut bench = Bench::asked(GET);
    bench.respond(200, &[], Some(0), "");
    assert_eq!(bench.connection.deadline(), Some(bench.now + Timeouts::default().keep_alive));
    bench.pass(Timeouts::default().keep_alive - Duration::from_millis(1));
    assert!(bench.connection.is_idle());
    bench.pass(Duration::from_millis(1));
    assert!(bench.connection.is_closed() && bench.poll().is_empty());
}

#[test]
fn a_slow_body_gets_408_and_each_byte_buys_time() {
    let mut bench = Bench::asked(POST_5);
    bench.pass(Duration::from_secs(29));
    bench.feed("h");
    assert_eq!(bench.poll(), "body 1");
    bench.pass(Duration::from_secs(29));
    assert_eq!(bench.poll(), "");
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.poll(), "refused 408");
    assert!(bench.written().starts_with("HTTP/1.1 408 "));
}

#[test]
fn a_client_is_not_blamed_for_waiting_on_us() {
    // Body bytes that nobody takes.
    let mut bench = Bench::fed(POST_5);
    bench.feed("hel");
    assert!(matches!(bench.connection.poll_event(bench.now), Some(Event::Request(_))));
    assert_eq!(bench.connection.deadline(), None);
    // A guest that takes its time.
    assert_eq!(Bench::asked(GET).connection.deadline(), None);
    // A client that was not told to continue.
    let bench = Bench::asked("POST / HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n");
    assert_eq!(bench.connection.deadline(), None);
}

#[test]
fn a_client_that_does_not_read_is_cut() {
    let mut bench = Bench::asked(GET);
    bench.head(200, &[], None).expect("a valid head");
    bench.pass(Duration::from_secs(29));
    bench.connection.consume_output(1, bench.now);
    bench.pass(Duration::from_secs(29));
    assert!(!bench.connection.is_closed(), "progress buys time");
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.poll(), "gone");
    assert!(bench.connection.was_cut());
}

#[test]
fn a_timeout_that_comes_too_early_does_nothing() {
    let mut bench = Bench::fed("GET");
    bench.poll();
    bench.pass(Duration::from_secs(9));
    assert!(!bench.connection.is_closed() && bench.poll().is_empty());
}

#[test]
fn stopping_closes_idle_connections_and_lets_others_finish() {
    let mut bench = Bench::new();
    bench.connection.begin_drain();
    assert!(bench.connection.is_closed());

    let mut bench = Bench::asked(GET);
    bench.connection.begin_drain();
    assert!(bench.respond(200, &[], Some(0), "").contains("connection: close\r\n"));
    assert!(bench.connection.is_closed());

    let mut bench = Bench::asked(GET);
    bench.head(200, &[], None).expect("a valid head");
    bench.connection.begin_drain();
    bench.end().expect("the end");
    assert_eq!(bench.poll(), "");
    bench.written();
    assert!(bench.connection.is_closed(), "the head had promised to keep it, but idle connections may close");

    let mut bench = Bench::fed("GET / HT");
    bench.poll();
    bench.connection.begin_drain();
    bench.feed("TP/1.1\r\nhost: h\r\n\r\n");
    assert_eq!(bench.poll(), "request");
    assert!(bench.respond(200, &[], Some(0), "").contains("connection: close\r\n"));
}

#[test]
fn input_waits_while_it_cannot_be_used() {
    let mut bench = Bench::with(Limits { input_bytes_high: 8, ..Limits::default() });
    bench.feed("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 100\r\n\r\n");
    assert!(matches!(bench.connection.poll_event(bench.now), Some(Event::Request(_))));
    bench.feed("1234567");
    assert!(bench.connection.wants_input());
    bench.feed("8");
    assert!(!bench.connection.wants_input(), "at the mark");
    assert_eq!(bench.poll(), "body 8");
    assert!(bench.connection.wants_input());
}

#[test]
fn one_pipelined_read_is_taken_ahead() {
    let mut bench = Bench::asked(GET);
    assert!(bench.connection.wants_input(), "to notice the end of the connection");
    bench.feed("G");
    assert!(!bench.connection.wants_input());
}

#[test]
fn a_pipelining_client_that_does_not_read_is_held_back() {
    let mut bench = Bench::with(Limits { output_bytes_high: 100, ..Limits::default() });
    bench.feed(&GET.repeat(9));
    assert_eq!(bench.poll(), "request");
    bench.head(200, &[], Some(0)).expect("a valid head");
    bench.end().expect("the end");
    assert!(bench.connection.wants_output());
    assert_eq!(bench.poll(), "request");
    bench.head(200, &[], Some(0)).expect("a valid head");
    bench.end().expect("the end");
    assert!(!bench.connection.wants_output());
    assert_eq!(bench.poll(), "");
    bench.written();
    assert_eq!(bench.poll(), "request");
}

#[test]
fn large_bodies_come_in_pieces_of_bounded_size() {
    let mut bench = Bench::with(Limits { body_event_bytes_max: 10, ..Limits::default() });
    for body in ["content-length: 25\r\n\r\n", "transfer-encoding: chunked\r\n\r\n19\r\n"] {
        bench.feed(&format!("POST / HTTP/1.1\r\nhost: h\r\n{body}{}", "b".repeat(25)));
        assert_eq!(bench.poll().replace(", end", ""), "request, body 10, body 10, body 5");
        bench.feed(if body.contains("chunked") { "\r\n0\r\n\r\n" } else { "" });
        bench.poll();
        bench.respond(200, &[], Some(0), "");
    }
}

#[test]
fn a_connection_in_use_takes_its_buffers_from_the_spare_ones_and_returns_them() {
    let mut bench = Bench::new();
    for _ in 0..3 {
        bench.feed(GET);
        assert_eq!(bench.poll(), "request");
        assert_eq!(bench.context.spare_len(), 0);
        bench.respond(200, &[], Some(0), "");
        assert_eq!(bench.context.spare_len(), 1);
    }
    bench.feed(GET);
    bench.poll();
    bench.connection.abort();
    assert_eq!(bench.context.spare_len(), 1);
}
