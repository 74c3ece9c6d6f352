//! Descriptors: which numbers the children find theirs at, and how many this process may have.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rusmd_proto::{LINK_FD, STATUS_FD};

/// Takes the numbers that a worker's descriptors are moved to, so that nothing else of this process ever has them.
///
/// `Command` reports a failed `exec` over a pipe of its own; had that pipe one of these numbers, moving a descriptor there
/// would close it, and a missing worker binary would look like a worker that started and died.
pub fn reserve_worker_descriptors() -> io::Result<Vec<OwnedFd>> {
    let mut held = Vec::new();
    loop {
        let fd = OwnedFd::from(File::open("/dev/null")?);
        if fd.as_raw_fd() > LINK_FD.max(STATUS_FD) {
            return Ok(held);
        }
        held.push(fd);
    }
}

/// A close-on-exec duplicate whose number lies above those that a worker's descriptors are moved to.
pub(super) fn duplicate_above_reserved(fd: &impl std::os::fd::AsFd) -> io::Result<OwnedFd> {
    let floor = LINK_FD.max(STATUS_FD) + 1;
    let raw = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(floor))?;
    // SAFETY: fcntl(2) has just made this descriptor, and nothing else knows its number.
    Ok(unsafe { std::os::fd::FromRawFd::from_raw_fd(raw) })
}

/// Has reads and writes of this descriptor return at once.
pub fn set_nonblocking(fd: &impl std::os::fd::AsFd) -> io::Result<()> {
    let flags = nix::fcntl::OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | nix::fcntl::OFlag::O_NONBLOCK))?;
    Ok(())
}

/// Raises the soft limit of open descriptors to the hard one, and returns it.
pub fn open_descriptors_max() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}
