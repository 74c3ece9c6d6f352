//! How a client takes what is written to its socket: since when it has been its turn, and what it is known to have.
//!
//! Owns that account for a connection of either version; the connection says when bytes are written and whether there are more, and the reactor
//! what the kernel knows.

use std::time::{Duration, Instant};

use super::limits::Timeouts;
use super::patience::{MinRate, Patience};

/// The account of one socket.
#[derive(Debug)]
pub(super) struct Outflow {
    /// Since when the output waits for the client, without a byte taken.
    pub(super) write_since: Instant,
    /// Patience with a client that reads, and until when its time has been counted, while it is the client's turn.
    patience: Patience,
    counted_until: Instant,
    /// Bytes that have been written, and how many of them the client's side is known to have.
    written: u64,
    acknowledged: u64,
}

impl Outflow {
    pub(super) fn new(rate: &MinRate, now: Instant) -> Outflow {
        Outflow { write_since: now, patience: Patience::new(rate), counted_until: now, written: 0, acknowledged: 0 }
    }

    /// From now on it is the client's turn: it was not before.
    pub(super) fn begin_turn(&mut self, now: Instant) {
        self.counted_until = now;
    }

    /// So many bytes have been written.
    pub(super) fn handle_written(&mut self, count: u64, now: Instant) {
        self.written += count;
        self.write_since = now;
    }

    /// It is not the client's turn any more: what it is given later is counted when somebody looks.
    pub(super) fn end_turn(&mut self, rate: &MinRate, now: Instant) {
        self.count(rate, 0, now);
    }

    /// The client's side has everything that was written but the last `unacknowledged` bytes. A socket that takes nothing has much in it: it tells
    /// of room only when a third of that is gone, and a client may need minutes for so much.
    pub(super) fn handle_acknowledged(&mut self, rate: &MinRate, unacknowledged: u64, now: Instant) {
        let acknowledged = self.written.saturating_sub(unacknowledged).max(self.acknowledged);
        let fresh = acknowledged - self.acknowledged;
        self.acknowledged = acknowledged;
        if fresh > 0 {
            self.write_since = now;
        }
        self.count(rate, fresh, now);
    }

    fn count(&mut self, rate: &MinRate, bytes: u64, now: Instant) {
        let waited = now.saturating_duration_since(self.counted_until);
        self.patience = self.patience.after(rate, waited, bytes);
        self.counted_until = now;
    }

    /// The server stood still for `leap`, which is no time of the client's.
    pub(super) fn forgive(&mut self, leap: Duration) {
        self.write_since += leap;
        self.counted_until += leap;
    }

    /// When somebody has to look at a client whose turn it is.
    pub(super) fn deadline(&self, timeouts: &Timeouts) -> Instant {
        let pause_end = self.write_since + timeouts.write;
        let next_look = self.patience.next_look(&timeouts.send, self.counted_until);
        next_look.map_or(pause_end, |look| look.min(pause_end))
    }
}
