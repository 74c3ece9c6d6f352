//! Slow clients: when a connection waits for its client, and how far that one is behind the least rates.
//!
//! Owns which time counts: only that in which nothing but the client is missing. A guest that is slow, or a body that cannot be taken yet, costs
//! the client nothing. The reactor asks `is_write_due` before `handle_timeout`, and tells by `handle_acknowledged` what the kernel knows.

use std::time::{Duration, Instant};

use super::{Connection, Exchange, Phase, Reply};
use crate::http::patience::Patience;

impl Connection {
    /// Whether `handle_timeout` would judge how fast the client reads: `handle_acknowledged` has to be said first.
    pub fn is_write_due(&self, now: Instant) -> bool {
        self.write_deadline().is_some_and(|deadline| deadline <= now)
    }

    /// The client's side has everything that was written but the last `unacknowledged` bytes.
    pub fn handle_acknowledged(&mut self, unacknowledged: u64, now: Instant) {
        self.outflow.handle_acknowledged(&self.context.timeouts.send, unacknowledged, now);
    }

    /// The server stood still for `leap`, which is no time of the client's.
    pub fn forgive(&mut self, leap: Duration) {
        self.read_since += leap;
        self.outflow.forgive(leap);
    }

    /// Whether it is the client's turn to read: there is output, or a body beside it.
    pub(super) fn is_sending(&self) -> bool {
        let is_beside = matches!(self.phase, Phase::Exchanging(Exchange { reply: Reply::Beside { .. }, .. }));
        is_beside || !self.output().is_empty()
    }

    /// Where it may have stopped to be the client's turn.
    pub(super) fn settle_sending(&mut self, now: Instant) {
        if !self.is_sending() {
            self.outflow.end_turn(&self.context.timeouts.send, now);
        }
    }

    /// Bytes of a request's body have come.
    pub(super) fn settle_receiving(&mut self, count: usize, now: Instant) {
        let waited =
            if self.is_client_awaited() { now.saturating_duration_since(self.read_since) } else { Duration::ZERO };
        self.receive = self.receive.after(&self.context.timeouts.receive, waited, count as u64);
    }

    /// The head is whole: patience with the body is what that has left.
    pub(super) fn settle_head(&mut self, head_bytes: usize, now: Instant) {
        let rate = &self.context.timeouts.receive;
        let waited = now.saturating_duration_since(self.read_since);
        self.receive = Patience::new(rate).after(rate, waited, head_bytes as u64);
    }

    /// Whether nothing can go on before the client has sent more of its body.
    pub(super) fn is_client_awaited(&self) -> bool {
        let Phase::Exchanging(exchange) = &self.phase else { return false };
        exchange.upload.is_starving(self.unread().len()) && !exchange.facts.expects_continue
    }

    /// When patience is over with a client that sends a request too slowly.
    pub(super) fn receive_end(&self) -> Option<Instant> {
        let rate = &self.context.timeouts.receive;
        match &self.phase {
            Phase::ReadingHead(_) => Patience::new(rate).end(rate, self.read_since, self.unread().len() as u64),
            Phase::Exchanging(_) if self.is_client_awaited() => self.receive.end(rate, self.read_since, 0),
            Phase::Exchanging(_)
            | Phase::AwaitingHead { .. }
            | Phase::Discarding { .. }
            | Phase::Closing { .. }
            | Phase::ShuttingWrite
            | Phase::Lingering
            | Phase::Foreign
            | Phase::Closed { .. } => None,
        }
    }
}
