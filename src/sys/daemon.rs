//! Leaves the session, the terminal and the parent behind: fork, setsid, fork (daemon(7)), with a pipe by which the parent learns what became of
//! it. What is told over the pipe is decided elsewhere.

use std::io::{PipeReader, PipeWriter};
use std::{io, process};

use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork, setsid};

/// Which of the two processes this is now.
#[derive(Debug)]
pub enum Side {
    /// The one that was started, which stays until it knows what to exit with. The pipe ends when the daemon is gone.
    Starter(PipeReader),
    /// The daemon: no session's leader, so that no terminal can ever become its own.
    Daemon(PipeWriter),
}

/// Makes a daemon of this process, and leaves a starter behind. To be called while the process has one thread and has opened nothing that
/// two must not have.
///
/// # Errors
///
/// In either process; the other, if it is there, sees the pipe end.
pub fn leave_session() -> io::Result<Side> {
    let (reader, writer) = io::pipe()?;
    // SAFETY: there is one thread, so that the child may do whatever it likes.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => {
            drop(writer);
            // Its status says nothing: the pipe does.
            let _ = waitpid(child, None);
            Ok(Side::Starter(reader))
        }
        ForkResult::Child => {
            drop(reader);
            setsid()?;
            // SAFETY: as above.
            match unsafe { fork() }? {
                ForkResult::Parent { .. } => process::exit(0),
                ForkResult::Child => Ok(Side::Daemon(writer)),
            }
        }
    }
}
