//! The first steps of a process that was forked to serve.
//!
//! Owns what comes between the fork and the first request: it lets go of what is its template's, waits until the supervisor knows it, and
//! confines itself. `template` hands over, `Service::serve` takes over.

use std::os::fd::OwnedFd;
use std::process::ExitCode;

use rusmd_proto::limits::PROTOCOL_VERSION;
use rusmd_proto::{Refused, ToSupervisor, ToWorker};

use crate::error::ServeError;
use crate::link::{Link, Received};
use crate::requests::Illegal;
use crate::sandbox::Sandbox;
use crate::service::{Seat, Service};
use crate::sys::{self, MappedStatus};

/// What a worker is given by its template.
#[derive(Debug)]
pub struct Birth<S> {
    pub service: S,
    pub sandbox: Sandbox,
    pub supervisor_pid: u32,
    pub slot: u32,
    pub link: OwnedFd,
    pub status: OwnedFd,
}

/// Serves until the link ends.
pub fn run<S: Service>(birth: Birth<S>) -> Result<ExitCode, ServeError> {
    sys::set_name(c"rusmd-worker");
    let Birth { mut service, mut sandbox, supervisor_pid, slot, link, status } = birth;
    let mapped = MappedStatus::shared(&status)?;
    drop(status);
    let mut link = Link::new(link);
    if !begins(&mut link, slot)? {
        return Ok(ExitCode::SUCCESS);
    }
    sys::die_with_parent()?;
    // Its end would have gone unnoticed before that; an orphan has another parent by now.
    if !sys::is_child_of(supervisor_pid) {
        return Ok(ExitCode::SUCCESS);
    }
    service.open()?;
    if let Err(error) = sandbox.confine() {
        let message = error.to_string();
        link.outbox().push(&ToSupervisor::Refused(Refused { protocol: PROTOCOL_VERSION, message: &message }))?;
        link.flush()?;
        return Ok(ExitCode::FAILURE);
    }
    link.outbox().push(&ToSupervisor::Begun)?;
    link.flush()?;
    service.serve(Seat { link, status: mapped.leak() }).map(|()| ExitCode::SUCCESS)
}

/// Waits for `Begin`. False when the link ends before.
fn begins(link: &mut Link, slot: u32) -> Result<bool, ServeError> {
    loop {
        let begun = link.next_frame(|frame| match ToWorker::decode(frame)? {
            ToWorker::Begin { slot: told } if told == slot => Ok(()),
            _ => Err(ServeError::from(Illegal::Unexpected(frame.header.kind))),
        })?;
        if begun.is_some() {
            return Ok(true);
        }
        if link.receive()? == Received::Ended {
            return Ok(false);
        }
    }
}
