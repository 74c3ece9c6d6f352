//! HTTP/1.1 at the socket: connections, methods, framing, and what is refused.
//!
//! Owns what a client sees of the protocol. The corpus of malformed requests beside `src/http` is larger; here stand the
//! kinds of it, against the real process.

use std::time::Duration;

use rusmd_e2e::wait::{self, Stopwatch};
use rusmd_e2e::{Client, ClientError, Server, Setup};

use crate::common::{Form, HELLO, assert_failed, assert_serves, request_id};

/// A server on which every answer comes from a small handler.
fn server() -> Server {
    Form::Handlers.setup().start()
}

#[test]
fn a_connection_serves_many_requests() {
    let server = server();
    let mut client = server.connect();
    for _ in 0..100 {
        client.get("/hello");
        client.response().assert(200, HELLO);
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = server();
    let mut client = server.connect();
    let requests: String = (0..50)
        .map(|n| {
            let body = format!("number {n}");
            format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        })
        .collect();
    client.send(requests);
    for n in 0..50 {
        client.response().assert(200, &format!("number {n}"));
    }
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let server = server();
    let mut client = server.connect();
    for byte in b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n"
    {
        client.send([*byte]);
    }
    client.response().assert(200, "hello!");
    client.get("/hello");
    client.response().assert(200, HELLO);
}

#[test]
fn chunked_bodies_go_both_ways() {
    for form in [Form::Handlers, Form::Wasi, Form::TypeScript] {
        let server = form.setup().start();
        let mut client = server.connect();
        client.send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.send("5;name=value\r\nhello\r\n");
        client.send("10\r\n, chunked world.\r\n0\r\nX-Trailer: yes\r\n\r\n");
        let response = client.response();
        response.assert(200, "hello, chunked world.");
        assert_serves(&server);
    }
}

#[test]
fn head_is_get_without_the_body() {
    for form in [Form::Handlers, Form::Wasi, Form::TypeScript] {
        let server = form.setup().start();
        let mut client = server.connect();
        client.send("HEAD /hello HTTP/1.1\r\nHost: a\r\n\r\n");
        let response = client.response_to("HEAD");
        assert_eq!((response.status(), response.body.len()), (200, 0));
        client.get("/hello");
        assert!(client.response().text().starts_with("hello"), "bytes of a body came after the head");
    }
}

#[test]
fn an_unknown_path_is_404_and_no_worker_is_asked() {
    let server = server();
    let response = server.get("/no/such/path");
    assert_eq!(response.status(), 404);
    request_id(&response);
    let response = server.get("/");
    assert_eq!(response.status(), 404);
}

#[test]
fn a_wrong_method_is_405_with_allow() {
    let server = server();
    let mut client = server.connect();
    client.send("DELETE /hello HTTP/1.1\r\nHost: a\r\n\r\n");
    let response = client.response();
    assert_eq!(response.status(), 405);
    assert_eq!(allowed(response.header("allow")), ["GET", "HEAD", "OPTIONS"]);
    client.get("/hello");
    client.response().assert(200, HELLO);
}

#[test]
fn options_answers_with_allow() {
    let server = server();
    let mut client = server.connect();
    client.send("OPTIONS /hello HTTP/1.1\r\nHost: a\r\n\r\n");
    let response = client.response();
    assert!(matches!(response.status(), 200 | 204), "{}", response.status());
    assert_eq!(allowed(response.header("allow")), ["GET", "HEAD", "OPTIONS"]);
    client.send("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(matches!(client.response().status(), 200 | 204));
}

fn allowed(value: Option<&str>) -> Vec<&str> {
    let mut methods: Vec<&str> = value.unwrap_or_default().split(',').map(str::trim).collect();
    methods.sort_unstable();
    methods
}

#[test]
fn a_route_to_an_unregistered_component_is_500_and_reported_at_start() {
    let server = Form::Handlers
        .setup()
        .routes(&[("GET /lost", "unregistered-name#show"), ("GET /hello", "faults#hello")])
        .expect_error("unregistered-name")
        .start();
    assert!(server.log().contains("unregistered-name"), "the start does not report it");
    let address = server.addresses()[1];
    let mut client = Client::connect(address);
    client.get("/lost");
    let response = client.response();
    assert_eq!(response.status(), 500);
    request_id(&response);
    client.get("/hello");
    client.response().assert(200, HELLO);
}

#[test]
fn a_route_to_a_missing_action_is_500_and_reported_at_start() {
    let server = Setup::new()
        .routes(&[("GET /lost", "faults#no_such_action"), ("GET /hello", "faults#hello")])
        .expect_error("no_such_action")
        .start();
    server.wait_for_log(&["no_such_action"]);
    assert_eq!(server.get("/lost").status(), 500);
    server.get("/hello").assert(200, HELLO);
}

#[test]
fn expect_continue_is_answered_before_the_body() {
    let server = server();
    let mut client = server.connect();
    client.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    let interim = client.try_head().expect("an interim response comes first");
    assert_eq!(interim.status, 100);
    client.send("hello");
    client.response().assert(200, "hello");
}

#[test]
fn expect_continue_gets_the_refusal_without_the_body() {
    let server = server();
    let mut client = server.connect();
    client.send("POST /no/such HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.response().status(), 404);
    let mut client = server.connect();
    client.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: a-miracle\r\n\r\n");
    assert_eq!(client.response().status(), 417);
}

#[test]
fn a_body_that_is_broken_from_its_beginning_is_400_on_every_path() {
    let server = server();
    for path in ["/hello", "/no/such", "/echo"] {
        let mut client = server.connect();
        client.send(format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nhello\r\n0\r\n\r\n"
        ));
        assert_eq!(client.response().status(), 400, "{path}");
    }
}

#[test]
fn http_1_0_closes_unless_asked_to_keep_alive() {
    let server = server();
    let mut client = server.connect();
    client.send("GET /hello HTTP/1.0\r\n\r\n");
    let response = client.response();
    response.assert(200, HELLO);
    assert_eq!(response.header("transfer-encoding"), None, "HTTP/1.0 has no chunked coding");
    client.expect_close();

    let mut client = server.connect();
    client.send("GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let response = client.response();
    response.assert(200, HELLO);
    assert_eq!(response.header("connection").map(str::to_ascii_lowercase).as_deref(), Some("keep-alive"));
    client.send("GET /hello HTTP/1.0\r\n\r\n");
    client.response().assert(200, HELLO);
    client.expect_close();
}

#[test]
fn connection_close_is_honoured() {
    let server = server();
    let mut client = server.connect();
    client.send("GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let response = client.response();
    response.assert(200, HELLO);
    assert_eq!(response.header("connection"), Some("close"));
    client.expect_close();
}

#[test]
fn a_half_closed_client_still_gets_its_answer() {
    let server = server();
    let mut client = server.connect();
    client.get("/hello");
    client.half_close();
    client.response().assert(200, HELLO);
    client.expect_close();
}

#[test]
fn the_end_of_a_client_that_comes_with_its_request_is_seen() {
    let server = server();
    let mut client = server.connect();
    client.get("/hello");
    client.response().assert(200, HELLO);
    // While the supervisor is stopped, both arrive, and it learns of them at once.
    server.paused(|| {
        client.get("/hello");
        client.half_close();
    });
    client.response().assert(200, HELLO);
    client.expect_close();
}

#[test]
fn every_listener_has_its_own_routes() {
    let server = Setup::new()
        .routes(&[("GET /one", "faults#hello")])
        .routes(&[("GET /two", "faults#hello")])
        .component("wasi-faults")
        .start();
    let ask = |listener: usize, path: &str| {
        let mut client = Client::connect(server.addresses()[listener]);
        client.get(path);
        client.response().status()
    };
    assert_eq!([ask(0, "/one"), ask(0, "/two"), ask(0, "/hello")], [200, 404, 404]);
    assert_eq!([ask(1, "/one"), ask(1, "/two"), ask(1, "/hello")], [404, 200, 404]);
    assert_eq!([ask(2, "/one"), ask(2, "/two"), ask(2, "/hello")], [404, 404, 200]);
}

#[test]
fn path_parameters_reach_the_handler_decoded() {
    let server = Setup::new()
        .routes(&[
            ("GET /users/:id", "faults#show"),
            ("GET /users/me", "faults#hello"),
            ("GET /files/*", "faults#show"),
        ])
        .start();
    server.get("/users/me").assert(200, HELLO);
    let cases = [
        ("/users/42", "param id=42\n"),
        ("/users//42/", "param id=42\n"),
        ("/users/a%2Fb%20%C3%A9", "param id=a/b é\n"),
        ("/files/a/b/c", "param *=a/b/c\n"),
        ("/users/x/../42?q=a+b%21", "query q=a b!\n"),
    ];
    for (path, line) in cases {
        let text = server.get(path).text();
        assert!(text.contains(line), "{path}: no {line:?} in\n{text}");
    }
    assert_eq!(server.get("/files").status(), 404);
    for path in ["/users/%zz", "/users/%00", "/users/../../etc"] {
        assert_eq!(server.get(path).status(), 400, "{path}");
    }
}

#[test]
fn a_listener_adds_its_headers() {
    let server = Form::Handlers.setup().listener_line("headers = { x-served-by = \"rusmd\" }").start();
    assert_eq!(server.get("/hello").header("x-served-by"), Some("rusmd"));
}

#[test]
fn responses_carry_a_date() {
    let server = server();
    let response = server.get("/hello");
    assert!(response.header("date").is_some_and(|date| date.ends_with(" GMT")), "{:?}", response.head);
}

#[test]
fn many_headers_reach_the_guest() {
    let server = Form::Wasi.setup().start();
    let mut client = server.connect();
    let fields: String = (0..90).map(|n| format!("X-Number-{n}: value {n}\r\n")).collect();
    client.send(format!("GET /headers HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    let response = client.response();
    assert_eq!(response.status(), 200);
    assert!(response.text().contains("x-number-89: value 89"), "{}", response.text());
}

#[test]
fn hop_by_hop_headers_do_not_reach_the_guest() {
    let server = Form::Wasi.setup().start();
    let mut client = server.connect();
    client.send(
        "GET /headers HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Secret\r\nX-Secret: yes\r\nKeep-Alive: 5\r\n\
         X-Kept: yes\r\n\r\n",
    );
    let text = client.response().text();
    assert!(text.contains("x-kept: yes"), "{text}");
    for hidden in ["x-secret", "keep-alive", "connection"] {
        assert!(!text.contains(hidden), "{hidden} reaches the guest: {text}");
    }
}

/// Request bytes and the status that they get; the connection is closed after it.
const REFUSED: &[(&str, u16)] = &[
    ("GARBAGE\r\n\r\n", 400),
    ("GET /hello\r\n\r\n", 400),
    ("GET  /hello HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("G@T /hello HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET hello HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET /hello#top HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET /he\x01llo HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET /hello HTTP/1.1\r\n\r\n", 400),
    ("GET /hello HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    ("GET /hello HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    ("GET /hello HTTP/1.1\nHost: a\n\n", 400),
    ("GET /hello HTTP/1.1\r\nHost: a\r\nX-A : b\r\n\r\n", 400),
    ("GET /hello HTTP/1.1\r\nHost: a\r\nX-A: b\r\n c\r\n\r\n", 400),
    ("GET /hello HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", 400),
    ("GET /hello HTTP/1.1\r\nHost: a\r\nX-A: b\0c\r\n\r\n", 400),
    ("GET /hello HTTP/9.9\r\nHost: a\r\n\r\n", 505),
    ("\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ("CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\n\r\n", 501),
    ("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello", 400),
    ("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400),
    ("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n", 400),
    ("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 400),
    ("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    ("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    ("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n", 400),
    ("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", 400),
    ("\x16\x03\x01\x02\x00\x01\x00\x01\u{7f}\x03\x03 a TLS hello", 400),
];

#[test]
fn malformed_requests_are_refused_and_no_guest_sees_them() {
    let server = server();
    for (bytes, status) in REFUSED {
        let mut client = server.connect();
        client.send(bytes);
        match client.try_response() {
            Ok(response) => {
                assert_eq!(response.status(), *status, "{bytes:?} got {}", response.text());
                assert_eq!(response.header("connection"), Some("close"), "{bytes:?}");
            }
            Err(error) => panic!("{bytes:?}: {error}"),
        }
        client.expect_close();
    }
    server.get("/hello").assert(200, HELLO);
}

#[test]
fn too_large_heads_are_refused() {
    let server = server();
    let long = "x".repeat(100 * 1024);
    let many: String = (0..2000).map(|n| format!("X-{n}: y\r\n")).collect();
    let cases = [
        (format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"), 414),
        (format!("GET /hello HTTP/1.1\r\nHost: a\r\nX-Long: {long}\r\n\r\n"), 431),
        (format!("GET /hello HTTP/1.1\r\nHost: a\r\n{many}\r\n"), 431),
    ];
    for (request, status) in cases {
        let mut client = server.connect();
        client.send_if_open(request);
        assert_eq!(client.response().status(), status);
    }
    server.get("/hello").assert(200, HELLO);
}

#[test]
fn a_target_at_the_limit_of_the_manifest_is_served_and_one_past_it_is_414() {
    let server = Form::Wasi.setup().server("max-target-bytes", 200).start();
    for (length, status) in [(200, 200), (201, 414)] {
        let mut client = server.connect();
        client.send(format!("GET /hello?{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(length - "/hello?".len())));
        assert_eq!(client.response().status(), status, "{length} bytes");
    }
    server.get("/hello").assert(200, "hello world\n");
}

#[test]
fn a_head_at_the_largest_limit_of_the_manifest_is_served() {
    const HEAD_BYTES: usize = 131_072;
    let server = Form::Wasi.setup().server("max-head-bytes", HEAD_BYTES).server("max-target-bytes", 32_768).start();
    let start = format!("GET /hello?{} HTTP/1.1\r\nHost: a\r\nX: ", "x".repeat(32_768 - "/hello?".len()));
    for (head_bytes, status) in [(HEAD_BYTES, 200), (HEAD_BYTES + 1, 431)] {
        let mut client = server.connect();
        let value = "y".repeat(head_bytes - start.len() - "\r\n\r\n".len());
        client.send_if_open(format!("{start}{value}\r\n\r\n"));
        assert_eq!(client.response().status(), status, "{head_bytes} bytes");
    }
}

#[test]
fn a_body_over_the_limit_is_413() {
    let server = Form::Handlers.setup().server("max-body-mb", 1).start();
    let mut client = server.connect();
    client.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1048577\r\n\r\n");
    assert_eq!(client.response().status(), 413, "refused by its declared length");
    let mut client = server.connect();
    client.send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    for _ in 0..17 {
        client.send_if_open(&chunk);
    }
    assert_eq!(client.response().status(), 413, "refused by its count");
    let mut client = server.connect();
    client.post("/echo", &vec![b'x'; 1 << 20]);
    assert_eq!(client.response().body.len(), 1 << 20, "a body at the limit is taken");
}

#[test]
fn an_unfinished_body_is_never_shown_to_a_guest_as_complete() {
    let server = server();
    let mut client = server.connect();
    client.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello");
    client.half_close();
    match client.try_response() {
        Ok(response) => assert_eq!(response.status(), 400, "{}", response.text()),
        Err(ClientError::Cut { received }) => assert!(received.is_empty(), "{received:?}"),
        Err(ClientError::Reset) => {}
        Err(error) => panic!("{error}"),
    }
    server.get("/hello").assert(200, HELLO);
}

#[test]
fn a_slow_head_is_408() {
    let server = Form::Handlers.setup().server("head-timeout-ms", 300).start();
    let mut client = server.connect();
    let watch = Stopwatch::start();
    client.send("GET /hello HTTP/1.1\r\nHost: a\r\nX-Un");
    assert_eq!(client.response().status(), 408);
    assert!(watch.elapsed() >= Duration::from_millis(290));
    client.expect_close();
}

#[test]
fn a_slow_body_is_408() {
    let server = Form::Handlers.setup().server("body-timeout-ms", 300).start();
    let mut client = server.connect();
    client.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello");
    assert_eq!(client.response().status(), 408);
    client.expect_close();
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    let server = Form::Handlers.setup().server("keep-alive-timeout-ms", 300).start();
    let mut client = server.connect();
    client.get("/hello");
    client.response().assert(200, HELLO);
    client.expect_close();
}

#[test]
fn an_error_body_is_json_for_a_client_that_accepts_only_that() {
    let server = server();
    let mut client = server.connect();
    client.send("GET /no/such HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\n\r\n");
    let response = client.response();
    assert_eq!((response.status(), response.header("content-type")), (404, Some("application/json")));
    let text = response.text();
    assert!(text.starts_with('{') && text.trim_end().ends_with('}'), "{text}");
    request_id(&response);
    client.send("GET /no/such HTTP/1.1\r\nHost: a\r\nAccept: application/json, */*\r\n\r\n");
    let response = client.response();
    assert_eq!(response.header("content-type"), Some("text/plain; charset=utf-8"));
    request_id(&response);
}

#[test]
fn a_thousand_idle_connections_stay_small() {
    const IDLE: usize = 1000;
    let server = Form::Handlers.setup().resident_kib_max(15 * 1024).start();
    let mut clients: Vec<Client> = (0..IDLE).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.get("/hello");
        client.response().assert(200, HELLO);
    }
    let usage = server.usage();
    assert!(usage.descriptors >= IDLE, "{usage:?}");
    assert!(usage.resident_kib < 15 * 1024, "{usage:?}");
    drop(clients);
    wait::until("the connections are closed", || server.usage().descriptors < IDLE);
}

#[test]
fn a_response_without_a_body_keeps_the_connection_in_step() {
    let server = server();
    let mut client = server.connect();
    client.get("/not-modified");
    let response = client.response();
    assert_eq!((response.status(), response.body.len()), (304, 0));
    client.get("/status/204");
    let response = client.response();
    assert_eq!((response.status(), response.header("content-length")), (204, None));
    client.get("/hello");
    client.response().assert(200, HELLO);
}

#[test]
fn a_handler_does_not_write_the_framing() {
    let mut server = server();
    let response = server.get("/framing-headers");
    assert_failed(&mut server, &response, 502);
    server.get("/hello").assert(200, HELLO);
}

#[test]
fn a_response_may_have_many_headers_but_not_without_bound() {
    let mut server = server();
    let response = server.get("/many-headers?count=500");
    assert_eq!(response.status(), 200);
    let fields = response.head.headers.iter().filter(|(name, _)| name.starts_with("x-") && name != "x-request-id");
    assert_eq!(fields.count(), 500);
    let response = server.get("/many-headers?count=5000");
    assert_failed(&mut server, &response, 502);
}

#[test]
fn trailers_of_a_guest_reach_a_client_that_accepts_them() {
    let server = Form::Wasi.setup().start();
    let mut client = server.connect();
    client.send("GET /trailers HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\n\r\n");
    let response = client.response();
    response.assert(200, "before the trailers\n");
    assert_eq!(response.trailers, [("x-sum".to_owned(), "42".to_owned())]);
    client.get("/trailers");
    let response = client.response();
    response.assert(200, "before the trailers\n");
    assert_eq!(response.trailers, []);
}

#[test]
fn a_connection_too_many_is_told_so() {
    let server = Form::Handlers.setup().listener_line("max_connections = 2").start();
    let mut kept: Vec<Client> = (0..2).map(|_| server.connect()).collect();
    for client in &mut kept {
        client.get("/hello");
        client.response().assert(200, HELLO);
    }
    let mut refused = server.connect();
    let response = refused.response();
    assert_eq!(response.status(), 503);
    assert!(response.header("retry-after").is_some(), "{:?}", response.head);
    refused.expect_close();
    kept.pop();
    wait::until("there is room again", || {
        let mut client = server.connect();
        client.send_if_open("GET /hello HTTP/1.1\r\nHost: a\r\n\r\n");
        client.try_response().is_ok_and(|response| response.status() == 200)
    });
}

#[test]
fn an_ipv6_address_is_served() {
    let server = Form::Handlers.setup().listen("[::1]:0").start();
    assert!(server.address().is_ipv6());
    server.get("/hello").assert(200, HELLO);
}
