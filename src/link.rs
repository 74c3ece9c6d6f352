//! One worker's socket: bytes to and from frames. Knows no request and no slot; the reactor drives it.
//!
//! Frames to the worker are collected and written once in each turn of the loop. What may be waiting is bounded by the
//! protocol: one request with at most its window of body, and a few frames without a body.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream as StdUnixStream;

use mio::Interest;
use mio::net::UnixStream;
use rusmd_proto::{FrameBuffer, RequestId};

use crate::pieces;

/// A buffer that has grown beyond this is given back once it is empty.
const OUTBOX_KEEP_BYTES: usize = 128 * 1024;

/// The supervisor's end of one link.
#[derive(Debug)]
pub struct Link {
    stream: UnixStream,
    inbox: FrameBuffer,
    outbox: Vec<u8>,
    written: usize,
    /// Where the last piece of a body begins in the outbox, unless it has begun to be written.
    last_piece: Option<usize>,
    awaits: Interest,
}

/// What a read from the worker brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received {
    /// This many bytes; fewer than asked for, so that nothing more is waiting.
    Last(usize),
    /// This many bytes, as many as asked for.
    More(usize),
    /// Nothing is waiting.
    Nothing,
    /// The worker has closed its end.
    Closed,
}

impl Link {
    pub fn new(stream: StdUnixStream) -> Link {
        Link {
            stream: UnixStream::from_std(stream),
            inbox: FrameBuffer::default(),
            outbox: Vec::new(),
            written: 0,
            last_piece: None,
            awaits: Interest::READABLE,
        }
    }

    /// What the socket waits for besides bytes from the worker: room to write only after a write did not fit. A Unix socket tells of
    /// room whenever the other side has read, which would wake the loop once more for each request.
    pub fn wanted_interest(&self) -> Interest {
        if self.unsent_bytes() > 0 { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE }
    }

    /// What the socket is registered for, as last told.
    pub fn interest(&mut self) -> &mut Interest {
        &mut self.awaits
    }

    /// The socket, to be registered edge-triggered.
    pub fn source(&mut self) -> &mut UnixStream {
        &mut self.stream
    }

    /// Reads once into `scratch`.
    pub fn receive(&mut self, scratch: &mut [u8]) -> Received {
        loop {
            return match self.stream.read(scratch) {
                Ok(0) => Received::Closed,
                Ok(count) if count < scratch.len() => Received::Last(count),
                Ok(count) => Received::More(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Received::Nothing,
                // A worker that died with unread bytes in its socket resets the stream.
                Err(_) => Received::Closed,
            };
        }
    }

    /// Bytes of a frame that has not arrived whole. Taken by the reactor while it reads frames, and put back.
    pub fn inbox(&mut self) -> &mut FrameBuffer {
        &mut self.inbox
    }

    /// Queues what `encode` appends. It tells whether it could: a message that is too long has appended nothing.
    pub fn encode(&mut self, encode: impl FnOnce(&mut Vec<u8>) -> bool) {
        let encoded = encode(&mut self.outbox);
        debug_assert!(encoded, "what the supervisor sends has passed its own limits");
    }

    /// Queues frames that are already encoded.
    pub fn send_frames(&mut self, frames: &[u8]) {
        self.outbox.extend_from_slice(frames);
    }

    /// Queues a piece of a request's body.
    pub fn send_piece(&mut self, id: RequestId, bytes: &[u8]) {
        pieces::append(&mut self.outbox, &mut self.last_piece, id, bytes);
    }

    /// Writes what is queued, as far as the socket takes it. A dead worker is noticed when reading, not here.
    pub fn flush(&mut self) {
        while self.written < self.outbox.len() {
            match self.stream.write(&self.outbox[self.written..]) {
                Ok(0) => return,
                Ok(count) => self.handle_written(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return self.compact(),
                Err(_) => break,
            }
        }
        (self.written, self.last_piece) = (0, None);
        if self.outbox.capacity() > OUTBOX_KEEP_BYTES {
            self.outbox = Vec::new();
        } else {
            self.outbox.clear();
        }
    }

    fn handle_written(&mut self, count: usize) {
        self.written += count;
        self.last_piece = self.last_piece.filter(|at| *at >= self.written);
    }

    /// Gives up what has been written, once that is most of it: the outbox of a link that is never quite empty must not grow for ever.
    fn compact(&mut self) {
        if self.written >= self.outbox.len() / 2 {
            self.outbox.drain(..self.written);
            self.last_piece = self.last_piece.map(|at| at - self.written);
            self.written = 0;
        }
    }

    /// Bytes queued and not yet taken by the socket.
    pub fn unsent_bytes(&self) -> usize {
        self.outbox.len() - self.written
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusmd_proto::{Frame, ToWorker};

    fn pair() -> (Link, StdUnixStream) {
        let (ours, theirs) = StdUnixStream::pair().expect("a socket pair");
        ours.set_nonblocking(true).expect("an option");
        (Link::new(ours), theirs)
    }

    #[test]
    fn what_does_not_fit_the_socket_waits_and_is_sent_in_order() {
        let (mut link, mut theirs) = pair();
        let payload = vec![7; rusmd_proto::limits::BODY_CHUNK_BYTES_MAX];
        let count = 40;
        for n in 0..count {
            let body = ToWorker::RequestBody { id: RequestId(n), bytes: &payload, end: false };
            link.encode(|out| body.encode(out).is_ok());
        }
        link.flush();
        assert!(link.unsent_bytes() > 0, "the socket's buffer is smaller than this");
        let mut buffer = FrameBuffer::default();
        let mut scratch = vec![0; 1 << 16];
        for n in 0..count {
            while Frame::split(buffer.unread()).expect("well formed").is_none() {
                let read = theirs.read(&mut scratch).expect("bytes");
                buffer.extend(&scratch[..read]);
                link.flush();
            }
            let header = buffer.peek().expect("well formed").expect("a frame").header;
            assert_eq!(header.request, RequestId(n));
            buffer.consume(header);
        }
        assert_eq!(link.unsent_bytes(), 0);
    }

    #[test]
    fn an_outbox_that_is_never_empty_does_not_grow() {
        let (mut link, mut theirs) = pair();
        let payload = vec![7; rusmd_proto::limits::BODY_CHUNK_BYTES_MAX];
        let window = rusmd_proto::limits::WINDOW_BYTES as usize;
        let mut scratch = vec![0; payload.len()];
        for n in 0..400 {
            let body = ToWorker::RequestBody { id: RequestId(n), bytes: &payload, end: false };
            link.encode(|out| body.encode(out).is_ok());
            link.flush();
            while link.unsent_bytes() > window {
                theirs.read_exact(&mut scratch).expect("bytes");
                link.flush();
            }
        }
        assert!(link.unsent_bytes() > 0, "it was never empty");
        assert!(link.outbox.len() <= 4 * window, "it holds {} bytes", link.outbox.len());
    }

    #[test]
    fn a_body_in_single_bytes_arrives_as_it_was_whatever_the_socket_takes_at_a_time() {
        let (mut link, mut theirs) = pair();
        let (mut buffer, mut scratch, mut seen) = (FrameBuffer::default(), vec![0; 999], 0usize);
        let mut take = |seen: &mut usize, scratch: &mut [u8]| {
            let read = theirs.read(scratch).expect("bytes");
            buffer.extend(&scratch[..read]);
            while let Some(frame) = buffer.peek().expect("well formed") {
                let (header, is_next) =
                    (frame.header, |byte: &u8| std::mem::replace(seen, *seen + 1) % 251 == usize::from(*byte));
                assert!(frame.payload.iter().all(is_next), "a byte before {seen} is another");
                buffer.consume(header);
            }
        };
        const BYTES: usize = 2_000_000;
        for n in 0..BYTES {
            link.send_piece(RequestId(1), &[(n % 251) as u8]);
            if n % 100 == 0 {
                link.flush();
            }
            if link.unsent_bytes() > 1000 {
                take(&mut seen, &mut scratch);
                link.flush();
            }
        }
        while seen < BYTES {
            link.flush();
            take(&mut seen, &mut scratch);
        }
        assert_eq!(link.unsent_bytes(), 0);
    }

    #[test]
    fn a_dead_worker_is_an_end_and_not_an_error() {
        let (mut link, theirs) = pair();
        drop(theirs);
        link.encode(|out| ToWorker::Drain.encode(out).is_ok());
        link.flush();
        assert_eq!(link.receive(&mut [0; 8]), Received::Closed);
    }
}
