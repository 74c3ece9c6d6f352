//! What a client of HTTP/2 may not do, against the real process: each row with its section of RFC 9113 and what has to come of it.
//!
//! Owns frames and heads. `http2_limits` has what is legal and too much.

use rusmd_e2e::http2::{
    CANCEL, COMPRESSION_ERROR, CONTINUATION, DATA, END_HEADERS, END_STREAM, End, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR,
    GOAWAY, HEADERS, PADDED, PING, PRIORITY, PROTOCOL_ERROR, PUSH_PROMISE, RST_STREAM, SETTINGS, STREAM_CLOSED,
    WINDOW_UPDATE, block, frame, request,
};
use rusmd_e2e::{Http2, Server, Setup};

use crate::common::{Form, HELLO, assert_serves};

/// Frames behind the preface, and the codes of which one has to come, on stream 1 or for the connection.
type Row = (&'static str, Vec<u8>, &'static [u32]);

/// A head in one frame.
fn head(stream: u32, fields: &[(&str, &str)], ends: bool) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | if ends { END_STREAM } else { 0 }, stream, &block(fields))
}

fn get(stream: u32) -> Vec<u8> {
    head(stream, &request("GET", "/hello"), true)
}

/// A request that is not over, and frames behind it.
fn open_then(frames: &[u8]) -> Vec<u8> {
    [&head(1, &request("POST", "/sleep?ms=60000"), false), frames].concat()
}

fn setting(id: u16, value: u32) -> Vec<u8> {
    [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()
}

fn one(number: u32) -> [u8; 4] {
    number.to_be_bytes()
}

fn frames() -> Vec<Row> {
    let mut self_dependent = one(1).to_vec();
    self_dependent.push(16);
    vec![
        ("4.2 a frame beyond the largest size", open_then(&frame(DATA, 0, 1, &[0; 16_385])), &[FRAME_SIZE_ERROR]),
        ("4.3 a head that cannot be decompressed", frame(HEADERS, 5, 1, &[0xff; 8]), &[COMPRESSION_ERROR]),
        (
            "4.3 another frame inside a head",
            [frame(HEADERS, 1, 1, &[]), frame(PING, 0, 0, &[0; 8])].concat(),
            &[PROTOCOL_ERROR],
        ),
        ("5.1 data of a stream that was never opened", frame(DATA, END_STREAM, 1, b"a"), &[PROTOCOL_ERROR]),
        ("5.1 a reset of one", frame(RST_STREAM, 0, 1, &one(CANCEL)), &[PROTOCOL_ERROR]),
        ("5.1 a window for one", frame(WINDOW_UPDATE, 0, 1, &one(1)), &[PROTOCOL_ERROR]),
        ("6.10 the rest of a head of one", frame(CONTINUATION, END_HEADERS, 1, &[]), &[PROTOCOL_ERROR]),
        (
            "5.1 data behind the end",
            [get(1), frame(DATA, END_STREAM, 1, b"a")].concat(),
            &[STREAM_CLOSED, PROTOCOL_ERROR],
        ),
        ("5.1 a second head behind the end", [get(1), get(1)].concat(), &[STREAM_CLOSED, PROTOCOL_ERROR]),
        ("5.1.1 a stream with an even number", get(2), &[PROTOCOL_ERROR]),
        ("5.1.1 a number below the last", [get(5), get(3)].concat(), &[PROTOCOL_ERROR, STREAM_CLOSED]),
        ("6.1 data of the connection", frame(DATA, 0, 0, b"a"), &[PROTOCOL_ERROR]),
        ("6.1 more padding than frame", open_then(&frame(DATA, PADDED, 1, &[9, 1, 2])), &[PROTOCOL_ERROR]),
        ("6.2 a head of the connection", get(0), &[PROTOCOL_ERROR]),
        ("6.2 more padding than head", frame(HEADERS, PADDED | 5, 1, &[200, 0x82]), &[PROTOCOL_ERROR]),
        ("6.3 a priority of the connection", frame(PRIORITY, 0, 0, &self_dependent), &[PROTOCOL_ERROR]),
        ("6.3 a priority of another size", frame(PRIORITY, 0, 1, &[0; 4]), &[FRAME_SIZE_ERROR, PROTOCOL_ERROR]),
        ("6.4 a reset of the connection", frame(RST_STREAM, 0, 0, &one(CANCEL)), &[PROTOCOL_ERROR]),
        ("6.4 a reset of another size", open_then(&frame(RST_STREAM, 0, 1, &[0; 3])), &[FRAME_SIZE_ERROR]),
        ("6.5 an acknowledgement with settings", frame(SETTINGS, 1, 0, &setting(3, 1)), &[FRAME_SIZE_ERROR]),
        ("6.5 settings of a stream", frame(SETTINGS, 0, 1, &[]), &[PROTOCOL_ERROR]),
        ("6.5 half a setting", frame(SETTINGS, 0, 0, &[0; 5]), &[FRAME_SIZE_ERROR]),
        ("6.5.2 a push that is neither on nor off", frame(SETTINGS, 0, 0, &setting(2, 2)), &[PROTOCOL_ERROR]),
        ("6.5.2 a window beyond the largest", frame(SETTINGS, 0, 0, &setting(4, 1 << 31)), &[FLOW_CONTROL_ERROR]),
        ("6.5.2 frames below the least size", frame(SETTINGS, 0, 0, &setting(5, 16_383)), &[PROTOCOL_ERROR]),
        ("6.5.2 frames beyond the largest", frame(SETTINGS, 0, 0, &setting(5, 1 << 24)), &[PROTOCOL_ERROR]),
        ("6.6 a client that pushes", frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2, 0x82]), &[PROTOCOL_ERROR]),
        ("6.7 a ping of a stream", frame(PING, 0, 1, &[0; 8]), &[PROTOCOL_ERROR]),
        ("6.7 a ping of another size", frame(PING, 0, 0, &[0; 6]), &[FRAME_SIZE_ERROR]),
        ("6.8 a farewell of a stream", frame(GOAWAY, 0, 1, &[0; 8]), &[PROTOCOL_ERROR]),
        ("6.9 a window for nothing", frame(WINDOW_UPDATE, 0, 0, &one(0)), &[PROTOCOL_ERROR]),
        ("6.9 a window of a stream for nothing", open_then(&frame(WINDOW_UPDATE, 0, 1, &one(0))), &[PROTOCOL_ERROR]),
        ("6.9 a window of another size", frame(WINDOW_UPDATE, 0, 0, &[0; 3]), &[FRAME_SIZE_ERROR]),
        (
            "6.9.1 windows beyond the largest",
            frame(WINDOW_UPDATE, 0, 0, &one(0x7fff_ffff)).repeat(2),
            &[FLOW_CONTROL_ERROR],
        ),
        (
            "6.9.1 windows of a stream beyond the largest",
            open_then(&frame(WINDOW_UPDATE, 0, 1, &one(0x7fff_ffff)).repeat(2)),
            &[FLOW_CONTROL_ERROR],
        ),
        (
            "6.9.1 more data than the window has",
            open_then(&frame(DATA, 0, 1, &[0; 16_384]).repeat(40)),
            &[FLOW_CONTROL_ERROR],
        ),
        (
            "6.10 a head behind a whole head",
            [get(1), frame(CONTINUATION, END_HEADERS, 1, &[])].concat(),
            &[PROTOCOL_ERROR],
        ),
        ("8.1 trailers without an end", open_then(&head(1, &[("x-a", "b")], false)), &[PROTOCOL_ERROR]),
        (
            "8.1.1 less than the length says",
            open_then_length("5", &frame(DATA, END_STREAM, 1, b"four")),
            &[PROTOCOL_ERROR],
        ),
        (
            "8.1.1 more than the length says",
            open_then_length("3", &frame(DATA, END_STREAM, 1, b"four")),
            &[PROTOCOL_ERROR],
        ),
        (
            "8.1.1 more than the length says, in pieces",
            open_then_length("3", &[frame(DATA, 0, 1, b"fo"), frame(DATA, END_STREAM, 1, b"ur")].concat()),
            &[PROTOCOL_ERROR],
        ),
        ("8.1.1 a length and no body", head(1, &with(("content-length", "4")), true), &[PROTOCOL_ERROR]),
    ]
}

fn open_then_length(length: &str, frames: &[u8]) -> Vec<u8> {
    let mut fields = request("POST", "/echo").to_vec();
    fields.push(("content-length", length));
    [&head(1, &fields, false), frames].concat()
}

fn with<'a>(field: (&'a str, &'a str)) -> Vec<(&'a str, &'a str)> {
    let mut fields = request("GET", "/hello").to_vec();
    fields.push(field);
    fields
}

#[test]
fn illegal_frames_end_their_stream_or_the_connection_with_the_code_of_the_rfc() {
    let server = Form::Handlers.setup().start();
    for (what, bytes, codes) in frames() {
        let mut client = Http2::connect(server.address());
        // What comes of it may come while it is sent.
        let _ = client.try_send_bytes(&bytes);
        let code = client.error_of(1);
        // The library says PROTOCOL_ERROR in some places where there is a more exact word (RFC 9113, section 5.4).
        let is_right = |code: u32| codes.contains(&code) || code == PROTOCOL_ERROR;
        assert!(code.is_some_and(is_right), "{what}: {code:?}, not one of {codes:?}");
    }
    assert_serves(&server);
}

#[test]
fn what_is_unknown_is_passed_over() {
    let server = Form::Handlers.setup().start();
    let mut client = Http2::connect(server.address());
    client.send(0x16, 0xff, 0, b"a frame of another time");
    client.send(0x16, 0xff, 7, b"and of a stream");
    client.send(SETTINGS, 0, 0, &setting(0xff, 1));
    client.send(PRIORITY, 0, 9, &[0, 0, 0, 3, 16]);
    client.send(PING, 0xfe, 0, &[7; 8]);
    client.send_bytes(&get(1));
    client.outcome(1).assert(200, HELLO);
}

#[test]
fn who_does_not_begin_with_the_preface_is_no_client_of_http_2() {
    let server = Form::Handlers.setup().start();
    let mut client = Http2::connect_silent(server.address());
    client.send_bytes(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nGET / HTTP/1.1\r\n\r\n");
    assert!(matches!(client.end(), End::Closed | End::Goaway(PROTOCOL_ERROR | FRAME_SIZE_ERROR)));
    // What is no preface after all is what it would be anyway.
    let mut client = server.connect();
    client.send("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n");
    assert_eq!(client.response().status(), 505);
}

/// What a head gets that is malformed: a reset with PROTOCOL_ERROR (RFC 9113, section 8.1.1), or a response that says what is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Refusal {
    Reset,
    Goaway,
    Status(u16),
}

use Refusal::{Goaway, Reset, Status};

const HEADS: &[(&str, &[(&str, &str)], Refusal)] = &[
    ("8.2.1 a name in capitals", &[M, S, P, A, ("X-Test", "a")], Goaway),
    ("8.2.1 a name with a space", &[M, S, P, A, ("x test", "a")], Goaway),
    ("8.2.1 a name that is empty", &[M, S, P, A, ("", "a")], Goaway),
    ("8.2.1 a value with a line end", &[M, S, P, A, ("x-test", "a\r\nx: y")], Goaway),
    ("8.2.1 a value with NUL", &[M, S, P, A, ("x-test", "a\0b")], Goaway),
    ("8.2.1 a value that begins with a space", &[M, S, P, A, ("x-test", " a")], Status(400)),
    ("8.2.1 a value that ends with a tab", &[M, S, P, A, ("x-test", "a\t")], Status(400)),
    ("8.2.1 a cookie that ends with a space", &[M, S, P, A, ("cookie", "a=b ")], Status(400)),
    ("8.2.2 connection", &[M, S, P, A, ("connection", "keep-alive")], Reset),
    ("8.2.2 keep-alive", &[M, S, P, A, ("keep-alive", "5")], Reset),
    ("8.2.2 proxy-connection", &[M, S, P, A, ("proxy-connection", "close")], Reset),
    ("8.2.2 transfer-encoding", &[M, S, P, A, ("transfer-encoding", "chunked")], Reset),
    ("8.2.2 upgrade", &[M, S, P, A, ("upgrade", "h2c")], Reset),
    ("8.2.2 http2-settings", &[M, S, P, A, ("http2-settings", "AAMAAABk")], Status(400)),
    ("8.2.2 te other than trailers", &[M, S, P, A, ("te", "trailers, deflate")], Reset),
    ("8.3 an unknown pseudo-header field", &[M, S, P, A, (":test", "a")], Goaway),
    ("8.3 one of responses", &[M, S, P, A, (":status", "200")], Reset),
    ("8.3 one behind the others", &[M, S, P, ("x-test", "a"), A], Reset),
    ("8.3.1 no method", &[S, P, A], Reset),
    ("8.3.1 no scheme", &[M, P, A], Reset),
    ("8.3.1 no path", &[M, S, A], Reset),
    ("8.3.1 an empty path", &[M, S, (":path", ""), A], Reset),
    ("8.3.1 two methods", &[M, M, S, P, A], Reset),
    ("8.3.1 two schemes", &[M, S, S, P, A], Reset),
    ("8.3.1 two paths", &[M, S, P, P, A], Reset),
    ("8.3.1 two authorities", &[M, S, P, A, A], Reset),
    ("8.3.1 a method that is no token", &[(":method", "G@T"), S, P, A], Goaway),
    ("8.3.1 a URL for a path", &[M, S, (":path", "http://evil/hello"), A], Reset),
    ("8.3.1 a path without a slash", &[M, S, (":path", "hello"), A], Reset),
    ("8.3.1 an authority that is empty", &[M, S, P, (":authority", "")], Reset),
    ("8.3.1 a path with bytes beyond ASCII", &[M, S, (":path", "/\u{e9}"), A], Status(400)),
    ("8.3.1 a path with a space", &[M, S, (":path", "/hello world"), A], Reset),
    ("8.3.1 a path with a backslash", &[M, S, (":path", "/a\\b"), A], Status(400)),
    ("8.3.1 an asterisk of another method", &[M, S, (":path", "*"), A], Status(400)),
    ("8.3.1 a path above the root", &[M, S, (":path", "/../hello"), A], Status(400)),
    ("8.3.1 a path with half a percent-encoding", &[M, S, (":path", "/%4"), A], Status(400)),
    ("8.3.1 an authority with a user", &[M, S, P, (":authority", "user@localhost")], Status(400)),
    ("8.3.1 an authority that is a list", &[M, S, P, (":authority", "a,b")], Status(400)),
    ("8.3.1 an authority with a large port", &[M, S, P, (":authority", "a:65536")], Status(400)),
    ("8.3.1 neither authority nor host", &[M, S, P], Status(400)),
    ("8.3.1 a host that disagrees", &[M, S, P, A, ("host", "evil")], Status(400)),
    ("8.3.1 two hosts", &[M, S, P, A, ("host", "localhost"), ("host", "localhost")], Status(400)),
    ("8.3.1 a host that is none", &[M, S, P, A, ("host", "a b")], Status(400)),
    ("9110-7.4 the scheme of another port", &[M, (":scheme", "https"), P, A], Status(421)),
    ("8.3.1 a scheme that is not of HTTP", &[M, (":scheme", "ftp"), P, A], Status(400)),
    ("8.5 CONNECT", &[(":method", "CONNECT"), (":authority", "example.org:443")], Status(501)),
    ("8.5 CONNECT with a path", &[(":method", "CONNECT"), S, P, A], Reset),
    ("9110-8.6 two lengths", &[M, S, P, A, ("content-length", "0"), ("content-length", "0")], Status(400)),
    ("9110-8.6 a length with a sign", &[M, S, P, A, ("content-length", "+0")], Reset),
    ("9110-10.1.1 an unknown expectation", &[M, S, P, A, ("expect", "tea")], Status(417)),
];

const M: (&str, &str) = (":method", "GET");
const S: (&str, &str) = (":scheme", "http");
const P: (&str, &str) = (":path", "/hello");
const A: (&str, &str) = (":authority", "localhost");

#[test]
fn malformed_heads_are_refused_and_no_guest_sees_them() {
    let server = Form::Handlers.setup().start();
    for (what, fields, refusal) in HEADS {
        let mut client = Http2::connect(server.address());
        client.head(1, fields, true);
        match refusal {
            Status(status) => assert_eq!(client.outcome(1).status(), *status, "{what}"),
            Reset => assert_eq!(client.outcome(1).reset, Some(PROTOCOL_ERROR), "{what}"),
            // What is no name, value or method at all is nothing that the library could pass over.
            Goaway => {
                assert_eq!(client.error_of(1), Some(PROTOCOL_ERROR), "{what}");
                continue;
            }
        }
        // The connection is none the worse for it.
        client.get(3, "/hello");
        client.outcome(3).assert(200, HELLO);
    }
}

const LEGAL: &[(&str, &[(&str, &str)], &str)] = &[
    ("a host instead of an authority", &[M, S, P, ("host", "localhost")], "GET /hello\n\n"),
    ("both that agree", &[M, S, P, A, ("host", "LOCALHOST:80")], "GET /hello\n\n"),
    ("bytes beyond ASCII", &[M, S, P, A, ("x-a", "\u{e9}")], "GET /hello\nfield x-a: \u{e9}\n\n"),
    ("a query with a question mark", &[M, S, (":path", "/a?b?c"), A], "GET /a?b?c\n\n"),
    ("a method of one's own", &[(":method", "PURGE"), S, P, A], "PURGE /hello\n\n"),
    ("an announcement of trailers", &[M, S, P, A, ("trailer", "x-sum")], "GET /hello\n\n"),
];

#[test]
fn legal_heads_reach_the_guest() {
    let server = Setup::new().component("mirror").start();
    for (what, fields, seen) in LEGAL {
        let mut client = Http2::connect(server.address());
        client.head(1, fields, true);
        let outcome = client.outcome(1);
        assert_eq!((outcome.status(), outcome.told().as_str()), (200, *seen), "{what}");
    }
}

#[test]
fn pseudo_header_fields_in_trailers_are_never_seen_by_a_guest() {
    let server = Setup::new().component("mirror").start();
    let mut client = Http2::connect(server.address());
    client.head(1, &request("POST", "/"), false);
    client.send(DATA, 0, 1, b"body");
    client.head(1, &[(":method", "GET"), (":path", "/evil")], true);
    let outcome = client.outcome(1);
    assert!(outcome.reset == Some(PROTOCOL_ERROR) || outcome.told() == "POST /\n\nbody", "{outcome:?}");
}

#[test]
fn the_server_is_asked_about_itself() {
    let server: Server = Form::Handlers.setup().start();
    let mut client = Http2::connect(server.address());
    client.head(1, &request("OPTIONS", "*"), true);
    assert_eq!(client.outcome(1).status(), 204);
}
