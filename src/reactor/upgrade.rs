//! Upgrade: this supervisor starts the program that is now at the path where it was itself, gives it the listening sockets, serves until that
//! one serves, and then hands it each client connection that is idle. A successor that fails changes nothing. Its side of it is in `succession`.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use mio::Interest;
use mio::unix::SourceFd;

use crate::config::Address;
use crate::handover::{Handover, Message};
use crate::request::ClientKey;
use crate::sys::{self, Exit, Process};

use super::reload::Verdict;
use super::renewal::Renewal;
use super::signals::Stop;
use super::source::Source;
use super::{Phase, Reactor};

/// How long a successor may take until it has read its manifest and what it is given. A program that is something else never does.
const GREETING_TIMEOUT: Duration = Duration::from_secs(30);

/// How long it may take from then until it serves: its components may have to be compiled.
const SUCCESSOR_TIMEOUT: Duration = Duration::from_secs(300);

/// init(1): what it starts ends when it does, or the whole container.
const INIT: u32 = 1;

/// How long to wait before more connections are handed over, when the successor has not taken those that were.
const HANDOVER_REST: Duration = Duration::from_millis(2);

/// A successor, and how far it is.
#[derive(Debug)]
pub(super) struct Upgrade {
    process: Process,
    handover: Handover,
    stage: Stage,
    /// Why it ends, as it says itself.
    reason: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// It is not serving yet.
    Awaited { deadline: Instant },
    /// It serves, and gets the connections that are idle.
    Succeeded { resting_until: Option<Instant> },
    /// It serves no more, or not for long: idle connections are closed.
    Over,
}

impl Upgrade {
    pub(super) fn pid(&self) -> i32 {
        self.process.pid()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.stage {
            Stage::Awaited { deadline } => Some(deadline),
            Stage::Succeeded { resting_until } => resting_until,
            Stage::Over => None,
        }
    }

    /// The machine stood still for `leap`.
    pub(super) fn forgive(&mut self, leap: Duration) {
        match &mut self.stage {
            Stage::Awaited { deadline } => *deadline += leap,
            Stage::Succeeded { .. } | Stage::Over => {}
        }
    }

    /// This process is the predecessor of one that serves, or did.
    fn has_succeeded(&self) -> bool {
        match self.stage {
            Stage::Awaited { .. } => false,
            Stage::Succeeded { .. } | Stage::Over => true,
        }
    }
}

impl Reactor<'_> {
    /// Starts the successor.
    pub(super) fn begin_upgrade(&mut self, now: Instant) {
        if self.is_renewing() {
            return self.queue(Renewal::Upgrade);
        }
        let refusal = match self.phase {
            Phase::Serving if std::process::id() == INIT => {
                Some("this is process 1, with whose end all others end: start the new program in its place")
            }
            Phase::Serving => None,
            Phase::Starting | Phase::Draining { .. } | Phase::Stopping { .. } | Phase::Stopped => {
                Some("the server is not serving")
            }
        };
        if let Some(refusal) = refusal {
            return self.conclude_upgrade(Err(refusal.to_owned()), now);
        }
        match self.start_successor(now) {
            Ok(upgrade) => {
                log::info!("upgrade: {} starts as process {}", self.origin.program.display(), upgrade.process.pid());
                self.upgrade = Some(upgrade);
            }
            Err(error) => {
                let program = self.origin.program.display();
                self.conclude_upgrade(Err(format!("cannot start {program}: {error}")), now);
            }
        }
    }

    fn start_successor(&mut self, now: Instant) -> io::Result<Upgrade> {
        let (handover, theirs) = Handover::pair()?;
        let pidfile = self.daemon.pidfile().map(|pidfile| (pidfile.as_fd(), pidfile.path().to_owned()));
        let listeners = self.listeners.sockets().chain(self.admin.sockets());
        let failings = self.generations.current().app().failings();
        handover.send_estate(
            listeners,
            &self.listeners.socket_files(),
            pidfile,
            self.control.inheritance(),
            failings,
        )?;
        let process = sys::spawn_successor(&self.origin.program, self.start_directory(), &theirs)?;
        let registry = self.poll.registry();
        let interest = Interest::READABLE;
        registry.register(&mut SourceFd(&handover.as_fd().as_raw_fd()), Source::SuccessorLink.token(), interest)?;
        registry.register(&mut SourceFd(&process.as_fd().as_raw_fd()), Source::SuccessorProcess.token(), interest)?;
        handover.set_nonblocking()?;
        Ok(Upgrade { process, handover, stage: Stage::Awaited { deadline: now + GREETING_TIMEOUT }, reason: None })
    }

    /// Where the successor starts: relative paths of its arguments begin there.
    fn start_directory(&self) -> &Path {
        let directory = &self.origin.directory;
        if directory.is_dir() {
            return directory;
        }
        log::warn!("upgrade: the directory {} is gone; the new program starts in /", directory.display());
        Path::new("/")
    }

    pub(super) fn signal_successor(&self, signal: i32) {
        if let Some(upgrade) = &self.upgrade {
            upgrade.process.signal(signal);
        }
    }

    /// The successor has said something.
    pub(super) fn handle_successor(&mut self, now: Instant) {
        while let Some(upgrade) = &mut self.upgrade {
            match (upgrade.handover.receive(), upgrade.stage) {
                (Ok(Some((Message::Loading, _))), Stage::Awaited { .. }) => {
                    upgrade.stage = Stage::Awaited { deadline: now + SUCCESSOR_TIMEOUT };
                }
                (Ok(Some((Message::Serving, _))), Stage::Awaited { .. }) if self.phase == Phase::Serving => {
                    self.give_way(now);
                }
                (Ok(Some((Message::Failed(reason), _))), _) => upgrade.reason = Some(reason),
                (Ok(Some((Message::Stop { is_fast }, _))), Stage::Succeeded { .. } | Stage::Over) => {
                    let stop = if is_fast { Stop::Fast } else { Stop::Graceful };
                    let why = format!("process {}, which has taken over, stops", upgrade.process.pid());
                    self.follow(stop, &why, now);
                }
                // One that ends before it has read all that it was sent: what it has said comes after that.
                (Err(error), _) if error.kind() == io::ErrorKind::ConnectionReset => {}
                (Err(error), _) if error.kind() == io::ErrorKind::WouldBlock => return,
                // Its end is told by its pidfd.
                (Ok(None), _) => return self.ignore_successor_link(),
                (Ok(Some(_)) | Err(_), _) => {
                    upgrade.process.signal(libc::SIGKILL);
                    return self.ignore_successor_link();
                }
            }
        }
    }

    /// The successor stops, or has ended: this process has nothing to stay for but what it still does, and nobody else to be told by.
    fn follow(&mut self, stop: Stop, why: &str, now: Instant) {
        if let Some(upgrade) = &mut self.upgrade {
            upgrade.stage = Stage::Over;
        }
        self.clients.begin_drain();
        self.begin_stop(stop, why, now);
    }

    fn ignore_successor_link(&mut self) {
        if let Some(upgrade) = &self.upgrade {
            let _ = self.poll.registry().deregister(&mut SourceFd(&upgrade.handover.as_fd().as_raw_fd()));
        }
    }

    /// The successor serves: it has the listening sockets, and gets the clients that have nothing in progress.
    fn give_way(&mut self, now: Instant) {
        let Some(upgrade) = &mut self.upgrade else { return };
        upgrade.stage = Stage::Succeeded { resting_until: None };
        let pid = upgrade.process.pid();
        log::info!("upgrade: process {pid} serves; this one finishes what it has");
        self.listeners.hand_over(self.poll.registry());
        self.clients.drain_secret();
        self.control.hand_over(self.poll.registry());
        self.admin.close(self.poll.registry());
        self.daemon.handle_succession();
        self.pass_on_queued(pid, now);
        self.conclude_upgrade(Ok(pid), now);
        // What is in flight is bounded by the clients' and the handlers' own timeouts, until the successor stops or somebody sends a signal.
        self.phase = Phase::Draining { until: now + Duration::from_secs(u64::from(u32::MAX)) };
    }

    /// Gives the successor the connections that are idle.
    pub(super) fn hand_over_clients(&mut self, now: Instant) {
        let Some(Upgrade { handover, stage: Stage::Succeeded { resting_until }, .. }) = &mut self.upgrade else {
            return;
        };
        if resting_until.is_some_and(|until| until > now) {
            return;
        }
        *resting_until = None;
        let idle: Vec<ClientKey> = self.clients.idle();
        for key in idle {
            let Some(client) = self.clients.get_mut(key) else { continue };
            let message = Message::Connection { listener: Address::clone(&client.listener_address), peer: client.peer };
            let Some(transport) = &client.transport else { continue };
            match handover.send(&message, &[transport.socket.as_fd()]) {
                Ok(()) => self.clients.forget(key, self.poll.registry()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    *resting_until = Some(now + HANDOVER_REST);
                    return;
                }
                Err(_) => {
                    // There is nobody to have them: they end after their response, or now.
                    return self.clients.begin_drain();
                }
            }
        }
    }

    /// A connection that comes from this process's own predecessor is given to the successor, if there is one; otherwise it is returned.
    pub(super) fn pass_on(&self, fd: OwnedFd, listener: &Address, peer: Option<SocketAddr>) -> Option<OwnedFd> {
        let Some(Upgrade { handover, stage: Stage::Succeeded { .. }, .. }) = &self.upgrade else { return Some(fd) };
        let message = Message::Connection { listener: listener.clone(), peer };
        if let Err(error) = handover.send(&message, &[fd.as_fd()]) {
            log::debug!("a connection of the process before this one is closed: {error}");
        }
        None
    }

    /// The successor's process may have ended.
    pub(super) fn handle_successor_process(&mut self, now: Instant) {
        // Its last words may be there without having been told of yet.
        self.handle_successor(now);
        let Some(upgrade) = &mut self.upgrade else { return };
        let exit = match upgrade.process.try_reap() {
            Ok(Some((exit, _))) => exit,
            Ok(None) => return,
            Err(error) => return log::error!("cannot reap process {}: {error}", upgrade.process.pid()),
        };
        let registry = self.poll.registry();
        let _ = registry.deregister(&mut SourceFd(&upgrade.process.as_fd().as_raw_fd()));
        let last_words = upgrade.reason.take().map_or(String::new(), |reason| format!(": {reason}"));
        if upgrade.has_succeeded() {
            let level = if exit == Exit::Code(0) { log::Level::Info } else { log::Level::Error };
            let why = format!("process {}, which had taken over, ended with {exit}", upgrade.process.pid());
            log::log!(level, "{why}{last_words}");
            return match self.phase {
                // Its time is over already.
                Phase::Stopping { .. } | Phase::Stopped => {}
                Phase::Starting | Phase::Serving | Phase::Draining { .. } => self.follow(Stop::Graceful, &why, now),
            };
        }
        let reason = format!("process {} ended with {exit} before it served{last_words}", upgrade.process.pid());
        let _ = registry.deregister(&mut SourceFd(&upgrade.handover.as_fd().as_raw_fd()));
        self.upgrade = None;
        self.daemon.handle_failed_successor();
        self.conclude_upgrade(Err(reason), now);
    }

    /// Gives up a successor that takes too long.
    pub(super) fn kill_overdue_successor(&mut self, now: Instant) {
        if let Some(Upgrade { process, stage: Stage::Awaited { deadline }, .. }) = &mut self.upgrade
            && *deadline <= now
        {
            log::error!("upgrade: killing process {}: it did not serve in time", process.pid());
            process.signal(libc::SIGKILL);
            // Its end follows; a deadline that is past already would fire for ever.
            *deadline = now + SUCCESSOR_TIMEOUT;
        }
    }

    /// This server stops: one that was to take over from it is not to serve either.
    pub(super) fn cancel_upgrade(&mut self) {
        if let Some(Upgrade { process, stage: Stage::Awaited { .. }, .. }) = &self.upgrade {
            log::info!("upgrade: given up, for the server stops");
            process.signal(libc::SIGKILL);
        }
    }

    /// Says how an upgrade went.
    fn conclude_upgrade(&mut self, outcome: Result<i32, String>, now: Instant) {
        match &outcome {
            Ok(_) => self.counters.upgrades.ok += 1,
            Err(reason) => {
                self.counters.upgrades.failed += 1;
                log::error!("upgrade: refused, and nothing has changed: {reason}");
            }
        }
        self.tell_verdict(&Verdict::Upgrade(outcome), now);
        self.begin_queued(now);
    }
}
