//! What this program takes from the process it runs in: descriptors, shared memory, signals, child processes, promises to the kernel.
//!
//! Owns the unsafe code of this crate, apart from the mapping of compiled components in `host::load` and what confines a process in
//! `sandbox`. `signals` has the handlers, `fork` the processes.
#![allow(unsafe_code, reason = "inherited descriptors and shared memory have no safe interface")]

pub mod fork;
pub mod signals;

use std::ffi::CStr;
use std::fmt;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::time::Instant;

use rusmd_proto::status::STATUS_PAGE_BYTES;
use rusmd_proto::{LINK_FD, STATUS_FD, StatusPage};
use rustix::fs::{FileType, fstat};
use rustix::mm::{MapFlags, ProtFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Descriptors that the supervisor made ready before it started this process.
#[derive(Debug)]
pub struct Inherited {
    pub link: OwnedFd,
    pub status: MappedStatus,
}

/// Takes the link and the status page. To be called once: the descriptors are owned from then on.
pub fn inherit() -> Result<Inherited, SysError> {
    // SAFETY: a descriptor number that is not open makes `fstat` fail with EBADF; it is not used for anything else here.
    let (link, status) = unsafe { (BorrowedFd::borrow_raw(LINK_FD), BorrowedFd::borrow_raw(STATUS_FD)) };
    if !is_socket(link) || !is_status_page(status) {
        return Err(SysError::NotStartedBySupervisor);
    }
    // SAFETY: both are open, as just seen, and nothing else in this process owns them.
    let (link, status) = unsafe { (OwnedFd::from_raw_fd(LINK_FD), OwnedFd::from_raw_fd(STATUS_FD)) };
    for descriptor in [&link, &status] {
        rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::CLOEXEC)
            .map_err(|errno| SysError::Settle(errno.into()))?;
    }
    Ok(Inherited { link, status: MappedStatus::shared(&status)? })
}

fn is_socket(descriptor: BorrowedFd<'_>) -> bool {
    fstat(descriptor).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Socket)
}

fn is_status_page(descriptor: BorrowedFd<'_>) -> bool {
    fstat(descriptor).is_ok_and(|stat| stat.st_size >= STATUS_PAGE_BYTES as i64)
}

/// A status page that this process has mapped, until it is dropped.
#[derive(Debug)]
pub struct MappedStatus(NonNull<StatusPage>);

impl MappedStatus {
    /// The page in a memory file of the supervisor's.
    pub fn shared(file: &OwnedFd) -> Result<MappedStatus, SysError> {
        if !is_status_page(file.as_fd()) {
            return Err(SysError::StatusPage(io::ErrorKind::UnexpectedEof.into()));
        }
        let flags = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice aliases nothing; the file is large enough, as just seen, and
        // sealed against shrinking.
        let page = unsafe { rustix::mm::mmap(ptr::null_mut(), STATUS_PAGE_BYTES, flags, MapFlags::SHARED, file, 0) };
        MappedStatus::of(page)
    }

    /// A page that no other process sees.
    pub fn private() -> Result<MappedStatus, SysError> {
        let flags = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: as above, with fresh zeroed memory.
        let page = unsafe { rustix::mm::mmap_anonymous(ptr::null_mut(), STATUS_PAGE_BYTES, flags, MapFlags::PRIVATE) };
        MappedStatus::of(page)
    }

    fn of(page: rustix::io::Result<*mut std::ffi::c_void>) -> Result<MappedStatus, SysError> {
        let page = page.map_err(|errno| SysError::StatusPage(errno.into()))?;
        NonNull::new(page.cast()).map(MappedStatus).ok_or(SysError::StatusPage(io::ErrorKind::OutOfMemory.into()))
    }

    /// Keeps the page mapped as long as the process lives.
    pub fn leak(self) -> &'static StatusPage {
        let page = self.0;
        std::mem::forget(self);
        // SAFETY: as in `deref`, and nothing unmaps the page any more.
        unsafe { page.as_ref() }
    }
}

impl Deref for MappedStatus {
    type Target = StatusPage;

    fn deref(&self) -> &StatusPage {
        // SAFETY: the mapping is page-aligned, is at least as large as the type (asserted in `proto`), lives as long as `self`, and
        // every bit pattern is valid for its atomics, which are the only way that either process touches it.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for MappedStatus {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `of` with this length, and no reference to it outlives `self`.
        let unmapped = unsafe { rustix::mm::munmap(self.0.as_ptr().cast(), STATUS_PAGE_BYTES) };
        debug_assert!(unmapped.is_ok(), "the mapping exists");
    }
}

/// Makes a template fit for its work: it dies with its supervisor, never gains privileges, and leaves no memory image behind. All but
/// the first is inherited by what it forks.
pub fn settle() -> Result<(), SysError> {
    signals::settle()?;
    die_with_parent()?;
    process_control(libc::PR_SET_NO_NEW_PRIVS, 1).map_err(SysError::Settle)?;
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(rustix::process::Resource::Core, none).map_err(|errno| SysError::Settle(errno.into()))
}

/// The kernel kills this process when its parent ends. Not inherited, and lost with a change of user.
pub fn die_with_parent() -> Result<(), SysError> {
    process_control(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong).map_err(SysError::Settle)
}

/// No process of the same user may look into this one. A template cannot do without: what it forks opens its own files in /proc.
pub fn hide_memory() -> Result<(), SysError> {
    process_control(libc::PR_SET_DUMPABLE, 0).map_err(SysError::Settle)
}

/// Whether this process is the child of that one.
pub fn is_child_of(pid: u32) -> bool {
    rustix::process::getppid().is_some_and(|parent| parent.as_raw_nonzero().get() as u32 == pid)
}

/// prctl(2), for options that take one number.
fn process_control(option: libc::c_int, value: libc::c_ulong) -> io::Result<()> {
    let zero: libc::c_ulong = 0;
    // SAFETY: the options that this is called with take plain integers and touch no memory of ours.
    match unsafe { libc::prctl(option, value, zero, zero, zero) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What `ps` shows this process as.
pub fn set_name(name: &CStr) {
    // A name that is not taken is missed by whoever looks, and by nobody else.
    let _ = rustix::thread::set_name(name);
}

/// The time by `CLOCK_MONOTONIC`, for the access log.
pub fn monotonic_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Registers a socket with the reactor of the runtime that this is called in, for reading.
pub fn watch(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is an open descriptor, the same for as long as it lives, and the `AsyncFd` owns it from now on.
    unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }.map_err(|error| error.into_parts().1)
}

/// The clock, for the one deadline that a template has.
#[allow(clippy::disallowed_methods, reason = "this is the module that may")]
pub fn now() -> Instant {
    Instant::now()
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
