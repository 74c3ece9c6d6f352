//! The reading half of a connection: from waiting bytes to events.
//!
//! Owns the order in which heads and bodies are decoded; takes bytes from the input buffer and lends them, never copies them.
//! `Connection::poll_event` is its only way in.

use std::time::Instant;

use super::{Connection, Event, Exchange, Inbound, News, Phase, Preface, Reply, Turn};
use crate::http::body::{Chunked, Decoded, Upload};
use crate::http::context::{Buffers, Context};
use crate::http::error::RequestError;
use crate::http::fields::ascii;
use crate::http::h2;
use crate::http::head::{self, BodyLength, Head, HeadScan, Headers, RequestHead};
use crate::http::limits::LEADING_BLANK_LINES_MAX;
use crate::http::target::{Scheme, TargetForm};

/// An event before it lends anything: positions in the input buffer.
pub(super) enum Step {
    News(News),
    Request { head: Head, start: usize, length: usize },
    Body { start: usize, length: usize },
    BodyEnd { start: usize, length: usize },
}

impl Connection {
    /// The next event, or `None` until there is more input, output was consumed, or the response has ended.
    pub fn poll_event(&mut self, now: Instant) -> Option<Event<'_>> {
        let step = self.poll_step(now)?;
        let input = |start, length| self.buffers.as_ref()?.input.get(start..start + length);
        match step {
            Step::News(News::Refused(refusal)) => {
                let (error, id) = *refusal;
                Some(Event::Refused { id, status: error.status(), reason: error.reason() })
            }
            Step::News(News::ClientGone) => Some(Event::ClientGone),
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
                Phase::Closing { .. }
                | Phase::ShuttingWrite
                | Phase::Lingering
                | Phase::Foreign
                | Phase::Closed { .. } => {
                    return None;
                }
            };
            match progress {
                Progress::Event(step) => return Some(step),
                Progress::Onward => {}
                Progress::Waiting => return None,
            }
        }
    }

    fn begin_head(&mut self, now: Instant) -> Progress {
        if self.is_over() {
            self.begin_closing(false, now);
            return Progress::Waiting;
        }
        if !self.wants_output() {
            return Progress::Waiting;
        }
        let Phase::AwaitingHead { blank_lines, .. } = &mut self.phase else {
            return Progress::Waiting;
        };
        let unread = self.buffers.as_ref().map_or(&[][..], |buffers| buffers.unread());
        match unread {
            [] => {
                self.release_idle_buffers();
                Progress::Waiting
            }
            [b'\r'] => Progress::Waiting,
            [b'\n', ..] => self.refuse_onward(RequestError::BareLineFeed, now),
            [b'\r', b'\n', ..] if *blank_lines == LEADING_BLANK_LINES_MAX => {
                self.refuse_onward(RequestError::BlankLines, now)
            }
            [b'\r', b'\n', ..] => {
                *blank_lines += 1;
                self.preface = Preface::Impossible;
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
            Err(RequestError::VersionUnsupported)
                if self.preface == Preface::Possible
                    && self.inbound == Inbound::Open
                    && begins_as_preface(buffers.unread()) =>
            {
                if buffers.unread().starts_with(h2::PREFACE) {
                    self.phase = Phase::Foreign;
                } else {
                    // Read anew with what comes: it is short, and nothing else begins so.
                    *scan = HeadScan::default();
                }
                return Progress::Waiting;
            }
            Err(error) => return self.refuse_onward(error, now),
        };
        let length = whole.length;
        let bytes = &mut buffers.input[start..start + length];
        let head = match head::parse(whole, bytes, &mut buffers.slots, limits) {
            Ok(head) => head,
            Err(error) => return self.refuse_onward(error, now),
        };
        buffers.take(length);
        buffers.request_id = None;
        self.preface = Preface::Impossible;
        let upload = match head.body {
            BodyLength::None => Upload::Done,
            BodyLength::Known(length) => Upload::Length(length),
            BodyLength::Chunked => Upload::Chunked(Chunked::default()),
        };
        let foreseen = upload.foresee(buffers.unread(), limits);
        self.settle_head(length, now);
        self.read_since = now;
        self.phase = Phase::Exchanging(Exchange { facts: head.facts, upload, reply: Reply::Owed });
        // A body that is broken already is the whole answer: no route has a say, and none hides it behind a 404 or 405.
        if let Err(error) = foreseen {
            return self.refuse_onward(error, now);
        }
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
                if let Err(error) = buffers.read_trailers(trailers, fields) {
                    return self.refuse_onward(error, now);
                }
                buffers.take(trailers);
                Progress::Event(Step::BodyEnd { start, length: trailers })
            }
        }
    }

    pub(super) fn discard_upload(&mut self, now: Instant) -> Progress {
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

    fn refuse_onward(&mut self, error: RequestError, now: Instant) -> Progress {
        self.refuse(error, now);
        Progress::Onward
    }
}

pub(super) enum Progress {
    Event(Step),
    /// The phase has changed, or there is news: look again.
    Onward,
    Waiting,
}

pub(super) enum Discarded {
    Whole,
    /// So many bytes, and all there were.
    Part(u64),
    /// Malformed, or beyond the budget.
    Hopeless,
}

/// Throws away what has arrived of a request body.
pub(super) fn discard(upload: &mut Upload, buffers: &mut Buffers, context: &Context, budget_bytes: u64) -> Discarded {
    let before = buffers.unread().len();
    let outcome = loop {
        match upload.decode(buffers.unread(), &context.limits) {
            Ok(Decoded::NeedMore { skip }) => {
                buffers.take(skip);
                break Discarded::Part((before - buffers.unread().len()) as u64);
            }
            Ok(Decoded::Data { skip, length }) => buffers.take(skip + length),
            Ok(Decoded::End { skip, trailers, fields }) => {
                buffers.take(skip);
                if buffers.read_trailers(trailers, fields).is_err() {
                    break Discarded::Hopeless;
                }
                buffers.take(trailers);
                break Discarded::Whole;
            }
            Err(_) => break Discarded::Hopeless,
        }
    };
    let taken = (before - buffers.unread().len()) as u64;
    if taken > budget_bytes { Discarded::Hopeless } else { outcome }
}

/// As far as it has come.
fn begins_as_preface(bytes: &[u8]) -> bool {
    bytes.starts_with(h2::PREFACE) || h2::PREFACE.starts_with(bytes)
}

pub(in crate::http) fn request_head<'a>(
    head: &Head,
    bytes: &'a [u8],
    headers: Headers<'a>,
    scheme: Scheme,
) -> RequestHead<'a> {
    let target = &head.line.target;
    let path = ascii(target.path.of(bytes));
    RequestHead {
        method: ascii(head.line.method.of(bytes)),
        form: target.form,
        scheme,
        claims_https: target.scheme == Some(Scheme::Https) && scheme == Scheme::Http,
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
