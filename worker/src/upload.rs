//! One request's body on its way from the link to the guest, under its window.
//!
//! Shared by `serve`, which pushes what arrives, and by the body type of whichever host interface the guest reads from.
//! Grants credit as the guest takes bytes, so a guest that does not read stalls its client, and nothing here grows beyond
//! the window.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use rusmd_proto::limits::WINDOW_BYTES;
use rusmd_proto::{RequestId, ToSupervisor};

use crate::link::Outbox;

/// Credit is granted once this many bytes were taken: often enough to keep the sender going, rarely enough to be cheap.
const GRANT_BYTES: u32 = WINDOW_BYTES / 4;

/// The rest of a body that is still to come.
#[derive(Debug)]
enum Rest {
    /// The supervisor will send more.
    Awaited,
    /// All has been sent; these trailers end it.
    Complete(Option<HeaderMap>),
    /// The client is gone. What arrived must not be taken for the whole.
    Aborted,
    /// The end has been told to the guest.
    Told,
}

#[derive(Debug)]
struct State {
    chunks: VecDeque<Bytes>,
    rest: Rest,
    /// Bytes that the supervisor may still send.
    window: u32,
    /// Bytes that the guest has taken and that were not granted again.
    taken: u32,
    waker: Option<Waker>,
}

/// A handle to one request's body.
#[derive(Clone, Debug)]
pub struct Upload {
    id: RequestId,
    outbox: Outbox,
    state: Arc<Mutex<State>>,
}

impl Upload {
    /// A body of which nothing has arrived; `complete` when there is none.
    pub fn new(id: RequestId, outbox: Outbox, complete: bool) -> Upload {
        let rest = if complete { Rest::Complete(None) } else { Rest::Awaited };
        let state = State { chunks: VecDeque::new(), rest, window: WINDOW_BYTES, taken: 0, waker: None };
        Upload { id, outbox, state: Arc::new(Mutex::new(state)) }
    }

    /// A `RequestBody` frame has arrived.
    pub fn push(&self, bytes: &[u8], end: bool) -> Result<(), UploadError> {
        let mut state = self.awaited()?;
        let length = u32::try_from(bytes.len()).map_err(|_| UploadError::WindowExceeded)?;
        state.window = state.window.checked_sub(length).ok_or(UploadError::WindowExceeded)?;
        if !bytes.is_empty() {
            state.chunks.push_back(Bytes::copy_from_slice(bytes));
        }
        if end {
            state.rest = Rest::Complete(None);
        }
        wake(state);
        Ok(())
    }

    /// A `RequestTrailers` frame has arrived.
    pub fn push_trailers(&self, trailers: HeaderMap) -> Result<(), UploadError> {
        let mut state = self.awaited()?;
        state.rest = Rest::Complete(Some(trailers));
        wake(state);
        Ok(())
    }

    /// A `RequestAborted` frame has arrived.
    pub fn abort(&self) -> Result<(), UploadError> {
        let mut state = self.awaited()?;
        state.rest = Rest::Aborted;
        wake(state);
        Ok(())
    }

    /// The next piece for the guest, or `None` after the last one.
    pub fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        let mut state = self.lock();
        if let Some(chunk) = state.chunks.pop_front() {
            self.grant(&mut state, chunk.len());
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        match std::mem::replace(&mut state.rest, Rest::Told) {
            Rest::Awaited => {
                state.rest = Rest::Awaited;
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            Rest::Complete(Some(trailers)) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            Rest::Complete(None) | Rest::Told => Poll::Ready(None),
            Rest::Aborted => {
                state.rest = Rest::Aborted;
                Poll::Ready(Some(Err(Aborted)))
            }
        }
    }

    /// Appends what has arrived to `body`, whose whole is to fit in `bytes_max`. For guests that take a body at once.
    pub fn collect(&self, body: &mut Vec<u8>, bytes_max: u64) -> Collected {
        let mut state = self.lock();
        while let Some(chunk) = state.chunks.pop_front() {
            if (body.len() + chunk.len()) as u64 > bytes_max {
                return Collected::TooLarge;
            }
            body.extend_from_slice(&chunk);
            self.grant(&mut state, chunk.len());
        }
        match state.rest {
            Rest::Awaited => Collected::More,
            Rest::Complete(_) | Rest::Told => Collected::Whole,
            Rest::Aborted => Collected::Aborted,
        }
    }

    /// Whether no byte has arrived or will: the guest may then be given an empty body.
    pub fn is_empty(&self) -> bool {
        let state = self.lock();
        state.chunks.is_empty() && matches!(state.rest, Rest::Complete(None))
    }

    /// Counts bytes that the guest took, and lets the supervisor send as many again when that is worth a frame.
    fn grant(&self, state: &mut State, bytes: usize) {
        state.taken = state.taken.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        if state.taken < GRANT_BYTES || !matches!(state.rest, Rest::Awaited) {
            return;
        }
        let message = ToSupervisor::RequestCredit { id: self.id, bytes: state.taken };
        if self.outbox.push(&message).is_ok() {
            state.window = state.window.saturating_add(state.taken);
            state.taken = 0;
        }
    }

    fn awaited(&self) -> Result<MutexGuard<'_, State>, UploadError> {
        let state = self.lock();
        match state.rest {
            Rest::Awaited => Ok(state),
            Rest::Complete(_) | Rest::Aborted | Rest::Told => Err(UploadError::AfterEnd),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(mut state: MutexGuard<'_, State>) {
    let waker = state.waker.take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// How far [`Upload::collect`] has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Collected {
    More,
    Whole,
    TooLarge,
    Aborted,
}

/// The client left before its body was whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Aborted;

impl From<Aborted> for wasmtime_wasi_http::Error {
    fn from(_: Aborted) -> Self {
        wasmtime_wasi_http::Error::ConnectionTerminated
    }
}

/// An illegal frame. The blame is the supervisor's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UploadError {
    WindowExceeded,
    AfterEnd,
}

impl std::fmt::Display for UploadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            UploadError::WindowExceeded => write!(f, "more body bytes than the window allows"),
            UploadError::AfterEnd => write!(f, "a body frame after the end of the body"),
        }
    }
}

impl std::error::Error for UploadError {}

/// The body as `wasi:http` reads it.
#[derive(Debug)]
pub struct UploadBody(pub Upload);

impl http_body::Body for UploadBody {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        self.0.poll_next(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upload() -> (Upload, Outbox) {
        let outbox = Outbox::default();
        (Upload::new(RequestId(1), outbox.clone(), false), outbox)
    }

    fn next(upload: &Upload) -> Poll<Option<Result<Bytes, Aborted>>> {
        upload
            .poll_next(&mut Context::from_waker(Waker::noop()))
            .map(|next| next.map(|frame| frame.map(|frame| frame.into_data().unwrap_or_default())))
    }

    #[test]
    fn the_window_holds_exactly_its_bytes() {
        let (upload, _) = upload();
        let window = vec![0; WINDOW_BYTES as usize];
        assert_eq!(upload.push(&window, false), Ok(()));
        assert_eq!(upload.push(&[0], false), Err(UploadError::WindowExceeded));
    }

    #[test]
    fn bytes_that_were_taken_are_granted_again() {
        let (upload, outbox) = upload();
        let chunk = vec![7; GRANT_BYTES as usize - 1];
        upload.push(&chunk, false).expect("fits");
        upload.push(&[7], false).expect("fits");
        assert!(matches!(next(&upload), Poll::Ready(Some(Ok(_)))));
        assert!(outbox.lock().is_empty());
        assert!(matches!(next(&upload), Poll::Ready(Some(Ok(_)))));
        assert!(!outbox.lock().is_empty());
        assert_eq!(next(&upload), Poll::Pending);
    }

    #[test]
    fn an_aborted_body_never_ends_cleanly() {
        let (upload, _) = upload();
        upload.push(b"half", false).expect("fits");
        upload.abort().expect("may be aborted");
        assert_eq!(next(&upload), Poll::Ready(Some(Ok(Bytes::from_static(b"half")))));
        for _ in 0..2 {
            assert_eq!(next(&upload), Poll::Ready(Some(Err(Aborted))));
        }
    }

    #[test]
    fn nothing_may_follow_the_end() {
        for end in [Upload::abort as fn(&Upload) -> _, |upload| upload.push(b"x", true)] {
            let (upload, _) = upload();
            end(&upload).expect("ends");
            assert_eq!(upload.push(b"y", false), Err(UploadError::AfterEnd));
            assert_eq!(upload.push_trailers(HeaderMap::new()), Err(UploadError::AfterEnd));
            assert_eq!(upload.abort(), Err(UploadError::AfterEnd));
        }
    }

    #[test]
    fn a_body_is_collected_up_to_the_limit_and_not_beyond() {
        for (limit, expected) in [(4, Collected::Whole), (3, Collected::TooLarge)] {
            let (upload, _) = upload();
            let mut body = Vec::new();
            upload.push(b"ab", false).expect("fits");
            assert_eq!(upload.collect(&mut body, limit), Collected::More);
            upload.push(b"cd", true).expect("fits");
            assert_eq!(upload.collect(&mut body, limit), expected);
        }
    }
}
