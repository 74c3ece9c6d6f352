//! The manners of a daemon: `--daemon` and its verdict, the pidfile, reopened logs, sockets and notifications of a service manager, the
//! init script.
//!
//! Owns what an init script and a service manager see. What happens to requests meanwhile has its tests elsewhere.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use rusmd_e2e::daemon::{family, printed, run, served, wait_until_gone};
use rusmd_e2e::wait::{self, SOON, Stopwatch};
use rusmd_e2e::{Client, Daemon, process};

const COMPONENT: &str = "wasi-faults";

/// Exit codes of rusmd, and those that the Linux Standard Base gives an init script.
const RUNTIME: i32 = 1;
const USAGE: i32 = 2;
const CONFIG: i32 = 78;
const LSB_DEAD_WITH_PIDFILE: i32 = 1;
const LSB_USAGE: i32 = 2;
const LSB_NOT_RUNNING: i32 = 3;
const LSB_NOT_INSTALLED: i32 = 5;
const LSB_NOT_CONFIGURED: i32 = 6;
const LSB_SIGNAL_TO_NOBODY: i32 = 7;

fn place() -> Daemon {
    Daemon::new(COMPONENT)
}

#[track_caller]
fn assert_serves(daemon: &Daemon) {
    let response = daemon.get("/hello");
    assert_eq!(response.status(), 200, "{}", response.text());
}

#[test]
fn the_parent_of_a_start_exits_with_0_once_requests_are_served() {
    let daemon = place();
    let output = daemon.start();
    assert_serves(&daemon);
    assert_eq!(served(&output), [daemon.address()]);
    let pid = daemon.running_pid();
    let session = process::session(pid).expect("it runs");
    assert!(
        session != pid && Some(session) != process::session(process_id()),
        "it is in a session of its own, and not its leader"
    );
    for number in 0..3 {
        let target = fs::read_link(format!("/proc/{pid}/fd/{number}")).expect("the descriptor is open");
        let expected = if number == 2 { daemon.path("main.log") } else { "/dev/null".into() };
        assert_eq!(target, expected, "descriptor {number}");
    }
    daemon.stop_by(Signal::SIGTERM);
}

#[test]
fn a_start_that_fails_says_why_exits_with_its_code_and_leaves_nothing_behind() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("some port is free");
    let address = taken.local_addr().unwrap().to_string();
    let cases: [(&[&str], i32, &str); 5] = [
        (&["--wrokers", "1"], USAGE, "--workers"),
        (&["--config", "/no/such/rusm.toml"], CONFIG, "/no/such/rusm.toml"),
        (&["--listen", &address], RUNTIME, "in use"),
        (&["--worker-bin", "/no/such/worker"], RUNTIME, "/no/such/worker"),
        (&["--pidfile", "/no/such/directory/pid"], RUNTIME, "/no/such/directory/pid"),
    ];
    for (arguments, code, reason) in cases {
        let daemon = place();
        // Of two values of a flag the first is refused, so these are not added to the usual ones.
        let mut command = Command::new(rusmd_e2e::paths::binary("rusmd"));
        command.args(arguments).arg("--daemon").env_remove("RUST_LOG").stdin(Stdio::null());
        for (flag, value) in [("--config", daemon.manifest()), ("--pidfile", daemon.pidfile())] {
            if !arguments.contains(&flag) {
                command.arg(flag).arg(value);
            }
        }
        let output = run(&mut command);
        let text = printed(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        assert!(text.contains(reason), "{arguments:?}: {text}");
        assert!(!daemon.pidfile().exists(), "{arguments:?} leaves a pidfile");
        assert!(TcpStream::connect(daemon.address()).is_err(), "{arguments:?}: somebody listens");
    }
}

#[test]
fn a_manifest_with_an_unknown_user_is_refused_with_its_place() {
    let daemon = place().server("user", "\"no-such-user\"");
    let output = run(daemon.command().arg("--daemon"));
    let text = printed(&output);
    assert_eq!(output.status.code(), Some(CONFIG), "{text}");
    assert!(
        text.contains("no such user") && text.contains("user = \"no-such-user\"") && text.contains("^^^"),
        "{text}"
    );
}

#[test]
fn workers_are_the_user_that_the_manifest_names_and_only_root_can_have_it_so() {
    let daemon = place().server("user", "\"4711\"").server("group", "\"4712\"");
    let output = run(daemon.command().arg("--daemon"));
    if process::user(process_id()) != Some((0, 0)) {
        assert_eq!(output.status.code(), Some(RUNTIME), "{}", printed(&output));
        assert!(printed(&output).contains("only root"), "{}", printed(&output));
        return;
    }
    assert!(output.status.success(), "{}", printed(&output));
    assert_serves(&daemon);
    let pid = daemon.running_pid();
    assert_eq!(process::user(pid), Some((0, 0)), "rusmd itself stays who it is");
    let workers = || family(pid).into_iter().filter(|pid| process::is_named(*pid, "rusmd-worker"));
    assert!(workers().count() > 0 && workers().all(|worker| process::user(worker) == Some((4711, 4712))));
    daemon.stop_by(Signal::SIGTERM);
}

#[test]
fn a_second_start_is_refused_and_names_the_first() {
    let daemon = place();
    daemon.start();
    let pid = daemon.running_pid();
    for arguments in [&["--daemon"][..], &[]] {
        let output = run(daemon.command().args(arguments));
        let text = printed(&output);
        assert_eq!(output.status.code(), Some(RUNTIME), "{text}");
        assert!(text.contains(&pid.to_string()) && text.contains("hint:"), "{text}");
    }
    assert_eq!(daemon.running_pid(), pid);
    assert_serves(&daemon);
    daemon.stop_by(Signal::SIGTERM);
}

#[test]
fn after_a_kill_no_worker_is_left_and_neither_the_pidfile_nor_the_port_is_in_the_way() {
    let daemon = place();
    daemon.start();
    let pid = daemon.running_pid();
    let all = family(pid);
    assert!(all.len() > 1, "it has workers");
    process::signal(pid, Signal::SIGKILL);
    wait_until_gone(&all);
    assert_eq!(daemon.pid(), Some(pid), "nobody was there to remove it");
    daemon.start();
    assert_ne!(daemon.running_pid(), pid);
    assert_serves(&daemon);
    daemon.stop_by(Signal::SIGTERM);
}

#[test]
fn when_it_is_killed_its_workers_are_gone_within_100_ms_whatever_they_do() {
    const ROUNDS: usize = 5;
    const GONE_WITHIN: Duration = Duration::from_millis(100);
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let daemon = place().server("workers", "3").server("request-timeout-ms", "60000");
        daemon.start();
        let pid = daemon.running_pid();
        // Itself, the template, and the workers.
        wait::until("all workers are there", || family(pid).len() == 5);
        let all = family(pid);
        let mut spinning = Client::connect(daemon.address());
        spinning.get("/spin");
        let mut waiting = Client::connect(daemon.address());
        waiting.get("/sleep-forever");
        wait::until("a guest spins", || all.iter().any(|worker| process::cpu_ticks(*worker) > 5));
        process::signal(pid, Signal::SIGKILL);
        let watch = Stopwatch::start();
        wait_until_gone(&all);
        times.push(watch.elapsed());
    }
    // The machine may have other things to do for once.
    let in_time = times.iter().filter(|time| **time <= GONE_WITHIN).count();
    assert!(in_time > ROUNDS / 2, "{times:?}");
}

#[test]
fn what_the_parent_has_left_open_is_not_open_in_workers() {
    let daemon = place();
    let output = run(&mut daemon.command_in_shell("exec 9</etc/passwd; exec \"$@\"", &["--daemon"]));
    assert!(output.status.success(), "{}", printed(&output));
    let pid = daemon.running_pid();
    for worker in process::children(pid) {
        let open = process::descriptor_list(worker);
        assert!(!open.iter().any(|descriptor| descriptor.contains("/etc/passwd")), "{open:?}");
    }
    daemon.stop_by(Signal::SIGTERM);
}

#[test]
fn usr1_reopens_the_logs_after_they_were_renamed() {
    let daemon = place().log("access", "\"access.log\"");
    daemon.start();
    daemon.get("/hello?before");
    daemon.wait_for_line("access.log", &["/hello?before"]);
    for name in ["main.log", "access.log"] {
        fs::rename(daemon.path(name), daemon.path(&format!("{name}.1"))).expect("it can be renamed");
    }
    daemon.signal(Signal::SIGUSR1);
    daemon.wait_for_line("main.log", &["reopened"]);
    daemon.get("/hello?after");
    daemon.wait_for_line("access.log", &["/hello?after"]);
    assert!(daemon.read("access.log.1").contains("?before") && !daemon.read("access.log.1").contains("?after"));
    let error = fs::read_link(format!("/proc/{}/fd/2", daemon.running_pid())).expect("it is open");
    assert_eq!(error, daemon.path("main.log"), "the standard error follows");
    daemon.stop_by(Signal::SIGTERM);
}

#[test]
fn a_log_that_cannot_be_reopened_goes_on_and_says_why() {
    let daemon = place();
    daemon.start();
    fs::rename(daemon.path("main.log"), daemon.path("old.log")).expect("it can be renamed");
    fs::create_dir(daemon.path("main.log")).expect("the name is free");
    daemon.signal(Signal::SIGUSR1);
    daemon.wait_for_line("old.log", &["ERROR", "main.log", "stays where it was"]);
    assert_serves(&daemon);
    daemon.stop_by(Signal::SIGTERM);
}

#[test]
fn full_disks_under_both_logs_cost_nothing_but_lines() {
    let daemon = place().log("file", "\"/dev/full\"").log("access", "\"/dev/full\"").log("level", "\"debug\"");
    let mut child = daemon.command().stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it can be executed");
    wait::until("it serves", || daemon.is_running());
    for _ in 0..50 {
        assert_serves(&daemon);
    }
    let pid = daemon.running_pid();
    let ticks = process::cpu_ticks(pid);
    // Idle, it must not try again and again: a second of its time would be a hundred ticks.
    let is_busy = wait::poll(Duration::from_secs(2), || (process::cpu_ticks(pid) > ticks + 20).then_some(()));
    assert!(is_busy.is_none(), "it is busy with nothing");
    daemon.stop_by(Signal::SIGTERM);
    assert!(child.wait().expect("it is a child").success());
    let mut told = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().expect("a pipe"), &mut told).expect("it is text");
    assert!(told.contains("/dev/full") && told.contains("No space left"), "{told}");
    assert!(told.lines().count() <= 4, "once for each log is enough:\n{told}");
}

#[test]
fn a_log_on_a_full_disk_is_told_by_whoever_starts_the_daemon() {
    let daemon = place().log("file", "\"/dev/full\"");
    let output = daemon.start();
    assert!(printed(&output).contains("cannot write the log (/dev/full): No space left"), "{}", printed(&output));
    assert_serves(&daemon);
    daemon.stop_by(Signal::SIGTERM);
}

#[test]
fn a_start_whose_pidfile_finds_no_room_fails_and_says_so() {
    // A file system of one page, with that page in use, which nobody sees but what is started here.
    const FULL: &str = "mount -t tmpfs -o size=4k none full && head -c 4096 /dev/zero >full/all && exec \"$@\"";
    let daemon = place();
    fs::create_dir(daemon.path("full")).expect("the scratch directory is writable");
    let mut command = Command::new("unshare");
    if process::user(process_id()) != Some((0, 0)) {
        command.arg("--map-root-user");
    }
    command.args(["--mount", "/bin/sh", "-c", FULL, "sh"]).arg(rusmd_e2e::paths::binary("rusmd"));
    command.args(["--daemon", "--config", "rusm.toml", "--pidfile", "full/pid"]);
    command.current_dir(daemon.path(".")).env_remove("RUST_LOG").stdin(Stdio::null());
    let output = run(&mut command);
    let text = printed(&output);
    if text.contains("unshare:") || text.contains("mount:") {
        eprintln!("skipped: no file system can be mounted here: {text}");
        return;
    }
    assert_eq!(output.status.code(), Some(RUNTIME), "{text}");
    assert!(text.contains("cannot write the pid to") && text.contains("No space left"), "{text}");
    assert!(TcpStream::connect(daemon.address()).is_err(), "somebody listens");
}

#[test]
fn a_limit_of_file_sizes_costs_lines_and_not_the_server() {
    // 128 KiB: more than what waits for a file with room when the first one has none.
    const LIMITED: &str = "ulimit -f 256; exec \"$@\"";
    let daemon = place().log("access", "\"access.log\"");
    let output = run(&mut daemon.command_in_shell(LIMITED, &["--daemon"]));
    assert!(output.status.success(), "{}", printed(&output));
    let full =
        daemon.wait_for_line_while("main.log", &["ERROR", "access log", "File too large"], || assert_serves(&daemon));
    assert!(full.contains("serving goes on"), "{full}");
    assert_eq!(daemon.read("main.log").matches("File too large").count(), 1, "once is enough");
    // With a new file there is room again.
    fs::rename(daemon.path("access.log"), daemon.path("access.log.1")).expect("it can be renamed");
    daemon.signal(Signal::SIGUSR1);
    daemon.wait_for_line("main.log", &["WARN", "can be written again"]);
    assert_serves(&daemon);
    daemon.stop_by(Signal::SIGTERM);
}

#[test]
fn whoever_gives_up_a_start_gets_no_daemon() {
    let daemon = place();
    let worker = daemon.path("worker");
    let (go, real) = (daemon.path("go"), rusmd_e2e::paths::binary("rusmd-worker"));
    let script =
        format!("#!/bin/sh\nuntil [ -e {} ]; do sleep 0.05; done\nexec {} \"$@\"\n", go.display(), real.display());
    fs::write(&worker, script).expect("the scratch directory is writable");
    fs::set_permissions(&worker, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let mut command = daemon.command();
    command.arg("--daemon").arg("--worker-bin").arg(&worker).stdout(Stdio::null()).stderr(Stdio::null());
    let mut starter = command.spawn().expect("it can be executed");
    wait::until("the daemon has locked its pidfile", || daemon.pidfile().exists());
    process::signal(i32::try_from(starter.id()).unwrap(), Signal::SIGINT);
    assert!(!starter.wait().expect("it is a child").success());
    fs::write(go, "").expect("the scratch directory is writable");
    wait::until("the daemon has given up too", || !daemon.pidfile().exists());
    wait::until("nobody listens", || TcpStream::connect(daemon.address()).is_err());
}

#[test]
fn json_lines_of_the_access_log_tell_what_became_of_each_request() {
    let daemon = place().log("access", "\"access.log\"").log("access-format", "\"json\"");
    daemon.start();
    daemon.get("/hello?a=\"b\"");
    daemon.get("/panic");
    let line = daemon.wait_for_line("access.log", &["/hello"]);
    for part in
        ["\"status\":200", "\"outcome\":\"served\"", "\"started\":true", "\"pid\":", "\"method\":\"GET\"", "_us\":"]
    {
        assert!(line.contains(part), "no {part} in {line}");
    }
    let line = daemon.wait_for_line("access.log", &["/panic"]);
    assert!(line.contains("\"status\":502") && line.contains("\"outcome\":\"trap\""), "{line}");
    daemon.stop_by(Signal::SIGTERM);
}

#[test]
fn directory_and_umask_are_taken_on_before_any_file_is_made() {
    let daemon = place().server("chdir", "\"home\"").server("umask", "\"077\"");
    fs::create_dir(daemon.path("home")).expect("the scratch directory is writable");
    // A relative path on the command line starts where it was typed.
    let mut command = Command::new(rusmd_e2e::paths::binary("rusmd"));
    command.args(["--config", "rusm.toml", "--pidfile", "pid", "--daemon"]).current_dir(daemon.path("."));
    let output = run(command.env_remove("RUST_LOG").stdin(Stdio::null()));
    assert!(output.status.success(), "{}", printed(&output));
    let pid = daemon.running_pid();
    assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).expect("it runs"), daemon.path("home"));
    let mode = |name: &str| fs::metadata(daemon.path(name)).expect("it is there").permissions().mode() & 0o777;
    assert_eq!((mode("main.log"), mode("pid")), (0o600, 0o644));
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for_line("main.log", &["generation 2 serves"]);
    assert_serves(&daemon);
    daemon.stop_by(Signal::SIGTERM);
}

#[test]
fn a_socket_that_is_handed_over_is_served_in_place_of_one_of_its_own() {
    for as_daemon in [true, false] {
        let daemon = place();
        let socket = TcpListener::bind(daemon.address()).expect("nobody has it");
        // It waits in the socket's queue for whoever comes.
        let mut early = Client::connect(daemon.address());
        early.get("/hello");
        let mut command = daemon.command_with(socket);
        let child = if as_daemon {
            let output = run(command.arg("--daemon"));
            assert!(output.status.success(), "{}", printed(&output));
            None
        } else {
            Some(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it can be executed"))
        };
        assert_eq!(early.response().status(), 200);
        wait::until("it has told its pid", || daemon.is_running());
        let environment = fs::read(format!("/proc/{}/fd/3", daemon.running_pid())).unwrap_or_default();
        assert!(environment.is_empty(), "the number is not the socket's any more");
        daemon.stop_by(Signal::SIGTERM);
        if let Some(mut child) = child {
            assert!(child.wait().expect("it is a child").success());
        }
    }
}

#[test]
fn a_socket_that_is_handed_over_and_nobody_listens_on_is_an_error_that_names_it() {
    let daemon = place();
    let socket = TcpListener::bind("127.0.0.1:0").expect("some port is free");
    let address = socket.local_addr().unwrap().to_string();
    let output = run(daemon.command_with(socket).arg("--daemon"));
    let text = printed(&output);
    assert_eq!(output.status.code(), Some(RUNTIME), "{text}");
    assert!(text.contains(&address) && text.contains("(web)") && text.contains("hint:"), "{text}");
}

#[test]
fn a_service_manager_is_told_what_happens() {
    let daemon = place();
    let socket = daemon.path("notify");
    let manager = UnixDatagram::bind(&socket).expect("the scratch directory is writable");
    manager.set_read_timeout(Some(SOON)).expect("a positive timeout is accepted");
    let expect = |part: &str| loop {
        let mut message = [0; 512];
        let count = manager.recv(&mut message).unwrap_or_else(|error| panic!("nothing with {part} came: {error}"));
        let message = String::from_utf8_lossy(&message[..count]).into_owned();
        if message.lines().any(|line| line.starts_with(part)) {
            break message;
        }
    };
    let output = run(daemon.command().arg("--daemon").env("NOTIFY_SOCKET", &socket));
    assert!(output.status.success(), "{}", printed(&output));
    let pid = daemon.running_pid();
    assert!(expect("READY=1").lines().any(|line| line == format!("MAINPID={pid}")));
    daemon.signal(Signal::SIGHUP);
    assert!(expect("RELOADING=1").contains("MONOTONIC_USEC="));
    expect("READY=1");
    daemon.signal(Signal::SIGUSR2);
    let message = expect("READY=1");
    wait::until("the successor has told its pid", || daemon.is_running() && daemon.pid() != Some(pid));
    assert!(message.contains(&format!("MAINPID={}", daemon.running_pid())), "{message}");
    wait_until_gone(&[pid]);
    daemon.stop_by(Signal::SIGTERM);
    expect("STOPPING=1");
}

/// Runs a verb of the init script in the place of a daemon.
#[track_caller]
fn init(daemon: &Daemon, verb: &str) -> Output {
    init_with(daemon, verb, "RUSMD_OPTIONS", "--log debug")
}

#[track_caller]
fn init_with(daemon: &Daemon, verb: &str, variable: &str, value: &str) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/rusmd.init");
    let mut command = Command::new(script);
    command.arg(verb).stdin(Stdio::null()).env_remove("RUST_LOG");
    command.env("RUSMD_DEFAULTS", daemon.path("defaults"));
    command.env("RUSMD_PROGRAM", rusmd_e2e::paths::binary("rusmd"));
    command.env("RUSMD_CONFIG", daemon.manifest()).env("RUSMD_PIDFILE", daemon.pidfile());
    command.env(variable, value);
    run(&mut command)
}

#[track_caller]
fn assert_verb(daemon: &Daemon, verb: &str, code: i32) {
    let output = init(daemon, verb);
    assert_eq!(output.status.code(), Some(code), "{verb}: {}\n{}", printed(&output), daemon.read("main.log"));
}

#[test]
fn the_init_script_starts_reloads_upgrades_and_stops() {
    let daemon = place();
    assert_verb(&daemon, "status", LSB_NOT_RUNNING);
    assert_verb(&daemon, "start", 0);
    assert_serves(&daemon);
    assert_verb(&daemon, "status", 0);
    let pid = daemon.running_pid();
    assert_verb(&daemon, "start", 0);
    assert_eq!(daemon.running_pid(), pid, "a second start changes nothing");

    fs::rename(daemon.path("main.log"), daemon.path("main.log.1")).expect("it can be renamed");
    assert_verb(&daemon, "reopen", 0);
    daemon.wait_for_line("main.log", &["reopened"]);
    assert_verb(&daemon, "reload", 0);
    daemon.wait_for_line("main.log", &["generation 2 serves"]);
    assert_verb(&daemon, "force-reload", 0);
    daemon.wait_for_line("main.log", &["generation 3 serves"]);
    assert_eq!(daemon.running_pid(), pid);

    assert_verb(&daemon, "upgrade", 0);
    let upgraded = daemon.running_pid();
    assert_ne!(upgraded, pid);
    wait_until_gone(&[pid]);
    assert_serves(&daemon);
    let error = fs::read_link(format!("/proc/{upgraded}/fd/2")).expect("it is open");
    assert_eq!(error, daemon.path("main.log"), "the successor of a daemon is one");
    fs::rename(daemon.path("main.log"), daemon.path("main.log.2")).expect("it can be renamed");
    assert_verb(&daemon, "reopen", 0);
    wait::until("its standard error follows the log", || {
        fs::read_link(format!("/proc/{upgraded}/fd/2")).is_ok_and(|error| error == daemon.path("main.log"))
    });
    assert_verb(&daemon, "restart", 0);
    assert_ne!(daemon.running_pid(), upgraded);
    assert_serves(&daemon);

    let all = family(daemon.running_pid());
    assert_verb(&daemon, "stop", 0);
    wait_until_gone(&all);
    assert!(!daemon.pidfile().exists());
    assert_verb(&daemon, "stop", 0);
}

#[test]
fn the_init_script_tells_by_its_exit_code_what_was_wrong() {
    let daemon = place();
    for verb in ["reload", "force-reload", "upgrade", "reopen"] {
        assert_verb(&daemon, verb, LSB_SIGNAL_TO_NOBODY);
    }
    assert_verb(&daemon, "explode", LSB_USAGE);
    let missing = |variable, value| init_with(&daemon, "start", variable, value).status.code();
    assert_eq!(missing("RUSMD_PROGRAM", "/no/such/program"), Some(LSB_NOT_INSTALLED));
    assert_eq!(missing("RUSMD_CONFIG", "/no/such/manifest"), Some(LSB_NOT_CONFIGURED));
    assert_eq!(missing("RUSMD_OPTIONS", "--worker-bin /no/such/worker"), Some(RUNTIME));
    fs::write(daemon.path("bad.toml"), "[server]\nwrokers = 1\n").expect("the scratch directory is writable");
    let bad = daemon.path("bad.toml");
    let output = init_with(&daemon, "start", "RUSMD_CONFIG", bad.to_str().unwrap());
    assert_eq!(output.status.code(), Some(LSB_NOT_CONFIGURED));
    assert!(printed(&output).contains("did you mean"), "{}", printed(&output));
    fs::write(daemon.pidfile(), "4194305\n").expect("the scratch directory is writable");
    assert_verb(&daemon, "status", LSB_DEAD_WITH_PIDFILE);
    // The defaults file goes before the environment.
    fs::write(daemon.path("defaults"), "RUSMD_PROGRAM=/no/such/program\n").expect("the scratch directory is writable");
    assert_verb(&daemon, "start", LSB_NOT_INSTALLED);
}

#[test]
fn the_init_script_stops_one_that_does_not_listen_to_reason() {
    let daemon = place();
    daemon.start();
    let pid = daemon.running_pid();
    let all = family(pid);
    process::signal(pid, Signal::SIGSTOP);
    wait::until("it is stopped", || process::is_stopped(pid));
    fs::write(daemon.path("defaults"), "RUSMD_QUIT_SECONDS=1\nRUSMD_TERM_SECONDS=1\n").expect("it is writable");
    let output = init(&daemon, "stop");
    assert_eq!(output.status.code(), Some(0), "{}", printed(&output));
    assert!(printed(&output).contains("SIGQUIT") && printed(&output).contains("SIGTERM"), "{}", printed(&output));
    wait_until_gone(&all);
}

fn process_id() -> i32 {
    i32::try_from(std::process::id()).expect("process ids are positive")
}
