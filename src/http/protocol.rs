//! What a client of the reactor speaks: a connection of HTTP/1.1, or one of HTTP/2, or a request of that.
//!
//! Owns nothing but the choice. A connection of HTTP/1.1 has two sides: bytes, and one request after the other. In HTTP/2 these are two clients,
//! a session with the bytes and a stream with the request: of each, the other side is silent here.

use std::time::{Duration, Instant};

use super::connection::{Connection, Event};
use super::context::DATE_BYTES;
use super::error::ResponseError;
use super::fields::Header;
use super::h2::{Session, Stream};
use super::request_id::PublicId;
use super::response::ResponseHead;

/// See the module's documentation.
#[derive(Debug)]
pub enum Protocol {
    Http1(Connection),
    Session(Box<Session>),
    Stream(Box<Stream>),
}

impl From<Connection> for Protocol {
    fn from(connection: Connection) -> Self {
        Self::Http1(connection)
    }
}

/// The side of bytes.
impl Protocol {
    /// Goes over to HTTP/2, with the bytes that have come of it already.
    pub fn begin_http2(&mut self, now: Instant) {
        let Self::Http1(connection) = self else { return };
        let mut session = Session::new(connection.context().clone(), connection.scheme(), now);
        session.handle_input(connection.foreign_input(), now);
        if connection.is_draining() {
            session.begin_drain();
        }
        *self = Self::Session(Box::new(session));
    }

    /// A connection has begun with the preface of HTTP/2.
    pub const fn is_foreign(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.is_foreign(),
            Self::Session(_) | Self::Stream(_) => false,
        }
    }

    pub fn handle_input(&mut self, bytes: &[u8], now: Instant) {
        match self {
            Self::Http1(connection) => connection.handle_input(bytes, now),
            Self::Session(session) => session.handle_input(bytes, now),
            Self::Stream(_) => {}
        }
    }

    pub fn handle_eof(&mut self, now: Instant) {
        match self {
            Self::Http1(connection) => connection.handle_eof(now),
            Self::Session(session) => session.handle_eof(),
            Self::Stream(_) => {}
        }
    }

    pub fn handle_plain_http(&mut self, now: Instant) {
        match self {
            Self::Http1(connection) => connection.handle_plain_http(now),
            Self::Session(_) | Self::Stream(_) => {}
        }
    }

    pub fn turn_away(&mut self, reason: &str, now: Instant) {
        match self {
            Self::Http1(connection) => connection.turn_away(reason, now),
            Self::Session(_) | Self::Stream(_) => self.abort(),
        }
    }

    pub fn begin_drain(&mut self) {
        match self {
            Self::Http1(connection) => connection.begin_drain(),
            Self::Session(session) => session.begin_drain(),
            // Its session waits for it.
            Self::Stream(_) => {}
        }
    }

    pub fn wants_input(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.wants_input(),
            Self::Session(session) => session.wants_input(),
            Self::Stream(_) => false,
        }
    }

    /// Whether it has been given as much at this time as its requests should be let work off first.
    pub fn is_sated(&self, now: Instant) -> bool {
        match self {
            Self::Http1(_) | Self::Stream(_) => false,
            Self::Session(session) => session.is_sated(now),
        }
    }

    pub fn output(&self) -> &[u8] {
        match self {
            Self::Http1(connection) => connection.output(),
            Self::Session(session) => session.output(),
            Self::Stream(_) => &[],
        }
    }

    pub fn consume_output(&mut self, count: usize, now: Instant) {
        match self {
            Self::Http1(connection) => connection.consume_output(count, now),
            Self::Session(session) => session.consume_output(count, now),
            Self::Stream(_) => {}
        }
    }

    /// Has the library of HTTP/2 go on, where there is something to move.
    pub fn advance(&mut self, now: Instant) {
        match self {
            Self::Http1(_) => {}
            Self::Session(session) => session.advance(now),
            Self::Stream(stream) => stream.advance(now),
        }
    }

    pub const fn should_shutdown_write(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.should_shutdown_write(),
            Self::Session(session) => session.should_shutdown_write(),
            Self::Stream(_) => false,
        }
    }

    pub fn handle_write_shutdown(&mut self) {
        match self {
            Self::Http1(connection) => connection.handle_write_shutdown(),
            Self::Session(session) => session.handle_write_shutdown(),
            Self::Stream(_) => {}
        }
    }

    /// Whether nothing is in progress that another process could not go on with.
    pub fn is_idle(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.is_idle(),
            Self::Session(_) | Self::Stream(_) => false,
        }
    }
}

/// Both sides.
impl Protocol {
    pub fn handle_disconnect(&mut self) {
        match self {
            Self::Http1(connection) => connection.handle_disconnect(),
            Self::Session(session) => session.handle_disconnect(),
            Self::Stream(stream) => stream.handle_disconnect(),
        }
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        match self {
            Self::Http1(connection) => connection.handle_timeout(now),
            Self::Session(session) => session.handle_timeout(now),
            Self::Stream(stream) => stream.handle_timeout(now),
        }
    }

    /// The server stood still for `leap`: the client is not late by that time.
    pub fn forgive(&mut self, leap: Duration) {
        match self {
            Self::Http1(connection) => connection.forgive(leap),
            Self::Session(session) => session.forgive(leap),
            Self::Stream(stream) => stream.forgive(leap),
        }
    }

    /// Whether `handle_timeout` would judge how fast the client's side takes bytes: `handle_acknowledged` has to be said first.
    pub fn is_write_due(&self, now: Instant) -> bool {
        match self {
            Self::Http1(connection) => connection.is_write_due(now),
            Self::Session(session) => session.is_write_due(now),
            Self::Stream(_) => false,
        }
    }

    /// The client's side has everything that was written but so many bytes.
    pub fn handle_acknowledged(&mut self, unacknowledged: u64, now: Instant) {
        match self {
            Self::Http1(connection) => connection.handle_acknowledged(unacknowledged, now),
            Self::Session(session) => session.handle_acknowledged(unacknowledged, now),
            Self::Stream(_) => {}
        }
    }

    pub fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Http1(connection) => connection.deadline(),
            Self::Session(session) => session.deadline(),
            Self::Stream(stream) => stream.deadline(),
        }
    }

    pub fn abort(&mut self) {
        match self {
            Self::Http1(connection) => connection.abort(),
            Self::Session(session) => session.abort(),
            Self::Stream(stream) => stream.abort(),
        }
    }

    pub const fn is_closed(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.is_closed(),
            Self::Session(session) => session.is_closed(),
            Self::Stream(stream) => stream.is_closed(),
        }
    }

    pub const fn was_cut(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.was_cut(),
            Self::Session(session) => session.was_cut(),
            Self::Stream(stream) => stream.was_cut(),
        }
    }
}

/// The side of requests.
impl Protocol {
    pub fn poll_event(&mut self, now: Instant) -> Option<Event<'_>> {
        match self {
            Self::Http1(connection) => connection.poll_event(now),
            Self::Session(_) => None,
            Self::Stream(stream) => stream.poll_event(now),
        }
    }

    /// Whether there is an event that was held back, or not asked for, or the library of HTTP/2 can go on.
    pub fn wants_poll(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.wants_poll(),
            Self::Session(session) => session.wants_advance(),
            Self::Stream(stream) => stream.wants_poll(),
        }
    }

    /// Bytes of responses that the client has not taken.
    pub fn unsent(&self) -> usize {
        match self {
            Self::Http1(connection) => connection.output().len(),
            Self::Session(session) => session.output().len(),
            Self::Stream(stream) => stream.unsent(),
        }
    }

    pub fn date(&self) -> [u8; DATE_BYTES] {
        match self {
            Self::Http1(connection) => connection.date(),
            Self::Session(session) => session.context().date(),
            Self::Stream(stream) => stream.date(),
        }
    }

    pub fn respond_head(&mut self, head: &ResponseHead<'_>, now: Instant) -> Result<(), ResponseError> {
        match self {
            Self::Http1(connection) => connection.respond_head(head, now),
            Self::Session(_) => Err(ResponseError::OutOfOrder),
            Self::Stream(stream) => stream.respond_head(head, now),
        }
    }

    pub fn respond_body(&mut self, bytes: &[u8], now: Instant) -> Result<(), ResponseError> {
        match self {
            Self::Http1(connection) => connection.respond_body(bytes, now),
            Self::Session(_) => Err(ResponseError::OutOfOrder),
            Self::Stream(stream) => stream.respond_body(bytes, now),
        }
    }

    pub fn respond_end(&mut self, trailers: &[Header<'_>], now: Instant) -> Result<(), ResponseError> {
        match self {
            Self::Http1(connection) => connection.respond_end(trailers, now),
            Self::Session(_) => Err(ResponseError::OutOfOrder),
            Self::Stream(stream) => stream.respond_end(trailers, now),
        }
    }

    pub fn respond_error(
        &mut self,
        status: u16,
        detail: &str,
        request_id: &str,
        extra: &[Header<'_>],
        now: Instant,
    ) -> u64 {
        match self {
            Self::Http1(connection) => connection.respond_error(status, detail, request_id, extra, now),
            Self::Session(_) => 0,
            Self::Stream(stream) => stream.respond_error(status, detail, request_id, extra, now),
        }
    }

    /// Says what the request in progress is called, should the rest of it be refused.
    pub fn name_request(&mut self, id: PublicId) {
        match self {
            Self::Http1(connection) => connection.name_request(id),
            Self::Session(_) => {}
            Self::Stream(stream) => stream.name_request(id),
        }
    }

    pub fn respond_continue(&mut self, now: Instant) {
        match self {
            Self::Http1(connection) => connection.respond_continue(now),
            Self::Session(_) => {}
            Self::Stream(stream) => stream.respond_continue(now),
        }
    }

    pub fn respond_beside(&mut self, head: &ResponseHead<'_>, now: Instant) -> Result<u64, ResponseError> {
        match self {
            Self::Http1(connection) => connection.respond_beside(head, now),
            Self::Session(_) => Err(ResponseError::OutOfOrder),
            Self::Stream(stream) => stream.respond_beside(head, now),
        }
    }

    pub fn respond_beside_bytes(&mut self, bytes: &[u8], now: Instant) {
        match self {
            Self::Http1(connection) => connection.respond_beside_bytes(bytes, now),
            Self::Session(_) => {}
            Self::Stream(stream) => stream.respond_beside_bytes(bytes, now),
        }
    }

    /// Bytes of a body have passed beside the connection; a stream has no such way.
    pub fn handle_sent_beside(&mut self, count: u64, now: Instant) {
        match self {
            Self::Http1(connection) => connection.handle_sent_beside(count, now),
            Self::Session(_) | Self::Stream(_) => {}
        }
    }

    /// Somebody else needs what this client holds with a body that it does not send.
    pub fn give_up_body(&mut self, now: Instant) {
        match self {
            Self::Http1(connection) => connection.give_up_body(now),
            Self::Session(_) => {}
            Self::Stream(stream) => stream.give_up_body(now),
        }
    }

    pub fn break_off(&mut self, now: Instant) {
        match self {
            Self::Http1(connection) => connection.break_off(now),
            Self::Session(session) => session.abort(),
            Self::Stream(stream) => stream.break_off(),
        }
    }
}
