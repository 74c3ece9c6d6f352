//! Before the first request: the handshake, what is refused, and how the process ends.

use std::os::fd::AsFd;

use rusmd_proto::limits::PROTOCOL_VERSION;
use rusmd_proto::{BUILD, Hello, RequestId, ToWorker};

use crate::harness::{Got, Kinds, Template, Worker, compile, guest, hello, spec};
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
    let mut template = Template::spawn();
    let mut bytes = Vec::new();
    hello(Vec::new()).encode(&mut bytes).expect("legal");
    // The version is the first field; small numbers take one byte.
    assert_eq!(u16::from(bytes[16]), PROTOCOL_VERSION);
    bytes[16] += 1;
    template.line.send_raw(&bytes);
    assert!(matches!(template.line.receive(), Got::Refused(message) if message.contains("version")));
    assert_eq!(template.wait().code(), Some(1));
}

#[test]
fn another_build_is_refused_and_ends_the_template() {
    let mut template = Template::spawn();
    let build = format!("{BUILD}-other");
    let ToWorker::Hello(ours) = hello(Vec::new()) else { unreachable!() };
    template.line.send(&ToWorker::Hello(Hello { build: &build, ..ours }));
    assert!(matches!(template.line.receive(), Got::Refused(message) if message.contains(BUILD)));
    assert_eq!(template.wait().code(), Some(1));
}

#[test]
fn the_end_of_the_link_is_the_end_of_template_and_worker() {
    assert_eq!(Template::spawn().close().code(), Some(0), "before the handshake");
    let (template, _) = Template::start(&hello(Vec::new()));
    assert_eq!(template.close().code(), Some(0), "after it");
    let (worker, _) = Worker::start(Vec::new());
    assert_eq!(worker.close().code(), Some(0), "when it has begun");
}

#[test]
fn a_worker_that_is_never_told_to_begin_ends_with_its_link() {
    let (mut template, _) = Template::start(&hello(Vec::new()));
    let (pid, line, _) = template.fork(0);
    drop(line);
    let mut status = 0;
    // SAFETY: a child of this process, by adoption, that nobody else waits for.
    #[allow(unsafe_code, reason = "there is no safe wait for a process that this one did not start")]
    let waited = unsafe { libc::waitpid(pid as i32, &mut status, 0) };
    assert_eq!((waited, status), (pid as i32, 0));
}

#[test]
fn a_template_forks_one_worker_after_the_other_and_keeps_nothing_of_theirs() {
    let artifact = wat::artifact("forks", &wat::handlers("(i32.const 128)"));
    let (mut template, _) = Template::start(&hello(vec![spec(&artifact)]));
    let held = |pid: u32| std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it lives").count();
    let before = held(template.child.id());
    let mut workers: Vec<_> = (0..8).map(|slot| template.fork(slot)).collect();
    for (slot, (_, line, _)) in (0..).zip(&mut workers) {
        line.send(&ToWorker::Begin { slot });
        assert_eq!(line.receive(), Got::Begun);
    }
    let counts: Vec<_> = workers.iter().map(|(pid, ..)| held(*pid)).collect();
    assert_eq!(held(template.child.id()), before);
    assert!(counts.iter().all(|count| *count == counts[0]), "the later ones have more: {counts:?}");
    let threads = std::fs::read_dir(format!("/proc/{}/task", template.child.id())).expect("it lives").count();
    assert_eq!(threads, 1);
    for (pid, line, _) in workers {
        drop(line);
        let mut status = 0;
        // SAFETY: as above.
        #[allow(unsafe_code, reason = "as above")]
        let waited = unsafe { libc::waitpid(pid as i32, &mut status, 0) };
        assert_eq!(waited, pid as i32);
    }
}

#[test]
fn workers_outlive_their_template() {
    let artifact = wat::artifact("outlive", &wat::handlers("(i32.const 128)"));
    let (mut worker, _) = Worker::start(vec![spec(&artifact)]);
    assert_eq!(worker.template.take().expect("a template").close().code(), Some(0));
    let head = rusmd_proto::RequestHead { action: Some("go"), ..crate::harness::head("GET", "/") };
    assert_eq!(worker.request(1, head, b"").text(), "hello");
}

#[test]
fn a_fork_without_its_two_descriptors_ends_the_template_with_a_reason() {
    for count in [0, 1, 3] {
        let (mut template, _) = Template::start(&hello(Vec::new()));
        let (_ours, theirs) = crate::harness::Line::pair();
        template.line.send_with_descriptors(&ToWorker::Fork { slot: 1 }, &vec![theirs.as_fd(); count]);
        assert_eq!(template.line.receive(), Got::End, "{count}");
        assert_eq!(template.wait().code(), Some(1));
        assert!(template.last_words().contains("descriptors"));
    }
}

#[test]
fn a_worker_whose_parent_is_not_the_supervisor_ends() {
    let ToWorker::Hello(ours) = hello(Vec::new()) else { unreachable!() };
    let (mut template, _) = Template::start(&ToWorker::Hello(Hello { supervisor_pid: 1 << 30, ..ours }));
    let (_, mut line, _) = template.fork(3);
    line.send(&ToWorker::Begin { slot: 3 });
    assert_eq!(line.receive(), Got::End);
}

#[test]
fn a_template_says_at_which_component_it_is() {
    let (template, _) = Template::start(&hello(Vec::new()));
    assert_eq!(template.status.loading(), None);
}

#[test]
fn a_handshake_cut_at_any_byte_ends_the_worker_cleanly() {
    let artifact = wat::artifact("cut", &wat::handlers("(i32.const 128)"));
    let mut bytes = Vec::new();
    hello(vec![spec(&artifact)]).encode(&mut bytes).expect("legal");
    let mut request = crate::harness::head("GET", "/");
    request.action = Some("go");
    for at in (0..bytes.len()).step_by(7) {
        let mut template = Template::spawn();
        template.line.send_raw(&bytes[..at]);
        let status = template.close();
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
