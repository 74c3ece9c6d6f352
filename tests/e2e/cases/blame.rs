//! What is refused because workers died of it: requests that are poison, and components that crash again and again.
//!
//! Owns the refusals as clients and operators see them. The workers are killed from outside, one after the other, each while it runs the
//! request that is to be blamed; when exactly that counts is tested beside `src/blame`.

use std::time::Duration;

use nix::sys::signal::Signal;
use rusmd_e2e::wait::{self, SOON, Stopwatch};
use rusmd_e2e::{Client, Response, Server, Setup, process};

use crate::common::assert_failed;

/// A deadline that no test reaches.
const LONG_MS: u32 = 120_000;

/// `/work` with these turns answers at once, and with those it is killed long before.
const BRIEF: &str = "/work?turns=1";
const LASTING: &str = "/work?turns=1000000";

/// Two components on one listener: `faults`, which is to be blamed, and one that has nothing to do with it.
fn setup() -> Setup {
    Setup::new()
        .routes(&[
            ("GET /hello", "faults#hello"),
            ("/spin", "faults#spin"),
            ("/spin/:n", "faults#spin"),
            ("/work", "faults#work"),
            ("GET /other", "hello-handlers#hello"),
        ])
        .server("request-timeout-ms", LONG_MS)
}

/// Asks for `path` and kills the worker that runs it.
#[track_caller]
fn die(server: &mut Server, path: &str) {
    let mut client = server.connect();
    client.get(path);
    kill_running(server, client);
}

/// Kills the worker that runs this client's request.
#[track_caller]
fn kill_running(server: &mut Server, mut client: Client) {
    let worker = server.busy_worker();
    server.expect_error(&worker.to_string());
    process::signal(worker, Signal::SIGKILL);
    let response = client.response();
    let id = assert_failed(server, &response, 502);
    server.wait_for_log(&[&id, "SIGKILL"]);
}

/// Asks for `path`, which must be refused with a `Retry-After` of no more than `seconds_max`.
#[track_caller]
fn assert_refused(server: &mut Server, path: &str, seconds_max: u64) {
    let response = server.get(path);
    assert_failed(server, &response, 503);
    let seconds = retry_after(&response);
    assert!((1..=seconds_max).contains(&seconds), "Retry-After: {seconds}, at most {seconds_max}");
}

#[track_caller]
fn retry_after(response: &Response) -> u64 {
    let value = response.header("retry-after").unwrap_or_else(|| panic!("no Retry-After: {:?}", response.head));
    value.parse().expect("Retry-After is a number of seconds")
}

/// Checks that `/hello` or `/other` is served.
#[track_caller]
fn assert_served(server: &Server, path: &str) {
    let response = server.get(path);
    assert_eq!(response.status(), 200, "{path}: {}", response.text());
    assert!(response.text().starts_with("hello"), "{path}: {}", response.text());
}

#[test]
fn a_request_that_has_killed_two_workers_does_not_kill_a_third() {
    let mut server = setup().expect_error("poison").start();
    die(&mut server, "/spin");
    die(&mut server, "/spin");
    server.wait_for_log(&["poison", "/spin", "faults#spin", "2 workers"]);
    server.check_nothing_leaks();
    let workers = server.workers();
    assert_refused(&mut server, "/spin", 30);
    assert_refused(&mut server, "/spin?another=query", 30);
    assert_served(&server, "/hello");
    assert_served(&server, "/other");
    assert_refused(&mut server, "/spin", 30);
    assert_eq!(server.workers(), workers, "nobody was killed any more");
}

#[test]
fn what_waits_in_the_queue_is_refused_too_when_it_has_become_poison() {
    let mut server = setup().server("workers", 1).server("queue-timeout-ms", LONG_MS).expect_error("poison").start();
    let mut clients: Vec<Client> = (0..5).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.get("/spin");
        server.barrier();
    }
    let mut clients = clients.into_iter();
    for client in clients.by_ref().take(2) {
        kill_running(&mut server, client);
    }
    for mut client in clients {
        let response = client.response();
        assert_failed(&mut server, &response, 503);
        retry_after(&response);
    }
    assert_served(&server, "/hello");
}

#[test]
fn after_a_refusal_one_request_is_on_trial_and_the_next_refusal_is_twice_as_long() {
    let mut server = setup().server("poison-refuse-ms", 1_000).expect_error("poison").start();
    die(&mut server, "/spin");
    die(&mut server, "/spin");
    let trial = wait_for_trial(&server, "/spin");
    assert_refused(&mut server, "/spin", 1);
    kill_running(&mut server, trial);
    server.wait_for_log(&["poison", "/spin", "3 workers", "2.0s"]);
    assert_refused(&mut server, "/spin", 2);
    assert_served(&server, "/hello");
}

/// Asks for `path` until it is no longer refused, and returns who is on trial.
#[track_caller]
fn wait_for_trial(server: &Server, path: &str) -> Client {
    let trial = wait::poll(SOON, || {
        let mut client = server.connect();
        client.get(path);
        // A connection that comes in the same turn may be answered before it, but none that comes after that.
        server.barrier();
        server.barrier();
        client.is_silent().then_some(client)
    });
    trial.expect("the refusal ends")
}

#[test]
fn a_trial_that_ends_well_ends_the_refusal() {
    let mut server = setup().server("poison-refuse-ms", 500).expect_error("poison").start();
    die(&mut server, LASTING);
    die(&mut server, LASTING);
    wait::until("the path is served again", || server.get(BRIEF).status() == 200);
    server.wait_for_log(&["/work", "not refused any longer"]);
    for _ in 0..3 {
        assert_eq!(server.get(BRIEF).status(), 200);
    }
}

#[test]
fn a_path_that_is_served_between_two_deaths_is_not_poison() {
    let mut server = setup().start();
    for _ in 0..3 {
        die(&mut server, LASTING);
        assert_eq!(server.get(BRIEF).status(), 200);
    }
}

#[test]
fn two_workers_that_die_at_the_same_moment_are_one_piece_of_evidence() {
    let mut server = setup().server("workers", 2).expect_error("poison").start();
    let mut clients = [server.connect(), server.connect()];
    let mut workers = Vec::new();
    for client in &mut clients {
        client.get("/spin");
        // The first one is stopped while the second is looked for, so that only one is busy.
        let worker = server.busy_worker();
        process::signal(worker, Signal::SIGSTOP);
        wait::until("the worker is stopped", || process::is_stopped(worker));
        workers.push(worker);
    }
    server.paused(|| workers.iter().for_each(|worker| process::signal(*worker, Signal::SIGKILL)));
    workers.iter().for_each(|worker| server.expect_error(&worker.to_string()));
    for client in &mut clients {
        let response = client.response();
        assert_failed(&mut server, &response, 502);
    }
    die(&mut server, "/spin");
    assert_refused(&mut server, "/spin", 30);
}

#[test]
fn poison_can_be_turned_off() {
    let mut server = setup().server("poison-deaths", 0).server("crash-loop-deaths", 0).start();
    for _ in 0..6 {
        die(&mut server, "/spin");
    }
    assert_served(&server, "/hello");
}

/// Kills five workers with requests that have nothing in common but their component. Returns what is left of the first suspension, which lasts for
/// 0.8 seconds or longer: a machine that was too slow to leave anything of it has shown nothing.
#[track_caller]
fn crash_five_times(server: &mut Server) -> Option<Duration> {
    (1..5).for_each(|n| die(server, &format!("/spin/{n}")));
    let watch = Stopwatch::start();
    die(server, "/spin/5");
    server.wait_for_log(&["component `faults` is suspended", "5 workers"]);
    SUSPEND_LEAST.checked_sub(watch.elapsed())
}

/// The first suspension at its shortest.
const SUSPEND_LEAST: Duration = Duration::from_millis(800);

#[test]
fn a_component_that_kills_five_workers_in_a_row_is_suspended_alone_and_recovers() {
    let mut server = setup().expect_error("suspended").start();
    let left = crash_five_times(&mut server);
    let watch = Stopwatch::start();
    let response = server.get("/hello");
    if left.is_some_and(|left| watch.elapsed() < left) {
        assert_failed(&mut server, &response, 503);
        assert!((1..=2).contains(&retry_after(&response)));
    }
    assert_served(&server, "/other");
    wait::until("the component is served again", || server.get("/hello").status() == 200);
    server.wait_for_log(&["component `faults` is served again"]);
    die(&mut server, "/spin/6");
    assert_served(&server, "/hello");
}

#[test]
fn a_suspended_component_that_kills_on_trial_is_suspended_for_longer() {
    let mut server = setup().expect_error("suspended").start();
    crash_five_times(&mut server);
    let trial = wait_for_trial(&server, "/spin/6");
    assert_refused(&mut server, "/hello", 1);
    assert_served(&server, "/other");
    kill_running(&mut server, trial);
    server.wait_for_log(&["component `faults` is suspended", "6 workers"]);
    let trial = wait_for_trial(&server, "/spin/7");
    kill_running(&mut server, trial);
    server.wait_for_log(&["component `faults` is suspended", "7 workers"]);
    // By now it lasts for four seconds, give or take a fifth.
    let response = server.get("/hello");
    assert_failed(&mut server, &response, 503);
    assert!((1..=5).contains(&retry_after(&response)));
    assert_served(&server, "/other");
    wait::until("the component is served again", || server.get("/hello").status() == 200);
}

#[test]
fn a_success_in_between_keeps_a_component_from_being_suspended() {
    let mut server = setup().start();
    for n in 1..=8 {
        die(&mut server, &format!("/spin/{n}"));
        if n % 4 == 0 {
            assert_served(&server, "/hello");
        }
    }
}

#[test]
fn suspension_can_be_turned_off() {
    let mut server = setup().server("crash-loop-deaths", 0).start();
    for n in 1..=7 {
        die(&mut server, &format!("/spin/{n}"));
    }
    assert_served(&server, "/hello");
}
