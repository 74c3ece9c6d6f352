//! Workers that stand still, and clocks that leap.
//!
//! Owns the promises about a worker that is stopped by a signal, idle or at work, or stuck in native code, and about a machine that is suspended with all that
//! runs on it. That a guest which merely loops is interrupted is tested with `workers`.

use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use rusmd_e2e::paths::Scratch;
use rusmd_e2e::wait::{self, Stopwatch};
use rusmd_e2e::{Server, process};

use crate::common::{Form, HELLO, assert_failed, assert_serves};

/// A deadline that no test reaches.
const LONG_MS: u64 = 120_000;
/// Uses the processor long enough to be seen, in million turns.
const SEEN: &str = "/work?turns=1500";
const SEEN_STATUS: u16 = 200;

/// The worker that has served last: the most recently idle one, which gets the next request.
#[track_caller]
fn last_to_serve(server: &Server) -> i32 {
    let mut client = server.connect();
    client.get(SEEN);
    let worker = server.busy_worker();
    assert_eq!(client.response().status(), SEEN_STATUS);
    worker
}

#[track_caller]
fn stop(worker: i32) {
    process::signal(worker, Signal::SIGSTOP);
    wait::until("the worker is stopped", || process::is_stopped(worker));
}

#[test]
fn a_request_does_not_wait_for_an_idle_worker_that_is_stopped() {
    let server = Form::Handlers
        .setup()
        .server("workers", 1)
        .server("spare-workers", 1)
        .server("request-timeout-ms", LONG_MS)
        .server("queue-timeout-ms", LONG_MS)
        .server("kill-grace-ms", LONG_MS)
        .start();
    let workers = server.workers();
    let stopped = last_to_serve(&server);
    stop(stopped);
    for _ in 0..4 {
        server.get("/hello").assert(200, HELLO);
    }
    assert!(process::is_stopped(stopped), "it is neither killed nor waited for");
    process::signal(stopped, Signal::SIGCONT);
    for _ in 0..4 {
        server.get("/hello").assert(200, HELLO);
    }
    assert_eq!(server.workers(), workers, "who goes on in time is kept");
}

#[test]
fn an_idle_worker_that_is_stopped_and_given_a_request_is_killed_after_the_grace() {
    let mut server = Form::Handlers
        .setup()
        .server("workers", 1)
        .server("spare-workers", 1)
        .server("request-timeout-ms", LONG_MS)
        .server("queue-timeout-ms", LONG_MS)
        .server("kill-grace-ms", 500)
        .start();
    let stopped = last_to_serve(&server);
    stop(stopped);
    server.expect_error(&stopped.to_string());
    server.get("/hello").assert(200, HELLO);
    wait::until("the stopped worker is killed", || !process::is_alive(stopped));
    server.wait_for_log(&[&stopped.to_string(), "SIGKILL"]);
    assert_serves(&server);
}

#[test]
fn requests_are_served_while_most_workers_are_stopped() {
    let mut server = Form::Handlers
        .setup()
        .server("workers", 3)
        .server("spare-workers", 1)
        .server("request-timeout-ms", LONG_MS)
        .server("queue-timeout-ms", LONG_MS)
        .server("kill-grace-ms", 500)
        .start();
    let workers = server.workers();
    for worker in &workers[1..] {
        server.expect_error(&worker.to_string());
        stop(*worker);
    }
    let mut clients: Vec<_> = (0..12).map(|_| server.connect()).collect();
    clients.iter_mut().for_each(|client| client.get("/hello"));
    clients.iter_mut().for_each(|client| client.response().assert(200, HELLO));
    // Whoever was given nothing stays as it was found; nobody asks after it.
    for worker in &workers[1..] {
        process::signal(*worker, Signal::SIGCONT);
    }
}

#[test]
fn a_worker_that_is_stopped_in_the_middle_of_a_request_costs_504_and_is_killed() {
    let mut server = Form::Handlers
        .setup()
        .server("workers", 2)
        .server("request-timeout-ms", 1_000)
        .server("kill-grace-ms", 300)
        .start();
    let mut stuck = server.connect();
    stuck.get("/spin");
    let worker = server.busy_worker();
    stop(worker);
    let response = stuck.response();
    let id = assert_failed(&mut server, &response, 504);
    server.expect_error(&worker.to_string());
    wait::until("the stopped worker is killed", || !process::is_alive(worker));
    server.wait_for_log(&[&worker.to_string(), "SIGKILL"]);
    server.wait_for_log(&[&id, "still running"]);
    assert_serves(&server);
}

#[test]
fn a_guest_that_is_stuck_in_native_code_costs_504_and_holds_up_nobody() {
    let directory = Scratch::new();
    mkfifo(&directory.path().join("fifo"), Mode::S_IRWXU).expect("the temporary directory takes a pipe");
    let mut server = Form::Handlers
        .setup()
        .capability("faults", &format!("preopen = [\"{}::/data:rw\"]", directory.path().display()))
        .server("workers", 1)
        .server("spare-workers", 0)
        .server("request-timeout-ms", 500)
        .server("kill-grace-ms", 300)
        .expect_error("ended with")
        .start();
    // Nobody ever writes to this pipe: opening it for reading does not return.
    let response = server.get("/read?path=/data/fifo");
    assert_failed(&mut server, &response, 504);
    assert_serves(&server);
    server.check_nothing_leaks();
}

/// Stops the server and its workers for longer than anything may take, and has them go on in this order.
#[track_caller]
fn leap(server: &Server, length: Duration, workers_first: bool) {
    let workers = server.workers();
    server.paused(|| {
        workers.iter().copied().for_each(stop);
        let watch = Stopwatch::start();
        wait::until("time has passed", || watch.elapsed() > length);
        if workers_first {
            workers.iter().for_each(|worker| process::signal(*worker, Signal::SIGCONT));
        }
    });
    if !workers_first {
        server.barrier();
        workers.iter().for_each(|worker| process::signal(*worker, Signal::SIGCONT));
    }
}

#[track_caller]
fn survives_a_leap(workers_first: bool) {
    let server = Form::Handlers
        .setup()
        .server("workers", 2)
        .server("request-timeout-ms", 8_000)
        .server("kill-grace-ms", 300)
        .start();
    let workers = server.workers();
    let mut running = server.connect();
    running.get(SEEN);
    server.busy_worker();
    leap(&server, Duration::from_secs(10), workers_first);
    assert_eq!(running.response().status(), SEEN_STATUS);
    assert_serves(&server);
    assert_eq!(server.workers(), workers, "a worker was killed");
}

#[test]
fn a_leap_of_the_clock_costs_no_request_when_workers_go_on_first() {
    survives_a_leap(true);
}

#[test]
fn a_leap_of_the_clock_costs_no_request_when_the_supervisor_goes_on_first() {
    survives_a_leap(false);
}

#[test]
fn a_leap_of_the_clock_kills_no_idle_worker() {
    let server = Form::Handlers.setup().server("workers", 4).server("kill-grace-ms", 300).start();
    let workers = server.workers();
    leap(&server, Duration::from_secs(2), false);
    let mut clients: Vec<_> = (0..8).map(|_| server.connect()).collect();
    clients.iter_mut().for_each(|client| client.get("/hello"));
    clients.iter_mut().for_each(|client| client.response().assert(200, HELLO));
    assert_eq!(server.workers(), workers, "a worker was killed");
}
