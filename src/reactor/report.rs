//! What the reactor tells: log lines for the operator, short answers for clients.
//!
//! A client never sees more than the request's id; the log line with that id has the rest.

use std::io::Write as _;
use std::time::{Duration, Instant};

use rusmd_proto::{FailureCause, LogLevel, LogLine, Ready, SandboxLevel};

use crate::answer::Answer;
use crate::app::App;
use crate::blame::Change;
use crate::config::{Address, Server, Severity};
use crate::control::counters::RestartReason;
use crate::http::{Header, Protocol, PublicId, ResponseHead};
use crate::pool::SlotId;
use crate::request::{Request, Upload};
use crate::sys::{Exit, Usage};

use super::chatter::{Chatter, LOG_BYTES_MAX, Line};
use super::deaths::Death;

/// Log target of everything that concerns one request.
const REQUEST: &str = "rusmd::request";

/// Log target of the slow-request log.
const SLOW: &str = "rusmd::slow";

/// Log target of what guests write.
const GUEST: &str = "guest";

/// Sends an answer to a client that has not been sent anything, with the fields that its listener adds.
pub fn respond(connection: &mut Protocol, answer: &Answer, id: &PublicId, added: &[(String, String)], now: Instant) {
    let own = [("allow", answer.allow.as_deref()), ("retry-after", answer.retry_after.as_deref())];
    let mut fields: Vec<Header<'_>> = Vec::with_capacity(own.len() + added.len());
    fields.extend(own.into_iter().filter_map(|(name, value)| Some((name, value?.as_bytes()))));
    // The type is that of the answer's own text.
    let added = added.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("content-type"));
    fields.extend(added.map(|(name, value)| (name.as_str(), value.as_bytes())));
    if answer.status == 204 {
        let head = ResponseHead { status: 204, headers: &fields, request_id: id.as_str(), body_length: None };
        let answered = connection.respond_head(&head, now).and_then(|()| connection.respond_end(&[], now));
        debug_assert!(answered.is_ok(), "a response is owed, and the router and the manifest make legal values");
        return;
    }
    connection.respond_error(answer.status, answer.detail, id.as_str(), &fields, now);
}

/// Says on standard output that an address is served, whatever the log shows.
pub fn listening(address: &Address, is_secure: bool) {
    let scheme = match (address, is_secure) {
        (Address::Tcp(_), false) => "http://",
        (Address::Tcp(_), true) => "https://",
        (Address::Unix(_), _) => "",
    };
    // A closed standard output is no reason to stop serving.
    let _ = writeln!(std::io::stdout(), "rusmd: listening on {scheme}{address}");
}

/// What is wrong with a manifest that is served all the same.
pub fn problems(app: &App) {
    for (severity, problem) in app.problems() {
        match severity {
            Severity::Error | Severity::Unserved => log::error!("{problem}"),
            Severity::Warning => log::warn!("{problem}"),
        }
    }
}

/// Settings that a reload does not change, and that a reloaded manifest has changed: they wait for the next start, or for an upgrade.
pub fn unchanged(present: &Server, wanted: &Server) {
    for name in differing(present, wanted) {
        log::warn!("reload: `{name}` stays as it is until rusmd starts again");
    }
}

fn differing(present: &Server, wanted: &Server) -> impl Iterator<Item = &'static str> {
    let table = [
        ("control", present.control != wanted.control),
        ("admin", present.admin != wanted.admin),
        ("pidfile", present.pidfile != wanted.pidfile),
        ("chdir", present.chdir != wanted.chdir),
        ("umask", present.umask != wanted.umask),
    ];
    table.into_iter().filter_map(|(name, differs)| differs.then_some(name))
}

/// An error and its sources on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// The guest, or what it answered, failed.
pub fn failed(app: &App, request: &Request, cause: FailureCause, message: &str, backtrace: &str) {
    let (id, what, cause) = (&request.name, Subject(app, request), cause.name());
    if request.upload == Upload::BrokenOff {
        log::info!(target: REQUEST, "{id} {what}: its client left in mid-upload: {cause}: {}", Indented(message));
        return;
    }
    log::error!(target: REQUEST, "{id} {what}: {cause}: {}", Indented(message));
    guest_backtrace(id, backtrace);
}

/// The guest's frames, each on a line of its own.
fn guest_backtrace(id: &PublicId, backtrace: &str) {
    if !backtrace.is_empty() {
        log::error!(target: REQUEST, "{id} guest backtrace:\n    {}", Indented(backtrace));
    }
}

/// The worker died with this request.
pub fn died(app: &App, request: &Request, pid: i32, exit: Exit, usage: Usage, now: Instant) {
    let (id, what) = (&request.name, Subject(app, request));
    let age = now.saturating_duration_since(request.admitted);
    log::error!(target: REQUEST, "{id} {what}: worker {pid} ended with {exit} after {age:.1?} ({usage})");
}

/// A request was given to a worker that does not take it up.
pub fn not_taken_up(id: &PublicId, slot: SlotId, pid: i32) {
    log::warn!(target: REQUEST, "{id} was not taken up by worker {pid} in slot {slot}: another worker gets it");
}

/// A worker does not even throw away what was taken back from it.
pub fn hung(slot: SlotId, pid: i32, grace: Duration) {
    log::error!("killing worker {pid} in slot {slot}: it has not reacted for {grace:?}");
}

/// A request runs for longer than `slow-ms`.
pub fn slow(app: &App, request: &Request, after: Duration) {
    let (id, what, pid) = (&request.name, Subject(app, request), request.trace.pid);
    log::warn!(target: SLOW, "{id} {what}: still running in worker {pid} after {after:?}");
}

/// Where the guest of a slow request is.
pub fn slow_backtrace(id: &PublicId, backtrace: &str) {
    if backtrace.is_empty() {
        log::warn!(target: SLOW, "{id} its guest waits for the host");
    } else {
        log::warn!(target: SLOW, "{id} guest backtrace:\n    {}", Indented(backtrace));
    }
}

/// Who is refused from now on because of what it did, and who no longer.
pub fn blame(app: &App, changes: &[Change]) {
    for change in changes {
        log::log!(change.level(), "{}", change.sentence(app.component_name(change.component()).unwrap_or("?")));
    }
}

/// How the workers are confined.
pub fn sandbox(wanted: SandboxLevel, ready: &Ready<'_>) {
    let reached = ready.sandbox.name();
    if ready.sandbox_missing.is_empty() {
        log::info!("sandbox: {reached}");
    } else {
        let missing = Printable(&ready.sandbox_missing.join(", ")).to_string();
        log::warn!("sandbox: {reached}, where {} was wanted: without {missing}", wanted.name());
    }
}

/// The deadline has passed.
pub fn deadline(app: &App, request: &Request, timeout: Duration) {
    let (id, what) = (&request.name, Subject(app, request));
    log::error!(target: REQUEST, "{id} {what}: deadline: no sign of life for request-timeout-ms, {timeout:?}");
}

/// The interrupted guest has let go; its stack tells where it was.
pub fn interrupted(app: &App, request: &Request, backtrace: &str) {
    let (id, what) = (&request.name, Subject(app, request));
    log::info!(target: REQUEST, "{id} {what}: interrupted");
    guest_backtrace(id, backtrace);
}

/// The interrupted guest has not let go.
pub fn not_letting_go(app: &App, request: &Request, grace: Duration) {
    let (id, what) = (&request.name, Subject(app, request));
    log::error!(target: REQUEST, "{id} {what}: still running {grace:?} after its interruption: killing the worker");
}

/// A request has waited in the queue for too long.
pub fn shed(id: &PublicId, waiting: usize) {
    log::warn!(target: REQUEST, "{id} waited longer than queue-timeout-ms: 503; {waiting} still waiting");
}

/// A line that a guest wrote, for a request or while it was loaded.
pub fn guest_line(id: Option<&PublicId>, line: &LogLine<'_>) {
    let id = id.map_or("-", PublicId::as_str);
    log::log!(target: GUEST, level(line.level), "{id} {}: {}", Printable(line.target), Indented(line.message));
}

fn level(level: LogLevel) -> log::Level {
    match level {
        LogLevel::Error => log::Level::Error,
        LogLevel::Warn => log::Level::Warn,
        LogLevel::Info => log::Level::Info,
        LogLevel::Debug => log::Level::Debug,
        LogLevel::Trace => log::Level::Trace,
    }
}

/// The same, unless the worker has written too much of late.
pub fn chatter(id: Option<&PublicId>, line: &LogLine<'_>, chatter: &mut Chatter, pid: i32, now: Instant) {
    // What is not written anyway costs nothing.
    if !log::log_enabled!(target: GUEST, level(line.level)) {
        return;
    }
    match chatter.handle_line(line.target.len() + line.message.len(), now) {
        Line::Written => guest_line(id, line),
        Line::WrittenAfter { dropped } => {
            dropped_lines(pid, dropped);
            guest_line(id, line);
        }
        Line::FirstDropped => log::warn!(
            target: GUEST,
            "worker {pid} writes more than {LOG_BYTES_MAX} bytes a second to the log: what is more is dropped"
        ),
        Line::Dropped => {}
    }
}

/// So many lines of a worker are not in the log.
pub fn dropped_lines(pid: i32, dropped: u64) {
    log::warn!(target: GUEST, "{dropped} lines of worker {pid} were dropped");
}

/// A worker's process has ended.
pub fn worker_ended(death: &Death, usage: Usage, delay: Duration, is_replaced: bool) {
    let Death { pid, slot, exit, reason, never_ready, .. } = death;
    let is_wanted = match reason {
        RestartReason::MaxRequests
        | RestartReason::MaxAge
        | RestartReason::Memory
        | RestartReason::Trap
        | RestartReason::ScaledDown
        | RestartReason::Reload => true,
        RestartReason::Crashed
        | RestartReason::Killed
        | RestartReason::Hung
        | RestartReason::Protocol
        | RestartReason::StartFailed
        | RestartReason::Other => !is_replaced,
    };
    let level = match (is_wanted, exit) {
        (true, _) => log::Level::Debug,
        (false, Exit::Code(0)) => log::Level::Info,
        (false, Exit::Code(_) | Exit::Signal(_)) => log::Level::Error,
    };
    let when = if *never_ready { " before it was ready" } else { "" };
    let why = if is_wanted { format!(" ({})", reason.name()) } else { String::new() };
    let next = if delay.is_zero() { String::new() } else { format!("; the next one starts in {delay:?}") };
    log::log!(level, "worker {pid} in slot {slot} ended with {exit}{when}{why} ({usage}){next}");
}

/// `GET /users/7 (api#show)`, as far as it is known.
struct Subject<'a>(&'a App, &'a Request);

impl std::fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Subject(app, request) = self;
        let Some(head) = request.head() else { return f.write_str("(unknown)") };
        let component = app.component_name(head.component).unwrap_or("?");
        write!(f, "{} {} ({component}", Printable(head.method), Printable(head.path))?;
        if let Some(action) = head.action {
            write!(f, "#{action}")?;
        }
        f.write_str(")")
    }
}

/// Text from outside on one line of a log: control characters are shown, not obeyed.
struct Printable<'a>(&'a str);

impl std::fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for piece in self.0.split_inclusive(char::is_control) {
            let mut chars = piece.chars();
            match chars.next_back() {
                Some(last) if last.is_control() => write!(f, "{}{}", chars.as_str(), last.escape_default())?,
                Some(_) | None => f.write_str(piece)?,
            }
        }
        Ok(())
    }
}

/// Text from outside that may have several lines: each but the first is indented, so that none can pose as a line of the log's own.
struct Indented<'a>(&'a str);

impl std::fmt::Display for Indented<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (number, line) in self.0.trim_end().split('\n').enumerate() {
            if number > 0 {
                f.write_str("\n    ")?;
            }
            Printable(line.trim_end_matches('\r')).fmt(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_a_reload_does_not_change_are_told_by_name() {
        let present = Server::new(2, "cache".into());
        let wanted = Server { workers: 4, umask: Some(0o077), pidfile: Some("pid".into()), ..present.clone() };
        assert_eq!(differing(&present, &wanted).collect::<Vec<_>>(), ["pidfile", "umask"]);
    }

    #[test]
    fn text_from_outside_cannot_forge_a_line_of_the_log() {
        assert_eq!(Printable("a\nb\u{1b}[2Jc\0").to_string(), "a\\nb\\u{1b}[2Jc\\u{0}");
        assert_eq!(Indented("one\r\n[ERROR] two\n").to_string(), "one\n    [ERROR] two");
    }
}
