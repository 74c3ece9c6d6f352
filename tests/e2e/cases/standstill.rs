//! A supervisor that stands still, alone or with its machine: nobody is late because of it.
//!
//! Owns the promises about the deadlines of clients, guests and stops. That no worker is killed is tested with `hung`.

use std::time::Duration;

use nix::sys::signal::Signal;
use rusmd_e2e::wait::{self, Stopwatch};
use rusmd_e2e::{Server, process};

use crate::common::{Form, HELLO};

/// The time of clients.
const TIMEOUT_MS: u64 = 1_000;
const LONG_MS: u64 = 120_000;

fn pass(length: Duration) {
    let watch = Stopwatch::start();
    wait::until("time has passed", || watch.elapsed() > length);
}

/// Stops the server and its workers for so long.
#[track_caller]
fn stand_still(server: &Server, length: Duration) {
    let workers = server.workers();
    server.paused(|| {
        workers.iter().for_each(|worker| process::signal(*worker, Signal::SIGSTOP));
        pass(length);
        workers.iter().for_each(|worker| process::signal(*worker, Signal::SIGCONT));
    });
}

fn impatient() -> Server {
    Form::Handlers
        .setup()
        .server("head-timeout-ms", TIMEOUT_MS)
        .server("body-timeout-ms", TIMEOUT_MS)
        .server("keep-alive-timeout-ms", TIMEOUT_MS)
        .start()
}

#[test]
fn what_clients_have_sent_in_the_meantime_is_in_time() {
    let server = impatient();
    let mut kept = server.connect();
    kept.get("/hello");
    kept.response().assert(200, HELLO);
    let mut head = server.connect();
    head.send("GET /hello HTTP/1.1\r\n");
    let mut body = server.connect();
    body.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc");
    server.barrier();
    server.paused(|| {
        kept.get("/hello");
        head.send("Host: a\r\n\r\n");
        body.send("def");
        pass(Duration::from_millis(2 * TIMEOUT_MS));
    });
    kept.response().assert(200, HELLO);
    head.response().assert(200, HELLO);
    body.response().assert(200, "abcdef");
}

#[test]
fn what_clients_have_not_sent_yet_is_waited_for_as_if_nothing_had_been() {
    let server = impatient();
    let mut head = server.connect();
    head.send("GET /hello HTTP/1.1\r\n");
    let mut body = server.connect();
    body.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc");
    server.barrier();
    stand_still(&server, Duration::from_millis(2 * TIMEOUT_MS));
    server.wait_for_log(&["stood still for"]);
    head.send("Host: a\r\n\r\n");
    body.send("def");
    head.response().assert(200, HELLO);
    body.response().assert(200, "abcdef");
}

#[test]
fn a_standstill_that_ends_before_the_deadline_moves_it_too() {
    let mut server = Form::Handlers.setup().server("request-timeout-ms", 4_000).start();
    ["deadline", "guest backtrace"].iter().for_each(|part| server.expect_error(part));
    let mut client = server.connect();
    client.get("/spin");
    server.busy_worker();
    stand_still(&server, Duration::from_millis(3_000));
    let watch = Stopwatch::start();
    assert_eq!(client.response().status(), 504);
    assert!(watch.elapsed() > Duration::from_millis(2_000), "it was interrupted {:?} later", watch.elapsed());
}

#[test]
fn a_stop_waits_as_long_as_if_it_had_not_been_stopped_itself() {
    let server = Form::Handlers
        .setup()
        .server("request-timeout-ms", LONG_MS)
        .server("shutdown-timeout-ms", 2_000)
        .server("kill-grace-ms", 100)
        .start();
    let mut client = server.connect();
    client.get("/spin");
    server.busy_worker();
    server.signal(Signal::SIGQUIT);
    server.wait_for_log(&["finishing 1 requests"]);
    stand_still(&server, Duration::from_millis(3_000));
    let watch = Stopwatch::start();
    server.expect_clean_exit();
    assert!(watch.elapsed() > Duration::from_millis(1_000), "it stopped {:?} later", watch.elapsed());
}
