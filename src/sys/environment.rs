//! What whoever started this process has handed over beside the arguments: variables, and descriptors at numbers that they name.

use std::io;
use std::os::fd::{BorrowedFd, FromRawFd as _, OwnedFd};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use super::fds::duplicate_above_reserved;

/// Removes a variable, so that no child of this process takes it for its own.
pub fn remove_variable(name: &str) {
    // SAFETY: this process has one thread, so that nobody reads the environment meanwhile.
    unsafe { std::env::remove_var(name) }
}

/// Has everything but the standard descriptors closed in each program that this process starts: what a careless parent has left open is
/// none of a worker's business. To be called first of all.
///
/// # Errors
///
/// There is no /proc to look them up in.
pub fn keep_descriptors_to_ourselves() -> io::Result<()> {
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let number = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
        if let Some(number) = number.filter(|number| *number > libc::STDERR_FILENO) {
            // SAFETY: borrowed for one call that fails when the number is not open; the list itself is one of them.
            let fd = unsafe { BorrowedFd::borrow_raw(number) };
            fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        }
    }
    Ok(())
}

/// Takes over a descriptor that is open at a number that the parent has named. It gets a number above those that workers' descriptors are moved
/// to, and is closed on exec.
///
/// # Errors
///
/// Nothing is open there.
pub fn take_descriptor(number: i32) -> io::Result<OwnedFd> {
    if number <= libc::STDERR_FILENO {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: borrowed for one call that fails when the number is not open.
    fcntl(unsafe { BorrowedFd::borrow_raw(number) }, FcntlArg::F_GETFD)?;
    // SAFETY: it is open, the parent has left it to this process, and this is called once for it, before anything else is opened.
    let handed = unsafe { OwnedFd::from_raw_fd(number) };
    duplicate_above_reserved(&handed)
}
