//! Bodies on their way to a worker: who trickles holds none, and who asks first is told the truth.
//!
//! Owns when a request with a body is given to a worker. How bodies stream from then on is in `bodies`.

use std::time::Duration;

use rusmd_e2e::{Client, Server, wait};

use crate::common::{Form, HELLO};

/// What is collected of a body before a worker gets it.
const COLLECTED: usize = 64 * 1024;

/// Byte `n` of every test body: a sequence that shows shifted, lost and doubled bytes.
fn body(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n % 251) as u8).collect()
}

/// One worker, and a place to wait for it for so many.
#[track_caller]
fn start(queue_length: usize) -> Server {
    let setup = Form::Wasi.setup().server("workers", 1).server("spare-workers", 0);
    // Who stands still is given time, so that a test can.
    setup.server("queue-length", queue_length).server("busy-body-timeout-ms", 600_000).start()
}

/// Sends the head of a request to echo and the first bytes of its body; the others of `length` are to follow.
#[track_caller]
fn begin(server: &Server, length: usize, first: usize) -> Client {
    let mut client = server.connect();
    client.send(format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"));
    client.send(&body(length)[..first]);
    client
}

/// Sends the rest, and checks that the guest has seen every byte.
#[track_caller]
fn finish(mut client: Client, length: usize, first: usize) {
    client.send(&body(length)[first..]);
    let response = client.response();
    assert_eq!(response.status(), 200);
    assert!(response.body == body(length), "{} bytes came back, or others", response.body.len());
}

/// A request that asks whether it may send its body.
#[track_caller]
fn ask(server: &Server) -> Client {
    let mut client = server.connect();
    client.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    client
}

#[test]
fn a_body_of_single_byte_chunks_holds_no_worker_and_arrives_as_it_was() {
    const LENGTH: usize = 50_000;
    let server = start(0);
    let mut slow = server.connect();
    slow.send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for byte in body(LENGTH) {
        slow.send([b"1\r\n", &[byte][..], b"\r\n"].concat());
    }
    server.barrier();
    server.get("/hello").assert(200, "hello world\n");
    slow.send("0\r\n\r\n");
    let response = slow.response();
    assert!(response.body == body(LENGTH), "{} bytes came back, or others", response.body.len());
}

#[test]
fn a_body_that_comes_byte_by_byte_holds_no_worker_and_arrives_as_it_was() {
    const LENGTH: usize = 5_000;
    let server = start(0);
    let mut slow = begin(&server, LENGTH, 0);
    for byte in &body(LENGTH)[..LENGTH - 1] {
        slow.send([*byte]);
    }
    server.barrier();
    server.get("/hello").assert(200, "hello world\n");
    finish(slow, LENGTH, LENGTH - 1);
}

#[test]
fn a_body_one_byte_short_of_what_is_collected_holds_no_worker_and_with_that_byte_it_does() {
    let server = start(0);
    let mut slow = begin(&server, COLLECTED + 1, COLLECTED - 1);
    server.barrier();
    server.get("/hello").assert(200, "hello world\n");
    slow.send(&body(COLLECTED)[COLLECTED - 1..]);
    server.barrier();
    assert_eq!(server.get("/hello").status(), 503);
    finish(slow, COLLECTED + 1, COLLECTED);
}

#[test]
fn handlers_get_what_has_trickled_in_too() {
    const LENGTH: usize = 300_000;
    let server = Form::Handlers.setup().server("workers", 1).server("spare-workers", 0).start();
    let mut slow = server.connect();
    slow.send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunks: Vec<u8> = body(LENGTH).into_iter().flat_map(|byte| [b'1', b'\r', b'\n', byte, b'\r', b'\n']).collect();
    slow.send(chunks);
    slow.send("0\r\n\r\n");
    let response = slow.response();
    assert!(response.body == body(LENGTH), "{} bytes came back, or others", response.body.len());
    server.get("/hello").assert(200, HELLO);
}

#[test]
fn who_asks_is_told_to_continue_while_a_place_in_the_queue_is_left_and_503_when_none_is() {
    let server = start(1);
    let busy = begin(&server, COLLECTED + 1, COLLECTED);
    server.barrier();
    let mut last = ask(&server);
    assert_eq!(last.try_head().expect("an interim response").status, 100);
    last.send("hello");
    server.barrier();
    // Neither a worker nor a place is left now.
    let mut late = ask(&server);
    let refused = late.response();
    assert_eq!((refused.status(), refused.header("retry-after")), (503, Some("1")));
    assert_eq!(refused.header("connection"), Some("close"), "its body may be on its way");
    finish(busy, COLLECTED + 1, COLLECTED);
    last.response().assert(200, "hello");
    let mut again = ask(&server);
    assert_eq!(again.try_head().expect("an interim response").status, 100);
    again.send("hello");
    again.response().assert(200, "hello");
}

#[test]
fn who_asks_is_told_to_continue_without_a_queue_while_a_worker_is_free() {
    let server = start(0);
    let mut client = ask(&server);
    assert_eq!(client.try_head().expect("an interim response").status, 100);
    client.send("hello");
    client.response().assert(200, "hello");
    let busy = begin(&server, COLLECTED + 1, COLLECTED);
    server.barrier();
    assert_eq!(ask(&server).response().status(), 503);
    finish(busy, COLLECTED + 1, COLLECTED);
}

/// Two workers, for clients that hold them. Nothing but that others wait ends a pause.
#[track_caller]
fn start_two() -> Server {
    let setup = Form::Wasi.setup().server("workers", 2).server("spare-workers", 0).server("busy-body-timeout-ms", 1000);
    let setup = setup.server("body-timeout-ms", 600_000).server("min-receive-rate", 0);
    // The guest of these tests panics when its body breaks off.
    setup.expect_error("panicked").start()
}

/// Sends all of a body that a worker is given but its last byte. Nothing comes back before that.
#[track_caller]
fn hold(server: &Server) -> Client {
    let mut client = server.connect();
    client.send(format!("POST /read-then-reply HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", COLLECTED + 1));
    client.send(body(COLLECTED));
    server.barrier();
    client
}

/// Until the guests have taken what they were sent, and their clients have been still for a while.
#[track_caller]
fn stand_still(server: &Server) {
    let stopwatch = wait::Stopwatch::start();
    wait::until("it stands still", || {
        server.barrier();
        stopwatch.elapsed() > Duration::from_millis(500)
    });
}

#[track_caller]
fn let_go(mut client: Client) {
    client.send("x");
    client.response().assert(200, &format!("{}\n", COLLECTED + 1));
}

#[test]
fn a_client_that_holds_a_worker_loses_it_when_others_wait_and_only_then() {
    let server = start_two();
    let mut first = hold(&server);
    stand_still(&server);
    let second = hold(&server);
    // Nobody is free, and somebody waits: the one that has stood still for longer has to go, and the other may stay.
    server.get("/hello").assert(200, "hello world\n");
    assert_eq!(first.response().status(), 408);
    server.get("/hello").assert(200, "hello world\n");
    let_go(second);
}

#[test]
fn a_client_that_stands_still_while_nobody_waits_keeps_its_worker() {
    let server = start_two();
    let slow = hold(&server);
    let stopwatch = wait::Stopwatch::start();
    wait::until("three times the pause have gone by", || {
        server.get("/hello").assert(200, "hello world\n");
        stopwatch.elapsed() > Duration::from_secs(3)
    });
    let_go(slow);
}

#[test]
fn the_last_free_worker_is_not_for_another_upload_while_one_stands_still() {
    let server = start_two();
    let mut still = hold(&server);
    stand_still(&server);
    let next = hold(&server);
    // The worker that is left is for this one, though the upload came first.
    server.get("/hello").assert(200, "hello world\n");
    // And the one that stands still makes room for the one that waits.
    assert_eq!(still.response().status(), 408);
    let_go(next);
}
