//! One HTTP/2 connection: what its streams share (RFC 9113 §3.4, §5, §6.8, §10.5).
//!
//! Owns the library's state of a connection, the bytes that pass between it and the socket, and how the connection begins, idles and ends. Never
//! touches a socket or a clock, and knows no request: each is a [`Stream`](super::Stream) of its own. The reactor drives it:
//!
//! 1. After the socket was read: `handle_input` or `handle_eof`; after it failed: `handle_disconnect`; when `deadline` has passed: `handle_timeout`.
//! 2. Then, and after a stream has moved something: `advance`, and `take_accepted` for what is new.
//! 3. Then: `output` to the socket, `consume_output`, `should_shutdown_write`, `is_closed`, `deadline`.

use std::cell::Cell;
use std::future::Future as _;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::server::{Builder, Connection, Handshake, SendResponse};
use h2::{Reason, RecvStream};
use http::Request;

use super::pipe::{Flag, Pipe};
use crate::http::context::Context;
use crate::http::limits::{
    FAREWELL_BYTES_MAX, H2_CANCELS_MAX, H2_ERRORS_MAX, H2_OUTPUT_BYTES_HIGH, H2_OVERHEAD_BYTES_MAX, H2_OVERHEAD_FACTOR,
    H2_RESETS_REMEMBERED, H2_RESETS_UNSEEN_MAX, H2_SEND_BUFFER_BYTES, Limits, SPARE_BUFFER_BYTES_MAX,
};
use crate::http::outflow::Outflow;
use crate::http::target::Scheme;

/// What each field costs in a header list beyond its bytes (RFC 9113 §6.5.2).
const FIELD_OVERHEAD_BYTES: usize = 32;

/// Pseudo-header fields, and what a head of HTTP/1.1 has beside them.
const PSEUDO_FIELDS: usize = 4;

/// How often the library is asked in a row whether there is more to do.
const STEPS_MAX: usize = 32;

/// One connection.
#[derive(Debug)]
pub struct Session {
    context: Rc<Context>,
    scheme: Scheme,
    phase: Phase,
    pipe: Pipe,
    /// `output[sent..]` is not written yet; what the library writes meanwhile stays in the pipe.
    output: Vec<u8>,
    sent: usize,
    accepted: Vec<Accepted>,
    /// Streams that were accepted and have not ended.
    streams: u32,
    /// There has been one.
    is_proven: bool,
    service: Service,
    cancels_left: u32,
    received: u64,
    /// How much it was given last, and when.
    fed: usize,
    fed_at: Instant,
    progress: Rc<Progress>,
    /// What may still be thrown away of a client that has been told to leave.
    linger_bytes_left: u64,
    has_ended: bool,
    /// Since when nothing has been asked for.
    idle_since: Instant,
    /// How the client reads.
    outflow: Outflow,
    flag: Arc<Flag>,
    waker: Waker,
}

/// A request that has come, not looked at.
#[derive(Debug)]
pub struct Accepted {
    pub(super) request: Request<RecvStream>,
    pub(super) respond: SendResponse<Bytes>,
    pub(super) progress: Rc<Progress>,
}

impl Accepted {
    /// There is no place for it. Nothing has been done for it, and the client may send it again (RFC 9113 §8.7).
    pub fn refuse(mut self) {
        self.respond.send_reset(Reason::REFUSED_STREAM);
    }
}

/// Bytes of requests and responses, over all streams of a connection.
#[derive(Debug, Default)]
pub(super) struct Progress {
    bytes: Cell<u64>,
    /// The socket has not taken all that is there for it: a stream that does not go on may have to wait for others.
    behind: Cell<bool>,
}

impl Progress {
    pub fn note(&self, bytes: usize) {
        self.bytes.set(self.bytes.get().saturating_add(bytes as u64));
    }

    pub fn is_behind(&self) -> bool {
        self.behind.get()
    }
}

/// How a stream has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    Answered,
    /// By the client, before its response was complete.
    Cancelled,
    /// By this server, before anything was done for it.
    Refused,
}

#[derive(Debug)]
enum Phase {
    /// The preface of the client is awaited (RFC 9113 §3.4).
    Opening(Pin<Box<Handshake<Pipe, Bytes>>>),
    Open(Box<Connection<Pipe, Bytes>>),
    /// The library has said its last; that is being written.
    Closing,
    /// All is written; the reactor has yet to shut the sending side.
    ShuttingWrite,
    /// The client's bytes are thrown away until its side is shut too: closed with them unread, the connection would be reset, and what was
    /// said last would be lost.
    Lingering,
    Closed {
        was_cut: bool,
    },
}

#[derive(Clone, Copy, Debug)]
enum Service {
    Serving,
    /// GOAWAY has been said, or will be when the library can: no new requests.
    Draining {
        since: Option<Instant>,
    },
}

impl Session {
    pub fn new(context: Rc<Context>, scheme: Scheme, now: Instant) -> Session {
        let (flag, waker) = Flag::new();
        let pipe = Pipe::default();
        let outflow = Outflow::new(&context.timeouts.send, now);
        let handshake = builder(&context.limits).handshake(pipe.clone());
        Session {
            context,
            scheme,
            phase: Phase::Opening(Box::pin(handshake)),
            pipe,
            output: Vec::new(),
            sent: 0,
            accepted: Vec::new(),
            streams: 0,
            is_proven: false,
            service: Service::Serving,
            cancels_left: H2_CANCELS_MAX,
            received: 0,
            fed: 0,
            fed_at: now,
            progress: Rc::default(),
            linger_bytes_left: FAREWELL_BYTES_MAX,
            has_ended: false,
            idle_since: now,
            outflow,
            flag,
            waker,
        }
    }

    pub fn context(&self) -> &Rc<Context> {
        &self.context
    }

    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Takes bytes from the socket; call this only while `wants_input`.
    pub fn handle_input(&mut self, bytes: &[u8], now: Instant) {
        match self.phase {
            Phase::Opening(_) | Phase::Open(_) => {
                self.received = self.received.saturating_add(bytes.len() as u64);
                self.fed = if self.fed_at == now { self.fed + bytes.len() } else { bytes.len() };
                self.fed_at = now;
                self.pipe.append_input(bytes);
                if self.is_flooding() {
                    self.abrupt_end(Reason::ENHANCE_YOUR_CALM, now);
                }
            }
            Phase::ShuttingWrite | Phase::Lingering => match self.linger_bytes_left.checked_sub(bytes.len() as u64) {
                Some(left) => self.linger_bytes_left = left,
                None => self.close(false),
            },
            Phase::Closing | Phase::Closed { .. } => {}
        }
    }

    /// The client has closed its sending side, and with it all streams: there is no half of a connection here.
    pub fn handle_eof(&mut self) {
        self.has_ended = true;
        self.pipe.end_input();
        if matches!(self.phase, Phase::ShuttingWrite | Phase::Lingering) {
            self.close(false);
        }
    }

    /// The socket has failed.
    pub fn handle_disconnect(&mut self) {
        self.close(true);
    }

    /// Lets the library read and write until it can do no more, or has had its share.
    pub fn advance(&mut self, now: Instant) {
        if let Service::Draining { since } = &mut self.service {
            since.get_or_insert(now);
        }
        for _ in 0..STEPS_MAX {
            self.flag.take();
            self.step(now);
            self.collect_output(now);
            if !self.flag.is_set() {
                return;
            }
        }
    }

    fn step(&mut self, now: Instant) {
        let waker = self.waker.clone();
        let task = &mut TaskContext::from_waker(&waker);
        if let Phase::Opening(handshake) = &mut self.phase {
            match handshake.as_mut().poll(task) {
                Poll::Pending => return,
                Poll::Ready(Ok(connection)) => self.phase = Phase::Open(Box::new(connection)),
                Poll::Ready(Err(_)) => return self.begin_closing(now),
            }
            if let (Service::Draining { .. }, Phase::Open(connection)) = (self.service, &mut self.phase) {
                connection.graceful_shutdown();
            }
        }
        while let Phase::Open(connection) = &mut self.phase {
            let next = pin!(connection.accept()).poll(task);
            match next {
                Poll::Pending => return,
                Poll::Ready(Some(Ok((request, respond)))) => {
                    self.streams += 1;
                    self.is_proven = true;
                    self.accepted.push(Accepted { request, respond, progress: self.progress.clone() });
                }
                Poll::Ready(Some(Err(_)) | None) => self.begin_closing(now),
            }
        }
    }

    fn collect_output(&mut self, now: Instant) {
        if self.sent == self.output.len() {
            self.output.clear();
            self.sent = 0;
            self.pipe.swap_output(&mut self.output);
            if !self.output.is_empty() {
                self.outflow.write_since = now;
                self.outflow.begin_turn(now);
            }
        }
        if self.streams == 0 && self.output.is_empty() {
            self.pipe.rest();
            if self.output.capacity() > SPARE_BUFFER_BYTES_MAX {
                self.output = Vec::new();
            }
        }
        self.progress.behind.set(!self.output().is_empty());
        self.settle(now);
    }

    /// The requests that have come since.
    pub fn take_accepted(&mut self) -> Vec<Accepted> {
        std::mem::take(&mut self.accepted)
    }

    /// A stream is over.
    pub fn handle_stream_end(&mut self, end: StreamEnd, now: Instant) {
        self.streams = self.streams.saturating_sub(1);
        self.idle_since = now;
        match (end, self.cancels_left) {
            (StreamEnd::Answered, _) => self.cancels_left = H2_CANCELS_MAX.min(self.cancels_left + 1),
            (StreamEnd::Cancelled, 0) => self.abrupt_end(Reason::ENHANCE_YOUR_CALM, now),
            (StreamEnd::Cancelled, left) => self.cancels_left = left - 1,
            (StreamEnd::Refused, _) => {}
        }
    }

    /// RFC 9113 §10.5: much is legal that is of no use.
    fn is_flooding(&self) -> bool {
        let allowed =
            self.progress.bytes.get().saturating_mul(H2_OVERHEAD_FACTOR).saturating_add(H2_OVERHEAD_BYTES_MAX);
        self.received > allowed
    }

    /// Whether the socket should be read: all that has come was taken, and there is room for answers.
    pub fn wants_input(&self) -> bool {
        match self.phase {
            Phase::Opening(_) | Phase::Open(_) => !self.has_ended && self.accepted.is_empty() && self.pipe.is_drained(),
            Phase::ShuttingWrite | Phase::Lingering => true,
            Phase::Closing | Phase::Closed { .. } => false,
        }
    }

    /// What the library has been given it keeps as frames until the streams have had their turn, and frames take more memory than their bytes.
    pub fn is_sated(&self, now: Instant) -> bool {
        self.fed_at == now && self.fed >= self.context.limits.input_bytes_high
    }

    pub fn output(&self) -> &[u8] {
        self.output.get(self.sent..).unwrap_or_default()
    }

    /// The first `count` bytes of `output` have been written.
    pub fn consume_output(&mut self, count: usize, now: Instant) {
        self.sent += count;
        if count > 0 {
            self.outflow.handle_written(count as u64, now);
        }
        if self.sent >= self.output.len() {
            self.outflow.end_turn(&self.context.timeouts.send, now);
            self.collect_output(now);
        }
    }

    /// Whether the library could go on: there is room that it has waited for, or a stream has something for it.
    pub fn wants_advance(&self) -> bool {
        self.is_open() && self.flag.is_set()
    }

    /// The server stops, or another one goes on (RFC 9113 §6.8): what has been asked for is answered, and what is on its way as well.
    pub fn begin_drain(&mut self) {
        if let Service::Serving = self.service {
            self.service = Service::Draining { since: None };
            if let Phase::Open(connection) = &mut self.phase {
                connection.graceful_shutdown();
            }
        }
    }

    /// The server stood still for `leap`, which is no time of the client's.
    pub fn forgive(&mut self, leap: Duration) {
        self.idle_since += leap;
        self.outflow.forgive(leap);
        if let Service::Draining { since: Some(since) } = &mut self.service {
            *since += leap;
        }
    }

    /// `deadline` has passed. Called too early, it does nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        if self.write_deadline().is_some_and(|deadline| deadline <= now) {
            return self.close(true);
        }
        match self.phase {
            // Nobody has said a word of HTTP/2 yet.
            Phase::Opening(_) => self.close(false),
            Phase::Open(_) => self.abrupt_end(Reason::NO_ERROR, now),
            Phase::ShuttingWrite | Phase::Lingering => self.close(false),
            Phase::Closing | Phase::Closed { .. } => {}
        }
    }

    /// When `handle_timeout` has to be called, unless something happens before.
    pub fn deadline(&self) -> Option<Instant> {
        match (self.idle_deadline(), self.write_deadline()) {
            (Some(idle), Some(write)) => Some(idle.min(write)),
            (idle, write) => idle.or(write),
        }
    }

    fn idle_deadline(&self) -> Option<Instant> {
        let timeouts = &self.context.timeouts;
        match (&self.phase, self.service) {
            (Phase::Opening(_) | Phase::Open(_), Service::Draining { since: Some(since) }) if self.streams == 0 => {
                Some(since.max(self.idle_since) + timeouts.linger)
            }
            (Phase::Opening(_), _) => Some(self.idle_since + timeouts.head),
            (Phase::Open(_), _) if !self.is_proven => Some(self.idle_since + timeouts.head),
            // What is still written of responses counts, and so does the answer to a ping.
            (Phase::Open(_), _) if self.streams == 0 => {
                Some(self.idle_since.max(self.outflow.write_since) + timeouts.keep_alive)
            }
            (Phase::ShuttingWrite | Phase::Lingering, _) => Some(self.idle_since + timeouts.linger),
            (Phase::Open(_) | Phase::Closing | Phase::Closed { .. }, _) => None,
        }
    }

    fn write_deadline(&self) -> Option<Instant> {
        (!self.output().is_empty()).then(|| self.outflow.deadline(&self.context.timeouts))
    }

    /// Whether `handle_timeout` would judge how fast the client reads: `handle_acknowledged` has to be said first.
    pub fn is_write_due(&self, now: Instant) -> bool {
        self.write_deadline().is_some_and(|deadline| deadline <= now)
    }

    /// The client's side has everything that was written but the last `unacknowledged` bytes.
    pub fn handle_acknowledged(&mut self, unacknowledged: u64, now: Instant) {
        self.outflow.handle_acknowledged(&self.context.timeouts.send, unacknowledged, now);
    }

    /// Whether its streams can go on.
    pub const fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Opening(_) | Phase::Open(_))
    }

    pub const fn should_shutdown_write(&self) -> bool {
        matches!(self.phase, Phase::ShuttingWrite)
    }

    pub fn handle_write_shutdown(&mut self) {
        if self.should_shutdown_write() {
            self.phase = Phase::Lingering;
        }
    }

    pub const fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed { .. })
    }

    pub const fn was_cut(&self) -> bool {
        matches!(self.phase, Phase::Closed { was_cut: true })
    }

    pub fn abort(&mut self) {
        self.close(true);
    }

    /// Says why, and nothing more.
    fn abrupt_end(&mut self, reason: Reason, now: Instant) {
        match &mut self.phase {
            Phase::Open(connection) => {
                connection.abrupt_shutdown(reason);
                self.advance(now);
            }
            Phase::Opening(_) => self.close(false),
            Phase::Closing | Phase::ShuttingWrite | Phase::Lingering | Phase::Closed { .. } => {}
        }
    }

    fn begin_closing(&mut self, now: Instant) {
        self.idle_since = now;
        self.phase = Phase::Closing;
        self.accepted.clear();
    }

    /// Once the last is written, the connection ends.
    fn settle(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Closing) && self.output().is_empty() {
            self.idle_since = now;
            self.phase = if self.has_ended { Phase::Closed { was_cut: false } } else { Phase::ShuttingWrite };
        }
    }

    fn close(&mut self, was_cut: bool) {
        if !self.is_closed() {
            self.phase = Phase::Closed { was_cut };
        }
        self.accepted.clear();
        self.output = Vec::new();
        self.sent = 0;
    }
}

/// Windows: each stream has one as large as the input buffer of a connection of HTTP/1.1, and all of them together have room, so that a request
/// whose body nobody takes yet never holds up another.
fn builder(limits: &Limits) -> Builder {
    let window = u32::try_from(limits.input_bytes_high).unwrap_or(u32::MAX).clamp(1, WINDOW_MAX);
    let fields = limits.headers_max + PSEUDO_FIELDS;
    let list = limits.head_bytes_max.saturating_add(fields * FIELD_OVERHEAD_BYTES);
    let mut builder = Builder::new();
    builder
        .initial_window_size(window)
        .initial_connection_window_size(window.saturating_mul(limits.streams_max).min(WINDOW_MAX))
        .max_concurrent_streams(limits.streams_max)
        .max_header_list_size(u32::try_from(list).unwrap_or(u32::MAX))
        .max_send_buffer_size(H2_SEND_BUFFER_BYTES)
        .max_concurrent_reset_streams(H2_RESETS_REMEMBERED)
        .max_pending_accept_reset_streams(H2_RESETS_UNSEEN_MAX)
        .max_local_error_reset_streams(Some(H2_ERRORS_MAX));
    builder
}

/// RFC 9113 §6.9.1.
const WINDOW_MAX: u32 = (1 << 31) - 1;

const _: () = assert!(H2_OUTPUT_BYTES_HIGH >= 16 * 1024, "a frame has room");
