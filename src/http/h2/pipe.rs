//! What `h2` takes for its socket and for its executor: two buffers, and a flag that says that there is more to do.
//!
//! Owns the bytes between the reactor's reads and writes and the library. Never waits: what it has no room for or has not got is `Pending`, and the
//! session asks again once that may have changed. `session` drives it.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http::limits::{H2_OUTPUT_BYTES_HIGH, SPARE_BUFFER_BYTES_MAX};

/// Both ends of it are in one thread.
#[derive(Clone, Debug, Default)]
pub(super) struct Pipe(Rc<RefCell<Ends>>);

#[derive(Debug, Default)]
struct Ends {
    /// From the client, `input[taken..]` not yet read.
    input: Vec<u8>,
    taken: usize,
    /// Nothing comes after it.
    ended: bool,
    /// For the client.
    output: Vec<u8>,
    /// Who waits for input, and who for room.
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    pub fn append_input(&self, bytes: &[u8]) {
        let mut ends = self.0.borrow_mut();
        if ends.taken == ends.input.len() {
            ends.input.clear();
            ends.taken = 0;
        }
        ends.input.extend_from_slice(bytes);
        wake(&mut ends.reader);
    }

    pub fn end_input(&self) {
        let mut ends = self.0.borrow_mut();
        ends.ended = true;
        wake(&mut ends.reader);
    }

    /// All that has come was read.
    pub fn is_drained(&self) -> bool {
        let ends = self.0.borrow();
        ends.taken == ends.input.len()
    }

    /// Gives large buffers back: nothing is in progress.
    pub fn rest(&self) {
        let mut ends = self.0.borrow_mut();
        if ends.output.is_empty() && ends.output.capacity() > SPARE_BUFFER_BYTES_MAX {
            ends.output = Vec::new();
        }
        if ends.taken == ends.input.len() && ends.input.capacity() > SPARE_BUFFER_BYTES_MAX {
            (ends.input, ends.taken) = (Vec::new(), 0);
        }
    }

    /// Exchanges what was written for an empty buffer.
    pub fn swap_output(&self, empty: &mut Vec<u8>) {
        let mut ends = self.0.borrow_mut();
        std::mem::swap(&mut ends.output, empty);
        wake(&mut ends.writer);
    }
}

fn wake(waiting: &mut Option<Waker>) {
    if let Some(waker) = waiting.take() {
        waker.wake();
    }
}

impl AsyncRead for Pipe {
    fn poll_read(self: Pin<&mut Self>, task: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut ends = self.0.borrow_mut();
        let unread = &ends.input[ends.taken..];
        if unread.is_empty() {
            if ends.ended {
                return Poll::Ready(Ok(()));
            }
            ends.reader = Some(task.waker().clone());
            return Poll::Pending;
        }
        let count = unread.len().min(buffer.remaining());
        buffer.put_slice(&unread[..count]);
        ends.taken += count;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut ends = self.0.borrow_mut();
        let room = H2_OUTPUT_BYTES_HIGH.saturating_sub(ends.output.len());
        if room == 0 && !bytes.is_empty() {
            ends.writer = Some(task.waker().clone());
            return Poll::Pending;
        }
        let count = room.min(bytes.len());
        ends.output.extend_from_slice(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Set when a task of `h2` could go on: there is one for a connection and one for each of its streams.
#[derive(Debug, Default)]
pub(super) struct Flag(AtomicBool);

impl Flag {
    pub fn new() -> (Arc<Flag>, Waker) {
        let flag = Arc::new(Flag::default());
        (flag.clone(), Waker::from(flag))
    }

    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Lowers it, and returns whether it was set.
    pub fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_taken_up_to_its_limit_and_not_one_byte_beyond() {
        let (flag, waker) = Flag::new();
        let mut context = Context::from_waker(&waker);
        let mut pipe = Pipe::default();
        let bytes = vec![0; H2_OUTPUT_BYTES_HIGH + 1];
        let taken = Pin::new(&mut pipe).poll_write(&mut context, &bytes);
        assert!(matches!(taken, Poll::Ready(Ok(H2_OUTPUT_BYTES_HIGH))));
        assert!(Pin::new(&mut pipe).poll_write(&mut context, &bytes[..1]).is_pending());
        let mut output = Vec::new();
        pipe.swap_output(&mut output);
        assert_eq!(output.len(), H2_OUTPUT_BYTES_HIGH);
        assert!(flag.take());
        assert!(matches!(Pin::new(&mut pipe).poll_write(&mut context, &bytes[..1]), Poll::Ready(Ok(1))));
    }

    #[test]
    fn input_is_read_in_order_and_its_end_comes_last() {
        let (_, waker) = Flag::new();
        let mut context = Context::from_waker(&waker);
        let mut pipe = Pipe::default();
        pipe.append_input(b"abc");
        pipe.end_input();
        let mut storage = [0; 2];
        for expected in [&b"ab"[..], b"c", b""] {
            let mut buffer = ReadBuf::new(&mut storage);
            assert!(Pin::new(&mut pipe).poll_read(&mut context, &mut buffer).is_ready());
            assert_eq!(buffer.filled(), expected);
        }
        assert!(pipe.is_drained());
    }
}
