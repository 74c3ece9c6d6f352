//! Bodies that do not pass through a connection's buffer: the reactor takes them from elsewhere, and sends them behind what is queued.
//!
//! Owns that nothing else is queued before such a body is whole, and that it has the length that its head promises. The reactor drives it:
//! `respond_beside`, then the output, then bytes that it counts with `handle_sent_beside` or gives to `respond_beside_bytes`.

use std::time::Instant;

use super::{Connection, Exchange, Phase, Reply};
use crate::http::error::ResponseError;
use crate::http::response::{Framing, ResponseHead};

impl Connection {
    /// Begins a response of a known length. Returns how much body is due: with none, for a HEAD request too, the response is complete. On
    /// an error nothing was written, and another response may be tried.
    pub fn respond_beside(&mut self, head: &ResponseHead<'_>, now: Instant) -> Result<u64, ResponseError> {
        if head.body_length.is_none() {
            return Err(ResponseError::ContentLength);
        }
        self.respond_head(head, now)?;
        if let Phase::Exchanging(Exchange { reply, .. }) = &mut self.phase
            && let Reply::Body { framing: Framing::Length(left @ 1..), keep } = *reply
        {
            *reply = Reply::Beside { left, keep };
            return Ok(left);
        }
        self.respond_end(&[], now)?;
        Ok(0)
    }

    /// So many bytes of the body have been sent, behind an output that was empty. The last of them ends the response.
    pub fn handle_sent_beside(&mut self, count: u64, now: Instant) {
        if count > 0 {
            self.outflow.handle_written(count, now);
            self.count_beside(count, now);
            self.settle_sending(now);
        }
    }

    /// Queues a piece of the body after all. The last one ends the response; what is beyond its length is dropped.
    pub fn respond_beside_bytes(&mut self, bytes: &[u8], now: Instant) {
        let Phase::Exchanging(Exchange { reply: Reply::Beside { left, .. }, .. }) = self.phase else { return };
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        self.output_mut(now).extend_from_slice(&bytes[..count]);
        self.count_beside(count as u64, now);
    }

    fn count_beside(&mut self, count: u64, now: Instant) {
        let Phase::Exchanging(Exchange { upload, reply: Reply::Beside { left, keep }, .. }) = &mut self.phase else {
            return;
        };
        *left = left.saturating_sub(count);
        if *left == 0 {
            let (upload, keep) = (*upload, *keep);
            self.end_exchange(upload, keep, now);
        }
    }
}
