//! What workers say: each frame is checked against what is legal now, and changes the request that it names.
//!
//! A worker is not trusted. Anything that its state does not allow is a [`Violation`], and costs it its life; the stream is never
//! searched for a place to go on.

use std::fmt;
use std::time::Instant;

use rusmd_proto::limits::WINDOW_BYTES;
use rusmd_proto::{
    CodecError, Failure, FailureCause, Frame, FrameError, RequestId, ResponseHead, ToSupervisor, ToWorker,
};

use crate::answer::Answer;
use crate::config::settings::OnTrap;
use crate::control::counters::Outcome;
use crate::http;
use crate::pool::{Released, Retirement, SlotId};
use crate::request::{Reply, Stage, Upload};

use super::backend::{Backend, worker};
use super::clients::Clients;
use super::{reply, report};

/// Why a worker is killed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Violation {
    Frame(FrameError),
    Codec(CodecError),
    /// Legal at another time, but not now.
    Unexpected(&'static str),
    /// Sent more than it had been granted, or granted more than the window.
    Credit,
    Refused(String),
    /// It belongs to another build of rusmd.
    OtherBuild(String),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::Frame(error) => error.fmt(f),
            Violation::Codec(error) => error.fmt(f),
            Violation::Unexpected(what) => write!(f, "an unexpected {what}"),
            Violation::Credit => write!(f, "more than the window allows"),
            Violation::Refused(reason) => write!(f, "it cannot serve: {reason}"),
            Violation::OtherBuild(theirs) => {
                write!(f, "it is of build {theirs:?}, and this is {}", rusmd_proto::BUILD)
            }
        }
    }
}

impl Backend {
    /// Takes one frame from the worker in `slot`.
    pub(super) fn handle_frame(
        &mut self,
        slot: SlotId,
        frame: &Frame<'_>,
        clients: &mut Clients,
        now: Instant,
    ) -> Result<(), Violation> {
        match ToSupervisor::decode(frame).map_err(Violation::Codec)? {
            ToSupervisor::Begun => {
                if !self.pool.handle_ready(slot) {
                    return Err(Violation::Unexpected("Begun"));
                }
                if let Some(entry) = worker(&mut self.workers, slot) {
                    let took = now.saturating_duration_since(entry.started_at);
                    let pid = entry.pid();
                    log::debug!("worker {pid} in slot {slot} is ready after {took:.1?}");
                    self.hurry(pid);
                }
                self.start_failures = 0;
                self.proven = true;
                Ok(())
            }
            ToSupervisor::Ready(_) | ToSupervisor::Forked { .. } | ToSupervisor::ForkFailed(_) => {
                Err(Violation::Unexpected("message of a template"))
            }
            ToSupervisor::Backtrace { id, backtrace } => {
                // It may cross the end of its request, and then nobody waits for it any more.
                if self.pool.request(slot) == Some(id)
                    && let Some(request) = self.requests.get(id)
                {
                    report::slow_backtrace(&request.name, backtrace);
                }
                Ok(())
            }
            ToSupervisor::Refused(refused) => Err(Violation::Refused(refused.message.to_owned())),
            ToSupervisor::ResponseHead { id, head, end } => {
                self.check(slot, id, Reply::Awaited, "ResponseHead")?;
                self.handle_response_head(id, slot, &head, end, clients, now);
                Ok(())
            }
            ToSupervisor::ResponseBody { id, bytes, end } => {
                self.check(slot, id, Reply::Body, "ResponseBody")?;
                self.handle_response_body(id, bytes, end, clients, now)
            }
            ToSupervisor::ResponseTrailers { id, trailers } => {
                self.check(slot, id, Reply::Body, "ResponseTrailers")?;
                self.end_response(id, &trailers.headers, clients, now);
                Ok(())
            }
            ToSupervisor::Failed { id, failure } => {
                self.check_named(slot, id, "Failed")?;
                self.handle_failed(id, &failure, clients, now);
                Ok(())
            }
            ToSupervisor::RequestCredit { id, bytes } => {
                self.check_named(slot, id, "RequestCredit")?;
                self.handle_request_credit(id, bytes, clients, now)
            }
            ToSupervisor::Log { id, line } => {
                if id != RequestId::NONE {
                    self.check_named(slot, id, "Log")?;
                }
                let name = self.requests.get(id).map(|request| &request.name);
                if let Some(entry) = worker(&mut self.workers, slot) {
                    let pid = entry.pid();
                    report::chatter(name, &line, &mut entry.chatter, pid, now);
                }
                Ok(())
            }
            ToSupervisor::Done { id } if self.pool.handle_discarded(slot, id) => {
                if let Some(entry) = worker(&mut self.workers, slot) {
                    entry.discard_by = None;
                }
                Ok(())
            }
            ToSupervisor::Done { id } => {
                self.check_named(slot, id, "Done")?;
                self.handle_done(id, slot, clients, now)
            }
        }
    }

    /// The slot's worker has this request.
    fn check_named(&self, slot: SlotId, id: RequestId, what: &'static str) -> Result<(), Violation> {
        if self.pool.request(slot) == Some(id) { Ok(()) } else { Err(Violation::Unexpected(what)) }
    }

    /// As [`Backend::check_named`], and its response is where such a frame belongs.
    fn check(&self, slot: SlotId, id: RequestId, reply: Reply, what: &'static str) -> Result<(), Violation> {
        self.check_named(slot, id, what)?;
        match self.requests.get(id) {
            Some(request) if request.reply == reply => Ok(()),
            Some(_) | None => Err(Violation::Unexpected(what)),
        }
    }

    fn handle_response_head(
        &mut self,
        id: RequestId,
        slot: SlotId,
        head: &ResponseHead<'_>,
        end: bool,
        clients: &mut Clients,
        now: Instant,
    ) {
        let Some(request) = self.requests.get_mut(id) else { return };
        request.reply = Reply::Body;
        request.deadline = now + self.request_timeout;
        match request.stage {
            Stage::Sent { .. } => {}
            // The client has left or has had its answer; what remains of the response is let run out.
            Stage::Reading
            | Stage::Queued
            | Stage::Offered { .. }
            | Stage::HeadOut { .. }
            | Stage::Finishing { .. }
            | Stage::Interrupted { .. } => {
                if end {
                    request.reply = Reply::Over;
                }
                return;
            }
        }
        if let Some(client) = request.client.and_then(|key| clients.get_mut(key)) {
            if let Err(error) = reply::begin(&mut client.connection, request, head, &self.app, &self.encoders, now) {
                report::failed(&self.app, request, FailureCause::InvalidResponse, &error.to_string(), "");
                self.answer(clients, id, &Answer::CRASHED, Outcome::InvalidResponse, now);
                self.stop_guest(id, slot);
                return;
            }
            let key = client.key;
            clients.touch(key);
        }
        request.stage = Stage::HeadOut { slot };
        if end {
            self.end_response(id, &[], clients, now);
        }
    }

    fn handle_response_body(
        &mut self,
        id: RequestId,
        bytes: &[u8],
        end: bool,
        clients: &mut Clients,
        now: Instant,
    ) -> Result<(), Violation> {
        let Some(request) = self.requests.get_mut(id) else { return Ok(()) };
        request.window = request.window.checked_sub(bytes.len() as u32).ok_or(Violation::Credit)?;
        request.deadline = now + self.request_timeout;
        match request.client.and_then(|key| clients.get_mut(key)) {
            Some(client) => {
                let key = client.key;
                if let Err(error) = reply::go_on(&mut client.connection, request, bytes, now) {
                    report::failed(&self.app, request, FailureCause::InvalidResponse, &error.to_string(), "");
                    let slot = request.slot();
                    self.answer(clients, id, &Answer::CRASHED, Outcome::InvalidResponse, now);
                    if let Some(slot) = slot {
                        self.stop_guest(id, slot);
                    }
                    return Ok(());
                }
                clients.touch(key);
            }
            None => self.refill_window(id, 0),
        }
        if end {
            self.end_response(id, &[], clients, now);
        }
        Ok(())
    }

    /// The response is complete: its client may go on, the instance may still have something to do.
    fn end_response(&mut self, id: RequestId, trailers: &[http::Header<'_>], clients: &mut Clients, now: Instant) {
        let Some(request) = self.requests.get_mut(id) else { return };
        request.reply = Reply::Over;
        let Stage::HeadOut { slot } = request.stage else { return };
        if let Some(client) = request.client.and_then(|key| clients.get_mut(key)) {
            if let Err(error) = reply::end(&mut client.connection, request, trailers, now) {
                report::failed(&self.app, request, FailureCause::InvalidResponse, &error.to_string(), "");
                self.answer(clients, id, &Answer::CRASHED, Outcome::InvalidResponse, now);
            } else {
                client.request = None;
                request.client = None;
                request.trace.conclude(Outcome::Served, now);
                let key = client.key;
                clients.touch(key);
            }
        }
        if let Some(request) = self.requests.get_mut(id) {
            request.stage = Stage::Finishing { slot };
        }
    }

    fn handle_failed(&mut self, id: RequestId, failure: &Failure<'_>, clients: &mut Clients, now: Instant) {
        let Some(request) = self.requests.get_mut(id) else { return };
        request.reply = Reply::Over;
        match request.stage {
            Stage::Interrupted { .. } => {
                report::interrupted(&self.app, request, failure.backtrace);
                return;
            }
            Stage::Reading
            | Stage::Queued
            | Stage::Offered { .. }
            | Stage::Sent { .. }
            | Stage::HeadOut { .. }
            | Stage::Finishing { .. } => {}
        }
        report::failed(&self.app, request, failure.cause, failure.message, failure.backtrace);
        let (answer, outcome) = match failure.cause {
            FailureCause::Interrupted => (Answer::TIMED_OUT, Outcome::TimedOut),
            FailureCause::Trap => (Answer::CRASHED, Outcome::Trap),
            FailureCause::Memory => (Answer::CRASHED, Outcome::MemoryLimit),
            FailureCause::NoResponse => (Answer::CRASHED, Outcome::NoResponse),
            FailureCause::InvalidResponse => (Answer::CRASHED, Outcome::InvalidResponse),
            FailureCause::Internal => (Answer::CRASHED, Outcome::InternalError),
        };
        let slot = request.slot();
        self.answer(clients, id, &answer, outcome, now);
        if let (FailureCause::Trap | FailureCause::Memory, OnTrap::Exit, Some(slot)) =
            (failure.cause, self.on_trap, slot)
        {
            if let Some(offered) = self.pool.offered(slot) {
                self.withdraw(offered, now);
            }
            self.pool.retire(slot, Retirement::Trap);
        }
        if let (Some(request), Some(slot)) = (self.requests.get_mut(id), slot) {
            request.stage = Stage::Finishing { slot };
        }
    }

    fn handle_request_credit(
        &mut self,
        id: RequestId,
        bytes: u32,
        clients: &mut Clients,
        now: Instant,
    ) -> Result<(), Violation> {
        let Some(request) = self.requests.get_mut(id) else { return Ok(()) };
        request.deadline = now + self.request_timeout;
        match &mut request.upload {
            Upload::Open { credit } => {
                let raised = credit.checked_add(bytes).filter(|sum| *sum <= WINDOW_BYTES).ok_or(Violation::Credit)?;
                *credit = raised;
            }
            // The last grants cross the end of the body.
            Upload::Over | Upload::BrokenOff => {}
        }
        if let Some(client) = request.client {
            clients.touch(client);
        }
        Ok(())
    }

    fn handle_done(
        &mut self,
        id: RequestId,
        slot: SlotId,
        clients: &mut Clients,
        now: Instant,
    ) -> Result<(), Violation> {
        if let Some(request) = self.requests.get(id) {
            match request.stage {
                Stage::Sent { .. } | Stage::HeadOut { .. } => {
                    let message = "the worker ended the request without a response";
                    report::failed(&self.app, request, FailureCause::NoResponse, message, "");
                    self.answer(clients, id, &Answer::CRASHED, Outcome::NoResponse, now);
                }
                Stage::Reading
                | Stage::Queued
                | Stage::Offered { .. }
                | Stage::Finishing { .. }
                | Stage::Interrupted { .. } => {}
            }
        }
        self.note_start(id, slot);
        self.acquit(id, now);
        self.forget(id);
        match self.pool.release(slot, now, self.kill_grace) {
            Released::Free => Ok(()),
            Released::Retire(why) => {
                self.dismiss(slot, why);
                Ok(())
            }
            Released::Next(next) => {
                self.go_on(next, slot, now);
                Ok(())
            }
            Released::HadNone => Err(Violation::Unexpected("Done")),
        }
    }

    /// When the guest was given control, by its worker's word. A worker that has gone on to its next request says only when that one began: then this one began
    /// as soon as it could.
    fn note_start(&mut self, id: RequestId, slot: SlotId) {
        if let (Some(request), Some(entry)) = (self.requests.get_mut(id), worker(&mut self.workers, slot)) {
            let started_ns = if entry.page.started() == id { entry.page.started_at_ns() } else { 0 };
            request.trace.started_ns = started_ns.max(1);
        }
    }

    /// Nobody wants this response any more: the guest is interrupted, and killed if it does not let go.
    pub(super) fn stop_guest(&mut self, id: RequestId, slot: SlotId) {
        if let Some(request) = self.requests.get_mut(id) {
            request.stage = Stage::Finishing { slot };
        }
        self.send(slot, &ToWorker::Cancel { id });
    }
}
