//! The operator's side of the loop: commands of the control socket are carried out and answered here.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use mio::Registry;

use crate::app::App;
use crate::config::{self, Config};
use crate::control::{Command, ConnectionKey, ControlSocket, Reply};

use super::clock::Clock;
use super::reload::Verdict;
use super::renewal::Renewal;
use super::signals::Stop;
use super::source::Source;
use super::{Phase, Reactor, report};

/// The token of the listening socket; connections have the numbers after it.
const LISTENER: usize = 0;

/// The control socket, if there is one, and who waits for what.
#[derive(Debug)]
pub(super) struct Control {
    socket: Option<ControlSocket>,
    waiting: Vec<(ConnectionKey, Awaited)>,
    standing: Standing,
}

/// Whose the socket is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    /// Inherited, and the predecessor's until this process serves.
    Heir,
    Owner,
    /// A successor has it.
    HandedOver,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Awaited {
    Reload,
    /// The reload that follows what is in progress.
    NextReload,
    Upgrade,
    NextUpgrade,
    /// That many workers are ready.
    Workers(usize),
}

impl Control {
    /// Opens what the manifest wants, or takes what a predecessor leaves.
    ///
    /// # Errors
    ///
    /// The manifest names a socket that cannot be made. Where nobody has asked for it, that is a warning.
    pub fn open(app: &App, inherited: Option<(OwnedFd, PathBuf)>, registry: &Registry) -> io::Result<Control> {
        let Config { manifest, server, .. } = app.config();
        let inherited = inherited.filter(|(_, path)| ControlSocket::is_wanted_at(path, &server.control, manifest));
        let is_heir = inherited.is_some();
        let opened = match inherited {
            Some((fd, path)) => ControlSocket::from_fd(fd, &path).map(Some),
            None => ControlSocket::open(&server.control, manifest),
        };
        let socket = match (opened, &server.control) {
            (Ok(socket), _) => socket,
            (Err(error), config::Control::Default) => {
                log::warn!("there is no control socket: {}", report::chain(&error));
                None
            }
            (Err(error), _) => return Err(io::Error::other(report::chain(&error))),
        };
        let mut control = Control { socket, waiting: Vec::new(), standing: Standing::Heir };
        if !is_heir {
            control.take_over(registry)?;
        }
        Ok(control)
    }

    /// Begins to accept commands, unless that is done.
    pub fn take_over(&mut self, registry: &Registry) -> io::Result<()> {
        if self.standing != Standing::Heir {
            return Ok(());
        }
        self.standing = Standing::Owner;
        if let Some(socket) = &mut self.socket {
            socket.register(registry, Source::Control(LISTENER).token(), |place| Source::Control(place + 1).token())?;
        }
        Ok(())
    }

    pub fn has_work(&self) -> bool {
        self.socket.as_ref().is_some_and(ControlSocket::has_work)
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.socket.as_ref().and_then(ControlSocket::next_deadline)
    }

    pub fn handle_event(&mut self, place: usize, event: &mio::event::Event, now: Instant) {
        let Some(socket) = &mut self.socket else { return };
        match place.checked_sub(1) {
            None => socket.handle_listener_event(),
            Some(place) => socket.handle_connection_event(place, event, now),
        }
    }

    pub fn handle_timers(&mut self, now: Instant) {
        if let Some(socket) = &mut self.socket {
            socket.handle_timers(now);
        }
    }

    /// This process stood still for `leap`: no operator is late by that time.
    pub fn forgive(&mut self, leap: Duration) {
        if let Some(socket) = &mut self.socket {
            socket.forgive(leap);
        }
    }

    /// The socket's file goes with the server.
    pub fn remove(&self) {
        if let Some(socket) = &self.socket
            && self.standing == Standing::Owner
        {
            socket.remove();
        }
    }

    /// What a successor takes over.
    pub fn inheritance(&self) -> Option<(BorrowedFd<'_>, PathBuf)> {
        self.socket.as_ref().and_then(|socket| Some((socket.listener()?, socket.path().to_owned())))
    }

    /// A successor has it now.
    pub fn hand_over(&mut self, registry: &Registry) {
        self.standing = Standing::HandedOver;
        if let Some(socket) = &mut self.socket {
            socket.stop_accepting(registry);
        }
    }

    fn reply(&mut self, key: ConnectionKey, reply: &Reply, now: Instant) {
        if let Some(socket) = &mut self.socket {
            socket.reply(key, reply, now);
        }
    }

    /// The workers are sent away.
    pub fn handle_rest(&mut self, now: Instant) {
        let reply = Reply::failed("the workers were sent away (WINCH)");
        self.settle(|awaited| matches!(awaited, Awaited::Workers(_)), &reply, now);
    }

    /// Who has left waits for nothing.
    fn forget_who_left(&mut self) {
        if let Some(socket) = &self.socket {
            self.waiting.retain(|(key, _)| socket.is_awaited(*key));
        }
    }

    /// What was to follow begins now.
    pub fn promote(&mut self, renewal: Renewal) {
        let (from, to) = match renewal {
            Renewal::Reload => (Awaited::NextReload, Awaited::Reload),
            Renewal::Upgrade => (Awaited::NextUpgrade, Awaited::Upgrade),
        };
        for (_, awaited) in self.waiting.iter_mut().filter(|(_, awaited)| *awaited == from) {
            *awaited = to;
        }
    }

    /// Answers all who wait for what was to follow, and does not.
    pub fn settle_queued(&mut self, reply: &Reply, now: Instant) {
        self.settle(|awaited| matches!(awaited, Awaited::NextReload | Awaited::NextUpgrade), reply, now);
    }

    /// Answers all who wait for this.
    fn settle(&mut self, awaited: impl Fn(Awaited) -> bool, reply: &Reply, now: Instant) {
        let (settled, waiting) = std::mem::take(&mut self.waiting).into_iter().partition(|(_, what)| awaited(*what));
        self.waiting = waiting;
        let settled: Vec<(ConnectionKey, Awaited)> = settled;
        for (key, _) in settled {
            self.reply(key, reply, now);
        }
    }
}

impl Reactor<'_> {
    /// Carries out what was asked for, and answers those whose wait is over.
    pub(super) fn handle_commands(&mut self, clock: Clock) {
        let now = clock.now;
        if let Some(socket) = &mut self.control.socket {
            socket.accept(self.poll.registry(), now);
        }
        while let Some((key, command)) = self.control.socket.as_mut().and_then(ControlSocket::poll_command) {
            self.handle_command(key, command, now);
        }
        self.control.forget_who_left();
        if self.phase != Phase::Serving {
            let reply = Reply::failed("the server stops");
            self.control.settle(|awaited| matches!(awaited, Awaited::Workers(_)), &reply, now);
        }
        let ready = self.generations.current().pool.ready();
        let workers = self.generations.current().pool.workers();
        if self.control.waiting.iter().any(|(_, awaited)| matches!(awaited, Awaited::Workers(_))) {
            let noun = if workers == 1 { "worker is" } else { "workers are" };
            let reply = Reply::done(format!("{workers} {noun} ready"));
            // Fewer than were wanted will do where somebody has wanted fewer since.
            let is_settled = |wanted: usize| ready >= wanted.min(workers);
            self.control.settle(
                |awaited| matches!(awaited, Awaited::Workers(wanted) if is_settled(wanted)),
                &reply,
                now,
            );
        }
    }

    fn handle_command(&mut self, key: ConnectionKey, command: Command, now: Instant) {
        let reply = match command {
            Command::Status => Reply::status(self.status(now)),
            Command::Workers => Reply::workers(self.worker_statuses(now)),
            Command::Stop => {
                self.begin_stop(Stop::Graceful, "rusmd ctl stop", now);
                Reply::done("stopping: what is in flight may finish")
            }
            Command::StopNow => {
                self.begin_stop(Stop::Fast, "rusmd ctl stop --now", now);
                Reply::done("stopping")
            }
            Command::Reopen if self.logs.reopen() => Reply::done("the logs are reopened"),
            Command::Reopen => Reply::failed("a log could not be opened and stays where it was; the log says why"),
            Command::Scale(_) if self.phase != Phase::Serving => Reply::failed("the server is not serving"),
            Command::Scale(workers) => {
                self.scale(workers);
                return self.control.waiting.push((key, Awaited::Workers(workers)));
            }
            Command::Reload => {
                let awaited = if self.is_renewing() { Awaited::NextReload } else { Awaited::Reload };
                self.control.waiting.push((key, awaited));
                return self.begin_reload(now);
            }
            Command::Upgrade => {
                let awaited = if self.is_renewing() { Awaited::NextUpgrade } else { Awaited::Upgrade };
                self.control.waiting.push((key, awaited));
                return self.begin_upgrade(now);
            }
        };
        self.control.reply(key, &reply, now);
    }

    /// Tells who waits for it how a reload or an upgrade went.
    pub(super) fn tell_verdict(&mut self, verdict: &Verdict, now: Instant) {
        let (awaited, reply) = match verdict {
            Verdict::Reload(Ok(number)) => {
                (Awaited::Reload, Reply::done(format!("generation {number} {}", self.manner())))
            }
            Verdict::Reload(Err(reason)) => (Awaited::Reload, Reply::failed(reason.clone())),
            Verdict::Upgrade(Ok(pid)) => (Awaited::Upgrade, Reply::done(format!("process {pid} serves"))),
            Verdict::Upgrade(Err(reason)) => (Awaited::Upgrade, Reply::failed(reason.clone())),
        };
        self.control.settle(|what| what == awaited, &reply, now);
    }
}
