//! Connections before their first request: accepted within limits, announced by a proxy, secured by TLS.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Instant;

use mio::Interest;

use crate::control::counters::Counters;
use crate::transport::{Opening, OpeningError, Socket, Transport};

use super::clients::Client;
use super::drive::Progress;
use super::listeners::Accepted;
use super::source::Source;
use super::{Phase, Reactor};

impl Reactor<'_> {
    /// Accepts what waits, within the share of one turn and within the limits.
    pub(super) fn accept(&mut self, now: Instant) {
        if self.phase != Phase::Serving || !self.listeners.is_open() {
            return;
        }
        for _ in 0..self.listeners.accepts_per_turn() {
            match self.listeners.accept(now) {
                Accepted::Nothing => return,
                Accepted::OneTooMany { socket, listener } => self.refuse(socket, listener),
                Accepted::Client { socket, peer, listener } => self.admit(socket, peer, listener, now),
            }
        }
    }

    /// Takes a connection of this listener, which counts it, unless there are too many or its peer may not come in here.
    pub(super) fn admit(&mut self, socket: Socket, peer: Option<SocketAddr>, listener: usize, now: Instant) {
        let Some(door) = self.listeners.door(listener) else { return };
        if door.proxies.is_some_and(|proxies| !proxies.contain(peer)) {
            // Not a word to somebody who could say anything about himself.
            log::debug!("{} is closed to a peer that is no trusted proxy: {peer:?}", door.address);
            self.counters.openings_failed += 1;
            return self.listeners.handle_closed(listener);
        }
        socket.set_nodelay();
        match Transport::new(socket, door.proxies.is_some(), door.tls.cloned()) {
            Ok(transport) => self.welcome(transport, peer, listener, now),
            Err(error) => {
                log::error!("cannot begin with a client: {error}");
                self.listeners.handle_closed(listener);
            }
        }
    }

    /// Takes a connection that may come in.
    pub(super) fn welcome(
        &mut self,
        mut transport: Transport,
        peer: Option<SocketAddr>,
        listener: usize,
        now: Instant,
    ) {
        let Some(door) = self.listeners.door(listener) else { return };
        if self.clients.is_full() {
            self.listeners.handle_closed(listener);
            return self.refuse(transport.socket, listener);
        }
        let token = Source::Client(self.clients.next_index()).token();
        let interest = Interest::READABLE | Interest::WRITABLE;
        match self.poll.registry().register(&mut transport.socket, token, interest) {
            Ok(()) => {
                self.counters.connections_accepted += 1;
                self.clients.insert(transport, peer, door, now);
            }
            Err(error) => {
                self.listeners.handle_closed(listener);
                log::error!("cannot wait for a client: {error}");
            }
        }
    }

    /// There is no place for this one. It is told so where it can understand it without a handshake.
    fn refuse(&mut self, socket: Socket, listener: usize) {
        self.counters.connections_refused += 1;
        if self.listeners.is_plain(listener) {
            turn_away(socket);
        }
    }
}

/// Brings a client's transport to the point where HTTP begins. `Some` is how it stands when that is not reached.
pub(super) fn open(client: &mut Client, counters: &mut Counters, now: Instant) -> Option<Progress> {
    // Its time for the first head is over, or the server stops.
    if client.connection.is_closed() {
        return Some(Progress::Ended);
    }
    match client.transport.open() {
        Opening::Open => {
            client.readable = true;
            None
        }
        Opening::Announced(peer) => {
            client.peer = Some(peer);
            client.readable = true;
            client.transport.is_opening().then_some(Progress::Postponed)
        }
        Opening::PlainHttp => {
            counters.openings_failed += 1;
            client.connection.handle_plain_http(now);
            None
        }
        Opening::Waits => Some(Progress::Waits),
        Opening::Postponed => Some(Progress::Postponed),
        Opening::Failed(error) => {
            let is_farewell = matches!(error, OpeningError::Gone);
            counters.openings_failed += u64::from(!is_farewell);
            log::debug!("{:?}: {error}", client.peer);
            Some(Progress::Ended)
        }
    }
}

/// Tells a client for which there is no place so, if its socket takes that at once, and closes.
pub(super) fn turn_away(mut stream: impl Write) {
    const BUSY: &[u8] =
        b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\nContent-Length: 21\r\n\
        Content-Type: text/plain\r\n\r\ntoo many connections\n";
    // There is nobody else to tell.
    let _ = stream.write(BUSY);
}
