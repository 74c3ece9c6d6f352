//! Files below a directory: opened without a way out of it, told apart from what only looks like a file, and sent.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, setfsgid, setfsuid};

use super::Identity;

/// How often a lookup that met a rename is begun again (openat2(2), `EAGAIN`).
const LOOKUPS_MAX: usize = 4;

/// Opens a directory for [`open_beneath`].
///
/// # Errors
///
/// It is not one, cannot be read, or the kernel is older than openat2(2) (Linux 5.6).
pub fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let directory = open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    // Whether there is a way in is known now, not at the first request.
    openat2(&directory, ".", how(OFlag::O_PATH))?;
    Ok(directory)
}

/// Opens a file for reading that is one: never waits for a writer at the other end of a fifo, and wakes no device.
///
/// # Errors
///
/// As of open(2), or it is something else.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let file = File::from(open(path, flags, Mode::empty())?);
    let kind = file.metadata()?.file_type();
    if kind.is_file() {
        Ok(file)
    } else if kind.is_dir() {
        Err(Errno::EISDIR.into())
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"))
    }
}

/// Opens what `name` leads to, for reading. Nothing on the way may lead out of `directory`: not `..`, not an absolute path or link, not a
/// link of `/proc` (openat2(2), `RESOLVE_BENEATH`). Never waits for a writer at the other end of a fifo.
///
/// With a `reader`, the kernel decides by that user's rights. Only root can be another user here.
///
/// # Errors
///
/// As of openat2(2).
pub fn open_beneath(directory: &impl AsFd, name: &str, reader: Option<&Identity>) -> io::Result<File> {
    let _reading = reader.map(Reading::begin);
    for _ in 0..LOOKUPS_MAX {
        match openat2(directory, name, how(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)) {
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            opened => return Ok(opened?.into()),
        }
    }
    Err(io::ErrorKind::WouldBlock.into())
}

fn how(flags: OFlag) -> OpenHow {
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve)
}

/// The rights of another user, for what this thread opens, until it is dropped (setfsuid(2)). Capabilities that overrule the rights of
/// files go with the user and come back with it (capabilities(7)). Groups beside the first stay those of this process.
struct Reading {
    uid: Uid,
    gid: Gid,
}

impl Reading {
    fn begin(reader: &Identity) -> Reading {
        // The group first: without the capability it could not be changed. Both calls return what was before.
        let gid = setfsgid(Gid::from_raw(reader.gid));
        let uid = setfsuid(Uid::from_raw(reader.uid));
        Reading { uid, gid }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        setfsuid(self.uid);
        setfsgid(self.gid);
    }
}

/// Has the kernel copy from a file to a socket, from `offset` on (sendfile(2)). 0 is the end of the file.
///
/// # Errors
///
/// `WouldBlock` when the socket is full; `InvalidInput` when this file cannot be sent so.
pub fn send_file(socket: &impl AsFd, file: &File, offset: u64, count: usize) -> io::Result<usize> {
    let mut offset = libc::off64_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: both descriptors are open for as long as they are borrowed, and `offset` is a live local that the kernel may write to.
    let sent = unsafe { libc::sendfile64(socket.as_fd().as_raw_fd(), file.as_raw_fd(), &raw mut offset, count) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Reads from `offset` on. 0 is the end of the file.
///
/// # Errors
///
/// As of pread(2).
pub fn read_file(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    file.read_at(buffer, offset)
}
