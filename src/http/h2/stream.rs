//! One request of an HTTP/2 connection and its response: the same events and answers as of a connection of HTTP/1.1, which has one at a time.
//!
//! Owns what has come of the request and is not taken, and what is to be sent of the response and has no window yet; both are bounded as those of
//! a connection are. Never touches a socket or a clock. The reactor drives it: `advance` moves what can be moved between it and the library,
//! then `poll_event` until `None`; the session beside it writes what has been moved.

mod replying;

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::HeaderMap;
use http::request::Parts;

use super::pipe::Flag;
use super::request;
use super::session::{Accepted, Progress, StreamEnd};
use crate::http::connection::{Event, request_head};
use crate::http::context::{Buffers, Context, DATE_BYTES};
use crate::http::error::RequestError;
use crate::http::head::{BodyLength, Facts, Head, Headers};
use crate::http::patience::Patience;
use crate::http::request_id::PublicId;
use crate::http::response::Framing;
use crate::http::target::Scheme;

/// A request and its response. Idle ones do not exist.
#[derive(Debug)]
pub struct Stream {
    context: Rc<Context>,
    scheme: Scheme,
    phase: Phase,
    upload: Upload,
    body: RecvStream,
    /// Bytes of the request's body so far.
    received: u64,
    news: Option<News>,
    buffers: Option<Box<Buffers>>,
    read_since: Instant,
    write_since: Instant,
    /// Patience with a client that sends a body, and with one that opens its window.
    receiving: Patience,
    sending: Patience,
    sending_since: Instant,
    /// Raised when the library has something for this stream.
    flag: Arc<Flag>,
    waker: Waker,
    progress: Rc<Progress>,
}

#[derive(Debug)]
enum Phase {
    /// Nobody has been told of the request.
    Fresh(Box<Parts>, SendResponse<Bytes>),
    /// A response is owed.
    Owed(Facts, SendResponse<Bytes>),
    /// The head is out; `left` is how much is still due of a body that comes from elsewhere.
    Body {
        framing: Framing,
        left: Option<u64>,
        way: SendStream<Bytes>,
    },
    /// The response is complete but for what is queued of it.
    Flushing {
        trailers: Option<HeaderMap>,
        way: SendStream<Bytes>,
    },
    Closed(Ending),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Clean,
    /// By us, in the middle.
    Cut,
    /// By the client, or with its connection.
    Gone,
}

/// How far the request's body has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Upload {
    Open,
    /// All of it is here, with trailers behind the body: so many bytes of them, and so many fields.
    Arrived {
        trailers: usize,
        fields: u32,
    },
    /// And the guest has been told so.
    Done,
}

#[derive(Clone, Debug)]
enum News {
    Refused(Box<(RequestError, PublicId)>),
    ClientGone,
}

impl Stream {
    pub fn new(context: Rc<Context>, scheme: Scheme, accepted: Accepted, now: Instant) -> Stream {
        let Accepted { request, respond, progress } = accepted;
        let (parts, body) = request.into_parts();
        let (flag, waker) = Flag::new();
        Stream {
            scheme,
            upload: Upload::Open,
            body,
            received: 0,
            phase: Phase::Fresh(Box::new(parts), respond),
            news: None,
            buffers: None,
            read_since: now,
            write_since: now,
            receiving: Patience::new(&context.timeouts.receive),
            sending: Patience::new(&context.timeouts.send),
            sending_since: now,
            context,
            flag,
            waker,
            progress,
        }
    }

    /// The library has something for it, or wants something of it.
    pub fn is_woken(&self) -> bool {
        self.flag.is_set()
    }

    /// Moves what can be moved: bytes of the body to here, bytes of the response to the library.
    pub fn advance(&mut self, now: Instant) {
        self.flag.take();
        if self.is_closed() {
            return;
        }
        if self.is_reset() {
            return self.handle_disconnect();
        }
        self.receive(now);
        self.send(now);
    }

    /// The client has cancelled it, or its connection is gone.
    fn is_reset(&mut self) -> bool {
        let task = &mut TaskContext::from_waker(&self.waker);
        let reset = match &mut self.phase {
            Phase::Fresh(_, respond) | Phase::Owed(_, respond) => respond.poll_reset(task),
            Phase::Body { way, .. } | Phase::Flushing { way, .. } => way.poll_reset(task),
            Phase::Closed(_) => return false,
        };
        reset.is_ready()
    }

    /// Takes what the library has of the body, whether anybody wants it yet or not: the window bounds it, and here it is bytes, not frames.
    fn receive(&mut self, now: Instant) {
        if !matches!(self.phase, Phase::Owed(..) | Phase::Body { .. }) {
            return;
        }
        while self.upload == Upload::Open {
            match self.body.poll_data(&mut TaskContext::from_waker(&self.waker)) {
                Poll::Pending => return,
                Poll::Ready(Some(Ok(bytes))) => {
                    self.received += bytes.len() as u64;
                    if self.received > self.context.limits.body_bytes_max {
                        return self.refuse(RequestError::BodyTooLarge, now);
                    }
                    if !bytes.is_empty() {
                        self.settle_receiving(bytes.len(), now);
                        self.read_since = now;
                        self.progress.note(bytes.len());
                        self.stop_expecting();
                        self.buffers_mut().append_input(&bytes);
                    }
                }
                Poll::Ready(Some(Err(_))) => return self.handle_disconnect(),
                Poll::Ready(None) => match self.body.poll_trailers(&mut TaskContext::from_waker(&self.waker)) {
                    Poll::Pending => return,
                    Poll::Ready(Ok(trailers)) => return self.end_upload(trailers, now),
                    Poll::Ready(Err(_)) => return self.handle_disconnect(),
                },
            }
        }
    }

    /// Only the time counts in which nothing but the client was missing.
    fn settle_receiving(&mut self, count: usize, now: Instant) {
        let waited =
            if self.is_client_awaited() { now.saturating_duration_since(self.read_since) } else { Duration::ZERO };
        self.receiving = self.receiving.after(&self.context.timeouts.receive, waited, count as u64);
    }

    /// So many bytes of a response have found room in the client's windows.
    fn settle_sending(&mut self, count: usize, now: Instant) {
        let is_to_blame = self.unsent() + count > 0 && !self.progress.is_behind();
        let waited = if is_to_blame { now.saturating_duration_since(self.sending_since) } else { Duration::ZERO };
        self.sending = self.sending.after(&self.context.timeouts.send, waited, count as u64);
        self.sending_since = now;
        if count > 0 {
            self.write_since = now;
        }
    }

    /// Whether nothing can go on before the client has sent more of its body.
    fn is_client_awaited(&self) -> bool {
        let waits = match &self.phase {
            Phase::Owed(facts, _) => !facts.expects_continue,
            Phase::Body { .. } => true,
            Phase::Fresh(..) | Phase::Flushing { .. } | Phase::Closed(_) => false,
        };
        waits && self.upload == Upload::Open && self.unread() == 0
    }

    fn end_upload(&mut self, trailers: Option<HeaderMap>, now: Instant) {
        self.stop_expecting();
        let Some(trailers) = trailers else {
            self.upload = Upload::Arrived { trailers: 0, fields: 0 };
            return;
        };
        let mut section = Vec::new();
        match request::write_trailers(&trailers, &self.context.limits, &mut section) {
            Ok(fields) => {
                self.buffers_mut().append_input(&section);
                self.upload = Upload::Arrived { trailers: section.len(), fields };
            }
            Err(error) => self.refuse(error, now),
        }
    }

    /// A client that sends the body unasked no longer waits for a 100 (RFC 9110 §10.1.1).
    fn stop_expecting(&mut self) {
        if let Phase::Owed(facts, _) = &mut self.phase {
            facts.expects_continue = false;
        }
    }

    /// The next event, or `None` until there is more.
    pub fn poll_event(&mut self, now: Instant) -> Option<Event<'_>> {
        if let Some(news) = self.news.take() {
            return Some(told(news));
        }
        match &self.phase {
            Phase::Fresh(..) => self.begin(now),
            Phase::Owed(..) | Phase::Body { .. } => self.lend_body(now),
            Phase::Flushing { .. } | Phase::Closed(_) => None,
        }
    }

    fn begin(&mut self, now: Instant) -> Option<Event<'_>> {
        let phase = std::mem::replace(&mut self.phase, Phase::Closed(Ending::Cut));
        let Phase::Fresh(parts, respond) = phase else { return None };
        let has_body = !self.body.is_end_stream();
        let mut buffers = self.buffers.take().unwrap_or_else(|| self.context.take_buffers());
        let read = request::read(&parts, has_body, self.scheme, &mut buffers, &self.context.limits);
        self.progress.note(buffers.input.len());
        self.buffers = Some(buffers);
        let head = match read {
            Ok(head) => head,
            Err(error) => {
                self.phase =
                    Phase::Owed(Facts { is_head: parts.method == http::Method::HEAD, ..Facts::UNKNOWN }, respond);
                self.refuse(error, now);
                return self.news.take().map(told);
            }
        };
        self.phase = Phase::Owed(head.facts, respond);
        if head.body == BodyLength::None {
            self.upload = Upload::Done;
        }
        self.lend_head(&head)
    }

    fn lend_head(&self, head: &Head) -> Option<Event<'_>> {
        let buffers = self.buffers.as_ref()?;
        let bytes = &buffers.input[..buffers.input_taken];
        Some(Event::Request(request_head(head, bytes, Headers::new(bytes, &buffers.slots), self.scheme)))
    }

    fn lend_body(&mut self, now: Instant) -> Option<Event<'_>> {
        let behind = match self.upload {
            Upload::Open => 0,
            Upload::Arrived { trailers, .. } => trailers,
            Upload::Done => return None,
        };
        let length = (self.unread() - behind).min(self.context.limits.body_event_bytes_max);
        if length == 0 {
            return self.lend_end(now);
        }
        // Who asks for it takes it: the client may send as much again.
        let _ = self.body.flow_control().release_capacity(length);
        let buffers = self.buffers.as_mut()?;
        let start = buffers.input_taken;
        buffers.take(length);
        Some(Event::Body(buffers.input.get(start..start + length)?))
    }

    fn lend_end(&mut self, now: Instant) -> Option<Event<'_>> {
        let Upload::Arrived { trailers: length, fields } = self.upload else { return None };
        self.upload = Upload::Done;
        let mut buffers = self.buffers.take().unwrap_or_else(|| self.context.take_buffers());
        let start = buffers.input_taken;
        let read = buffers.read_trailers(length, fields);
        buffers.take(length);
        self.buffers = Some(buffers);
        if let Err(error) = read {
            self.refuse(error, now);
            return self.news.take().map(told);
        }
        let buffers = self.buffers.as_ref()?;
        let section = buffers.input.get(start..start + length)?;
        Some(Event::BodyEnd { trailers: Headers::new(section, &buffers.slots) })
    }

    /// Whether there is an event that has not been asked for.
    pub fn wants_poll(&self) -> bool {
        self.news.is_some()
            || matches!(self.phase, Phase::Owed(..) | Phase::Body { .. })
                && (matches!(self.upload, Upload::Arrived { .. }) || self.upload == Upload::Open && self.unread() > 0)
    }

    /// The stream, or its connection, is gone: nothing can be sent any more.
    pub fn handle_disconnect(&mut self) {
        match self.phase {
            Phase::Fresh(..) | Phase::Owed(..) | Phase::Body { .. } => self.news = Some(News::ClientGone),
            Phase::Flushing { .. } | Phase::Closed(_) => {}
        }
        self.close(Ending::Gone);
    }

    /// The server stood still for `leap`, which is no time of the client's.
    pub fn forgive(&mut self, leap: Duration) {
        for since in [&mut self.read_since, &mut self.write_since, &mut self.sending_since] {
            *since += leap;
        }
    }

    /// `deadline` has passed. Called too early, it does nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.write_deadline().is_some_and(|deadline| deadline <= now) {
            self.reset(Reason::CANCEL);
            self.handle_disconnect();
        } else if self.read_deadline().is_some_and(|deadline| deadline <= now) {
            self.refuse(RequestError::BodyTooSlow, now);
        }
    }

    /// Somebody else needs what this client holds with a body that it does not send.
    pub fn give_up_body(&mut self, now: Instant) {
        if self.is_client_awaited() {
            self.refuse(RequestError::BodyTooSlow, now);
        }
    }

    /// When `handle_timeout` has to be called, unless something happens before.
    pub fn deadline(&self) -> Option<Instant> {
        match (self.read_deadline(), self.write_deadline()) {
            (Some(read), Some(write)) => Some(read.min(write)),
            (read, write) => read.or(write),
        }
    }

    fn read_deadline(&self) -> Option<Instant> {
        let timeouts = &self.context.timeouts;
        let pause_end = self.is_client_awaited().then(|| self.read_since + timeouts.body)?;
        let end = self.receiving.end(&timeouts.receive, self.read_since, 0);
        Some(end.map_or(pause_end, |end| end.min(pause_end)))
    }

    fn write_deadline(&self) -> Option<Instant> {
        let timeouts = &self.context.timeouts;
        let is_ending = matches!(self.phase, Phase::Flushing { .. });
        let pause_end = (is_ending || self.unsent() > 0).then(|| self.write_since + timeouts.write)?;
        let end = self.sending.end(&timeouts.send, self.sending_since, 0).filter(|_| !self.progress.is_behind());
        Some(end.map_or(pause_end, |end| end.min(pause_end)))
    }

    /// Bytes of the response that the client's window has no room for.
    pub fn unsent(&self) -> usize {
        self.buffers.as_ref().map_or(0, |buffers| buffers.unsent().len())
    }

    fn unread(&self) -> usize {
        self.buffers.as_ref().map_or(0, |buffers| buffers.unread().len())
    }

    pub fn date(&self) -> [u8; DATE_BYTES] {
        self.context.date()
    }

    /// Whether it is over, and everything has been given to the library.
    pub const fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed(_))
    }

    /// Whether it ended before its response had.
    pub const fn was_cut(&self) -> bool {
        matches!(self.phase, Phase::Closed(Ending::Cut | Ending::Gone))
    }

    /// What its session is told of its end.
    pub const fn end(&self) -> StreamEnd {
        match self.phase {
            Phase::Closed(Ending::Gone) => StreamEnd::Cancelled,
            // Where the fault is ours, or the guest's, it is not the client's.
            Phase::Closed(Ending::Clean | Ending::Cut)
            | Phase::Fresh(..)
            | Phase::Owed(..)
            | Phase::Body { .. }
            | Phase::Flushing { .. } => StreamEnd::Answered,
        }
    }

    /// Ends it in the middle (RFC 9113 §8.1.1): the fault is not the client's.
    pub fn abort(&mut self) {
        self.reset(Reason::INTERNAL_ERROR);
        self.close(Ending::Cut);
    }

    /// Bad bytes have no end: the answer, or a reset where one has begun.
    fn refuse(&mut self, error: RequestError, now: Instant) {
        let named = self.buffers.as_mut().and_then(|buffers| buffers.request_id.take());
        let id = named.unwrap_or_else(|| self.context.ids().next_unnumbered());
        match self.phase {
            Phase::Owed(..) => {
                self.respond_error(error.status(), error.reason(), id.as_str(), &[], now);
            }
            Phase::Fresh(..) | Phase::Body { .. } | Phase::Flushing { .. } | Phase::Closed(_) => {
                self.reset(Reason::CANCEL);
                self.close(Ending::Cut);
            }
        }
        self.news = Some(News::Refused(Box::new((error, id))));
    }

    /// Says what the request is called, should the rest of it be refused.
    pub fn name_request(&mut self, id: PublicId) {
        if let Some(buffers) = &mut self.buffers {
            buffers.request_id = Some(id);
        }
    }

    fn reset(&mut self, reason: Reason) {
        match &mut self.phase {
            Phase::Fresh(_, respond) | Phase::Owed(_, respond) => respond.send_reset(reason),
            Phase::Body { way, .. } | Phase::Flushing { way, .. } => way.send_reset(reason),
            Phase::Closed(_) => {}
        }
    }

    fn close(&mut self, ending: Ending) {
        if !self.is_closed() {
            self.phase = Phase::Closed(ending);
        }
        if let Some(buffers) = self.buffers.take() {
            self.context.give_back(buffers);
        }
    }

    fn buffers_mut(&mut self) -> &mut Buffers {
        self.buffers.get_or_insert_with(|| self.context.take_buffers())
    }
}

fn told(news: News) -> Event<'static> {
    match news {
        News::Refused(refusal) => {
            let (error, id) = *refusal;
            Event::Refused { id, status: error.status(), reason: error.reason() }
        }
        News::ClientGone => Event::ClientGone,
    }
}
