//! What a guest gets to see of a request, and what a client gets to see of a response. Tests only.

use super::{Bench, DATE, GET, GET_10, GET_TRAILERS, HEAD, POST_5, POST_CHUNKED};
use crate::http::limits::{HELD_BYTES_MAX, SMALL_PIECE_BYTES};
use crate::http::{
    BodyLength, Connection, Event, Header, Limits, ResponseError, ResponseHead, Scheme, TargetForm, Version,
};

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
fn the_scheme_is_that_of_the_connection_and_an_https_target_in_the_clear_is_told() {
    for (scheme, target, claims_https) in [
        (Scheme::Http, "/", false),
        (Scheme::Http, "http://h/", false),
        (Scheme::Http, "https://h/", true),
        (Scheme::Https, "https://h/", false),
        (Scheme::Https, "http://h/", false),
    ] {
        let mut bench = Bench::new();
        bench.connection = Connection::new(bench.context.clone(), scheme, bench.now);
        bench.feed(&format!("GET {target} HTTP/1.1\r\nhost: h\r\n\r\n"));
        match bench.connection.poll_event(bench.now) {
            Some(Event::Request(head)) => {
                assert_eq!((head.scheme, head.claims_https), (scheme, claims_https), "{target}")
            }
            other => panic!("{other:?}"),
        }
    }
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
        let headers: &[Header<'_>] = &[("content-length", b"5"), ("transfer-encoding", b"chunked")];
        for body_length in [None, Some(0), Some(5), Some(7)] {
            let mut bench = Bench::asked(GET);
            let output = bench.respond(status, headers, body_length, "never");
            assert_eq!(output, format!("HTTP/1.1 {status} {reason}\r\n{framing}{DATE}\r\n"));
            assert!(bench.connection.is_idle());
        }
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

    let mut bench = Bench::asked(&format!("{expecting}he"));
    bench.connection.respond_continue(bench.now);
    assert_eq!(bench.written(), "", "the body has come with the head");

    let mut bench = Bench::asked("GET / HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\n\r\n");
    bench.connection.respond_continue(bench.now);
    assert_eq!(bench.written(), "", "there is no body to wait for");
    assert!(!bench.respond(200, &[], Some(0), "").contains("close"));

    let mut bench = Bench::asked(GET);
    bench.connection.respond_continue(bench.now);
    assert_eq!(bench.written(), "");
}

#[test]
fn a_body_that_is_broken_when_its_head_is_read_is_the_whole_answer() {
    for (broken, is_foreseen) in
        [("5;\r\n", true), ("5\r\nhello!", true), ("5\r\nhello\r\n0\r\n\n", true), ("5\r\nhel", false)]
    {
        let mut bench = Bench::fed(&format!("{POST_CHUNKED}{broken}"));
        let expected = if is_foreseen { "refused 400" } else { "request, body 3" };
        assert_eq!(bench.poll(), expected, "{broken:?}");
        assert_eq!(bench.written().starts_with("HTTP/1.1 400 Bad Request\r\n"), is_foreseen, "{broken:?}");
    }
    let mut bench = Bench::fed("HEAD / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n-1\r\n");
    assert_eq!(bench.poll(), "refused 400");
    assert!(bench.written().ends_with("\r\n\r\n"), "an answer to HEAD has no body");
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
fn an_answer_without_content_names_no_type() {
    let mut bench = Bench::asked("OPTIONS * HTTP/1.1\r\nhost: h\r\n\r\n");
    bench.connection.respond_error(204, "no content", "r-1", &[("allow", b"GET")], bench.now);
    assert_eq!(bench.written(), format!("HTTP/1.1 204 No Content\r\nallow: GET\r\n{DATE}x-request-id: r-1\r\n\r\n"));
}

#[test]
fn the_id_of_a_request_is_the_servers_word() {
    let mut bench = Bench::asked(GET);
    let headers: [Header<'_>; 2] = [("X-Request-ID", b"the guest's"), ("x-request-ids", b"stays")];
    let head = ResponseHead { status: 204, headers: &headers, request_id: "r-1", body_length: None };
    bench.connection.respond_head(&head, bench.now).expect("a valid head");
    let output = bench.written();
    assert_eq!(output, format!("HTTP/1.1 204 No Content\r\nx-request-ids: stays\r\n{DATE}x-request-id: r-1\r\n\r\n"));
}

/// A chunked response whose client is behind by all that is taken of one.
fn behind() -> (Bench, usize) {
    let mut bench = Bench::asked(GET);
    bench.head(200, &[], None).expect("a valid head");
    bench.written();
    bench.body(&"x".repeat(Limits::default().output_bytes_high)).expect("a piece");
    let length = bench.connection.output().len();
    (bench, length)
}

#[test]
fn small_pieces_wait_for_each_other_while_the_client_is_behind() {
    let (mut bench, backlog) = behind();
    for _ in 0..HELD_BYTES_MAX - 1 {
        bench.body("y").expect("a piece");
    }
    assert_eq!(bench.connection.output().len(), backlog);
    bench.body("z").expect("a piece");
    let chunk = format!("{HELD_BYTES_MAX:x}\r\n{}z\r\n", "y".repeat(HELD_BYTES_MAX - 1));
    assert!(bench.connection.output().ends_with(chunk.as_bytes()));
    bench.body("0").expect("a piece");
    assert!(bench.written().ends_with(&chunk));
    assert_eq!(bench.written(), "1\r\n0\r\n", "what is held follows when there is room");
    bench.body("1").expect("a piece");
    assert_eq!(bench.written(), "1\r\n1\r\n", "and nothing is held without need");
}

#[test]
fn what_is_held_precedes_a_large_piece_and_the_end() {
    let large = "z".repeat(SMALL_PIECE_BYTES);
    for (then, tail) in [(large.as_str(), format!("2\r\nab\r\n{:x}\r\n{large}\r\n", large.len())), ("", String::new())]
    {
        let (mut bench, _) = behind();
        bench.body("a").expect("a piece");
        bench.body("b").expect("a piece");
        bench.body(then).expect("a piece");
        assert!(bench.connection.output().ends_with(tail.as_bytes()));
        bench.end().expect("the end");
        let end = if then.is_empty() { "2\r\nab\r\n" } else { &tail };
        assert!(bench.written().ends_with(&format!("{end}0\r\n\r\n")));
        assert!(bench.connection.is_idle());
    }
}

#[test]
fn what_is_held_is_still_sent_of_a_response_that_breaks_off() {
    let (mut bench, _) = behind();
    bench.body("a").expect("a piece");
    bench.connection.break_off(bench.now);
    assert!(bench.written().ends_with("1\r\na\r\n"));
}
