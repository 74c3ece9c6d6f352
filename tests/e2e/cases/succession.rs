//! One supervisor after another: what keeps a successor from taking over, what becomes of the process before it, and who is told.
//!
//! Owns what an operator sees of an upgrade that goes wrong, is stopped, or meets something else. That no request is lost has its tests in
//! `renewal`.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use nix::sys::signal::Signal;
use rusmd_e2e::daemon::{family, printed, run, wait_until_gone};
use rusmd_e2e::wait::{self, Stopwatch};
use rusmd_e2e::{Client, Daemon, paths, process};

/// A response that ends long after any test.
const ENDLESS: &str = "/slow-body?pieces=100000&ms=50";

const REFUSED: &str = "upgrade: refused, and nothing has changed";

fn place() -> Daemon {
    Daemon::new("wasi-faults").server("control", "\"control.sock\"")
}

/// Upgrades while a client has an endless response from the process that serves. Returns that client, and the processes before and after.
#[track_caller]
fn upgraded_with_work_left(daemon: &Daemon) -> (Client, i32, i32) {
    let old = daemon.running_pid();
    let mut client = Client::connect(daemon.address());
    client.get(ENDLESS);
    assert_eq!(client.try_head().expect("the response has begun").status, 200);
    upgrade(daemon);
    (client, old, daemon.running_pid())
}

#[track_caller]
fn upgrade(daemon: &Daemon) {
    let old = daemon.running_pid();
    daemon.signal(Signal::SIGUSR2);
    wait::until("the successor has written its pid", || daemon.pid().is_some_and(|pid| pid != old));
}

fn ctl(daemon: &Daemon, order: &str) -> Output {
    run(Command::new(paths::binary("rusmd")).arg("ctl").arg("--config").arg(daemon.manifest()).arg(order))
}

/// Runs a verb of the init script.
fn init(daemon: &Daemon, verb: &str) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/rusmd.init");
    let mut command = Command::new(script);
    command.arg(verb).stdin(Stdio::null()).env_remove("RUST_LOG").env("RUSMD_DEFAULTS", daemon.path("defaults"));
    command.env("RUSMD_PROGRAM", daemon.program());
    run(command.env("RUSMD_CONFIG", daemon.manifest()).env("RUSMD_PIDFILE", daemon.pidfile()))
}

#[test]
fn a_successor_that_cannot_load_a_component_does_not_take_over() {
    let daemon = place().own_component();
    daemon.start();
    let (pid, good) = (daemon.running_pid(), fs::read(daemon.component()).expect("the component is there"));
    // A copy that is not finished.
    fs::write(daemon.component(), &good[..good.len() / 2]).expect("it can be written");
    let output = ctl(&daemon, "upgrade");
    assert!(!output.status.success() && printed(&output).contains("cannot be compiled"), "{}", printed(&output));
    daemon.wait_for_line("main.log", &[REFUSED, "exit code 1", "cannot be compiled"]);
    assert_eq!((daemon.running_pid(), daemon.get("/hello").status()), (pid, 200));
    fs::write(daemon.component(), good).expect("it can be written");
    upgrade(&daemon);
    assert_eq!(daemon.get("/hello").status(), 200);
    wait_until_gone(&[pid]);
    daemon.stop_by(Signal::SIGTERM);
}

#[test]
fn what_was_broken_before_an_upgrade_may_stay_so() {
    let daemon = place();
    let manifest = fs::read_to_string(daemon.manifest()).expect("it is there");
    let broken = "\n[[serve]]\nlisten = \"127.0.0.1:0\"\ncomponent = \"broken\"\n[components.broken]\nsource = \"broken.wasm\"\n";
    fs::write(daemon.manifest(), manifest + broken).expect("it can be written");
    fs::write(daemon.path("broken.wasm"), "no component").expect("it can be written");
    daemon.start();
    let old = daemon.running_pid();
    upgrade(&daemon);
    assert_eq!(daemon.get("/hello").status(), 200);
    wait_until_gone(&[old]);
    daemon.stop_by(Signal::SIGTERM);
}

#[test]
fn where_nothing_at_all_can_be_served_a_start_fails() {
    let daemon = place().own_component();
    fs::write(daemon.component(), "no component").expect("it can be written");
    for arguments in [&["--daemon"][..], &[]] {
        let output = run(daemon.command().args(arguments));
        let text = printed(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("can be served") && text.contains("cannot be compiled"), "{text}");
        assert!(!daemon.pidfile().exists());
    }
}

#[test]
fn a_broken_manifest_is_told_by_the_process_that_goes_on() {
    let daemon = place();
    daemon.start();
    let (pid, good) = (daemon.running_pid(), fs::read_to_string(daemon.manifest()).expect("it is there"));
    fs::write(daemon.manifest(), format!("{good}\ngarbage = \n")).expect("it can be written");
    // It ends before it has read what it was sent.
    for _ in 0..10 {
        let output = ctl(&daemon, "upgrade");
        let text = printed(&output);
        assert!(text.contains("exit code 78 before it served: invalid TOML") && text.contains('^'), "{text}");
    }
    assert!(!daemon.read("main.log").contains("SIGKILL"), "{}", daemon.read("main.log"));
    assert_eq!(daemon.running_pid(), pid);
    fs::write(daemon.manifest(), good).expect("it can be written");
    daemon.stop_by(Signal::SIGTERM);
}

#[test]
fn a_start_succeeds_while_only_the_process_before_a_dead_one_is_left() {
    let daemon = place().server("shutdown-timeout-ms", "60000");
    daemon.start();
    let (mut client, old, new) = upgraded_with_work_left(&daemon);
    process::signal(new, Signal::SIGKILL);
    wait_until_gone(&[new]);
    daemon.start();
    assert_eq!(daemon.get("/hello").status(), 200);
    let output = ctl(&daemon, "status");
    assert!(output.status.success(), "the control socket is the new process's: {}", printed(&output));
    assert!(process::is_alive(old), "it has its time for what it does");
    client.wait_for_bytes(1).expect("the response goes on");
    let left = family(old);
    process::signal(old, Signal::SIGTERM);
    wait_until_gone(&left);
    assert_eq!(daemon.get("/hello").status(), 200);
    daemon.stop_by(Signal::SIGTERM);
}

#[test]
fn without_a_successor_a_process_that_has_handed_over_ends_in_its_time() {
    let daemon = place().server("shutdown-timeout-ms", "300");
    daemon.start();
    let (_client, old, new) = upgraded_with_work_left(&daemon);
    let left = family(old);
    process::signal(new, Signal::SIGKILL);
    wait_until_gone(&left);
}

#[test]
fn quit_gives_a_process_that_has_handed_over_its_shutdown_timeout() {
    const TIMEOUT_MS: u64 = 500;
    let daemon = place().server("shutdown-timeout-ms", &TIMEOUT_MS.to_string());
    daemon.start();
    let (_client, old, new) = upgraded_with_work_left(&daemon);
    // The successor is its child.
    let others = family(new);
    let left: Vec<i32> = family(old).into_iter().filter(|pid| !others.contains(pid)).collect();
    let watch = Stopwatch::start();
    process::signal(old, Signal::SIGQUIT);
    wait_until_gone(&left);
    assert!(watch.elapsed().as_millis() >= u128::from(TIMEOUT_MS), "{:?}", watch.elapsed());
    assert_eq!((daemon.running_pid(), daemon.get("/hello").status()), (new, 200));
    daemon.stop_by(Signal::SIGTERM);
}

#[test]
fn a_stop_ends_all_that_has_handed_over_and_the_last_to_end_is_the_one_in_the_pidfile() {
    for (signal, timeout_ms) in [(Signal::SIGQUIT, "400"), (Signal::SIGTERM, "60000")] {
        let daemon = place().server("shutdown-timeout-ms", timeout_ms).server("kill-grace-ms", "300");
        daemon.start();
        let (_first, oldest, _) = upgraded_with_work_left(&daemon);
        let (_second, old, new) = upgraded_with_work_left(&daemon);
        let before: Vec<i32> = [family(oldest), family(old)].concat();
        process::signal(new, signal);
        wait::until("the one in the pidfile has ended", || !process::is_alive(new));
        assert!(!before.iter().any(|pid| process::is_alive(*pid)), "{signal}: something is left");
        assert!(!daemon.pidfile().exists());
    }
}

#[test]
fn an_idle_connection_is_handed_on_by_a_process_that_has_itself_handed_over() {
    let daemon = place();
    daemon.start();
    let mut client = Client::connect(daemon.address());
    client.get("/sleep?ms=1500");
    // The reactor has one thread and takes events in order.
    assert_eq!(daemon.get("/no-such-path").status(), 404);
    let oldest = daemon.running_pid();
    upgrade(&daemon);
    upgrade(&daemon);
    assert_eq!(client.response().status(), 200);
    wait_until_gone(&[oldest]);
    client.get("/hello");
    assert_eq!(client.response().status(), 200, "the connection went on to the last");
    daemon.stop_by(Signal::SIGTERM);
}

#[test]
fn the_init_script_stops_what_has_handed_over_as_well() {
    let daemon = place().server("shutdown-timeout-ms", "300");
    daemon.start();
    let (_client, old, new) = upgraded_with_work_left(&daemon);
    let all = [family(old), family(new)].concat();
    let output = init(&daemon, "stop");
    assert!(output.status.success(), "{}", printed(&output));
    assert!(!all.iter().any(|pid| process::is_alive(*pid)), "{}: something is left", printed(&output));
}

#[test]
fn the_init_script_tells_why_an_upgrade_failed_without_waiting_for_it() {
    let daemon = place().installed();
    daemon.start();
    let pid = daemon.running_pid();
    for (program, reason) in [("#!/bin/sh\nexit 3\n", "exit code 3"), ("#!/no/such/interpreter\n", "cannot start")] {
        daemon.replace_program(program.as_bytes());
        let watch = Stopwatch::start();
        let output = init(&daemon, "upgrade");
        assert_eq!(output.status.code(), Some(1), "{}", printed(&output));
        assert!(printed(&output).contains(reason), "{}", printed(&output));
        assert!(watch.elapsed().as_secs() < 60, "it has waited for what will not come");
        assert_eq!(daemon.running_pid(), pid);
    }
    daemon.stop_by(Signal::SIGTERM);
}

#[test]
fn what_is_asked_for_during_a_reload_or_an_upgrade_follows_it() {
    let daemon = place().installed();
    daemon.start();
    let (pid, program) = (daemon.running_pid(), fs::read(daemon.program()).expect("the program is there"));
    // Both are taken in one turn, or the second while the first is in progress.
    daemon.signal(Signal::SIGHUP);
    daemon.signal(Signal::SIGUSR2);
    wait::until("both are done", || {
        daemon.read("main.log").contains("generation 2 serves") && daemon.pid().is_some_and(|now| now != pid)
    });
    wait_until_gone(&[pid]);
    // A successor that takes its time, and fails: what was asked for meanwhile is done by the process that goes on.
    let go = daemon.path("go");
    daemon
        .replace_program(format!("#!/bin/sh\nuntil [ -e {} ]; do sleep 0.05; done\nexit 3\n", go.display()).as_bytes());
    let pid = daemon.running_pid();
    daemon.signal(Signal::SIGUSR2);
    wait::until("the slow one starts", || daemon.read("main.log").matches("starts as process").count() == 2);
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for_line("main.log", &["reload", "this one follows it"]);
    daemon.signal(Signal::SIGUSR2);
    wait::until("the second upgrade waits", || {
        daemon.read("main.log").lines().any(|line| line.contains("upgrade: the upgrade") && line.contains("follows it"))
    });
    daemon.replace_program(&program);
    fs::write(go, "").expect("the scratch directory is writable");
    daemon.wait_for_line("main.log", &[REFUSED, "exit code 3"]);
    wait::until("the second upgrade is done", || daemon.pid().is_some_and(|now| now != pid));
    assert_eq!(daemon.read("main.log").matches("generation 2 serves").count(), 2, "{}", daemon.read("main.log"));
    assert_eq!(daemon.get("/hello").status(), 200);
    wait_until_gone(&[pid]);
    daemon.stop_by(Signal::SIGTERM);
}

#[test]
fn an_upgrade_follows_a_link_that_was_switched() {
    let daemon = place();
    for release in ["one", "two"] {
        let directory = daemon.path(release);
        fs::create_dir(&directory).expect("the scratch directory is writable");
        for name in ["rusmd", "rusmd-worker"] {
            // Not by this process, whose other children could keep it open for writing at the moment when it is executed.
            let output = run(Command::new("cp").arg(paths::binary(name)).arg(directory.join(name)));
            assert!(output.status.success(), "{}", printed(&output));
        }
    }
    let (link, new) = (daemon.path("current"), daemon.path("new"));
    symlink("one", &link).expect("links can be made here");
    let mut command = Command::new(link.join("rusmd"));
    command.arg("--daemon").arg("--config").arg(daemon.manifest()).arg("--pidfile").arg(daemon.pidfile());
    let output = run(command.env_remove("RUST_LOG").stdin(Stdio::null()));
    assert!(output.status.success(), "{}", printed(&output));
    let old = daemon.running_pid();
    symlink("two", &new).expect("links can be made here");
    fs::rename(new, link).expect("it can be renamed");
    fs::remove_dir_all(daemon.path("one")).expect("nobody needs it");
    upgrade(&daemon);
    wait_until_gone(&[old]);
    let (pid, two) = (daemon.running_pid(), daemon.path("two"));
    // Workers show theirs to root alone.
    let program = |pid: i32| fs::read_link(format!("/proc/{pid}/exe")).ok();
    assert_eq!(program(pid), Some(two.join("rusmd")));
    let children = process::children(pid).into_iter().filter_map(program);
    assert!(children.into_iter().all(|program| program == two.join("rusmd-worker")));
    assert_eq!(daemon.get("/hello").status(), 200);
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for_line("main.log", &["generation 2 serves"]);
    daemon.stop_by(Signal::SIGTERM);
}

#[test]
fn an_upgrade_needs_no_directory_to_start_in() {
    let daemon = place();
    let gone = daemon.path("gone");
    fs::create_dir(&gone).expect("the scratch directory is writable");
    let output = run(daemon.command().arg("--daemon").current_dir(&gone).env("PWD", &gone));
    assert!(output.status.success(), "{}", printed(&output));
    fs::remove_dir(gone).expect("it is empty");
    let old = daemon.running_pid();
    upgrade(&daemon);
    daemon.wait_for_line("main.log", &["WARN", "is gone", "starts in /"]);
    assert_eq!(daemon.get("/hello").status(), 200);
    wait_until_gone(&[old]);
    daemon.stop_by(Signal::SIGTERM);
}

#[test]
fn a_process_that_has_handed_over_tells_a_service_manager_nothing() {
    let daemon = place();
    let socket = daemon.path("notify");
    let manager = UnixDatagram::bind(&socket).expect("the scratch directory is writable");
    manager.set_nonblocking(true).expect("a socket can be set so");
    let told = || -> Vec<String> {
        let mut message = [0; 512];
        let next = || manager.recv(&mut message).ok().map(|count| String::from_utf8_lossy(&message[..count]).into());
        std::iter::from_fn(next).collect()
    };
    let output = run(daemon.command().arg("--daemon").env("NOTIFY_SOCKET", &socket));
    assert!(output.status.success(), "{}", printed(&output));
    let (_client, old, new) = upgraded_with_work_left(&daemon);
    daemon.wait_for_line("main.log", &["serves; this one finishes"]);
    assert!(told().last().is_some_and(|last| last.contains(&format!("MAINPID={new}"))));
    process::signal(old, Signal::SIGHUP);
    daemon.wait_for_line("main.log", &["reload: refused", "not serving"]);
    process::signal(old, Signal::SIGTERM);
    wait_until_gone(&[old]);
    assert_eq!(told(), [""; 0]);
    daemon.stop_by(Signal::SIGTERM);
}
