//! One request, from its head to `Done`.
//!
//! Owns the sequence that the contract demands: the status page says "started" before the guest gets control, a guest that
//! failed before anything was written gets nothing written, and every path ends in exactly one `Done`. Polls the guest and
//! its response side by side on this thread.

use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use rusmd_proto::frame::Kind;
use rusmd_proto::{FailureCause, Frame, FrameHeader, RequestHead, RequestId, ToSupervisor, ToWorker};
use wasmtime::{Engine, Store};

use crate::error::ServeError;
use crate::failure::Report;
use crate::host::load::{Loaded, Program};
use crate::host::stdio::GuestLog;
use crate::host::{Grants, Guest, Interrupted, new_store, wasi_http};
use crate::reply::{AnswerSlot, PASS_ON_AFTER, Reply, Turn};
use crate::requests::Illegal;
use crate::serve::{Next, Server};
use crate::sys::signals;
use crate::upload::{Collected, Upload};

/// A guest that is always ready again is polled this often before the link and the reactor get a look.
const TURNS_MAX: u32 = 64;

/// How a request came to its end.
#[derive(Debug)]
enum End {
    /// The response is staged to its end.
    Complete,
    Failed(Report),
    /// The supervisor is gone.
    LinkEnded,
}

/// Why a request does not go on: it failed before its guest ran, or the worker itself is at an end.
enum Stop {
    Failed(Report),
    Serve(ServeError),
}

impl From<Report> for Stop {
    fn from(report: Report) -> Stop {
        Stop::Failed(report)
    }
}

impl From<ServeError> for Stop {
    fn from(error: ServeError) -> Stop {
        Stop::Serve(error)
    }
}

type Call<'a> = Pin<&'a mut dyn Future<Output = wasmtime::Result<()>>>;

impl Server {
    /// Runs the active request, whose encoded head is given.
    pub fn run(&mut self, head: &[u8]) -> Result<Next, ServeError> {
        let Some(exchange) = self.requests.active() else { return Ok(Next::Continue) };
        let (id, upload) = (exchange.id, exchange.upload.clone());
        if exchange.cancelled {
            return self.conclude(id, End::Failed(interrupted()), &mut Vec::new());
        }
        let head = decode_head(head, id)?;
        let components = Rc::clone(&self.components);
        let loaded = components.get(usize::from(head.component)).ok_or(Illegal::Component(head.component))?;
        let next = match self.execute(loaded, id, &head, upload) {
            Ok(next) => Ok(next),
            Err(Stop::Failed(report)) => self.conclude(id, End::Failed(report), &mut Vec::new()),
            Err(Stop::Serve(error)) => Err(error),
        };
        // Tasks that the guest's host functions left behind are aborted by now, and need one turn to be gone.
        if self.runtime.metrics().num_alive_tasks() > 0 {
            self.runtime.block_on(tokio::task::yield_now());
        }
        next
    }

    /// Prepares what the kind of component needs, and runs it to its end.
    fn execute(
        &mut self,
        loaded: &Loaded,
        id: RequestId,
        head: &RequestHead<'_>,
        upload: Upload,
    ) -> Result<Next, Stop> {
        let slot = AnswerSlot::default();
        let mut reply = Reply::new(id, slot.clone());
        match &loaded.program {
            Program::Handlers { engine, handlers, .. } => {
                let action = head.action.ok_or_else(|| internal("a handlers component was sent no action"))?;
                let Some(body) = self.collect(&upload, head.body_bytes, loaded.grants.memory_bytes_max)? else {
                    return Ok(Next::Exit);
                };
                let (mut store, log) = self.start(engine, &loaded.grants, id)?;
                let call = async {
                    slot.set(handlers.handle(&mut store, id, action, head, &body).await?);
                    Ok(())
                };
                Ok(self.carry(id, pin!(call), &mut reply, &log)?)
            }
            Program::Http02 { engine, pre } => {
                let request = wasi_http::request(head, upload).map_err(internal)?;
                let (mut store, log) = self.start(engine, &loaded.grants, id)?;
                let call = wasi_http::handle_02(pre, &mut store, request, slot);
                Ok(self.carry(id, pin!(call), &mut reply, &log)?)
            }
            Program::Http03 { engine, pre } => {
                let request = wasi_http::request(head, upload).map_err(internal)?;
                let (mut store, log) = self.start(engine, &loaded.grants, id)?;
                let call = wasi_http::handle_03(pre, &mut store, request, slot);
                Ok(self.carry(id, pin!(call), &mut reply, &log)?)
            }
            Program::Unloadable(reason) => {
                Err(internal(format!("component {} could not be loaded: {reason}", loaded.name)).into())
            }
        }
    }

    /// The whole body, for a component that takes it at once. `None` when the supervisor is gone.
    fn collect(&mut self, upload: &Upload, declared: Option<u64>, bytes_max: u64) -> Result<Option<Vec<u8>>, Stop> {
        let too_large = || Report::new(FailureCause::Memory, "the request's body is larger than the instance's memory");
        if declared.is_some_and(|declared| declared > bytes_max) {
            return Err(too_large().into());
        }
        let mut body = Vec::new();
        loop {
            match upload.collect(&mut body, bytes_max) {
                Collected::Whole => return Ok(Some(body)),
                Collected::TooLarge => return Err(too_large().into()),
                Collected::Aborted => return Err(internal("the client left before its body was whole").into()),
                Collected::More => {}
            }
            if self.requests.active().is_none_or(|exchange| exchange.cancelled) {
                return Err(interrupted().into());
            }
            self.flush(&mut Vec::new())?;
            if self.block_on_link()? == Next::Exit {
                return Ok(None);
            }
        }
    }

    /// The store in which the guest is about to get control. It says that the request has started when that happens.
    fn start(&mut self, engine: &Engine, grants: &Grants, id: RequestId) -> Result<(Store<Guest>, GuestLog), Report> {
        let status = self.surroundings.status;
        let store = new_store(engine, grants, &self.surroundings, id).map_err(|error| Report::of(&error))?;
        // From here on the signal is heeded; a wish that came before it is found here, or when the guest begins.
        if status.interrupt() == id || self.requests.active().is_none_or(|exchange| exchange.cancelled) {
            return Err(interrupted());
        }
        let log = store.data().log.clone();
        Ok((store, log))
    }

    /// Drives the guest, and tells the supervisor of the end while the instance still exists: to take it down is nothing
    /// that a client should wait for.
    fn carry(&mut self, id: RequestId, call: Call<'_>, reply: &mut Reply, log: &GuestLog) -> Result<Next, ServeError> {
        let end = self.drive(call, reply)?;
        log.finish();
        self.conclude(id, end, &mut reply.staged)
    }

    /// Polls the guest and its response until both have ended, or one has failed.
    fn drive(&mut self, mut call: Call<'_>, reply: &mut Reply) -> Result<End, ServeError> {
        let waker = self.waker.clone();
        let mut cx = Context::from_waker(&waker);
        let mut returned = false;
        let mut turns = 0;
        loop {
            self.flag.take();
            if !returned {
                match call.as_mut().poll(&mut cx) {
                    Poll::Ready(Ok(())) => returned = true,
                    Poll::Ready(Err(error)) => {
                        let report = Report::of(&error);
                        if let Some(exchange) = self.requests.active() {
                            // What it had written before. That it is not whole is no news any more.
                            let _ = reply.poll(&mut cx, &mut exchange.window);
                        }
                        return Ok(End::Failed(report));
                    }
                    Poll::Pending => {}
                }
            }
            let Some(exchange) = self.requests.active() else { return Ok(End::Failed(interrupted())) };
            if exchange.cancelled {
                return Ok(End::Failed(interrupted()));
            }
            let turn = reply.poll(&mut cx, &mut exchange.window);
            let next = match (returned, turn) {
                (_, Turn::Broken(reason)) => {
                    return Ok(End::Failed(Report::new(FailureCause::InvalidResponse, reason)));
                }
                (true, Turn::Ended) => return Ok(End::Complete),
                (true, Turn::NoAnswer) => return Ok(End::Failed(no_response())),
                (true, Turn::BodyAwaited) => return Ok(End::Failed(unfinished())),
                (_, Turn::Staged) => {
                    self.flush(&mut reply.staged)?;
                    Next::Continue
                }
                (true, Turn::CreditAwaited) => {
                    self.flush(&mut reply.staged)?;
                    self.block_on_link()?
                }
                (false, Turn::NoAnswer | Turn::BodyAwaited | Turn::CreditAwaited | Turn::Ended) => {
                    turns += 1;
                    self.pause(turns, &mut reply.staged)?
                }
            };
            if next == Next::Exit {
                return Ok(End::LinkEnded);
            }
        }
    }

    /// The guest waits, or says so: if it was woken meanwhile it goes on at once.
    fn pause(&mut self, turns: u32, staged: &mut Vec<u8>) -> Result<Next, ServeError> {
        if !self.flag.is_set() {
            self.flush(staged)?;
            return self.block_on_guest_or_link();
        }
        if self.link.outbox().take_urgent() {
            self.link.flush()?;
        }
        if !staged.is_empty() {
            if signals::take_alarm() {
                self.flush(staged)?;
            } else {
                signals::set_alarm(PASS_ON_AFTER);
            }
        }
        if turns.is_multiple_of(TURNS_MAX) {
            self.flush(staged)?;
            return self.look_around();
        }
        Ok(Next::Continue)
    }

    /// Writes the last frames of the active request.
    fn conclude(&mut self, id: RequestId, end: End, staged: &mut Vec<u8>) -> Result<Next, ServeError> {
        match end {
            End::LinkEnded => return Ok(Next::Exit),
            End::Complete => self.unstage(staged),
            // A guest that has let go of the head of its response has answered, whatever comes after.
            End::Failed(report) => {
                self.unstage(staged);
                report.send(id, self.link.outbox());
            }
        }
        self.requests.finish_active();
        self.link.outbox().push(&ToSupervisor::Done { id }).map_err(Illegal::Codec)?;
        self.link.flush()?;
        Ok(Next::Continue)
    }

    fn flush(&mut self, staged: &mut Vec<u8>) -> Result<(), ServeError> {
        self.unstage(staged);
        Ok(self.link.flush()?)
    }

    fn unstage(&self, staged: &mut Vec<u8>) {
        let mut outbox = self.link.outbox().lock();
        if outbox.is_empty() {
            std::mem::swap(&mut *outbox, staged);
        } else {
            outbox.append(staged);
        }
    }
}

fn decode_head(payload: &[u8], id: RequestId) -> Result<RequestHead<'_>, Illegal> {
    let header = FrameHeader { kind: Kind::Request, end: false, request: id, payload_bytes: payload.len() };
    match ToWorker::decode(&Frame { header, payload })? {
        ToWorker::Request { head, .. } => Ok(head),
        _ => Err(Illegal::Unexpected(header.kind)),
    }
}

fn internal(message: impl Into<String>) -> Report {
    Report::new(FailureCause::Internal, message)
}

fn interrupted() -> Report {
    Report::new(FailureCause::Interrupted, Interrupted.to_string())
}

fn no_response() -> Report {
    Report::new(FailureCause::NoResponse, "the guest returned without a response")
}

fn unfinished() -> Report {
    Report::new(FailureCause::InvalidResponse, "the guest returned without finishing its response body")
}
