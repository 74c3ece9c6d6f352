//! The sandbox from outside: what /proc says of a confined worker, whom it becomes, what its ceiling of memory does.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;

use rusmd_proto::{ComponentSpec, FailureCause, Hello, Identity, RequestHead, Sandbox, SandboxLevel, ToWorker};

use crate::harness::{Got, Kinds, Template, compile, guest, head, head_with_query, hello, spec};
use crate::wat;

/// Nobody's user and group.
const NOBODY: u32 = 65534;

fn hello_with(sandbox: Sandbox, specs: Vec<ComponentSpec<'_>>) -> ToWorker<'_> {
    let ToWorker::Hello(plain) = hello(specs) else { unreachable!() };
    ToWorker::Hello(Hello { sandbox, ..plain })
}

fn strict() -> Sandbox {
    Sandbox { wanted: SandboxLevel::Strict, identity: None, data_bytes_max: 0 }
}

/// The lines of /proc/PID/status.
fn status(pid: u32) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.map(|(key, value)| (key.to_owned(), value.split_whitespace().collect::<Vec<_>>().join(" "))).collect()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn a_confined_worker_has_no_capability_no_network_and_no_file_system() {
    if !is_root() {
        return;
    }
    let artifact = wat::artifact("confined", &wat::handlers("(i32.const 128)"));
    let (template, _) = Template::start(&hello_with(strict(), vec![spec(&artifact)]));
    let mut worker = template.begin();
    let status = status(worker.pid);
    for (key, value) in [
        ("CapInh", "0000000000000000"),
        ("CapPrm", "0000000000000000"),
        ("CapEff", "0000000000000000"),
        ("CapBnd", "0000000000000000"),
        ("CapAmb", "0000000000000000"),
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
        ("Threads", "1"),
    ] {
        assert_eq!(status.get(key).map(String::as_str), Some(value), "{key}");
    }
    let link = |name: &str| std::fs::read_link(format!("/proc/{}/{name}", worker.pid)).expect("it lives");
    assert_ne!(link("ns/net"), std::fs::read_link("/proc/self/ns/net").expect("our own"));
    assert_ne!(link("ns/mnt"), std::fs::read_link("/proc/self/ns/mnt").expect("our own"));
    let root: Vec<_> = std::fs::read_dir(format!("/proc/{}/root", worker.pid)).expect("it lives").collect();
    assert!(root.is_empty(), "{root:?}");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", worker.pid)).expect("it lives");
    for name in ["Max core file size", "Max processes", "Max locked memory", "Max msgqueue size"] {
        let line = limits.lines().find(|line| line.starts_with(name)).expect("a limit");
        assert_eq!(line[name.len()..].split_whitespace().next(), Some("0"), "{line}");
    }
    let head = RequestHead { action: Some("go"), ..head("GET", "/") };
    assert_eq!(worker.request(1, head, b"").text(), "hello");
}

#[test]
fn the_level_that_is_reached_is_told() {
    for (wanted, reached) in [(SandboxLevel::Off, SandboxLevel::Off), (SandboxLevel::BestEffort, SandboxLevel::Strict)]
    {
        let mut template = Template::spawn();
        template.line.send(&hello_with(Sandbox { wanted, ..strict() }, Vec::new()));
        match template.line.receive() {
            Got::Ready(_, level, missing) if missing.is_empty() => assert_eq!(level, reached),
            // A machine on which not everything is possible.
            Got::Ready(_, level, _) => assert_eq!(level, SandboxLevel::BestEffort),
            got => panic!("{got:?}"),
        }
    }
}

#[test]
fn a_worker_becomes_who_it_is_told_to_be() {
    if !is_root() {
        return;
    }
    let identity = Some(Identity { uid: NOBODY, gid: NOBODY, groups: vec![100, 200] });
    let artifact = wat::artifact("confined", &wat::handlers("(i32.const 128)"));
    let (template, kinds) = Template::start(&hello_with(Sandbox { identity, ..strict() }, vec![spec(&artifact)]));
    assert_eq!(kinds, [Kinds::Handlers(vec!["go".to_owned()])]);
    let mut worker = template.begin();
    let status = status(worker.pid);
    let own = format!("{NOBODY} {NOBODY} {NOBODY} {NOBODY}");
    for (key, value) in [("Uid", own.as_str()), ("Gid", &own), ("Groups", "100 200"), ("CapEff", "0000000000000000")] {
        assert_eq!(status.get(key).map(String::as_str), Some(value), "{key}");
    }
    let head = RequestHead { action: Some("go"), ..head("GET", "/") };
    assert_eq!(worker.request(1, head, b"").text(), "hello");
}

#[test]
fn an_unprivileged_user_gets_the_whole_sandbox_or_is_told_what_is_missing() {
    let mut template = Template::spawn_as(|command| {
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
    });
    template.line.send(&hello_with(strict(), Vec::new()));
    match template.line.receive() {
        Got::Ready(_, level, missing) => assert_eq!((level, missing), (SandboxLevel::Strict, Vec::new())),
        Got::Refused(message) => {
            assert!(message.contains("namespace") || message.contains("landlock"), "{message}");
            return;
        }
        // The binary may be where nobody else can execute it.
        got => panic!("{got:?}; {}", template.last_words()),
    }
    let worker = template.begin();
    assert_eq!(status(worker.pid).get("CapEff").map(String::as_str), Some("0000000000000000"));
}

#[test]
fn an_unprivileged_user_cannot_make_workers_somebody_else() {
    let mut template = Template::spawn_as(|command| {
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
    });
    let identity = Some(Identity { uid: 1, gid: 1, groups: Vec::new() });
    template.line.send(&hello_with(Sandbox { identity, ..strict() }, Vec::new()));
    assert!(matches!(template.line.receive(), Got::Refused(message) if message.contains("identity")));
    assert_eq!(template.wait().code(), Some(1));
}

#[test]
fn a_ceiling_that_is_reached_already_is_refused_with_the_numbers() {
    let mut template = Template::spawn();
    template.line.send(&hello_with(Sandbox { data_bytes_max: 64 << 10, ..strict() }, Vec::new()));
    assert!(matches!(template.line.receive(), Got::Refused(message) if message.contains("may have 64 KiB")));
}

#[test]
fn a_guest_that_meets_the_ceiling_of_the_process_fails_and_the_worker_goes_on() {
    let artifact = compile(&guest("wasi-faults"));
    let needs = spec(&artifact);
    for wanted in [SandboxLevel::Off, SandboxLevel::BestEffort] {
        let sandbox = Sandbox { wanted, identity: None, data_bytes_max: 256 << 20 };
        let (template, _) =
            Template::start(&hello_with(sandbox, vec![ComponentSpec { memory_bytes_max: 1 << 30, ..needs.clone() }]));
        let mut worker = template.begin();
        let outcome = worker.request(1, head_with_query("/fit", "mb=900"), b"");
        let (cause, message, _) = outcome.failed.clone().unwrap_or_else(|| panic!("{outcome:?}"));
        assert_eq!(cause, FailureCause::Memory, "{message}");
        assert!(message.contains("worker-memory-mb"), "{message}");
        assert_eq!(worker.get(2, "/hello").text(), "hello world\n");
    }
}
