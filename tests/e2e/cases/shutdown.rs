//! How `rusmd` ends: by signals, with requests in flight, in time.
//!
//! Owns SIGTERM, SIGINT, SIGQUIT, the drain and its deadline.

use std::net::TcpStream;
use std::time::Duration;

use nix::sys::signal::Signal;
use rusmd_e2e::wait::{self, Stopwatch};
use rusmd_e2e::{Client, Server};

use crate::common::{Form, HELLO};

/// A server on which one request is running and will take a while.
#[track_caller]
fn busy(form: Form, path: &str) -> (Server, Client) {
    let server = form.setup().server("workers", 1).start();
    let mut client = server.connect();
    client.get(path);
    server.barrier();
    (server, client)
}

#[track_caller]
fn drains(signal: Signal) {
    let (server, mut running) = busy(Form::Wasi, "/sleep?ms=1500");
    let mut idle = server.connect();
    idle.get("/hello");
    server.barrier();
    server.signal(signal);
    let address = server.address();
    wait::until("the listener is closed", || TcpStream::connect(address).is_err());
    let response = running.response();
    assert_eq!(response.status(), 200, "{}", response.text());
    assert_eq!(response.header("connection"), Some("close"));
    running.expect_close();
    assert_eq!(idle.response().status(), 200, "what was admitted before the signal is served");
    idle.expect_close();
    server.expect_clean_exit();
}

#[test]
fn sigquit_finishes_what_is_in_flight_and_accepts_nothing_more() {
    drains(Signal::SIGQUIT);
}

#[test]
fn what_many_clients_have_sent_before_the_drain_is_served() {
    // More than one turn of the loop is for.
    let server = Form::Handlers.setup().server("shutdown-timeout-ms", 60_000).start();
    let mut clients: Vec<Client> = (0..150).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.get("/hello");
        client.response().assert(200, HELLO);
    }
    server.paused(|| {
        clients.iter_mut().for_each(|client| client.get("/hello"));
        server.signal(Signal::SIGQUIT);
    });
    for client in &mut clients {
        client.response().assert(200, HELLO);
    }
    server.expect_clean_exit();
}

/// SIGTERM and SIGINT: what a worker has gets a moment, what waits for one is answered at once.
#[track_caller]
fn stops_fast(signal: Signal) {
    let server = Form::Wasi.setup().server("workers", 1).server("kill-grace-ms", 4_000).start();
    let mut running = server.connect();
    running.get("/sleep?ms=1000");
    server.barrier();
    let mut queued = server.connect();
    queued.get("/hello");
    server.barrier();
    server.signal(signal);
    assert_eq!(queued.response().status(), 503, "what waits in the queue is not waited for");
    queued.expect_close();
    let address = server.address();
    assert!(TcpStream::connect(address).is_err(), "the listener is closed");
    let response = running.response();
    assert_eq!(response.status(), 200, "{}", response.text());
    running.expect_close();
    server.expect_clean_exit();
}

#[test]
fn sigterm_gives_what_is_running_a_moment_and_sheds_the_queue() {
    stops_fast(Signal::SIGTERM);
}

#[test]
fn sigint_does_the_same() {
    stops_fast(Signal::SIGINT);
}

#[test]
fn what_does_not_end_in_that_moment_is_answered_and_its_worker_killed() {
    let server = Form::Handlers
        .setup()
        .server("workers", 1)
        .server("request-timeout-ms", 60_000)
        .server("kill-grace-ms", 300)
        .start();
    let mut running = server.connect();
    running.get("/spin");
    server.busy_worker();
    server.signal(Signal::SIGTERM);
    assert_eq!(running.response().status(), 503);
    server.expect_clean_exit();
}

#[test]
fn sigterm_ends_a_graceful_stop() {
    let server = Form::Handlers
        .setup()
        .server("workers", 1)
        .server("request-timeout-ms", 60_000)
        .server("shutdown-timeout-ms", 60_000)
        .server("kill-grace-ms", 300)
        .start();
    let mut running = server.connect();
    running.get("/spin");
    server.busy_worker();
    server.signal(Signal::SIGQUIT);
    let address = server.address();
    wait::until("the listener is closed", || TcpStream::connect(address).is_err());
    server.signal(Signal::SIGTERM);
    assert_eq!(running.response().status(), 503);
    server.expect_clean_exit();
}

#[test]
fn an_idle_server_stops_at_once() {
    let server = Form::Handlers.setup().server("shutdown-timeout-ms", 60_000).start();
    let mut idle = server.connect();
    idle.get("/hello");
    idle.response().assert(200, HELLO);
    let watch = Stopwatch::start();
    server.signal(Signal::SIGTERM);
    idle.expect_close();
    server.expect_clean_exit();
    assert!(watch.elapsed() < Duration::from_secs(5), "took {:?}", watch.elapsed());
}

#[test]
fn the_drain_has_a_deadline() {
    let server = Form::Handlers
        .setup()
        .server("workers", 1)
        .server("request-timeout-ms", 60_000)
        .server("shutdown-timeout-ms", 500)
        .start();
    let mut running = server.connect();
    running.get("/spin");
    server.busy_worker();
    let watch = Stopwatch::start();
    server.signal(Signal::SIGQUIT);
    server.expect_clean_exit();
    assert!(watch.elapsed() < Duration::from_secs(10), "took {:?}", watch.elapsed());
    if let Ok(response) = running.try_response() {
        assert!(response.status() >= 500, "a handler that never ended has answered: {:?}", response.head);
    }
}

#[test]
fn a_second_signal_ends_the_drain() {
    let server = Form::Handlers
        .setup()
        .server("workers", 1)
        .server("request-timeout-ms", 60_000)
        .server("shutdown-timeout-ms", 60_000)
        .server("kill-grace-ms", 60_000)
        .start();
    let mut running = server.connect();
    running.get("/spin");
    server.busy_worker();
    let watch = Stopwatch::start();
    server.signal(Signal::SIGTERM);
    let address = server.address();
    wait::until("the listener is closed", || TcpStream::connect(address).is_err());
    server.signal(Signal::SIGTERM);
    server.expect_clean_exit();
    assert!(watch.elapsed() < Duration::from_secs(10), "took {:?}", watch.elapsed());
}

#[test]
fn the_port_can_be_bound_again_at_once() {
    let server = Form::Handlers.setup().start();
    let address = server.address();
    let mut client = server.connect();
    client.get("/hello");
    client.response().assert(200, HELLO);
    drop(client);
    server.stop_by(Signal::SIGTERM);
    let server = Form::Handlers.setup().listen(&address.to_string()).start();
    assert_eq!(server.address(), address);
    server.get("/hello").assert(200, HELLO);
}
