//! One request: what a guest gets, what comes back, and how each fault is named.

use rusmd_proto::{FailureCause, LogLevel, RequestHead, Scheme};

use crate::harness::{Outcome, Worker, compile, guest, head, head_with_query, spec};
use crate::wat;

fn go<'a>() -> RequestHead<'a> {
    RequestHead { action: Some("go"), ..head("GET", "/") }
}

/// Runs a component in text form once, and once more to see that the first run left nothing behind.
fn handle(name: &str, text: &str) -> Outcome {
    let artifact = wat::artifact(name, text);
    let (mut worker, _) = Worker::start(vec![spec(&artifact)]);
    let first = worker.request(1, go(), b"");
    let second = worker.request(2, go(), b"");
    assert_eq!(first.cause(), second.cause());
    first
}

fn fault(path: &str) -> Outcome {
    let mut worker = Worker::serving(&guest("wasi-faults"));
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let outcome = worker.request(1, head_with_query(path, query), b"");
    assert_eq!(worker.get(2, "/hello").text(), "hello world\n", "the next request is served");
    outcome
}

#[test]
fn a_response_comes_back_whole() {
    let outcome = handle("hello", &wat::handlers("(i32.const 128)"));
    assert_eq!((outcome.status, outcome.text().as_str(), outcome.ended), (Some(200), "hello", true));
}

#[test]
fn a_trap_is_named_with_its_place() {
    let outcome = handle(
        "trap",
        &wat::handlers("(call $boom)")
            .replace("(func (export \"actions\")", "(func $boom (result i32) unreachable) (func (export \"actions\")"),
    );
    let (cause, message, backtrace) = outcome.failed.expect("it failed");
    assert_eq!((cause, outcome.status), (FailureCause::Trap, None));
    assert!(message.contains("unreachable"), "{message}");
    assert!(backtrace.contains("boom") && backtrace.lines().count() == 2, "{backtrace}");
}

#[test]
fn a_stack_overflow_is_a_trap() {
    let outcome = handle("recursion", &wat::handlers("(call $handle (local.get $request))"));
    let (cause, message, _) = outcome.failed.expect("it failed");
    assert!(cause == FailureCause::Trap && message.contains("stack"), "{message}");
}

#[test]
fn a_memory_limit_is_named_as_that() {
    let grow = "(loop $more (drop (memory.grow (i32.const 16))) (br $more)) unreachable";
    let outcome = handle("memory", &wat::handlers(grow));
    let (cause, message, _) = outcome.failed.expect("it failed");
    assert!(cause == FailureCause::Memory && message.contains("256 MiB"), "{message}");
}

#[test]
fn an_instance_gets_all_the_memory_that_it_may_have() {
    // 1 page at the start: 4095 more are 256 MiB exactly.
    for (pages, fits) in [(4095, true), (4096, false)] {
        let body = format!(
            "(drop (memory.grow (i32.const {pages}))) (i32.store (i32.const 268435452) (i32.const 1)) (i32.const 128)"
        );
        let outcome = handle(&format!("memory-{pages}"), &wat::handlers(&body));
        assert_eq!(outcome.status.is_some(), fits, "{:?}", outcome.failed);
    }
}

#[test]
fn an_invalid_response_is_named_as_that() {
    let outcome = handle("status-99", &wat::handlers("(i32.const 192)"));
    let (cause, message, _) = outcome.failed.expect("it failed");
    assert!(cause == FailureCause::InvalidResponse && message.contains("99"), "{message}");
    assert_eq!(outcome.status, None);
}

#[test]
fn a_result_outside_of_the_guests_memory_is_a_trap() {
    let outcome = handle("wild", &wat::handlers("(i32.const -8)"));
    assert_eq!(outcome.cause(), Some(FailureCause::Trap), "{:?}", outcome.failed);
}

#[test]
fn every_fault_of_wasi_http_is_told_apart() {
    for (path, cause, expected) in [
        ("/panic", FailureCause::Trap, "unreachable"),
        ("/recursion", FailureCause::Trap, "stack"),
        ("/memory", FailureCause::Memory, "256 MiB"),
        ("/no-response", FailureCause::NoResponse, "without a response"),
        ("/error-response", FailureCause::InvalidResponse, "asked for"),
        ("/unfinished", FailureCause::Trap, "resource has children"),
        ("/exit?code=0", FailureCause::Trap, "exit(0)"),
        ("/exit?code=1", FailureCause::Trap, "exit(1)"),
        ("/panic-after-head", FailureCause::Trap, "unreachable"),
        ("/bad-length?declared=20&sent=10", FailureCause::InvalidResponse, "body"),
    ] {
        let outcome = fault(path);
        let (found, message, _) = outcome.failed.unwrap_or_else(|| panic!("{path} did not fail"));
        assert_eq!(found, cause, "{path}: {message}");
        assert!(message.contains(expected), "{path}: {message}");
        assert!(!outcome.ended, "{path}: a failed response never ends cleanly");
    }
}

#[test]
fn a_panics_message_comes_before_its_failure() {
    let outcome = fault("/panic");
    let lines: Vec<_> =
        outcome.log.iter().map(|(level, target, message)| (*level, target.as_str(), message.as_str())).collect();
    assert!(
        lines.iter().any(|(level, target, message)| {
            *level == LogLevel::Warn && *target == "stderr" && message.contains("a deliberate panic")
        }),
        "{lines:?}"
    );
}

#[test]
fn output_of_a_guest_becomes_lines_of_the_log() {
    let outcome = fault("/log");
    let expected = [
        (LogLevel::Info, "stdout".to_owned(), "a line on stdout".to_owned()),
        (LogLevel::Warn, "stderr".to_owned(), "a line on stderr".to_owned()),
    ];
    assert_eq!(outcome.log, expected);
}

#[test]
fn nothing_is_granted_that_the_manifest_does_not_grant() {
    assert_eq!(fault("/env").text().trim(), "");
    assert!(fault("/fs").text().starts_with("refused") || !fault("/fs").text().contains("root:"));
    let outcome = fault("/net?127.0.0.1:1");
    assert!(outcome.text().to_lowercase().contains("denied"), "{}", outcome.text());
}

#[test]
fn granted_environment_is_seen() {
    let artifact = compile(&guest("wasi-faults"));
    let mut spec = spec(&artifact);
    spec.env = vec![("GREETING", "hello")];
    let (mut worker, _) = Worker::start(vec![spec]);
    assert!(worker.get(1, "/env").text().contains("GREETING=hello"));
}

#[test]
fn trailers_reach_the_client() {
    let outcome = fault("/trailers");
    assert_eq!(outcome.trailers, [("x-sum".to_owned(), b"42".to_vec())]);
    assert!(outcome.ended);
}

#[test]
fn a_guest_may_go_on_after_its_response() {
    let outcome = fault("/after?ms=50");
    assert_eq!((outcome.text().as_str(), outcome.ended), ("answered\n", true));
    assert!(outcome.log.iter().any(|(.., message)| message.contains("still running")));
}

#[test]
fn a_handler_sees_the_request_as_it_was() {
    let artifact = compile(&guest("faults"));
    let (mut worker, _) = Worker::start(vec![spec(&artifact)]);
    let request = RequestHead {
        action: Some("show"),
        scheme: Scheme::Https,
        query: Some("a=1"),
        peer: Some("192.0.2.1:4711".parse().expect("an address")),
        params: vec![("id", "42")],
        ..head("POST", "/users/42")
    };
    let text = worker.request(7, request, b"four").text();
    for expected in
        ["POST https://test.example:8080/users/42?a=1", "0000000000000007", "192.0.2.1:4711", "body 4", "42"]
    {
        assert!(text.contains(expected), "{expected} is not in {text}");
    }
}

#[test]
fn a_wasi_guest_sees_the_request_as_it_was() {
    let text = fault("/headers").text();
    assert!(text.contains("user-agent"), "{text}");
    assert!(!text.contains("\nhost"), "{text}");
}

#[test]
fn requests_that_were_sent_ahead_are_served_in_their_order() {
    let artifact = wat::artifact("hello", &wat::handlers("(i32.const 128)"));
    let (mut worker, _) = Worker::start(vec![spec(&artifact)]);
    for id in 1..=4 {
        worker.send(&rusmd_proto::ToWorker::Request { id: rusmd_proto::RequestId(id), head: go(), end: true });
    }
    for id in 1..=4 {
        assert_eq!(worker.outcome(id).text(), "hello");
    }
}

#[test]
fn the_status_page_says_started_before_the_guest_runs() {
    let mut worker = Worker::serving(&guest("wasi-faults"));
    worker.request(3, head("GET", "/panic"), b"");
    assert_eq!(worker.status.started(), rusmd_proto::RequestId(3));
}

#[test]
fn every_kind_serves_many_requests_in_one_process() {
    for (name, action) in [("hello-wasi", None), ("hello-handlers", Some("hello")), ("hello-wasi3", None)] {
        let mut worker = Worker::serving(&guest(name));
        for id in 1..=200 {
            let request = RequestHead { action, ..head("GET", "/") };
            let outcome = worker.request(id, request, b"");
            assert_eq!((outcome.status, outcome.text().as_str()), (Some(200), "hello world\n"), "{name}: {outcome:?}");
        }
    }
}
