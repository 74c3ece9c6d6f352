//! One child process, held by a pidfd (pidfd_open(2)): signals that can never hit a recycled pid, and its death as an event.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// A child that has not been reaped yet.
#[derive(Debug)]
pub struct Process {
    pid: i32,
    pidfd: OwnedFd,
}

/// How a child ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

/// What a child used, over its whole life (getrusage(2)).
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    pub user: Duration,
    pub system: Duration,
    pub memory_kib_max: i64,
}

impl Process {
    /// Takes a child of this process that nobody has reaped.
    pub(super) fn open(pid: u32) -> io::Result<Process> {
        let pid = pid as libc::pid_t;
        // SAFETY: pidfd_open takes two integers and touches no memory.
        let raw = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call has just made this descriptor (close-on-exec, as all pidfds are), and nothing else knows its number.
        let pidfd = unsafe { OwnedFd::from_raw_fd(raw as i32) };
        Ok(Process { pid, pidfd })
    }

    /// Takes a process that somebody else says is a child of this one. A pid that is not is refused with `ECHILD`: nothing may be signalled on the word
    /// of another. Any other error is this process's own want.
    pub fn adopt(pid: u32) -> io::Result<Process> {
        let id = libc::id_t::from(pid);
        // SAFETY: an all-zero siginfo is a valid value of that plain C structure, and waitid writes to a live local. WNOWAIT leaves a child
        // that has ended unreaped, so that its pid cannot be given to another process before it is opened.
        let known = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            libc::waitid(libc::P_PID, id, &mut info, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT)
        };
        match known {
            _ if pid == 0 => return Err(io::Error::from_raw_os_error(libc::ECHILD)),
            0 => {}
            _ => return Err(io::Error::last_os_error()),
        }
        Process::open(pid)
    }

    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Sends a signal. A process that is already dead is not an error.
    pub fn signal(&self, signal: i32) {
        // SAFETY: pidfd_send_signal with a null siginfo reads no memory of ours.
        let sent = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.pidfd.as_raw_fd(),
                signal,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        if sent < 0 {
            let error = io::Error::last_os_error();
            debug_assert_eq!(error.raw_os_error(), Some(libc::ESRCH), "pidfd_send_signal: {error}");
        }
    }

    /// Reaps the child if it has ended; `None` while it lives.
    pub fn try_reap(&self) -> io::Result<Option<(Exit, Usage)>> {
        let mut status = 0;
        // SAFETY: an all-zero rusage is a valid value of that plain C structure.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: both pointers are to live locals of the types that wait4(2) writes.
        let reaped = unsafe { libc::wait4(self.pid, &mut status, libc::WNOHANG, &mut usage) };
        match reaped {
            0 => Ok(None),
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(Some((Exit::from_status(status), Usage::from_raw(&usage)))),
        }
    }
}

/// Has the kernel keep ended children until they are reaped, even if the parent of this process had told it to throw them away: an
/// ignored SIGCHLD outlives `exec` (sigaction(2)).
pub fn keep_ended_children() {
    // SAFETY: signal(2) with SIG_DFL installs no code of ours.
    unsafe {
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
    }
}

/// Makes this process the parent of orphans below it (`PR_SET_CHILD_SUBREAPER`, prctl(2)): workers are forked by way of a process that
/// ends at once.
pub fn adopt_orphans() -> io::Result<()> {
    // SAFETY: this option takes plain integers and touches no memory of ours.
    match unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Reaps the children that have ended and that nobody waits for: what a template left behind when it died in mid-fork. True if one such lives.
pub fn reap_strangers(is_known: impl Fn(i32) -> bool) -> bool {
    let mut one_lives = false;
    let children = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    for pid in children.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()).filter(|pid| !is_known(*pid)) {
        let mut status = 0;
        // SAFETY: waitpid writes to a live local; a child that lives is left alone.
        one_lives |= unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG) } == 0;
    }
    one_lives
}

/// The clock that [`std::time::Instant`] reads on Linux, in nanoseconds: workers tell times by it.
pub fn monotonic_ns() -> u64 {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)
        .map_or(0, |time| time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl Exit {
    fn from_status(status: i32) -> Exit {
        if libc::WIFSIGNALED(status) {
            Exit::Signal(libc::WTERMSIG(status))
        } else {
            Exit::Code(libc::WEXITSTATUS(status))
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exit code {code}"),
            Exit::Signal(number) => match nix::sys::signal::Signal::try_from(*number) {
                Ok(signal) => write!(f, "signal {}", signal.as_str()),
                Err(_) => write!(f, "signal {number}"),
            },
        }
    }
}

impl Usage {
    fn from_raw(raw: &libc::rusage) -> Usage {
        Usage { user: duration(raw.ru_utime), system: duration(raw.ru_stime), memory_kib_max: raw.ru_maxrss }
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "user {:.3} s, system {:.3} s, peak {} KiB",
            self.user.as_secs_f64(),
            self.system.as_secs_f64(),
            self.memory_kib_max
        )
    }
}

fn duration(time: libc::timeval) -> Duration {
    Duration::from_secs(time.tv_sec.max(0) as u64) + Duration::from_micros(time.tv_usec.max(0) as u64)
}
