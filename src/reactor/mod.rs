//! The loop: sole owner of the poll, the clock, the clients and the workers of one reactor.
//!
//! ```text
//!   wait → events → timers → clients that have something to do → queue → links that have something to say → wait
//! ```
//!
//! Everything that can be decided without a system call is decided elsewhere (`http`, `router`, `queue`, `pool`, `request`). There are
//! no globals: several reactors can run side by side, each with its own listeners, clients and workers.

mod backend;
mod clients;
mod drive;
mod frames;
mod listeners;
mod report;
mod workers;

use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use mio::{Events, Interest, Poll, Token};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals;

use crate::app::App;
use crate::http;
use crate::pool::SlotId;

use backend::Backend;
use clients::Clients;
pub use listeners::Bound;
use listeners::Listeners;
pub use report::chain;

/// What the operator set, as far as the loop needs it.
#[derive(Clone, Debug)]
pub struct Settings {
    pub workers: usize,
    pub spare_workers: usize,
    pub worker_binary: PathBuf,
    /// Client connections at a time, over all listeners.
    pub connections_max: usize,
    pub queue_length: usize,
    pub queue_timeout: Duration,
    /// How long a handler may take between two signs of life: the start, its response's head, body bytes either way.
    pub request_timeout: Duration,
    /// From the interruption of a request to the kill of its worker.
    pub kill_grace: Duration,
    /// From the first signal to stop to the end of patience with what is in flight.
    pub shutdown_timeout: Duration,
    pub limits: http::Limits,
    pub timeouts: http::Timeouts,
}

/// Bytes that one read from a client or a worker may bring.
const READ_BYTES: usize = 64 * 1024;

/// Events taken from the kernel in one turn.
const EVENTS_MAX: usize = 1024;

/// What a poll token stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Source {
    Signals,
    Listener(usize),
    Client(usize),
    Link(SlotId),
    Process(SlotId),
}

impl Source {
    const KINDS: usize = 8;

    fn token(self) -> Token {
        let (kind, index) = match self {
            Source::Signals => (0, 0),
            Source::Listener(index) => (1, index),
            Source::Client(index) => (2, index),
            Source::Link(slot) => (3, slot.0 as usize),
            Source::Process(slot) => (4, slot.0 as usize),
        };
        Token(index * Source::KINDS + kind)
    }

    fn of(token: Token) -> Option<Source> {
        let index = token.0 / Source::KINDS;
        Some(match token.0 % Source::KINDS {
            0 => Source::Signals,
            1 => Source::Listener(index),
            2 => Source::Client(index),
            3 => Source::Link(SlotId(index as u32)),
            4 => Source::Process(SlotId(index as u32)),
            _ => return None,
        })
    }
}

/// Where the reactor is between its start and its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// No worker has been ready yet; clients wait in the kernel's backlog.
    Starting,
    Serving,
    /// No new connections; what is in flight may finish until this time.
    Draining {
        until: Instant,
    },
    /// Only the workers' ends are awaited; they are killed at this time.
    Stopping {
        kill_at: Instant,
        killed: bool,
    },
    Stopped,
}

/// One event loop and all that it owns.
#[expect(missing_debug_implementations, reason = "the source of signals has none")]
pub struct Reactor {
    poll: Poll,
    signals: Signals,
    listeners: Listeners,
    clients: Clients,
    backend: Backend,
    phase: Phase,
    scratch: Vec<u8>,
    date: Date,
    kill_grace: Duration,
    shutdown_timeout: Duration,
}

/// Why a reactor could not start or go on.
#[derive(Debug)]
pub enum ReactorError {
    System {
        what: &'static str,
        source: io::Error,
    },
    /// The first worker did not become ready: the next would not either.
    NoWorker {
        reason: String,
    },
}

impl std::fmt::Display for ReactorError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ReactorError::System { what, .. } => write!(f, "cannot {what}"),
            ReactorError::NoWorker { reason } => write!(f, "no worker became ready: {reason}"),
        }
    }
}

impl std::error::Error for ReactorError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ReactorError::System { source, .. } => Some(source),
            ReactorError::NoWorker { .. } => None,
        }
    }
}

impl Reactor {
    /// Takes over listening sockets and the application. Nothing is accepted before the first worker is ready.
    pub fn new(app: App, bound: Vec<Bound>, settings: Settings) -> Result<Reactor, ReactorError> {
        let system = |what| move |source| ReactorError::System { what, source };
        let poll = Poll::new().map_err(system("make a poll"))?;
        let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(system("take over signals"))?;
        poll.registry()
            .register(&mut signals, Source::Signals.token(), Interest::READABLE)
            .map_err(system("wait for signals"))?;
        let context = Rc::new(http::Context::new(settings.limits.clone(), settings.timeouts.clone()));
        let clock = Clock::read();
        let mut date = Date::default();
        date.refresh(clock, &context);
        Ok(Reactor {
            poll,
            signals,
            listeners: Listeners::new(bound),
            clients: Clients::new(context, settings.connections_max),
            backend: Backend::new(app, &settings, clock.now, clock.seed()),
            phase: Phase::Starting,
            scratch: vec![0; READ_BYTES],
            date,
            kill_grace: settings.kill_grace,
            shutdown_timeout: settings.shutdown_timeout,
        })
    }

    /// Serves until a signal ends it and everything in flight is done.
    pub fn run(&mut self) -> Result<(), ReactorError> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut clock = Clock::read();
        self.start_workers(clock.now)?;
        self.backend.flush_links(self.poll.registry());
        while self.phase != Phase::Stopped {
            self.wait(&mut events, clock.now)?;
            clock = Clock::read();
            self.date.refresh(clock, self.clients.context());
            self.clients.begin_turn();
            for event in &events {
                self.handle_event(event, clock.now)?;
            }
            self.read_unread_links(clock.now);
            self.accept(clock.now);
            self.handle_timers(clock.now);
            self.drive_clients(clock.now);
            self.backend.dispatch(&mut self.clients, clock.now);
            self.start_workers(clock.now)?;
            self.advance_phase(clock.now);
            self.backend.flush_links(self.poll.registry());
        }
        Ok(())
    }

    fn wait(&mut self, events: &mut Events, now: Instant) -> Result<(), ReactorError> {
        let timeout = if self.clients.have_work() || self.backend.has_work() || self.listeners.have_work() {
            Some(Duration::ZERO)
        } else {
            self.next_deadline().map(|at| at.saturating_duration_since(now))
        };
        match self.poll.poll(events, timeout) {
            Err(source) if source.kind() != io::ErrorKind::Interrupted => {
                Err(ReactorError::System { what: "wait for events", source })
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Starting | Phase::Serving | Phase::Stopped => None,
            Phase::Draining { until } => Some(until),
            Phase::Stopping { kill_at, killed } => (!killed).then_some(kill_at),
        };
        [phase, self.clients.next_deadline(), self.backend.next_deadline(), self.listeners.next_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    fn handle_event(&mut self, event: &mio::event::Event, now: Instant) -> Result<(), ReactorError> {
        match Source::of(event.token()) {
            Some(Source::Signals) => self.handle_signals(now),
            Some(Source::Listener(index)) => self.listeners.handle_readable(index),
            Some(Source::Client(index)) => self.clients.handle_event(index, event),
            Some(Source::Link(slot)) => self.handle_link(slot, now),
            Some(Source::Process(slot)) => self.handle_process(slot, now)?,
            None => {}
        }
        Ok(())
    }

    fn handle_timers(&mut self, now: Instant) {
        self.listeners.handle_timers(now);
        self.clients.handle_timers(now);
        while let Some(slot) = self.backend.timers.pop(now) {
            self.handle_request_timer(slot, now);
        }
        self.backend.shed_expired(&mut self.clients, now);
        self.backend.kill_overdue(now);
    }

    fn handle_signals(&mut self, now: Instant) {
        for signal in self.signals.pending().collect::<Vec<_>>() {
            let name = if signal == SIGTERM { "SIGTERM" } else { "SIGINT" };
            match self.phase {
                Phase::Starting | Phase::Serving => {
                    log::info!("{name}: finishing {} requests in flight", self.backend.in_flight());
                    self.listeners.close(self.poll.registry());
                    // A request that has reached this machine is served: only then are the idle connections known.
                    self.clients.touch_all();
                    self.drive_clients(now);
                    self.clients.begin_drain();
                    self.phase = Phase::Draining { until: now + self.shutdown_timeout };
                }
                Phase::Draining { .. } => {
                    log::warn!("{name} again: not waiting any longer");
                    self.phase = Phase::Draining { until: now };
                }
                Phase::Stopping { killed, .. } => self.phase = Phase::Stopping { kill_at: now, killed },
                Phase::Stopped => {}
            }
        }
    }

    fn advance_phase(&mut self, now: Instant) {
        match self.phase {
            Phase::Starting | Phase::Serving | Phase::Stopped => {}
            Phase::Draining { until } => {
                let idle = self.clients.is_empty() && self.backend.in_flight() == 0;
                if idle || until <= now {
                    if !idle {
                        let (clients, requests) = (self.clients.len(), self.backend.in_flight());
                        log::warn!("shutdown-timeout-ms passed: cutting {clients} connections, {requests} requests");
                    }
                    self.clients.cut_all(self.poll.registry());
                    self.backend.drain_workers();
                    self.phase = Phase::Stopping { kill_at: now + self.kill_grace, killed: false };
                    self.advance_phase(now);
                }
            }
            Phase::Stopping { kill_at, killed } => {
                if self.backend.workers_alive() == 0 {
                    self.phase = Phase::Stopped;
                } else if kill_at <= now && !killed {
                    self.backend.kill_all();
                    self.phase = Phase::Stopping { kill_at, killed: true };
                }
            }
        }
    }
}

/// The time of one turn of the loop. Read once, passed to everything.
#[derive(Clone, Copy, Debug)]
struct Clock {
    now: Instant,
    wall: SystemTime,
}

impl Clock {
    #[allow(clippy::disallowed_methods, reason = "the reactor owns the clock")]
    fn read() -> Clock {
        Clock { now: Instant::now(), wall: SystemTime::now() }
    }

    /// Differs between two runs, so that request ids in a log that spans both are not confused.
    fn seed(self) -> u64 {
        self.wall.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
    }
}

/// The `Date` field of responses, made anew once a second (RFC 9110, section 6.6.1).
#[derive(Debug, Default)]
struct Date {
    second: u64,
}

impl Date {
    fn refresh(&mut self, clock: Clock, context: &http::Context) {
        let second = clock.seed() / 1000;
        if second != self.second {
            self.second = second;
            let text = httpdate::fmt_http_date(clock.wall);
            if let Ok(text) = text.as_bytes().try_into() {
                context.set_date(text);
            }
        }
    }
}
