//! Clients that hold a worker: its guest waits for a body that its client does not send.
//!
//! Owns who of them may have the last free worker, and how long one may stand still while others wait. Pure but for the client that it sends away;
//! `dispatch` drives it. Such a client costs nothing but a worker, so that it may stay while nobody else needs that.

use std::time::{Duration, Instant};

use rusmd_proto::RequestId;
use rusmd_proto::limits::BODY_CHUNK_BYTES_MAX;

use crate::request::{Stage, Upload};

use super::backend::Backend;
use super::clients::Clients;

/// A client that has sent nothing for so long holds its worker, though it may go on in a moment.
const STILL_AFTER: Duration = Duration::from_millis(250);

/// One at a time: the worker of the last one is free only when its guest has noticed.
const BETWEEN: Duration = Duration::from_millis(250);

/// Who has held a worker is likely not to be alone: for so long, the last free worker is for requests that are whole.
const WARY_FOR: Duration = Duration::from_secs(60);

/// What is remembered of clients that held workers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holding {
    /// A client that has sent nothing for so long loses its worker when others wait for one.
    patience: Duration,
    sent_away_at: Option<Instant>,
    /// When to look for one the next time.
    look_at: Option<Instant>,
}

impl Holding {
    pub(super) fn new(patience: Duration) -> Holding {
        Holding { patience, sent_away_at: None, look_at: None }
    }

    pub(super) fn next_look(self) -> Option<Instant> {
        self.look_at
    }

    fn is_wary(self, now: Instant) -> bool {
        self.sent_away_at.is_some_and(|at| now < at + WARY_FOR)
    }
}

impl Backend {
    /// The request whose turn it is, and whether it is offered. Uploads that are not whole are passed over while only whole requests may have the
    /// worker that is left.
    pub(super) fn next_in_turn(&self, now: Instant) -> Option<(RequestId, bool)> {
        let front = self.queue.front()?;
        if front.1 || self.may_have_worker(front.0, now) {
            return Some(front);
        }
        self.queue.find(|id| self.is_whole(id)).map(|id| (id, false))
    }

    /// Whether the next free worker may be this request's: the last one is kept from an upload while another one stands still.
    pub(super) fn may_have_worker(&self, id: RequestId, now: Instant) -> bool {
        if self.is_whole(id) || !self.pool.has_last_room() {
            return true;
        }
        let is_wary = self.holding.is_wary(now);
        !self.uploads_at_work().any(|(_, since)| is_wary || now >= since + STILL_AFTER)
    }

    /// Whether as many uploads wait in the queue as may: the other half is for requests that are whole.
    pub(super) fn are_uploads_too_many(&self) -> bool {
        let most = self.queue.length_max().div_ceil(2);
        self.queue.len() >= most && self.queue.count(|id| !self.is_whole(id)) >= most
    }

    /// Sends the client away that has held a worker for the longest time, if others wait for that.
    pub(super) fn free_held_worker(&mut self, clients: &mut Clients, now: Instant) {
        self.holding.look_at = None;
        if self.queue.is_empty() || (self.pool.has_room() && self.next_in_turn(now).is_some()) {
            return;
        }
        let Some((id, since)) = self.uploads_at_work().min_by_key(|(_, since)| *since) else { return };
        let end = since + self.holding.patience;
        let end = self.holding.sent_away_at.map_or(end, |at| end.max(at + BETWEEN));
        if end > now {
            self.holding.look_at = Some(end);
            return;
        }
        self.holding.sent_away_at = Some(now);
        self.holding.look_at = Some(now + BETWEEN);
        if let Some(client) =
            self.requests.get(id).and_then(|request| request.client).and_then(|key| clients.get_mut(key))
        {
            log::debug!("{:?} held a worker with an upload that stood still, and others waited", client.peer);
            client.connection.give_up_body(now);
            let key = client.key;
            clients.touch(key);
        }
    }

    pub(super) fn is_whole(&self, id: RequestId) -> bool {
        self.requests.get(id).is_none_or(|request| match request.upload {
            Upload::Over | Upload::BrokenOff => true,
            Upload::Open { .. } => false,
        })
    }

    /// Uploads that workers have and more of which could be taken, each with the last sign of its life.
    fn uploads_at_work(&self) -> impl Iterator<Item = (RequestId, Instant)> {
        let at_work = self.pool.slots().filter_map(|slot| self.pool.request(slot));
        at_work.filter_map(|id| {
            let request = self.requests.get(id)?;
            let waits = match (request.stage, request.upload) {
                (Stage::Sent { .. } | Stage::HeadOut { .. }, Upload::Open { credit }) => {
                    request.client.is_some() && credit as usize >= BODY_CHUNK_BYTES_MAX
                }
                _ => false,
            };
            let since = request.deadline.checked_sub(self.request_timeout)?;
            waits.then_some((id, since))
        })
    }
}
