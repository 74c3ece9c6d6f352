//! Processes that a template makes: a worker, which is not its child, and a probe, which is.
//!
//! Owns fork, wait and kill. Only the C library's fork(3) will do: wasmtime has told it (pthread_atfork(3)) to give each child a
//! descriptor for the child's own pages, and would reset its parent's memory without.
#![allow(unsafe_code, reason = "fork has no safe interface")]

use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

/// Which of the two this process is after a fork.
#[derive(Debug)]
pub enum Side<P> {
    Parent(P),
    Child,
}

/// Forks. The caller must have one thread.
pub fn fork() -> io::Result<Side<Child>> {
    // SAFETY: a template has one thread (it has no runtime, and wasmtime starts none to load and to run), so the child finds no lock
    // taken by a thread that it does not have, and may do what any process may.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Side::Child),
        pid => match Pid::from_raw(pid) {
            Some(pid) => Ok(Side::Parent(Child { pid: Some(pid) })),
            None => Err(io::ErrorKind::InvalidData.into()),
        },
    }
}

/// Forks a process that is no child of this one: the child that forks it ends at once, and it passes to whoever takes in orphans.
/// The parent is told its id, after that has happened.
pub fn fork_orphan() -> io::Result<Side<u32>> {
    let (mut told, tell) = io::pipe()?;
    match fork()? {
        Side::Parent(mut between) => {
            drop(tell);
            let mut answer = [0; 4];
            let told = told.read_exact(&mut answer);
            let ended = between.wait()?;
            told.map_err(|_| io::Error::other(format!("the process between ended with {ended}")))?;
            match i32::from_le_bytes(answer) {
                pid @ 1.. => Ok(Side::Parent(pid.unsigned_abs())),
                errno => Err(io::Error::from_raw_os_error(-errno)),
            }
        }
        Side::Child => {
            drop(told);
            match fork() {
                Ok(Side::Child) => Ok(Side::Child),
                Ok(Side::Parent(mut orphan)) => pass_on(tell, orphan.forget()),
                Err(error) => pass_on(tell, -error.raw_os_error().unwrap_or(libc::EAGAIN)),
            }
        }
    }
}

fn pass_on(mut tell: io::PipeWriter, answer: i32) -> ! {
    let told = tell.write_all(&answer.to_le_bytes());
    exit_now(i32::from(told.is_err()))
}

/// Ends a forked process without what its parent has arranged for its own end.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit takes a number and does not return.
    unsafe { libc::_exit(code) }
}

/// A child process of this one, which is killed and waited for at the latest when this is dropped.
#[derive(Debug)]
pub struct Child {
    pid: Option<Pid>,
}

impl Child {
    /// Waits for its end.
    pub fn wait(&mut self) -> io::Result<Ended> {
        let Some(pid) = self.pid else { return Err(io::ErrorKind::NotFound.into()) };
        loop {
            match waitpid(Some(pid), WaitOptions::empty()) {
                Ok(Some((_, status))) => {
                    self.pid = None;
                    return Ok(Ended(ExitStatus::from_raw(status.as_raw())));
                }
                Ok(None) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    pub fn kill(&self) {
        if let Some(pid) = self.pid {
            // It has not been waited for, so that the id is still its own; if it has ended already, that is as well.
            let _ = kill_process(pid, Signal::KILL);
        }
    }

    /// Leaves it alone, and gives its id.
    fn forget(&mut self) -> i32 {
        self.pid.take().map_or(0, |pid| pid.as_raw_nonzero().get())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
        let _ = self.wait();
    }
}

/// How a child ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended(ExitStatus);

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.code(), self.0.signal()) {
            (Some(code), _) => write!(f, "exit code {code}"),
            (None, Some(libc::SIGSYS)) => write!(f, "signal {} (a system call that the sandbox forbids)", libc::SIGSYS),
            (None, Some(signal)) => write!(f, "signal {signal}"),
            (None, None) => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_child_is_told_in_words() {
        for (raw, words) in [(3 << 8, "exit code 3"), (libc::SIGKILL, "signal 9"), (libc::SIGSYS, "forbids")] {
            let ended = Ended(ExitStatus::from_raw(raw)).to_string();
            assert!(ended.contains(words), "{ended}");
        }
    }
}
