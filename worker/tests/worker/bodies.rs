//! Bodies: streamed both ways under their windows, never longer in memory than that, never whole when they are not.

use std::collections::BTreeMap;

use rusmd_proto::limits::{BODY_CHUNK_BYTES_MAX, WINDOW_BYTES};
use rusmd_proto::{FailureCause, RequestHead, RequestId, ToWorker};

use crate::harness::{Got, Worker, compile, guest, head, head_with_query, spec};

const ID: RequestId = RequestId(1);

/// Sends `total` bytes as credit allows, takes the response as it comes, and returns how many bytes came back.
fn pump(worker: &mut Worker, total: u64) -> u64 {
    let chunk = vec![b'z'; BODY_CHUNK_BYTES_MAX];
    let (mut sent, mut window, mut received) = (0u64, u64::from(WINDOW_BYTES), 0u64);
    loop {
        while sent < total && window > 0 {
            let next = (total - sent).min(window).min(chunk.len() as u64);
            sent += next;
            window -= next;
            worker.send(&ToWorker::RequestBody { id: ID, bytes: &chunk[..next as usize], end: sent == total });
        }
        match worker.receive() {
            Got::Head { status, .. } => assert_eq!(status, 200),
            Got::RequestCredit { bytes, .. } => window += u64::from(bytes),
            Got::Body { bytes, end, .. } => {
                assert!(bytes.iter().all(|&byte| byte == b'z'));
                received += bytes.len() as u64;
                if !end && !bytes.is_empty() {
                    worker.send(&ToWorker::ResponseCredit { id: ID, bytes: bytes.len() as u32 });
                }
            }
            Got::Done { .. } => return received,
            got => panic!("{got:?}"),
        }
    }
}

fn resident_kb(worker: &Worker) -> u64 {
    let path = format!("/proc/{}/status", worker.pid);
    let status = std::fs::read_to_string(path).expect("the worker lives");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line for it");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

#[test]
fn a_large_echo_needs_no_memory_for_it() {
    for name in ["wasi-faults", "wstd-echo"] {
        let mut worker = Worker::serving(&guest(name));
        worker.get(9, "/hello");
        let before = resident_kb(&worker);
        worker.send(&ToWorker::Request { id: ID, head: head("POST", "/echo"), end: false });
        let total = 32 << 20;
        assert_eq!(pump(&mut worker, total), total, "{name}");
        let grown = resident_kb(&worker).saturating_sub(before);
        assert!(grown < 8 * 1024, "{name} grew by {grown} kB");
    }
}

#[test]
fn a_download_stalls_when_its_window_is_used_up_and_goes_on_with_credit() {
    let mut worker = Worker::serving(&guest("wasi-faults"));
    let total = u64::from(WINDOW_BYTES) * 2;
    let query = format!("bytes={total}");
    worker.send(&ToWorker::Request { id: ID, head: head_with_query("/download", &query), end: true });
    let mut received = 0;
    let mut granted = u64::from(WINDOW_BYTES);
    loop {
        match worker.receive() {
            Got::Head { .. } => {}
            Got::Body { bytes, end, .. } => {
                received += bytes.len() as u64;
                assert!(received <= granted, "more than the window");
                if received == granted && !end {
                    // Granted in odd pieces: nothing may depend on whole chunks.
                    granted += 70_001;
                    worker.send(&ToWorker::ResponseCredit { id: ID, bytes: 70_001 });
                }
            }
            Got::Done { .. } => break,
            got => panic!("{got:?}"),
        }
    }
    assert_eq!(received, total);
}

#[test]
fn a_handlers_response_larger_than_its_window_waits_for_credit() {
    let artifact = compile(&guest("faults"));
    let (mut worker, _) = Worker::start(vec![spec(&artifact)]);
    let total = WINDOW_BYTES as usize * 3 + 1;
    let query = format!("bytes={total}");
    let request = RequestHead { action: Some("large"), ..head_with_query("/large", &query) };
    let outcome = worker.request(1, request, b"");
    assert_eq!((outcome.body.len(), outcome.ended), (total, true));
}

#[test]
fn a_handlers_body_larger_than_its_window_is_granted_credit() {
    let artifact = compile(&guest("faults"));
    let (mut worker, _) = Worker::start(vec![spec(&artifact)]);
    let request = RequestHead { action: Some("echo"), ..head("POST", "/echo") };
    worker.send(&ToWorker::Request { id: ID, head: request, end: false });
    let total = u64::from(WINDOW_BYTES) * 5 + 3;
    assert_eq!(pump(&mut worker, total), total);
}

#[test]
fn a_handlers_body_larger_than_its_memory_fails_as_memory() {
    let artifact = compile(&guest("faults"));
    let (mut worker, _) = Worker::start(vec![spec(&artifact)]);
    let declared = RequestHead { action: Some("echo"), body_bytes: Some(257 << 20), ..head("POST", "/echo") };
    worker.send(&ToWorker::Request { id: ID, head: declared, end: false });
    assert_eq!(worker.outcome(1).cause(), Some(FailureCause::Memory));
    assert_eq!(worker.status.started(), RequestId::NONE, "no guest ran");
}

#[test]
fn a_guest_that_does_not_read_grants_nothing() {
    let mut worker = Worker::serving(&guest("wasi-faults"));
    worker.send(&ToWorker::Request { id: ID, head: head_with_query("/sleep", "ms=100"), end: false });
    let chunk = vec![0; BODY_CHUNK_BYTES_MAX];
    for _ in 0..WINDOW_BYTES as usize / BODY_CHUNK_BYTES_MAX {
        worker.send(&ToWorker::RequestBody { id: ID, bytes: &chunk, end: false });
    }
    let mut kinds = BTreeMap::new();
    loop {
        match worker.receive() {
            Got::Done { .. } => break,
            Got::RequestCredit { .. } => *kinds.entry("credit").or_insert(0) += 1,
            _ => {}
        }
    }
    assert!(kinds.is_empty());
}

#[test]
fn more_body_than_the_window_ends_the_worker() {
    let mut worker = Worker::serving(&guest("wasi-faults"));
    worker.send(&ToWorker::Request { id: ID, head: head_with_query("/sleep", "ms=60000"), end: false });
    let chunk = vec![0; BODY_CHUNK_BYTES_MAX];
    for _ in 0..WINDOW_BYTES as usize / BODY_CHUNK_BYTES_MAX + 1 {
        worker.send(&ToWorker::RequestBody { id: ID, bytes: &chunk, end: false });
    }
    assert_eq!(worker.receive(), Got::End);
    assert_eq!(worker.wait().code(), Some(1));
    assert!(worker.last_words().contains("window"));
}

#[test]
fn an_aborted_body_is_never_taken_for_whole() {
    let mut worker = Worker::serving(&guest("wasi-faults"));
    worker.send(&ToWorker::Request { id: ID, head: head("POST", "/read-then-reply"), end: false });
    worker.send(&ToWorker::RequestBody { id: ID, bytes: b"half", end: false });
    worker.send(&ToWorker::RequestAborted { id: ID });
    let outcome = worker.outcome(1);
    assert_ne!(outcome.status, Some(200), "{outcome:?}");
    let artifact = compile(&guest("faults"));
    let (mut worker, _) = Worker::start(vec![spec(&artifact)]);
    let request = RequestHead { action: Some("echo"), ..head("POST", "/echo") };
    worker.send(&ToWorker::Request { id: ID, head: request, end: false });
    worker.send(&ToWorker::RequestAborted { id: ID });
    assert_eq!(worker.outcome(1).cause(), Some(FailureCause::Internal));
}

#[test]
fn request_trailers_reach_the_guest_as_the_end_of_the_body() {
    let mut worker = Worker::serving(&guest("wasi-faults"));
    worker.send(&ToWorker::Request { id: ID, head: head("POST", "/echo"), end: false });
    worker.send(&ToWorker::RequestBody { id: ID, bytes: b"body", end: false });
    let trailers = rusmd_proto::Trailers { headers: vec![("x-sum", b"1")] };
    worker.send(&ToWorker::RequestTrailers { id: ID, trailers });
    assert_eq!(worker.outcome(1).text(), "body");
}

#[test]
fn output_flushed_before_a_wait_is_sent_before_it() {
    let mut worker = Worker::serving(&guest("wasi-faults"));
    worker.send(&ToWorker::Request { id: ID, head: head("GET", "/stall"), end: true });
    assert!(matches!(worker.receive(), Got::Head { status: 200, end: false, .. }));
    assert!(matches!(worker.receive(), Got::Body { bytes, end: false, .. } if bytes == b"before the stall\n"));
}
