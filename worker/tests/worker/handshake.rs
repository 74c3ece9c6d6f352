//! Before the first request: the handshake, what is refused, and how the process ends.

use rusmd_proto::limits::PROTOCOL_VERSION;
use rusmd_proto::{BUILD, Hello, RequestId, ToWorker};

use crate::harness::{Got, Kinds, Worker, compile, guest, hello, spec};
use crate::wat;

#[test]
fn a_worker_says_what_each_component_is() {
    let text = wat::handlers("(i32.const 128)");
    let artifacts = [
        wat::artifact("kinds", &text),
        compile(&guest("hello-wasi")),
        compile(&guest("hello-wasi3")),
        compile(&guest("hello-handlers")),
    ];
    let (_worker, kinds) = Worker::start(artifacts.iter().map(|artifact| spec(artifact)).collect());
    let expected = [
        Kinds::Handlers(vec!["go".to_owned()]),
        Kinds::WasiHttp02,
        Kinds::WasiHttp03,
        Kinds::Handlers(vec!["hello".to_owned()]),
    ];
    assert_eq!(kinds, expected);
}

#[test]
fn one_unloadable_component_does_not_stop_the_others() {
    let good = wat::artifact("good", &wat::handlers("(i32.const 128)"));
    let nothing = wat::artifact("nothing", "(component)");
    let import = wat::artifact("import", r#"(component (import "acme:db/query" (func)) )"#);
    let traps = wat::artifact("traps", &wat::handlers_with("", "(i32.const 128)", "unreachable"));
    let garbage = wat::write("garbage", "(component)").to_string_lossy().into_owned();
    let artifacts = [&nothing, &good, &import, &traps, &garbage, &"/nowhere/x.cwasm".to_owned()];
    let (mut worker, kinds) = Worker::start(artifacts.into_iter().map(|artifact| spec(artifact)).collect());
    assert!(matches!(kinds[1], Kinds::Handlers(_)));
    for (at, expected) in [
        (0, "it exports nothing"),
        (2, "acme:db/query"),
        (3, "unreachable"),
        (4, "rusmd-worker compile"),
        (5, "No such file"),
    ] {
        assert!(matches!(&kinds[at], Kinds::Unloadable(reason) if reason.contains(expected)), "{:?}", kinds[at]);
    }
    let mut head = crate::harness::head("GET", "/");
    head.component = 1;
    head.action = Some("go");
    assert_eq!(worker.request(1, head, b"").text(), "hello");
}

#[test]
fn a_component_that_needs_more_memory_than_it_may_have_is_unloadable() {
    let artifact = wat::artifact(
        "needy",
        &wat::handlers_with("", "(i32.const 128)", "(i32.const 64)").replace("1 65536)", "32 65536)"),
    );
    let mut small = spec(&artifact);
    small.memory_bytes_max = 1 << 20;
    let (_worker, kinds) = Worker::start(vec![small]);
    assert!(matches!(&kinds[0], Kinds::Unloadable(reason) if reason.contains("memory")), "{kinds:?}");
}

#[test]
fn another_protocol_version_is_refused_and_ends_the_worker() {
    let mut worker = Worker::spawn();
    let mut bytes = Vec::new();
    hello(Vec::new()).encode(&mut bytes).expect("legal");
    // The version is the first field; small numbers take one byte.
    assert_eq!(u16::from(bytes[16]), PROTOCOL_VERSION);
    bytes[16] += 1;
    worker.send_raw(&bytes);
    assert!(matches!(worker.receive(), Got::Refused(message) if message.contains("version")));
    assert_eq!(worker.wait().code(), Some(1));
}

#[test]
fn another_build_is_refused_and_ends_the_worker() {
    let mut worker = Worker::spawn();
    let components = Vec::new();
    let build = format!("{BUILD}-other");
    let hello = Hello { protocol: PROTOCOL_VERSION, build: &build, slot: 0, log_level: None, components };
    worker.send(&ToWorker::Hello(hello));
    assert!(matches!(worker.receive(), Got::Refused(message) if message.contains(BUILD)));
    assert_eq!(worker.wait().code(), Some(1));
}

#[test]
fn the_end_of_the_link_is_the_end_of_the_worker() {
    let worker = Worker::spawn();
    assert_eq!(worker.close().code(), Some(0), "before the handshake");
    let (worker, _) = Worker::start(Vec::new());
    assert_eq!(worker.close().code(), Some(0), "after it");
}

#[test]
fn a_handshake_cut_at_any_byte_ends_the_worker_cleanly() {
    let artifact = wat::artifact("cut", &wat::handlers("(i32.const 128)"));
    let mut bytes = Vec::new();
    hello(vec![spec(&artifact)]).encode(&mut bytes).expect("legal");
    let mut request = crate::harness::head("GET", "/");
    request.action = Some("go");
    for at in (0..bytes.len()).step_by(7) {
        let mut worker = Worker::spawn();
        worker.send_raw(&bytes[..at]);
        let status = worker.close();
        assert_eq!(status.code(), Some(0), "cut after {at} bytes: {status}");
    }
}

#[test]
fn a_request_cut_at_any_byte_ends_the_worker_cleanly() {
    let artifact = wat::artifact("cut", &wat::handlers("(i32.const 128)"));
    let mut head = crate::harness::head("POST", "/");
    head.action = Some("go");
    let mut bytes = Vec::new();
    ToWorker::Request { id: RequestId(1), head, end: false }.encode(&mut bytes).expect("legal");
    ToWorker::RequestBody { id: RequestId(1), bytes: b"body", end: true }.encode(&mut bytes).expect("legal");
    for at in (0..bytes.len()).step_by(11) {
        let (mut worker, _) = Worker::start(vec![spec(&artifact)]);
        worker.status.store_offer(RequestId(1));
        worker.send_raw(&bytes[..at]);
        let status = worker.close();
        assert_eq!(status.code(), Some(0), "cut after {at} bytes: {status}");
    }
}

#[test]
fn an_illegal_frame_ends_the_worker_with_a_reason() {
    let artifact = wat::artifact("cut", &wat::handlers("(i32.const 128)"));
    let mut head = crate::harness::head("GET", "/");
    head.component = 7;
    let mut unknown_component = Vec::new();
    ToWorker::Request { id: RequestId(1), head, end: true }.encode(&mut unknown_component).expect("legal");
    let mut second_hello = Vec::new();
    hello(Vec::new()).encode(&mut second_hello).expect("legal");
    for (bytes, expected) in [
        (&[0xff; 64][..], "unknown frame kind"),
        (&second_hello, "Hello"),
        (&unknown_component, "component 7"),
        (&[0, 0, 0, 0, 0x89, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0], "wrong direction"),
    ] {
        let (mut worker, _) = Worker::start(vec![spec(&artifact)]);
        worker.status.store_offer(RequestId(1));
        worker.send_raw(bytes);
        assert_eq!(worker.receive(), Got::End);
        assert_eq!(worker.wait().code(), Some(1));
        let words = worker.last_words();
        assert!(words.contains(expected), "{words}");
    }
}

#[test]
fn a_draining_worker_finishes_what_has_started_and_ends() {
    let mut worker = Worker::serving(&guest("wasi-faults"));
    worker.send(&ToWorker::Request { id: RequestId(1), head: query("/sleep", "ms=100"), end: true });
    worker.wait_until_started(1);
    worker.send(&ToWorker::Drain);
    assert_eq!(worker.outcome(1).text(), "slept\n");
    assert_eq!(worker.receive(), Got::End);
    assert_eq!(worker.wait().code(), Some(0));
}

fn query<'a>(path: &'a str, query: &'a str) -> rusmd_proto::RequestHead<'a> {
    crate::harness::head_with_query(path, query)
}
