//! Owns rusmd's own settings: the `[server]` table, one row per setting. Errors, `--help` and the README are made from the rows, so
//! that a setting is added in one place. Does not know who honours a setting.

use std::fmt::Write as _;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeTable;

use super::Surroundings;
use super::diagnostic::{Diagnostic, Report};
use super::document::{self, Shape, Value};
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
    pub write_timeout: Duration,
    pub keep_alive_timeout: Duration,
    pub head_bytes_max: usize,
    pub headers_max: usize,
    /// 0 is no limit.
    pub body_bytes_max: u64,
    pub connections_max: usize,
    pub backlog: usize,
    /// Absolute, or relative to the working directory as the manifest's own path is.
    pub cache_dir: PathBuf,
    pub pidfile: Option<PathBuf>,
    /// Whose rights workers have, by name or number.
    pub user: Option<String>,
    pub group: Option<String>,
    /// What [`Server::user`] and [`Server::group`] stand for, when either is set.
    pub identity: Option<Identity>,
    pub chdir: Option<PathBuf>,
    pub umask: Option<u32>,
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
    Mebibytes(u64, u64, fn(&mut Server) -> &mut u64),
    Directory(&'static str, fn(&mut Server) -> &mut PathBuf),
    /// A path; nothing unless it is set.
    OptionalPath(fn(&mut Server) -> &mut Option<PathBuf>),
    /// A name or a number that the system knows; see [`Server::identity`].
    Account(fn(&mut Server) -> &mut Option<String>),
    /// Permission bits in octal.
    FileMode(fn(&mut Server) -> &mut Option<u32>),
}

use Kind::{Account, Count, CountPerCpu, Directory, FileMode, Mebibytes, Milliseconds, OptionalPath};

/// Most of what a umask can take away.
const FILE_MODE_MAX: u32 = 0o777;

/// Most workers.
pub const WORKERS_MAX: u64 = 1024;

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
        "max-head-bytes",
        Count(1024, 131_072, |s| &mut s.head_bytes_max),
        "bytes of a request's line and headers; more gets 431",
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
    row("backlog", Count(1, 65_535, |s| &mut s.backlog), "connections that the kernel holds before they are accepted"),
    row(
        "cache-dir",
        Directory("$XDG_CACHE_HOME/rusmd, ~/.cache/rusmd or /var/cache/rusmd", |s| &mut s.cache_dir),
        "where compiled components are kept; relative to the manifest",
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
            write_timeout: Duration::from_secs(30),
            keep_alive_timeout: Duration::from_secs(75),
            head_bytes_max: 32 * 1024,
            headers_max: 100,
            body_bytes_max: 0,
            connections_max: 10_000,
            backlog: 1024,
            cache_dir,
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
                Count(least, most, field) | CountPerCpu(least, most, field) => {
                    if let Some(number) = number(least..=most).and_then(|number| usize::try_from(number).ok()) {
                        *field(self) = number;
                    }
                }
                Milliseconds(least, most, field) => {
                    if let Some(number) = number(least..=most) {
                        *field(self) = Duration::from_millis(number);
                    }
                }
                Mebibytes(least, most, field) => {
                    if let Some(number) = number(least..=most) {
                        *field(self) = number << 20;
                    }
                }
                Directory(_, field) => {
                    if let Some(path) = document::string(value, report) {
                        *field(self) = around.directory.join(path);
                    }
                }
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

fn file_mode(value: &Value<'_>, report: &mut Report) -> Option<u32> {
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
            Count(..) | CountPerCpu(..) | Directory(..) | OptionalPath(..) | Account(..) | FileMode(..) => "",
            Milliseconds(..) => " ms",
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
            Milliseconds(_, _, field) => field(&mut server).as_millis().to_string(),
            Mebibytes(_, _, field) => (*field(&mut server) >> 20).to_string(),
            Directory(words, _) => words.to_owned(),
            OptionalPath(..) => "none".to_owned(),
            Account(..) | FileMode(..) => "that of rusmd's start".to_owned(),
        }
    }

    /// The values that are accepted.
    pub fn range_text(&self) -> String {
        match self.kind {
            Count(least, most, _) | CountPerCpu(least, most, _) => format!("{least} to {most}"),
            Milliseconds(least, most, _) => format!("{least} to {most}"),
            Mebibytes(least, most, _) => format!("{least} to {most}"),
            Directory(..) | OptionalPath(..) => "a path".to_owned(),
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
mod tests {
    use std::path::Path;

    use super::*;

    fn read(text: &str) -> (Server, Report) {
        let mut server = Server::new(2, PathBuf::from("cache"));
        let mut report = Report::default();
        let table = DeTable::parse(text).expect("TOML");
        let around = Surroundings {
            directory: Path::new("dir"),
            cpus: 2,
            variable: &|_| None,
            is_file: &|_| false,
            is_directory: &|_| false,
            identity: &|user, group| match (user, group) {
                (Some("nobody"), _) => Err(IdentityError::NoUser),
                (_, Some("nobody")) => Err(IdentityError::NoGroup),
                (user, group) => {
                    Ok(Identity { uid: user.map_or(0, |_| 33), gid: group.map_or(33, |_| 44), groups: vec![44] })
                }
            },
        };
        server.read(table.get_ref(), &around, &mut report);
        (server, report)
    }

    #[test]
    fn the_readme_has_the_settings_as_they_are() {
        let readme = include_str!("../../README.md");
        assert!(readme.contains(&markdown()), "README.md lacks this table:\n{}", markdown());
    }

    #[test]
    fn every_setting_is_accepted_at_its_bounds_and_refused_one_past() {
        for setting in SETTINGS {
            let (least, most) = match setting.kind {
                Count(least, most, _) | CountPerCpu(least, most, _) | Mebibytes(least, most, _) => (least, most),
                Milliseconds(least, most, _) => (least, most),
                Directory(..) | OptionalPath(..) | Account(..) | FileMode(..) => continue,
            };
            let errors = |value: i128| read(&format!("{} = {value}", setting.name)).1.list.len();
            assert_eq!(errors(least.into()), 0, "{}", setting.name);
            assert_eq!(errors(most.into()), 0, "{}", setting.name);
            assert_eq!(errors(i128::from(least) - 1), 1, "{}", setting.name);
            assert_eq!(errors(i128::from(most) + 1), 1, "{}", setting.name);
        }
    }

    #[test]
    fn every_default_is_within_its_bounds() {
        let (mut server, _) = read("");
        for setting in SETTINGS {
            let (value, least, most) = match setting.kind {
                Count(least, most, field) | CountPerCpu(least, most, field) => {
                    (*field(&mut server) as u64, least, most)
                }
                Milliseconds(least, most, field) => (field(&mut server).as_millis() as u64, least, most),
                Mebibytes(least, most, field) => (*field(&mut server) >> 20, least, most),
                Directory(..) | OptionalPath(..) | Account(..) | FileMode(..) => continue,
            };
            assert!((least..=most).contains(&value), "{}", setting.name);
        }
    }

    #[test]
    fn settings_land_in_their_fields() {
        let (server, report) =
            read("workers = 8\nrequest-timeout-ms = 1_500\nmax-body-mb = 0x10\ncache-dir = 'x'\nmax-headers = 7");
        assert!(report.list.is_empty(), "{report:?}");
        assert_eq!(server.workers, 8);
        assert_eq!(server.request_timeout, Duration::from_millis(1500));
        assert_eq!(server.body_bytes_max, 16 << 20);
        assert_eq!(server.cache_dir, Path::new("dir/x"));
        assert_eq!(server.headers_max, 7);
    }
    #[test]
    fn a_user_and_a_group_are_looked_up_together_and_an_unknown_one_is_an_error_at_its_place() {
        let (server, report) = read("user = 'www'\ngroup = 'web'");
        assert!(report.list.is_empty(), "{report:?}");
        assert_eq!(server.identity, Some(Identity { uid: 33, gid: 44, groups: vec![44] }));
        assert_eq!(read("workers = 1").0.identity, None);
        for (text, at) in [("user = 'nobody'", 7), ("user = 'www'\ngroup = 'nobody'", 21)] {
            let (server, report) = read(text);
            assert_eq!((server.identity, report.list.len()), (None, 1), "{text}");
            assert_eq!(report.list[0].span.map(|span| span.start), Some(at), "{text}");
        }
    }

    #[test]
    fn a_umask_is_octal_and_in_quotes() {
        for (text, expected) in [("0", 0), ("027", 0o27), ("777", 0o777), ("0077", 0o77)] {
            assert_eq!(read(&format!("umask = '{text}'")).0.umask, Some(expected), "{text}");
        }
        for wrong in ["27", "''", "'8'", "'1000'", "'+1'", "'-1'", "'rwx'"] {
            let (server, report) = read(&format!("umask = {wrong}"));
            assert_eq!((server.umask, report.list.len()), (None, 1), "{wrong}");
        }
    }

    #[test]
    fn paths_that_are_set_start_at_the_manifest() {
        let (server, report) = read("pidfile = 'run/pid'\nchdir = '/srv'");
        assert!(report.list.is_empty(), "{report:?}");
        assert_eq!(server.pidfile.as_deref(), Some(Path::new("dir/run/pid")));
        assert_eq!(server.chdir.as_deref(), Some(Path::new("/srv")));
    }
}
