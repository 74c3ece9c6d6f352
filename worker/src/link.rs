//! The link: bytes of the socket to frames, and frames to bytes.
//!
//! Owns the socket and its two buffers. Knows nothing of requests: `serve` decides what a frame means. While nothing runs,
//! reading blocks, which costs one system call per batch; while a guest waits, the socket is watched beside it. A template reads
//! descriptors along with the bytes; a worker never does, and what somebody might attach is lost.

use std::fmt;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::sys::watch;
use rusmd_proto::limits::{BODY_CHUNK_BYTES_MAX, FRAME_HEADER_BYTES};
use rusmd_proto::{CodecError, Frame, FrameBuffer, FrameError, ToSupervisor};
use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags, recvmsg};
use tokio::io::unix::AsyncFd;

/// How much one read asks for: a whole body frame.
const READ_BYTES: usize = BODY_CHUNK_BYTES_MAX + FRAME_HEADER_BYTES;

/// How much one read asks for where descriptors may come along: the frames there are small, but for the first.
const READ_WITH_DESCRIPTORS_BYTES: usize = 16 * 1024;

/// Most descriptors that one read takes in. `Fork` carries two, and the kernel never reads past it.
const DESCRIPTORS_MAX: usize = 2;

/// An outbox that has grown beyond this is given back once it is empty.
const OUTBOX_KEEP_BYTES: usize = 256 * 1024;

/// Frames that wait to be written. Cloned into whatever produces frames while a guest runs.
#[derive(Clone, Default, Debug)]
pub struct Outbox {
    frames: Arc<Mutex<Vec<u8>>>,
    urgent: Arc<AtomicBool>,
}

impl Outbox {
    /// Appends a message. On error nothing is appended.
    pub fn push(&self, message: &ToSupervisor<'_>) -> Result<(), CodecError> {
        message.encode(&mut self.lock())
    }

    /// Appends a message that is not to wait until there is more to write, or until its guest waits.
    pub fn push_urgent(&self, message: &ToSupervisor<'_>) -> Result<(), CodecError> {
        self.urgent.store(true, Ordering::Relaxed);
        self.push(message)
    }

    /// Whether there was an urgent message since the last call.
    pub fn take_urgent(&self) -> bool {
        self.urgent.load(Ordering::Relaxed) && self.urgent.swap(false, Ordering::Relaxed)
    }

    /// The encoded frames, to append to.
    pub fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What came of an attempt to read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received {
    /// At least one byte.
    Some,
    /// Nothing yet.
    Nothing,
    /// The supervisor has closed its end.
    Ended,
}

#[derive(Debug)]
pub struct Link {
    socket: OwnedFd,
    watched: Option<AsyncFd<OwnedFd>>,
    inbox: FrameBuffer,
    outbox: Outbox,
}

impl Link {
    pub fn new(socket: OwnedFd) -> Link {
        Link { socket, watched: None, inbox: FrameBuffer::default(), outbox: Outbox::default() }
    }

    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Waits until there is something to read.
    pub fn receive(&mut self) -> Result<Received, LinkError> {
        receive(self.socket.as_fd(), &mut self.inbox, RecvFlags::empty())
    }

    /// [`Link::receive`], and what descriptors come along.
    pub fn receive_with_descriptors(&mut self, descriptors: &mut Vec<OwnedFd>) -> Result<Received, LinkError> {
        let mut chunk = [0; READ_WITH_DESCRIPTORS_BYTES];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let message = loop {
            let mut slices = [IoSliceMut::new(&mut chunk)];
            match recvmsg(&self.socket, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
                Ok(message) => break message,
                Err(Errno::INTR) => {}
                Err(Errno::CONNRESET) => return Ok(Received::Ended),
                Err(errno) => return Err(LinkError::Read(errno)),
            }
        };
        for message in ancillary.drain() {
            match message {
                RecvAncillaryMessage::ScmRights(rights) => descriptors.extend(rights),
                _ => return Err(LinkError::Descriptors),
            }
        }
        if message.flags.contains(ReturnFlags::CTRUNC) {
            return Err(LinkError::Descriptors);
        }
        self.inbox.extend(chunk.get(..message.bytes).unwrap_or_default());
        Ok(if message.bytes == 0 { Received::Ended } else { Received::Some })
    }

    /// Whether there is something to read, or its end, within this time.
    pub fn is_readable_within(&self, time: Duration) -> Result<bool, LinkError> {
        let timeout = Timespec::try_from(time).map_err(|_| LinkError::Read(Errno::INVAL))?;
        let mut watched = [PollFd::new(&self.socket, PollFlags::IN)];
        match rustix::event::poll(&mut watched, Some(&timeout)) {
            Ok(count) => Ok(count > 0),
            Err(Errno::INTR) => Ok(false),
            Err(errno) => Err(LinkError::Read(errno)),
        }
    }

    /// Reads what is there.
    pub fn try_receive(&mut self) -> Result<Received, LinkError> {
        receive(self.socket.as_fd(), &mut self.inbox, RecvFlags::DONTWAIT)
    }

    /// [`Link::receive`] for use beside a waiting guest. Needs the context of a tokio runtime; the socket joins its reactor
    /// at the first call.
    pub fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, LinkError>> {
        let watched = match &mut self.watched {
            Some(watched) => watched,
            None => {
                let socket = self.socket.try_clone().map_err(LinkError::Watch)?;
                self.watched.insert(watch(socket).map_err(LinkError::Watch)?)
            }
        };
        loop {
            let mut guard = ready!(watched.poll_read_ready(cx)).map_err(LinkError::Watch)?;
            // The reactor tells of edges, and blocking reads go past it: what it says may be stale.
            match receive(self.socket.as_fd(), &mut self.inbox, RecvFlags::DONTWAIT)? {
                Received::Nothing => guard.clear_ready(),
                received => return Poll::Ready(Ok(received)),
            }
        }
    }

    /// Lends the next whole frame to `take`, which says what it made of it.
    pub fn next_frame<R, E: From<LinkError>>(
        &mut self,
        take: impl FnOnce(&Frame<'_>) -> Result<R, E>,
    ) -> Result<Option<R>, E> {
        let Some(frame) = self.inbox.peek().map_err(LinkError::Frame)? else {
            return Ok(None);
        };
        let header = frame.header;
        let taken = take(&frame)?;
        self.inbox.consume(header);
        Ok(Some(taken))
    }

    /// Writes all that waits in the outbox.
    pub fn flush(&mut self) -> Result<(), LinkError> {
        let mut outbox = self.outbox.lock();
        let mut rest = outbox.as_slice();
        while !rest.is_empty() {
            match rustix::net::send(&self.socket, rest, SendFlags::NOSIGNAL) {
                Ok(sent) => rest = rest.get(sent..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(LinkError::Write(errno)),
            }
        }
        outbox.clear();
        if outbox.capacity() > OUTBOX_KEEP_BYTES {
            *outbox = Vec::new();
        }
        Ok(())
    }
}

fn receive(socket: BorrowedFd<'_>, inbox: &mut FrameBuffer, flags: RecvFlags) -> Result<Received, LinkError> {
    let space = inbox.space(READ_BYTES);
    loop {
        match rustix::net::recv(socket, spare_capacity(space), flags) {
            Ok((0, _)) => return Ok(Received::Ended),
            Ok(_) => return Ok(Received::Some),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(Received::Nothing),
            Err(Errno::CONNRESET) => return Ok(Received::Ended),
            Err(errno) => return Err(LinkError::Read(errno)),
        }
    }
}

/// Why the link is of no more use. All of these end the process.
#[derive(Debug)]
pub enum LinkError {
    Read(Errno),
    Write(Errno),
    Watch(std::io::Error),
    Frame(FrameError),
    Descriptors,
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinkError::Read(errno) => write!(f, "cannot read from the link: {errno}"),
            LinkError::Write(errno) => write!(f, "cannot write to the link: {errno}"),
            LinkError::Watch(error) => write!(f, "cannot watch the link: {error}"),
            LinkError::Frame(error) => write!(f, "illegal frame: {error}"),
            LinkError::Descriptors => write!(f, "illegal frame: other descriptors than a link and a status page"),
        }
    }
}

impl std::error::Error for LinkError {}
