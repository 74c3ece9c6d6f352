//! The loop: sole owner of the poll, the clock, the clients and the workers of one reactor.
//!
//! ```text
//!   wait → events → timers → clients that have something to do → queue → links that have something to say → wait
//! ```
//!
//! Everything that can be decided without a system call is decided elsewhere (`http`, `router`, `queue`, `pool`, `blame`, `request`). There
//! are no globals: several reactors can run side by side, each with its own listeners, clients and workers.

mod account;
mod admin;
mod backend;
mod begin;
mod chatter;
mod clients;
mod clock;
mod control;
mod deaths;
mod dispatch;
mod downloads;
mod drive;
mod footprint;
mod frames;
mod generation;
mod holding;
mod listeners;
mod neighbours;
mod open;
mod reload;
mod renewal;
mod reply;
mod report;
mod settings;
mod signals;
mod source;
mod standstill;
mod status;
mod succession;
mod template;
mod transfer;
mod turns;
mod upgrade;
mod uploads;
mod workers;

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll};
use signal_hook_mio::v1_0::Signals;

use crate::app::App;
use crate::bind::Bound;
use crate::config::Server;
use crate::control::counters::Counters;
use crate::daemon::{Daemon, PidfileError};
use crate::http;
use crate::logs::Logs;

use clients::Clients;
use clock::{Clock, Date};
use deaths::Deaths;
pub use footprint::Footprint;
use generation::{Generations, Progress};
use listeners::Listeners;
pub use reload::Origin;
use reload::Reload;
use renewal::Queued;
pub use report::chain;
pub use settings::Settings;
use source::Source;
pub use succession::Predecessor;
use template::TemplateEnd;
use upgrade::Upgrade;

/// Bytes that one read from a client or a worker may bring.
const READ_BYTES: usize = 64 * 1024;

/// Events taken from the kernel in one turn.
const EVENTS_MAX: usize = 1024;

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

/// What a reactor is made of.
#[expect(missing_debug_implementations, reason = "the logs have none")]
pub struct Parts<'d> {
    pub app: App,
    pub bound: Vec<Bound>,
    /// Where metrics are to be had.
    pub admin: Vec<Bound>,
    /// Unix sockets of the predecessor whose files are to be removed at the end.
    pub socket_files: Vec<PathBuf>,
    pub settings: Settings,
    pub origin: Origin,
    /// The supervisor that this one takes over from.
    pub predecessor: Option<Predecessor>,
    /// Its control socket.
    pub control: Option<(OwnedFd, PathBuf)>,
    pub daemon: &'d mut Daemon,
    pub logs: Logs,
}

/// One event loop and all that it owns.
#[expect(missing_debug_implementations, reason = "the source of signals has none")]
pub struct Reactor<'d> {
    poll: Poll,
    signals: Signals,
    listeners: Listeners,
    clients: Clients,
    generations: Generations,
    phase: Phase,
    reload: Option<Reload>,
    /// A reload waits until there is a place for another generation, at most until then.
    reload_waits_until: Option<Instant>,
    /// The workers are sent away, or go, until an operator wants them back.
    is_resting: bool,
    upgrade: Option<Upgrade>,
    queued: Queued,
    predecessor: Option<Predecessor>,
    /// Files of Unix sockets that are the predecessor's until this process serves.
    socket_files: Vec<PathBuf>,
    /// What a reload changes nothing of is as the first manifest has it.
    fixed: Server,
    is_stopping_fast: bool,
    control: control::Control,
    admin: admin::Admin,
    origin: Origin,
    daemon: &'d mut Daemon,
    logs: Logs,
    counters: Counters,
    deaths: Deaths,
    /// There may be children that nobody waits for.
    strangers: bool,
    scratch: Vec<u8>,
    date: Date,
    started_at: Instant,
    /// `started_at` by the clock that workers read.
    origin_ns: u64,
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
    /// It would serve nothing, or less than the one that it was to take over from.
    Unfit {
        reason: String,
    },
    /// Nobody could tell it anything.
    Pidfile(PidfileError),
}

impl std::fmt::Display for ReactorError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ReactorError::System { what, .. } => write!(f, "cannot {what}"),
            ReactorError::NoWorker { reason } => write!(f, "no worker became ready: {reason}"),
            ReactorError::Unfit { reason } => f.write_str(reason),
            // It has nothing to add.
            ReactorError::Pidfile(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ReactorError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ReactorError::System { source, .. } => Some(source),
            ReactorError::Pidfile(error) => error.source(),
            ReactorError::NoWorker { .. } | ReactorError::Unfit { .. } => None,
        }
    }
}

impl<'d> Reactor<'d> {
    /// Takes over listening sockets and the application. Nothing is accepted before the first worker is ready.
    pub fn new(parts: Parts<'d>) -> Result<Reactor<'d>, ReactorError> {
        let Parts { app, bound, admin, socket_files, settings, origin, predecessor, control, daemon, logs } = parts;
        let system = |what| move |source| ReactorError::System { what, source };
        let poll = Poll::new().map_err(system("make a poll"))?;
        crate::sys::adopt_orphans().map_err(system("become the parent of workers"))?;
        let mut signals = Signals::new(signals::HANDLED).map_err(system("take over signals"))?;
        poll.registry()
            .register(&mut signals, Source::Signals.token(), Interest::READABLE)
            .map_err(system("wait for signals"))?;
        let fixed = app.config().server.clone();
        let context = Rc::new(http::Context::new(settings.limits.clone(), settings.timeouts.clone()));
        let (clock, origin_ns) = (Clock::read(), crate::sys::monotonic_ns());
        let mut date = Date::default();
        date.refresh(clock, &context);
        let control =
            control::Control::open(&app, control, poll.registry()).map_err(system("make the control socket"))?;
        let mut admin = admin::Admin::new(admin);
        if predecessor.is_none() {
            admin.open(poll.registry()).map_err(system("wait for connections to the admin listener"))?;
        }
        Ok(Reactor {
            poll,
            signals,
            listeners: Listeners::new(bound),
            generations: Generations::new(app, &settings, context.ids().clone(), clock.now, clock.seed()),
            clients: Clients::new(context, settings.connections_max, settings.connections_per_address_max),
            phase: Phase::Starting,
            reload: None,
            reload_waits_until: None,
            is_resting: false,
            upgrade: None,
            queued: Queued::default(),
            predecessor,
            socket_files,
            fixed,
            is_stopping_fast: false,
            control,
            admin,
            origin,
            daemon,
            logs,
            counters: Counters::default(),
            deaths: Deaths::default(),
            strangers: false,
            scratch: vec![0; READ_BYTES],
            date,
            started_at: clock.now,
            origin_ns,
            kill_grace: settings.kill_grace,
            shutdown_timeout: settings.shutdown_timeout,
        })
    }

    /// Serves until a signal ends it and everything in flight is done.
    pub fn run(&mut self) -> Result<(), ReactorError> {
        let served = self.turn_until_stopped();
        self.account(Clock::read());
        self.logs.flush_all(Clock::read().now);
        self.control.remove();
        served
    }

    fn turn_until_stopped(&mut self) -> Result<(), ReactorError> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut clock = Clock::read();
        self.start_templates(clock.now)?;
        while self.phase != Phase::Stopped {
            let due = self.due(clock.now);
            self.wait(&mut events, due, clock.now)?;
            let last = clock.now;
            clock = Clock::read();
            self.notice_standstill(due, last, clock.now);
            self.date.refresh(clock, self.clients.context());
            self.clients.begin_turn();
            for event in &events {
                self.handle_event(event, clock.now)?;
            }
            for backend in self.generations.iter_mut() {
                backend.read_unread_links(&mut self.scratch, &mut self.clients, clock.now);
            }
            self.accept(clock.now);
            self.handle_timers(clock.now);
            self.drive_clients(clock.now);
            for backend in self.generations.iter_mut() {
                backend.retire_workers(clock.now);
                backend.dispatch(&mut self.clients, clock.now);
            }
            self.start_templates(clock.now)?;
            self.advance(clock)?;
            for backend in self.generations.iter_mut() {
                backend.flush_links(self.poll.registry());
            }
            self.account(clock);
            self.logs.flush(clock.now);
        }
        Ok(())
    }

    /// When the next turn begins at the latest.
    fn due(&self, now: Instant) -> Option<Instant> {
        let has_work = self.clients.have_work()
            || self.generations.iter().any(backend::Backend::has_work)
            || (self.listeners.have_work() && self.phase == Phase::Serving)
            || self.control.has_work()
            || self.admin.has_work();
        if has_work {
            return Some(now);
        }
        let deadline = self.next_deadline(now)?;
        Some(deadline.min(now + standstill::HEARTBEAT))
    }

    fn wait(&mut self, events: &mut Events, due: Option<Instant>, now: Instant) -> Result<(), ReactorError> {
        match self.poll.poll(events, due.map(|due| due.saturating_duration_since(now))) {
            Err(source) if source.kind() != io::ErrorKind::Interrupted => {
                Err(ReactorError::System { what: "wait for events", source })
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Starting | Phase::Serving | Phase::Stopped => None,
            Phase::Draining { until } => Some(until),
            Phase::Stopping { kill_at, killed } => (!killed).then_some(kill_at),
        };
        [
            phase,
            self.clients.next_deadline(),
            self.generations.next_deadline(),
            self.listeners.next_deadline(),
            self.reload.as_ref().and_then(Reload::deadline),
            self.reload_waits_until,
            self.upgrade.as_ref().and_then(Upgrade::deadline),
            self.control.next_deadline(),
            self.admin.next_deadline(),
            self.logs.next_deadline(now),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn handle_event(&mut self, event: &mio::event::Event, now: Instant) -> Result<(), ReactorError> {
        let (registry, scratch, clients) = (self.poll.registry(), &mut self.scratch, &mut self.clients);
        match Source::of(event.token()) {
            Some(Source::Signals) => self.handle_signals(now),
            Some(Source::Listener(index)) => self.listeners.handle_readable(index),
            Some(Source::Client(index)) => self.clients.handle_event(index, event),
            Some(Source::Link(member)) => {
                if let Some(backend) = self.generations.get_mut(member.generation) {
                    backend.handle_link(member.slot, scratch, clients, now);
                }
            }
            Some(Source::Process(member)) => self.handle_process(member, now),
            Some(Source::TemplateLink(generation)) => {
                let known = self.generations.pids();
                if let Some(backend) = self.generations.get_mut(generation) {
                    backend.handle_template_link(&known, registry, scratch, now);
                    self.strangers |= std::mem::take(&mut backend.has_strays);
                }
            }
            Some(Source::TemplateProcess(generation)) => {
                let known = self.generations.pids();
                let Some(backend) = self.generations.get_mut(generation) else { return Ok(()) };
                let end = backend.handle_template_process(&known, registry, scratch, &mut self.counters, now);
                // What it was forking when it ended may be nobody's.
                self.strangers = true;
                if let Some(end) = end {
                    self.handle_template_end(generation, end, now)?;
                }
            }
            Some(Source::Compiler) => self.handle_compiler(now),
            Some(Source::Control(place)) => self.control.handle_event(place, event, now),
            Some(Source::AdminListener(index)) => self.admin.handle_listener_event(index),
            Some(Source::Admin(place)) => self.admin.handle_event(place, event),
            Some(Source::SuccessorLink) => self.handle_successor(now),
            Some(Source::SuccessorProcess) => self.handle_successor_process(now),
            Some(Source::Predecessor) => self.handle_predecessor(now),
            None => {}
        }
        Ok(())
    }

    /// A worker's process may have ended.
    fn handle_process(&mut self, member: source::Member, now: Instant) {
        let (registry, scratch, clients) = (self.poll.registry(), &mut self.scratch, &mut self.clients);
        if let Some(backend) = self.generations.get_mut(member.generation)
            && let Some(death) = backend.handle_process(member.slot, registry, scratch, clients, now)
        {
            self.counters.handle_restart(death.reason);
            self.deaths.push(death);
            self.strangers = true;
        }
    }

    fn handle_template_end(
        &mut self,
        generation: crate::request::GenerationId,
        end: TemplateEnd,
        now: Instant,
    ) -> Result<(), ReactorError> {
        let reason = match end {
            TemplateEnd::Replaced => return Ok(()),
            TemplateEnd::LoadingKilled { component, reason } => {
                log::error!("{reason}");
                let is_next = self.reload.as_ref().and_then(Reload::generation) == Some(generation);
                // What serves elsewhere now had better go on there.
                let is_successor = self.phase == Phase::Starting && self.predecessor.is_some();
                if let Some(backend) = self.generations.get_mut(generation).filter(|_| !is_next && !is_successor) {
                    backend.suspend_unloaded(component, now);
                    return Ok(());
                }
                reason
            }
            TemplateEnd::Failed { reason } => reason,
        };
        if self.reload.as_ref().and_then(Reload::generation) == Some(generation) {
            self.fail_reload(format!("no template became ready: {reason}"), now);
            return Ok(());
        }
        if self.phase == Phase::Starting {
            return Err(ReactorError::NoWorker { reason });
        }
        log::error!("no template becomes ready: {reason}");
        Ok(())
    }

    /// Reaps children that nobody waits for. One that a template has forked and not told of yet is not known either, and has to be there when it does.
    fn reap_strangers(&mut self) {
        if !self.strangers || self.generations.iter().any(backend::Backend::awaits_forks) {
            return;
        }
        let known = self.generations.pids();
        let successor = self.upgrade.as_ref().map(Upgrade::pid);
        let compiler = self.reload.as_ref().and_then(Reload::compiler_pid);
        self.strangers =
            crate::sys::reap_strangers(|pid| known.contains(&pid) || Some(pid) == successor || Some(pid) == compiler);
    }

    /// Starts the templates and the workers that are missing.
    fn start_templates(&mut self, now: Instant) -> Result<(), ReactorError> {
        let registry = self.poll.registry();
        for backend in self.generations.iter_mut() {
            if let Err(error) = backend.start_template(registry, now) {
                if self.phase == Phase::Starting {
                    return Err(ReactorError::NoWorker { reason: report::chain(&error) });
                }
                log::error!("{}", report::chain(&error));
            }
            backend.fork_workers(registry, now);
        }
        Ok(())
    }

    fn handle_timers(&mut self, now: Instant) {
        self.listeners.handle_timers(now);
        if self.clients.handle_timers(now) {
            // What they have sent may be waiting in the kernel: it is read before anybody is called late.
            self.drive_all_clients(now);
            self.clients.judge(now);
        }
        self.control.handle_timers(now);
        self.admin.handle_timers(now);
        for backend in self.generations.iter_mut() {
            // Each once a turn, whatever it is armed for again.
            let due: Vec<_> = std::iter::from_fn(|| backend.timers.pop(now)).collect();
            for slot in due {
                backend.handle_slot_timer(slot, &mut self.clients, now);
            }
            backend.shed_expired(&mut self.clients, now);
            backend.kill_overdue(now);
            backend.kill_overdue_template(now);
        }
        let overdue: Vec<source::Member> = self
            .generations
            .iter_mut()
            .flat_map(|backend| {
                let generation = backend.id;
                backend.overdue_ends(now).into_iter().map(move |slot| source::Member { generation, slot })
            })
            .collect();
        for member in overdue {
            self.handle_process(member, now);
            if self.generations.get(member.generation).is_some_and(|backend| backend.worker_is_gone(member.slot)) {
                log::warn!(
                    "the end of the worker in slot {} was found by looking: its pidfd had not told",
                    member.slot
                );
            }
        }
        if self.generations.current_mut().blame.poll_reload(now).is_some() && !self.is_reloading() && !self.is_resting {
            log::info!("trying again to load a component that is suspended");
            self.begin_reload(now);
        }
    }

    /// What follows from all that has happened in this turn.
    fn advance(&mut self, clock: Clock) -> Result<(), ReactorError> {
        let now = clock.now;
        if self.phase == Phase::Starting {
            if let Progress::Failed { reason } = self.generations.current().progress() {
                return Err(ReactorError::NoWorker { reason });
            }
            if self.generations.current().is_settled
                && let Some(reason) = self.unfitness()
            {
                return Err(ReactorError::Unfit { reason });
            }
            if self.generations.current().is_proven() {
                self.begin_serving()?;
            }
        }
        self.reap_strangers();
        self.advance_reload(now);
        self.advance_deferred_reload(now);
        self.rescue_stranded(now);
        self.advance_rest(now);
        self.generations.wind_down(self.poll.registry());
        self.handle_commands(clock);
        self.serve_admin(now);
        self.kill_overdue_successor(now);
        self.hand_over_clients(now);
        self.advance_phase(now);
        Ok(())
    }

    fn begin_serving(&mut self) -> Result<(), ReactorError> {
        self.daemon.write_pid().map_err(ReactorError::Pidfile)?;
        self.phase = Phase::Serving;
        report::problems(self.generations.current().app());
        if let Err(error) = self.listeners.open(self.poll.registry()) {
            log::error!("cannot wait for connections: {error}");
        }
        self.listeners.take_over(&std::mem::take(&mut self.socket_files));
        for (address, is_secure) in self.listeners.addresses() {
            report::listening(address, is_secure);
        }
        let registry = self.poll.registry();
        if let Err(error) = self.control.take_over(registry).and_then(|()| self.admin.open(registry)) {
            log::error!("cannot wait for operators: {error}");
        }
        self.daemon
            .handle_serving(&mut self.logs)
            .map_err(|source| ReactorError::System { what: "tell whoever started this", source })?;
        // The last of all: a predecessor that goes removes the pidfile, unless it has this process's pid by then.
        self.tell_predecessor();
        Ok(())
    }
}
