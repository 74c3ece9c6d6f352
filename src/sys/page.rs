//! The supervisor's mapping of one worker's status page.

use std::ffi::c_void;
use std::io;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::unistd::ftruncate;
use rusmd_proto::StatusPage;
use rusmd_proto::status::STATUS_PAGE_BYTES;

/// A mapped status page. Derefs to its words.
#[derive(Debug)]
pub struct SharedPage {
    base: NonNull<c_void>,
}

const PAGE_BYTES: NonZeroUsize = NonZeroUsize::new(STATUS_PAGE_BYTES).expect("the page has a size");

impl SharedPage {
    /// Makes a page of zeros and the descriptor by which the worker maps it too. The file can be neither shrunk nor grown, so
    /// that no access of the supervisor's can fault whatever the worker does.
    pub fn create() -> io::Result<(SharedPage, OwnedFd)> {
        let file = memfd_create(c"rusmd-status", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
        ftruncate(&file, STATUS_PAGE_BYTES as i64)?;
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory that Rust knows of.
        let base = unsafe { mmap(None, PAGE_BYTES, protection, MapFlags::MAP_SHARED, &file, 0)? };
        Ok((SharedPage { base }, file))
    }
}

impl Deref for SharedPage {
    type Target = StatusPage;

    fn deref(&self) -> &StatusPage {
        // SAFETY: `base` is page-aligned, maps STATUS_PAGE_BYTES >= size_of::<StatusPage>() bytes until drop, and the type is
        // made of atomics alone, for which every bit pattern is valid and concurrent writes by the worker are no data race.
        unsafe { self.base.cast::<StatusPage>().as_ref() }
    }
}

impl Drop for SharedPage {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `create` with this length, and no reference into it outlives `self`.
        let unmapped = unsafe { munmap(self.base, STATUS_PAGE_BYTES) };
        debug_assert!(unmapped.is_ok());
    }
}
