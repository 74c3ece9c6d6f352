//! What lies behind the clients: requests in progress, the queue, the pool and the links of its workers.
//!
//! Touches a client only through [`Clients`], to answer it. `frames` holds what workers say, `workers` how they come and go.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use mio::Registry;
use rusmd_proto::limits::{BODY_CHUNK_BYTES_MAX, WINDOW_BYTES};
use rusmd_proto::message::encode_body;
use rusmd_proto::{Kind, RequestHead, RequestId, Scheme, ToWorker, Trailers};

use crate::answer::Answer;
use crate::app::{App, Lookup};
use crate::http;
use crate::link::Link;
use crate::pool::{Pool, SlotId};
use crate::queue::Queue;
use crate::request::{ClientKey, Replay, Reply, Request, Requests, Stage, Upload};
use crate::router::Params;
use crate::sys::{Process, SharedPage};
use crate::timers::{Armed, Timers};

use super::clients::Clients;
use super::report;
use super::{Settings, Source};

/// A request is given to a worker once its body is whole, or once this much of it is there: a body that trickles in holds no worker.
pub const COLLECT_BYTES: usize = 64 * 1024;

/// Buffers for encoded requests that are kept for the next ones.
const SPARE_FRAMES_MAX: usize = 64;

/// A buffer that has grown beyond this is given back.
const SPARE_FRAMES_BYTES_MAX: usize = 16 * 1024;

/// One worker process and everything that the supervisor shares with it.
#[derive(Debug)]
pub(super) struct Worker {
    pub process: Process,
    pub link: Link,
    pub page: SharedPage,
    pub started_at: Instant,
    /// Nothing that it says counts any more, for this reason.
    pub silenced: Option<String>,
    pub armed: Armed,
    talking: bool,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Backend {
    pub(super) app: App,
    pub(super) pool: Pool,
    pub(super) queue: Queue,
    pub(super) requests: Requests,
    pub(super) workers: Vec<Option<Worker>>,
    pub(super) timers: Timers<SlotId>,
    pub(super) request_timeout: Duration,
    pub(super) kill_grace: Duration,
    pub(super) worker_binary: PathBuf,
    /// A worker has been ready once.
    pub(super) proven: bool,
    /// Links with something to say in this turn.
    talkers: Vec<SlotId>,
    /// Links that had more to read than their share of a turn.
    pub(super) unread_links: Vec<SlotId>,
    spare_frames: Vec<Vec<u8>>,
}

impl Backend {
    pub fn new(app: App, settings: &Settings, now: Instant, seed: u64) -> Backend {
        let pool = Pool::new(settings.workers, settings.spare_workers, now);
        Backend {
            workers: pool.slots().map(|_| None).collect(),
            app,
            pool,
            queue: Queue::new(settings.queue_length, settings.queue_timeout),
            requests: Requests::new(seed),
            timers: Timers::default(),
            request_timeout: settings.request_timeout,
            kill_grace: settings.kill_grace,
            worker_binary: settings.worker_binary.clone(),
            proven: false,
            talkers: Vec::new(),
            unread_links: Vec::new(),
            spare_frames: Vec::new(),
        }
    }

    pub fn app(&self) -> &App {
        &self.app
    }

    /// Requests whose clients wait, or whose instances live.
    pub fn in_flight(&self) -> usize {
        self.requests.len()
    }

    pub fn workers_alive(&self) -> usize {
        self.pool.alive()
    }

    /// A worker has been ready: the server can serve.
    pub fn is_proven(&self) -> bool {
        self.proven
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        [self.timers.next(), self.queue.next_expiry(), self.pool.next_deadline()].into_iter().flatten().min()
    }

    pub fn has_work(&self) -> bool {
        !self.unread_links.is_empty()
    }

    /// Routes a request and encodes its head. Its body follows by [`Backend::take_body`] and [`Backend::end_body`].
    pub fn begin(
        &mut self,
        client: ClientKey,
        peer: SocketAddr,
        serve: usize,
        head: &http::RequestHead<'_>,
        now: Instant,
    ) -> Result<RequestId, (RequestId, Answer)> {
        let id = self.requests.next_id();
        let mut params = Params::new();
        let (component, action, path) = match self.app.lookup(serve, head, &mut params) {
            Lookup::Handler { component, action, path } => (component, action, path),
            Lookup::Answer(answer) => return Err((id, answer)),
        };
        let body_bytes = match head.body {
            http::BodyLength::None => Some(0),
            http::BodyLength::Known(bytes) => Some(bytes),
            http::BodyLength::Chunked => None,
        };
        let wire = RequestHead {
            component,
            action,
            method: head.method,
            scheme: match head.scheme {
                http::Scheme::Http => Scheme::Http,
                http::Scheme::Https => Scheme::Https,
            },
            authority: head.authority,
            path: &path,
            query: head.query,
            peer: Some(peer),
            body_bytes,
            params: params.iter().collect(),
            headers: head.headers.iter().collect(),
        };
        let mut frames = self.spare_frames.pop().unwrap_or_default();
        let end = body_bytes == Some(0);
        if (ToWorker::Request { id, head: wire, end }).encode(&mut frames).is_err() {
            return Err((id, Answer::new(431, "the request's head is too large")));
        }
        let mut request = Request::new(id, client, serve, frames, now, now + self.request_timeout);
        if end {
            request.upload = Upload::Over;
        }
        if !self.requests.insert(request) {
            return Err((id, Answer::OVERLOADED));
        }
        if end {
            self.admit(id, now).map_err(|answer| (id, answer))?;
        }
        Ok(id)
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
        request.upload = Upload::Open { credit: credit.saturating_sub(bytes.len() as u32) };
        request.deadline = now + self.request_timeout;
        self.pass_on(id, |id, out| encode_body(out, Kind::RequestBody, id, bytes, false).is_ok());
        let collected = self
            .requests
            .get(id)
            .is_some_and(|request| request.stage == Stage::Reading && request.frames.len() >= COLLECT_BYTES);
        if collected { self.admit(id, now) } else { Ok(()) }
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
    pub fn abort_body(&mut self, id: RequestId) {
        self.withdraw(id);
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

    /// The client has left. A handler that has the request runs to its end; one that does not never starts.
    pub fn leave(&mut self, id: RequestId) {
        self.abort_body(id);
        if let Some(request) = self.requests.get_mut(id) {
            request.client = None;
            let window = request.window;
            let grant = WINDOW_BYTES - window;
            request.window = WINDOW_BYTES;
            self.grant(id, grant);
        }
    }

    /// True while the request waits for a worker.
    pub fn is_queued(&self, id: RequestId) -> bool {
        let stage = self.requests.get(id).map(|request| request.stage);
        matches!(stage, Some(Stage::Queued | Stage::Offered { .. }))
    }

    /// The client has `unsent` bytes of this response before it: grants the worker what has left since the last grant.
    pub fn refill_window(&mut self, id: RequestId, unsent: usize) {
        let Some(request) = self.requests.get_mut(id) else { return };
        if request.reply != Reply::Body {
            return;
        }
        let owed = (WINDOW_BYTES as usize).saturating_sub(request.window as usize + unsent) as u32;
        if owed >= WINDOW_BYTES / 2 {
            request.window += owed;
            self.grant(id, owed);
        }
    }

    /// Encodes frames to where this request's frames go now: to what a worker will be sent, or to the worker that has it.
    fn pass_on(&mut self, id: RequestId, encode: impl Fn(RequestId, &mut Vec<u8>) -> bool) {
        let Some(request) = self.requests.get_mut(id) else { return };
        let slot = request.slot();
        match request.replay {
            // A worker grants credit only for what its guest has taken, so that the window bounds what is kept.
            Replay::Possible if request.frames.len() < RETAIN_BYTES => {
                let before = request.frames.len();
                let encoded = encode(id, &mut request.frames);
                debug_assert!(encoded, "bodies are cut to the size of a frame, trailers are bounded by http's limits");
                if let Some(slot) = slot
                    && let Some(worker) = worker(&mut self.workers, slot)
                {
                    worker.link.send_frames(&request.frames[before..]);
                }
            }
            Replay::Possible | Replay::Impossible => {
                request.replay = Replay::Impossible;
                if let Some(slot) = slot
                    && let Some(worker) = worker(&mut self.workers, slot)
                {
                    worker.link.encode(|out| encode(id, out));
                }
            }
        }
        if let Some(slot) = slot {
            self.talk(slot);
        }
    }

    pub(super) fn grant(&mut self, id: RequestId, bytes: u32) {
        let Some(slot) = self.requests.get(id).and_then(Request::slot) else { return };
        if bytes > 0 {
            self.send(slot, &ToWorker::ResponseCredit { id, bytes });
        }
    }

    pub(super) fn send(&mut self, slot: SlotId, message: &ToWorker<'_>) {
        if let Some(worker) = worker(&mut self.workers, slot) {
            worker.link.encode(|out| message.encode(out).is_ok());
            self.talk(slot);
        }
    }

    pub(super) fn talk(&mut self, slot: SlotId) {
        if let Some(worker) = worker(&mut self.workers, slot)
            && !worker.talking
        {
            worker.talking = true;
            self.talkers.push(slot);
        }
    }

    /// A link whose socket has room again has more to say.
    pub(super) fn resume_talk(&mut self, slot: SlotId) {
        if worker(&mut self.workers, slot).is_some_and(|worker| worker.link.unsent_bytes() > 0) {
            self.talk(slot);
        }
    }

    /// Writes what the links have to say: once in each turn.
    pub fn flush_links(&mut self, registry: &Registry) {
        while let Some(slot) = self.talkers.pop() {
            if let Some(worker) = worker(&mut self.workers, slot) {
                worker.talking = false;
                worker.link.flush();
                watch(&mut worker.link, slot, registry);
            }
        }
    }

    /// Gives the request to a worker, or to the queue.
    pub(super) fn admit(&mut self, id: RequestId, now: Instant) -> Result<(), Answer> {
        if self.queue.is_empty() && self.hand_over(id, now) {
            return Ok(());
        }
        if self.queue.push(id, now).is_err() {
            self.forget(id);
            return Err(Answer::OVERLOADED);
        }
        if let Some(request) = self.requests.get_mut(id) {
            request.stage = Stage::Queued;
        }
        Ok(())
    }

    /// Gives queued requests to workers that are free, and offers the next ones to workers that are not: such a worker goes on without
    /// a pause, and without a sleep, when it is done. The clients are touched, for their bodies may go on.
    pub fn dispatch(&mut self, clients: &mut Clients, now: Instant) {
        while self.pool.has_room() {
            let Some((id, offered)) = self.queue.front() else { return };
            // What a busy worker has been offered goes to the free one, unless the busy one has just taken it up.
            let taken_up = offered && !self.withdraw(id);
            // In any case its turn is over, so that this loop ends.
            self.queue.remove(id);
            if !taken_up
                && self.hand_over(id, now)
                && let Some(client) = self.requests.get(id).and_then(|request| request.client)
            {
                clients.touch(client);
            }
        }
        for _ in 0..self.pool.offerable_max() {
            if !self.offer_next() {
                return;
            }
        }
    }

    /// Offers the next request to a busy worker. False when there is nothing to offer, or nobody to offer it to.
    fn offer_next(&mut self) -> bool {
        let Some(id) = self.queue.next_to_offer() else { return false };
        let Some(request) = self.requests.get_mut(id) else { return false };
        // Only what can be sent whole, and sent again, can be taken back.
        if request.upload != Upload::Over || request.replay != Replay::Possible {
            return false;
        }
        let Some(slot) = self.pool.poll_offerable() else { return false };
        match worker(&mut self.workers, slot) {
            Some(worker) if worker.page.is_offer_settled() => {
                worker.page.store_offer(id);
                worker.link.send_frames(&request.frames);
                request.stage = Stage::Offered { slot };
                self.queue.handle_offered();
                self.pool.handle_offered(slot, id);
                self.talk(slot);
            }
            // It has not even taken up the one before.
            Some(_) | None => self.pool.handle_unoffered(slot),
        }
        true
    }

    /// Takes back a request that is offered. False if it is not, or if its worker has taken it up: then it is that worker's.
    pub(super) fn withdraw(&mut self, id: RequestId) -> bool {
        let Some(request) = self.requests.get_mut(id) else { return false };
        let Stage::Offered { slot } = request.stage else { return false };
        let Some(worker) = worker(&mut self.workers, slot) else { return false };
        if worker.page.withdraw_offer(id) {
            request.stage = Stage::Queued;
            self.pool.handle_withdrawn(slot);
            self.queue.handle_withdrawn(id);
            true
        } else {
            request.stage = Stage::Sent { slot };
            self.queue.remove(id);
            false
        }
    }

    /// The worker in `slot` goes on with the request that it was offered.
    pub(super) fn go_on(&mut self, id: RequestId, slot: SlotId, now: Instant) {
        self.queue.remove(id);
        let Some(request) = self.requests.get_mut(id) else { return };
        request.stage = Stage::Sent { slot };
        request.deadline = now + self.request_timeout;
        let deadline = request.deadline;
        if let Some(worker) = worker(&mut self.workers, slot) {
            self.timers.arm(slot, &mut worker.armed, Some(deadline));
        }
    }

    fn hand_over(&mut self, id: RequestId, now: Instant) -> bool {
        let Some(slot) = self.requests.get(id).and_then(|_| self.pool.lease(id)) else { return false };
        if let (Some(request), Some(worker)) = (self.requests.get(id), worker(&mut self.workers, slot)) {
            worker.page.store_offer(id);
            worker.link.send_frames(&request.frames);
        }
        self.talk(slot);
        self.go_on(id, slot, now);
        true
    }

    /// Answers the requests that have waited too long.
    pub fn shed_expired(&mut self, clients: &mut Clients, now: Instant) {
        while let Some(id) = self.queue.expired(now) {
            let Some(request) = self.requests.get(id) else {
                self.queue.remove(id);
                continue;
            };
            if let Stage::Offered { .. } = request.stage
                && !self.withdraw(id)
            {
                self.queue.remove(id);
                continue;
            }
            report::shed(id, self.queue.len());
            self.answer(clients, id, &Answer::OVERLOADED, now);
            self.forget(id);
        }
    }

    /// Answers a request's client in the guest's place. After the head is out, all that is left is to cut.
    pub(super) fn answer(&mut self, clients: &mut Clients, id: RequestId, answer: &Answer, now: Instant) {
        let Some(request) = self.requests.get_mut(id) else { return };
        let Some(client) = request.client.take().and_then(|key| clients.get_mut(key)) else { return };
        client.request = None;
        let head_out = match request.stage {
            Stage::Reading | Stage::Queued | Stage::Offered { .. } | Stage::Sent { .. } => false,
            Stage::HeadOut { .. } | Stage::Finishing { .. } | Stage::Interrupted { .. } => true,
        };
        if head_out {
            client.connection.break_off(now);
        } else {
            report::respond(&mut client.connection, answer, id, now);
        }
        let key = client.key;
        clients.touch(key);
    }

    /// Ends a request that no worker has, or that its worker has finished.
    pub(super) fn forget(&mut self, id: RequestId) {
        if self.is_queued(id) {
            self.queue.remove(id);
        }
        if let Some(request) = self.requests.remove(id) {
            let mut frames = request.frames;
            if self.spare_frames.len() < SPARE_FRAMES_MAX && frames.capacity() <= SPARE_FRAMES_BYTES_MAX {
                frames.clear();
                self.spare_frames.push(frames);
            }
        }
    }
}

/// Most bytes kept of a request so that another worker can be given it: a whole window and a head.
const RETAIN_BYTES: usize = WINDOW_BYTES as usize + BODY_CHUNK_BYTES_MAX;

/// Has the poll wait for what the link waits for.
fn watch(link: &mut Link, slot: SlotId, registry: &Registry) {
    let wanted = link.wanted_interest();
    if *link.interest() != wanted {
        *link.interest() = wanted;
        if let Err(error) = registry.reregister(link.source(), Source::Link(slot).token(), wanted) {
            log::error!("cannot wait for the worker in slot {slot}: {error}");
        }
    }
}

pub(super) fn worker(workers: &mut [Option<Worker>], slot: SlotId) -> Option<&mut Worker> {
    workers.get_mut(slot.0 as usize)?.as_mut()
}

impl Worker {
    pub(super) fn new(process: Process, link: Link, page: SharedPage, started_at: Instant) -> Worker {
        Worker { process, link, page, started_at, silenced: None, armed: Armed::default(), talking: false }
    }
}
