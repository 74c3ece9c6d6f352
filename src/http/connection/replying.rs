//! The answering half of a connection: from what the guest or the reactor says to bytes.
//!
//! Owns when which part of a response may be said, and whether the connection outlives it; `response` owns how it looks. The reactor
//! drives it between `Event::Request` and the end of the response.

use std::time::Instant;

use super::reading::{Discarded, discard};
use super::{Connection, Exchange, Inbound, Phase, Reply, Service, Turn};
use crate::http::body::Upload;
use crate::http::error::ResponseError;
use crate::http::fields::Header;
use crate::http::head::Facts;
use crate::http::limits::{DRAIN_BYTES_MAX, HELD_BYTES_MAX, SMALL_PIECE_BYTES};
use crate::http::request_id::PublicId;
use crate::http::response::{self, Framing, ResponseHead};

impl Connection {
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
        if self.is_held(framing, bytes) {
            let held = &mut self.buffers_mut().held;
            held.extend_from_slice(bytes);
            if held.len() >= HELD_BYTES_MAX {
                self.release_held(now);
            }
            return Ok(());
        }
        self.release_held(now);
        response::write_body(self.output_mut(now), &mut framing, bytes)?;
        if let Phase::Exchanging(Exchange { reply: Reply::Body { framing: present, .. }, .. }) = &mut self.phase {
            *present = framing;
        }
        Ok(())
    }

    /// A chunk of one byte is six on the wire. While the client is behind anyway, small pieces wait for each other.
    fn is_held(&self, framing: Framing, bytes: &[u8]) -> bool {
        framing == Framing::Chunked && bytes.len() < SMALL_PIECE_BYTES && !self.wants_output()
    }

    /// Writes what was held back as one chunk.
    pub(super) fn release_held(&mut self, now: Instant) {
        let Some(buffers) = self.buffers.as_mut().filter(|buffers| !buffers.held.is_empty()) else { return };
        let mut held = std::mem::take(&mut buffers.held);
        let written = response::write_body(self.output_mut(now), &mut Framing::Chunked, &held);
        debug_assert!(written.is_ok(), "chunks have no length to keep");
        held.clear();
        self.buffers_mut().held = held;
    }

    /// Ends the response. An error means that the body is shorter than promised, or a trailer invalid: the caller has to `abort`.
    pub fn respond_end(&mut self, trailers: &[Header<'_>], now: Instant) -> Result<(), ResponseError> {
        let Phase::Exchanging(Exchange { facts, upload, reply: Reply::Body { framing, keep } }) = self.phase else {
            return Err(ResponseError::OutOfOrder);
        };
        self.release_held(now);
        response::write_end(self.output_mut(now), framing, trailers, facts)?;
        self.end_exchange(upload, keep, now);
        Ok(())
    }

    /// Answers with a short text of the server's own; after the head of another response is out, cuts the connection. If the
    /// request body has not arrived whole, the connection ends with the answer. Without an owed response it does nothing. Returns how long
    /// the text is that was sent.
    pub fn respond_error(
        &mut self,
        status: u16,
        detail: &str,
        request_id: &str,
        extra: &[Header<'_>],
        now: Instant,
    ) -> u64 {
        let Phase::Exchanging(exchange) = &mut self.phase else {
            return 0;
        };
        let Reply::Owed = exchange.reply else {
            self.abort();
            return 0;
        };
        let facts = exchange.facts;
        let arrived = match &mut self.buffers {
            Some(buffers) => match discard(&mut exchange.upload, buffers, &self.context, u64::MAX) {
                Discarded::Whole => true,
                Discarded::Part(_) | Discarded::Hopeless => false,
            },
            None => exchange.upload.is_complete(),
        };
        let upload = exchange.upload;
        let keep = arrived && facts.keep_alive && self.service == Service::Serving;
        let keep = keep && (self.inbound == Inbound::Open || !self.unread().is_empty());
        let (keep, body_bytes) = self.write_error(facts, status, detail, request_id, extra, keep, now);
        self.end_exchange(upload, keep, now);
        body_bytes
    }

    /// Says what the request in progress is called, should the rest of it be refused.
    pub fn name_request(&mut self, id: PublicId) {
        if let (Phase::Exchanging(_), Some(buffers)) = (&self.phase, &mut self.buffers) {
            buffers.request_id = Some(id);
        }
    }

    /// Tells a client that waits for it to send the body, once; otherwise does nothing. One that has begun to send it does not
    /// wait, and one that has none to send need not be told (RFC 9110 §10.1.1).
    pub fn respond_continue(&mut self, now: Instant) {
        let Phase::Exchanging(exchange) = &mut self.phase else {
            return;
        };
        let Reply::Owed = exchange.reply else { return };
        let is_waiting = exchange.facts.expects_continue && !exchange.upload.is_complete();
        exchange.facts.expects_continue = false;
        if is_waiting && self.unread().is_empty() {
            self.read_since = now;
            self.output_mut(now).extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
    }

    /// The response is complete: on to the next request, or to the end of the connection.
    pub(super) fn end_exchange(&mut self, upload: Upload, keep: bool, now: Instant) {
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

    /// Returns whether the connection is kept, and how long the text is that is sent.
    #[expect(clippy::too_many_arguments, reason = "private, and each is a part of one response")]
    pub(super) fn write_error(
        &mut self,
        facts: Facts,
        status: u16,
        detail: &str,
        request_id: &str,
        extra: &[Header<'_>],
        keep: bool,
        now: Instant,
    ) -> (bool, u64) {
        let (content_type, body) = response::error_body(facts.accepts_only_json, status, detail, request_id);
        let mut headers: Vec<Header<'_>> = Vec::with_capacity(1 + extra.len());
        if !matches!(status, 204 | 205 | 304) {
            headers.push(("content-type", content_type.as_bytes()));
        }
        headers.extend_from_slice(extra);
        let date = self.context.date();
        let out = self.output_mut(now);
        let body_length = Some(body.len() as u64);
        let head = ResponseHead { status, headers: &headers, request_id, body_length };
        let written = response::write_head(out, &head, facts, keep, &date).or_else(|_| {
            let plain = ResponseHead { status: 500, headers: &[], request_id, body_length };
            response::write_head(out, &plain, facts, keep, &date)
        });
        let Ok((mut framing, keep)) = written else {
            return (false, 0);
        };
        // The body has the length that the head has just been given.
        let before = out.len();
        let is_whole = response::write_body(out, &mut framing, body.as_bytes()).is_ok();
        (keep && is_whole, (out.len() - before) as u64)
    }
}
