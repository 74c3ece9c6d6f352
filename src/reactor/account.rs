//! What is told of requests that are over: counters, and lines of the access log.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use rusmd_proto::RequestHead;

use crate::answer::Answer;
use crate::control::counters::Outcome;
use crate::http::{self, PublicId, Version};
use crate::logs::AccessEntry;
use crate::request::Request;

use super::backend::Backend;
use super::downloads::Asked;
use super::{Clock, Reactor};

/// A request that no worker has seen: it was refused, or the supervisor has answered it.
#[derive(Debug)]
pub(super) struct Unrouted {
    id: PublicId,
    peer: Option<SocketAddr>,
    status: u16,
    outcome: Outcome,
    /// Of the response's body.
    bytes: u64,
    /// When its head was there and when its response was over, if that took time.
    span: Option<(Instant, Instant)>,
    generation: u64,
    /// What the access log tells of it, when there is one and there was a head.
    head: Option<Box<Told>>,
}

/// What the access log tells of a head.
#[derive(Debug)]
pub(super) struct Told {
    method: String,
    target: String,
    version: Version,
    referer: Option<Vec<u8>>,
    user_agent: Option<Vec<u8>>,
}

impl Backend {
    /// A request was answered before it could have been given to a worker.
    pub(super) fn note_answered(
        &mut self,
        id: PublicId,
        peer: Option<SocketAddr>,
        head: &http::RequestHead<'_>,
        answer: &Answer,
    ) {
        let told = self.told(head);
        self.push_unrouted(id, peer, answer.status, answer.outcome(), told);
    }

    /// What will be told of this head, if anything.
    pub(super) fn told(&self, head: &http::RequestHead<'_>) -> Option<Box<Told>> {
        let field = |name: &str| head.headers.find(name).map(<[u8]>::to_vec);
        self.tells_access.then(|| {
            Box::new(Told {
                method: head.method.to_owned(),
                target: target(head.path, head.query),
                version: head.version,
                referer: field("referer"),
                user_agent: field("user-agent"),
            })
        })
    }

    fn push_unrouted(
        &mut self,
        id: PublicId,
        peer: Option<SocketAddr>,
        status: u16,
        outcome: Outcome,
        head: Option<Box<Told>>,
    ) {
        let generation = self.number;
        self.unrouted.push(Unrouted { id, peer, status, outcome, bytes: 0, span: None, generation, head });
    }

    /// The response with a file is over, or will not be.
    pub(super) fn note_download(&mut self, asked: Asked, status: u16, bytes: u64, outcome: Outcome, now: Instant) {
        let Asked { id, peer, began, generation, told: head } = asked;
        self.unrouted.push(Unrouted { id, peer, status, outcome, bytes, span: Some((began, now)), generation, head });
    }

    /// What a client sent was no request.
    pub(super) fn note_refused(&mut self, id: PublicId, peer: Option<SocketAddr>, status: u16) {
        self.push_unrouted(id, peer, status, Outcome::Malformed, None);
    }
}

impl Reactor<'_> {
    /// Accounts for what has ended in this turn.
    pub(super) fn account(&mut self, clock: Clock) {
        let monotonic = self.origin_ns + nanoseconds(clock.now.saturating_duration_since(self.started_at));
        let writes = self.logs.has_access_log();
        for backend in self.generations.iter_mut() {
            backend.tells_access = writes;
            self.counters.dispatched_again += std::mem::take(&mut backend.dispatched_again);
            for unrouted in backend.unrouted.drain(..) {
                self.counters.handle_request_end(unrouted.outcome, Some(unrouted.status), unrouted.total());
                if writes {
                    self.logs.push(&unrouted.entry(clock));
                }
            }
            let mut finished = std::mem::take(&mut backend.finished);
            for request in finished.drain(..) {
                let times = Times::of(&request, clock.now, monotonic);
                let outcome = request.trace.outcome.unwrap_or(Outcome::ClientLeft);
                let status = Some(request.trace.status).filter(|status| *status != 0);
                self.counters.handle_request_end(outcome, status, times.total);
                if request.trace.handed.is_some() {
                    self.counters.handle_dispatch(times.queue);
                }
                // What its client is to blame for is no failure of a component.
                let is_failure = !matches!(outcome, Outcome::Served | Outcome::ClientLeft | Outcome::Malformed);
                backend.tally.count(request.component, is_failure, outcome == Outcome::WorkerDied);
                if writes && let Some(head) = request.head() {
                    let name = backend.app.component_name(head.component);
                    let target = target(head.path, head.query);
                    let ended = Ended {
                        request: &request,
                        head: &head,
                        target: &target,
                        outcome,
                        times,
                        generation: backend.number,
                        component: name,
                        began: clock.wall.checked_sub(times.age).unwrap_or(clock.wall),
                    };
                    self.logs.push(&ended.entry());
                }
                backend.recycle(request);
            }
            backend.finished = finished;
        }
    }
}

/// How long the parts of a request took.
#[derive(Clone, Copy, Debug)]
struct Times {
    /// Since its head was complete.
    age: Duration,
    total: Duration,
    queue: Duration,
    dispatch: Duration,
    run: Duration,
}

impl Times {
    fn of(request: &Request, now: Instant, now_ns: u64) -> Times {
        let trace = &request.trace;
        let end = trace.answered.unwrap_or(now);
        let queued = trace.queued.unwrap_or(request.admitted);
        let handed = trace.handed.unwrap_or(end).max(queued);
        // The worker's word counts within what is possible.
        let started = match trace.started_ns {
            0 => end,
            ns => (now - Duration::from_nanos(now_ns.saturating_sub(ns)).min(now - handed)).min(end.max(handed)),
        };
        Times {
            age: now.saturating_duration_since(request.admitted),
            total: end.saturating_duration_since(request.admitted),
            queue: handed.saturating_duration_since(queued),
            dispatch: started.saturating_duration_since(handed),
            run: end.saturating_duration_since(started),
        }
    }
}

/// A request that is over, with all that the access log tells of it.
struct Ended<'a> {
    request: &'a Request,
    head: &'a RequestHead<'a>,
    target: &'a str,
    outcome: Outcome,
    times: Times,
    generation: u64,
    component: Option<&'a str>,
    /// When its head was there.
    began: SystemTime,
}

impl<'a> Ended<'a> {
    fn entry(&self) -> AccessEntry<'a> {
        let Ended { request, head, target, outcome, times, generation, component, began } = *self;
        let trace = &request.trace;
        let field = |name: &str| head.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        AccessEntry {
            time: began,
            peer: head.peer,
            id: request.name.as_str(),
            method: head.method.as_bytes(),
            target: target.as_bytes(),
            version: trace.version.as_str(),
            status: trace.status,
            bytes: trace.body_bytes,
            referer: field("referer"),
            user_agent: field("user-agent"),
            total: times.total,
            queue: times.queue,
            dispatch: times.dispatch,
            run: times.run,
            worker: Some(trace.pid).filter(|pid| *pid != 0),
            generation,
            component,
            action: head.action,
            started: trace.started_ns != 0,
            outcome,
        }
    }
}

impl Unrouted {
    fn total(&self) -> Duration {
        self.span.map_or(Duration::ZERO, |(began, ended)| ended.saturating_duration_since(began))
    }

    fn entry(&self, clock: Clock) -> AccessEntry<'_> {
        let told = self.head.as_deref();
        let age = self.span.map_or(Duration::ZERO, |(began, _)| clock.now.saturating_duration_since(began));
        AccessEntry {
            time: clock.wall.checked_sub(age).unwrap_or(clock.wall),
            peer: self.peer,
            id: self.id.as_str(),
            method: told.map_or(b"", |told| told.method.as_bytes()),
            target: told.map_or(b"", |told| told.target.as_bytes()),
            version: told.map_or("", |told| told.version.as_str()),
            status: self.status,
            bytes: self.bytes,
            referer: told.and_then(|told| told.referer.as_deref()),
            user_agent: told.and_then(|told| told.user_agent.as_deref()),
            total: self.total(),
            queue: Duration::ZERO,
            dispatch: Duration::ZERO,
            run: Duration::ZERO,
            worker: None,
            generation: self.generation,
            component: None,
            action: None,
            started: false,
            outcome: self.outcome,
        }
    }
}

fn target(path: &str, query: Option<&str>) -> String {
    query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"))
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What each component has come to.
#[derive(Debug, Default)]
pub(super) struct Tally(Vec<ComponentTally>);

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ComponentTally {
    pub requests: u64,
    pub failures: u64,
    pub deaths: u64,
}

impl Tally {
    fn count(&mut self, component: u16, is_failure: bool, is_death: bool) {
        let at = usize::from(component);
        if self.0.len() <= at {
            self.0.resize(at + 1, ComponentTally::default());
        }
        let tally = &mut self.0[at];
        tally.requests += 1;
        tally.failures += u64::from(is_failure);
        tally.deaths += u64::from(is_death);
    }

    pub fn of(&self, component: u16) -> ComponentTally {
        self.0.get(usize::from(component)).copied().unwrap_or_default()
    }
}

impl Reactor<'_> {
    /// A number that differs between two generations and two runs.
    pub(super) fn seed(&self) -> u64 {
        Clock::read().seed()
    }
}
