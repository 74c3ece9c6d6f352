//! Upgrade: this supervisor starts the program that is at its own path now, gives it the listening sockets, serves until that one serves, and
//! then hands it each client connection that is idle. A successor that fails changes nothing.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use mio::Interest;
use mio::unix::SourceFd;

use crate::config::Address;
use crate::handover::{Handover, Message};
use crate::request::ClientKey;
use crate::sys::{self, Exit, Process};
use crate::transport::{Socket, Transport};

use super::reload::Verdict;
use super::source::Source;
use super::{Phase, Reactor};

/// How long a successor may take until it serves: its components may have to be compiled.
const SUCCESSOR_TIMEOUT: Duration = Duration::from_secs(300);

/// How long to wait before more connections are handed over, when the successor has not taken those that were.
const HANDOVER_REST: Duration = Duration::from_millis(2);

/// A successor, and how far it is.
#[derive(Debug)]
pub(super) struct Upgrade {
    process: Process,
    handover: Handover,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// It is not serving yet.
    Awaited { deadline: Instant },
    /// It serves, and gets the connections that are idle.
    Succeeded { resting_until: Option<Instant> },
}

impl Upgrade {
    pub(super) fn pid(&self) -> i32 {
        self.process.pid()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.stage {
            Stage::Awaited { deadline } => Some(deadline),
            Stage::Succeeded { resting_until } => resting_until,
        }
    }

    /// This process is the predecessor of one that serves.
    fn has_succeeded(&self) -> bool {
        matches!(self.stage, Stage::Succeeded { .. })
    }
}

impl Reactor<'_> {
    /// Starts the successor.
    pub(super) fn begin_upgrade(&mut self, now: Instant) {
        let refusal = match self.phase {
            Phase::Serving if self.upgrade.is_some() => Some("an upgrade is in progress"),
            Phase::Serving if self.reload.is_some() => Some("a reload is in progress"),
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
        handover.send_estate(listeners, &self.listeners.socket_files(), pidfile, self.control.inheritance())?;
        let process = sys::spawn_successor(&self.origin.program, &self.origin.directory, &theirs)?;
        let registry = self.poll.registry();
        let interest = Interest::READABLE;
        registry.register(&mut SourceFd(&handover.as_fd().as_raw_fd()), Source::SuccessorLink.token(), interest)?;
        registry.register(&mut SourceFd(&process.as_fd().as_raw_fd()), Source::SuccessorProcess.token(), interest)?;
        handover.set_nonblocking()?;
        Ok(Upgrade { process, handover, stage: Stage::Awaited { deadline: now + SUCCESSOR_TIMEOUT } })
    }

    /// The successor has said something.
    pub(super) fn handle_successor(&mut self, now: Instant) {
        let Some(upgrade) = &self.upgrade else { return };
        match upgrade.handover.receive() {
            Ok(Some((Message::Serving, _))) if !upgrade.has_succeeded() && self.phase == Phase::Serving => {
                self.give_way(now);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // Its end is told by its pidfd.
            Ok(None) => self.ignore_successor_link(),
            Ok(Some(_)) | Err(_) => upgrade.process.signal(libc::SIGKILL),
        }
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
        self.conclude_upgrade(Ok(pid), now);
        // What is in flight is bounded by the clients' and the handlers' own timeouts. Nobody waits for the end of this process.
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

    /// The successor's process may have ended.
    pub(super) fn handle_successor_process(&mut self, now: Instant) {
        let Some(upgrade) = &self.upgrade else { return };
        let exit = match upgrade.process.try_reap() {
            Ok(Some((exit, _))) => exit,
            Ok(None) => return,
            Err(error) => return log::error!("cannot reap process {}: {error}", upgrade.process.pid()),
        };
        let registry = self.poll.registry();
        let _ = registry.deregister(&mut SourceFd(&upgrade.process.as_fd().as_raw_fd()));
        if upgrade.has_succeeded() {
            let level = if exit == Exit::Code(0) { log::Level::Info } else { log::Level::Error };
            log::log!(level, "the process that had taken over, {}, ended with {exit}", upgrade.process.pid());
            self.clients.begin_drain();
            return;
        }
        let reason = format!("process {} ended with {exit} before it served", upgrade.process.pid());
        let _ = registry.deregister(&mut SourceFd(&upgrade.handover.as_fd().as_raw_fd()));
        self.upgrade = None;
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
    }

    /// A predecessor hands over a connection, or is done.
    pub(super) fn handle_predecessor(&mut self, now: Instant) {
        loop {
            let Some(predecessor) = &self.predecessor else { return };
            let received = predecessor.receive();
            match received {
                Ok(Some((Message::Connection { listener, peer }, descriptors))) => {
                    for fd in descriptors {
                        self.adopt(fd, &listener, peer, now);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Ok(Some(_) | None) | Err(_) => {
                    let _ = self.poll.registry().deregister(&mut SourceFd(&predecessor.as_fd().as_raw_fd()));
                    self.predecessor = None;
                    return;
                }
            }
        }
    }

    /// Goes on with a connection that the predecessor has accepted.
    fn adopt(&mut self, fd: OwnedFd, listener: &Address, peer: Option<SocketAddr>, now: Instant) {
        // One that has come in plain is no client of a listener with TLS: this manifest may have another than the predecessor's.
        let Some(index) = self.listeners.find_bound(listener).filter(|index| self.listeners.is_plain(*index)) else {
            return;
        };
        self.listeners.count_adopted(index);
        let socket = match listener {
            Address::Tcp(_) => Socket::tcp(fd),
            Address::Unix(_) => Socket::unix(fd),
        };
        // Whose it is has been said, and it is plain: others are not handed over.
        self.welcome(Transport::plain(socket), peer, index, now);
    }

    /// Tells the predecessor, if there is one, that it can go.
    pub(super) fn tell_predecessor(&mut self) {
        let Some(predecessor) = &self.predecessor else { return };
        let told =
            predecessor.send(&Message::Serving, &[]).and_then(|()| predecessor.set_nonblocking()).and_then(|()| {
                let fd = predecessor.as_fd().as_raw_fd();
                self.poll.registry().register(&mut SourceFd(&fd), Source::Predecessor.token(), Interest::READABLE)
            });
        if let Err(error) = told {
            log::error!("cannot take over from the process before this one: {error}");
            self.predecessor = None;
        }
    }
}
