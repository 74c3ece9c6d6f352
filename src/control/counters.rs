//! Owns what is counted while the server runs: fixed arrays, indexed by enums, so that counting on a request's path is an addition and
//! never an allocation, a look-up or a lock.
//!
//! The reactor counts and asks [`Counters::fill`] when somebody wants the [`Status`].

use std::collections::BTreeMap;
use std::time::Duration;

use crate::http::Version;

use super::status::{Attempts, HistogramStatus, Status};

/// An enum whose variants have a name each, and a list of them all.
macro_rules! named {
    ($(#[$meta:meta])* pub enum $enum:ident { $($(#[$doc:meta])* $variant:ident = $name:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum $enum { $($(#[$doc])* $variant,)+ }

        impl $enum {
            pub const ALL: &[$enum] = &[$($enum::$variant),+];

            /// The name in the status, the metrics and the logs.
            pub const fn name(self) -> &'static str {
                match self { $($enum::$variant => $name,)+ }
            }
        }
    };
}

named! {
    /// What became of a request. One for each request, whatever its client has seen of it.
    pub enum Outcome {
        /// The guest's own response, or what there is of a file, was sent to its end, whatever its status.
        Served = "served",
        /// Answered by the router: 404, 405, an answer to OPTIONS; or a file that is not there.
        Unrouted = "unrouted",
        /// 500: the route leads to nothing that could be loaded.
        BrokenRoute = "broken-route",
        /// 400, 408, 413, 414, 417, 431, 501, 505: not a request that could be served.
        Malformed = "malformed",
        Trap = "trap",
        MemoryLimit = "memory-limit",
        NoResponse = "no-response",
        InvalidResponse = "invalid-response",
        /// The worker could not run it, and the guest is not to blame; or a file could not be read.
        InternalError = "internal-error",
        /// 504: the handler's time was over.
        TimedOut = "timed-out",
        /// 502: its worker died after it had started.
        WorkerDied = "worker-died",
        /// 503: no place in the queue.
        QueueFull = "queue-full",
        /// 503: it had waited too long.
        QueueTimeout = "queue-timeout",
        /// 503: its component rests.
        Suspended = "suspended",
        /// Refused: such a request has killed workers.
        Poisoned = "poisoned",
        /// The client left before its response was complete, or before it started.
        ClientLeft = "client-left",
        /// Cut by a stop that did not wait any longer.
        Stopped = "stopped",
    }
}

named! {
    /// Why a worker's process ended and its place became free.
    pub enum RestartReason {
        /// A fatal signal that it raised itself, or an exit that nobody had asked for.
        Crashed = "crashed",
        /// SIGKILL from outside: the kernel for want of memory, or an operator.
        Killed = "killed",
        /// It did not let go of an interrupted request, and was killed.
        Hung = "hung",
        MaxRequests = "max-requests",
        MaxAge = "max-age",
        /// It had grown beyond its limit.
        Memory = "memory",
        /// A trap, where a trap costs the process.
        Trap = "trap",
        /// It broke the protocol, and was killed.
        Protocol = "protocol",
        ScaledDown = "scaled-down",
        /// Its generation was replaced.
        Reload = "reload",
        /// It ended before it was ready, or was not ready in time.
        StartFailed = "start-failed",
        Other = "other",
    }
}

named! {
    /// The first digit of a status.
    pub enum StatusClass {
        Informational = "1xx",
        Success = "2xx",
        Redirection = "3xx",
        ClientError = "4xx",
        ServerError = "5xx",
    }
}

impl StatusClass {
    pub const fn of(status: u16) -> StatusClass {
        match status {
            ..200 => StatusClass::Informational,
            200..300 => StatusClass::Success,
            300..400 => StatusClass::Redirection,
            400..500 => StatusClass::ClientError,
            500.. => StatusClass::ServerError,
        }
    }
}

/// The upper bounds of all histograms of durations, inclusive: 0.1 ms to 60 s.
pub const BOUNDS_US: [u64; 18] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// How durations are distributed.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    counts: [u64; BOUNDS_US.len() + 1],
    sum_us: u64,
}

impl Histogram {
    pub fn record(&mut self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.partition_point(|bound| *bound < us);
        self.counts[bucket] += 1;
        self.sum_us = self.sum_us.saturating_add(us);
    }

    pub fn status(&self) -> HistogramStatus {
        HistogramStatus { bounds_us: BOUNDS_US.to_vec(), counts: self.counts.to_vec(), sum_us: self.sum_us }
    }
}

/// Everything that is counted over the life of the supervisor.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    outcomes: [u64; Outcome::ALL.len()],
    classes: [u64; StatusClass::ALL.len()],
    versions: [u64; Version::ALL.len()],
    restarts: [u64; RestartReason::ALL.len()],
    durations: Histogram,
    waits: Histogram,
    pub dispatched_again: u64,
    pub connections_accepted: u64,
    /// Connections that went over to HTTP/2.
    pub connections_http2: u64,
    pub connections_refused: u64,
    /// Connections that did not get as far as HTTP: no header of the PROXY protocol, or no TLS.
    pub openings_failed: u64,
    pub reloads: Attempts,
    pub upgrades: Attempts,
    pub template_restarts: u64,
}

impl Counters {
    /// A request is over. `status` is what its client was sent, or would have been; `None` when no answer was made. `duration` counts
    /// from the end of its head.
    pub fn handle_request_end(&mut self, outcome: Outcome, status: Option<u16>, duration: Duration) {
        self.outcomes[outcome as usize] += 1;
        if let Some(status) = status {
            self.classes[StatusClass::of(status) as usize] += 1;
        }
        self.durations.record(duration);
    }

    /// A request has come in this version of HTTP.
    pub fn handle_version(&mut self, version: Version) {
        self.versions[version as usize] += 1;
    }

    /// A worker was given a request that had waited this long.
    pub fn handle_dispatch(&mut self, waited: Duration) {
        self.waits.record(waited);
    }

    /// A worker's process has ended.
    pub fn handle_restart(&mut self, reason: RestartReason) {
        self.restarts[reason as usize] += 1;
    }

    pub fn requests(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize]
    }

    pub fn restarts(&self, reason: RestartReason) -> u64 {
        self.restarts[reason as usize]
    }

    /// Puts what was counted into its places in the status.
    pub fn fill(&self, status: &mut Status) {
        let totals = &mut status.totals;
        totals.requests = by_name(Outcome::ALL.iter().map(|outcome| outcome.name()), &self.outcomes);
        totals.responses = by_name(StatusClass::ALL.iter().map(|class| class.name()), &self.classes);
        totals.versions = by_name(Version::ALL.iter().map(|version| version.as_str()), &self.versions);
        totals.durations = self.durations.status();
        totals.dispatched_again = self.dispatched_again;
        totals.connections_accepted = self.connections_accepted;
        totals.connections_http2 = self.connections_http2;
        totals.connections_refused = self.connections_refused;
        totals.openings_failed = self.openings_failed;
        totals.reloads = self.reloads;
        totals.upgrades = self.upgrades;
        totals.template_restarts = self.template_restarts;
        status.restarts = by_name(RestartReason::ALL.iter().map(|reason| reason.name()), &self.restarts);
        status.queue.waits = self.waits.status();
    }
}

fn by_name(names: impl Iterator<Item = &'static str>, counts: &[u64]) -> BTreeMap<String, u64> {
    names.map(str::to_owned).zip(counts.iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_counted_at_its_bound_and_not_above() {
        let mut histogram = Histogram::default();
        histogram.record(Duration::ZERO);
        histogram.record(Duration::from_micros(100));
        histogram.record(Duration::from_micros(101));
        histogram.record(Duration::from_secs(60));
        histogram.record(Duration::from_micros(60_000_001));
        let status = histogram.status();
        assert_eq!((status.counts[0], status.counts[1]), (2, 1));
        assert_eq!((status.counts[BOUNDS_US.len() - 1], status.counts[BOUNDS_US.len()]), (1, 1));
        assert_eq!((status.count(), status.sum_us), (5, 120_000_202));
    }

    #[test]
    fn a_duration_beyond_all_measure_does_not_overflow_the_sum() {
        let mut histogram = Histogram::default();
        histogram.record(Duration::MAX);
        histogram.record(Duration::MAX);
        assert_eq!((histogram.status().sum_us, histogram.status().count()), (u64::MAX, 2));
    }

    #[test]
    fn names_are_unique_and_each_count_goes_to_its_own() {
        let mut counters = Counters::default();
        for (times, outcome) in Outcome::ALL.iter().enumerate() {
            for _ in 0..=times {
                counters.handle_request_end(*outcome, Some(200), Duration::ZERO);
            }
        }
        for reason in RestartReason::ALL {
            counters.handle_restart(*reason);
        }
        counters.handle_restart(RestartReason::Hung);
        let mut status = Status::default();
        counters.fill(&mut status);
        assert_eq!(status.totals.requests.len(), Outcome::ALL.len());
        for (times, outcome) in Outcome::ALL.iter().enumerate() {
            assert_eq!(status.totals.requests.get(outcome.name()), Some(&(times as u64 + 1)), "{outcome:?}");
        }
        assert_eq!(status.restarts.len(), RestartReason::ALL.len());
        assert_eq!((status.restarts["hung"], status.restarts["crashed"]), (2, 1));
    }

    #[test]
    fn responses_are_counted_by_the_first_digit() {
        let mut counters = Counters::default();
        for status in [100, 199, 200, 204, 299, 302, 404, 499, 500, 599, 999] {
            counters.handle_request_end(Outcome::Served, Some(status), Duration::ZERO);
        }
        counters.handle_request_end(Outcome::ClientLeft, None, Duration::ZERO);
        let mut status = Status::default();
        counters.fill(&mut status);
        let classes: Vec<_> = status.totals.responses.iter().map(|(name, count)| (name.as_str(), *count)).collect();
        assert_eq!(classes, [("1xx", 2), ("2xx", 3), ("3xx", 1), ("4xx", 2), ("5xx", 3)]);
        assert_eq!(status.totals.durations.count(), 12);
    }
}
