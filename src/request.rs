//! The requests in progress: each one's life from its head to the end of its instance.
//!
//! `Reading → Queued (→ Offered) → Sent → HeadOut → Finishing`, or `Interrupted` when its deadline has passed. "Started" is not a state here:
//! it is read from the worker's status page when it matters, which is when the worker has died.
//!
//! Pure state. The reactor drives it.

use std::time::Instant;

use rusmd_proto::limits::WINDOW_BYTES;
use rusmd_proto::{Frame, RequestHead, RequestId, ToWorker};
use slab::Slab;

use crate::blame::Fingerprint;
use crate::compress::Encoder;
use crate::control::counters::Outcome;
use crate::http::{PublicId, Version};
use crate::pool::SlotId;

/// Names one generation among those that live: what it gives away (poll tokens, the requests of clients) names it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct GenerationId(pub u32);

/// A request of a client, by the generation that has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequestRef {
    pub generation: GenerationId,
    pub id: RequestId,
}

/// Names a client connection of this reactor; stale keys name nobody.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ClientKey {
    pub index: u32,
    pub generation: u32,
}

/// Where a request is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// Its body is being collected; no worker knows of it.
    Reading,
    /// Waits for a worker.
    Queued,
    /// Waits, and a busy worker has been sent it already; it can be taken back until that worker takes it up.
    Offered { slot: SlotId },
    /// In a worker's hands, no response yet.
    Sent { slot: SlotId },
    /// The response's head is on its way to the client.
    HeadOut { slot: SlotId },
    /// The response is complete, or there is nobody to have it; the instance still lives.
    Finishing { slot: SlotId },
    /// Its deadline has passed and the client has its answer; the worker is killed at this time unless it lets go before.
    Interrupted { slot: SlotId, kill_at: Instant },
}

/// The request's body on its way to the worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Upload {
    /// More will come; this many bytes may be sent before the worker grants more.
    Open { credit: u32 },
    /// All of it has been passed on.
    Over,
    /// The client has left it unfinished.
    BrokenOff,
}

/// The response on its way from the worker, whoever is there to have it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reply {
    /// No head yet.
    Awaited,
    /// The head has come; body, trailers or the end may follow.
    Body,
    /// Nothing may follow but `Done`.
    Over,
}

/// One request in progress.
#[derive(Debug)]
pub struct Request {
    pub id: RequestId,
    /// What everybody but its worker calls it.
    pub name: PublicId,
    /// `None` once the client has left or has had its answer.
    pub client: Option<ClientKey>,
    /// Which `[[serve]]` of the manifest it came to.
    pub serve: usize,
    /// Its component, by the place on the wire.
    pub component: u16,
    pub stage: Stage,
    pub upload: Upload,
    pub reply: Reply,
    /// Bytes of response body that the worker may still send.
    pub window: u32,
    /// Everything that a worker must be sent to run this request from the beginning, while that is possible.
    pub frames: Vec<u8>,
    /// Where the last of these frames begins that is a piece of its body.
    pub last_piece: Option<usize>,
    pub replay: Replay,
    /// How often it has been given to a worker.
    pub dispatches: u8,
    pub admitted: Instant,
    /// What it is blamed as.
    pub fingerprint: Fingerprint,
    /// When the handler has had its time.
    pub deadline: Instant,
    /// Its response is compressed on its way.
    pub encoder: Option<Box<Encoder>>,
    pub trace: Trace,
}

/// What the access log tells of a request that is over, beside what is known of it anyway.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trace {
    /// When it could have been given to a worker, and when it was.
    pub queued: Option<Instant>,
    pub handed: Option<Instant>,
    /// When its guest was given control, by the worker's word, in nanoseconds of the monotonic clock; 0 when it never was.
    pub started_ns: u64,
    /// When its client had its answer.
    pub answered: Option<Instant>,
    /// The worker that had it last.
    pub pid: i32,
    /// The status that its client was sent; 0 when none was.
    pub status: u16,
    pub body_bytes: u64,
    /// What became of it, once that is known.
    pub outcome: Option<Outcome>,
    /// In which version of HTTP it has come.
    pub version: Version,
    /// The slow-request log has told of it.
    pub told_slow: bool,
}

impl Trace {
    /// What became of the request: the first word counts.
    pub fn conclude(&mut self, outcome: Outcome, now: Instant) {
        if self.outcome.is_none() {
            self.outcome = Some(outcome);
            self.answered = Some(now);
        }
    }
}

/// Whether another worker can be given this request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Replay {
    /// All that was sent is still in [`Request::frames`].
    Possible,
    /// Too much of the body has been passed on.
    Impossible,
}

impl Request {
    /// A request whose head is encoded in `frames`.
    #[expect(clippy::too_many_arguments, reason = "each is a part of it that has no default")]
    pub fn new(
        id: RequestId,
        name: PublicId,
        client: ClientKey,
        serve: usize,
        component: u16,
        frames: Vec<u8>,
        now: Instant,
        deadline: Instant,
    ) -> Request {
        Request {
            id,
            name,
            client: Some(client),
            serve,
            component,
            stage: Stage::Reading,
            upload: Upload::Open { credit: WINDOW_BYTES },
            reply: Reply::Awaited,
            window: WINDOW_BYTES,
            frames,
            last_piece: None,
            replay: Replay::Possible,
            dispatches: 0,
            admitted: now,
            fingerprint: Fingerprint::default(),
            deadline,
            encoder: None,
            trace: Trace::default(),
        }
    }

    /// The worker's slot, when it is in a worker's hands.
    pub fn slot(&self) -> Option<SlotId> {
        match self.stage {
            Stage::Reading | Stage::Queued => None,
            Stage::Offered { slot }
            | Stage::Sent { slot }
            | Stage::HeadOut { slot }
            | Stage::Finishing { slot }
            | Stage::Interrupted { slot, .. } => Some(slot),
        }
    }

    /// When its worker is killed, once it has been interrupted.
    pub fn kill_at(&self) -> Option<Instant> {
        match self.stage {
            Stage::Interrupted { kill_at, .. } => Some(kill_at),
            Stage::Reading
            | Stage::Queued
            | Stage::Offered { .. }
            | Stage::Sent { .. }
            | Stage::HeadOut { .. }
            | Stage::Finishing { .. } => None,
        }
    }

    /// The head as it was encoded for the worker, for log lines: requests that go well never need it.
    pub fn head(&self) -> Option<RequestHead<'_>> {
        let (frame, _) = Frame::split(&self.frames).ok()??;
        match ToWorker::decode(&frame).ok()? {
            ToWorker::Request { head, .. } => Some(head),
            _ => None,
        }
    }
}

/// Most requests in progress at a time: the index is part of the id.
pub const REQUESTS_MAX: usize = 1 << INDEX_BITS;
const INDEX_BITS: u32 = 22;

/// All requests in progress, by id.
#[derive(Debug)]
pub struct Requests {
    slab: Slab<Request>,
    sequence: u64,
}

impl Requests {
    /// `seed` makes the ids of two runs differ; any number will do.
    pub fn new(seed: u64) -> Requests {
        Requests { slab: Slab::new(), sequence: seed }
    }

    /// An id for a request that begins now; [`Requests::insert`] puts it in its place. Ids that are not inserted may be used too,
    /// for the answer to a request that no worker ever sees.
    pub fn next_id(&mut self) -> RequestId {
        let index = self.slab.vacant_key().min(REQUESTS_MAX - 1) as u64;
        self.sequence = self.sequence.wrapping_add(1);
        RequestId((self.sequence << INDEX_BITS | index).max(1))
    }

    /// Begins a request under the id that [`Requests::next_id`] gave last. False when there are [`REQUESTS_MAX`] already.
    pub fn insert(&mut self, request: Request) -> bool {
        let vacant = self.slab.vacant_entry();
        if vacant.key() != index(request.id) {
            return false;
        }
        vacant.insert(request);
        true
    }

    pub fn get(&self, id: RequestId) -> Option<&Request> {
        self.slab.get(index(id)).filter(|request| request.id == id)
    }

    pub fn get_mut(&mut self, id: RequestId) -> Option<&mut Request> {
        self.slab.get_mut(index(id)).filter(|request| request.id == id)
    }

    pub fn remove(&mut self, id: RequestId) -> Option<Request> {
        self.get(id)?;
        self.slab.try_remove(index(id))
    }

    /// Goes on with the ids of another generation, so that no two requests have the same.
    pub fn continue_ids(&mut self, other: &Requests) {
        self.sequence = self.sequence.max(other.sequence);
    }

    pub fn iter(&self) -> impl Iterator<Item = &Request> {
        self.slab.iter().map(|(_, request)| request)
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Request> {
        self.slab.iter_mut().map(|(_, request)| request)
    }

    pub fn len(&self) -> usize {
        self.slab.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }
}

fn index(id: RequestId) -> usize {
    (id.0 & (REQUESTS_MAX as u64 - 1)) as usize
}
