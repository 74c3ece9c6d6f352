//! Starts a template, by fork and exec, and makes what a worker that is forked from it is given.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rusmd_proto::{LINK_FD, STATUS_FD};

use crate::handover::VARIABLE;

use super::fds::duplicate_above_reserved;
use super::page::SharedPage;
use super::process::Process;

/// A template that was started and has said nothing yet.
#[derive(Debug)]
pub struct Spawned {
    pub process: Process,
    pub ends: OurEnds,
}

/// The supervisor's side of what it shares with one template or worker.
#[derive(Debug)]
pub struct OurEnds {
    /// Not blocking.
    pub link: UnixStream,
    pub page: SharedPage,
}

/// The other side: to be given away, and closed here.
#[derive(Debug)]
pub struct TheirEnds {
    pub link: OwnedFd,
    pub page: OwnedFd,
}

/// Makes a link and a status page.
pub fn make_ends() -> io::Result<(OurEnds, TheirEnds)> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let (page, page_fd) = SharedPage::create()?;
    Ok((OurEnds { link: ours, page }, TheirEnds { link: theirs.into(), page: page_fd }))
}

/// Starts `binary serve`. The environment is empty: what a guest may see is in the manifest, and what the operator's shell holds
/// is none of a worker's business. It inherits its link, its status page, its standard error, and no other descriptor.
pub fn spawn_template(binary: &Path) -> Result<Spawned, SpawnError> {
    let blame = |source| SpawnError { binary: binary.to_owned(), source };
    let (ends, theirs) = make_ends().map_err(blame)?;
    let link = duplicate_above_reserved(&theirs.link).map_err(blame)?;
    let page = duplicate_above_reserved(&theirs.page).map_err(blame)?;

    let mut command = Command::new(binary);
    command.arg("serve").env_clear().stdin(Stdio::null()).stdout(Stdio::null());
    move_descriptors(&mut command, [(&link, LINK_FD), (&page, STATUS_FD)]);
    let child = command.spawn().map_err(blame)?;
    let process = Process::open(child.id()).map_err(blame)?;
    Ok(Spawned { process, ends })
}

/// Starts the program that takes over from this one, with the arguments of this one, in the directory where this one was started. It
/// finds `handover` at the number that [`VARIABLE`] has.
pub fn spawn_successor(program: &Path, directory: &Path, handover: &OwnedFd) -> io::Result<Process> {
    let handover = duplicate_above_reserved(handover)?;
    let mut command = Command::new(program);
    command.args(std::env::args_os().skip(1)).current_dir(directory).env(VARIABLE, LINK_FD.to_string());
    move_descriptors(&mut command, [(&handover, LINK_FD)]);
    let child = command.spawn()?;
    Process::open(child.id())
}

/// Has the child move descriptors to the numbers that it expects. The copies at those numbers are the only ones that outlive `exec`.
fn move_descriptors<const N: usize>(command: &mut Command, moves: [(&OwnedFd, i32); N]) {
    let moves = moves.map(|(fd, to)| (fd.as_raw_fd(), to));
    let in_child = move || {
        for (from, to) in moves {
            // SAFETY: dup2 takes two integers. `to` is held by `reserve_worker_descriptors` in the parent, so that what it
            // closes here is only that placeholder.
            if unsafe { libc::dup2(from, to) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure calls dup2(2) alone, which is async-signal-safe, and allocates nothing on success.
    unsafe { command.pre_exec(in_child) };
}

/// A template could not be started.
#[derive(Debug)]
pub struct SpawnError {
    binary: PathBuf,
    source: io::Error,
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot start the worker {}", self.binary.display())
    }
}

impl std::error::Error for SpawnError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}
