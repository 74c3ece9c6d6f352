//! One client connection: a sequence of exchanges, each a request and its response, then the manner of its end.
//!
//! Owns the lifecycle and the buffers; every byte in and out passes here. Never touches a socket or a clock. The reactor drives it:
//!
//! 1. After the socket was read: `handle_input` or `handle_eof`; after it failed: `handle_disconnect`; when `deadline` has
//!    passed: `handle_timeout`, and before that, if `is_write_due`, `handle_acknowledged`.
//! 2. Then, and after each `consume_output` and each end of a response: `poll_event` until `None`. Events may be left untaken to
//!    hold the client back; `wants_input` then turns false.
//! 3. Then: `output` to the socket, `consume_output`, `should_shutdown_write`, `is_closed`, `deadline`.

mod beside;
mod pacing;
mod reading;
mod replying;
#[cfg(test)]
mod tests;

use std::rc::Rc;
use std::time::Instant;

use super::body::Upload;
use super::context::{Buffers, Context, DATE_BYTES};
use super::error::RequestError;
use super::head::{Facts, HeadScan, Headers, RequestHead};
use super::limits::{FAREWELL_BYTES_MAX, LINGER_TIME_MAX};
use super::outflow::Outflow;
use super::patience::Patience;
use super::request_id::PublicId;
use super::response::Framing;
use super::target::Scheme;
pub(in crate::http) use reading::request_head;

/// What the client did. Everything lent stays valid until the connection is touched again.
#[derive(Debug)]
pub enum Event<'a> {
    /// A response is owed from now on.
    Request(RequestHead<'a>),
    /// A piece of the request body, never empty.
    Body(&'a [u8]),
    /// The request body is whole.
    BodyEnd { trailers: Headers<'a> },
    /// The request, or the rest of its body, is refused. The answer is queued already, or the connection cut if a response had
    /// begun; no response is owed any more. The id is that of the request, if there was one.
    Refused { id: PublicId, status: u16, reason: &'static str },
    /// The client is gone although a response was owed. Nothing can be sent any more.
    ClientGone,
}

/// One client connection. Without a request in progress it owns no buffer.
#[derive(Debug)]
pub struct Connection {
    context: Rc<Context>,
    scheme: Scheme,
    phase: Phase,
    inbound: Inbound,
    service: Service,
    preface: Preface,
    /// An event that did not come out of decoding.
    news: Option<News>,
    buffers: Option<Box<Buffers>>,
    /// Since when the present phase waits for the client to send.
    read_since: Instant,
    /// Patience with a client that sends a body.
    receive: Patience,
    /// How the client reads.
    outflow: Outflow,
    /// What may still be thrown away of a client that was told to leave; after any other answer time alone ends it.
    linger_bytes_left: u64,
}

/// Where the connection is; `pool` and `queue` never see this.
#[derive(Debug)]
enum Phase {
    /// Between requests.
    AwaitingHead {
        blank_lines: u8,
        turn: Turn,
    },
    /// A first byte is here.
    ReadingHead(HeadScan),
    /// A response is owed.
    Exchanging(Exchange),
    /// The response is complete, the request body is not: it is thrown away.
    Discarding {
        upload: Upload,
        budget_bytes: u64,
    },
    /// What is queued is written, then the connection ends. `linger`: the client may still be sending, and a plain close would make
    /// its kernel throw the response away (RFC 9112 §9.6).
    Closing {
        linger: bool,
    },
    /// All is written; the reactor has yet to shut the sending side.
    ShuttingWrite,
    /// Our side is shut, the client's bytes are thrown away until its side is, too.
    Lingering,
    /// What the client has begun with is HTTP/2: the reactor takes its bytes elsewhere.
    Foreign,
    Closed {
        ending: Ending,
    },
}

/// Whether what comes next may be the preface of HTTP/2 (RFC 9113 §3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Preface {
    Possible,
    Impossible,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    First,
    Later,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Clean,
    Cut,
}

/// The client's sending side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inbound {
    Open,
    Ended,
}

/// The server's intent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Service {
    Serving,
    Draining,
}

#[derive(Debug)]
struct Exchange {
    facts: Facts,
    upload: Upload,
    reply: Reply,
}

#[derive(Clone, Copy, Debug)]
enum Reply {
    Owed,
    Body {
        framing: Framing,
        keep: bool,
    },
    /// The head is queued; the body follows the output from elsewhere, and this much of it is due.
    Beside {
        left: u64,
        keep: bool,
    },
}

#[derive(Clone, Debug)]
enum News {
    /// In a box: a connection is small, and this is rare.
    Refused(Box<(RequestError, PublicId)>),
    ClientGone,
}

impl Connection {
    pub fn new(context: Rc<Context>, scheme: Scheme, now: Instant) -> Self {
        let receive = Patience::new(&context.timeouts.receive);
        let outflow = Outflow::new(&context.timeouts.send, now);
        Self {
            context,
            scheme,
            phase: Phase::AwaitingHead { blank_lines: 0, turn: Turn::First },
            inbound: Inbound::Open,
            service: Service::Serving,
            preface: Preface::Impossible,
            news: None,
            buffers: None,
            read_since: now,
            receive,
            outflow,
            linger_bytes_left: u64::MAX,
        }
    }

    /// The client may begin with the preface of HTTP/2; without this word it is refused, as any other version is.
    pub fn expect_http2(&mut self) {
        self.preface = Preface::Possible;
    }

    pub fn context(&self) -> &Rc<Context> {
        &self.context
    }

    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Whether the server is stopping.
    pub fn is_draining(&self) -> bool {
        self.service == Service::Draining
    }

    /// Whether the client has begun with the preface of HTTP/2: all that it has sent is for a session from then on.
    pub const fn is_foreign(&self) -> bool {
        matches!(self.phase, Phase::Foreign)
    }

    /// The bytes that came before that was known.
    pub fn foreign_input(&self) -> &[u8] {
        self.unread()
    }

    /// Takes bytes from the socket. They are copied; call this only while `wants_input`, or the buffer grows beyond its bound.
    pub fn handle_input(&mut self, bytes: &[u8], now: Instant) {
        match self.phase {
            Phase::Closing { .. } | Phase::ShuttingWrite | Phase::Lingering => {
                return self.throw_away(bytes.len(), now);
            }
            Phase::Foreign | Phase::Closed { .. } => return,
            Phase::Exchanging(_) => {
                self.settle_receiving(bytes.len(), now);
                self.read_since = now;
            }
            Phase::AwaitingHead { .. } | Phase::ReadingHead(_) | Phase::Discarding { .. } => {}
        }
        if !bytes.is_empty() {
            self.buffers_mut().append_input(bytes);
        }
    }

    /// The client has closed its sending side. That alone is no farewell: a request that is whole still gets its response.
    pub fn handle_eof(&mut self, _now: Instant) {
        self.inbound = Inbound::Ended;
        if matches!(self.phase, Phase::ShuttingWrite | Phase::Lingering) {
            self.close(Ending::Clean);
        }
    }

    /// The socket has failed (reset, broken pipe): nothing can be read or written any more.
    pub fn handle_disconnect(&mut self) {
        if matches!(self.phase, Phase::Exchanging(_)) {
            self.news = Some(News::ClientGone);
        }
        self.inbound = Inbound::Ended;
        self.close(Ending::Cut);
    }

    /// What the client sends is HTTP, and TLS was expected. It can be told so, since it is plain.
    pub fn handle_plain_http(&mut self, now: Instant) {
        self.refuse(RequestError::PlainOnTlsPort, now);
    }

    /// There is no place for this client: it gets 503 whatever it asks for, and may send no more than a little while it reads that.
    pub fn turn_away(&mut self, reason: &str, now: Instant) {
        self.linger_bytes_left = FAREWELL_BYTES_MAX;
        self.write_error(Facts::UNKNOWN, 503, reason, "", &[("retry-after", b"1")], false, now);
        self.begin_closing(true, now);
    }

    /// Somebody else needs what this client holds with a body that it does not send.
    pub fn give_up_body(&mut self, now: Instant) {
        if matches!(&self.phase, Phase::Exchanging(exchange) if !exchange.upload.is_complete()) {
            self.refuse(RequestError::BodyTooSlow, now);
        }
    }

    /// `deadline` has passed. Called too early, it does nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.write_deadline().is_some_and(|deadline| deadline <= now) {
            return self.handle_disconnect();
        }
        if self.read_deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        match self.phase {
            Phase::AwaitingHead { .. } | Phase::ShuttingWrite | Phase::Lingering => self.close(Ending::Clean),
            Phase::ReadingHead(_) => self.refuse(RequestError::HeadTooSlow, now),
            Phase::Exchanging(_) => self.refuse(RequestError::BodyTooSlow, now),
            Phase::Discarding { .. } => self.begin_closing(true, now),
            Phase::Closing { .. } | Phase::Foreign | Phase::Closed { .. } => {}
        }
    }

    /// The server is stopping: an idle connection ends at once, any other with the response that is owed.
    pub fn begin_drain(&mut self) {
        self.service = Service::Draining;
        if matches!(self.phase, Phase::AwaitingHead { .. }) && self.is_over() {
            self.begin_closing(false, self.read_since);
        }
    }

    /// Whether the socket should be read.
    pub fn wants_input(&self) -> bool {
        let (unread, limits) = (self.unread().len(), &self.context.limits);
        self.inbound == Inbound::Open
            && match &self.phase {
                Phase::AwaitingHead { .. } => unread < limits.input_bytes_high,
                // A head has to be there whole, or one byte past its limit, before anything can be made of it.
                Phase::ReadingHead(_) => unread < limits.input_bytes_high.max(limits.head_bytes_max + 1),
                // One read ahead, so that the end of the connection is noticed.
                Phase::Exchanging(exchange) if exchange.upload.is_complete() => unread == 0,
                Phase::Exchanging(_) => unread < limits.input_bytes_high,
                Phase::Discarding { .. } | Phase::ShuttingWrite | Phase::Lingering => true,
                Phase::Closing { linger } => *linger,
                Phase::Foreign | Phase::Closed { .. } => false,
            }
    }

    /// Whether `poll_event` held something back for want of room that is there now: after output was consumed, a pipelined request.
    pub fn wants_poll(&self) -> bool {
        matches!(self.phase, Phase::AwaitingHead { .. })
            && !matches!(self.unread(), [] | [b'\r'])
            && self.wants_output()
    }

    /// Whether more of the response should be given. It is accepted anyway; this is what keeps memory bounded.
    pub fn wants_output(&self) -> bool {
        self.output().len() < self.context.limits.output_bytes_high
    }

    /// Cuts the connection: what is not written is dropped, so that the client never sees a clean end of a broken body.
    pub fn abort(&mut self) {
        self.close(Ending::Cut);
    }

    /// Breaks a response off that can no longer be ended. What is queued of it is still written: a connection that broke before any
    /// response may have its request repeated by the client (RFC 9110 §9.2.2). A body that is counted or chunked is then seen to be
    /// incomplete (RFC 9112 §8); one that only the end of the connection ends has to be cut.
    pub fn break_off(&mut self, now: Instant) {
        match &self.phase {
            Phase::Exchanging(Exchange {
                reply: Reply::Body { framing: Framing::Length(_) | Framing::Chunked | Framing::NoBody, .. },
                upload,
                ..
            }) => {
                let linger = !upload.is_complete();
                self.release_held(now);
                self.begin_closing(linger, now);
            }
            _ => self.abort(),
        }
    }

    /// What is to be written to the socket.
    pub fn output(&self) -> &[u8] {
        self.buffers.as_ref().map_or(&[], |buffers| buffers.unsent())
    }

    /// The first `count` bytes of `output` have been written.
    pub fn consume_output(&mut self, count: usize, now: Instant) {
        let Some(buffers) = &mut self.buffers else {
            return;
        };
        if count > 0 {
            buffers.sent(count);
            self.outflow.handle_written(count as u64, now);
        }
        if self.wants_output() {
            self.release_held(now);
        }
        self.settle_sending(now);
        if self.output().is_empty() {
            match self.phase {
                Phase::AwaitingHead { .. } if self.is_over() => self.begin_closing(false, now),
                Phase::AwaitingHead { .. } => {
                    self.read_since = now;
                    self.release_idle_buffers();
                }
                Phase::Closing { linger } => self.begin_closing(linger, now),
                Phase::ReadingHead(_)
                | Phase::Exchanging(_)
                | Phase::Discarding { .. }
                | Phase::ShuttingWrite
                | Phase::Lingering
                | Phase::Foreign
                | Phase::Closed { .. } => {}
            }
        }
    }

    /// When `handle_timeout` has to be called, unless something happens before.
    pub fn deadline(&self) -> Option<Instant> {
        match (self.read_deadline(), self.write_deadline()) {
            (Some(read), Some(write)) => Some(read.min(write)),
            (read, write) => read.or(write),
        }
    }

    /// The `Date` of a response that begins now.
    pub fn date(&self) -> [u8; DATE_BYTES] {
        self.context.date()
    }

    /// Whether nothing is in progress: no request, no byte to write.
    pub fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::AwaitingHead { .. }) && self.unread().is_empty() && self.output().is_empty()
    }

    /// Whether a response is owed or in progress.
    pub const fn is_exchanging(&self) -> bool {
        matches!(self.phase, Phase::Exchanging(_))
    }

    /// Whether a response has begun and not ended.
    pub const fn is_head_sent(&self) -> bool {
        matches!(self.phase, Phase::Exchanging(Exchange { reply: Reply::Body { .. } | Reply::Beside { .. }, .. }))
    }

    /// Whether the reactor should shut the socket's sending side now, and then say `handle_write_shutdown`.
    pub const fn should_shutdown_write(&self) -> bool {
        matches!(self.phase, Phase::ShuttingWrite)
    }

    pub fn handle_write_shutdown(&mut self) {
        if self.should_shutdown_write() {
            self.phase = Phase::Lingering;
        }
    }

    /// Whether the reactor should close the socket now.
    pub const fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed { .. })
    }

    /// Whether the socket should be closed with a reset: the client must not take what it has for a whole response, which matters
    /// where only the end of the connection ends a body.
    pub const fn was_cut(&self) -> bool {
        matches!(self.phase, Phase::Closed { ending: Ending::Cut })
    }

    fn throw_away(&mut self, count: usize, now: Instant) {
        // Who is turned away has one pause in all: there are few places for that.
        if self.linger_bytes_left > FAREWELL_BYTES_MAX {
            self.read_since = now;
        }
        match self.linger_bytes_left.checked_sub(count as u64) {
            Some(left) => self.linger_bytes_left = left,
            None => self.close(Ending::Clean),
        }
    }

    /// Bad bytes have no end: after the answer the connection can only be closed.
    fn refuse(&mut self, error: RequestError, now: Instant) {
        let request = match &self.phase {
            Phase::Exchanging(exchange) => Some((exchange.facts, exchange.reply)),
            _ => None,
        };
        let named = self.buffers.as_mut().and_then(|buffers| buffers.request_id.take());
        let id = named.filter(|_| request.is_some()).unwrap_or_else(|| self.context.ids().next_unnumbered());
        self.news = Some(News::Refused(Box::new((error, id.clone()))));
        let facts = match request {
            Some((facts, Reply::Owed)) => facts,
            Some((_, Reply::Body { .. } | Reply::Beside { .. })) => return self.close(Ending::Cut),
            None => Facts::UNKNOWN,
        };
        self.write_error(facts, error.status(), error.reason(), id.as_str(), &[], false, now);
        self.begin_closing(true, now);
    }

    /// Ends the connection once the output is written.
    fn begin_closing(&mut self, linger: bool, now: Instant) {
        if let Some(buffers) = &mut self.buffers {
            buffers.discard_input();
        }
        if !self.output().is_empty() {
            self.phase = Phase::Closing { linger };
        } else if linger && self.inbound == Inbound::Open {
            (self.read_since, self.outflow.write_since) = (now, now);
            self.phase = Phase::ShuttingWrite;
            self.release_buffers();
        } else {
            self.close(Ending::Clean);
        }
    }

    /// Ends the connection now. The first ending counts.
    fn close(&mut self, ending: Ending) {
        if !self.is_closed() {
            self.phase = Phase::Closed { ending };
        }
        self.release_buffers();
    }

    fn read_deadline(&self) -> Option<Instant> {
        let timeouts = &self.context.timeouts;
        let patience = match &self.phase {
            Phase::AwaitingHead { .. } if !self.output().is_empty() => return None,
            Phase::AwaitingHead { turn: Turn::First, .. } | Phase::ReadingHead(_) => timeouts.head,
            Phase::AwaitingHead { turn: Turn::Later, .. } => timeouts.keep_alive,
            Phase::Exchanging(_) => self.is_client_awaited().then_some(timeouts.body)?,
            Phase::Discarding { .. } => timeouts.linger,
            Phase::ShuttingWrite | Phase::Lingering => {
                let end = self.outflow.write_since + LINGER_TIME_MAX;
                return Some(end.min(self.read_since + timeouts.linger));
            }
            Phase::Closing { .. } | Phase::Foreign | Phase::Closed { .. } => return None,
        };
        let pause_end = self.read_since + patience;
        Some(self.receive_end().map_or(pause_end, |end| end.min(pause_end)))
    }

    fn write_deadline(&self) -> Option<Instant> {
        self.is_sending().then(|| self.outflow.deadline(&self.context.timeouts))
    }

    /// Whether there will be no further request.
    fn is_over(&self) -> bool {
        (self.inbound == Inbound::Ended || self.service == Service::Draining) && matches!(self.unread(), [] | [b'\r'])
    }

    fn unread(&self) -> &[u8] {
        self.buffers.as_ref().map_or(&[], |buffers| buffers.unread())
    }

    fn output_mut(&mut self, now: Instant) -> &mut Vec<u8> {
        if self.output().is_empty() {
            self.outflow.write_since = now;
        }
        if !self.is_sending() {
            self.outflow.begin_turn(now);
        }
        &mut self.buffers_mut().output
    }

    fn buffers_mut(&mut self) -> &mut Buffers {
        self.buffers.get_or_insert_with(|| self.context.take_buffers())
    }

    fn release_idle_buffers(&mut self) {
        if self.is_idle() {
            self.release_buffers();
        }
    }

    fn release_buffers(&mut self) {
        if let Some(buffers) = self.buffers.take() {
            self.context.give_back(buffers);
        }
    }
}
