//! The other side of an upgrade: this process takes over from another one, is given its idle connections, and has it stop when this one is
//! told to. A process that would serve less than its predecessor does not take over.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use mio::Interest;
use mio::unix::SourceFd;

use crate::app::App;
use crate::config::Address;
use crate::handover::{self, Handover, Message};
use crate::sys::Process;
use crate::transport::{Socket, Transport};

use super::signals::Stop;
use super::source::Source;
use super::{Phase, Reactor};

/// How much longer than its own workers a process that stops waits for its predecessor, which was told a moment later.
pub(super) const PREDECESSOR_GRACE: Duration = Duration::from_secs(1);

/// The supervisor that this one takes over from, until it has ended.
#[derive(Debug)]
pub struct Predecessor {
    link: Handover,
    /// `None` when it is gone already.
    process: Option<Process>,
    /// What it does not serve either.
    failings: Vec<String>,
}

impl Predecessor {
    pub fn new(link: Handover, failings: Vec<String>) -> Predecessor {
        let process = link.maker().inspect_err(|error| log::debug!("the process before this one: {error}")).ok();
        Predecessor { link, process, failings }
    }

    fn send(&self, message: &Message) -> io::Result<()> {
        self.link.send(message, &[])
    }

    /// Ends it, for it has had its time.
    pub(super) fn kill(&self) {
        if let Some(process) = &self.process {
            log::warn!("killing process {}, which was to stop and had handed over to this one", process.pid());
            process.signal(libc::SIGKILL);
        }
    }
}

/// What an application cannot serve, and whoever served before it could.
pub(super) fn new_failings(app: &App, known: &[String]) -> Option<String> {
    let is_known = |failing: &String| known.iter().any(|known| handover::told(known) == handover::told(failing));
    let new: Vec<String> = app.failings().filter(|failing| !is_known(failing)).collect();
    (!new.is_empty()).then(|| new.join("; "))
}

impl Reactor<'_> {
    /// Why this process had better not serve, as far as its components are concerned: it would serve nothing, or less than its predecessor.
    pub(super) fn unfitness(&self) -> Option<String> {
        let backend = self.generations.current();
        let worse =
            self.predecessor.as_ref().and_then(|predecessor| new_failings(backend.app(), &predecessor.failings));
        worse.or_else(|| backend.app().serves_nothing(backend.skipped()))
    }

    /// A predecessor hands over a connection, or is done.
    pub(super) fn handle_predecessor(&mut self, now: Instant) {
        loop {
            let Some(predecessor) = &self.predecessor else { return };
            let received = predecessor.link.receive();
            match received {
                Ok(Some((Message::Connection { listener, peer }, descriptors))) => {
                    for fd in descriptors {
                        self.adopt(fd, &listener, peer, now);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Ok(Some(_) | None) | Err(_) => {
                    let _ = self.poll.registry().deregister(&mut SourceFd(&predecessor.link.as_fd().as_raw_fd()));
                    self.predecessor = None;
                    return;
                }
            }
        }
    }

    /// Goes on with a connection that the predecessor has accepted.
    fn adopt(&mut self, fd: OwnedFd, listener: &Address, peer: Option<SocketAddr>, now: Instant) {
        // One that serves in place of this one, too, has it.
        let Some(fd) = self.pass_on(fd, listener, peer) else { return };
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
            predecessor.send(&Message::Serving).and_then(|()| predecessor.link.set_nonblocking()).and_then(|()| {
                let fd = predecessor.link.as_fd().as_raw_fd();
                self.poll.registry().register(&mut SourceFd(&fd), Source::Predecessor.token(), Interest::READABLE)
            });
        if let Err(error) = told {
            log::error!("cannot take over from the process before this one: {error}");
            self.predecessor = None;
        }
    }

    /// Whoever stops this process wants nothing of this server to be left: what its predecessor still does is to end as well.
    pub(super) fn stop_predecessor(&mut self, stop: Stop) {
        // One that still serves is not this process's to stop.
        if self.phase == Phase::Starting {
            return;
        }
        if let Some(predecessor) = &self.predecessor
            && let Err(error) = predecessor.send(&Message::Stop { is_fast: stop == Stop::Fast })
        {
            log::warn!("cannot tell the process before this one to stop: {error}");
        }
    }
}
