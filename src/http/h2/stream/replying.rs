//! The answering half of a stream: from what the guest or the reactor says to frames (RFC 9113 §8.1).
//!
//! Owns when which part of a response may be said, and how much of it the library gets: what the client's windows allow, and no more than its
//! buffer holds. How a head looks is `response`'s. The reactor drives it between `Event::Request` and the end of the response.

use std::time::Instant;

use bytes::Bytes;
use h2::{Reason, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use super::{Ending, Phase, Stream, TaskContext};
use crate::http::error::ResponseError;
use crate::http::fields::Header;
use crate::http::head::Facts;
use crate::http::response::{self, Fields, Framing, ResponseHead};

impl Fields for HeaderMap {
    fn push_field(&mut self, name: &str, value: &[u8]) -> Result<(), ResponseError> {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| ResponseError::HeaderName)?;
        let value = HeaderValue::from_bytes(value).map_err(|_| ResponseError::HeaderValue)?;
        self.try_append(name, value).map(drop).map_err(|_| ResponseError::TooManyFields)
    }
}

impl Stream {
    /// Begins the response. On an error nothing was sent, and another response may be tried.
    pub fn respond_head(&mut self, head: &ResponseHead<'_>, now: Instant) -> Result<(), ResponseError> {
        let Phase::Owed(facts, respond) = &mut self.phase else {
            return Err(ResponseError::OutOfOrder);
        };
        let facts = *facts;
        response::check_status(head.status)?;
        let mut message = Response::new(());
        *message.status_mut() = StatusCode::from_u16(head.status).map_err(|_| ResponseError::Status(head.status))?;
        let framing = response::write_fields(message.headers_mut(), head, facts, &self.context.date())?;
        let is_whole = framing == Framing::NoBody;
        match respond.send_response(message, is_whole) {
            Ok(way) => {
                self.write_since = now;
                self.phase = Phase::Body { framing, left: None, way };
            }
            // The client has gone, and the next look at the stream tells so.
            Err(_) => self.handle_disconnect(),
        }
        Ok(())
    }

    /// Continues the response. An error means that the promised length is exceeded: the caller has to `abort`.
    pub fn respond_body(&mut self, bytes: &[u8], now: Instant) -> Result<(), ResponseError> {
        let framing = match &mut self.phase {
            Phase::Body { framing, left: None, .. } => framing,
            // It went in the middle of what the guest says.
            Phase::Closed(Ending::Cut | Ending::Gone) => return Ok(()),
            Phase::Fresh(..)
            | Phase::Owed(..)
            | Phase::Body { .. }
            | Phase::Flushing { .. }
            | Phase::Closed(Ending::Clean) => return Err(ResponseError::OutOfOrder),
        };
        if bytes.is_empty() || *framing == Framing::NoBody {
            return Ok(());
        }
        if let Framing::Length(left) = framing {
            *left = left.checked_sub(bytes.len() as u64).ok_or(ResponseError::BodyTooLong)?;
        }
        self.queue(bytes, now);
        Ok(())
    }

    /// Ends the response. An error means that the body is shorter than promised, or a trailer invalid: the caller has to `abort`.
    pub fn respond_end(&mut self, trailers: &[Header<'_>], now: Instant) -> Result<(), ResponseError> {
        match &self.phase {
            Phase::Body { framing: Framing::Length(1..), .. } => return Err(ResponseError::BodyTooShort),
            Phase::Body { .. } => {}
            Phase::Closed(Ending::Cut | Ending::Gone) => return Ok(()),
            Phase::Fresh(..) | Phase::Owed(..) | Phase::Flushing { .. } | Phase::Closed(Ending::Clean) => {
                return Err(ResponseError::OutOfOrder);
            }
        }
        // Every client of HTTP/2 can take them (RFC 9113 §8.1), so that none has to ask.
        let mut fields = HeaderMap::new();
        response::write_trailers(&mut fields, trailers)?;
        let trailers = (!fields.is_empty()).then_some(fields);
        let phase = std::mem::replace(&mut self.phase, Phase::Closed(Ending::Clean));
        let Phase::Body { framing, way, .. } = phase else { return Ok(()) };
        if framing == Framing::NoBody {
            // The head has said that it is all.
            self.close(Ending::Clean);
        } else {
            self.phase = Phase::Flushing { trailers, way };
            self.send(now);
        }
        Ok(())
    }

    /// Answers with a short text of the server's own; after the head of another response is out, breaks that off. Without an owed response it
    /// does nothing. Returns how long the text is that is sent.
    pub fn respond_error(
        &mut self,
        status: u16,
        detail: &str,
        request_id: &str,
        extra: &[Header<'_>],
        now: Instant,
    ) -> u64 {
        let facts = match &self.phase {
            Phase::Owed(facts, _) => *facts,
            Phase::Body { .. } => {
                self.abort();
                return 0;
            }
            Phase::Fresh(..) | Phase::Flushing { .. } | Phase::Closed(_) => return 0,
        };
        let (content_type, body) = response::error_body(facts.accepts_only_json, status, detail, request_id);
        let mut headers: Vec<Header<'_>> = Vec::with_capacity(1 + extra.len());
        if !matches!(status, 204 | 205 | 304) {
            headers.push(("content-type", content_type.as_bytes()));
        }
        headers.extend_from_slice(extra);
        let body_length = Some(body.len() as u64);
        let head = ResponseHead { status, headers: &headers, request_id, body_length };
        let plain = ResponseHead { status: 500, headers: &[], request_id, body_length };
        let begun = self.respond_head(&head, now).or_else(|_| self.respond_head(&plain, now));
        let sends_body = matches!(&self.phase, Phase::Body { framing, .. } if *framing != Framing::NoBody);
        // The body has the length that the head has just been given.
        let ended =
            begun.and_then(|()| self.respond_body(body.as_bytes(), now)).and_then(|()| self.respond_end(&[], now));
        if ended.is_ok() && sends_body { body.len() as u64 } else { 0 }
    }

    /// Tells a client that waits for it to send the body, once; otherwise does nothing (RFC 9113 §8.1).
    pub fn respond_continue(&mut self, now: Instant) {
        let Phase::Owed(facts @ Facts { expects_continue: true, .. }, respond) = &mut self.phase else { return };
        facts.expects_continue = false;
        let mut message = Response::new(());
        *message.status_mut() = StatusCode::CONTINUE;
        // What fails is found by the next look at the stream.
        let _ = respond.send_informational(message);
        self.read_since = now;
    }

    /// Begins a response of a known length whose body comes from elsewhere; see the same of a connection.
    pub fn respond_beside(&mut self, head: &ResponseHead<'_>, now: Instant) -> Result<u64, ResponseError> {
        if head.body_length.is_none() {
            return Err(ResponseError::ContentLength);
        }
        self.respond_head(head, now)?;
        if let Phase::Body { framing: Framing::Length(promised @ 1..), left, .. } = &mut self.phase {
            *left = Some(*promised);
            return Ok(*promised);
        }
        self.respond_end(&[], now)?;
        Ok(0)
    }

    /// Queues a piece of that body. The last one ends the response; what is beyond its length is dropped.
    pub fn respond_beside_bytes(&mut self, bytes: &[u8], now: Instant) {
        let Phase::Body { framing, left: left @ Some(_), .. } = &mut self.phase else { return };
        let due = left.unwrap_or_default();
        let count = usize::try_from(due).unwrap_or(usize::MAX).min(bytes.len());
        let rest = due - count as u64;
        (*framing, *left) = (Framing::Length(rest), Some(rest));
        self.queue(&bytes[..count], now);
        if rest == 0 {
            let ended = self.respond_end(&[], now);
            debug_assert!(ended.is_ok(), "nothing is due any more");
        }
    }

    /// Breaks a response off that can no longer be ended.
    pub fn break_off(&mut self) {
        self.abort();
    }

    fn queue(&mut self, bytes: &[u8], now: Instant) {
        if self.unsent() == 0 {
            (self.write_since, self.sending_since) = (now, now);
        }
        self.buffers_mut().output.extend_from_slice(bytes);
    }

    /// Gives the library what the client's windows allow.
    pub(super) fn send(&mut self, now: Instant) {
        let (way, ends) = match &mut self.phase {
            Phase::Body { way, .. } => (way, false),
            Phase::Flushing { way, trailers } => (way, trailers.is_none()),
            Phase::Fresh(..) | Phase::Owed(..) | Phase::Closed(_) => return,
        };
        let mut given_bytes = 0;
        if let Some(buffers) = &mut self.buffers {
            while !buffers.unsent().is_empty() {
                way.reserve_capacity(buffers.unsent().len());
                let count = way.capacity().min(buffers.unsent().len());
                if count == 0 {
                    // The library tells when there is room.
                    let _ = way.poll_reset(&mut TaskContext::from_waker(&self.waker));
                    return self.settle_sending(given_bytes, now);
                }
                let is_last = ends && count == buffers.unsent().len();
                if give(way, buffers.take_unsent(count), is_last).is_err() {
                    return self.handle_disconnect();
                }
                self.progress.note(count);
                given_bytes += count;
                if is_last {
                    return self.close(Ending::Clean);
                }
            }
            self.settle_sending(given_bytes, now);
        }
        let Phase::Flushing { way, trailers } = &mut self.phase else { return };
        let ended = match trailers.take() {
            Some(trailers) => way.send_trailers(trailers),
            None => way.send_data(Bytes::new(), true),
        };
        match ended {
            Ok(()) => self.close(Ending::Clean),
            Err(_) => self.handle_disconnect(),
        }
    }
}

fn give(way: &mut SendStream<Bytes>, bytes: Vec<u8>, is_last: bool) -> Result<(), h2::Error> {
    let given = way.send_data(Bytes::from(bytes), is_last);
    if given.is_err() {
        way.send_reset(Reason::INTERNAL_ERROR);
    }
    given
}
