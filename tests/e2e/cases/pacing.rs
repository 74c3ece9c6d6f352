//! Clients that are slow, but never still: who keeps the least rates is served, however long that takes, and who does not is sent away.
//!
//! Owns what is seen of the least rates from outside. When exactly they are broken is decided without a clock, in `http::connection`.

use std::time::Duration;

use rusmd_e2e::{Authority, Client, ClientError, Server, Setup, wait};
use rustls::version::TLS13;

use crate::common::{Form, assert_serves};

const MIB: usize = 1 << 20;

/// More than the buffers of two sockets.
const DOWNLOAD_BYTES: usize = 64 * MIB;

/// A server that is particular about rates, and patient in every other way.
fn setup(form: Form) -> Setup {
    form.setup().server("min-receive-rate", 20_000).server("min-send-rate", 20_000_000).server("rate-grace-ms", 400)
}

/// Sends these bytes one at a time, with a pause after each, until there is an answer.
#[track_caller]
fn trickle(client: &mut Client, bytes: impl IntoIterator<Item = u8>) {
    let mut bytes = bytes.into_iter();
    wait::until("the server has enough", || {
        if let Some(byte) = bytes.next() {
            client.send_if_open([byte]);
        }
        !client.is_silent()
    });
}

/// Reads a little at a time until the server has enough.
#[track_caller]
fn sip(client: &mut Client) -> ClientError {
    let ended = wait::poll(wait::SOON, || client.sip(1024).err());
    ended.expect("the server has enough")
}

#[test]
fn a_body_below_the_least_rate_gets_408() {
    let server = setup(Form::Wasi).start();
    let mut client = server.connect();
    client.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
    trickle(&mut client, std::iter::repeat(b'x'));
    let response = client.response();
    assert_eq!((response.status(), response.header("connection")), (408, Some("close")));
    assert_serves(&server);
}

#[test]
fn a_head_below_the_least_rate_gets_408() {
    let server = setup(Form::Wasi).start();
    let mut client = server.connect();
    trickle(&mut client, format!("GET /hello HTTP/1.1\r\nHost: a\r\nx-long: {:x<20000}", "").bytes());
    assert_eq!(client.response().status(), 408);
    assert_serves(&server);
}

#[test]
fn a_response_under_way_is_cut_when_the_rest_of_the_body_is_too_slow() {
    // The guest of this test panics when its body breaks off.
    let server = setup(Form::Wasi).server("min-send-rate", 0).expect_error("panicked").start();
    let mut client = server.connect();
    client.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
    client.send(vec![b'x'; 70_000]);
    let head = client.try_head().expect("the echo begins");
    let mut sender = client.sender();
    let end = wait::poll(wait::SOON, || {
        let _ = std::io::Write::write(&mut sender, b"x");
        client.sip(100_000).err()
    });
    assert!(matches!(end, Some(ClientError::Cut { .. } | ClientError::Reset)), "{head:?} {end:?}");
    assert_serves(&server);
}

#[test]
fn a_body_that_waits_for_a_worker_is_not_too_slow() {
    let server = setup(Form::Wasi).server("workers", 1).server("spare-workers", 0).start();
    let mut busy = server.connect();
    // Longer than the grace.
    busy.get("/sleep?ms=1500");
    server.barrier();
    let body = vec![b'x'; MIB];
    let mut client = server.connect();
    client.send(format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {MIB}\r\n\r\n"));
    let mut sender = client.sender();
    let upload = std::thread::spawn(move || std::io::Write::write_all(&mut sender, &body));
    let response = client.response();
    assert_eq!((response.status(), response.body.len()), (200, MIB));
    upload.join().expect("the upload does not panic").expect("the server takes the whole body");
    assert_eq!(busy.response().status(), 200);
}

#[test]
fn a_download_from_a_component_below_the_least_rate_is_cut() {
    let server = setup(Form::Wasi).start();
    let mut client = Client::connect_with_room(server.address(), 64 * 1024);
    client.get(&format!("/download?bytes={DOWNLOAD_BYTES}"));
    assert!(matches!(sip(&mut client), ClientError::Cut { .. } | ClientError::Reset));
    assert_serves(&server);
}

/// A server of one file, on a listener of its own, with the rates of the others.
fn files() -> Setup {
    setup(Form::Wasi).routes(&[("GET /files/*", "dir:public")]).public("big", &"x".repeat(DOWNLOAD_BYTES))
}

#[track_caller]
fn begin_file(server: &Server, client: &mut Client) {
    client.get("/files/big");
    client.wait_for_bytes(100).expect("the download begins");
    assert_serves(server);
}

#[test]
fn a_file_that_is_read_below_the_least_rate_is_cut() {
    let server = files().start();
    let mut client = Client::connect_with_room(server.addresses()[1], 64 * 1024);
    begin_file(&server, &mut client);
    assert!(matches!(sip(&mut client), ClientError::Cut { .. } | ClientError::Reset));
    assert_serves(&server);
}

#[test]
fn a_file_that_is_read_below_the_least_rate_in_tls_is_cut() {
    let authority = Authority::new();
    let certificate = authority.issue(&["localhost"]);
    let setup = files().listener_line("tls = { cert = \"a.pem\", key = \"a.key\" }").certificate("a", &certificate);
    let server = setup.start();
    let tcp = Client::connect_with_room(server.addresses()[1], 64 * 1024);
    let mut client = tcp.secure(authority.client(&[&TLS13], None), "localhost");
    begin_file(&server, &mut client);
    let end = sip(&mut client);
    assert!(!matches!(end, ClientError::TimedOut { .. }), "{end}");
    assert_serves(&server);
}

#[test]
fn a_client_that_always_reads_something_is_served_though_its_kernel_takes_nothing_for_longer_than_a_pause() {
    let pause = Duration::from_millis(1000);
    let server = files().server("min-send-rate", 10_000).server("write-timeout-ms", pause.as_millis()).start();
    let mut client = Client::connect_with_room(server.addresses()[1], 32 * 1024);
    begin_file(&server, &mut client);
    // At some hundred kilobytes a second, a kernel with megabytes to send has no room for more for seconds.
    let stopwatch = wait::Stopwatch::start();
    let mut seen = 0;
    wait::until("five pauses have gone by", || {
        seen += client.sip(2048).expect("the server goes on");
        stopwatch.elapsed() > 5 * pause
    });
    while seen < DOWNLOAD_BYTES {
        seen += client.sip(MIB).expect("the file is whole");
    }
}
