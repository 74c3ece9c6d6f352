//! What proxies say of clients, and what listeners say of themselves.

use rusmd_e2e::{Client, Setup};

const ROUTES: &[(&str, &str)] = &[("GET /show", "faults#show"), ("GET /panic", "faults#panic")];

const FORGED: &str = "GET /show HTTP/1.1\r\nHost: a\r\nForwarded: for=192.0.2.1\r\nX-Forwarded-For: 192.0.2.1\r\n\
    x-forwarded-proto: https\r\nX-Real-IP: 192.0.2.1\r\nX_Forwarded_Host: 192.0.2.1\r\nX-Forward: stays\r\n\r\n";

#[test]
fn only_trusted_proxies_can_say_on_whose_behalf_they_ask() {
    for (trusted, expected) in
        [("trusted-proxies = [\"127.0.0.0/8\"]", 6), ("trusted-proxies = [\"192.0.2.0/24\"]", 1), ("", 1)]
    {
        let server = Setup::new().routes(ROUTES).listener_line(trusted).start();
        let mut client = Client::connect(server.address());
        client.send(FORGED);
        let text = client.response().text();
        let seen = text.lines().filter(|line| line.contains("forward") || line.contains("x-real-ip")).count();
        assert_eq!(seen, expected, "{trusted}: {text}");
        assert!(text.contains("header x-forward: stays\n"), "{text}");
    }
}

#[test]
fn behind_the_proxy_protocol_nobody_can_say_on_whose_behalf_he_asks() {
    let trusted = "proxy-protocol = true\ntrusted-proxies = [\"127.0.0.0/8\"]";
    let server = Setup::new().routes(ROUTES).listener_line(trusted).start();
    // The proxy does not know, speaks for itself, or names a client that would be trusted without it.
    for header in
        [&b"PROXY UNKNOWN\r\n"[..], b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", b"PROXY TCP4 127.0.0.9 127.0.0.1 1 2\r\n"]
    {
        let mut client = Client::connect(server.address());
        client.send([header, FORGED.as_bytes()].concat());
        let text = client.response().text();
        assert!(!text.contains("192.0.2.1") && text.contains("header x-forward: stays\n"), "{text}");
    }
}

#[test]
fn the_headers_of_a_listener_are_on_its_own_answers_too_and_take_the_place_of_the_guest_s() {
    let headers = "headers = { x-frame-options = \"DENY\", Content-Type = \"text/x-own\", Vary = \"origin\" }";
    let server = Setup::new()
        .routes(ROUTES)
        .listener_line(headers)
        .expect_error("panic")
        .expect_error("guest backtrace")
        .start();
    for (request, status) in [("GET /none", 404), ("DELETE /show", 405), ("OPTIONS /show", 204), ("GET /panic", 502)] {
        let mut client = Client::connect(server.address());
        client.send(format!("{request} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let response = client.response();
        assert_eq!((response.status(), response.header("x-frame-options")), (status, Some("DENY")), "{request}");
        assert_ne!(response.header("content-type"), Some("text/x-own"), "{request}");
    }
    let response = server.get("/show");
    let types: Vec<_> = response.head.headers.iter().filter(|(name, _)| name == "content-type").collect();
    assert_eq!(types.len(), 1, "{types:?}");
    assert_eq!(response.header("content-type"), Some("text/x-own"));
}
