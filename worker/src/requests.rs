//! The requests that this worker knows: the one that runs, and those that wait for it.
//!
//! Owns the order of requests and what each frame means for them. No I/O: `serve` hands in frames and asks what is next.
//! Frames name requests by id, so nothing here but [`Requests::start_next`] knows that one runs at a time.

use std::collections::VecDeque;
use std::fmt;

use rusmd_proto::limits::WINDOW_BYTES;
use rusmd_proto::{CodecError, Frame, Kind, RequestId, ToWorker};

use crate::link::{LinkError, Outbox};
use crate::upload::{Upload, UploadError};

/// Most requests that the supervisor may have sent ahead of the running one.
pub const WAITING_MAX: usize = 8;

/// What the link tells about one request while it runs.
#[derive(Debug)]
pub struct Exchange {
    pub id: RequestId,
    pub upload: Upload,
    /// Response bytes that the supervisor allows, and that were not used yet.
    pub window: u32,
    /// The supervisor wants it stopped.
    pub cancelled: bool,
    /// The supervisor wants to know where its guest is.
    pub inspected: bool,
}

/// A request that has not started.
#[derive(Debug)]
pub struct Waiting {
    pub exchange: Exchange,
    /// The encoded head.
    pub head: Vec<u8>,
}

#[derive(Debug)]
pub struct Requests {
    outbox: Outbox,
    active: Option<Exchange>,
    waiting: VecDeque<Waiting>,
    draining: bool,
}

impl Requests {
    pub fn new(outbox: Outbox) -> Requests {
        Requests { outbox, active: None, waiting: VecDeque::new(), draining: false }
    }

    /// Applies one frame.
    pub fn handle(&mut self, frame: &Frame<'_>) -> Result<(), Illegal> {
        let header = frame.header;
        // The head is decoded when its turn comes, so that it can be borrowed from while the guest runs.
        if header.kind == Kind::Request {
            return self.admit(header.request, frame.payload, header.end);
        }
        match ToWorker::decode(frame)? {
            ToWorker::Request { .. } | ToWorker::Hello(_) | ToWorker::Fork { .. } | ToWorker::Begin { .. } => {
                Err(Illegal::Unexpected(header.kind))
            }
            ToWorker::Inspect { id } => {
                if let Some(exchange) = self.active.as_mut().filter(|exchange| exchange.id == id) {
                    exchange.inspected = true;
                }
                Ok(())
            }
            ToWorker::RequestBody { id, bytes, end } => {
                self.find(id).map_or(Ok(()), |exchange| exchange.upload.push(bytes, end)).map_err(Illegal::Upload)
            }
            ToWorker::RequestTrailers { id, trailers } => {
                let Some(exchange) = self.find(id) else { return Ok(()) };
                let trailers = crate::headers::to_map(&trailers.headers).map_err(Illegal::Field)?;
                exchange.upload.push_trailers(trailers).map_err(Illegal::Upload)
            }
            ToWorker::RequestAborted { id } => {
                self.find(id).map_or(Ok(()), |exchange| exchange.upload.abort()).map_err(Illegal::Upload)
            }
            ToWorker::ResponseCredit { id, bytes } => {
                let Some(exchange) = self.find(id) else { return Ok(()) };
                exchange.window = exchange.window.checked_add(bytes).ok_or(Illegal::CreditOverflow)?;
                Ok(())
            }
            ToWorker::Cancel { id } => {
                if let Some(exchange) = self.find(id) {
                    exchange.cancelled = true;
                }
                Ok(())
            }
            ToWorker::Drain => {
                self.draining = true;
                Ok(())
            }
        }
    }

    /// The next request, which is the active one from now on; its encoded head is returned.
    pub fn start_next(&mut self) -> Option<Vec<u8>> {
        let Waiting { exchange, head } = self.waiting.pop_front()?;
        self.active = Some(exchange);
        Some(head)
    }

    /// The request that runs.
    pub fn active(&mut self) -> Option<&mut Exchange> {
        self.active.as_mut()
    }

    /// Frames for the active request are ignored from now on.
    pub fn finish_active(&mut self) {
        self.active = None;
    }

    /// Whether no further request may be started.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    fn admit(&mut self, id: RequestId, head: &[u8], complete: bool) -> Result<(), Illegal> {
        if id == RequestId::NONE || self.find(id).is_some() {
            return Err(Illegal::Id(id));
        }
        if self.waiting.len() >= WAITING_MAX {
            return Err(Illegal::TooManyWaiting);
        }
        let upload = Upload::new(id, self.outbox.clone(), complete);
        let exchange = Exchange { id, upload, window: WINDOW_BYTES, cancelled: false, inspected: false };
        self.waiting.push_back(Waiting { exchange, head: head.to_vec() });
        Ok(())
    }

    /// A request that has not ended. Frames for others are late, not wrong.
    fn find(&mut self, id: RequestId) -> Option<&mut Exchange> {
        let waiting = self.waiting.iter_mut().map(|waiting| &mut waiting.exchange);
        self.active.iter_mut().chain(waiting).find(|exchange| exchange.id == id)
    }
}

/// A frame that the supervisor may not send in this state. Ends the process: the two have lost each other.
#[derive(Debug)]
pub enum Illegal {
    Link(LinkError),
    Codec(CodecError),
    Unexpected(Kind),
    Id(RequestId),
    Component(u16),
    TooManyWaiting,
    CreditOverflow,
    Upload(UploadError),
    Field(String),
}

impl From<LinkError> for Illegal {
    fn from(error: LinkError) -> Self {
        Illegal::Link(error)
    }
}

impl From<CodecError> for Illegal {
    fn from(error: CodecError) -> Self {
        Illegal::Codec(error)
    }
}

impl fmt::Display for Illegal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Illegal::Link(error) => fmt::Display::fmt(error, f),
            Illegal::Codec(error) => write!(f, "illegal frame: {error}"),
            Illegal::Unexpected(kind) => write!(f, "illegal frame: a {kind:?} at this point"),
            Illegal::Id(id) => write!(f, "illegal frame: a request with the id {id}, which is reserved or in use"),
            Illegal::Component(index) => {
                write!(f, "illegal frame: a request for component {index}, which was never loaded")
            }
            Illegal::TooManyWaiting => write!(f, "illegal frame: more than {WAITING_MAX} requests sent ahead"),
            Illegal::CreditOverflow => write!(f, "illegal frame: more credit than a window can hold"),
            Illegal::Upload(error) => write!(f, "illegal frame: {error}"),
            Illegal::Field(error) => write!(f, "illegal frame: {error}"),
        }
    }
}

impl std::error::Error for Illegal {}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests() -> Requests {
        Requests::new(Outbox::default())
    }

    fn handle(requests: &mut Requests, message: &ToWorker<'_>) -> Result<(), Illegal> {
        let mut bytes = Vec::new();
        message.encode(&mut bytes).expect("the message is legal");
        let (frame, _) = Frame::split(&bytes).expect("well formed").expect("whole");
        requests.handle(&frame)
    }

    fn request(requests: &mut Requests, id: u64) -> Result<(), Illegal> {
        requests.admit(RequestId(id), b"", true)
    }

    #[test]
    fn requests_start_in_the_order_in_which_they_came() {
        let mut requests = requests();
        for id in 1..=3 {
            request(&mut requests, id).expect("legal");
        }
        for id in 1..=3 {
            assert!(requests.start_next().is_some());
            assert_eq!(requests.active().map(|exchange| exchange.id), Some(RequestId(id)));
            requests.finish_active();
        }
        assert!(requests.start_next().is_none());
    }

    #[test]
    fn as_many_requests_may_wait_as_the_limit_says() {
        let mut requests = requests();
        for id in 1..=WAITING_MAX as u64 {
            request(&mut requests, id).expect("legal");
        }
        assert!(matches!(request(&mut requests, 99), Err(Illegal::TooManyWaiting)));
    }

    #[test]
    fn an_id_is_used_once_at_a_time() {
        let mut requests = requests();
        assert!(matches!(request(&mut requests, 0), Err(Illegal::Id(_))));
        request(&mut requests, 1).expect("legal");
        assert!(matches!(request(&mut requests, 1), Err(Illegal::Id(_))));
        requests.start_next();
        assert!(matches!(request(&mut requests, 1), Err(Illegal::Id(_))));
        requests.finish_active();
        request(&mut requests, 1).expect("legal again");
    }

    #[test]
    fn frames_for_requests_that_have_ended_are_ignored() {
        let mut requests = requests();
        let id = RequestId(5);
        for message in [
            ToWorker::RequestBody { id, bytes: b"late", end: false },
            ToWorker::RequestAborted { id },
            ToWorker::ResponseCredit { id, bytes: u32::MAX },
            ToWorker::Cancel { id },
        ] {
            handle(&mut requests, &message).expect("late, not wrong");
        }
    }

    #[test]
    fn credit_adds_up_to_what_a_window_can_hold_and_no_further() {
        let mut requests = requests();
        request(&mut requests, 1).expect("legal");
        let credit = |bytes| ToWorker::ResponseCredit { id: RequestId(1), bytes };
        handle(&mut requests, &credit(u32::MAX - WINDOW_BYTES)).expect("fits");
        assert!(matches!(handle(&mut requests, &credit(1)), Err(Illegal::CreditOverflow)));
    }

    #[test]
    fn frames_for_a_template_are_illegal() {
        for message in [ToWorker::Fork { slot: 0 }, ToWorker::Begin { slot: 0 }] {
            assert!(matches!(handle(&mut requests(), &message), Err(Illegal::Unexpected(_))));
        }
    }

    #[test]
    fn a_waiting_request_can_be_cancelled() {
        let mut requests = requests();
        request(&mut requests, 1).expect("legal");
        handle(&mut requests, &ToWorker::Cancel { id: RequestId(1) }).expect("legal");
        requests.start_next();
        assert!(requests.active().is_some_and(|exchange| exchange.cancelled));
    }
}
