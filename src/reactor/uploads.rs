//! How bodies of requests get to workers: collected until it is worth a worker's while, then passed on as the guest takes them.
//!
//! Owns when a request with a body goes to a worker, and what is kept of it so that another worker can have it. Never touches a socket. `drive`
//! gives it what clients send.

use std::time::Instant;

use rusmd_proto::limits::{BODY_CHUNK_BYTES_MAX, WINDOW_BYTES};
use rusmd_proto::message::encode_body;
use rusmd_proto::{Kind, RequestId, ToWorker, Trailers};

use crate::answer::Answer;
use crate::http;
use crate::pieces;
use crate::request::{Replay, Request, Stage, Upload};

use super::backend::{Backend, worker};

/// A request is given to a worker once its body is whole, or once this much of it is there: a body that trickles in holds no worker.
pub const COLLECT_BYTES: u32 = 64 * 1024;

/// Most bytes kept of a request so that another worker can be given it: a whole window and a head.
pub const RETAIN_BYTES: usize = WINDOW_BYTES as usize + BODY_CHUNK_BYTES_MAX;

impl Backend {
    /// Whether a request that comes now finds a free worker, or a place in the queue.
    pub(super) fn has_place(&self) -> bool {
        self.queue.has_room() || (self.queue.is_empty() && self.pool.has_room())
    }

    /// True when the next piece of this request's body can be taken from the client.
    pub fn wants_body(&self, id: RequestId) -> bool {
        let Some(request) = self.requests.get(id) else { return true };
        match (request.stage, request.upload) {
            (_, Upload::Over | Upload::BrokenOff) | (Stage::Reading, _) => true,
            (Stage::Queued | Stage::Offered { .. }, Upload::Open { .. }) => false,
            (
                Stage::Sent { .. } | Stage::HeadOut { .. } | Stage::Finishing { .. } | Stage::Interrupted { .. },
                Upload::Open { credit },
            ) => credit as usize >= BODY_CHUNK_BYTES_MAX,
        }
    }

    /// Passes on a piece of the body, or keeps it until a worker has the request.
    pub fn take_body(&mut self, id: RequestId, bytes: &[u8], now: Instant) -> Result<(), Answer> {
        let Some(request) = self.requests.get_mut(id) else { return Ok(()) };
        let Upload::Open { credit } = request.upload else { return Ok(()) };
        let credit = credit.saturating_sub(bytes.len() as u32);
        request.upload = Upload::Open { credit };
        request.deadline = now + self.request_timeout;
        // Nobody has granted anything yet, so that what is missing of the window is what has been collected.
        let is_collected = request.stage == Stage::Reading && WINDOW_BYTES - credit >= COLLECT_BYTES;
        self.pass_on_piece(id, bytes);
        if is_collected { self.admit(id, now) } else { Ok(()) }
    }

    /// The body is whole: the request can be given to a worker.
    pub fn end_body(&mut self, id: RequestId, trailers: http::Headers<'_>, now: Instant) -> Result<(), Answer> {
        let Some(request) = self.requests.get_mut(id) else { return Ok(()) };
        let reading = request.stage == Stage::Reading;
        if let Upload::Open { .. } = request.upload {
            request.upload = Upload::Over;
            self.pass_on(id, |id, out| {
                if trailers.is_empty() {
                    encode_body(out, Kind::RequestBody, id, &[], true).is_ok()
                } else {
                    let trailers = Trailers { headers: trailers.iter().collect() };
                    ToWorker::RequestTrailers { id, trailers }.encode(out).is_ok()
                }
            });
        }
        if reading { self.admit(id, now) } else { Ok(()) }
    }

    /// The rest of the body will not come.
    pub(super) fn abort_body(&mut self, id: RequestId, now: Instant) {
        self.withdraw(id, now);
        let Some(request) = self.requests.get_mut(id) else { return };
        match request.stage {
            Stage::Reading | Stage::Queued => self.forget(id),
            Stage::Offered { .. }
            | Stage::Sent { .. }
            | Stage::HeadOut { .. }
            | Stage::Finishing { .. }
            | Stage::Interrupted { .. } => {
                if let Upload::Open { .. } = request.upload {
                    request.upload = Upload::BrokenOff;
                    self.pass_on(id, |id, out| ToWorker::RequestAborted { id }.encode(out).is_ok());
                }
            }
        }
    }

    /// Sends a piece of the body to where this request's frames go now: to what a worker will be sent, or to the worker that has it.
    fn pass_on_piece(&mut self, id: RequestId, bytes: &[u8]) {
        let Some(request) = self.requests.get_mut(id) else { return };
        if is_kept(request) {
            pieces::append(&mut request.frames, &mut request.last_piece, id, bytes);
        }
        if let Some(slot) = request.slot() {
            if let Some(worker) = worker(&mut self.workers, slot) {
                worker.link.send_piece(id, bytes);
            }
            self.talk(slot);
        }
    }

    /// The same with any frames.
    fn pass_on(&mut self, id: RequestId, encode: impl Fn(RequestId, &mut Vec<u8>) -> bool) {
        let Some(request) = self.requests.get_mut(id) else { return };
        if is_kept(request) {
            let encoded = encode(id, &mut request.frames);
            debug_assert!(encoded, "trailers are bounded by http's limits");
        }
        if let Some(slot) = request.slot() {
            if let Some(worker) = worker(&mut self.workers, slot) {
                worker.link.encode(|out| encode(id, out));
            }
            self.talk(slot);
        }
    }
}

/// Whether what is passed on now is kept as well. A worker grants credit only for what its guest has taken, so that the window bounds what is kept.
fn is_kept(request: &mut Request) -> bool {
    // What no worker has is kept in any case, and is no more than what is collected.
    let has_room = request.slot().is_none() || request.frames.len() < RETAIN_BYTES;
    if request.replay == Replay::Possible && !has_room {
        request.replay = Replay::Impossible;
    }
    request.replay == Replay::Possible
}
