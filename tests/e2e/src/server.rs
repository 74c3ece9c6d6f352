//! One running `rusmd`: started on ports of the system's choice, watched through its log, proved clean at its end.
//!
//! Owns the process, its scratch directory and the list of log lines that its test expects. The tests drive it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::Signal;

use crate::authority::Certificate;
use crate::client::{Client, Response};
use crate::manifest::Manifest;
use crate::paths::{self, Scratch};
use crate::process::{self, Usage};
use crate::wait::{self, SOON};

/// Most resident memory of a supervisor, ever, in a test that does not say otherwise.
pub const RESIDENT_KIB_MAX: u64 = 24 * 1024;

/// Looks at the supervisor that must agree before it counts as settled.
const SETTLED_LOOKS: u32 = 4;

/// What is to be started.
#[derive(Debug)]
pub struct Setup {
    manifest: Manifest,
    arguments: Vec<String>,
    expected: Vec<String>,
    files: Vec<(String, String)>,
    resident_kib_max: u64,
}

/// A running `rusmd`. Dropping it stops it and checks that it leaves nothing behind.
#[derive(Debug)]
pub struct Server {
    process: Process,
    addresses: Vec<SocketAddr>,
    expected: Vec<String>,
    resident_kib_max: u64,
    baseline: Baseline,
    checked: bool,
}

/// The process itself. Outlives every check: dropping it prints the log of a failed test and kills what is left.
#[derive(Debug)]
struct Process {
    child: Child,
    scratch: Scratch,
}

/// What a settled supervisor with no client has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Baseline {
    descriptors: usize,
    workers: usize,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            manifest: Manifest::new(),
            arguments: Vec::new(),
            expected: Vec::new(),
            files: Vec::new(),
            resident_kib_max: RESIDENT_KIB_MAX,
        }
    }
}

impl Setup {
    pub fn new() -> Setup {
        Setup::default()
    }

    /// A listener with routes: `("GET /users/:id", "api#show")`. Names beginning with `unregistered` are not declared.
    #[track_caller]
    pub fn routes(mut self, routes: &[(&str, &str)]) -> Setup {
        self.manifest.add_routes_listener(routes);
        self
    }

    /// A listener that sends everything to one component.
    #[track_caller]
    pub fn component(mut self, name: &str) -> Setup {
        self.manifest.add_component_listener(name);
        self
    }

    /// Where the listener named last listens, instead of a port of the system's choice.
    pub fn listen(mut self, address: &str) -> Setup {
        self.manifest.set_listen(address);
        self
    }

    /// A key of the listener named last, as a line of TOML.
    pub fn listener_line(mut self, toml: &str) -> Setup {
        self.manifest.extend_listener(toml);
        self
    }

    /// A component with its own file.
    pub fn source(mut self, name: &str, source: PathBuf) -> Setup {
        self.manifest.set_source(name, source);
        self
    }

    /// A key of `[server]`, with its value in TOML.
    pub fn server(mut self, key: &str, value: impl ToString) -> Setup {
        self.manifest.set_server(key, &value.to_string());
        self
    }

    /// Leaves a key of `[server]` at rusmd's own default.
    pub fn without_server(mut self, key: &str) -> Setup {
        self.manifest.unset_server(key);
        self
    }

    /// A key of `[log]`, with its value in TOML.
    pub fn log(mut self, key: &str, value: &str) -> Setup {
        self.manifest.set_log(key, value);
        self
    }

    /// A line of TOML for the capability of `component`.
    pub fn capability(mut self, component: &str, toml: &str) -> Setup {
        self.manifest.extend_capability(component, toml);
        self
    }

    /// An argument on the command line, after `--config FILE`.
    pub fn argument(mut self, argument: &str) -> Setup {
        self.arguments.push(argument.to_owned());
        self
    }

    /// A file beside the manifest.
    pub fn file(mut self, name: &str, contents: &str) -> Setup {
        self.files.push((name.to_owned(), contents.to_owned()));
        self
    }

    /// A file of `public`, a directory beside the manifest that a route can serve as `dir:public`.
    pub fn public(self, name: &str, contents: &str) -> Setup {
        self.file(&format!("public/{name}"), contents)
    }

    /// A certificate and its key as `NAME.pem` and `NAME.key` beside the manifest.
    pub fn certificate(self, name: &str, certificate: &Certificate) -> Setup {
        self.file(&format!("{name}.pem"), &certificate.cert).file(&format!("{name}.key"), &certificate.key)
    }

    /// Declares that error lines containing `part` are no failure of this test.
    pub fn expect_error(mut self, part: &str) -> Setup {
        self.expected.push(part.to_owned());
        self
    }

    /// Allows the supervisor to grow to this resident size.
    pub fn resident_kib_max(mut self, kib: u64) -> Setup {
        self.resident_kib_max = kib;
        self
    }

    /// Starts `rusmd` and waits until it serves.
    #[track_caller]
    pub fn start(self) -> Server {
        let listeners = self.manifest.listeners();
        let mut server = self.spawn();
        let ready = wait::poll(SOON, || {
            let addresses = listening(&server.log());
            let dead = server.process.child.try_wait().expect("a child can be waited for").is_some();
            (dead || addresses.len() == listeners).then_some(addresses)
        });
        match ready {
            Some(addresses) if addresses.len() == listeners => server.addresses = addresses,
            _ => panic!("rusmd does not serve"),
        }
        server.baseline = server.settle();
        server
    }

    /// Starts `rusmd` and does not wait until it serves. The test has to see to its end.
    #[track_caller]
    pub fn start_unready(self) -> Server {
        self.spawn()
    }

    /// Starts `rusmd`, which is expected to refuse, and returns its exit status and all that it printed.
    #[track_caller]
    pub fn start_refused(self) -> (ExitStatus, String) {
        let mut server = self.spawn();
        server.checked = true;
        let status = server.wait_for_exit();
        (status, server.log())
    }

    #[track_caller]
    fn spawn(self) -> Server {
        let scratch = Scratch::new();
        let config = scratch.write("rusm.toml", self.manifest.to_toml());
        for (name, contents) in &self.files {
            let parent = scratch.path().join(name).parent().map(fs::create_dir_all);
            parent.unwrap_or(Ok(())).expect("the scratch directory is writable");
            let path = scratch.write(name, contents);
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("its mode can be set");
        }
        let log = File::create(scratch.path().join("log")).expect("the scratch directory is writable");
        let mut command = Command::new(paths::binary("rusmd"));
        command.arg("--config").arg(config).args(&self.arguments).env_remove("RUST_LOG");
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
        let child = command.spawn().expect("the binary can be executed");
        Server {
            process: Process { child, scratch },
            addresses: Vec::new(),
            expected: self.expected,
            resident_kib_max: self.resident_kib_max,
            baseline: Baseline { descriptors: 0, workers: 0 },
            checked: false,
        }
    }
}

impl Server {
    /// Where the first listener listens.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Where each listener listens, in the order of the manifest.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    #[track_caller]
    pub fn connect(&self) -> Client {
        Client::connect(self.address())
    }

    /// One request on a connection of its own.
    #[track_caller]
    pub fn get(&self, path: &str) -> Response {
        let mut client = self.connect();
        client.get(path);
        client.response()
    }

    /// Waits until the reactor has dealt with all that was sent to it before: it has one thread and takes events in order.
    #[track_caller]
    pub fn barrier(&self) {
        let mut client = self.connect();
        client.send("OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n");
        client.response();
    }

    pub fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// The worker processes, oldest first.
    pub fn workers(&self) -> Vec<i32> {
        process::children(self.pid()).into_iter().filter(|pid| process::is_worker(*pid)).collect()
    }

    /// The worker that is using the processor, once exactly one does.
    #[track_caller]
    pub fn busy_worker(&self) -> i32 {
        const BUSY_TICKS: u64 = 5;
        // A worker may have been forked only now, and one is a template by name until it has begun.
        let mut before: BTreeMap<i32, u64> = BTreeMap::new();
        let busy = wait::poll(SOON, || {
            self.workers().into_iter().find(|pid| {
                let ticks = process::cpu_ticks(*pid);
                ticks >= *before.entry(*pid).or_insert(ticks) + BUSY_TICKS
            })
        });
        busy.expect("a worker uses the processor")
    }

    pub fn usage(&self) -> Usage {
        process::usage(self.pid()).expect("the supervisor runs")
    }

    pub fn signal(&self, signal: Signal) {
        process::signal(self.pid(), signal);
    }

    /// Replaces a file of the scratch directory.
    pub fn write(&self, name: &str, contents: &str) {
        self.process.scratch.write(name, contents);
    }

    /// A file of the scratch directory as text; empty if it is not there.
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.scratch().join(name)).unwrap_or_default()
    }

    pub fn scratch(&self) -> &Path {
        self.process.scratch.path()
    }

    /// Does something while the supervisor is stopped, so that it meets all of it at once when it goes on.
    #[track_caller]
    pub fn paused(&self, meanwhile: impl FnOnce()) {
        self.signal(Signal::SIGSTOP);
        wait::until("the supervisor is stopped", || process::is_stopped(self.pid()));
        meanwhile();
        self.signal(Signal::SIGCONT);
    }

    /// All that the server has printed so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Waits until some line of the log contains all of `parts`, and returns it.
    #[track_caller]
    pub fn wait_for_log(&self, parts: &[&str]) -> String {
        let found = wait::poll(SOON, || {
            let log = self.log();
            log.lines().find(|line| parts.iter().all(|part| line.contains(part))).map(str::to_owned)
        });
        found.unwrap_or_else(|| panic!("no line of the log has all of {parts:?}"))
    }

    /// Declares from now on that error lines containing `part` are no failure.
    pub fn expect_error(&mut self, part: &str) {
        self.expected.push(part.to_owned());
    }

    /// Waits for the end of the process, which something else brings about.
    #[track_caller]
    pub fn wait_for_exit(&mut self) -> ExitStatus {
        let child = &mut self.process.child;
        wait::poll(SOON, || child.try_wait().expect("a child can be waited for")).expect("rusmd exits")
    }

    /// Waits until nothing of what its clients and faults cost is left: descriptors, workers, threads.
    #[track_caller]
    pub fn check_nothing_leaks(&self) {
        let baseline = self.baseline;
        if wait::poll(SOON, || (self.present() == baseline).then_some(())).is_none() {
            let held = process::descriptor_list(self.pid()).join("\n  ");
            panic!("leaked: {:?} at the start, now {:?}\n  {held}", baseline, self.present());
        }
        let usage = self.usage();
        assert_eq!(usage.threads, 1, "the supervisor has one thread");
        assert!(usage.resident_kib_peak <= self.resident_kib_max, "the supervisor grew: {usage:?}");
    }

    /// Stops the server by `signal` and checks that it does so cleanly.
    #[track_caller]
    pub fn stop_by(mut self, signal: Signal) {
        self.check_nothing_leaks();
        self.finish(Some(signal));
    }

    /// For a server that is stopping or has stopped already: checks that it ended cleanly.
    #[track_caller]
    pub fn expect_clean_exit(mut self) {
        self.finish(None);
    }

    /// For a server whose end is not clean on purpose. Waits until it and its workers are gone.
    #[track_caller]
    pub fn expect_gone(mut self) -> ExitStatus {
        self.checked = true;
        let status = self.wait_for_exit();
        self.check_no_process_is_left();
        status
    }

    #[track_caller]
    fn finish(&mut self, signal: Option<Signal>) {
        self.checked = true;
        if let Some(signal) = signal {
            self.signal(signal);
        }
        let status = self.wait_for_exit();
        assert!(status.success(), "rusmd ended with {status}");
        self.check_no_process_is_left();
        let unexpected = self.unexpected();
        assert!(unexpected.is_empty(), "unexpected lines in the log:\n{}", unexpected.join("\n"));
    }

    #[track_caller]
    fn check_no_process_is_left(&self) {
        let group = self.pid();
        // An orphan that has ended and waits for init to look is gone.
        wait::until("every worker is gone", || !process::group(group).into_iter().any(process::is_alive));
    }

    /// Error lines and panics in the log that the test did not declare.
    fn unexpected(&self) -> Vec<String> {
        let is_bad = |line: &&str| line.contains("ERROR") || line.contains("panicked at");
        let is_expected = |line: &str| self.expected.iter().any(|part| line.contains(part));
        self.log().lines().filter(is_bad).filter(|line| !is_expected(line)).map(str::to_owned).collect()
    }

    fn present(&self) -> Baseline {
        let descriptors = process::usage(self.pid()).map_or(0, |usage| usage.descriptors);
        Baseline { descriptors, workers: self.workers().len() }
    }

    /// Whether the server says that all its workers are ready, spares and all; one that does not say is believed to be.
    fn is_complete(&self) -> bool {
        let Ok(mut socket) = UnixStream::connect(self.scratch().join("control.sock")) else { return true };
        let mut text = String::new();
        if socket.write_all(b"status\n").and_then(|()| socket.read_to_string(&mut text)).is_err() {
            return true;
        }
        let reply: serde_json::Value = serde_json::from_str(&text).expect("a reply is JSON");
        let status = &reply["status"];
        let wanted = status["workers_wanted"].as_u64().unwrap_or(0) + status["spares_wanted"].as_u64().unwrap_or(0);
        let generations = status["generations"].as_array().map(Vec::as_slice).unwrap_or_default();
        generations.iter().any(|generation| generation["workers_ready"].as_u64() == Some(wanted))
    }

    /// Waits until several looks in a row agree: the last workers are still starting when the first ones serve.
    fn settle(&self) -> Baseline {
        let (mut last, mut looks) = (self.present(), 0);
        let settled = wait::poll(SOON, || {
            let present = self.present();
            // A template between two executions has still the supervisor's name, and a worker in mid-fork its template's.
            let all_named = process::children(self.pid()).len() == present.workers + 1;
            looks =
                if present == last && present.workers > 0 && all_named && self.is_complete() { looks + 1 } else { 0 };
            last = present;
            (looks == SETTLED_LOOKS).then_some(present)
        });
        settled.unwrap_or(last)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.checked && !std::thread::panicking() {
            self.check_nothing_leaks();
            self.finish(Some(Signal::SIGTERM));
        }
    }
}

impl Process {
    fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("process ids are positive")
    }

    fn log(&self) -> String {
        let bytes = fs::read(self.scratch.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("log of rusmd:\n{}", self.log());
        }
        // What is left of a failed test must not disturb the next one.
        for pid in process::group(self.pid()) {
            process::signal(pid, Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}

/// The addresses in lines such as `rusmd: listening on http://127.0.0.1:41234 (...)`.
pub(crate) fn listening(log: &str) -> Vec<SocketAddr> {
    log.lines()
        .filter_map(|line| line.split_once("listening on http"))
        .map(|(before, after)| (before, after.trim_start_matches('s').trim_start_matches("://")))
        .filter_map(|(_, rest)| rest.split(|c: char| c.is_whitespace() || c == '/').next()?.parse().ok())
        .collect()
}
