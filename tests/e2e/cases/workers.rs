//! What happens when workers die, hang, are all busy, or when the client of a request has left.
//!
//! Owns the rows of the contract about processes, deadlines and the queue. The faults come from outside, by signals, or from
//! guests that spin and sleep.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use rusmd_e2e::wait::{self, Stopwatch};
use rusmd_e2e::{Client, Server, process};

use crate::common::{Form, HELLO, assert_failed, assert_serves, request_id_in};

/// A deadline that a test waits for.
const SHORT_MS: u32 = 700;
/// A deadline that no test reaches.
const LONG_MS: u32 = 120_000;

/// Opens a connection and sends a request, which the reactor has seen when this returns.
#[track_caller]
fn request(server: &Server, path: &str) -> Client {
    let mut client = server.connect();
    client.get(path);
    server.barrier();
    client
}

#[test]
fn a_killed_worker_costs_only_the_request_that_had_started() {
    let mut server = Form::Handlers.setup().server("workers", 1).server("request-timeout-ms", LONG_MS).start();
    let mut started = request(&server, "/spin");
    let worker = server.busy_worker();
    let mut queued = request(&server, "/hello");
    process::signal(worker, Signal::SIGKILL);
    let response = started.response();
    let id = assert_failed(&mut server, &response, 502);
    queued.response().assert(200, HELLO);
    server.expect_error(&worker.to_string());
    server.wait_for_log(&[&id, &worker.to_string(), "SIGKILL"]);
}

#[test]
fn a_worker_that_crashes_is_502_and_is_replaced() {
    let mut server = Form::Handlers
        .setup()
        .server("workers", 1)
        .server("request-timeout-ms", LONG_MS)
        .server("poison-deaths", 0)
        .start();
    for signal in [Signal::SIGSEGV, Signal::SIGABRT, Signal::SIGBUS] {
        let mut started = request(&server, "/spin");
        let worker = server.busy_worker();
        process::signal(worker, signal);
        let response = started.response();
        let id = assert_failed(&mut server, &response, 502);
        server.expect_error(&worker.to_string());
        // When the signal meets an instruction that may fault, wasmtime cannot make sense of it and aborts.
        let line = server.wait_for_log(&[&id, &worker.to_string(), "ended with signal"]);
        assert!(line.contains(signal.as_str()) || line.contains("SIGABRT"), "{line}");
        server.get("/hello").assert(200, HELLO);
        drop(started);
        server.check_nothing_leaks();
    }
}

#[test]
fn a_request_sent_to_a_worker_that_dies_before_starting_it_is_served_by_another() {
    let mut server = Form::Handlers.setup().server("workers", 1).server("spare-workers", 0).start();
    let worker = server.workers()[0];
    process::signal(worker, Signal::SIGSTOP);
    wait::until("the worker is stopped", || process::is_stopped(worker));
    let mut sent = request(&server, "/hello");
    process::signal(worker, Signal::SIGKILL);
    sent.response().assert(200, HELLO);
    server.expect_error(&worker.to_string());
    server.wait_for_log(&[&worker.to_string(), "SIGKILL"]);
}

#[test]
fn killing_every_worker_at_once_is_survived() {
    let mut server = Form::Handlers.setup().server("workers", 4).start();
    let workers = server.workers();
    workers.iter().for_each(|worker| process::signal(*worker, Signal::SIGKILL));
    for worker in &workers {
        server.expect_error(&worker.to_string());
        server.wait_for_log(&[&worker.to_string(), "SIGKILL"]);
    }
    server.get("/hello").assert(200, HELLO);
}

#[track_caller]
fn deadline(form: Form, path: &str) {
    let mut server = form.setup().server("workers", 1).server("request-timeout-ms", SHORT_MS).start();
    let workers = server.workers();
    let watch = Stopwatch::start();
    let response = server.get(path);
    assert!(watch.elapsed() >= Duration::from_millis(u64::from(SHORT_MS)), "answered before the deadline");
    let id = assert_failed(&mut server, &response, 504);
    server.wait_for_log(&[&id, "deadline"]);
    assert_serves(&server);
    server.check_nothing_leaks();
    assert_eq!(server.workers(), workers, "an interrupted guest does not cost the worker");
}

#[test]
fn a_handler_that_spins_past_the_deadline_is_504() {
    deadline(Form::Handlers, "/spin");
}

#[test]
fn a_handler_that_sleeps_past_the_deadline_is_504() {
    deadline(Form::Handlers, "/sleep-forever");
}

#[test]
fn a_wasi_http_component_that_spins_past_the_deadline_is_504() {
    deadline(Form::Wasi, "/spin");
}

#[test]
fn a_wasi_http_component_that_sleeps_past_the_deadline_is_504() {
    deadline(Form::Wasi, "/sleep?ms=600000");
}

#[test]
fn typescript_that_spins_past_the_deadline_is_504() {
    deadline(Form::TypeScript, "/spin");
}

#[test]
fn typescript_whose_promise_never_settles_is_504() {
    deadline(Form::TypeScript, "/never");
}

#[test]
fn a_guest_that_keeps_sending_is_given_time() {
    let server = Form::Wasi.setup().server("request-timeout-ms", SHORT_MS).start();
    server.get("/slow-body?pieces=8&ms=200").assert(200, "........");
}

#[test]
fn a_worker_that_does_not_answer_within_the_grace_is_killed_and_replaced() {
    let mut server = Form::Handlers
        .setup()
        .server("workers", 1)
        .server("request-timeout-ms", 2_000)
        .server("kill-grace-ms", 300)
        .start();
    let mut stuck = request(&server, "/spin");
    let worker = server.busy_worker();
    process::signal(worker, Signal::SIGSTOP);
    let mut waiting = request(&server, "/hello");
    let response = stuck.response();
    assert_failed(&mut server, &response, 504);
    server.expect_error(&worker.to_string());
    wait::until("the stopped worker is killed", || !process::is_alive(worker));
    waiting.response().assert(200, HELLO);
    server.get("/hello").assert(200, HELLO);
    server.wait_for_log(&[&worker.to_string(), "SIGKILL"]);
}

#[test]
fn a_full_queue_is_503_at_once() {
    let mut server = Form::Handlers
        .setup()
        .server("workers", 1)
        .server("queue-length", 1)
        .server("request-timeout-ms", 3_000)
        .server("queue-timeout-ms", LONG_MS)
        .start();
    let mut running = request(&server, "/spin");
    let mut queued = request(&server, "/hello");
    let watch = Stopwatch::start();
    let refused = server.get("/hello");
    assert!(watch.elapsed() < Duration::from_secs(2), "refused only after {:?}", watch.elapsed());
    assert!(refused.header("retry-after").is_some_and(|value| value.parse::<u32>().is_ok()), "{:?}", refused.head);
    assert_failed(&mut server, &refused, 503);
    let response = running.response();
    assert_failed(&mut server, &response, 504);
    queued.response().assert(200, HELLO);
}

#[test]
fn a_worker_that_gets_free_takes_what_waits_wherever_it_waits() {
    let mut server = Form::Handlers.setup().server("workers", 2).server("request-timeout-ms", 5_000).start();
    let mut stuck = request(&server, "/spin");
    let mut short = request(&server, "/sleep?ms=400");
    let watch = Stopwatch::start();
    let mut waiting: Vec<Client> = (0..6).map(|_| request(&server, "/hello")).collect();
    for client in &mut waiting {
        client.response().assert(200, HELLO);
    }
    assert!(watch.elapsed() < Duration::from_secs(4), "a request waited for a stuck worker: {:?}", watch.elapsed());
    assert_eq!(short.response().status(), 200);
    let response = stuck.response();
    assert_failed(&mut server, &response, 504);
}

#[test]
fn what_waits_behind_an_interrupted_request_keeps_its_worker() {
    let mut server = Form::Handlers
        .setup()
        .server("workers", 1)
        .server("spare-workers", 0)
        .server("request-timeout-ms", SHORT_MS)
        .start();
    let workers = server.workers();
    for _ in 0..5 {
        let mut stuck = request(&server, "/spin");
        let mut waiting: Vec<Client> = (0..3).map(|_| request(&server, "/hello")).collect();
        let response = stuck.response();
        assert_failed(&mut server, &response, 504);
        for client in &mut waiting {
            client.response().assert(200, HELLO);
        }
        assert_eq!(server.workers(), workers, "the worker was replaced");
    }
}

#[test]
fn waiting_too_long_in_the_queue_is_503() {
    let mut server = Form::Handlers
        .setup()
        .server("workers", 1)
        .server("request-timeout-ms", 4_000)
        .server("queue-timeout-ms", 300)
        .start();
    let mut running = request(&server, "/spin");
    let watch = Stopwatch::start();
    let refused = server.get("/hello");
    assert!(watch.elapsed() >= Duration::from_millis(300), "refused after only {:?}", watch.elapsed());
    assert!(refused.header("retry-after").is_some(), "{:?}", refused.head);
    assert_failed(&mut server, &refused, 503);
    let response = running.response();
    assert_failed(&mut server, &response, 504);
}

#[test]
fn a_queued_request_whose_client_has_left_never_starts() {
    let mut server = Form::Handlers.setup().server("workers", 1).server("request-timeout-ms", 2_000).start();
    let mut running = request(&server, "/spin");
    let gone = request(&server, "/log");
    drop(gone);
    let mut kept = request(&server, "/hello");
    let response = running.response();
    assert_failed(&mut server, &response, 504);
    kept.response().assert(200, HELLO);
    assert!(!server.log().contains("an info line"), "the handler of a client that had left was run");
    server.expect_error("an error line");
    server.get("/log");
    server.wait_for_log(&["an info line"]);
}

#[test]
fn a_client_that_left_at_once_never_starts() {
    let mut server = Form::Handlers.setup().server("workers", 1).server("request-timeout-ms", 2_000).start();
    let mut running = request(&server, "/spin");
    let mut gone = server.connect();
    server.barrier();
    server.paused(|| {
        gone.get("/log");
        drop(gone);
    });
    let response = running.response();
    assert_failed(&mut server, &response, 504);
    server.get("/hello").assert(200, HELLO);
    assert!(!server.log().contains("an info line"), "the handler of a client that had left was run");
}

/// With one worker and no spare the next request waits for the end of the handler whose client has left.
#[track_caller]
fn runs_to_its_end(form: Form) {
    const HANDLER_MS: u64 = 1_500;
    let server = form.setup().server("workers", 1).server("spare-workers", 0).start();
    let workers = server.workers();
    let watch = Stopwatch::start();
    drop(request(&server, &format!("/sleep?ms={HANDLER_MS}")));
    assert_serves(&server);
    assert!(watch.elapsed() >= Duration::from_millis(HANDLER_MS), "it ran for {:?} only", watch.elapsed());
    assert_eq!(server.workers(), workers, "the worker is still the same");
}

#[test]
fn a_handler_whose_client_has_left_runs_to_its_end() {
    runs_to_its_end(Form::Handlers);
}

#[test]
fn a_wasi_http_component_whose_client_has_left_runs_to_its_end() {
    runs_to_its_end(Form::Wasi);
}

#[test]
fn typescript_whose_client_has_left_runs_to_its_end() {
    runs_to_its_end(Form::TypeScript);
}

#[test]
fn a_guest_may_go_on_after_its_response() {
    let server = Form::Wasi.setup().start();
    let watch = Stopwatch::start();
    server.get("/after?ms=1500").assert(200, "answered\n");
    assert!(watch.elapsed() < Duration::from_millis(1_400), "the response waits for the guest's end");
    server.wait_for_log(&["still running after the response"]);
    assert_serves(&server);
}

#[test]
fn workers_vanish_when_the_supervisor_is_killed() {
    let server = Form::Handlers.setup().server("workers", 4).server("request-timeout-ms", LONG_MS).start();
    let _running = request(&server, "/spin");
    server.busy_worker();
    let watch = Stopwatch::start();
    server.signal(Signal::SIGKILL);
    server.expect_gone();
    assert!(watch.elapsed() < Duration::from_secs(2), "they lived on for {:?}", watch.elapsed());
}

#[test]
fn killing_workers_under_load_loses_only_what_had_started() {
    const KILLS: usize = 60;
    const REQUESTS_BETWEEN_KILLS: usize = 150;
    let mut server = Form::Handlers.setup().start();
    let address = server.address();
    let (served, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let failed = thread::scope(|scope| {
        let client = || {
            let mut client = Client::connect(address);
            let mut failed = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                client.get("/log");
                let response = client.response();
                match response.status() {
                    200 => {}
                    502 => failed.push(response),
                    other => panic!("status {other}: {}", response.text()),
                }
                served.fetch_add(1, Ordering::Relaxed);
            }
            failed
        };
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(client)).collect();
        for kill in 0..KILLS {
            wait::until("the load goes on", || served.load(Ordering::Relaxed) >= kill * REQUESTS_BETWEEN_KILLS);
            let workers = server.workers();
            if let Some(worker) = workers.get(kill % workers.len().max(1)) {
                process::signal(*worker, Signal::SIGKILL);
            }
        }
        stop.store(true, Ordering::Relaxed);
        clients.into_iter().flat_map(|client| client.join().expect("no client fails")).collect::<Vec<_>>()
    });
    for response in &failed {
        let id = assert_failed(&mut server, response, 502);
        server.wait_for_log(&[&id, "ended with", "SIGKILL"]);
    }
    assert!(failed.len() <= KILLS, "{} requests failed after {KILLS} kills", failed.len());
    ["ended with", "an error line"].iter().for_each(|part| server.expect_error(part));
    assert_serves(&server);
    let log = server.log();
    let mut runs: Vec<&str> =
        log.lines().filter(|line| line.contains("an info line")).filter_map(request_id_in).collect();
    let lines = runs.len();
    assert!(lines >= KILLS * REQUESTS_BETWEEN_KILLS / 2, "only {lines} requests have logged");
    runs.sort_unstable();
    runs.dedup();
    assert_eq!(runs.len(), lines, "a request has run twice");
}
