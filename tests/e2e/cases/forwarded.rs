//! What proxies say of clients, and what listeners say of themselves.

use rusmd_e2e::{Authority, Client, Server, Setup, wait};
use rustls::version::TLS13;

const ROUTES: &[(&str, &str)] = &[("GET /show", "faults#show"), ("GET /panic", "faults#panic")];

const FORGED: &str = "GET /show HTTP/1.1\r\nHost: a\r\nForwarded: for=192.0.2.1\r\nX-Forwarded-For: 192.0.2.1\r\n\
    x-forwarded-proto: https\r\nX-Real-IP: 192.0.2.1\r\nX_Forwarded_Host: 192.0.2.1\r\nVia: 1.1 192.0.2.1\r\nX-Forward: stays\r\n\r\n";

const TRUSTED: &str = "trusted-proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]";

/// Asks for what a component sees, with these fields.
fn show(server: &Server, fields: &str) -> String {
    let mut client = Client::connect(server.address());
    client.send(format!("GET /show HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    client.response().text()
}

#[test]
fn only_trusted_proxies_can_say_on_whose_behalf_they_ask() {
    for (trusted, expected) in
        [("trusted-proxies = [\"127.0.0.0/8\"]", 6), ("trusted-proxies = [\"192.0.2.0/24\"]", 1), ("", 1)]
    {
        let server = Setup::new().routes(ROUTES).listener_line(trusted).start();
        let mut client = Client::connect(server.address());
        client.send(FORGED);
        let text = client.response().text();
        let seen = text
            .lines()
            .filter(|line| ["forward", "x-real-ip", "header via"].iter().any(|part| line.contains(part)))
            .count();
        assert_eq!(seen, expected, "{trusted}: {text}");
        assert!(text.contains("header x-forward: stays\n"), "{text}");
    }
}

#[test]
fn who_is_behind_a_trusted_proxy_is_the_client_and_nobody_else() {
    let server = Setup::new().routes(ROUTES).listener_line(TRUSTED).log("access", "\"access.log\"").start();
    for (fields, url, peer) in [
        ("X-Forwarded-For: 192.0.2.7\r\n", "http://a/show", "192.0.2.7:0"),
        ("X-Forwarded-For: 203.0.113.1, 192.0.2.7:4711, 10.1.2.3\r\n", "http://a/show", "192.0.2.7:4711"),
        (
            "X-Forwarded-For: 2001:db8::7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: b.example\r\n",
            "https://b.example/show",
            "[2001:db8::7]:0",
        ),
        (
            "Forwarded: for=203.0.113.1, for=\"[2001:db8::8]:1\";proto=https;host=\"c:8443\"\r\nForwarded: for=10.0.0.9\r\n",
            "https://c:8443/show",
            "[2001:db8::8]:1",
        ),
        ("X-Forwarded-For: 192.0.2.7, nonsense\r\nX-Forwarded-Host: a b\r\n", "http://a/show", "127.0.0.1:"),
        ("Forwarded: for=_hidden;proto=https\r\n", "https://a/show", "127.0.0.1:"),
    ] {
        let text = show(&server, fields);
        assert!(text.starts_with(&format!("GET {url}\n")), "{fields}: {text}");
        assert!(text.contains(&format!("peer Some({peer}")), "{fields}: {text}");
        let host = url.split('/').nth(2).unwrap_or_default();
        assert!(text.contains(&format!("header host: {host}\n")), "{fields}: {text}");
    }
    // An answer of the server's own is logged with the client as well.
    show(&server, "X-Forwarded-For: 192.0.2.9\r\n");
    let mut client = Client::connect(server.address());
    client.send("GET /none HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.9\r\n\r\n");
    assert_eq!(client.response().status(), 404);
    wait::until("the log names the client", || {
        let log = server.read("access.log");
        let count = |peer: &str| log.lines().filter(|line| line.starts_with(peer)).count();
        (count("192.0.2.9 "), count("192.0.2.7 "), count("2001:db8::7 "), count("127.0.0.1 ")) == (2, 2, 1, 2)
    });
}

#[test]
fn a_wasi_http_component_is_told_the_client_in_fields_that_nobody_else_writes() {
    let setup =
        |line: &str| Setup::new().component("mirror").listener_line(line).component("ts-faults").listener_line(line);
    let told = |server: &Server, fields: &str| {
        let asked = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let mut client = Client::connect(server.addresses()[0]);
        client.send(asked);
        let text = client.response().text();
        let mut told: Vec<_> = text.lines().filter(|line| line.contains("forwarded-")).map(str::to_owned).collect();
        told.sort_unstable();
        let mut client = Client::connect(server.addresses()[1]);
        client.send(format!("GET /peer HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        told.push(client.response().text());
        told.join(" ")
    };
    let forged =
        "X-Forwarded-For: 203.0.113.1, 192.0.2.7\r\nX-Forwarded-Proto: https\r\nX_Forwarded_For: 203.0.113.1\r\n";
    let own = "field x-forwarded-for: 127.0.0.1 field x-forwarded-proto: http 127.0.0.1\n";
    let server = setup("").start();
    assert_eq!(told(&server, ""), own);
    assert_eq!(told(&server, forged), own);
    let server = setup(TRUSTED).start();
    assert_eq!(told(&server, ""), own);
    assert_eq!(told(&server, forged), "field x-forwarded-for: 192.0.2.7 field x-forwarded-proto: https 192.0.2.7\n");
    assert_eq!(told(&server, "X-Forwarded-For: nonsense\r\n"), own);
    let forwarded = "Forwarded: for=\"[2001:db8::7]:1\";proto=https\r\n";
    let told_of = "field x-forwarded-for: 2001:db8::7 field x-forwarded-proto: https 2001:db8::7\n";
    assert_eq!(told(&server, forwarded), told_of);
}

#[test]
fn a_client_of_a_unix_socket_has_no_address() {
    let setup = Setup::new().component("mirror").listen("unix:x.sock").listener_line("trusted-proxies = [\"unix\"]");
    let server = setup.component("mirror").start();
    let ask = |fields: &str| {
        let mut client = Client::connect_unix(&server.scratch().join("x.sock"));
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        client.response().text()
    };
    assert!(!ask("X-Forwarded-For: nonsense\r\n").contains("x-forwarded-for"));
    assert!(ask("X-Forwarded-For: 192.0.2.7\r\n").contains("field x-forwarded-for: 192.0.2.7\n"));
}

#[test]
fn whom_nobody_trusts_speaks_for_himself() {
    for line in ["", "trusted-proxies = [\"192.0.2.0/24\"]"] {
        let server = Setup::new().routes(ROUTES).listener_line(line).start();
        let fields = "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\n";
        let text = show(&server, fields);
        assert!(text.starts_with("GET http://a/show\n") && text.contains("peer Some(127.0.0.1:"), "{text}");
        assert!(!text.contains("evil") && !text.contains("192.0.2.7"), "{text}");
    }
}

#[test]
fn an_https_target_in_the_clear_is_believed_of_a_trusted_proxy_alone() {
    let ask = |server: &Server, target: &str| {
        let mut client = Client::connect(server.address());
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        client.response()
    };
    let server = Setup::new().routes(ROUTES).listener_line(TRUSTED).start();
    assert!(ask(&server, "https://a/show").text().starts_with("GET https://a/show\n"));
    assert!(ask(&server, "http://a/show").text().starts_with("GET http://a/show\n"));
    for line in ["", "trusted-proxies = [\"192.0.2.0/24\"]"] {
        let server = Setup::new().routes(ROUTES).listener_line(line).start();
        assert_eq!(ask(&server, "https://a/show").status(), 421);
        assert_eq!(ask(&server, "https://a:443/none").status(), 421);
        assert!(ask(&server, "http://a/show").text().starts_with("GET http://a/show\n"));
    }
}

#[test]
fn an_http_target_over_tls_is_served_as_what_it_is() {
    let authority = Authority::new();
    let server = Setup::new()
        .routes(ROUTES)
        .certificate("one", &authority.issue(&["localhost"]))
        .listener_line("tls = { cert = \"one.pem\", key = \"one.key\" }")
        .start();
    for target in ["/show", "http://a/show", "https://a/show"] {
        let mut client = Client::connect_tls(server.address(), authority.client(&[&TLS13], None), "localhost");
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(client.response().text().starts_with("GET https://a/show\n"), "{target}");
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

#[test]
fn a_listener_says_what_it_is_only_if_it_is_told_to() {
    let names = |line: &str| {
        let server = Setup::new().routes(ROUTES).listener_line(line).start();
        ["/show", "/none"].map(|path| server.get(path).header("server").map(str::to_owned))
    };
    assert_eq!(names(""), [None, None]);
    assert_eq!(names("server-header = \"rusmd\""), [Some("rusmd".to_owned()), Some("rusmd".to_owned())]);
}
