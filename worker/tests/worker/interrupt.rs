//! Stopping a request: a busy guest by signal, a waiting one by frame, and nobody else by either.

use rusmd_proto::{FailureCause, RequestHead, RequestId, ToWorker};

use crate::harness::{Got, Worker, guest, head, head_with_query, spec};
use crate::wat;

const BUSY: &str = "(loop $on (br $on)) unreachable";

/// What the supervisor does about a deadline.
fn interrupt(worker: &mut Worker, id: u64) {
    worker.status.store_interrupt(RequestId(id));
    worker.send(&ToWorker::Cancel { id: RequestId(id) });
    worker.signal(libc::SIGUSR1);
}

#[test]
fn a_busy_guest_is_interrupted() {
    let artifact = wat::artifact("busy", &wat::handlers(BUSY));
    let (mut worker, _) = Worker::start(vec![spec(&artifact)]);
    for id in 1..=3 {
        let head = RequestHead { action: Some("go"), ..head("GET", "/") };
        worker.send(&ToWorker::Request { id: RequestId(id), head, end: true });
        worker.wait_until_started(id);
        interrupt(&mut worker, id);
        assert_eq!(worker.outcome(id).cause(), Some(FailureCause::Interrupted));
    }
}

#[test]
fn a_busy_guest_is_interrupted_after_its_head_too() {
    let mut worker = Worker::serving(&guest("wasi-faults"));
    worker.send(&ToWorker::Request { id: RequestId(1), head: head("GET", "/spin-after-head"), end: true });
    worker.wait_until_started(1);
    interrupt(&mut worker, 1);
    let outcome = worker.outcome(1);
    assert_eq!((outcome.cause(), outcome.ended), (Some(FailureCause::Interrupted), false));
    assert_eq!(worker.get(2, "/hello").text(), "hello world\n");
}

#[test]
fn a_waiting_guest_is_cancelled() {
    let mut worker = Worker::serving(&guest("wasi-faults"));
    for (id, path) in [(1, "/sleep"), (2, "/stall")] {
        worker.send(&ToWorker::Request { id: RequestId(id), head: head_with_query(path, "ms=60000"), end: true });
        worker.wait_until_started(id);
        worker.status.store_interrupt(RequestId(id));
        worker.send(&ToWorker::Cancel { id: RequestId(id) });
        assert_eq!(worker.outcome(id).cause(), Some(FailureCause::Interrupted));
    }
    assert_eq!(worker.get(3, "/hello").text(), "hello world\n");
}

/// What the supervisor does about a request that takes long.
fn inspect(worker: &mut Worker, id: u64) -> String {
    worker.status.store_inspect(RequestId(id));
    worker.send(&ToWorker::Inspect { id: RequestId(id) });
    worker.signal(libc::SIGUSR1);
    match worker.receive() {
        Got::Backtrace { id: of, backtrace } if of == id => backtrace,
        got => panic!("{got:?} instead of Backtrace; {}", worker.last_words()),
    }
}

#[test]
fn a_busy_guest_is_looked_at_and_goes_on() {
    let mut worker = Worker::serving(&guest("wasi-faults"));
    worker.send(&ToWorker::Request { id: RequestId(1), head: head("GET", "/spin"), end: true });
    worker.wait_until_started(1);
    // The first looks may come while the instance is still being set up.
    assert!((0..1000).any(|_| inspect(&mut worker, 1).contains("handle")));
    for _ in 0..100 {
        assert!(inspect(&mut worker, 1).contains("handle"));
    }
    interrupt(&mut worker, 1);
    assert_eq!(worker.outcome(1).cause(), Some(FailureCause::Interrupted));
}

#[test]
fn a_handler_that_computes_is_looked_at_too() {
    let artifact = wat::artifact("busy", &wat::handlers(BUSY));
    let (mut worker, _) = Worker::start(vec![spec(&artifact)]);
    let head = RequestHead { action: Some("go"), ..head("GET", "/") };
    worker.send(&ToWorker::Request { id: RequestId(1), head, end: true });
    worker.wait_until_started(1);
    assert!((0..1000).any(|_| inspect(&mut worker, 1).contains("handle")));
    interrupt(&mut worker, 1);
    assert_eq!(worker.outcome(1).cause(), Some(FailureCause::Interrupted));
}

#[test]
fn a_waiting_guest_has_no_stack_to_be_looked_at_and_goes_on() {
    let mut worker = Worker::serving(&guest("wasi-faults"));
    worker.send(&ToWorker::Request { id: RequestId(1), head: head_with_query("/sleep", "ms=300"), end: true });
    worker.wait_until_started(1);
    // What has started has yet to come to its wait.
    worker.wait_until_asleep();
    assert_eq!(inspect(&mut worker, 1), "");
    assert_eq!(worker.outcome(1).text(), "slept\n");
}

#[test]
fn a_look_at_a_request_that_has_ended_harms_nobody() {
    let mut worker = Worker::serving(&guest("wasi-faults"));
    for id in 1..=20 {
        assert_eq!(worker.get(id, "/hello").text(), "hello world\n");
        worker.status.store_inspect(RequestId(id));
        worker.send(&ToWorker::Inspect { id: RequestId(id) });
        worker.signal(libc::SIGUSR1);
    }
    assert_eq!(worker.get(21, "/hello").text(), "hello world\n");
}

#[test]
fn a_late_interrupt_harms_nobody() {
    let mut worker = Worker::serving(&guest("wasi-faults"));
    for id in 1..=50 {
        assert_eq!(worker.get(id, "/hello").text(), "hello world\n");
        interrupt(&mut worker, id);
    }
    assert_eq!(worker.get(51, "/hello").text(), "hello world\n");
}

#[test]
fn signals_without_an_interrupt_harm_nobody() {
    let mut worker = Worker::serving(&guest("wasi-faults"));
    worker.send(&ToWorker::Request { id: RequestId(1), head: head_with_query("/sleep", "ms=200"), end: true });
    worker.wait_until_started(1);
    for signal in [libc::SIGUSR1, libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR2] {
        worker.signal(signal);
    }
    assert_eq!(worker.outcome(1).text(), "slept\n");
}

#[test]
fn a_request_that_waits_its_turn_can_be_cancelled() {
    let mut worker = Worker::serving(&guest("wasi-faults"));
    worker.send(&ToWorker::Request { id: RequestId(1), head: head_with_query("/sleep", "ms=100"), end: true });
    worker.send(&ToWorker::Request { id: RequestId(2), head: head("GET", "/hello"), end: true });
    worker.wait_until_started(1);
    worker.send(&ToWorker::Cancel { id: RequestId(2) });
    assert_eq!(worker.outcome(1).text(), "slept\n");
    assert_eq!(worker.outcome(2).cause(), Some(FailureCause::Interrupted));
    assert_eq!(worker.status.started(), RequestId(1), "it never started");
}

#[test]
fn a_worker_dies_with_its_link_in_the_midst_of_a_waiting_request() {
    let mut worker = Worker::serving(&guest("wasi-faults"));
    worker.send(&ToWorker::Request { id: RequestId(1), head: head_with_query("/sleep", "ms=60000"), end: true });
    worker.wait_until_started(1);
    assert_eq!(worker.close().code(), Some(0));
}
