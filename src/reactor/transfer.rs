//! Requests move: what no worker has of a generation that another has replaced is the new one's, where that would serve it in the same way.
//!
//! Owns what a request is made of that differs between two generations: its number, its component's place on the wire, its parameters, what it is
//! blamed as. Everything else of it stays, its place in the queue and its time there included. Driven by `reload` when the generations change
//! places, and by `mod` where a request has come back from a worker of a generation that gets no more of them.

use std::time::Instant;

use rusmd_proto::limits::FRAME_HEADER_BYTES;
use rusmd_proto::{Frame, FrameHeader, RequestHead, RequestId, ToWorker};

use crate::app::{App, Lookup};
use crate::blame::Key;
use crate::request::{GenerationId, REQUESTS_MAX, Request, Stage};
use crate::router::Params;

use super::Reactor;
use super::backend::{Backend, Standing};

impl Reactor<'_> {
    /// The generation that serves takes over what waits in this one.
    pub(super) fn move_waiting(&mut self, from: GenerationId, now: Instant) {
        let Some((old, new)) = self.generations.with_current(from) else { return };
        // In the order of the queue, then those whose bodies are not there yet.
        let is_reading = |request: &&Request| request.stage == Stage::Reading;
        let mut waiting: Vec<RequestId> = old.queue.requests().collect();
        waiting.extend(old.requests.iter().filter(is_reading).map(|request| request.id));
        let count = waiting.len();
        let mut moved = 0;
        for id in waiting {
            old.withdraw(id, now);
            let Some(client) = old.requests.get(id).and_then(|request| self.clients.get_mut(request.client?)) else {
                continue;
            };
            // What has come in where nobody listens any more is no request of the new manifest.
            let Some((serve, _)) = self.listeners.serve_of(client.listener) else { continue };
            if let Some(id) = move_request(old, new, id, serve, now) {
                client.request = Some(new.reference(id));
                moved += 1;
            }
        }
        if moved > 0 {
            let (from, to) = (old.number, new.number);
            log::info!("{moved} requests of {count} that waited in generation {from} go to generation {to}");
        }
    }

    /// Looks after what waits in generations that get no more workers: a worker may have given it back.
    pub(super) fn rescue_stranded(&mut self, now: Instant) {
        let is_stranded = |backend: &&Backend| {
            backend.standing == Standing::Draining && !backend.pool.is_replacing() && !backend.queue.is_empty()
        };
        let stranded: Vec<GenerationId> =
            self.generations.iter().filter(is_stranded).map(|backend| backend.id).collect();
        for generation in stranded {
            self.move_waiting(generation, now);
            if let Some(backend) = self.generations.get_mut(generation) {
                backend.shed_all(&mut self.clients, now);
            }
        }
    }
}

/// Moves one request that no worker has. `None` if it stays where it is.
fn move_request(old: &mut Backend, new: &mut Backend, id: RequestId, serve: usize, now: Instant) -> Option<RequestId> {
    let request = old.requests.get(id).filter(|request| matches!(request.stage, Stage::Reading | Stage::Queued))?;
    if new.requests.len() >= REQUESTS_MAX {
        return None;
    }
    let new_id = new.requests.next_id();
    let mut frames = new.spare_frames.pop().unwrap_or_default();
    let Some(component) = translate(request, &old.app, &new.app, serve, new_id, &mut frames) else {
        frames.clear();
        new.spare_frames.push(frames);
        return None;
    };
    let expires = old.queue.take(id);
    let mut request = old.requests.remove(id)?;
    request.last_piece = request.last_piece.map(|at| at + frames.len() - request.frames.len());
    std::mem::swap(&mut request.frames, &mut frames);
    request.id = new_id;
    request.serve = serve;
    request.component = component;
    request.deadline = now + new.request_timeout;
    if let Some(head) = request.head() {
        let key = Key { component, action: head.action, path: head.path };
        request.fingerprint = new.blame.fingerprint(key);
    }
    let inserted = new.requests.insert(request);
    debug_assert!(inserted, "there was a place, and nothing has begun since");
    if let Some(expires) = expires {
        new.queue.push_moved(new_id, expires, now);
    }
    Some(new_id)
}

/// Writes to `out` what a worker of the new generation is sent of a request. Returns its component's place there; `None` if that generation has no such
/// route, or leads it elsewhere.
fn translate(request: &Request, old: &App, new: &App, serve: usize, id: RequestId, out: &mut Vec<u8>) -> Option<u16> {
    let (first, mut rest) = Frame::split(&request.frames).ok()??;
    let ToWorker::Request { head, end, .. } = ToWorker::decode(&first).ok()? else { return None };
    let mut params = Params::new();
    let Lookup::Handler { component, action, .. } = new.resolve(serve, head.method, head.path.into(), &mut params)
    else {
        return None;
    };
    if action != head.action || new.component_name(component) != old.component_name(head.component) {
        return None;
    }
    let head = RequestHead { component, params: params.iter().collect(), ..head };
    ToWorker::Request { id, head, end }.encode(out).ok()?;
    while let Some((frame, behind)) = Frame::split(rest).ok()? {
        out.extend_from_slice(&FrameHeader { request: id, ..frame.header }.to_bytes());
        out.extend_from_slice(&rest[FRAME_HEADER_BYTES..rest.len() - behind.len()]);
        rest = behind;
    }
    rest.is_empty().then_some(component)
}
