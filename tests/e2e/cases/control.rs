//! What an operator sees and says: `rusmd ctl` with every command, the control socket, the admin listener.
//!
//! Owns the promises about them as they look from outside, with the real program on both sides. The forms of the status and the limits of
//! the socket have their tests beside the code.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nix::sys::signal::Signal;
use rusmd_e2e::daemon::{printed, run};
use rusmd_e2e::paths::{self, Scratch};
use rusmd_e2e::wait::{self, SOON};
use rusmd_e2e::{Client, Daemon, Response, Server, Setup, process};
use serde_json::Value;

use crate::common::{Form, assert_failed, assert_serves};

const FAILED: i32 = 1;
const USAGE: i32 = 2;

/// A user with no rights, on every Linux.
const NOBODY: u32 = 65534;

/// Connections at a time that are no more than a nuisance.
const FLOOD: usize = 300;

fn ctl_command(directory: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(paths::binary("rusmd"));
    command.args(["ctl", "--config"]).arg(directory.join("rusm.toml")).args(words);
    command
}

fn ctl_of(directory: &Path, words: &[&str]) -> Output {
    run(&mut ctl_command(directory, words))
}

pub fn ctl(server: &Server, words: &[&str]) -> Output {
    ctl_of(server.scratch(), words)
}

/// What a command that succeeds prints.
#[track_caller]
pub fn told(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", printed(output));
    String::from_utf8(output.stdout.clone()).expect("what is printed is text")
}

/// What a command that fails prints, its hint included.
#[track_caller]
pub fn refused(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{}", printed(output));
    String::from_utf8(output.stderr.clone()).expect("what is printed is text")
}

/// The answer as JSON: one document on one line.
#[track_caller]
fn json(output: &Output) -> Value {
    let text = told(output);
    assert!(text.ends_with('\n') && text.lines().count() == 1, "{text}");
    let value: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(value["ok"], true);
    value
}

#[track_caller]
pub fn status(server: &Server) -> Value {
    json(&ctl(server, &["status", "--json"]))["status"].take()
}

/// Waits until the status is as it should be, and returns it.
#[track_caller]
pub fn status_when(server: &Server, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    let found = wait::poll(SOON, || {
        last = status(server);
        is_so(&last).then(|| last.clone())
    });
    found.unwrap_or_else(|| panic!("waited in vain until {what}: {last:#}"))
}

/// The worker processes of a status, in order.
#[track_caller]
fn pids(status: &Value) -> Vec<i32> {
    let workers = status["workers"].as_array().expect("workers");
    let pid = |worker: &Value| i32::try_from(worker["pid"].as_i64().expect("a pid")).expect("a pid");
    let mut pids: Vec<i32> = workers.iter().map(pid).collect();
    pids.sort_unstable();
    pids
}

fn socket(server: &Server) -> PathBuf {
    server.scratch().join("control.sock")
}

/// What the control socket answers to these bytes, if it does, until it closes.
#[track_caller]
fn say(server: &Server, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket(server)).expect("the control socket accepts");
    stream.set_read_timeout(Some(SOON)).expect("a positive timeout is accepted");
    // It may have answered and closed before it has read all.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(count) = stream.read(&mut chunk) {
        if count == 0 {
            break;
        }
        answer.extend_from_slice(&chunk[..count]);
    }
    String::from_utf8(answer).expect("answers are text")
}

/// A server with an admin listener, and its address.
#[track_caller]
fn with_admin(setup: Setup) -> (Server, SocketAddr) {
    let server = setup.server("admin", "\"127.0.0.1:0\"").start();
    let address = admin_address(&server);
    (server, address)
}

#[track_caller]
fn admin_address(server: &Server) -> SocketAddr {
    let line = server.wait_for_log(&["admin listener on http://"]);
    line.rsplit_once("http://").expect("a URL").1.trim().parse().expect("an address")
}

#[track_caller]
fn get(address: SocketAddr, path: &str) -> Response {
    let mut client = Client::connect(address);
    client.get(path);
    client.response()
}

#[test]
fn status_shows_what_the_server_does_in_words_and_as_json() {
    let server = Form::Handlers.setup().start();
    for _ in 0..3 {
        assert_serves(&server);
    }
    assert_eq!(server.get("/nowhere").status(), 404);
    let seen = status_when(&server, "four requests are over", |status| status["totals"]["responses"]["4xx"] == 1);
    assert_eq!(seen["state"], "serving");
    assert_eq!(seen["pid"], server.pid());
    assert_eq!(seen["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(seen["listeners"][0]["address"], server.address().to_string());
    assert_eq!((&seen["totals"]["requests"]["served"], &seen["totals"]["responses"]["2xx"]), (&3.into(), &3.into()));
    assert_eq!(seen["workers_wanted"], 2);
    let workers = seen["workers"].as_array().expect("workers");
    let pids = pids(&seen);
    assert_eq!(pids.len(), 3, "with the spare");
    assert!(pids.iter().all(|pid| server.workers().contains(pid)), "{seen:#}");
    assert!(workers.iter().all(|worker| worker["memory_kib"].as_u64().is_some_and(|kib| kib > 0)), "{seen:#}");
    let text = told(&ctl(&server, &["status"]));
    assert!(
        text.starts_with(&format!("rusmd {} is serving, pid {}", env!("CARGO_PKG_VERSION"), server.pid())),
        "{text}"
    );
    assert!(text.contains("\nrequests     3 served, 1 unrouted\n"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert!(!text.contains('\u{1b}'), "no colours where there is no terminal: {text:?}");
}

#[test]
fn a_busy_worker_is_shown_with_its_request_and_how_old_that_is() {
    let mut server = Form::Handlers.setup().server("request-timeout-ms", 1_500).start();
    let mut client = server.connect();
    client.get("/spin");
    let is_busy = |worker: &&Value| worker["state"] == "busy" && worker["request"]["path"] == "/spin";
    let seen = wait::poll(SOON, || {
        let reply = json(&ctl(&server, &["workers", "--json"]));
        reply["workers"].as_array().expect("workers").iter().find(is_busy).cloned()
    });
    let worker = seen.expect("a worker is busy");
    assert!(server.workers().iter().any(|pid| worker["pid"] == *pid), "{worker:#}");
    let request = &worker["request"];
    assert_eq!(
        (&request["method"], &request["component"], &request["action"]),
        (&"GET".into(), &"faults".into(), &"spin".into())
    );
    assert!(request["age_ms"].as_u64().expect("an age") < 30_000, "{request}");
    let table = told(&ctl(&server, &["workers"]));
    assert!(table.contains("faults#spin GET /spin"), "{table}");
    let id = assert_failed(&mut server, &client.response(), 504);
    assert_eq!(request["id"], id.as_str());
}

#[test]
fn restarts_are_counted_with_their_reasons_and_deaths_are_told() {
    let server = Form::Handlers.setup().expect_error("ended with signal").start();
    let victim = pids(&status(&server))[0];
    process::signal(victim, Signal::SIGKILL);
    let seen = status_when(&server, "the death is counted", |status| status["restarts"]["killed"] == 1);
    let death = seen["last_deaths"].as_array().and_then(|deaths| deaths.last()).expect("a death").clone();
    assert_eq!((&death["pid"], &death["exit"]), (&victim.into(), &"signal SIGKILL".into()));
    assert_eq!(death["request"], Value::Null);
    let text = told(&ctl(&server, &["status"]));
    assert!(text.contains("\nrestarts     1 killed\n") && text.contains("signal SIGKILL\n"), "{text}");
    status_when(&server, "the victim is replaced", |status| pids(status).len() == 3 && !pids(status).contains(&victim));
}

#[test]
fn reload_ends_when_the_next_generation_serves_or_says_why_it_does_not() {
    let server = Form::Handlers.setup().expect_error("reload: refused").start();
    assert_eq!(told(&ctl(&server, &["reload"])), "generation 2 serves\n");
    let seen = status_when(&server, "the old generation is gone", |status| {
        status["generations"].as_array().is_some_and(|generations| generations.len() == 1)
    });
    assert_eq!((&seen["generation"], &seen["totals"]["reloads"]["ok"]), (&2.into(), &1.into()));
    let path = server.scratch().join("rusm.toml");
    let good = fs::read_to_string(&path).expect("the manifest");
    fs::write(&path, format!("{good}\n[log]\nlevle = \"info\"\n")).expect("written");
    let why = refused(&ctl(&server, &["reload"]), FAILED);
    assert!(why.contains("levle"), "{why}");
    let seen = status(&server);
    assert_eq!((&seen["generation"], &seen["totals"]["reloads"]["failed"]), (&2.into(), &1.into()));
    assert_serves(&server);
    fs::write(&path, good).expect("written");
}

#[test]
fn scale_adds_and_removes_workers() {
    let server = Form::Handlers.setup().server("spare-workers", 0).start();
    assert_eq!(told(&ctl(&server, &["scale", "4"])), "4 workers are ready\n");
    assert_eq!(pids(&status(&server)).len(), 4);
    assert_eq!(told(&ctl(&server, &["scale", "1"])), "1 worker is ready\n");
    let seen = status_when(&server, "one worker is left", |status| pids(status).len() == 1);
    assert_eq!(seen["workers_wanted"], 1);
    assert_serves(&server);
    // As the harness found it.
    told(&ctl(&server, &["scale", "2"]));
}

#[test]
fn stop_finishes_what_is_in_flight_and_takes_the_socket_away() {
    let server = Form::Wasi.setup().start();
    let mut running = server.connect();
    running.get("/sleep?ms=1500");
    server.barrier();
    told(&ctl(&server, &["stop"]));
    assert_eq!(running.response().status(), 200);
    let (socket, directory) = (socket(&server), server.scratch().to_owned());
    let mut server = server;
    server.wait_for_exit();
    assert!(!socket.exists());
    let why = refused(&ctl_of(&directory, &["status"]), FAILED);
    assert!(why.starts_with("error: no server runs for ") && why.contains("\nhint: "), "{why}");
    server.expect_clean_exit();
}

#[test]
fn stop_now_does_not_wait_for_long() {
    let server = Form::Wasi.setup().server("shutdown-timeout-ms", 3_600_000).server("kill-grace-ms", 100);
    let server = server.expect_error("ended with signal SIGKILL").start();
    let mut running = server.connect();
    running.get("/sleep?ms=3600000");
    server.barrier();
    told(&ctl(&server, &["stop", "--now"]));
    server.expect_clean_exit();
}

#[test]
fn reopen_makes_the_log_files_anew() {
    let daemon = Daemon::new("wasi-faults");
    daemon.start();
    fs::rename(daemon.path("main.log"), daemon.path("main.log.1")).expect("renamed");
    let directory = daemon.manifest().parent().expect("a directory").to_owned();
    told(&ctl_of(&directory, &["reopen"]));
    assert!(daemon.path("main.log").exists());
    daemon.stop_by(Signal::SIGTERM);
}

#[test]
fn upgrade_ends_when_the_next_supervisor_serves_and_that_one_has_the_sockets() {
    let daemon = Daemon::new("wasi-faults").server("admin", "\"127.0.0.1:0\"");
    daemon.start();
    let old = daemon.running_pid();
    let directory = daemon.manifest().parent().expect("a directory").to_owned();
    let line = daemon.wait_for_line("main.log", &["admin listener on http://"]);
    let admin: SocketAddr = line.rsplit_once("http://").expect("a URL").1.parse().expect("an address");
    let socket = daemon.path("control.sock");
    let message = told(&ctl_of(&directory, &["upgrade"]));
    let status = json(&ctl_of(&directory, &["status", "--json"]))["status"].take();
    let new = i32::try_from(status["pid"].as_i64().expect("a pid")).expect("a pid");
    assert_ne!(new, old);
    assert_eq!((message, &status["state"]), (format!("process {new} serves\n"), &"serving".into()));
    wait::until("the old supervisor is gone", || !process::is_alive(old));
    assert!(socket.exists(), "it is the new one's now");
    get(admin, "/readyz").assert(200, "ready\n");
    assert_eq!(daemon.get("/hello").status(), 200);
    assert_eq!(daemon.running_pid(), new);
    told(&ctl_of(&directory, &["stop"]));
    wait::until("the new supervisor is gone", || !process::is_alive(new));
    assert!(!socket.exists());
}

#[test]
fn the_socket_is_found_without_a_word_about_it_in_the_manifest() {
    let server = Form::Handlers.setup().without_server("control").start();
    assert_eq!(status(&server)["pid"], server.pid());
    let scratch = server.scratch().to_owned();
    let mut command = Command::new(paths::binary("rusmd"));
    let text = told(&run(command.args(["ctl", "status"]).current_dir(scratch)));
    assert!(text.contains(" is serving"), "{text}");
}

#[test]
fn only_its_user_and_root_can_open_the_socket() {
    let server = Form::Handlers.setup().start();
    let mode = fs::metadata(socket(&server)).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    // The binaries may be where nobody else can read them.
    let scratch = Scratch::new();
    let program = scratch.path().join("rusmd");
    rusmd_e2e::daemon::install(&paths::binary("rusmd"), &program);
    let open = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("changed");
    [scratch.path(), &program, server.scratch()].into_iter().for_each(open);
    let mut command = Command::new(program);
    command.args(["ctl", "status", "--socket"]).arg(socket(&server)).uid(NOBODY).gid(NOBODY);
    let why = refused(&run(&mut command), FAILED);
    assert!(why.contains("Permission denied") && why.contains("hint: only root and the user of the server"), "{why}");
    fs::set_permissions(socket(&server), fs::Permissions::from_mode(0o666)).expect("changed");
    let why = refused(&run(&mut command), FAILED);
    assert!(why.contains("only root and the user of the server may control it"), "whatever the mode: {why}");
}

#[test]
fn a_server_without_a_control_socket_says_so() {
    let server = Form::Handlers.setup().server("control", "\"\"").start();
    let why = refused(&ctl(&server, &["status"]), FAILED);
    assert!(why.contains("has no control socket"), "{why}");
}

#[test]
fn a_broken_manifest_keeps_nobody_from_the_server_that_runs() {
    let server = Form::Handlers.setup().without_server("control").start();
    let path = server.scratch().join("rusm.toml");
    let good = fs::read_to_string(&path).expect("the manifest");
    for broken in ["[[serve", "nonsense = 1", ""] {
        fs::write(&path, broken).expect("written");
        assert_eq!(status(&server)["pid"], server.pid(), "{broken}");
    }
    fs::write(&path, good).expect("written");
}

#[test]
fn the_socket_of_a_server_that_lives_is_not_taken_and_what_a_killed_one_leaves_is() {
    let daemon = Daemon::new("wasi-faults");
    daemon.start();
    let other = Scratch::new();
    let manifest = fs::read_to_string(daemon.manifest()).expect("the manifest");
    let manifest = manifest.replace(&daemon.address().to_string(), "127.0.0.1:0");
    let manifest = manifest.replace("\"control.sock\"", &format!("{:?}", daemon.path("control.sock")));
    let config = other.write("rusm.toml", manifest.replace("\"main.log\"", "\"stderr\""));
    let second = run(Command::new(paths::binary("rusmd")).arg("--config").arg(config));
    let why = refused(&second, FAILED);
    assert!(why.contains("another server answers there"), "{why}");
    let directory = daemon.manifest().parent().expect("a directory").to_owned();
    told(&ctl_of(&directory, &["status"]));
    let pid = daemon.running_pid();
    process::signal(pid, Signal::SIGKILL);
    wait::until("it is gone", || !process::is_alive(pid));
    assert!(daemon.path("control.sock").exists(), "the test is about what is left");
    assert!(refused(&ctl_of(&directory, &["status"]), FAILED).contains("no server runs"));
    daemon.start();
    told(&ctl_of(&directory, &["status"]));
    daemon.stop_by(Signal::SIGTERM);
}

#[test]
fn a_link_or_a_file_in_the_socket_s_place_is_left_alone() {
    let scratch = Scratch::new();
    let precious = scratch.write("precious", "precious");
    let link = scratch.path().join("link");
    symlink(&precious, &link).expect("linked");
    let dangling = scratch.path().join("dangling");
    symlink(scratch.path().join("target"), &dangling).expect("linked");
    for place in [&precious, &link, &dangling] {
        let (exit, log) = Form::Handlers.setup().server("control", format!("{place:?}")).start_refused();
        assert_eq!(exit.code(), Some(FAILED), "{log}");
        assert!(log.contains("a file that is no socket is there"), "{log}");
    }
    assert_eq!(fs::read_to_string(&precious).expect("it is there"), "precious");
    assert!(!scratch.path().join("target").exists());
}

#[test]
fn garbage_is_answered_with_an_error_and_harms_nobody() {
    let server = Form::Handlers.setup().start();
    let long = vec![b'x'; 1 << 20];
    let lines: [&[u8]; 9] = [
        b"\n",
        b"dance\n",
        b"status \n",
        b"status\nstop\n",
        b"stop now!\n",
        b"scale 9999\n",
        b"\xff\xfe\n",
        b"GET / HTTP/1.1\r\n\r\n",
        &long,
    ];
    for line in lines {
        let answer: Value = serde_json::from_str(&say(&server, line)).expect("JSON");
        assert_eq!(answer["ok"], false);
        assert!(answer["error"].as_str().is_some_and(|error| !error.is_empty()), "{answer}");
    }
    assert_eq!(status(&server)["state"], "serving");
    assert_serves(&server);
}

#[test]
fn a_flood_of_silent_operators_costs_clients_nothing_and_passes() {
    let server = Form::Handlers.setup().start();
    let silent: Vec<UnixStream> =
        (0..FLOOD).map(|_| UnixStream::connect(socket(&server)).expect("the control socket accepts")).collect();
    for _ in 0..10 {
        assert_serves(&server);
    }
    for _ in 0..3 {
        assert_eq!(status(&server)["state"], "serving", "who says something is heard at once");
    }
    drop(silent);
}

#[test]
fn an_operator_who_asks_again_and_again_and_does_not_read_is_no_burden() {
    let server = Form::Handlers.setup().start();
    for _ in 0..200 {
        let mut stream = UnixStream::connect(socket(&server)).expect("the control socket accepts");
        let _ = stream.write_all(b"status\n");
    }
    assert_serves(&server);
    status_when(&server, "a new operator is heard", |status| status["state"] == "serving");
}

#[test]
fn usage_is_explained() {
    for words in [
        &["ctl"][..],
        &["ctl", "dance"],
        &["ctl", "scale"],
        &["ctl", "scale", "0"],
        &["ctl", "status", "--workers", "2"],
    ] {
        let output = run(Command::new(paths::binary("rusmd")).args(words));
        assert_eq!(output.status.code(), Some(USAGE), "{words:?}: {}", printed(&output));
    }
}

#[test]
fn metrics_are_what_prometheus_reads_and_agree_with_the_status() {
    let (server, admin) = with_admin(Form::Handlers.setup());
    for _ in 0..3 {
        assert_serves(&server);
    }
    status_when(&server, "the requests are over", |status| status["totals"]["requests"]["served"] == 3);
    let response = get(admin, "/metrics");
    assert_eq!(response.status(), 200);
    assert_eq!(response.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let samples = parse_metrics(&response.text());
    let value = |series: &str| samples.iter().find(|(name, _)| name == series).map(|(_, value)| *value);
    assert_eq!(value("rusmd_requests_total{outcome=\"served\"}"), Some(3.0));
    assert_eq!(value("rusmd_responses_total{class=\"2xx\"}"), Some(3.0));
    assert_eq!(value("rusmd_request_duration_seconds_count"), Some(3.0));
    assert_eq!(value("rusmd_request_duration_seconds_bucket{le=\"+Inf\"}"), Some(3.0));
    assert_eq!(value("rusmd_queue_wait_seconds_count"), Some(3.0));
    assert_eq!(value("rusmd_workers{state=\"idle\"}"), Some(3.0));
    assert_eq!(value("rusmd_component_requests_total{component=\"faults\"}"), Some(3.0));
    assert!(value("process_resident_memory_bytes").is_some_and(|bytes| bytes > 100_000.0));
}

/// The samples of a text in the format 0.0.4, each with its labels; fails where a strict reader would.
#[track_caller]
fn parse_metrics(text: &str) -> Vec<(String, f64)> {
    assert!(text.ends_with('\n'));
    let (mut family, mut samples) = (String::new(), Vec::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# ") {
            let mut words = rest.splitn(3, ' ');
            let (keyword, name, more) = (words.next(), words.next().expect("a name"), words.next().expect("more"));
            match keyword {
                Some("HELP") => family = name.to_owned(),
                Some("TYPE") => assert!(["counter", "gauge", "histogram"].contains(&more) && name == family, "{line}"),
                _ => panic!("{line}"),
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').expect("a sample has a value");
        let (name, labels) = series.split_once('{').map_or((series, None), |(name, labels)| (name, Some(labels)));
        assert!(name.starts_with(&family) && !family.is_empty(), "{line}");
        if let Some(labels) = labels {
            let inner = labels.strip_suffix('}').expect("labels end");
            for label in inner.split("\",") {
                let (name, value) = label.split_once("=\"").expect("a label has a value");
                assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') && !value.contains('\n'));
            }
        }
        assert!(samples.iter().all(|(seen, _)| seen != series), "twice: {line}");
        samples.push((series.to_owned(), value.parse().expect("a number")));
    }
    samples
}

#[test]
fn the_admin_listener_answers_three_paths_and_nothing_else() {
    let (server, admin) = with_admin(Form::Handlers.setup());
    get(admin, "/healthz").assert(200, "ok\n");
    get(admin, "/readyz").assert(200, "ready\n");
    assert_eq!(get(admin, "/hello").status(), 404, "it is not for clients");
    assert_eq!(server.get("/metrics").status(), 404, "and the other is not for administrators");
    let mut client = Client::connect(admin);
    client.post("/metrics", b"x");
    let response = client.response();
    assert_eq!((response.status(), response.header("allow")), (405, Some("GET, HEAD")));
    let mut client = Client::connect(admin);
    for _ in 0..3 {
        client.send("HEAD /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let response = client.response_to("HEAD");
        assert_eq!((response.status(), response.header("content-length")), (200, Some("3")));
    }
    client.send("GET / HTTP/9\r\n\r\n");
    assert!(client.response().status() >= 400);
}

#[test]
fn a_flood_of_administrators_costs_clients_nothing() {
    let (server, admin) = with_admin(Form::Handlers.setup().server("head-timeout-ms", 1_000));
    let silent: Vec<Client> = (0..FLOOD).map(|_| Client::connect(admin)).collect();
    for _ in 0..10 {
        assert_serves(&server);
    }
    wait::until("the silent ones have lost their places", || {
        let mut client = Client::connect(admin);
        client.send_if_open("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        client.try_response().is_ok_and(|response| response.status() == 200)
    });
    drop(silent);
}

#[test]
fn a_server_is_not_ready_before_it_serves_and_says_what_it_waits_for() {
    let scratch = Scratch::new();
    let worker = paths::binary("rusmd-worker");
    let script = format!("#!/bin/sh\n[ \"$1\" != compile ] || exec {worker:?} \"$@\"\nexec sleep 3600\n");
    let script = scratch.write("worker", script);
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("changed");
    let setup = Form::Handlers.setup().server("admin", "\"127.0.0.1:0\"").server("kill-grace-ms", 100);
    let server = setup.argument("--worker-bin").argument(script.to_str().expect("text")).start_unready();
    let admin = admin_address(&server);
    get(admin, "/readyz").assert(503, "not ready: starting\n");
    get(admin, "/healthz").assert(200, "ok\n");
    assert_eq!(status(&server)["state"], "starting");
    told(&ctl(&server, &["stop", "--now"]));
    server.expect_clean_exit();
}

#[test]
fn a_server_that_drains_lives_and_is_not_ready() {
    let (server, admin) = with_admin(Form::Wasi.setup());
    let mut running = server.connect();
    running.get("/sleep?ms=3000");
    server.barrier();
    let mut kept = Client::connect(admin);
    kept.get("/readyz");
    kept.response().assert(200, "ready\n");
    told(&ctl(&server, &["stop"]));
    kept.get("/readyz");
    kept.response().assert(503, "not ready: draining\n");
    get(admin, "/readyz").assert(503, "not ready: draining\n");
    get(admin, "/healthz").assert(200, "ok\n");
    assert_eq!(status(&server)["state"], "draining");
    assert_eq!(running.response().status(), 200);
    server.expect_clean_exit();
}

#[test]
fn an_admin_address_that_is_taken_is_an_error_at_the_start() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("some port is free");
    let address = taken.local_addr().expect("it is bound");
    let (exit, log) = Form::Handlers.setup().server("admin", format!("\"{address}\"")).start_refused();
    assert_eq!(exit.code(), Some(FAILED), "{log}");
    assert!(log.contains(&format!("cannot listen on {address}")) && log.contains("\nhint: "), "{log}");
}
