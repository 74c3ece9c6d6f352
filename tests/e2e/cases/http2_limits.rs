//! What is legal in HTTP/2 and too much, or too slow: each limit at it and one past it.
//!
//! Owns floods, limits and times of connections and their streams; memory is watched by the harness, at the end of every test.

use std::time::Duration;

use rusmd_e2e::Http2;
use rusmd_e2e::http2::{
    self, CANCEL, DATA, ENHANCE_YOUR_CALM, End, GOAWAY, NO_ERROR, PING, REFUSED_STREAM, RST_STREAM, SETTINGS, frame,
    request,
};
use rusmd_e2e::wait::{self, Stopwatch};

use crate::common::{Form, HELLO, assert_serves};

/// Cancelled streams that a connection may have beyond those that end well: `H2_CANCELS_MAX`.
const CANCELS_MAX: u32 = 200;

fn held() -> [(&'static str, &'static str); 4] {
    request("POST", "/echo")
}

#[test]
fn streams_are_refused_beyond_the_limit_of_a_connection_and_may_be_sent_again() {
    let server = Form::Handlers.setup().server("max-streams", 2).start();
    let mut client = Http2::connect(server.address());
    // The limit holds when the client has heard of it.
    client.ping();
    for stream in [1, 3, 5] {
        client.head(stream, &held(), false);
    }
    assert_eq!(client.outcome(5).reset, Some(REFUSED_STREAM));
    client.send(DATA, http2::END_STREAM, 1, b"one");
    client.outcome(1).assert(200, "one");
    client.get(7, "/hello");
    client.outcome(7).assert(200, HELLO);
    client.send(DATA, http2::END_STREAM, 3, b"three");
    client.outcome(3).assert(200, "three");
}

#[test]
fn streams_of_all_connections_are_as_many_as_connections_and_each_connection_has_one() {
    let server = Form::Handlers.setup().server("max-connections", 3).start();
    let mut greedy = Http2::connect(server.address());
    for stream in [1, 3, 5, 7] {
        greedy.head(stream, &held(), false);
    }
    assert_eq!(greedy.outcome(7).reset, Some(REFUSED_STREAM));
    let mut modest = Http2::connect(server.address());
    modest.get(1, "/hello");
    modest.outcome(1).assert(200, HELLO);
    modest.head(3, &held(), false);
    modest.head(5, &held(), false);
    assert_eq!(modest.outcome(5).reset, Some(REFUSED_STREAM));
    // They are no connections: there is room for the third of those, and not for another.
    let mut third = server.connect();
    third.get("/hello");
    third.response().assert(200, HELLO);
    let mut fourth = server.connect();
    assert_eq!(fourth.response().status(), 503);
}

#[test]
fn heads_are_as_large_as_the_manifest_says() {
    let server = Form::Handlers.setup().server("max-head-bytes", 1024).server("max-headers", 10).start();
    let mut client = Http2::connect(server.address());
    // What HTTP/1.1 would have: line, host, the field, and the empty line.
    let others = "GET /hello HTTP/1.1\r\nhost: localhost\r\nx-a: \r\n\r\n".len();
    for (stream, length, status) in [(1, 1024 - others, 200), (3, 1025 - others, 431), (5, 1300, 431)] {
        let value = "a".repeat(length);
        let mut fields = request("GET", "/hello").to_vec();
        fields.push(("x-a", &value));
        client.head(stream, &fields, true);
        assert_eq!(Http2::outcome(&mut client, stream).status(), status, "{length}");
        // A status is not compressed the same way twice.
        client = Http2::connect(server.address());
    }
    for (count, status) in [(9, 200), (10, 431)] {
        let mut client = Http2::connect(server.address());
        let mut fields = request("GET", "/hello").to_vec();
        fields.extend(std::iter::repeat_n(("x-a", "b"), count));
        client.head(1, &fields, true);
        assert_eq!(client.outcome(1).status(), status, "{count}");
    }
    // Beyond what the library decodes at all.
    let mut client = Http2::connect(server.address());
    let value = "a".repeat(2000);
    let mut fields = request("GET", "/hello").to_vec();
    fields.push(("x-a", &value));
    client.head(1, &fields, true);
    assert_eq!(client.outcome(1).status(), 431);
}

#[test]
fn targets_and_bodies_are_as_large_as_the_manifest_says() {
    let server = Form::Wasi
        .setup()
        .server("max-target-bytes", 128)
        .server("max-body-mb", 1)
        .expect_error("the body broke")
        .expect_error("wasi-faults/src/lib.rs")
        .start();
    for (length, status) in [(128, 404), (129, 414)] {
        let mut client = Http2::connect(server.address());
        client.get(1, &format!("/{}", "a".repeat(length - 1)));
        assert_eq!(client.outcome(1).status(), status, "{length}");
    }
    for (length, status) in [("1048576", None), ("1048577", Some(413))] {
        let mut client = Http2::connect(server.address());
        let mut fields = request("POST", "/read-then-reply").to_vec();
        fields.push(("content-length", length));
        client.head(1, &fields, false);
        match status {
            Some(status) => assert_eq!(client.outcome(1).status(), status),
            None => {
                client.body(1, &vec![0; 1 << 20], true);
                client.outcome(1).assert(200, "1048576\n");
            }
        }
    }
    for (length, status) in [(1 << 20, 200), ((1 << 20) + 1, 413)] {
        let mut client = Http2::connect(server.address());
        client.post(1, "/read-then-reply", &vec![0; length]);
        assert_eq!(client.outcome(1).status(), status, "{length}");
    }
}

#[test]
fn cancelled_requests_end_the_connection_when_they_are_too_many_and_completed_ones_make_up_for_them() {
    let server = Form::Handlers.setup().start();
    let mut client = Http2::connect(server.address());
    let mut stream = 1;
    let mut cancel = |client: &mut Http2, times| {
        for _ in 0..times {
            client.head(stream, &held(), false);
            client.ping();
            client.send(RST_STREAM, 0, stream, &CANCEL.to_be_bytes());
            stream += 2;
        }
        client.ping();
        stream
    };
    let next = cancel(&mut client, CANCELS_MAX);
    client.get(next, "/hello");
    client.outcome(next).assert(200, HELLO);
    let mut client = Http2::connect(server.address());
    for n in 0..=CANCELS_MAX {
        client.head(1 + 2 * n, &held(), false);
        if n < CANCELS_MAX {
            client.ping();
        }
        client.send(RST_STREAM, 0, 1 + 2 * n, &CANCEL.to_be_bytes());
    }
    assert_eq!(client.end(), End::Goaway(ENHANCE_YOUR_CALM));
    assert_serves(&server);
}

#[test]
fn a_request_that_is_cancelled_while_it_waits_never_starts() {
    let server =
        Form::Handlers.setup().server("workers", 1).server("spare-workers", 0).log("access", "\"access.log\"").start();
    let mut client = Http2::connect(server.address());
    client.get(1, "/work?turns=1000");
    server.busy_worker();
    client.get(3, "/hello?cancelled");
    client.ping();
    client.send(RST_STREAM, 0, 3, &CANCEL.to_be_bytes());
    assert_eq!(client.outcome(1).status(), 200);
    wait::until("it is told", || {
        let log = server.read("access.log");
        log.lines().any(|line| {
            line.contains("cancelled") && line.contains("started=0") && line.contains("outcome=client-left")
        })
    });
}

#[test]
fn a_rapid_reset_is_stopped() {
    let server = Form::Handlers.setup().start();
    let mut client = Http2::connect(server.address());
    let mut bytes = Vec::new();
    for n in 0..10_000 {
        let flags = http2::END_HEADERS | http2::END_STREAM;
        bytes.extend(frame(http2::HEADERS, flags, 1 + 2 * n, &http2::block(&request("GET", "/work?ms=50"))));
        bytes.extend(frame(RST_STREAM, 0, 1 + 2 * n, &CANCEL.to_be_bytes()));
    }
    let _ = client.try_send_bytes(&bytes);
    assert_eq!(client.end(), End::Goaway(ENHANCE_YOUR_CALM));
    assert_serves(&server);
}

/// Frames that ask for an answer, or for nothing at all.
fn floods() -> [(&'static str, Vec<u8>); 5] {
    [
        ("pings", frame(PING, 0, 0, &[7; 8])),
        ("settings", frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255])),
        ("windows", frame(http2::WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes())),
        ("priorities", frame(http2::PRIORITY, 0, 3, &[0, 0, 0, 0, 16])),
        ("frames of another time", frame(0x16, 0, 0, &[0; 16])),
    ]
}

#[test]
fn floods_end_the_connection_whether_the_client_reads_or_not() {
    let server = Form::Handlers.setup().server("write-timeout-ms", 500).start();
    for (what, bytes) in floods() {
        let mut client = Http2::connect(server.address());
        let piece = bytes.repeat(1000);
        let sent = (0..4000).take_while(|_| client.try_send_bytes(&piece).is_ok()).count();
        assert!(sent < 4000, "{what}: as much as it likes");
    }
    assert_serves(&server);
}

#[test]
fn frames_without_content_end_the_connection_when_they_are_too_many() {
    let server = Form::Handlers.setup().start();
    let mut client = Http2::connect(server.address());
    client.head(1, &held(), false);
    let _ = client.try_send_bytes(&frame(DATA, 0, 1, &[]).repeat(20_000));
    assert_eq!(client.end(), End::Goaway(ENHANCE_YOUR_CALM));
    let mut client = Http2::connect(server.address());
    let mut bytes = frame(http2::HEADERS, http2::END_STREAM, 1, &http2::block(&request("GET", "/hello")));
    bytes.extend(frame(http2::CONTINUATION, 0, 1, &[]).repeat(20_000));
    let _ = client.try_send_bytes(&bytes);
    assert!(matches!(client.end(), End::Goaway(ENHANCE_YOUR_CALM) | End::Closed));
    assert_serves(&server);
}

#[test]
fn a_response_that_nobody_reads_holds_up_no_other_and_ends_when_its_time_is_over() {
    let server = Form::Wasi.setup().server("write-timeout-ms", 700).start();
    let mut client = Http2::connect(server.address());
    // Room on the connection, and none on the streams beyond what they have at first.
    client.send(http2::WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes());
    client.stop_reading();
    client.get(1, "/download?bytes=100000000");
    client.get(3, "/hello");
    assert!(client.outcome(3).text().starts_with("hello"));
    assert_eq!(client.outcome(1).reset, Some(CANCEL));
    client.get(5, "/hello");
    assert!(client.outcome(5).text().starts_with("hello"));
}

#[test]
fn a_client_that_takes_nothing_at_all_is_cut() {
    let server = Form::Wasi.setup().server("write-timeout-ms", 300).start();
    let mut client = Http2::connect(server.address());
    client.send(http2::WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes());
    client.send(SETTINGS, 0, 0, &[0, 4, 0x40, 0, 0, 0]);
    client.get(1, "/download?bytes=100000000");
    // Its connection is gone although its end is open.
    server.check_nothing_leaks();
}

#[test]
fn bodies_that_nobody_takes_hold_up_no_other() {
    // Collected, and not enough to be given to a worker.
    let server = Form::Wasi.setup().server("workers", 1).start();
    let mut client = Http2::connect(server.address());
    client.head(1, &request("POST", "/echo"), false);
    client.send_bytes(&frame(DATA, 0, 1, &[0; 16_000]).repeat(3));
    client.ping();
    client.post(3, "/echo", b"beside it");
    client.outcome(3).assert(200, "beside it");
}

#[test]
fn a_body_that_stops_coming_gets_408_and_its_connection_goes_on() {
    let server = Form::Handlers.setup().server("body-timeout-ms", 300).start();
    let mut client = Http2::connect(server.address());
    client.head(1, &held(), false);
    client.send(DATA, 0, 1, b"a");
    assert_eq!(client.outcome(1).status(), 408);
    client.get(3, "/hello");
    client.outcome(3).assert(200, HELLO);
}

#[test]
fn a_connection_without_a_request_ends_when_its_time_is_over() {
    let server = Form::Handlers.setup().server("head-timeout-ms", 300).server("keep-alive-timeout-ms", 600).start();
    // Nothing but a preface, part of one, or part of a head.
    let mut part = Http2::connect_silent(server.address());
    part.send_bytes(&http2::PREFACE[..20]);
    let mut silent = Http2::connect(server.address());
    let mut headless = Http2::connect(server.address());
    headless.send(http2::HEADERS, 0, 1, &http2::block(&request("GET", "/hello"))[..20]);
    assert_eq!(silent.end(), End::Goaway(NO_ERROR));
    assert_eq!(headless.end(), End::Goaway(NO_ERROR));
    server.check_nothing_leaks();
    let mut client = Http2::connect(server.address());
    client.get(1, "/hello");
    client.outcome(1).assert(200, HELLO);
    let watch = Stopwatch::start();
    let goaway = client.frame_of_kind(GOAWAY);
    assert_eq!(http2::code(&goaway.payload[4..]), NO_ERROR);
    assert!(watch.elapsed() >= Duration::from_millis(500), "it had {:?}", watch.elapsed());
    assert_eq!(client.end(), End::Closed);
}
