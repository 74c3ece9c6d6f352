//! What signals mean, and how the server comes to its end.

use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2, SIGWINCH};

use crate::config::settings::WORKERS_MAX;
use crate::pool::Retirement;

use super::succession::PREDECESSOR_GRACE;
use super::{Phase, Reactor};

/// The signals that this process has a use for.
pub(super) const HANDLED: [i32; 9] = [SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGWINCH, SIGTTIN, SIGTTOU];

/// How a stop treats what is in flight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stop {
    /// What has a worker may finish within `kill-grace-ms`; what waits for one is answered.
    Fast,
    /// Everything may finish within `shutdown-timeout-ms`.
    Graceful,
}

impl Reactor<'_> {
    pub(super) fn handle_signals(&mut self, now: Instant) {
        for signal in self.signals.pending().collect::<Vec<_>>() {
            match signal {
                SIGTERM => self.begin_stop(Stop::Fast, "SIGTERM", now),
                SIGINT => self.begin_stop(Stop::Fast, "SIGINT", now),
                SIGQUIT => self.begin_stop(Stop::Graceful, "SIGQUIT", now),
                SIGHUP => {
                    log::info!("SIGHUP");
                    self.begin_reload(now);
                }
                SIGUSR1 => {
                    // What could not be opened is in the log.
                    let _ = self.logs.reopen();
                }
                SIGUSR2 => self.begin_upgrade(now),
                SIGWINCH => self.rest(now),
                SIGTTIN => self.add_workers(1),
                SIGTTOU => self.add_workers(-1),
                _ => {}
            }
        }
    }

    /// One worker more, or one less.
    fn add_workers(&mut self, change: isize) {
        let workers = self.generations.current().pool.workers();
        let most = usize::try_from(WORKERS_MAX).unwrap_or(usize::MAX);
        let wanted = workers.saturating_add_signed(change).clamp(1, most);
        self.scale(wanted);
    }

    pub(super) fn scale(&mut self, workers: usize) {
        self.resume();
        log::info!("{workers} workers from now on, {} before", self.generations.current().pool.workers());
        self.generations.current_mut().pool.set_workers(workers);
    }

    /// SIGWINCH: the workers go when what has come in is done, this process stays, and connections wait in the kernel. A terminal sends it for its
    /// size to whatever runs in it, which must not mean anything.
    fn rest(&mut self, now: Instant) {
        let has_terminal = io::stdin().is_terminal() || io::stdout().is_terminal() || io::stderr().is_terminal();
        if has_terminal || self.phase != Phase::Serving || self.is_resting {
            return;
        }
        log::info!(
            "SIGWINCH: the workers go when what has come in is done; SIGHUP, SIGTTIN or SIGTTOU brings them back"
        );
        self.is_resting = true;
        self.listeners.pause(self.poll.registry());
        self.control.handle_rest(now);
        self.let_clients_go(now);
    }

    /// Nothing new is accepted. A request that has reached this machine is served: only then are the idle connections known.
    fn let_clients_go(&mut self, now: Instant) {
        self.clients.touch_all();
        self.drive_all_clients(now);
        self.clients.begin_drain();
    }

    /// Sends the workers away, once nobody waits for one.
    pub(super) fn advance_rest(&mut self, now: Instant) {
        let backend = self.generations.current_mut();
        if !self.is_resting || backend.is_resting || backend.has_waiting() || self.phase != Phase::Serving {
            return;
        }
        log::debug!("generation {} rests", backend.number);
        backend.is_resting = true;
        for slot in backend.pool.slots() {
            backend.pool.retire(slot, Retirement::ScaledDown);
        }
        // Only now do they have nothing to wait for.
        backend.retire_workers(now);
    }

    /// An operator wants something that needs workers: they come back, and connections are accepted again.
    pub(super) fn resume(&mut self) {
        if self.phase != Phase::Serving || !self.is_resting {
            return;
        }
        log::info!("the workers come back");
        self.is_resting = false;
        for backend in self.generations.iter_mut() {
            backend.is_resting = false;
        }
        if let Err(error) = self.listeners.open(self.poll.registry()) {
            log::error!("cannot wait for connections: {error}");
        }
    }

    /// Begins to stop, or is done with waiting if that has begun.
    pub(super) fn begin_stop(&mut self, stop: Stop, why: &str, now: Instant) {
        let patience = match stop {
            Stop::Fast => self.kill_grace.min(self.shutdown_timeout),
            Stop::Graceful => self.shutdown_timeout,
        };
        self.stop_predecessor(stop);
        match (self.phase, stop) {
            (Phase::Starting | Phase::Serving, _) => {
                log::info!("{why}: finishing {} requests in flight", self.generations.in_flight());
                self.daemon.handle_stop();
                self.refuse_queued(now);
                self.give_up_reloads("the server stops", now);
                self.cancel_upgrade();
                self.listeners.close(self.poll.registry());
                self.let_clients_go(now);
                self.phase = Phase::Draining { until: now + patience };
            }
            // A process that has handed over has no time limit until it is told to stop.
            (Phase::Draining { until }, Stop::Graceful) => {
                log::info!("{why}");
                self.phase = Phase::Draining { until: until.min(now + patience) };
            }
            (Phase::Draining { until }, Stop::Fast) if self.is_stopping_fast || until <= now => {
                log::warn!("{why} again: not waiting any longer");
                self.phase = Phase::Draining { until: now };
            }
            (Phase::Draining { until }, Stop::Fast) => {
                log::info!("{why}: stopping fast");
                self.phase = Phase::Draining { until: until.min(now + patience) };
            }
            (Phase::Stopping { killed, .. }, _) => self.phase = Phase::Stopping { kill_at: now, killed },
            (Phase::Stopped, _) => {}
        }
        if stop == Stop::Fast {
            self.is_stopping_fast = true;
            for backend in self.generations.iter_mut() {
                backend.shed_all(&mut self.clients, now);
            }
        }
    }

    pub(super) fn advance_phase(&mut self, now: Instant) {
        match self.phase {
            Phase::Starting | Phase::Serving | Phase::Stopped => {}
            Phase::Draining { until } => {
                let idle = self.clients.is_empty() && self.generations.in_flight() == 0;
                // Its predecessor has nobody else to be told by, and nobody else to leave its connections to.
                if (idle && self.predecessor.is_none()) || until <= now {
                    if !idle {
                        let (clients, requests) = (self.clients.len(), self.generations.in_flight());
                        log::warn!("the time to stop is over: cutting {clients} connections, {requests} requests");
                        for backend in self.generations.iter_mut() {
                            backend.shed_all(&mut self.clients, now);
                            backend.answer_all(&mut self.clients, now);
                        }
                        self.drive_all_clients(now);
                    }
                    self.stop_downloads(now);
                    self.clients.cut_all(self.poll.registry(), now);
                    for backend in self.generations.iter_mut() {
                        backend.drain_workers();
                    }
                    let grace = if self.predecessor.is_some() { PREDECESSOR_GRACE } else { Duration::ZERO };
                    self.phase = Phase::Stopping { kill_at: now + self.kill_grace + grace, killed: false };
                    self.advance_phase(now);
                }
            }
            Phase::Stopping { kill_at, killed } => {
                if self.generations.processes_alive() == 0 && self.predecessor.is_none() {
                    self.phase = Phase::Stopped;
                } else if kill_at <= now && !killed {
                    for backend in self.generations.iter_mut() {
                        backend.kill_all();
                    }
                    if let Some(predecessor) = &self.predecessor {
                        predecessor.kill();
                    }
                    self.phase = Phase::Stopping { kill_at, killed: true };
                }
            }
        }
    }
}
