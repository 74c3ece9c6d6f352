//! The supervisor trusts no worker: one that breaks the rules of the link costs its own request and itself, nothing more.
//!
//! Owns the tests with the lying worker of `double`; every action of that worker has its test here.

use nix::sys::signal::Signal;
use rusmd_e2e::paths::Scratch;
use rusmd_e2e::wait::Stopwatch;
use rusmd_e2e::{ClientError, Server, Setup};
use std::time::Duration;

use crate::common::{HELLO, assert_failed};

const DOUBLE: &str = env!("CARGO_BIN_EXE_rusmd-worker-double");

/// Actions after which the client gets 502, the worker is replaced, and the log says why.
const COST_THE_REQUEST: &[&str] = &[
    "exit_after_start",
    "abort_after_start",
    "garbage",
    "frame_too_long",
    "undecodable",
    "wrong_direction",
    "ready_again",
    "unknown_request",
    "body_first",
    "done_first",
    "begun_again",
    "forked",
];

/// Actions after which the response has begun and is cut.
const CUT_THE_RESPONSE: &[&str] = &["head_twice", "end_missing", "empty_chunks"];

/// A supervisor of lying workers. The component's file is never read by anything.
fn setup(scratch: &Scratch) -> Setup {
    let routes: Vec<(String, String)> = COST_THE_REQUEST
        .iter()
        .chain(CUT_THE_RESPONSE)
        .chain(&["hello", "echo", "exit_before_start", "done_twice", "status_out_of_range", "header_with_line_end"])
        .chain(&["credit_overflow", "log_flood", "half_a_frame", "deaf", "body_beyond_window", "endless"])
        .map(|action| (format!("/{action}"), format!("double#{action}")))
        .collect();
    let routes: Vec<(&str, &str)> = routes.iter().map(|(from, to)| (from.as_str(), to.as_str())).collect();
    Setup::new()
        .source("double", scratch.write("double.wasm", b"\0asm\x0d\0\x01\0"))
        .routes(&routes)
        .argument("--worker-bin")
        .argument(DOUBLE)
        .expect_error("worker")
}

#[track_caller]
fn assert_serves(server: &Server) {
    server.get("/hello").assert(200, HELLO);
}

#[test]
fn an_honest_double_is_served() {
    let scratch = Scratch::new();
    let server = setup(&scratch).start();
    assert_serves(&server);
    let mut client = server.connect();
    for length in [0, 1, 65_536, 1 << 20] {
        client.post("/echo", &vec![b'x'; length]);
        assert_eq!(client.response().body.len(), length);
    }
}

#[test]
fn a_worker_that_breaks_the_rules_costs_only_its_request() {
    let scratch = Scratch::new();
    let mut server = setup(&scratch).start();
    for action in COST_THE_REQUEST {
        let response = server.get(&format!("/{action}"));
        assert_eq!(response.status(), 502, "{action}");
        assert_failed(&mut server, &response, 502);
        assert_serves(&server);
    }
}

#[test]
fn a_worker_that_breaks_the_rules_after_the_head_has_its_response_cut() {
    let scratch = Scratch::new();
    let server = setup(&scratch).start();
    for action in CUT_THE_RESPONSE {
        let mut client = server.connect();
        client.get(&format!("/{action}"));
        match client.try_response() {
            Err(ClientError::Cut { .. } | ClientError::Reset) => {}
            Ok(response) if response.status() == 502 => {}
            other => panic!("{action}: {other:?}"),
        }
        assert_serves(&server);
    }
}

#[test]
fn a_worker_that_sends_more_than_its_client_takes_has_its_response_cut() {
    let scratch = Scratch::new();
    let server = setup(&scratch).start();
    let mut client = server.connect();
    client.get("/body_beyond_window");
    server.wait_for_log(&["killing worker", "more than the window allows"]);
    match client.try_response() {
        Err(ClientError::Cut { .. } | ClientError::Reset) => {}
        other => panic!("{other:?}"),
    }
    assert_serves(&server);
}

#[test]
fn a_worker_that_never_stops_talking_is_killed_after_the_deadline_and_nothing_grows() {
    let scratch = Scratch::new();
    let mut server = setup(&scratch).server("request-timeout-ms", 400).server("kill-grace-ms", 300).start();
    let response = server.get("/endless");
    assert_failed(&mut server, &response, 504);
    assert_serves(&server);
}

#[test]
fn a_response_that_is_none_is_502() {
    let scratch = Scratch::new();
    let mut server = setup(&scratch).start();
    for action in ["status_out_of_range", "header_with_line_end"] {
        let response = server.get(&format!("/{action}"));
        assert_eq!(response.header("set-cookie"), None);
        assert_failed(&mut server, &response, 502);
        assert_serves(&server);
    }
}

#[test]
fn what_a_worker_says_after_its_response_harms_no_other_request() {
    let scratch = Scratch::new();
    let server = setup(&scratch).start();
    server.get("/done_twice").assert(200, HELLO);
    assert_serves(&server);
}

#[test]
fn a_request_that_its_workers_never_start_is_tried_a_few_times_and_no_oftener() {
    let scratch = Scratch::new();
    let mut server = setup(&scratch).start();
    let response = server.get("/exit_before_start");
    assert_failed(&mut server, &response, 502);
    let deaths = server.log().lines().filter(|line| line.contains("exit code 3") && line.contains("in slot")).count();
    assert_eq!(deaths, 4, "as often as a request is given to a worker");
    assert_serves(&server);
}

#[test]
fn a_worker_that_grants_too_much_credit_or_talks_too_much_is_survived() {
    let scratch = Scratch::new();
    let server = setup(&scratch).server("request-timeout-ms", 2_000).expect_error("deadline").start();
    server.get("/log_flood").assert(200, HELLO);
    let response = server.get("/credit_overflow");
    assert!(matches!(response.status(), 502 | 504), "{}", response.status());
    assert_serves(&server);
}

#[test]
fn a_deaf_worker_is_killed_after_the_deadline_and_the_grace() {
    let scratch = Scratch::new();
    let mut server = setup(&scratch).server("request-timeout-ms", 400).server("kill-grace-ms", 300).start();
    for action in ["deaf", "half_a_frame"] {
        let before = server.workers();
        let response = server.get(&format!("/{action}"));
        assert_failed(&mut server, &response, 504);
        server.check_nothing_leaks();
        rusmd_e2e::wait::until("the deaf worker is replaced", || server.workers() != before);
        assert_serves(&server);
    }
}

#[track_caller]
fn refused_at_start(mode: &str, words: &[&str]) {
    let scratch = Scratch::new();
    let watch = Stopwatch::start();
    let (status, log) =
        setup(&scratch).capability("double", &format!("env = {{ AT_START = {mode:?} }}")).start_refused();
    assert_eq!(status.code(), Some(1), "{log}");
    for word in words {
        assert!(log.contains(word), "no {word:?} in\n{log}");
    }
    assert!(watch.elapsed() < Duration::from_secs(20), "took {:?}", watch.elapsed());
}

#[test]
fn a_worker_that_refuses_stops_the_start_with_its_reason() {
    refused_at_start("refuse", &["out of spirits"]);
}

#[test]
fn a_worker_that_ends_before_it_is_ready_stops_the_start() {
    refused_at_start("exit", &["exit code 3"]);
}

#[test]
fn a_worker_that_talks_garbage_at_the_handshake_stops_the_start() {
    refused_at_start("garbage", &["worker"]);
}

#[test]
fn a_worker_of_another_build_stops_the_start() {
    refused_at_start("other-build", &["0.0.0-other"]);
}

/// A template that is no good at forks is replaced again and again, ever more slowly, and nothing is served.
#[track_caller]
fn never_serves(mode: &str, words: &[&str]) {
    let scratch = Scratch::new();
    let server = setup(&scratch)
        .capability("double", &format!("env = {{ AT_START = {mode:?} }}"))
        .expect_error("template")
        .start_unready();
    server.wait_for_log(words);
    assert!(!server.log().contains("listening on"), "{mode} is served");
    server.signal(Signal::SIGTERM);
    server.expect_gone();
}

#[test]
fn a_template_that_lies_about_what_it_has_forked_is_killed() {
    for lie in ["forks-nothing", "forks-init", "forks-for-another", "begins-itself"] {
        never_serves(lie, &["killing template"]);
    }
}

#[test]
fn a_template_that_cannot_fork_says_why() {
    never_serves("fork-fails", &["cannot start a worker", "out of processes"]);
}
