//! One client connection: a sequence of exchanges, each a request and its response, then the manner of its end.
//!
//! Owns the lifecycle and the buffers; every byte in and out passes here. Never touches a socket or a clock. The reactor drives it:
//!
//! 1. After the socket was read: `handle_input` or `handle_eof`; after it failed: `handle_disconnect`; when `deadline` has
//!    passed: `handle_timeout`.
//! 2. Then, and after each `consume_output` and each end of a response: `poll_event` until `None`. Events may be left untaken to
//!    hold the client back; `wants_input` then turns false.
//! 3. Then: `output` to the socket, `consume_output`, `should_shutdown_write`, `is_closed`, `deadline`.

use std::rc::Rc;
use std::time::Instant;

use super::body::{Chunked, Decoded, Upload};
use super::context::{Buffers, Context};
use super::error::{RequestError, ResponseError};
use super::fields::{Header, ascii};
use super::head::{self, BodyLength, Facts, Head, HeadScan, Headers, RequestHead};
use super::limits::{DRAIN_BYTES_MAX, LEADING_BLANK_LINES_MAX};
use super::response::{self, Framing, ResponseHead};
use super::target::{Scheme, TargetForm};

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
    /// begun; no response is owed any more.
    Refused { status: u16, reason: &'static str },
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
    /// An event that did not come out of decoding.
    news: Option<News>,
    buffers: Option<Box<Buffers>>,
    /// Since when the present phase waits for the client to send.
    read_since: Instant,
    /// Since when the output waits for the client to read.
    write_since: Instant,
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
    Closed {
        ending: Ending,
    },
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
    Body { framing: Framing, keep: bool },
}

#[derive(Clone, Copy, Debug)]
enum News {
    Refused(RequestError),
    ClientGone,
}

/// An event before it lends anything: positions in the input buffer.
enum Step {
    News(News),
    Request { head: Head, start: usize, length: usize },
    Body { start: usize, length: usize },
    BodyEnd { start: usize, length: usize },
}

impl Connection {
    pub fn new(context: Rc<Context>, scheme: Scheme, now: Instant) -> Self {
        Self {
            context,
            scheme,
            phase: Phase::AwaitingHead { blank_lines: 0, turn: Turn::First },
            inbound: Inbound::Open,
            service: Service::Serving,
            news: None,
            buffers: None,
            read_since: now,
            write_since: now,
        }
    }

    /// Takes bytes from the socket. They are copied; call this only while `wants_input`, or the buffer grows beyond its bound.
    pub fn handle_input(&mut self, bytes: &[u8], now: Instant) {
        match self.phase {
            Phase::Closing { .. } | Phase::ShuttingWrite | Phase::Lingering | Phase::Closed { .. } => return,
            Phase::Exchanging(_) => self.read_since = now,
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
            Phase::Closing { .. } | Phase::Closed { .. } => {}
        }
    }

    /// The server is stopping: an idle connection ends at once, any other with the response that is owed.
    pub fn begin_drain(&mut self, now: Instant) {
        self.service = Service::Draining;
        if matches!(self.phase, Phase::AwaitingHead { .. }) && self.unread().is_empty() {
            self.begin_closing(false, now);
        }
    }

    /// The next event, or `None` until there is more input, output was consumed, or the response has ended.
    pub fn poll_event(&mut self, now: Instant) -> Option<Event<'_>> {
        let step = self.poll_step(now)?;
        if let Step::News(News::Refused(error)) = step {
            return Some(Event::Refused { status: error.status(), reason: error.reason() });
        }
        let input = |start, length| self.buffers.as_ref()?.input.get(start..start + length);
        match step {
            Step::News(_) => Some(Event::ClientGone),
            Step::Request { head, start, length } => {
                let fields = Headers::new(input(start, length)?, &self.buffers.as_ref()?.slots);
                Some(Event::Request(request_head(&head, input(start, length)?, fields, self.scheme)))
            }
            Step::Body { start, length } => Some(Event::Body(input(start, length)?)),
            Step::BodyEnd { start, length } => {
                let slots = &self.buffers.as_ref()?.slots;
                Some(Event::BodyEnd { trailers: Headers::new(input(start, length)?, slots) })
            }
        }
    }

    /// Whether the socket should be read.
    pub fn wants_input(&self) -> bool {
        let unread = self.unread().len();
        self.inbound == Inbound::Open
            && match &self.phase {
                Phase::AwaitingHead { .. } | Phase::ReadingHead(_) => unread < self.context.limits.input_bytes_high,
                // One read ahead, so that the end of the connection is noticed.
                Phase::Exchanging(exchange) if exchange.upload.is_complete() => unread == 0,
                Phase::Exchanging(_) => unread < self.context.limits.input_bytes_high,
                Phase::Discarding { .. } | Phase::ShuttingWrite | Phase::Lingering => true,
                Phase::Closing { linger } => *linger,
                Phase::Closed { .. } => false,
            }
    }

    /// Whether more of the response should be given. It is accepted anyway; this is what keeps memory bounded.
    pub fn wants_output(&self) -> bool {
        self.output().len() < self.context.limits.output_bytes_high
    }

    /// Begins the response. On an error nothing was written, and another response may be tried.
    pub fn respond_head(&mut self, head: &ResponseHead<'_>, now: Instant) -> Result<(), ResponseError> {
        let more_to_come = self.inbound == Inbound::Open || !self.unread().is_empty();
        let serving = self.service == Service::Serving && more_to_come;
        let Phase::Exchanging(exchange) = &mut self.phase else {
            return Err(ResponseError::OutOfOrder);
        };
        let Reply::Owed = exchange.reply else {
            return Err(ResponseError::OutOfOrder);
        };
        // A client that was not told to continue may send the body or may not: what comes next could not be told apart.
        let keep = serving && exchange.facts.keep_alive && !exchange.facts.expects_continue;
        let (facts, date) = (exchange.facts, self.context.date());
        let (framing, keep) = response::write_head(self.output_mut(now), head, facts, keep, &date)?;
        if let Phase::Exchanging(exchange) = &mut self.phase {
            exchange.reply = Reply::Body { framing, keep };
        }
        Ok(())
    }

    /// Continues the response. An error means that the promised length is exceeded: the caller has to `abort`.
    pub fn respond_body(&mut self, bytes: &[u8], now: Instant) -> Result<(), ResponseError> {
        let Phase::Exchanging(Exchange { reply: Reply::Body { framing, .. }, .. }) = &self.phase else {
            return Err(ResponseError::OutOfOrder);
        };
        if bytes.is_empty() {
            return Ok(());
        }
        let mut framing = *framing;
        response::write_body(self.output_mut(now), &mut framing, bytes)?;
        if let Phase::Exchanging(Exchange { reply: Reply::Body { framing: present, .. }, .. }) = &mut self.phase {
            *present = framing;
        }
        Ok(())
    }

    /// Ends the response. An error means that the body is shorter than promised, or a trailer invalid: the caller has to `abort`.
    pub fn respond_end(&mut self, trailers: &[Header<'_>], now: Instant) -> Result<(), ResponseError> {
        let Phase::Exchanging(Exchange { facts, upload, reply: Reply::Body { framing, keep } }) = self.phase else {
            return Err(ResponseError::OutOfOrder);
        };
        response::write_end(self.output_mut(now), framing, trailers, facts)?;
        self.end_exchange(upload, keep, now);
        Ok(())
    }

    /// Answers with a short text of the server's own; after the head of another response is out, cuts the connection. If the
    /// request body has not arrived whole, the connection ends with the answer. Without an owed response it does nothing.
    pub fn respond_error(&mut self, status: u16, detail: &str, request_id: &str, extra: &[Header<'_>], now: Instant) {
        let Phase::Exchanging(exchange) = &mut self.phase else {
            return;
        };
        let Reply::Owed = exchange.reply else {
            return self.abort();
        };
        let facts = exchange.facts;
        if let Some(buffers) = &mut self.buffers {
            discard(&mut exchange.upload, buffers, &self.context, u64::MAX);
        }
        let (upload, arrived) = (exchange.upload, exchange.upload.is_complete());
        let keep = arrived && facts.keep_alive && self.service == Service::Serving;
        let keep = keep && (self.inbound == Inbound::Open || !self.unread().is_empty());
        let keep = self.write_error(facts, status, detail, request_id, extra, keep, now);
        self.end_exchange(upload, keep, now);
    }

    /// Tells a client that waits for it to send the body, once; otherwise does nothing.
    pub fn respond_continue(&mut self, now: Instant) {
        let Phase::Exchanging(exchange) = &mut self.phase else {
            return;
        };
        let Reply::Owed = exchange.reply else { return };
        if exchange.facts.expects_continue {
            exchange.facts.expects_continue = false;
            self.read_since = now;
            self.output_mut(now).extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
    }

    /// Cuts the connection: what is not written is dropped, so that the client never sees a clean end of a broken body.
    pub fn abort(&mut self) {
        self.close(Ending::Cut);
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
            self.write_since = now;
        }
        if buffers.unsent().is_empty() {
            match self.phase {
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
        matches!(self.phase, Phase::Exchanging(Exchange { reply: Reply::Body { .. }, .. }))
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
    pub const fn is_cut(&self) -> bool {
        matches!(self.phase, Phase::Closed { ending: Ending::Cut })
    }

    fn poll_step(&mut self, now: Instant) -> Option<Step> {
        loop {
            if let Some(news) = self.news.take() {
                return Some(Step::News(news));
            }
            let progress = match &self.phase {
                Phase::AwaitingHead { .. } => self.begin_head(now),
                Phase::ReadingHead(_) => self.read_head(now),
                Phase::Exchanging(_) => self.read_body(now),
                Phase::Discarding { .. } => self.discard_upload(now),
                Phase::Closing { .. } | Phase::ShuttingWrite | Phase::Lingering | Phase::Closed { .. } => return None,
            };
            match progress {
                Progress::Event(step) => return Some(step),
                Progress::Onward => {}
                Progress::Waiting => return None,
            }
        }
    }

    fn begin_head(&mut self, now: Instant) -> Progress {
        if !self.wants_output() {
            return Progress::Waiting;
        }
        let Phase::AwaitingHead { blank_lines, .. } = &mut self.phase else {
            return Progress::Waiting;
        };
        let unread = self.buffers.as_ref().map_or(&[][..], |buffers| buffers.unread());
        match (unread, self.inbound) {
            ([] | [b'\r'], Inbound::Ended) => {
                self.begin_closing(false, now);
                Progress::Waiting
            }
            ([], Inbound::Open) => {
                self.release_idle_buffers();
                Progress::Waiting
            }
            ([b'\r'], Inbound::Open) => Progress::Waiting,
            ([b'\n', ..], _) => self.refuse_onward(RequestError::BareLineFeed, now),
            ([b'\r', b'\n', ..], _) if *blank_lines == LEADING_BLANK_LINES_MAX => {
                self.refuse_onward(RequestError::BlankLines, now)
            }
            ([b'\r', b'\n', ..], _) => {
                *blank_lines += 1;
                self.buffers_mut().take("\r\n".len());
                Progress::Onward
            }
            _ => {
                self.read_since = now;
                self.phase = Phase::ReadingHead(HeadScan::default());
                Progress::Onward
            }
        }
    }

    fn read_head(&mut self, now: Instant) -> Progress {
        let (Phase::ReadingHead(scan), Some(buffers)) = (&mut self.phase, &mut self.buffers) else {
            return Progress::Waiting;
        };
        let limits = &self.context.limits;
        let start = buffers.input_taken;
        let whole = match scan.scan(buffers.unread(), limits) {
            Ok(Some(whole)) => whole,
            Ok(None) if self.inbound == Inbound::Open => return Progress::Waiting,
            Ok(None) => return self.refuse_onward(RequestError::HeadIncomplete, now),
            Err(error) => return self.refuse_onward(error, now),
        };
        let length = whole.length;
        let bytes = &mut buffers.input[start..start + length];
        let head = match head::parse(whole, bytes, &mut buffers.slots, limits) {
            Ok(head) => head,
            Err(error) => return self.refuse_onward(error, now),
        };
        buffers.take(length);
        let upload = match head.body {
            BodyLength::None => Upload::Done,
            BodyLength::Known(length) => Upload::Length(length),
            BodyLength::Unknown => Upload::Chunked(Chunked::default()),
        };
        self.read_since = now;
        self.phase = Phase::Exchanging(Exchange { facts: head.facts, upload, reply: Reply::Owed });
        Progress::Event(Step::Request { head, start, length })
    }

    fn read_body(&mut self, now: Instant) -> Progress {
        let (Phase::Exchanging(exchange), Some(buffers)) = (&mut self.phase, &mut self.buffers) else {
            return Progress::Waiting;
        };
        if exchange.upload == Upload::Done {
            return Progress::Waiting;
        }
        match exchange.upload.decode(buffers.unread(), &self.context.limits) {
            Err(error) => self.refuse_onward(error, now),
            Ok(Decoded::NeedMore { skip }) => {
                buffers.take(skip);
                match self.inbound {
                    Inbound::Open => Progress::Waiting,
                    Inbound::Ended => self.refuse_onward(RequestError::BodyIncomplete, now),
                }
            }
            Ok(Decoded::Data { skip, length }) => {
                // A client that sends the body unasked no longer waits for a 100 (RFC 9110 §10.1.1).
                exchange.facts.expects_continue = false;
                buffers.take(skip);
                let start = buffers.input_taken;
                buffers.take(length);
                self.read_since = now;
                Progress::Event(Step::Body { start, length })
            }
            Ok(Decoded::End { skip, trailers, fields }) => {
                exchange.facts.expects_continue = false;
                buffers.take(skip);
                let start = buffers.input_taken;
                let section = &mut buffers.input[start..start + trailers];
                if trailers == 0 {
                    buffers.slots.clear();
                } else if let Err(error) = head::parse_trailers(section, fields, &mut buffers.slots) {
                    return self.refuse_onward(error, now);
                }
                buffers.take(trailers);
                Progress::Event(Step::BodyEnd { start, length: trailers })
            }
        }
    }

    fn discard_upload(&mut self, now: Instant) -> Progress {
        let (Phase::Discarding { upload, budget_bytes }, Some(buffers)) = (&mut self.phase, &mut self.buffers) else {
            return Progress::Waiting;
        };
        match (discard(upload, buffers, &self.context, *budget_bytes), self.inbound) {
            (Discarded::Whole, _) => {
                self.read_since = now;
                self.phase = Phase::AwaitingHead { blank_lines: 0, turn: Turn::Later };
                Progress::Onward
            }
            (Discarded::Part(bytes), Inbound::Open) => {
                *budget_bytes -= bytes.min(*budget_bytes);
                Progress::Waiting
            }
            (Discarded::Part(_) | Discarded::Hopeless, _) => {
                self.begin_closing(true, now);
                Progress::Waiting
            }
        }
    }

    /// The response is complete: on to the next request, or to the end of the connection.
    fn end_exchange(&mut self, upload: Upload, keep: bool, now: Instant) {
        if keep && upload == Upload::Done {
            self.read_since = now;
            self.phase = Phase::AwaitingHead { blank_lines: 0, turn: Turn::Later };
        } else if keep && upload.is_worth_discarding() {
            self.read_since = now;
            self.phase = Phase::Discarding { upload, budget_bytes: DRAIN_BYTES_MAX };
            self.discard_upload(now);
        } else {
            let linger = !upload.is_complete() || !self.unread().is_empty();
            self.begin_closing(linger, now);
        }
    }

    fn refuse_onward(&mut self, error: RequestError, now: Instant) -> Progress {
        self.refuse(error, now);
        Progress::Onward
    }

    /// Bad bytes have no end: after the answer the connection can only be closed.
    fn refuse(&mut self, error: RequestError, now: Instant) {
        self.news = Some(News::Refused(error));
        let facts = match &self.phase {
            Phase::Exchanging(exchange) => match exchange.reply {
                Reply::Owed => exchange.facts,
                Reply::Body { .. } => return self.close(Ending::Cut),
            },
            _ => Facts::UNKNOWN,
        };
        self.write_error(facts, error.status(), error.reason(), "", &[], false, now);
        self.begin_closing(true, now);
    }

    /// Returns whether the connection is kept.
    #[expect(clippy::too_many_arguments, reason = "private, and each is a part of one response")]
    fn write_error(
        &mut self,
        facts: Facts,
        status: u16,
        detail: &str,
        request_id: &str,
        extra: &[Header<'_>],
        keep: bool,
        now: Instant,
    ) -> bool {
        let (content_type, body) = response::error_body(facts.accepts_only_json, status, detail, request_id);
        let mut headers: Vec<Header<'_>> = Vec::with_capacity(1 + extra.len());
        headers.push(("content-type", content_type.as_bytes()));
        headers.extend_from_slice(extra);
        let date = self.context.date();
        let out = self.output_mut(now);
        let body_length = Some(body.len() as u64);
        let head = ResponseHead { status, headers: &headers, body_length };
        let written = response::write_head(out, &head, facts, keep, &date).or_else(|_| {
            let plain = ResponseHead { status: 500, headers: &headers[..1], body_length };
            response::write_head(out, &plain, facts, keep, &date)
        });
        let Ok((mut framing, keep)) = written else {
            return false;
        };
        // The body has the length that the head has just been given.
        keep & response::write_body(out, &mut framing, body.as_bytes()).is_ok()
    }

    /// Ends the connection once the output is written.
    fn begin_closing(&mut self, linger: bool, now: Instant) {
        if let Some(buffers) = &mut self.buffers {
            buffers.discard_input();
        }
        if !self.output().is_empty() {
            self.phase = Phase::Closing { linger };
        } else if linger && self.inbound == Inbound::Open {
            self.read_since = now;
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
            Phase::Exchanging(exchange) => {
                let blames_client =
                    exchange.upload.is_starving(self.unread().len()) && !exchange.facts.expects_continue;
                blames_client.then_some(timeouts.body)?
            }
            Phase::Discarding { .. } | Phase::ShuttingWrite | Phase::Lingering => timeouts.linger,
            Phase::Closing { .. } | Phase::Closed { .. } => return None,
        };
        Some(self.read_since + patience)
    }

    fn write_deadline(&self) -> Option<Instant> {
        (!self.output().is_empty()).then(|| self.write_since + self.context.timeouts.write)
    }

    fn unread(&self) -> &[u8] {
        self.buffers.as_ref().map_or(&[], |buffers| buffers.unread())
    }

    fn output_mut(&mut self, now: Instant) -> &mut Vec<u8> {
        if self.output().is_empty() {
            self.write_since = now;
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

enum Progress {
    Event(Step),
    /// The phase has changed, or there is news: look again.
    Onward,
    Waiting,
}

enum Discarded {
    Whole,
    /// So many bytes, and all there were.
    Part(u64),
    /// Malformed, or beyond the budget.
    Hopeless,
}

/// Throws away what has arrived of a request body.
fn discard(upload: &mut Upload, buffers: &mut Buffers, context: &Context, budget_bytes: u64) -> Discarded {
    let before = buffers.unread().len();
    let outcome = loop {
        match upload.decode(buffers.unread(), &context.limits) {
            Ok(Decoded::NeedMore { skip }) => {
                buffers.take(skip);
                break Discarded::Part((before - buffers.unread().len()) as u64);
            }
            Ok(Decoded::Data { skip, length }) => buffers.take(skip + length),
            Ok(Decoded::End { skip, trailers, .. }) => {
                buffers.take(skip + trailers);
                break Discarded::Whole;
            }
            Err(_) => break Discarded::Hopeless,
        }
    };
    let taken = (before - buffers.unread().len()) as u64;
    if taken > budget_bytes { Discarded::Hopeless } else { outcome }
}

fn request_head<'a>(head: &Head, bytes: &'a [u8], headers: Headers<'a>, scheme: Scheme) -> RequestHead<'a> {
    let target = &head.line.target;
    let path = ascii(target.path.of(bytes));
    RequestHead {
        method: ascii(head.line.method.of(bytes)),
        form: target.form,
        scheme: target.scheme.unwrap_or(scheme),
        authority: ascii(head.authority.of(bytes)),
        path: if path.is_empty() && target.form == TargetForm::Absolute { "/" } else { path },
        query: target.query.map(|query| ascii(query.of(bytes))),
        version: head.facts.version,
        headers,
        body: head.body,
        expects_continue: head.facts.expects_continue,
        keep_alive: head.facts.keep_alive,
        accepts_trailers: head.facts.accepts_trailers,
    }
}
