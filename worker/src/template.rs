//! `rusmd-worker serve`: the template, which loads everything once and forks the workers that serve.
//!
//! Owns the handshake and the loop over `Fork`. Has one thread and no reactor, and never runs a guest: whatever it had, every worker
//! would have. `probe` asks components for their actions, `worker` is what becomes of the other side of a fork.

use std::io;
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use rusmd_proto::frame::Kind;
use rusmd_proto::limits::{FAILURE_TEXT_BYTES_MAX, PROTOCOL_VERSION};
use rusmd_proto::message::cut_text;
use rusmd_proto::{
    BUILD, CodecError, ComponentInfo, ForkFailed, Frame, FrameHeader, Hello, Ready, Refused, ToSupervisor, ToWorker,
};

use crate::error::ServeError;
use crate::link::{Link, LinkError, Received};
use crate::probe;
use crate::requests::Illegal;
use crate::sandbox::Sandbox;
use crate::service::Service;
use crate::sys::fork::{Side, fork_orphan};
use crate::sys::{self, Inherited, MappedStatus};
use crate::worker::{self, Birth};

/// A template once it is ready.
#[derive(Debug)]
struct Template<S> {
    link: Link,
    supervisor_pid: u32,
    service: S,
    sandbox: Sandbox,
}

/// How the handshake ended.
enum Handshake<S> {
    Ready(Box<Template<S>>),
    /// The supervisor left before it was over.
    Ended,
    /// The supervisor cannot be served, and has been told why.
    Refused,
}

/// Loads and forks until the link ends. Returns in every worker too, when that has served.
pub fn serve<S: Service>() -> Result<ExitCode, ServeError> {
    sys::settle()?;
    sys::set_name(c"rusmd-template");
    let Inherited { link, status } = sys::inherit()?;
    match Template::<S>::handshake(Link::new(link), status)? {
        Handshake::Ready(template) => template.fork_all(),
        Handshake::Ended => Ok(ExitCode::SUCCESS),
        Handshake::Refused => Ok(ExitCode::FAILURE),
    }
}

impl<S: Service> Template<S> {
    /// Learns what to load and how to confine, and does what can be done of that before the first fork.
    fn handshake(mut link: Link, mut status: MappedStatus) -> Result<Handshake<S>, ServeError> {
        let Some((header, payload)) = first_frame(&mut link)? else {
            return Ok(Handshake::Ended);
        };
        let hello = match ToWorker::decode(&Frame { header, payload: &payload }) {
            Ok(ToWorker::Hello(hello)) if hello.build == BUILD => hello,
            Ok(ToWorker::Hello(Hello { build, .. })) => {
                return refuse(link, &format!("build {build} of rusmd, but this is rusmd-worker {BUILD}"));
            }
            Err(error @ CodecError::WrongVersion { .. }) => return refuse(link, &error.to_string()),
            Err(error) => return Err(error.into()),
            Ok(_) => return Err(Illegal::Unexpected(header.kind).into()),
        };
        let mut service = match S::load(&hello, &status) {
            Ok(service) => service,
            Err(message) => return refuse(link, &message),
        };
        status.store_loading(None);
        let mut sandbox = match Sandbox::prepare(&hello) {
            Ok(sandbox) => sandbox,
            Err(refusal) => return refuse(link, &refusal.to_string()),
        };
        match probe::ask_all(&mut service, &mut sandbox, &mut link, &mut status) {
            Err(ServeError::Sandbox(refusal)) => return refuse(link, &refusal.to_string()),
            asked => asked?,
        }
        let ready = Ready {
            protocol: PROTOCOL_VERSION,
            build: BUILD,
            sandbox: sandbox.level(),
            sandbox_missing: sandbox.missing().to_vec(),
            components: service.kinds().into_iter().map(|kind| ComponentInfo { kind }).collect(),
        };
        link.outbox().push(&ToSupervisor::Ready(ready))?;
        link.flush()?;
        let supervisor_pid = hello.supervisor_pid;
        Ok(Handshake::Ready(Box::new(Template { link, supervisor_pid, service, sandbox })))
    }

    /// One fork after the other.
    fn fork_all(mut self) -> Result<ExitCode, ServeError> {
        let mut descriptors = Vec::new();
        loop {
            let order = self.link.next_frame(|frame| match ToWorker::decode(frame)? {
                ToWorker::Fork { slot } => Ok(slot),
                _ => Err(ServeError::from(Illegal::Unexpected(frame.header.kind))),
            })?;
            match order {
                Some(slot) => {
                    let (link, status) = both(&mut descriptors)?;
                    let forked = match fork_orphan() {
                        Ok(Side::Child) => return worker::run(self.bear(slot, link, status)),
                        Ok(Side::Parent(pid)) => Ok(pid),
                        Err(error) => Err(error),
                    };
                    // The worker's alone from here on: it must see the end of its link when the supervisor closes it.
                    drop((link, status));
                    self.tell(slot, forked)?;
                }
                None if self.link.receive_with_descriptors(&mut descriptors)? == Received::Ended => {
                    return Ok(ExitCode::SUCCESS);
                }
                None => {}
            }
        }
    }

    fn tell(&mut self, slot: u32, forked: io::Result<u32>) -> Result<(), ServeError> {
        let outbox = self.link.outbox();
        match forked {
            Ok(pid) => outbox.push(&ToSupervisor::Forked { slot, pid })?,
            Err(error) => {
                let message = error.to_string();
                let message = cut_text(&message, FAILURE_TEXT_BYTES_MAX);
                outbox.push(&ToSupervisor::ForkFailed(ForkFailed { slot, message }))?;
            }
        }
        Ok(self.link.flush()?)
    }

    /// In the worker: lets go of what is the template's alone.
    fn bear(self, slot: u32, link: OwnedFd, status: OwnedFd) -> Birth<S> {
        let Template { link: _, supervisor_pid, service, sandbox } = self;
        Birth { service, sandbox, supervisor_pid, slot, link, status }
    }
}

/// The two descriptors that come with `Fork`.
fn both(descriptors: &mut Vec<OwnedFd>) -> Result<(OwnedFd, OwnedFd), ServeError> {
    match (descriptors.pop(), descriptors.pop(), descriptors.is_empty()) {
        (Some(status), Some(link), true) => Ok((link, status)),
        _ => Err(LinkError::Descriptors.into()),
    }
}

/// The frame that opens the handshake, or `None` when the supervisor left before.
fn first_frame(link: &mut Link) -> Result<Option<(FrameHeader, Vec<u8>)>, ServeError> {
    loop {
        let frame = link.next_frame(|frame| match frame.header.kind {
            Kind::Hello => Ok((frame.header, frame.payload.to_vec())),
            kind => Err(Illegal::Unexpected(kind)),
        })?;
        if frame.is_some() {
            return Ok(frame);
        }
        if link.receive()? == Received::Ended {
            return Ok(None);
        }
    }
}

fn refuse<S>(mut link: Link, message: &str) -> Result<Handshake<S>, ServeError> {
    let message = cut_text(message, FAILURE_TEXT_BYTES_MAX);
    link.outbox().push(&ToSupervisor::Refused(Refused { protocol: PROTOCOL_VERSION, message }))?;
    link.flush()?;
    Ok(Handshake::Refused)
}
