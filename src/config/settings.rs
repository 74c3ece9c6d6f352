//! Owns rusmd's own settings: the `[server]` table, one row per setting. Errors, `--help` and the README are made from the rows, so
//! that a setting is added in one place. Does not know who honours a setting.

use std::fmt::Write as _;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusmd_proto::SandboxLevel;
use toml::de::DeTable;

use super::Surroundings;
use super::diagnostic::{Diagnostic, Report};
use super::document::{self, Shape, Value};
use super::listen::Listen;
use crate::sys::{Identity, IdentityError};

/// The settings of the server as a whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Server {
    pub workers: usize,
    pub spare_workers: usize,
    pub request_timeout: Duration,
    pub kill_grace: Duration,
    pub queue_length: usize,
    pub queue_timeout: Duration,
    pub shutdown_timeout: Duration,
    pub head_timeout: Duration,
    pub body_timeout: Duration,
    pub busy_body_timeout: Duration,
    pub write_timeout: Duration,
    pub keep_alive_timeout: Duration,
    /// Bytes in a second; 0 is no limit.
    pub receive_rate_min: usize,
    pub send_rate_min: usize,
    pub rate_grace: Duration,
    pub head_bytes_max: usize,
    pub target_bytes_max: usize,
    pub headers_max: usize,
    /// 0 is no limit.
    pub body_bytes_max: u64,
    pub connections_max: usize,
    pub streams_max: usize,
    /// 0 is no limit.
    pub connections_per_address_max: usize,
    pub backlog: usize,
    /// Requests after which a worker is replaced; 0 is no limit.
    pub requests_max: usize,
    /// Age at which a worker is replaced; zero is no limit.
    pub worker_age_max: Duration,
    /// Most bytes of writable private memory of a worker process; 0 is no limit.
    pub worker_memory_bytes: u64,
    pub on_trap: OnTrap,
    pub sandbox: SandboxLevel,
    /// 0 is never.
    pub poison_deaths: usize,
    pub poison_window: Duration,
    pub poison_refuse: Duration,
    /// 0 is never.
    pub crash_loop_deaths: usize,
    /// Absolute, or relative to the working directory as the manifest's own path is.
    pub cache_dir: PathBuf,
    pub control: Control,
    /// Where metrics and the state of the server can be had over HTTP, if anywhere.
    pub admin: Option<Listen>,
    pub pidfile: Option<PathBuf>,
    /// Whose rights workers have, by name or number.
    pub user: Option<String>,
    pub group: Option<String>,
    /// What [`Server::user`] and [`Server::group`] stand for, when either is set.
    pub identity: Option<Identity>,
    pub chdir: Option<PathBuf>,
    pub umask: Option<u32>,
}

/// Where the control socket is.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub enum Control {
    /// In a place that only depends on the user and the manifest's path.
    #[default]
    Default,
    Off,
    /// A path like [`Server::cache_dir`].
    At(PathBuf),
}

/// What a trap of a guest costs beside its request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnTrap {
    /// Nothing: the instance is gone, the worker goes on.
    Reset,
    /// The worker process: it is replaced.
    Exit,
}

/// One row: a key of `[server]`.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub name: &'static str,
    pub kind: Kind,
    /// One sentence without its full stop.
    pub doc: &'static str,
}

/// What a setting's value is, and where in [`Server`] it goes.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A number from the first bound to the second.
    Count(u64, u64, fn(&mut Server) -> &mut usize),
    /// One for each CPU unless it is set.
    CountPerCpu(u64, u64, fn(&mut Server) -> &mut usize),
    Milliseconds(u64, u64, fn(&mut Server) -> &mut Duration),
    /// The same, or 0 for none.
    MillisecondsOrNone(u64, u64, fn(&mut Server) -> &mut Duration),
    Mebibytes(u64, u64, fn(&mut Server) -> &mut u64),
    Directory(&'static str, fn(&mut Server) -> &mut PathBuf),
    /// One of these words, the first of which is the default; the place of the word is given.
    Word(&'static [&'static str], fn(&mut Server, usize)),
    /// A path, or nothing at all.
    Socket(&'static str, fn(&mut Server) -> &mut Control),
    Address(fn(&mut Server) -> &mut Option<Listen>),
    /// A path; nothing unless it is set.
    OptionalPath(fn(&mut Server) -> &mut Option<PathBuf>),
    /// A name or a number that the system knows; see [`Server::identity`].
    Account(fn(&mut Server) -> &mut Option<String>),
    /// Permission bits in octal.
    FileMode(fn(&mut Server) -> &mut Option<u32>),
}

use Kind::{
    Account, Address, Count, CountPerCpu, Directory, FileMode, Mebibytes, Milliseconds, MillisecondsOrNone,
    OptionalPath, Socket, Word,
};

const SANDBOX_LEVELS: [SandboxLevel; 3] = [SandboxLevel::BestEffort, SandboxLevel::Strict, SandboxLevel::Off];
const SANDBOX_WORDS: [&str; 3] = [SANDBOX_LEVELS[0].name(), SANDBOX_LEVELS[1].name(), SANDBOX_LEVELS[2].name()];

/// Most of what a umask can take away.
const FILE_MODE_MAX: u32 = 0o777;

/// Connections that the kernel may hold for a listener.
pub(super) const BACKLOG_RANGE: RangeInclusive<u64> = 1..=65_535;

/// Most workers.
pub const WORKERS_MAX: u64 = 1024;

/// The least age at which a worker is replaced: there would be nothing but replacing.
const WORKER_AGE_MS_MIN: u64 = 1000;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// The rows, in the order in which `--help` and the README show them.
pub const SETTINGS: &[Setting] = &[
    row("workers", CountPerCpu(1, WORKERS_MAX, |s| &mut s.workers), "worker processes that serve requests"),
    row("spare-workers", Count(0, 64, |s| &mut s.spare_workers), "ready workers that wait to replace one that dies"),
    row(
        "request-timeout-ms",
        Milliseconds(1, DAY_MS, |s| &mut s.request_timeout),
        "how long a handler may go without a sign of life (start, head, body bytes); then 504",
    ),
    row(
        "kill-grace-ms",
        Milliseconds(1, DAY_MS, |s| &mut s.kill_grace),
        "how long after that a worker that does not let go of the request is killed",
    ),
    row(
        "queue-length",
        Count(0, 1_000_000, |s| &mut s.queue_length),
        "requests that may wait for a worker; the next gets 503",
    ),
    row(
        "queue-timeout-ms",
        Milliseconds(1, DAY_MS, |s| &mut s.queue_timeout),
        "how long a request may wait for a worker before it gets 503",
    ),
    row(
        "shutdown-timeout-ms",
        Milliseconds(0, DAY_MS, |s| &mut s.shutdown_timeout),
        "how long a stop waits for requests in flight",
    ),
    row(
        "head-timeout-ms",
        Milliseconds(1, DAY_MS, |s| &mut s.head_timeout),
        "how long a client may take to send a request's head",
    ),
    row(
        "body-timeout-ms",
        Milliseconds(1, DAY_MS, |s| &mut s.body_timeout),
        "how long a client may pause while it sends a body",
    ),
    row(
        "busy-body-timeout-ms",
        Milliseconds(1, DAY_MS, |s| &mut s.busy_body_timeout),
        "how long it may pause at a worker while others wait for one",
    ),
    row(
        "write-timeout-ms",
        Milliseconds(1, DAY_MS, |s| &mut s.write_timeout),
        "how long a client may take nothing of a response",
    ),
    row(
        "keep-alive-timeout-ms",
        Milliseconds(0, DAY_MS, |s| &mut s.keep_alive_timeout),
        "how long a connection may stay idle between requests; 0 closes it after each",
    ),
    row(
        "min-receive-rate",
        Count(0, 1 << 30, |s| &mut s.receive_rate_min),
        "bytes/s at which a client must send a request at least; slower gets 408, and 0 is any",
    ),
    row(
        "min-send-rate",
        Count(0, 1 << 30, |s| &mut s.send_rate_min),
        "bytes/s at which a client must read a response at least; slower is cut, and 0 is any",
    ),
    row(
        "rate-grace-ms",
        Milliseconds(1, DAY_MS, |s| &mut s.rate_grace),
        "how far a client may fall behind these rates before that",
    ),
    row(
        "max-head-bytes",
        Count(1024, 131_072, |s| &mut s.head_bytes_max),
        "bytes of a request's line and headers; more gets 431",
    ),
    row(
        "max-target-bytes",
        Count(128, 32_768, |s| &mut s.target_bytes_max),
        "bytes of a request's path and query, or URL; more gets 414",
    ),
    row("max-headers", Count(1, 1000, |s| &mut s.headers_max), "header lines of a request; more gets 431"),
    row(
        "max-body-mb",
        Mebibytes(0, 1 << 20, |s| &mut s.body_bytes_max),
        "MiB of a request's body; more gets 413, and 0 is no limit",
    ),
    row(
        "max-connections",
        Count(1, 1_000_000, |s| &mut s.connections_max),
        "open client connections over all listeners",
    ),
    row(
        "max-connections-per-address",
        Count(0, 1_000_000, |s| &mut s.connections_per_address_max),
        "open connections of one IPv4 address or IPv6 /64; the next gets 503, and 0 is no limit",
    ),
    row(
        "max-streams",
        Count(1, 1000, |s| &mut s.streams_max),
        "requests in progress on one HTTP/2 connection; the next is refused and may be sent again",
    ),
    row(
        "backlog",
        Count(*BACKLOG_RANGE.start(), *BACKLOG_RANGE.end(), |s| &mut s.backlog),
        "connections that the kernel holds before they are accepted",
    ),
    row(
        "max-requests",
        Count(0, 1_000_000_000, |s| &mut s.requests_max),
        "requests after which a worker is replaced, less up to a tenth; 0: never; 1: a process for each",
    ),
    row(
        "max-worker-age-ms",
        MillisecondsOrNone(WORKER_AGE_MS_MIN, 365 * DAY_MS, |s| &mut s.worker_age_max),
        "age at which a worker is replaced, less up to a tenth; 0 is no limit",
    ),
    row(
        "worker-memory-mb",
        Mebibytes(0, 1 << 20, |s| &mut s.worker_memory_bytes),
        "MiB of memory that a worker may have (`RLIMIT_DATA`, and a cgroup if delegated); 0: any",
    ),
    row(
        "on-trap",
        Word(&["reset", "exit"], |s, word| s.on_trap = [OnTrap::Reset, OnTrap::Exit][word]),
        "whether a trap of a guest costs its worker process too",
    ),
    row(
        "sandbox",
        Word(&SANDBOX_WORDS, |s, word| s.sandbox = SANDBOX_LEVELS[word]),
        "how workers are confined: as far as this machine allows; wholly, or no service; not at all",
    ),
    row(
        "poison-deaths",
        Count(0, 100, |s| &mut s.poison_deaths),
        "workers that a request (component, action, path) may kill in a row before it gets 503; 0: off",
    ),
    row(
        "poison-window-ms",
        Milliseconds(1, DAY_MS, |s| &mut s.poison_window),
        "in which time these deaths must lie to count together",
    ),
    row(
        "poison-refuse-ms",
        Milliseconds(1, DAY_MS, |s| &mut s.poison_refuse),
        "how long such a request gets 503; twice as long each time that it kills again, up to an hour",
    ),
    row(
        "crash-loop-deaths",
        Count(0, 1000, |s| &mut s.crash_loop_deaths),
        "workers that a component may kill in a row until it gets 503 for a while; 0 is off",
    ),
    row(
        "cache-dir",
        Directory("$XDG_CACHE_HOME/rusmd, ~/.cache/rusmd or /var/cache/rusmd", |s| &mut s.cache_dir),
        "where compiled components are kept; relative to the manifest",
    ),
    row(
        "control",
        Socket("in $XDG_RUNTIME_DIR, /run or /tmp/rusmd-UID", |s| &mut s.control),
        "the socket of `rusmd ctl`, relative to the manifest; empty for none",
    ),
    row(
        "admin",
        Address(|s| &mut s.admin),
        "where to serve `/metrics`, `/healthz` and `/readyz` over HTTP, to whoever can connect",
    ),
    row(
        "pidfile",
        OptionalPath(|s| &mut s.pidfile),
        "holds the pid while rusmd serves, and keeps a second one from starting",
    ),
    row("user", Account(|s| &mut s.user), "whose rights workers have, when rusmd is started by root"),
    row("group", Account(|s| &mut s.group), "the workers' group, instead of the user's own"),
    row("chdir", OptionalPath(|s| &mut s.chdir), "the working directory of rusmd"),
    row("umask", FileMode(|s| &mut s.umask), "permissions that files made by rusmd do not get"),
];

const fn row(name: &'static str, kind: Kind, doc: &'static str) -> Setting {
    Setting { name, kind, doc }
}

const NAMES: [&str; SETTINGS.len()] = {
    let mut names = [""; SETTINGS.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = SETTINGS[at].name;
        at += 1;
    }
    names
};

const SHAPE: Shape = Shape { name: "[server]", keys: &NAMES, unsupported: &[] };

impl Server {
    /// The defaults on a machine with `cpus` CPUs, with the compiled components in `cache_dir`.
    pub fn new(cpus: usize, cache_dir: PathBuf) -> Server {
        Server {
            workers: cpus.max(1),
            spare_workers: 1,
            request_timeout: Duration::from_secs(30),
            kill_grace: Duration::from_secs(1),
            queue_length: 1024,
            queue_timeout: Duration::from_secs(5),
            shutdown_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            busy_body_timeout: Duration::from_secs(2),
            write_timeout: Duration::from_secs(30),
            keep_alive_timeout: Duration::from_secs(75),
            receive_rate_min: 240,
            send_rate_min: 240,
            rate_grace: Duration::from_secs(30),
            head_bytes_max: 32 * 1024,
            target_bytes_max: 8 * 1024,
            headers_max: 100,
            body_bytes_max: 0,
            connections_max: 10_000,
            streams_max: 100,
            connections_per_address_max: 0,
            backlog: 1024,
            requests_max: 0,
            worker_age_max: Duration::ZERO,
            worker_memory_bytes: 0,
            on_trap: OnTrap::Reset,
            sandbox: SandboxLevel::BestEffort,
            poison_deaths: 2,
            poison_window: Duration::from_secs(60),
            poison_refuse: Duration::from_secs(30),
            crash_loop_deaths: 5,
            cache_dir,
            control: Control::Default,
            admin: None,
            pidfile: None,
            user: None,
            group: None,
            identity: None,
            chdir: None,
            umask: None,
        }
    }

    /// Takes what the `[server]` table sets.
    pub(super) fn read<'d>(&mut self, table: &'d DeTable<'d>, around: &Surroundings<'_>, report: &mut Report) {
        let mut accounts = Vec::new();
        for (key, value) in document::entries(table) {
            let name: &str = key.get_ref();
            let Some(setting) = SETTINGS.iter().find(|setting| setting.name == name) else {
                document::unknown_key(key, value, &SHAPE, report);
                continue;
            };
            let mut number = |range: RangeInclusive<u64>| document::integer(value, &range, setting.kind.unit(), report);
            match setting.kind {
                MillisecondsOrNone(_, _, field) if document::is_zero(value) => *field(self) = Duration::ZERO,
                Count(least, most, field) | CountPerCpu(least, most, field) => {
                    if let Some(number) = number(least..=most).and_then(|number| usize::try_from(number).ok()) {
                        *field(self) = number;
                    }
                }
                Milliseconds(least, most, field) | MillisecondsOrNone(least, most, field) => {
                    if let Some(number) = number(least..=most) {
                        *field(self) = Duration::from_millis(number);
                    }
                }
                Mebibytes(least, most, field) => {
                    if let Some(number) = number(least..=most) {
                        *field(self) = number << 20;
                    }
                }
                Word(words, set) => {
                    let word = document::word(value, words, report);
                    if let Some(place) = word.and_then(|word| words.iter().position(|known| *known == word)) {
                        set(self, place);
                    }
                }
                Directory(_, field) => {
                    if let Some(path) = document::string(value, report) {
                        *field(self) = around.directory.join(path);
                    }
                }
                Socket(_, field) => {
                    if let Some(path) = document::string(value, report) {
                        *field(self) = Control::of(path, around.directory);
                    }
                }
                Address(field) => match document::address(value, report) {
                    Some(Listen::Unix(_)) => {
                        let found = Diagnostic::error(document::span(value), "this is served over TCP alone");
                        report.push(found.hint("write an address and a port, such as \"127.0.0.1:9090\""));
                    }
                    address => *field(self) = address.or(field(self).take()),
                },
                OptionalPath(field) => {
                    *field(self) = document::file_path(value, report).map(|path| around.directory.join(path));
                }
                Account(field) => {
                    *field(self) = document::string(value, report).map(str::to_owned);
                    accounts.push((name, value));
                }
                FileMode(field) => *field(self) = file_mode(value, report),
            }
        }
        self.find_identity(&accounts, around, report);
    }

    /// Looks up who workers are to be; a name that is not known is a mistake of the key that has it.
    fn find_identity<'d>(
        &mut self,
        accounts: &[(&'d str, &'d Value<'d>)],
        around: &Surroundings<'_>,
        report: &mut Report,
    ) {
        if self.user.is_none() && self.group.is_none() {
            return;
        }
        match (around.identity)(self.user.as_deref(), self.group.as_deref()) {
            Ok(identity) => self.identity = Some(identity),
            Err(error) => {
                let key = if matches!(error, IdentityError::NoGroup) { "group" } else { "user" };
                let place = accounts.iter().find(|(name, _)| *name == key).and_then(|(_, value)| document::span(value));
                let mut message = error.to_string();
                if let IdentityError::System(source) = &error {
                    // Writing to a String cannot fail.
                    let _ = write!(message, ": {source}");
                }
                report.push(Diagnostic::error(place, message));
            }
        }
    }
}

impl Control {
    pub(super) fn of(path: &str, directory: &Path) -> Control {
        if path.is_empty() { Control::Off } else { Control::At(directory.join(path)) }
    }
}

pub(super) fn file_mode(value: &Value<'_>, report: &mut Report) -> Option<u32> {
    let text = document::string(value, report)?;
    let is_octal = !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| is_octal && *mode <= FILE_MODE_MAX);
    if mode.is_none() {
        let found = Diagnostic::error(document::span(value), "these are no permission bits");
        report.push(found.hint("write them in octal and in quotes, such as \"027\""));
    }
    mode
}

impl Kind {
    fn unit(self) -> &'static str {
        match self {
            Count(..) | CountPerCpu(..) | Directory(..) | Word(..) | Socket(..) | Address(..) | OptionalPath(..)
            | Account(..) | FileMode(..) => "",
            Milliseconds(..) => " ms",
            MillisecondsOrNone(..) => " ms, or 0 for none",
            Mebibytes(..) => " MiB",
        }
    }
}

impl Setting {
    /// The default, in words or in the setting's own unit.
    pub fn default_text(&self) -> String {
        let mut server = Server::new(1, PathBuf::new());
        match self.kind {
            CountPerCpu(..) => "one per CPU".to_owned(),
            Count(_, _, field) => field(&mut server).to_string(),
            Milliseconds(_, _, field) | MillisecondsOrNone(_, _, field) => field(&mut server).as_millis().to_string(),
            Mebibytes(_, _, field) => (*field(&mut server) >> 20).to_string(),
            Word(words, _) => words.first().copied().unwrap_or_default().to_owned(),
            Directory(words, _) | Socket(words, _) => words.to_owned(),
            Address(_) => "none".to_owned(),
            OptionalPath(..) => "none".to_owned(),
            Account(..) | FileMode(..) => "that of rusmd's start".to_owned(),
        }
    }

    /// The values that are accepted.
    pub fn range_text(&self) -> String {
        match self.kind {
            Count(least, most, _) | CountPerCpu(least, most, _) => format!("{least} to {most}"),
            Milliseconds(least, most, _) => format!("{least} to {most}"),
            MillisecondsOrNone(least, most, _) => format!("0, {least} to {most}"),
            Mebibytes(least, most, _) => format!("{least} to {most}"),
            Directory(..) | Socket(..) | OptionalPath(..) => "a path".to_owned(),
            Word(words, _) => words.join(", "),
            Address(..) => "an address and a port".to_owned(),
            Account(..) => "a name or a number".to_owned(),
            FileMode(..) => "octal, in quotes".to_owned(),
        }
    }
}

/// The rows as `--help` shows them.
pub fn help() -> String {
    let width = SETTINGS.iter().map(|setting| setting.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for setting in SETTINGS {
        let _ = writeln!(text, "  {:width$}  [{}]\n      {}", setting.name, setting.default_text(), setting.doc);
    }
    text
}

/// The rows as a Markdown table, for the README.
pub fn markdown() -> String {
    let mut text = "| key | default | accepted | |\n| --- | --- | --- | --- |\n".to_owned();
    for setting in SETTINGS {
        let Setting { name, doc, .. } = setting;
        let _ = writeln!(text, "| `{name}` | {} | {} | {doc} |", setting.default_text(), setting.range_text());
    }
    text
}

#[cfg(test)]
mod tests;
