//! Listening sockets: accepts within limits, rests when the process has no descriptors left.

use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry};

use super::Source;

/// Connections accepted from one listener in one turn, so that a flood of them does not hold up those that are there.
const ACCEPTS_PER_TURN: usize = 256;

/// How long a listener rests after accept(2) has failed for want of descriptors or memory.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// A socket that is bound and listening.
#[derive(Debug)]
pub struct Bound {
    pub socket: StdTcpListener,
    pub address: SocketAddr,
    /// Which `[[serve]]` of the manifest it is.
    pub serve: usize,
    /// Connections at a time through this listener, when the manifest says so.
    pub connections_max: Option<usize>,
}

#[derive(Debug)]
struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    serve: usize,
    connections_max: Option<usize>,
    connections: usize,
    ready: bool,
}

/// The listeners of a reactor. Empty once it is stopping.
#[derive(Debug)]
pub struct Listeners {
    listeners: Vec<Listener>,
    resting_until: Option<Instant>,
}

/// What one attempt to accept came to.
#[derive(Debug)]
pub enum Accepted {
    Client {
        stream: TcpStream,
        peer: SocketAddr,
        listener: usize,
        serve: usize,
    },
    /// As the last, but over the listener's own limit: to be told so and closed.
    OneTooMany {
        stream: TcpStream,
    },
    Nothing,
}

impl Listeners {
    pub fn new(bound: Vec<Bound>) -> Listeners {
        let listeners = bound.into_iter().map(|bound| Listener {
            socket: TcpListener::from_std(bound.socket),
            address: bound.address,
            serve: bound.serve,
            connections_max: bound.connections_max,
            connections: 0,
            ready: false,
        });
        Listeners { listeners: listeners.collect(), resting_until: None }
    }

    /// Begins to accept.
    pub fn open(&mut self, registry: &Registry) -> io::Result<()> {
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            registry.register(&mut listener.socket, Source::Listener(index).token(), Interest::READABLE)?;
        }
        Ok(())
    }

    /// Stops to accept and gives the addresses back.
    pub fn close(&mut self, registry: &Registry) {
        for mut listener in self.listeners.drain(..) {
            // It was not registered if no worker has ever been ready; the close that follows is what counts.
            let _ = registry.deregister(&mut listener.socket);
        }
    }

    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.listeners.iter().map(|listener| listener.address)
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
        self.resting_until.is_none() && self.listeners.iter().any(|listener| listener.ready)
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
        for index in 0..self.listeners.len() {
            let Some(listener) = self.listeners.get_mut(index).filter(|listener| listener.ready) else { continue };
            match listener.socket.accept() {
                Ok((stream, peer)) => {
                    if listener.connections_max.is_some_and(|max| listener.connections >= max) {
                        return Accepted::OneTooMany { stream };
                    }
                    listener.connections += 1;
                    return Accepted::Client { stream, peer, listener: index, serve: listener.serve };
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => listener.ready = false,
                Err(error) => self.handle_accept_error(&error, now),
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

    /// accept(2): errors of the one connection are passed over; those of the process call for a rest, or the loop would spin.
    fn handle_accept_error(&mut self, error: &io::Error, now: Instant) {
        match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                log::error!("cannot accept connections for now: {error}");
                self.resting_until = Some(now + ACCEPT_REST);
            }
            _ => log::debug!("a connection was gone before it was accepted: {error}"),
        }
    }
}
