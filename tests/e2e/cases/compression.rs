//! Compressed responses: what a client accepts is what it gets, whatever the guest's body is like.

use std::io::Read as _;

use rusmd_e2e::{Client, ClientError, Response, Server, Setup};

const ALL: &str = "compression = [\"zstd\", \"br\", \"gzip\"]";

/// The guests of these tests say nothing of the type of most bodies.
const PLAIN: &str = "headers = { content-type = \"text/plain\" }";

#[track_caller]
fn compressing() -> Server {
    Setup::new().component("wasi-faults").listener_line(ALL).listener_line(PLAIN).start()
}

#[track_caller]
fn ask(client: &mut Client, method: &str, path: &str, accept: &str) -> Response {
    client.send(format!("{method} {path} HTTP/1.1\r\nHost: a\r\nAccept-Encoding: {accept}\r\nTE: trailers\r\n\r\n"));
    client.response_to(method)
}

fn decoded(response: &Response) -> Vec<u8> {
    let (mut plain, body) = (Vec::new(), &response.body[..]);
    let read = match response.header("content-encoding") {
        Some("gzip") => flate2::read::GzDecoder::new(body).read_to_end(&mut plain),
        Some("br") => brotli::Decompressor::new(body, 4096).read_to_end(&mut plain),
        Some("zstd") => zstd::stream::read::Decoder::new(body).and_then(|mut decoder| decoder.read_to_end(&mut plain)),
        Some(other) => panic!("an unknown coding {other}"),
        None => return body.to_vec(),
    };
    read.expect("a whole body");
    plain
}

#[test]
fn each_client_gets_the_coding_that_it_accepts_and_the_same_body() {
    let server = compressing();
    let mut client = Client::connect(server.address());
    for (accept, expected) in
        [("gzip", Some("gzip")), ("br", Some("br")), ("gzip, zstd", Some("zstd")), ("deflate", None), ("*;q=0", None)]
    {
        let response = ask(&mut client, "GET", "/download?bytes=300000", accept);
        assert_eq!(response.header("content-encoding"), expected, "{accept}");
        assert_eq!(response.header("vary"), Some("accept-encoding"), "{accept}");
        let length = if expected.is_none() { Some("300000") } else { None };
        assert_eq!(response.header("content-length"), length, "{accept}");
        assert_eq!(decoded(&response).len(), 300_000, "{accept}");
        assert!(expected.is_none() || response.body.len() < 30_000, "{accept}: {}", response.body.len());
    }
}

#[test]
fn a_head_request_is_told_what_a_get_would_be() {
    let server = compressing();
    let mut client = Client::connect(server.address());
    let response = ask(&mut client, "HEAD", "/download?bytes=300000", "gzip");
    assert_eq!((response.header("content-encoding"), response.header("content-length")), (Some("gzip"), None));
    // The connection goes on behind it.
    assert_eq!(decoded(&ask(&mut client, "GET", "/hello", "gzip")), b"hello world\n");
}

#[test]
fn short_and_excluded_bodies_are_sent_as_they_are() {
    let server = Setup::new()
        .component("wasi-faults")
        .listener_line(ALL)
        .listener_line("compression-min-bytes = 5000\ncompression-types = [\"application/*\"]")
        .listener_line("headers = { content-type = \"application/x-test\" }")
        .start();
    let mut client = Client::connect(server.address());
    let short = ask(&mut client, "GET", "/download?bytes=4999", "gzip");
    assert_eq!((short.header("content-encoding"), short.header("vary")), (None, Some("accept-encoding")));
    assert_eq!(ask(&mut client, "GET", "/download?bytes=5000", "gzip").header("content-encoding"), Some("gzip"));
    let server = Setup::new().component("wasi-faults").listener_line(ALL).start();
    let mut client = Client::connect(server.address());
    let untyped = ask(&mut client, "GET", "/download?bytes=300000", "gzip");
    assert_eq!((untyped.header("content-encoding"), untyped.header("vary")), (None, None));
}

#[test]
fn what_a_guest_has_said_before_it_pauses_can_be_read() {
    let server = Setup::new()
        .component("wasi-faults")
        .listener_line(ALL)
        .listener_line(PLAIN)
        .server("request-timeout-ms", 300)
        .expect_error("deadline")
        .start();
    let mut client = Client::connect(server.address());
    // The guest says one line and then nothing, until its time is over: the encoder has never come to its end.
    client.send("GET /stall HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n");
    let head = client.try_head().expect("a head");
    assert_eq!(head.header("content-encoding"), Some("gzip"));
    let (mut body, mut line) = (Vec::new(), Vec::new());
    let end = client.try_body(&head, "GET", |piece| body.extend_from_slice(piece));
    assert!(matches!(end, Err(ClientError::Cut { .. } | ClientError::Reset)), "{end:?}");
    assert!(flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut line).is_err(), "the body is not whole");
    assert_eq!(line, b"before the stall\n");
}

#[test]
fn trailers_come_behind_a_compressed_body() {
    let server = compressing();
    let mut client = Client::connect(server.address());
    let response = ask(&mut client, "GET", "/trailers", "zstd");
    assert_eq!(decoded(&response), b"before the trailers\n");
    assert_eq!(response.trailers, [("x-sum".to_owned(), "42".to_owned())]);
}

#[test]
fn a_body_of_another_length_than_promised_never_looks_whole() {
    let server = Setup::new()
        .component("wasi-faults")
        .listener_line(ALL)
        .listener_line(PLAIN)
        .expect_error("invalid response")
        .start();
    for sent in [90_000, 120_000] {
        let mut client = Client::connect(server.address());
        let path = format!("/bad-length?declared=100000&sent={sent}");
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\nAccept-Encoding: br\r\n\r\n"));
        match client.try_response() {
            Err(ClientError::Reset | ClientError::Cut { .. }) => {}
            Ok(response) => assert_eq!(response.status(), 502, "{sent}"),
            Err(error) => panic!("{sent}: {error}"),
        }
    }
}
