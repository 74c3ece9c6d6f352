//! What a worker that has been taken over can do to the machine, and what granted directories and hosts allow, and no more.
//!
//! Owns the tests with the attempts of `double`, which are made inside the sandbox of a real worker, and those of real components with
//! grants.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use rusmd_e2e::paths::Scratch;
use rusmd_e2e::{Client, Server, Setup, process, wait};

use crate::common::{Form, HELLO, assert_serves};

const DOUBLE: &str = env!("CARGO_BIN_EXE_rusmd-worker-double");

/// Attempts on files, with a path.
const ON_FILES: &[&str] = &[
    "read",
    "write",
    "create",
    "unlink",
    "mkdir",
    "link",
    "rename",
    "chmod",
    "truncate",
    "mknod",
    "mount",
    "unmount",
    "chroot",
    "pivot-root",
];

/// Attempts on another process.
const ON_PROCESSES: &[&str] = &[
    "trace",
    "read-memory",
    "write-memory",
    "kill",
    "kill-thread",
    "queue-signal",
    "pidfd",
    "compare",
    "limit-other",
    "priority",
    "join-namespace",
];

/// Attempts that no grant makes possible.
const NEVER: &[&str] = &[
    "execute",
    "fork",
    "kill-all",
    "kill-group",
    "namespace",
    "become-root",
    "capabilities",
    "dumpable",
    "outlive-supervisor",
    "code",
    "code-by-protection",
    "write-code",
    "raw-socket",
    "packet-socket",
    "unix-socket",
    "vsock",
    "audit-socket",
    "socket-pair",
    "open-by-handle",
    "memory-file",
    "watch-files",
    "bpf",
    "io-uring",
    "userfaultfd",
    "performance-events",
    "keys",
    "filter",
    "personality",
    "terminal",
    "module",
    "reboot",
    "clock",
    "host-name",
    "shared-memory",
    "message-queue",
];

/// Attempts to make a connection.
const ON_THE_NETWORK: &[&str] = &["socket", "datagram-socket", "connect", "bind", "listen", "clone3"];

/// What came of an attempt.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Outcome {
    Done,
    Refused(String),
    /// By the kernel, for a system call that is not on the list.
    Killed,
    /// The process to be harmed was the one that was to harm it.
    Itself,
}

/// A server of workers that can be told to be hostile. They are killed often here, which is no reason to refuse them.
fn setup(scratch: &Scratch) -> Setup {
    Setup::new()
        .source("double", scratch.write("double.wasm", b"\0asm\x0d\0\x01\0"))
        .routes(&[("/attempt", "double#attempt"), ("/hello", "double#hello")])
        .argument("--worker-bin")
        .argument(DOUBLE)
        .server("sandbox", "\"strict\"")
        .server("poison-deaths", 0)
        .server("crash-loop-deaths", 0)
        .expect_error("SIGSYS")
}

#[track_caller]
fn attempt(server: &Server, query: &str) -> Outcome {
    let response = server.get(&format!("/attempt?{query}"));
    let text = response.text();
    match (response.status(), text.as_str()) {
        (200, "done") => Outcome::Done,
        (200, "that is me") => Outcome::Itself,
        (200, refused) if refused.starts_with("refused") => Outcome::Refused(text),
        (502, _) => {
            let id = crate::common::request_id(&response);
            server.wait_for_log(&[&id, "SIGSYS"]);
            Outcome::Killed
        }
        other => panic!("{query}: {other:?}"),
    }
}

#[track_caller]
fn assert_not_done(server: &Server, query: &str) {
    assert_ne!(attempt(server, query), Outcome::Done, "{query}");
    server.get("/hello").assert(200, HELLO);
}

#[test]
fn a_worker_without_grants_can_do_nothing_to_the_machine() {
    let scratch = Scratch::new();
    let victim = scratch.write("victim", "untouched");
    let new = scratch.path().join("new");
    let server = setup(&scratch).start();
    for what in ON_FILES {
        for path in [&victim, &new, Path::new("/etc/passwd"), Path::new("/")] {
            assert_not_done(&server, &format!("what={what}&path={}", path.display()));
        }
    }
    for what in NEVER.iter().chain(ON_THE_NETWORK) {
        assert_not_done(&server, &format!("what={what}&path=/bin/true&port={}", server.address().port()));
    }
    assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
    assert!(!new.exists());
}

#[test]
fn a_worker_can_do_nothing_to_its_siblings_and_its_supervisor() {
    let scratch = Scratch::new();
    let server = setup(&scratch).start();
    let supervisor = server.pid();
    for what in ON_PROCESSES {
        assert_not_done(&server, &format!("what={what}&pid={supervisor}"));
        // Which worker will make the attempt is not known before.
        wait::until("a sibling is attacked", || {
            server.workers().into_iter().rev().any(|pid| {
                let outcome = attempt(&server, &format!("what={what}&pid={pid}"));
                assert_ne!(outcome, Outcome::Done, "{what}");
                outcome != Outcome::Itself
            })
        });
    }
    for file in ["environ", "mem", "maps", "fd/3", "root/etc/passwd", "cwd", "status"] {
        for pid in [supervisor, 1] {
            for what in ["read", "write"] {
                assert_not_done(&server, &format!("what={what}&path=/proc/{pid}/{file}"));
            }
        }
    }
    assert!(process::is_alive(supervisor));
    assert_eq!(server.pid(), supervisor);
}

#[test]
fn a_worker_with_granted_directories_and_hosts_reaches_those_and_nothing_else() {
    let (scratch, mine, others) = (Scratch::new(), Scratch::new(), Scratch::new());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (read_only, writable) = (mine.path().join("read-only"), mine.path().join("writable"));
    for directory in [&read_only, &writable] {
        fs::create_dir(directory).unwrap();
        fs::write(directory.join("file"), "there").unwrap();
    }
    let foreign = others.write("foreign", "untouched");
    let server = setup(&scratch)
        .capability(
            "double",
            &format!(
                "preopen = [{{ host = {read_only:?}, guest = \"/a\" }}, {{ host = {writable:?}, guest = \"/b\", read-only = false }}]"
            ),
        )
        .capability("double", &format!("allow-network = [\"127.0.0.1:{port}\"]"))
        .start();
    let on = |what: &str, path: &Path| attempt(&server, &format!("what={what}&path={}", path.display()));
    assert_eq!(on("read", &read_only.join("file")), Outcome::Done);
    assert_eq!(on("read", &writable.join("file")), Outcome::Done);
    assert_eq!(on("write", &writable.join("file")), Outcome::Done);
    assert_eq!(on("create", &writable.join("new")), Outcome::Done);
    assert_eq!(on("unlink", &writable.join("new")), Outcome::Done);
    for what in ["write", "create", "unlink", "mkdir"] {
        for path in
            [read_only.join("file"), read_only.join("new"), foreign.clone(), "/etc/passwd".into(), "/tmp/x".into()]
        {
            assert!(matches!(on(what, &path), Outcome::Refused(_)), "{what} {}", path.display());
        }
    }
    for path in [
        foreign.as_path(),
        &writable.join("../../").join(foreign.strip_prefix("/tmp").unwrap_or(&foreign)),
        Path::new("/etc/passwd"),
        Path::new("/proc/self/status"),
        Path::new("/proc/1/environ"),
        Path::new("/dev/null"),
    ] {
        assert!(matches!(on("read", path), Outcome::Refused(_)), "{}", path.display());
    }
    let to = |what: &str, port: u16| attempt(&server, &format!("what={what}&port={port}"));
    assert_eq!(to("connect", port), Outcome::Done);
    for other in [server.address().port(), 22, 1] {
        assert!(matches!(to("connect", other), Outcome::Refused(_)), "{other}");
    }
    assert!(matches!(to("bind", 0), Outcome::Refused(_)));
    assert!(matches!(to("unix-socket", 0), Outcome::Refused(_)));
    assert!(matches!(to("clone3", 0), Outcome::Refused(_)));
    for what in NEVER {
        assert_not_done(&server, &format!("what={what}&path=/bin/true"));
    }
    for what in ["kill", "trace", "pidfd"] {
        assert_not_done(&server, &format!("what={what}&pid={}", server.pid()));
    }
    assert_eq!(fs::read_to_string(&foreign).unwrap(), "untouched");
    assert_eq!(fs::read_to_string(read_only.join("file")).unwrap(), "there");
}

#[test]
fn without_a_sandbox_the_same_attempts_succeed() {
    let scratch = Scratch::new();
    let server = setup(&scratch).server("sandbox", "\"off\"").start();
    server.wait_for_log(&["sandbox: off"]);
    for what in ["what=read&path=/etc/passwd", "what=socket", "what=code", "what=memory-file"] {
        assert_eq!(attempt(&server, what), Outcome::Done, "{what}");
    }
}

#[test]
fn a_component_reads_and_writes_what_it_is_granted_and_nothing_else() {
    let scratch = Scratch::new();
    for directory in ["data", "notes", "secret"] {
        fs::create_dir(scratch.path().join(directory)).unwrap();
        fs::write(scratch.path().join(directory).join("file"), directory).unwrap();
    }
    let host = |directory: &str| scratch.path().join(directory);
    let server = Form::Handlers
        .setup()
        .server("sandbox", "\"strict\"")
        .capability(
            "faults",
            &format!(
                "preopen = [{{ host = {:?}, guest = \"/data\" }}, {{ host = {:?}, guest = \"/notes\", read-only = false }}]",
                host("data"),
                host("notes")
            ),
        )
        .start();
    server.wait_for_log(&["sandbox: strict"]);
    server.get("/read?path=/data/file").assert(200, "data");
    server.get("/read?path=/notes/file").assert(200, "notes");
    server.get("/write?path=/notes/new").assert(200, "written\n");
    assert_eq!(fs::read_to_string(host("notes").join("new")).unwrap(), "as asked");
    for path in ["/data/file", "/data/new", "/secret/file", "/data/../secret/file", "/new"] {
        assert_eq!(server.get(&format!("/write?path={path}")).status(), 403, "{path}");
    }
    for path in ["/secret/file", "/data/../secret/file", "/etc/passwd", &format!("{}/file", host("secret").display())] {
        assert_eq!(server.get(&format!("/read?path={path}")).status(), 403, "{path}");
    }
    assert_eq!(fs::read_to_string(host("data").join("file")).unwrap(), "data");
    assert_serves(&server);
}

#[test]
fn a_component_connects_to_granted_hosts_and_no_other() {
    let other = Form::Handlers.setup().start();
    let third = Form::Handlers.setup().start();
    let server = Form::Wasi
        .setup()
        .server("sandbox", "\"strict\"")
        .capability("wasi-faults", &format!("allow-network = [\"{}\"]", other.address()))
        .start();
    let fetch = |authority: &str| {
        let mut client = Client::connect(server.address());
        client.get(&format!("/net?authority={authority}"));
        client.response().text()
    };
    assert_eq!(fetch(&other.address().to_string()), "allowed: 404\n");
    for authority in [third.address().to_string(), server.address().to_string(), "localhost:22".to_owned()] {
        assert!(fetch(&authority).starts_with("refused"), "{authority}");
    }
}

#[test]
fn a_name_is_looked_up_inside_the_sandbox() {
    let other = Form::Handlers.setup().start();
    let port = other.address().port();
    let server = Form::Wasi
        .setup()
        .server("sandbox", "\"strict\"")
        .capability("wasi-faults", &format!("allow-network = [\"localhost:{port}\"]"))
        .start();
    let mut client = Client::connect(server.address());
    client.get(&format!("/net?authority=localhost:{port}"));
    client.response().assert(200, "allowed: 404\n");
}

#[test]
fn every_form_is_served_in_the_strictest_sandbox_and_its_faults_are_told_apart() {
    for form in [Form::Handlers, Form::Wasi, Form::TypeScript] {
        let server = form
            .setup()
            .server("sandbox", "\"strict\"")
            .expect_error("trap")
            .expect_error("memory")
            .expect_error("panicked")
            .expect_error("backtrace")
            .expect_error(form.component())
            .start();
        let before = server.workers();
        let failing: &[&str] = match form {
            Form::Handlers | Form::Wasi => &["/panic", "/recursion", "/memory"],
            Form::TypeScript => &["/throw", "/throw-string", "/reject"],
        };
        for path in failing {
            assert_eq!(server.get(path).status(), 502, "{form:?} {path}");
            assert_serves(&server);
        }
        assert_eq!(server.workers(), before, "{form:?}: no worker was killed for what is legal");
    }
}
