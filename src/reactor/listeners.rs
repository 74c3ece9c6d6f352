//! Listening sockets: accepts within limits, rests when the process has no descriptors left.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry};
use slab::Slab;

use crate::bind::{Bound, Wanted};

use super::clients::Door;
use super::source::Source;

/// Connections accepted from one listener in one turn, so that a flood of them does not hold up those that are there.
const ACCEPTS_PER_TURN: usize = 256;

/// How long a listener rests after accept(2) has failed for want of descriptors or memory.
const ACCEPT_REST: Duration = Duration::from_millis(100);

#[derive(Debug)]
struct Listener {
    socket: TcpListener,
    /// As the manifest has it.
    wanted: SocketAddr,
    address: SocketAddr,
    serve: usize,
    connections_max: Option<usize>,
    connections: usize,
    ready: bool,
}

/// The listeners of a reactor. Empty once it is stopping.
#[derive(Debug)]
pub struct Listeners {
    listeners: Slab<Listener>,
    resting_until: Option<Instant>,
    is_open: bool,
}

/// What becomes of the listeners when another manifest serves.
#[derive(Debug, Default)]
pub struct Plan {
    kept: Vec<(usize, usize, Option<usize>)>,
    new: Vec<Bound>,
}

impl Plan {
    /// This listener stays, for this `[[serve]]` of the new manifest.
    pub fn keep(&mut self, listener: usize, wanted: &Wanted) {
        self.kept.push((listener, wanted.serve, wanted.connections_max));
    }

    pub fn open(&mut self, bound: Bound) {
        self.new.push(bound);
    }
}

/// What one attempt to accept came to.
#[derive(Debug)]
pub enum Accepted {
    Client {
        stream: TcpStream,
        peer: SocketAddr,
        listener: usize,
    },
    /// As the last, but over the listener's own limit: to be told so and closed.
    OneTooMany {
        stream: TcpStream,
    },
    Nothing,
}

impl Listeners {
    pub fn new(bound: Vec<Bound>) -> Listeners {
        Listeners {
            listeners: bound.into_iter().map(Listener::new).enumerate().collect(),
            resting_until: None,
            is_open: false,
        }
    }

    /// Begins to accept, or goes on after a pause.
    pub fn open(&mut self, registry: &Registry) -> io::Result<()> {
        self.is_open = true;
        for (index, listener) in &mut self.listeners {
            registry.register(&mut listener.socket, Source::Listener(index).token(), Interest::READABLE)?;
        }
        Ok(())
    }

    /// Stops to accept, and keeps the addresses: connections wait in the kernel.
    pub fn pause(&mut self, registry: &Registry) {
        self.is_open = false;
        for (_, listener) in &mut self.listeners {
            listener.ready = false;
            // It was not registered if no worker has ever been ready.
            let _ = registry.deregister(&mut listener.socket);
        }
    }

    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// Stops to accept and gives the addresses back.
    pub fn close(&mut self, registry: &Registry) {
        self.pause(registry);
        self.listeners.clear();
    }

    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.listeners.iter().map(|(_, listener)| listener.address)
    }

    /// Each address with its open connections.
    pub fn connections(&self) -> impl Iterator<Item = (SocketAddr, usize)> {
        self.listeners.iter().map(|(_, listener)| (listener.address, listener.connections))
    }

    /// The listening sockets, for who takes over.
    pub fn sockets(&self) -> impl Iterator<Item = (SocketAddr, BorrowedFd<'_>)> {
        self.listeners.iter().map(|(_, listener)| (listener.wanted, listener.socket.as_fd()))
    }

    /// The listener of an address as a manifest has it.
    pub fn find(&self, wanted: SocketAddr) -> Option<usize> {
        self.listeners.iter().find(|(_, listener)| listener.wanted == wanted).map(|(index, _)| index)
    }

    /// The listener that has this very address.
    pub fn find_bound(&self, address: SocketAddr) -> Option<usize> {
        self.listeners.iter().find(|(_, listener)| listener.address == address).map(|(index, _)| index)
    }

    /// What a connection of this listener is told by.
    pub fn door(&self, index: usize) -> Option<Door> {
        let listener = self.listeners.get(index)?;
        Some(Door { listener: index, address: listener.address, serve: listener.serve })
    }

    /// Which `[[serve]]` of the present manifest a listener is for; `None` for one that is gone.
    pub fn serve_of(&self, index: usize) -> Option<usize> {
        self.listeners.get(index).map(|listener| listener.serve)
    }

    /// Another manifest serves: carries out what was planned for it, and returns the addresses that are new.
    pub fn apply(&mut self, plan: Plan, registry: &Registry) -> Vec<SocketAddr> {
        let is_kept = |index: &usize| plan.kept.iter().any(|(kept, ..)| kept == index);
        let gone: Vec<usize> = self.listeners.iter().map(|(index, _)| index).filter(|index| !is_kept(index)).collect();
        for (index, serve, connections_max) in plan.kept {
            if let Some(listener) = self.listeners.get_mut(index) {
                listener.serve = serve;
                listener.connections_max = connections_max;
            }
        }
        let mut opened = Vec::new();
        for bound in plan.new {
            opened.push(bound.address);
            let index = self.listeners.insert(Listener::new(bound));
            if let Some(listener) = self.listeners.get_mut(index).filter(|_| self.is_open)
                && let Err(error) =
                    registry.register(&mut listener.socket, Source::Listener(index).token(), Interest::READABLE)
            {
                log::error!("cannot wait for connections to {}: {error}", listener.address);
            }
        }
        // After the new ones, so that none of those has the index of one that clients still name.
        for index in gone {
            let mut listener = self.listeners.remove(index);
            let _ = registry.deregister(&mut listener.socket);
            log::info!("no longer listening on {}", listener.address);
        }
        opened
    }

    /// A connection that came by way of another process is one of this listener.
    pub fn count_adopted(&mut self, index: usize) {
        if let Some(listener) = self.listeners.get_mut(index) {
            listener.connections += 1;
        }
    }

    pub fn handle_readable(&mut self, index: usize) {
        if let Some(listener) = self.listeners.get_mut(index) {
            listener.ready = true;
        }
    }

    pub fn handle_timers(&mut self, now: Instant) {
        if self.resting_until.is_some_and(|until| until <= now) {
            self.resting_until = None;
        }
    }

    /// There may be connections to accept right now.
    pub fn have_work(&self) -> bool {
        self.resting_until.is_none() && self.listeners.iter().any(|(_, listener)| listener.ready)
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.resting_until
    }

    /// How many connections to accept in one turn at the most.
    pub fn accepts_per_turn(&self) -> usize {
        self.listeners.len() * ACCEPTS_PER_TURN
    }

    /// Accepts one connection from any listener that has one.
    pub fn accept(&mut self, now: Instant) -> Accepted {
        if self.resting_until.is_some() {
            return Accepted::Nothing;
        }
        for (index, listener) in &mut self.listeners {
            if !listener.ready {
                continue;
            }
            match listener.socket.accept() {
                Ok((stream, peer)) => {
                    if listener.connections_max.is_some_and(|max| listener.connections >= max) {
                        return Accepted::OneTooMany { stream };
                    }
                    listener.connections += 1;
                    return Accepted::Client { stream, peer, listener: index };
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => listener.ready = false,
                Err(error) => {
                    self.resting_until = accept_error(&error, now);
                    return Accepted::Nothing;
                }
            }
        }
        Accepted::Nothing
    }

    /// A connection that came through this listener is closed.
    pub fn handle_closed(&mut self, listener: usize) {
        if let Some(listener) = self.listeners.get_mut(listener) {
            listener.connections = listener.connections.saturating_sub(1);
        }
    }
}

impl Listener {
    fn new(bound: Bound) -> Listener {
        Listener {
            socket: TcpListener::from_std(bound.socket),
            wanted: bound.wanted.address,
            address: bound.address,
            serve: bound.wanted.serve,
            connections_max: bound.wanted.connections_max,
            connections: 0,
            ready: false,
        }
    }
}

/// accept(2): errors of the one connection are passed over; those of the process call for a rest, or the loop would spin.
pub(super) fn accept_error(error: &io::Error, now: Instant) -> Option<Instant> {
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
            log::error!("cannot accept connections for now: {error}");
            Some(now + ACCEPT_REST)
        }
        _ => {
            log::debug!("a connection was gone before it was accepted: {error}");
            None
        }
    }
}
