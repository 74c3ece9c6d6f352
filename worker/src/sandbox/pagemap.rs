//! The descriptor by which wasmtime asks which pages were written: `/proc/self/pagemap`, opened in each fork.
//!
//! What it tells depends on who opened it: with `CAP_SYS_ADMIN` it tells where pages are in the machine's memory (proc_pid_pagemap(5)), and
//! would still do so when the capability is long gone. So it is opened anew without.
#![allow(unsafe_code, reason = "a descriptor that another owns can be replaced in no other way")]

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, RawFd};

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

/// Replaces it in its place, while `/proc` can be seen. Does nothing where it tells no secrets, or is not there.
pub fn open_without_privileges() -> io::Result<()> {
    let sets = capabilities(None)?;
    let Some(place) = find()?.filter(|_| sets.effective.contains(CapabilitySet::SYS_ADMIN)) else { return Ok(()) };
    set_capabilities(None, CapabilitySets { effective: CapabilitySet::empty(), ..sets })?;
    let opened = File::open("/proc/self/pagemap");
    set_capabilities(None, sets)?;
    let opened = opened?;
    // SAFETY: dup3 takes integers. `place` is open, as just seen in a process of one thread, and who owns it goes on with the same file,
    // opened anew; `opened` is closed at the end of this function.
    match unsafe { libc::dup3(opened.as_raw_fd(), place, libc::O_CLOEXEC) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn find() -> io::Result<Option<RawFd>> {
    for entry in fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        if fs::read_link(entry.path()).is_ok_and(|target| target.ends_with("pagemap")) {
            return Ok(entry.file_name().to_str().and_then(|name| name.parse().ok()));
        }
    }
    Ok(None)
}
