//! The PROXY protocol: who a trusted proxy says that a connection is from, and what becomes of everything else.

use rusmd_e2e::{Authority, Client, ClientError, Server, Setup};
use rustls::version::TLS13;

use crate::common::HELLO;

const ROUTES: &[(&str, &str)] = &[("GET /hello", "faults#hello"), ("/show", "faults#show")];
const TRUSTED: &str = "proxy-protocol = true\ntrusted-proxies = [\"127.0.0.1\"]";
const V1: &[u8] = b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 80\r\n";
const SHOW: &[u8] = b"GET /show HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn v2() -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10".to_vec();
    header.extend([192, 0, 2, 7, 192, 0, 2, 1, 0x12, 0x67, 0, 80]);
    // A TLV that nobody asked for.
    header.extend([0xe0, 0, 1, 9]);
    header
}

#[track_caller]
fn setup() -> Setup {
    Setup::new().routes(ROUTES).listener_line(TRUSTED)
}

#[track_caller]
fn assert_cut(mut client: Client) {
    match client.rest() {
        Ok(bytes) => assert!(bytes.is_empty(), "not a word: {bytes:?}"),
        Err(error) => assert!(matches!(error, ClientError::Reset), "{error}"),
    }
}

#[track_caller]
fn assert_peer(server: &Server, header: &[u8], peer: &str) {
    let mut client = server.connect();
    client.send([header, SHOW].concat());
    let text = client.response().text();
    assert!(text.contains(&format!("peer Some({peer}")), "{text}");
}

#[test]
fn both_versions_name_the_client() {
    let server = setup().log("access", "\"access.log\"").start();
    assert_peer(&server, V1, "192.0.2.7:4711");
    assert_peer(&server, &v2(), "192.0.2.7:4711");
    assert_peer(&server, b"PROXY TCP6 2001:db8::7 ::1 1 2\r\n", "[2001:db8::7]:1");
    assert_peer(&server, b"PROXY UNKNOWN\r\n", "127.0.0.1:");
    assert_peer(&server, b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", "127.0.0.1:");
    rusmd_e2e::wait::until("the log names the client", || {
        server.read("access.log").lines().filter(|line| line.starts_with("192.0.2.7 ")).count() == 2
    });
}

#[test]
fn a_header_may_come_byte_by_byte() {
    let server = setup().start();
    for header in [V1.to_vec(), v2()] {
        let mut client = server.connect();
        for byte in header {
            client.send([byte]);
        }
        for _ in 0..2 {
            client.get("/hello");
            assert_eq!(client.response().text(), HELLO);
        }
    }
}

#[test]
fn what_is_no_header_is_cut_without_a_word() {
    let server = setup().start();
    let too_long = [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 200]].concat();
    let wrong: [&[u8]; 5] =
        [SHOW, b"PROXY TCP4 a b 1 2\r\n", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff", &too_long, b"PROXY TCP9 \r\n"];
    for bytes in wrong {
        let mut client = server.connect();
        client.send(bytes);
        assert_cut(client);
    }
    // A header that was whole is not taken twice.
    let mut client = server.connect();
    client.send([V1, V1, SHOW].concat());
    assert_eq!(client.response().status(), 400);
}

#[test]
fn who_says_nothing_is_cut_when_the_time_for_a_head_is_over() {
    let server = setup().server("head-timeout-ms", 200).start();
    let silent = server.connect();
    let mut half = server.connect();
    half.send(b"PROXY TC");
    assert_cut(silent);
    assert_cut(half);
}

#[test]
fn a_peer_that_is_not_trusted_is_not_listened_to() {
    let server =
        Setup::new().routes(ROUTES).listener_line("proxy-protocol = true\ntrusted-proxies = [\"10.0.0.0/8\"]").start();
    let mut client = server.connect();
    client.send_if_open([V1, SHOW].concat());
    assert_cut(client);
    server.check_nothing_leaks();
}

#[test]
fn tls_begins_after_the_header() {
    let authority = Authority::new();
    let server = setup()
        .certificate("one", &authority.issue(&["localhost"]))
        .listener_line("tls = { cert = \"one.pem\", key = \"one.key\" }")
        .start();
    let mut client = server.connect();
    client.send(V1);
    let mut client = client.secure(authority.client(&[&TLS13], None), "localhost");
    client.send(SHOW);
    let text = client.response().text();
    assert!(text.starts_with("GET https://") && text.contains("peer Some(192.0.2.7:4711"), "{text}");
}
