//! Owns the shape of what the supervisor knows about itself at one moment: one [`Status`], which the control socket sends as JSON.
//!
//! Pure data: the reactor fills it when somebody asks, `render`, `metrics` and `rusmd ctl` read it. Fields that the sender did not know
//! have their defaults and fields that the reader does not know are passed over, so that `rusmd ctl` and a server of neighbouring versions
//! understand each other.
//!
//! Everything in it is bounded: text from outside goes through [`excerpt`], lists have the limits below or those of the manifest.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Most bytes of one text that clients or guests have chosen: a path, a method, an action, a reason.
pub const EXCERPT_BYTES_MAX: usize = 256;

/// How many of the last deaths of workers are kept.
pub const LAST_DEATHS_MAX: usize = 16;

/// Most refused requests that are listed.
pub const POISONED_MAX: usize = 64;

/// What the supervisor knows at one moment.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    pub version: String,
    /// The name of this build of the wire, which supervisor and workers share.
    pub build: String,
    pub pid: i32,
    /// The manifest's path.
    pub manifest: String,
    pub state: ServerState,
    /// A reload waits until fewer generations are alive.
    pub reload_waits: bool,
    pub uptime_ms: u64,
    /// The number of the generation that new requests go to.
    pub generation: u64,
    /// From the oldest that still drains to the newest.
    pub generations: Vec<GenerationStatus>,
    pub listeners: Vec<ListenerStatus>,
    /// Open client connections, and how many there may be.
    pub connections: u64,
    pub connections_max: u64,
    pub queue: QueueStatus,
    pub totals: Totals,
    /// Workers that were replaced, by the name of their [`super::counters::RestartReason`].
    pub restarts: BTreeMap<String, u64>,
    /// The newest last; at most [`LAST_DEATHS_MAX`].
    pub last_deaths: Vec<DeathStatus>,
    /// How many workers the pool should have, without and with spares.
    pub workers_wanted: u64,
    pub spares_wanted: u64,
    pub workers: Vec<WorkerStatus>,
    pub components: Vec<ComponentStatus>,
    /// At most [`POISONED_MAX`].
    pub poisoned: Vec<PoisonStatus>,
    pub sandbox: SandboxStatus,
    /// Resident memory of the supervisor alone.
    pub memory_kib: Option<u64>,
    /// Processor time of the supervisor alone.
    pub cpu_ms: Option<u64>,
}

/// Where the server is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServerState {
    /// No worker has been ready yet.
    #[default]
    Starting,
    Serving,
    /// Serving, while the next generation gets ready.
    Reloading,
    /// Serving, while the next supervisor gets ready.
    Upgrading,
    /// The workers were sent away (WINCH): connections wait in the kernel.
    Resting,
    /// Nothing new is accepted; what is in flight is finished.
    Draining,
    /// Only the ends of the workers are awaited.
    Stopping,
}

/// One loaded manifest with its workers.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct GenerationStatus {
    pub number: u64,
    pub state: GenerationState,
    /// Requests that it has in hand.
    pub in_flight: u64,
    /// Workers that are idle or busy, and all that have a process.
    pub workers_ready: u64,
    pub workers_total: u64,
    /// The process that its workers are forked from.
    pub template_pid: Option<i32>,
}

/// Where a generation is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GenerationState {
    #[default]
    Starting,
    /// New requests go to it.
    Current,
    /// It finishes what it has.
    Draining,
}

/// One listening address.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ListenerStatus {
    pub address: String,
    /// Connections that are open now.
    pub connections: u64,
}

/// Requests that wait for a worker.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct QueueStatus {
    pub depth: u64,
    pub length_max: u64,
    /// How long the first of them has waited.
    pub oldest_wait_ms: Option<u64>,
    /// The waits that are over, one for each request that a worker was given, 0 for those that did not have to wait.
    pub waits: HistogramStatus,
}

/// What was counted since the start.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// By the name of their [`super::counters::Outcome`].
    pub requests: BTreeMap<String, u64>,
    /// Responses by the class of their status, `2xx` and so on.
    pub responses: BTreeMap<String, u64>,
    /// Requests whose head was whole by the version of HTTP in which it came.
    pub versions: BTreeMap<String, u64>,
    /// From the end of the head of a request to the end of its response.
    pub durations: HistogramStatus,
    /// Requests that were given to a second worker because the first had died before it started them.
    pub dispatched_again: u64,
    pub connections_accepted: u64,
    /// Of these, connections that went over to HTTP/2.
    pub connections_http2: u64,
    /// Connections that were turned away because there were too many.
    pub connections_refused: u64,
    /// Connections that did not get as far as HTTP: no header of the PROXY protocol, or no TLS.
    pub openings_failed: u64,
    pub reloads: Attempts,
    pub upgrades: Attempts,
    /// Template processes that had to be started anew.
    pub template_restarts: u64,
}

/// How often something succeeded, and how often not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Attempts {
    pub ok: u64,
    pub failed: u64,
}

/// A distribution of durations in fixed buckets.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HistogramStatus {
    /// The upper bounds, inclusive, rising.
    pub bounds_us: Vec<u64>,
    /// How many were in each bucket, and in one more above all bounds.
    pub counts: Vec<u64>,
    pub sum_us: u64,
}

/// The end of one worker.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DeathStatus {
    /// How long ago it was.
    pub ago_ms: u64,
    pub pid: i32,
    pub slot: u32,
    pub generation: u64,
    /// The name of its [`super::counters::RestartReason`].
    pub reason: String,
    /// As in `signal SIGSEGV` or `exit code 1`.
    pub exit: String,
    /// The id of the request that it had started.
    pub request: Option<String>,
    pub component: Option<String>,
    pub action: Option<String>,
}

/// One worker process.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkerStatus {
    pub generation: u64,
    pub slot: u32,
    pub pid: i32,
    pub state: WorkerState,
    /// What it works on.
    pub request: Option<RequestStatus>,
    /// How many it has been given, with this one.
    pub requests: u64,
    pub age_ms: u64,
    /// Resident memory, with the pages of code that all workers share.
    pub memory_kib: Option<u64>,
    /// Processor time, user and system.
    pub cpu_ms: Option<u64>,
}

/// What a worker does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkerState {
    #[default]
    Starting,
    Idle,
    Busy,
    /// It throws away a request that it was offered and that was taken back.
    Discarding,
    /// It gets nothing more.
    Retiring,
}

/// A request in a worker's hands.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RequestStatus {
    pub id: String,
    pub method: String,
    pub path: String,
    pub component: String,
    pub action: Option<String>,
    /// Since it was admitted.
    pub age_ms: u64,
}

/// One component of the current manifest.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ComponentStatus {
    pub name: String,
    pub state: ComponentState,
    /// Why it is not served.
    pub reason: Option<String>,
    pub retry_in_ms: Option<u64>,
    /// Requests that a worker was given.
    pub requests: u64,
    /// Those of them that ended in anything but a response of the guest's.
    pub failures: u64,
    pub worker_deaths: u64,
}

/// Whether a component is served.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ComponentState {
    #[default]
    Ok,
    /// It has killed too many workers, and rests.
    Suspended,
    /// It does not compile or load.
    Unloadable,
}

/// Requests that are refused because such have killed workers.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PoisonStatus {
    pub component: String,
    pub action: Option<String>,
    pub path: String,
    pub deaths: u64,
    pub refused_for_ms: u64,
}

/// How well the workers are confined.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SandboxStatus {
    /// As it is set in the manifest: `strict`, `best-effort`, `off`.
    pub wanted: String,
    pub reached: String,
    /// What this machine does not allow.
    pub missing: Vec<String>,
}

impl Status {
    /// Workers of the current generation that could be given a request or have one.
    pub fn workers_ready(&self) -> u64 {
        let current = self.generations.iter().find(|generation| generation.state == GenerationState::Current);
        current.map_or(0, |generation| generation.workers_ready)
    }
}

impl HistogramStatus {
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// An upper bound of what this share of the values, in thousandths, does not exceed: the bound of its bucket. `None` when there are
    /// no values, or when it lies above all bounds.
    pub fn quantile_us(&self, thousandths: u64) -> Option<u64> {
        let count = self.count();
        let wanted = count.saturating_mul(thousandths.min(1000)).div_ceil(1000).max(1);
        let mut seen = 0u64;
        self.bounds_us.iter().zip(&self.counts).find_map(|(bound, count)| {
            seen = seen.saturating_add(*count);
            (seen >= wanted).then_some(*bound)
        })
    }
}

impl ServerState {
    pub const fn name(self) -> &'static str {
        match self {
            ServerState::Starting => "starting",
            ServerState::Serving => "serving",
            ServerState::Reloading => "reloading",
            ServerState::Upgrading => "upgrading",
            ServerState::Resting => "resting",
            ServerState::Draining => "draining",
            ServerState::Stopping => "stopping",
        }
    }
}

impl GenerationState {
    pub const fn name(self) -> &'static str {
        match self {
            GenerationState::Starting => "starting",
            GenerationState::Current => "current",
            GenerationState::Draining => "draining",
        }
    }
}

impl WorkerState {
    pub const ALL: [WorkerState; 5] =
        [WorkerState::Starting, WorkerState::Idle, WorkerState::Busy, WorkerState::Discarding, WorkerState::Retiring];

    pub const fn name(self) -> &'static str {
        match self {
            WorkerState::Starting => "starting",
            WorkerState::Idle => "idle",
            WorkerState::Busy => "busy",
            WorkerState::Discarding => "discarding",
            WorkerState::Retiring => "retiring",
        }
    }
}

impl ComponentState {
    pub const fn name(self) -> &'static str {
        match self {
            ComponentState::Ok => "ok",
            ComponentState::Suspended => "suspended",
            ComponentState::Unloadable => "unloadable",
        }
    }
}

/// The beginning of a text from outside, at most [`EXCERPT_BYTES_MAX`] bytes; `…` stands for the rest.
pub fn excerpt(text: &str) -> String {
    if text.len() <= EXCERPT_BYTES_MAX {
        return text.to_owned();
    }
    const ELLIPSIS: &str = "…";
    let end = text.floor_char_boundary(EXCERPT_BYTES_MAX - ELLIPSIS.len());
    format!("{}{ELLIPSIS}", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_survives_the_way_through_json() {
        let status = Status {
            state: ServerState::Reloading,
            workers: vec![WorkerStatus { state: WorkerState::Busy, memory_kib: Some(7), ..WorkerStatus::default() }],
            ..Status::default()
        };
        let json = serde_json::to_string(&status).expect("a status is JSON");
        assert!(json.contains(r#""state":"reloading""#) && json.contains(r#""memory_kib":7"#), "{json}");
        assert_eq!(serde_json::from_str::<Status>(&json).expect("the same"), status);
    }

    #[test]
    fn what_a_neighbouring_version_lacks_or_adds_does_not_matter() {
        let status: Status =
            serde_json::from_str(r#"{"pid":7,"queue":{"depth":3,"news":[]},"more":{}}"#).expect("JSON");
        assert_eq!((status.pid, status.queue.depth, status.queue.length_max), (7, 3, 0));
    }

    #[test]
    fn names_are_those_of_the_json() {
        for state in WorkerState::ALL {
            assert_eq!(serde_json::to_string(&state).expect("JSON"), format!("\"{}\"", state.name()));
        }
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        let fits = "x".repeat(EXCERPT_BYTES_MAX);
        assert_eq!(excerpt(&fits), fits);
        let one_more = format!("{}ü", "x".repeat(EXCERPT_BYTES_MAX - 1));
        let cut = excerpt(&one_more);
        assert!(cut.len() <= EXCERPT_BYTES_MAX && cut.ends_with("x…"), "{cut}");
        assert_eq!(excerpt(&"ü".repeat(EXCERPT_BYTES_MAX)).len(), 255);
    }

    #[test]
    fn a_quantile_is_the_bound_of_its_bucket() {
        let histogram =
            HistogramStatus { bounds_us: vec![10, 20, 30], counts: vec![50, 40, 9, 1], ..HistogramStatus::default() };
        assert_eq!(histogram.quantile_us(500), Some(10));
        assert_eq!(histogram.quantile_us(501), Some(20));
        assert_eq!(histogram.quantile_us(990), Some(30));
        assert_eq!(histogram.quantile_us(991), None, "above all bounds");
        assert_eq!(HistogramStatus::default().quantile_us(500), None);
    }
}
