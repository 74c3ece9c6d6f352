//! Blame: which requests are refused because requests like them have killed workers.
//!
//! Two kinds of record. `poison` has one for each request (component, action, path) that killed a worker, and refuses it once it has killed several, one after
//! the other, within a window. `crash_loop` has one for each component that killed workers, or could not be loaded, and suspends it alone, with a backoff.
//! When a refusal is over, one request is let through on trial; what becomes of it decides.
//!
//! Innocent requests must not pay for workers that are killed from outside. So only sequential deaths are evidence: a request counts when it was sent to its
//! worker after the death before it had been noticed. A worker that outlives a request clears it. And what workers have outlived again and again has a good
//! name (`outlived`), and is condemned only by a run of deaths that chance does not explain.
//!
//! Pure state: no clock, no I/O, no randomness of its own. The reactor takes a [`Fingerprint`] of each request, tells what happened (`handle_*`), asks before a
//! request is queued (`verdict`) and before it is sent to a worker (`begin`), and logs each [`Change`]. One `Blame` belongs to one generation: components are named by their place on the wire.

mod crash_loop;
mod outlived;
mod poison;
mod stage;

use std::borrow::Cow;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use rusmd_proto::RequestId;

use crash_loop::CrashLoops;
use poison::Poison;
pub use stage::Standing;

/// What the operator set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Deaths of workers with the same request that make it poison; 0 is never.
    pub poison_deaths: usize,
    /// In which time these deaths lie.
    pub poison_window: Duration,
    /// How long poison is refused at first.
    pub poison_refuse: Duration,
    /// Deaths of workers with one component, in a row, that suspend it; 0 is never.
    pub crash_loop_deaths: usize,
}

/// What a request is blamed as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Key<'a> {
    /// Its place on the wire.
    pub component: u16,
    pub action: Option<&'a str>,
    /// Normalised, without the query.
    pub path: &'a str,
}

/// The path as the router reads it: it passes over empty segments, and reads what is percent-encoded. A slash that is stays one that is.
fn canonical(path: &str) -> Cow<'_, str> {
    let is_plain = !path.contains("//") && !path.contains('%') && (path.len() <= 1 || !path.ends_with('/'));
    if is_plain {
        return Cow::Borrowed(path);
    }
    let mut bytes = Vec::with_capacity(path.len());
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        bytes.push(b'/');
        let mut rest = segment.as_bytes();
        while let [byte, tail @ ..] = rest {
            let digit = |at: usize| char::from(*tail.get(at)?).to_digit(16);
            let (decoded, left) = match (byte, digit(0).zip(digit(1))) {
                (b'%', Some((high, low))) => ((high << 4 | low) as u8, &tail[2..]),
                (byte, _) => (*byte, tail),
            };
            match decoded {
                b'/' => bytes.extend_from_slice(b"%2F"),
                decoded => bytes.push(decoded),
            }
            rest = left;
        }
    }
    match String::from_utf8(bytes) {
        Ok(canonical) => Cow::Owned(canonical),
        Err(_) => Cow::Borrowed(path),
    }
}

/// A [`Key`] in few bytes, to be kept with its request.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Fingerprint {
    component: u16,
    hash: u64,
}

/// Whether a request may go to a worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Admit,
    /// Requests like it have killed workers. The seconds are those of `Retry-After`.
    Poisoned {
        retry_after_s: u64,
    },
    /// Its component is suspended.
    Suspended {
        retry_after_s: u64,
    },
}

/// Something that the operator is to know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// A refusal begins, or begins again and is longer.
    Poisoned { suspect: Suspect, deaths: u32, refused_for: Duration },
    /// A worker has outlived a request that was refused.
    Cleared { suspect: Suspect },
    /// A suspension begins, or begins again and is longer.
    Suspended { component: u16, cause: Cause, suspended_for: Duration },
    /// The component is served again.
    Resumed { component: u16 },
}

/// Why a component is suspended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// So many workers died with its requests, one after the other.
    Crashes { deaths: u32 },
    /// It took the process that loads components down, so many times in a row.
    Load { failures: u32 },
}

/// A [`Key`] as it is kept and shown: a long path is cut.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Suspect {
    pub component: u16,
    pub action: Option<String>,
    pub path: String,
}

/// A row of the status: a request that is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused<'a> {
    pub component: u16,
    pub action: Option<&'a str>,
    pub path: &'a str,
    pub deaths: u32,
    pub standing: Standing,
}

/// A row of the status: a component that is suspended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Suspended {
    pub component: u16,
    pub cause: Cause,
    pub standing: Standing,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Blame {
    seed: u64,
    /// Seconds are counted from here.
    origin: Instant,
    poison: Poison,
    crash_loops: CrashLoops,
}

impl Blame {
    /// `seed` makes the fingerprints unpredictable, so that nobody can make two alike.
    pub fn new(settings: Settings, now: Instant, seed: u64) -> Blame {
        Blame {
            seed,
            origin: now,
            poison: Poison::new(settings),
            crash_loops: CrashLoops::new(settings.crash_loop_deaths),
        }
    }

    /// What this request is known by from now on.
    pub fn fingerprint(&self, key: Key<'_>) -> Fingerprint {
        let mut hasher = DefaultHasher::new();
        (self.seed, key.component, key.action, &*canonical(key.path)).hash(&mut hasher);
        Fingerprint { component: key.component, hash: hasher.finish() }
    }

    /// Whether such a request would be let through now. Changes nothing, so that who is admitted to the queue has not used up a trial.
    pub fn verdict(&self, request: Fingerprint, now: Instant) -> Verdict {
        if let Some(retry_after_s) = self.crash_loops.refusal_s(request.component, now) {
            return Verdict::Suspended { retry_after_s };
        }
        match self.poison.refusal_s(request, now) {
            Some(retry_after_s) => Verdict::Poisoned { retry_after_s },
            None => Verdict::Admit,
        }
    }

    /// The request is about to be sent to a worker, and is if the verdict is to admit it: then it is the trial where one is due, and
    /// ends in one of `handle_success`, `handle_death` and `handle_unstarted`.
    pub fn begin(&mut self, request: Fingerprint, id: RequestId, now: Instant) -> Verdict {
        self.expire(now);
        let verdict = self.verdict(request, now);
        if verdict == Verdict::Admit {
            self.crash_loops.begin(request.component, id, now);
            self.poison.begin(request, id, now);
        }
        verdict
    }

    /// A worker has outlived a request, whatever its answer. To be told of every request.
    pub fn handle_success(&mut self, request: Fingerprint, now: Instant) -> Vec<Change> {
        let now_s = self.seconds(now);
        let cleared = self.poison.handle_success(request, now_s);
        let resumed = self.crash_loops.handle_success(request.component, now_s);
        cleared.into_iter().chain(resumed).collect()
    }

    /// A worker has died with a request that had started, which had been sent to it at `sent_at`. `now` is when it was first noticed that the worker is gone:
    /// what is sent to another from then on, in its place, is sent after.
    pub fn handle_death(&mut self, key: Key<'_>, sent_at: Instant, now: Instant, random: u64) -> Vec<Change> {
        self.expire(now);
        let now_s = self.seconds(now);
        let poisoned = self.poison.handle_death(key, self.fingerprint(key), sent_at, now, now_s);
        let suspended = self.crash_loops.handle_death(key.component, sent_at, now, now_s, random);
        poisoned.into_iter().chain(suspended).collect()
    }

    fn expire(&mut self, now: Instant) {
        self.poison.expire(now);
        self.crash_loops.expire(now);
    }

    fn seconds(&self, now: Instant) -> u32 {
        u32::try_from(now.saturating_duration_since(self.origin).as_secs()).unwrap_or(u32::MAX)
    }

    /// A request that had been let through never started: its client left, it was taken back, or its worker died before.
    pub fn handle_unstarted(&mut self, request: RequestId, now: Instant) {
        self.poison.handle_unstarted(request, now);
        self.crash_loops.handle_unstarted(request, now);
    }

    /// True while nobody is blamed, which is nearly always.
    pub fn is_empty(&self) -> bool {
        self.poison.is_empty() && self.crash_loops.is_empty()
    }

    /// A component has taken the process that loads components down. It is loaded again when [`Blame::poll_reload`] says so.
    pub fn handle_load_failure(&mut self, component: u16, now: Instant, random: u64) -> Change {
        self.crash_loops.handle_load_failure(component, now, random)
    }

    /// A component that could not be loaded has been.
    pub fn handle_loaded(&mut self, component: u16) -> Option<Change> {
        self.crash_loops.handle_loaded(component)
    }

    /// A component that is to be loaded again now; `handle_loaded` or `handle_load_failure` says how it went.
    pub fn poll_reload(&mut self, now: Instant) -> Option<u16> {
        self.crash_loops.poll_reload(now)
    }

    /// When [`Blame::poll_reload`] has something next.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.crash_loops.next_reload()
    }

    /// Components that are not to be loaded now.
    pub fn is_load_suspended(&self, component: u16) -> bool {
        self.crash_loops.is_load_suspended(component)
    }

    /// Requests that are refused, for the status.
    pub fn refused(&self, now: Instant) -> impl Iterator<Item = Refused<'_>> {
        self.poison.refused(now)
    }

    /// Components that are suspended, for the status.
    pub fn suspended(&self, now: Instant) -> impl Iterator<Item = Suspended> {
        self.crash_loops.suspended(now)
    }
}

impl Change {
    /// The component that it is about, by its place on the wire.
    pub fn component(&self) -> u16 {
        match self {
            Change::Poisoned { suspect, .. } | Change::Cleared { suspect } => suspect.component,
            Change::Suspended { component, .. } | Change::Resumed { component } => *component,
        }
    }

    pub fn level(&self) -> log::Level {
        match self {
            Change::Poisoned { .. } | Change::Suspended { .. } => log::Level::Error,
            Change::Cleared { .. } | Change::Resumed { .. } => log::Level::Info,
        }
    }

    /// The log line, for a component of this name.
    pub fn sentence(&self, name: &str) -> String {
        match self {
            Change::Poisoned { suspect, deaths, refused_for } => format!(
                "poison: {} has killed {} in a row: it gets 503 for {refused_for:.1?}, then one request is let through on trial",
                suspect.shown(name),
                counted(*deaths, "worker"),
            ),
            Change::Cleared { suspect } => {
                format!("{} has ended well and is not refused any longer", suspect.shown(name))
            }
            Change::Suspended { cause: Cause::Crashes { deaths }, suspended_for, .. } => format!(
                "component `{name}` is suspended: it has killed {} in a row: its requests get 503 for {suspended_for:.1?}, \
                 then one is let through on trial",
                counted(*deaths, "worker"),
            ),
            Change::Suspended { cause: Cause::Load { failures }, suspended_for, .. } => format!(
                "component `{name}` is suspended: it could not be loaded ({} in a row): its requests get 503, and it is \
                 loaded again in {suspended_for:.1?}",
                counted(*failures, "failure"),
            ),
            Change::Resumed { .. } => format!("component `{name}` is served again"),
        }
    }
}

impl Suspect {
    /// `/users/7 (api#show)`, with no character that could pose as more than one line.
    fn shown(&self, name: &str) -> impl fmt::Display {
        let action = self.action.as_deref().map(|action| format!("#{action}")).unwrap_or_default();
        format!("{} ({name}{action})", self.path.escape_debug())
    }
}

fn counted(count: u32, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

#[cfg(test)]
mod tests;
