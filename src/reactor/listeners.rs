//! Listening sockets: accepts within limits, rests when the process has no descriptors left.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::event::Source as _;
use mio::net::{TcpListener, UnixListener};
use mio::{Interest, Registry};
use slab::Slab;

use crate::bind::{self, Bound, Wanted};
use crate::config::Address;
use crate::socket_file::SocketFile;
use crate::sys;
use crate::transport::Socket;

use super::clients::Door;
use super::source::Source;

/// Connections accepted from one listener in one turn, so that a flood of them does not hold up those that are there.
const ACCEPTS_PER_TURN: usize = 256;

/// How long a listener rests after accept(2) has failed for want of descriptors or memory.
const ACCEPT_REST: Duration = Duration::from_millis(100);

#[derive(Debug)]
struct Listener {
    socket: Listening,
    /// As the manifest has it.
    wanted: Wanted,
    address: Rc<Address>,
    /// Counts the manifests that have changed who may come in here, and how.
    terms: u32,
    connections: usize,
    ready: bool,
}

#[derive(Debug)]
enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
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
    kept: Vec<(usize, Wanted)>,
    new: Vec<Bound>,
}

impl Plan {
    /// This listener stays, for this `[[serve]]` of the new manifest.
    pub fn keep(&mut self, listener: usize, wanted: Wanted) {
        self.kept.push((listener, wanted));
    }

    pub fn open(&mut self, bound: Bound) {
        self.new.push(bound);
    }
}

/// What one attempt to accept came to.
#[derive(Debug)]
pub enum Accepted {
    Client {
        socket: Socket,
        /// A client of a Unix socket has no address.
        peer: Option<SocketAddr>,
        listener: usize,
    },
    /// As the last, but over the listener's own limit: to be told so and closed.
    OneTooMany {
        socket: Socket,
        peer: Option<SocketAddr>,
        listener: usize,
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
            listener.socket.register(registry, Source::Listener(index).token(), Interest::READABLE)?;
        }
        Ok(())
    }

    /// Stops to accept, and keeps the addresses: connections wait in the kernel.
    pub fn pause(&mut self, registry: &Registry) {
        self.is_open = false;
        for (_, listener) in &mut self.listeners {
            listener.ready = false;
            // It was not registered if no worker has ever been ready.
            let _ = listener.socket.deregister(registry);
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

    /// Leaves the addresses to another process, which has the sockets.
    pub fn hand_over(&mut self, registry: &Registry) {
        for (_, listener) in &mut self.listeners {
            if let Listening::Unix(_, file) = &mut listener.socket {
                file.hand_over();
            }
        }
        self.close(registry);
    }

    /// The files of these Unix sockets, which another process has left to this one, are this one's to remove.
    pub fn take_over(&mut self, paths: &[PathBuf]) {
        for (_, listener) in &mut self.listeners {
            if let (Listening::Unix(_, file), Address::Unix(path)) = (&mut listener.socket, &*listener.address)
                && paths.contains(path)
            {
                file.take_over();
            }
        }
    }

    /// The Unix sockets whose files are this process's to remove.
    pub fn socket_files(&self) -> Vec<PathBuf> {
        let own = self.listeners.iter().filter_map(|(_, listener)| match (&listener.socket, &*listener.address) {
            (Listening::Unix(_, file), Address::Unix(path)) if file.is_ours() => Some(path.clone()),
            _ => None,
        });
        own.collect()
    }

    /// Each address, and whether TLS is spoken there.
    pub fn addresses(&self) -> impl Iterator<Item = (&Address, bool)> {
        self.listeners.iter().map(|(_, listener)| (&*listener.address, listener.wanted.tls.is_some()))
    }

    /// Each address with its open connections.
    pub fn connections(&self) -> impl Iterator<Item = (&Address, usize)> {
        self.listeners.iter().map(|(_, listener)| (&*listener.address, listener.connections))
    }

    /// The listening sockets, for who takes over.
    pub fn sockets(&self) -> impl Iterator<Item = (Address, BorrowedFd<'_>)> {
        self.listeners.iter().map(|(_, listener)| (listener.wanted.address.clone(), listener.socket.as_fd()))
    }

    /// The listener of an address as a manifest has it.
    pub fn find(&self, wanted: &Address) -> Option<usize> {
        self.listeners.iter().find(|(_, listener)| listener.wanted.address == *wanted).map(|(index, _)| index)
    }

    /// The listener that has this very address.
    pub fn find_bound(&self, address: &Address) -> Option<usize> {
        self.listeners.iter().find(|(_, listener)| *listener.address == *address).map(|(index, _)| index)
    }

    /// What a connection of this listener is told by.
    pub fn door(&self, index: usize) -> Option<Door<'_>> {
        let Listener { address, wanted, terms, .. } = self.listeners.get(index)?;
        let Wanted { serve, proxies, tls, http2, .. } = wanted;
        let (proxies, tls) = (proxies.as_deref(), tls.as_ref());
        Some(Door { listener: index, address, serve: *serve, terms: *terms, proxies, tls, http2: *http2 })
    }

    /// A client can be told something before it has said anything: it would not take it for a broken handshake.
    pub fn is_plain(&self, index: usize) -> bool {
        self.listeners.get(index).is_some_and(|listener| listener.wanted.tls.is_none())
    }

    /// Which `[[serve]]` of the present manifest a listener is for, and its terms; `None` for one that is gone.
    pub fn serve_of(&self, index: usize) -> Option<(usize, u32)> {
        self.listeners.get(index).map(|listener| (listener.wanted.serve, listener.terms))
    }

    /// Another manifest serves: carries out what was planned for it, and returns the addresses that are new.
    pub fn apply(&mut self, plan: Plan, registry: &Registry) -> Vec<(Address, bool)> {
        let is_kept = |index: &usize| plan.kept.iter().any(|(kept, ..)| kept == index);
        let gone: Vec<usize> = self.listeners.iter().map(|(index, _)| index).filter(|index| !is_kept(index)).collect();
        for (index, wanted) in plan.kept {
            if let Some(listener) = self.listeners.get_mut(index) {
                listener.renew(wanted);
            }
        }
        let mut opened = Vec::new();
        for bound in plan.new {
            opened.push((bound.address.clone(), bound.wanted.tls.is_some()));
            let index = self.listeners.insert(Listener::new(bound));
            if let Some(listener) = self.listeners.get_mut(index).filter(|_| self.is_open)
                && let Err(error) =
                    listener.socket.register(registry, Source::Listener(index).token(), Interest::READABLE)
            {
                log::error!("cannot wait for connections to {}: {error}", listener.address);
            }
        }
        // After the new ones, so that none of those has the index of one that clients still name.
        for index in gone {
            let mut listener = self.listeners.remove(index);
            let _ = listener.socket.deregister(registry);
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
                Ok((socket, peer)) => {
                    if listener.wanted.connections_max.is_some_and(|max| listener.connections >= max) {
                        return Accepted::OneTooMany { socket, peer, listener: index };
                    }
                    listener.connections += 1;
                    return Accepted::Client { socket, peer, listener: index };
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
            socket: match bound.socket {
                bind::Socket::Tcp(socket) => Listening::Tcp(TcpListener::from_std(socket)),
                bind::Socket::Unix(socket, file) => Listening::Unix(UnixListener::from_std(socket), file),
            },
            wanted: bound.wanted,
            address: Rc::new(bound.address),
            terms: 0,
            connections: 0,
            ready: false,
        }
    }

    /// Another manifest wants this address. What of the socket cannot be changed any more is told.
    fn renew(&mut self, mut wanted: Wanted) {
        let former = &mut self.wanted;
        let is_same_door = former.proxies == wanted.proxies
            && match (&former.tls, &wanted.tls) {
                (None, None) => true,
                (Some(former), Some(new)) => new.asks_as(former),
                (None, Some(_)) | (Some(_), None) => false,
            };
        self.terms += u32::from(!is_same_door);
        wanted.tls = match (wanted.tls, &former.tls) {
            (Some(new), Some(former)) => Some(new.succeeding(former)),
            (new, _) => new,
        };
        let (new, old) = (wanted.options, former.options);
        if wanted.backlog != former.backlog
            && let Err(error) = sys::set_backlog(&self.socket, wanted.backlog)
        {
            log::warn!("cannot change the backlog of {}: {error}", self.address);
        }
        if new.mode != old.mode
            && let (Some(mode), Listening::Unix(_, file)) = (new.mode, &self.socket)
            && let Err(error) = file.set_mode(mode)
        {
            log::warn!("cannot change the permissions of {}: {error}", self.address);
        }
        if (new.reuse_port, new.ipv6_only) != (old.reuse_port, old.ipv6_only) {
            log::warn!("{}: reuse-port and ipv6-only stay as they are until the next start", self.address);
        }
        *former = wanted;
    }
}

impl Listening {
    fn accept(&self) -> io::Result<(Socket, Option<SocketAddr>)> {
        match self {
            Listening::Tcp(listener) => listener.accept().map(|(stream, peer)| (Socket::Tcp(stream), Some(peer))),
            Listening::Unix(listener, _) => listener.accept().map(|(stream, _)| (Socket::Unix(stream), None)),
        }
    }

    fn register(&mut self, registry: &Registry, token: mio::Token, interest: Interest) -> io::Result<()> {
        match self {
            Listening::Tcp(listener) => listener.register(registry, token, interest),
            Listening::Unix(listener, _) => listener.register(registry, token, interest),
        }
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match self {
            Listening::Tcp(listener) => listener.deregister(registry),
            Listening::Unix(listener, _) => listener.deregister(registry),
        }
    }
}

impl AsFd for Listening {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Listening::Tcp(listener) => listener.as_fd(),
            Listening::Unix(listener, _) => listener.as_fd(),
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
