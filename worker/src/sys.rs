//! What the worker takes from the process it was started in: two descriptors, one signal, a few promises to the kernel.
//!
//! Owns the unsafe code of this crate, apart from the mapping of compiled components in `host::load`. Each function runs
//! once, at start, before there is a guest.
#![allow(unsafe_code, reason = "inherited descriptors, shared memory and signal handlers have no safe interface")]

use std::fmt;
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::time::Duration;

use rusmd_proto::status::STATUS_PAGE_BYTES;
use rusmd_proto::{LINK_FD, STATUS_FD, StatusPage};
use rustix::fs::{FileType, fstat};
use rustix::mm::{MapFlags, ProtFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use wasmtime::Engine;

/// Descriptors that the supervisor made ready before it started this process.
#[derive(Debug)]
pub struct Inherited {
    pub link: OwnedFd,
    pub status: &'static StatusPage,
}

/// Takes the link and the status page. To be called once: the descriptors are owned from then on.
pub fn inherit() -> Result<Inherited, SysError> {
    // SAFETY: a descriptor number that is not open makes `fstat` fail with EBADF; it is not used for anything else here.
    let (link, status) = unsafe { (BorrowedFd::borrow_raw(LINK_FD), BorrowedFd::borrow_raw(STATUS_FD)) };
    let link_type = fstat(link).map(|stat| FileType::from_raw_mode(stat.st_mode));
    let status_bytes = fstat(status).map(|stat| stat.st_size);
    if !matches!(link_type, Ok(FileType::Socket))
        || !matches!(status_bytes, Ok(bytes) if bytes >= STATUS_PAGE_BYTES as i64)
    {
        return Err(SysError::NotStartedBySupervisor);
    }
    // SAFETY: a new mapping at an address of the kernel's choice aliases nothing; the file is large enough, as just seen.
    let page = unsafe {
        rustix::mm::mmap(
            std::ptr::null_mut(),
            STATUS_PAGE_BYTES,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED,
            status,
            0,
        )
    }
    .map_err(|errno| SysError::StatusPage(errno.into()))?;
    // SAFETY: the mapping is page-aligned, is at least as large as the type (asserted in `proto`), is never unmapped, and
    // every bit pattern is valid for its atomics, which are the only way that either process touches it.
    let status_page = unsafe { &*page.cast::<StatusPage>() };
    // SAFETY: both are open, as seen above, and nothing else in this process owns them; the mapping outlives its descriptor.
    let (link, status) = unsafe { (OwnedFd::from_raw_fd(LINK_FD), OwnedFd::from_raw_fd(STATUS_FD)) };
    drop(status);
    Ok(Inherited { link, status: status_page })
}

/// What the handlers increment: one engine for each flavor that is in use, in slots that are set once.
static ENGINES: [AtomicPtr<Engine>; 2] = [AtomicPtr::new(ptr::null_mut()), AtomicPtr::new(ptr::null_mut())];

/// Whether an alarm is set, and whether one has come that nobody has taken note of.
static ALARM_SET: AtomicBool = AtomicBool::new(false);
static ALARM_CAME: AtomicBool = AtomicBool::new(false);

/// From now on SIGUSR1 and the alarm make guests of this engine look up at their next loop or call. The engine lives as long as the
/// process; there are no more engines than flavors, and one more would not be heeded.
pub fn watch_engine(engine: Engine) -> Result<(), SysError> {
    let engine = Box::into_raw(Box::new(engine));
    for slot in &ENGINES {
        if slot.compare_exchange(ptr::null_mut(), engine, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            break;
        }
    }
    set_handler(libc::SIGUSR1, on_interrupt as *const () as libc::sighandler_t)?;
    set_handler(libc::SIGALRM, on_alarm as *const () as libc::sighandler_t)
}

extern "C" fn on_interrupt(_: libc::c_int) {
    for slot in &ENGINES {
        // SAFETY: the pointer is null or came from `Box::into_raw` in `watch_engine` and is never freed. `increment_epoch` is one
        // atomic addition, which wasmtime documents as safe in signal handlers; it touches no errno.
        if let Some(engine) = unsafe { slot.load(Ordering::Acquire).as_ref() } {
            engine.increment_epoch();
        }
    }
}

extern "C" fn on_alarm(signal: libc::c_int) {
    ALARM_SET.store(false, Ordering::SeqCst);
    ALARM_CAME.store(true, Ordering::SeqCst);
    on_interrupt(signal);
}

/// Makes running guests look up after this time. With an alarm set already, that one stands: one that comes for nothing costs less than
/// taking it back.
pub fn set_alarm(after: Duration) {
    if !ALARM_SET.swap(true, Ordering::SeqCst) {
        set_timer(after);
    }
}

/// Takes the alarm back.
pub fn cancel_alarm() {
    set_timer(Duration::ZERO);
    ALARM_SET.store(false, Ordering::SeqCst);
    ALARM_CAME.store(false, Ordering::SeqCst);
}

/// setitimer(2); zero stops it.
fn set_timer(after: Duration) {
    let zero = libc::timeval { tv_sec: 0, tv_usec: 0 };
    let value = libc::timeval {
        tv_sec: after.as_secs() as libc::time_t,
        tv_usec: libc::suseconds_t::from(after.subsec_micros()),
    };
    let timer = libc::itimerval { it_interval: zero, it_value: value };
    // SAFETY: setitimer reads one structure, which lives until it returns, and is not asked for the old one.
    let set = unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, ptr::null_mut()) };
    debug_assert_eq!(set, 0, "the timer exists and the time is valid");
}

/// Whether an alarm has come since the last call.
pub fn take_alarm() -> bool {
    ALARM_CAME.load(Ordering::Relaxed) && ALARM_CAME.swap(false, Ordering::SeqCst)
}

/// A fault that no guest caused ends the process, as it would without wasmtime. wasmtime's own handlers, which are installed later,
/// pass on what is not theirs; without this a SIGSEGV that somebody sends would be taken for handled, and the process would go on.
fn end_on_faults() -> Result<(), SysError> {
    extern "C" fn on_fault(signal: libc::c_int) {
        // SAFETY: signal(2) and raise(3) are async-signal-safe. The signal is blocked while its handler runs: it is delivered, with its
        // default action, on return. So is a real fault, by the instruction that is run again.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
            libc::raise(signal);
        }
    }
    for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE] {
        set_handler(signal, on_fault as *const () as libc::sighandler_t)?;
    }
    Ok(())
}

/// Makes the process fit for guests: it dies with its supervisor, decides by its link when to end rather than by the
/// signals of a terminal, never gains privileges, and leaves no memory image behind.
pub fn settle() -> Result<(), SysError> {
    end_on_faults()?;
    for signal in
        [libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGTERM, libc::SIGUSR1, libc::SIGUSR2, libc::SIGPIPE]
    {
        set_handler(signal, libc::SIG_IGN)?;
    }
    let zero: libc::c_ulong = 0;
    let one: libc::c_ulong = 1;
    for (option, value) in [
        (libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong),
        (libc::PR_SET_NO_NEW_PRIVS, one),
        (libc::PR_SET_DUMPABLE, zero),
    ] {
        // SAFETY: these options take plain integers and touch no memory of ours.
        if unsafe { libc::prctl(option, value, zero, zero, zero) } != 0 {
            return Err(SysError::Settle(io::Error::last_os_error()));
        }
    }
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(rustix::process::Resource::Core, none).map_err(|errno| SysError::Settle(errno.into()))
}

/// Registers a socket with the reactor of the runtime that this is called in, for reading.
pub fn watch(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is an open descriptor, the same for as long as it lives, and the `AsyncFd` owns it from now on.
    unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }.map_err(|error| error.into_parts().1)
}

fn set_handler(signal: libc::c_int, handler: libc::sighandler_t) -> Result<(), SysError> {
    // SAFETY: all-zero bytes are a valid `sigaction`: no flags, an empty mask, the default action.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler;
    // On the alternate stack that wasmtime installs when there is one: a guest may have used up the ordinary one.
    action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
    // SAFETY: the handler is SIG_IGN or one of this module's, which do only what is safe in a signal handler.
    match unsafe { libc::sigaction(signal, &action, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(SysError::Settle(io::Error::last_os_error())),
    }
}

/// Why the process is not fit to serve.
#[derive(Debug)]
pub enum SysError {
    NotStartedBySupervisor,
    StatusPage(io::Error),
    Settle(io::Error),
}

impl fmt::Display for SysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SysError::NotStartedBySupervisor => write!(
                f,
                "`serve` is started by rusmd, with a link on descriptor {LINK_FD} and a status page on descriptor {STATUS_FD}"
            ),
            SysError::StatusPage(error) => write!(f, "cannot map the status page: {error}"),
            SysError::Settle(error) => write!(f, "cannot settle the process: {error}"),
        }
    }
}

impl std::error::Error for SysError {}
