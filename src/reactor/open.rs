//! Connections before their first request: accepted within limits, announced by a proxy, secured by TLS.

use std::net::SocketAddr;
use std::time::Instant;

use mio::Interest;

use crate::control::counters::Counters;
use crate::http::{Connection, Scheme, h2};
use crate::transport::{Opening, OpeningError, Socket, Transport};

use super::clients::{Client, TOO_MANY};
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
                Accepted::OneTooMany { socket, peer, listener } => self.refuse(socket, peer, listener, now),
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
        // Of a connection that a proxy announces, it is not known yet whose it is.
        let is_known = !transport.is_announced();
        if self.clients.is_full() || is_known && self.clients.is_crowded(peer) {
            self.listeners.handle_closed(listener);
            return self.refuse(transport.socket, peer, listener, now);
        }
        let token = Source::Client(self.clients.next_index()).token();
        let interest = Interest::READABLE | Interest::WRITABLE;
        match self.poll.registry().register(&mut transport.socket, token, interest) {
            Ok(()) => {
                self.counters.connections_accepted += 1;
                let key = self.clients.insert(transport, peer, door, now);
                if is_known {
                    self.clients.handle_address(key, now);
                }
            }
            Err(error) => {
                self.listeners.handle_closed(listener);
                log::error!("cannot wait for a client: {error}");
            }
        }
    }

    /// There is no place for this one. It is told so where it can understand it without a handshake, and what it has sent already is
    /// read: closed with that unread, the connection would be reset, and the answer lost (RFC 9112, section 9.6).
    fn refuse(&mut self, socket: Socket, peer: Option<SocketAddr>, listener: usize, now: Instant) {
        self.counters.connections_refused += 1;
        let Some(door) = self.listeners.door(listener).filter(|door| door.tls.is_none()) else { return };
        let mut transport = Transport::plain(socket);
        let token = Source::Client(self.clients.next_index()).token();
        let interest = Interest::READABLE | Interest::WRITABLE;
        if self.clients.has_room_for_farewell()
            && self.poll.registry().register(&mut transport.socket, token, interest).is_ok()
        {
            self.clients.insert_farewell(transport, peer, door, now);
        } else {
            let mut connection = Connection::new(self.clients.context().clone(), Scheme::Http, now);
            connection.turn_away(TOO_MANY, now);
            // There is nobody else to tell.
            let _ = transport.write(connection.output());
        }
    }
}

/// Brings a client's transport to the point where HTTP begins. `Some` is how it stands when that is not reached.
pub(super) fn open(client: &mut Client, counters: &mut Counters, now: Instant) -> Option<Progress> {
    // Its time for the first head is over, or the server stops.
    if client.connection.is_closed() {
        return Some(Progress::Ended);
    }
    let transport = client.transport.as_mut()?;
    match transport.open() {
        Opening::Open => {
            client.readable = true;
            if transport.protocol() == Some(h2::PROTOCOL_NAME) {
                client.connection.begin_http2(now);
                counters.connections_http2 += 1;
            }
            None
        }
        Opening::Announced(peer) => {
            client.peer = Some(peer);
            client.readable = true;
            Some(Progress::Announced)
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
