//! One request's response on its way from the guest to the link, under its window.
//!
//! Owns the order of response frames: head, body, trailers. Stages them in a buffer of its own, so that a guest that
//! fails before anything was sent gets nothing sent. `run` polls it beside the guest and decides when to flush.

use std::collections::VecDeque;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body as _;
use rusmd_proto::frame::Kind;
use rusmd_proto::message::encode_body;
use rusmd_proto::{RequestId, ResponseHead, ToSupervisor, Trailers};
use wasmtime_wasi_http::WasiBody;

use crate::headers;

/// Staged bytes beyond which a turn ends, so that they are written before more is made.
const STAGED_BYTES_MAX: usize = 128 * 1024;

/// What a guest answered.
#[derive(Debug)]
pub enum Answer {
    /// A whole response of a handlers component.
    Whole { status: u16, headers: Vec<(String, Vec<u8>)>, body: Vec<u8> },
    /// A response of a `wasi:http` component.
    Stream(http::Response<WasiBody>),
    /// No usable response, for the reason given.
    Refused(String),
}

/// Where a guest's host functions leave the answer.
#[derive(Clone, Debug, Default)]
pub struct AnswerSlot(Arc<Mutex<Option<Answer>>>);

/// A guest that goes on after it has answered has what it wrote passed on after this time, or sooner. Small responses are whole long
/// before, and are passed on in one piece.
pub const PASS_ON_AFTER: Duration = Duration::from_millis(5);

impl AnswerSlot {
    pub fn set(&self, answer: Answer) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
    }

    fn take(&self) -> Option<Answer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What a turn of [`Reply::poll`] has come to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Turn {
    /// The guest has not answered yet.
    NoAnswer,
    /// The guest has not written more of its body.
    BodyAwaited,
    /// The window is used up.
    CreditAwaited,
    /// Enough is staged to be written.
    Staged,
    /// The response is whole.
    Ended,
    /// The response cannot be one, or its body broke off.
    Broken(String),
}

#[derive(Debug)]
enum Stage {
    Unanswered(AnswerSlot),
    Sending(Box<Sending>),
    Ended,
}

/// A response that has been given and is not yet staged to its end.
#[derive(Debug)]
struct Sending {
    /// Until it is staged.
    head: Option<Head>,
    /// Body bytes that were taken from the guest.
    carried: VecDeque<Bytes>,
    /// What follows them.
    source: Source,
}

#[derive(Debug)]
enum Head {
    Owned { status: u16, headers: Vec<(String, Vec<u8>)> },
    Map { status: u16, headers: HeaderMap },
}

#[derive(Debug)]
enum Source {
    Open(WasiBody),
    End,
    Trailers(HeaderMap),
}

/// The response of one request.
#[derive(Debug)]
pub struct Reply {
    id: RequestId,
    stage: Stage,
    /// Encoded frames that may still be taken back.
    pub staged: Vec<u8>,
}

impl Reply {
    pub fn new(id: RequestId, slot: AnswerSlot) -> Reply {
        Reply { id, stage: Stage::Unanswered(slot), staged: Vec::new() }
    }

    /// Stages what the guest has answered so far and `window` allows; `window` is lowered by what was used of it.
    pub fn poll(&mut self, cx: &mut Context<'_>, window: &mut u32) -> Turn {
        let turn = match mem::replace(&mut self.stage, Stage::Ended) {
            Stage::Ended => Ok(Turn::Ended),
            Stage::Sending(sending) => self.send(sending, cx, window),
            Stage::Unanswered(slot) => match slot.take() {
                Some(answer) => Sending::begin(answer).and_then(|sending| self.send(Box::new(sending), cx, window)),
                None => {
                    self.stage = Stage::Unanswered(slot);
                    Ok(Turn::NoAnswer)
                }
            },
        };
        turn.unwrap_or_else(Turn::Broken)
    }

    /// One turn: take what the guest has written, stage the head with it, then as much as the window allows.
    fn send(&mut self, mut sending: Box<Sending>, cx: &mut Context<'_>, window: &mut u32) -> Result<Turn, String> {
        let awaited = sending.gather(cx, *window)?;
        if let Some(head) = sending.head.take() {
            let (length, end) = (sending.length_if_whole(), sending.is_empty_and_whole());
            self.stage_head(&head, length, end)?;
            if end {
                return Ok(Turn::Ended);
            }
        }
        while let Some(mut chunk) = sending.carried.pop_front() {
            let fits = chunk.len().min(*window as usize);
            let rest = chunk.split_off(fits);
            *window -= fits as u32;
            if !rest.is_empty() {
                sending.carried.push_front(rest);
            }
            let end = sending.is_empty_and_whole();
            encode_body(&mut self.staged, Kind::ResponseBody, self.id, &chunk, end)
                .map_err(|error| error.to_string())?;
            if end {
                return Ok(Turn::Ended);
            }
            if *window == 0 || self.staged.len() >= STAGED_BYTES_MAX {
                break;
            }
        }
        self.conclude(sending, awaited, *window)
    }

    /// What a turn has come to that did not end the body with its last chunk.
    fn conclude(&mut self, sending: Box<Sending>, awaited: bool, window: u32) -> Result<Turn, String> {
        let turn = match (&sending.source, sending.carried.is_empty()) {
            (Source::End, true) => {
                let message = ToSupervisor::ResponseBody { id: self.id, bytes: &[], end: true };
                message.encode(&mut self.staged).map_err(|error| error.to_string())?;
                return Ok(Turn::Ended);
            }
            (Source::Trailers(trailers), true) => {
                let trailers = Trailers { headers: headers::from_map(trailers)? };
                let message = ToSupervisor::ResponseTrailers { id: self.id, trailers };
                message.encode(&mut self.staged).map_err(|error| format!("response trailers: {error}"))?;
                return Ok(Turn::Ended);
            }
            (Source::Open(_), true) if awaited => Turn::BodyAwaited,
            (_, false) if window == 0 => Turn::CreditAwaited,
            (_, _) => Turn::Staged,
        };
        self.stage = Stage::Sending(sending);
        Ok(turn)
    }

    fn stage_head(&mut self, head: &Head, length: Option<u64>, end: bool) -> Result<(), String> {
        let (status, headers, declared) = match head {
            Head::Owned { status, headers } => {
                let lines = headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
                (*status, lines, None)
            }
            Head::Map { status, headers } => (*status, headers::from_map(headers)?, headers::content_length(headers)),
        };
        let head = ResponseHead { status, body_bytes: declared.or(length), headers };
        let message = ToSupervisor::ResponseHead { id: self.id, head, end };
        message.encode(&mut self.staged).map_err(|error| format!("response head: {error}"))
    }
}

impl Sending {
    /// Checks what can be known of an answer before its body.
    fn begin(answer: Answer) -> Result<Sending, String> {
        match answer {
            Answer::Refused(reason) => Err(reason),
            Answer::Whole { status, mut headers, body } => {
                headers::check_status(status)?;
                headers::check(&mut headers)?;
                let carried = if body.is_empty() { VecDeque::new() } else { VecDeque::from([Bytes::from(body)]) };
                Ok(Sending { head: Some(Head::Owned { status, headers }), carried, source: Source::End })
            }
            Answer::Stream(response) => {
                let (parts, body) = response.into_parts();
                let status = parts.status.as_u16();
                headers::check_status(status)?;
                let head = Some(Head::Map { status, headers: parts.headers });
                Ok(Sending { head, carried: VecDeque::new(), source: Source::Open(body) })
            }
        }
    }

    /// Takes chunks from the guest until it has no more for now, which is what `true` says, or until the window or the
    /// staging buffer would be full. With an empty window one chunk is taken, since only that can show the end.
    fn gather(&mut self, cx: &mut Context<'_>, window: u32) -> Result<bool, String> {
        let enough = STAGED_BYTES_MAX.min(window as usize);
        let mut bytes: usize = self.carried.iter().map(Bytes::len).sum();
        while let Source::Open(body) = &mut self.source {
            if bytes > 0 && bytes >= enough {
                return Ok(false);
            }
            match Pin::new(body).poll_frame(cx) {
                Poll::Pending => return Ok(true),
                Poll::Ready(None) => self.source = Source::End,
                Poll::Ready(Some(Err(error))) => return Err(format!("the response body broke off: {error}")),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(chunk) if chunk.is_empty() => {}
                    Ok(chunk) => {
                        bytes += chunk.len();
                        self.carried.push_back(chunk);
                    }
                    Err(frame) => {
                        self.source = frame.into_trailers().map_or(Source::End, Source::Trailers);
                    }
                },
            }
        }
        Ok(false)
    }

    fn length_if_whole(&self) -> Option<u64> {
        match self.source {
            Source::End => Some(self.carried.iter().map(|chunk| chunk.len() as u64).sum()),
            Source::Open(_) | Source::Trailers(_) => None,
        }
    }

    fn is_empty_and_whole(&self) -> bool {
        self.carried.is_empty() && matches!(self.source, Source::End)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body::Frame as BodyFrame;
    use http_body_util::{BodyExt, Full};
    use rusmd_proto::Frame;
    use rusmd_proto::limits::{BODY_CHUNK_BYTES_MAX, WINDOW_BYTES};
    use std::task::Waker;

    fn reply(answer: Answer) -> Reply {
        let slot = AnswerSlot::default();
        slot.set(answer);
        Reply::new(RequestId(1), slot)
    }

    fn stream(body: WasiBody) -> Answer {
        Answer::Stream(http::Response::new(body))
    }

    fn full(bytes: Vec<u8>) -> WasiBody {
        Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed_unsync()
    }

    fn turn(reply: &mut Reply, window: &mut u32) -> Turn {
        reply.poll(&mut Context::from_waker(Waker::noop()), window)
    }

    /// Kinds, payload lengths and end flags of what is staged.
    fn staged(reply: &Reply) -> Vec<(Kind, usize, bool)> {
        let mut rest = reply.staged.as_slice();
        let mut frames = Vec::new();
        while let Some((frame, after)) = Frame::split(rest).expect("well formed") {
            frames.push((frame.header.kind, frame.payload.len(), frame.header.end));
            rest = after;
        }
        frames
    }

    fn bodies(reply: &Reply) -> Vec<(usize, bool)> {
        staged(reply)
            .into_iter()
            .filter(|(kind, ..)| *kind == Kind::ResponseBody)
            .map(|(_, len, end)| (len, end))
            .collect()
    }

    #[test]
    fn a_small_response_is_whole_after_one_turn() {
        let whole = Answer::Whole { status: 200, headers: Vec::new(), body: b"hello".to_vec() };
        for answer in [whole, stream(full(b"hello".to_vec()))] {
            let mut reply = reply(answer);
            let mut window = WINDOW_BYTES;
            assert_eq!(turn(&mut reply, &mut window), Turn::Ended);
            assert_eq!(window, WINDOW_BYTES - 5);
            assert_eq!(bodies(&reply), [(5, true)]);
        }
    }

    #[test]
    fn an_empty_response_is_its_head() {
        let whole = Answer::Whole { status: 204, headers: Vec::new(), body: Vec::new() };
        for answer in [whole, stream(full(Vec::new()))] {
            let mut reply = reply(answer);
            assert_eq!(turn(&mut reply, &mut 0), Turn::Ended);
            assert!(matches!(staged(&reply)[..], [(Kind::ResponseHead, _, true)]));
        }
    }

    #[test]
    fn a_body_waits_for_credit_when_the_window_is_used_up_and_not_before() {
        let body = vec![1; WINDOW_BYTES as usize + 1];
        let whole = Answer::Whole { status: 200, headers: Vec::new(), body: body.clone() };
        for answer in [whole, stream(full(body))] {
            let mut reply = reply(answer);
            let mut window = WINDOW_BYTES;
            assert_eq!(turn(&mut reply, &mut window), Turn::CreditAwaited);
            assert_eq!((window, bodies(&reply).iter().map(|(len, _)| len).sum::<usize>()), (0, WINDOW_BYTES as usize));
            reply.staged.clear();
            assert_eq!(turn(&mut reply, &mut window), Turn::CreditAwaited);
            assert!(reply.staged.is_empty());
            window = 1;
            while turn(&mut reply, &mut window) == Turn::Staged {}
            assert_eq!(turn(&mut reply, &mut window), Turn::Ended);
            assert_eq!(bodies(&reply).first().map(|(len, _)| *len), Some(1));
            assert!(bodies(&reply).last().is_some_and(|(_, end)| *end));
        }
    }

    #[test]
    fn a_body_of_exactly_the_window_ends_without_more_credit() {
        let mut reply = reply(stream(full(vec![1; WINDOW_BYTES as usize])));
        let mut window = WINDOW_BYTES;
        let mut sent = Vec::new();
        loop {
            let turn = turn(&mut reply, &mut window);
            sent.append(&mut bodies(&reply));
            reply.staged.clear();
            match turn {
                Turn::Staged => {}
                Turn::Ended => break,
                turn => panic!("{turn:?} with everything there"),
            }
        }
        assert_eq!((window, sent.iter().map(|(len, _)| len).sum::<usize>()), (0, WINDOW_BYTES as usize));
        assert!(sent.iter().all(|(len, _)| *len <= BODY_CHUNK_BYTES_MAX));
        assert_eq!(sent.iter().filter(|(_, end)| *end).count(), 1);
    }

    #[test]
    fn trailers_end_the_body() {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", http::HeaderValue::from_static("1"));
        let frames = [BodyFrame::data(Bytes::from_static(b"ab")), BodyFrame::trailers(trailers)];
        let body = Frames(frames.into_iter().map(Ok).collect()).boxed_unsync();
        let mut reply = reply(stream(body));
        assert_eq!(turn(&mut reply, &mut WINDOW_BYTES.clone()), Turn::Ended);
        let kinds: Vec<_> = staged(&reply).into_iter().map(|(kind, _, end)| (kind, end)).collect();
        let expected = [(Kind::ResponseHead, false), (Kind::ResponseBody, false), (Kind::ResponseTrailers, false)];
        assert_eq!(kinds, expected);
    }

    #[test]
    fn a_body_that_breaks_off_breaks_the_response() {
        let frames =
            [Ok(BodyFrame::data(Bytes::from_static(b"ab"))), Err(wasmtime_wasi_http::Error::HttpProtocolError)];
        let body = Frames(frames.into_iter().collect()).boxed_unsync();
        assert!(matches!(turn(&mut reply(stream(body)), &mut WINDOW_BYTES.clone()), Turn::Broken(_)));
    }

    #[test]
    fn what_cannot_be_a_response_is_broken_with_nothing_staged() {
        let bad_status = Answer::Whole { status: 99, headers: Vec::new(), body: Vec::new() };
        let bad_header = Answer::Whole { status: 200, headers: vec![("a\n".into(), Vec::new())], body: Vec::new() };
        for answer in [bad_status, bad_header, Answer::Refused("no".into())] {
            let mut reply = reply(answer);
            assert!(matches!(turn(&mut reply, &mut WINDOW_BYTES.clone()), Turn::Broken(_)));
            assert!(reply.staged.is_empty());
        }
    }

    #[derive(Debug)]
    struct Frames(VecDeque<Result<BodyFrame<Bytes>, wasmtime_wasi_http::Error>>);

    impl http_body::Body for Frames {
        type Data = Bytes;
        type Error = wasmtime_wasi_http::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<BodyFrame<Bytes>, Self::Error>>> {
            Poll::Ready(self.0.pop_front())
        }
    }
}
