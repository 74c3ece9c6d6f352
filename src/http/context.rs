//! What the connections of one reactor share: limits, timeouts, the current `Date`, and spare buffers.
//!
//! Owns no connection and reads no clock: the reactor sets the date once a second. Not `Send` on purpose, one reactor is one
//! thread.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::error::RequestError;
use super::head::{self, HeaderSlot};
use super::limits::{Limits, SPARE_BUFFER_BYTES_MAX, SPARE_BUFFERS_MAX, Timeouts};
use super::request_id::{Ids, PublicId};

/// Bytes of an IMF-fixdate (RFC 9110 §5.6.7).
pub const DATE_BYTES: usize = 29;

/// Shared by reference count among the connections of one listener and generation.
#[derive(Debug)]
pub struct Context {
    pub limits: Limits,
    pub timeouts: Timeouts,
    date: Rc<Cell<[u8; DATE_BYTES]>>,
    ids: Rc<Ids>,
    #[expect(clippy::vec_box, reason = "the box is what a connection holds: moving it costs one pointer")]
    spare: RefCell<Vec<Box<Buffers>>>,
}

impl Context {
    pub fn new(limits: Limits, timeouts: Timeouts) -> Self {
        let date = Rc::new(Cell::new(*b"Thu, 01 Jan 1970 00:00:00 GMT"));
        Self { limits, timeouts, date, ids: Rc::default(), spare: RefCell::new(Vec::new()) }
    }

    /// For the connections that come after a reload. Those that are there keep their limits; the date is one for all, and no id comes twice.
    pub fn successor(&self, limits: Limits, timeouts: Timeouts) -> Self {
        let (date, ids) = (self.date.clone(), self.ids.clone());
        Self { limits, timeouts, date, ids, spare: RefCell::new(Vec::new()) }
    }

    /// Sets the `Date` of the responses that begin from now on, as `httpdate::HttpDate` displays it.
    pub fn set_date(&self, imf_fixdate: &[u8; DATE_BYTES]) {
        self.date.set(*imf_fixdate);
    }

    pub(super) fn date(&self) -> [u8; DATE_BYTES] {
        self.date.get()
    }

    /// What requests are called.
    pub fn ids(&self) -> &Rc<Ids> {
        &self.ids
    }

    pub(super) fn take_buffers(&self) -> Box<Buffers> {
        self.spare.borrow_mut().pop().unwrap_or_default()
    }

    pub(super) fn give_back(&self, mut buffers: Box<Buffers>) {
        let mut spare = self.spare.borrow_mut();
        if spare.len() < SPARE_BUFFERS_MAX && buffers.bytes_owned() <= SPARE_BUFFER_BYTES_MAX {
            buffers.clear();
            spare.push(buffers);
        }
    }

    #[cfg(test)]
    pub(super) fn spare_len(&self) -> usize {
        self.spare.borrow().len()
    }
}

impl Default for Context {
    fn default() -> Self {
        Self::new(Limits::default(), Timeouts::default())
    }
}

/// The memory of a connection that is doing something; an idle one has none.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    /// From the client, `input[input_taken..]` not yet decoded. Decoded bytes stay in place until the next append, so that
    /// events can lend them.
    pub input: Vec<u8>,
    pub input_taken: usize,
    /// For the client, `output[output_sent..]` not yet written.
    pub output: Vec<u8>,
    pub output_sent: usize,
    /// Small pieces of a chunked response that follow the output, not framed yet.
    pub held: Vec<u8>,
    /// The header fields of the head, or the trailer fields, that were read last.
    pub slots: Vec<HeaderSlot>,
    /// What the request in progress is called, for the answer to a body that turns out to be bad.
    pub request_id: Option<PublicId>,
}

impl Buffers {
    pub fn unread(&self) -> &[u8] {
        &self.input[self.input_taken..]
    }

    pub fn take(&mut self, count: usize) {
        self.input_taken += count;
    }

    /// Reads the trailer section of `length` bytes that comes next, with as many field lines as `Lines` has counted.
    pub fn read_trailers(&mut self, length: usize, fields: u32) -> Result<(), RequestError> {
        let section = self.input[self.input_taken..].get_mut(..length).unwrap_or_default();
        if section.is_empty() {
            self.slots.clear();
            return Ok(());
        }
        head::parse_trailers(section, fields, &mut self.slots)
    }

    pub fn append_input(&mut self, bytes: &[u8]) {
        if self.input_taken == self.input.len() {
            self.input.clear();
            self.input_taken = 0;
        } else if self.input.len() + bytes.len() > self.input.capacity() {
            self.input.drain(..self.input_taken);
            self.input_taken = 0;
        }
        self.input.extend_from_slice(bytes);
    }

    pub fn discard_input(&mut self) {
        self.input.clear();
        self.input_taken = 0;
    }

    pub fn unsent(&self) -> &[u8] {
        &self.output[self.output_sent..]
    }

    pub fn sent(&mut self, count: usize) {
        self.output_sent = (self.output_sent + count).min(self.output.len());
        if self.output_sent == self.output.len() {
            self.output.clear();
            self.output_sent = 0;
        } else if self.output_sent >= self.output.len() / 2 {
            self.output.drain(..self.output_sent);
            self.output_sent = 0;
        }
    }

    /// The first `count` bytes of what is not sent, which count as sent. All of them cost no copy.
    pub fn take_unsent(&mut self, count: usize) -> Vec<u8> {
        if self.output_sent == 0 && count == self.output.len() {
            return std::mem::take(&mut self.output);
        }
        let bytes = self.unsent().get(..count).unwrap_or_default().to_vec();
        self.sent(count);
        bytes
    }

    pub fn discard_output(&mut self) {
        self.output.clear();
        self.output_sent = 0;
    }

    fn clear(&mut self) {
        self.discard_input();
        self.discard_output();
        self.held.clear();
        self.slots.clear();
        self.request_id = None;
    }

    fn bytes_owned(&self) -> usize {
        self.input.capacity()
            + self.output.capacity()
            + self.held.capacity()
            + self.slots.capacity() * size_of::<HeaderSlot>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appending_moves_only_what_is_unread() {
        let mut buffers = Buffers::default();
        buffers.append_input(b"abcdef");
        buffers.take(4);
        buffers.append_input(&[b'x'; 100]);
        assert_eq!(&buffers.unread()[..3], b"efx");
        assert_eq!(buffers.input_taken, 0);
    }

    #[test]
    fn output_that_was_sent_in_part_continues_where_it_stopped() {
        let mut buffers = Buffers::default();
        buffers.output.extend_from_slice(b"0123456789");
        buffers.sent(3);
        assert_eq!(buffers.unsent(), b"3456789");
        buffers.sent(4);
        assert_eq!(buffers.unsent(), b"789");
        buffers.sent(99);
        assert_eq!(buffers.unsent(), b"");
    }

    #[test]
    fn spare_buffers_are_kept_up_to_the_limit_and_not_beyond() {
        let context = Context::default();
        for _ in 0..SPARE_BUFFERS_MAX + 1 {
            context.give_back(Box::default());
        }
        assert_eq!(context.spare_len(), SPARE_BUFFERS_MAX);
    }

    #[test]
    fn a_buffer_at_the_size_limit_is_kept_and_one_past_it_is_not() {
        for (capacity, kept) in [(SPARE_BUFFER_BYTES_MAX, 1), (SPARE_BUFFER_BYTES_MAX + 1, 0)] {
            let context = Context::default();
            context.give_back(Box::new(Buffers { input: Vec::with_capacity(capacity), ..Buffers::default() }));
            assert_eq!(context.spare_len(), kept);
        }
    }
}
