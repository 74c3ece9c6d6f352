//! Owns how the file of the control socket is made and removed: never open to others, never in the place of somebody else's file, never
//! through a symbolic link.
//!
//! Happens at start and at the end only. `socket` drives it.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::sys;

/// Most bytes of the path of a Unix socket (unix(7)), without the zero at its end.
pub const PATH_BYTES_MAX: usize = 107;

/// Connections that the kernel holds before they are accepted.
const BACKLOG: i32 = 64;

/// Which file a path leads to: device and inode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Identity(u64, u64);

/// Why there is no control socket.
#[derive(Debug)]
pub struct BindError {
    pub path: PathBuf,
    pub cause: BindErrorCause,
}

/// What is in the way.
#[derive(Debug)]
pub enum BindErrorCause {
    /// Another server answers there.
    InUse,
    /// Another process is making a socket there at this moment.
    Busy,
    /// The file there is no socket.
    NotASocket,
    /// The socket there belongs to another user.
    NotOurs,
    TooLong,
    System(io::Error),
}

/// Makes a listening socket that only this user can connect to. A socket that a server has left there is replaced.
pub(super) fn bind(path: &Path) -> Result<(UnixListener, Identity), BindError> {
    bind_at(path).map_err(|cause| BindError { path: path.to_owned(), cause })
}

fn bind_at(path: &Path) -> Result<(UnixListener, Identity), BindErrorCause> {
    if path.as_os_str().as_bytes().len() > PATH_BYTES_MAX {
        return Err(BindErrorCause::TooLong);
    }
    // Two servers that found the same stale socket at the same time could otherwise each remove it, the slower one the faster one's new.
    let _lock = lock_directory(path)?;
    let listener = match sys::bind_private(path, BACKLOG) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            remove_stale(path)?;
            sys::bind_private(path, BACKLOG)?
        }
        bound => bound?,
    };
    let identity = identity(path)?;
    Ok((listener, identity))
}

fn lock_directory(path: &Path) -> Result<Flock<File>, BindErrorCause> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let directory = File::open(directory)?;
    Flock::lock(directory, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
        nix::errno::Errno::EWOULDBLOCK => BindErrorCause::Busy,
        error => BindErrorCause::System(error.into()),
    })
}

/// Removes the socket of a server that has ended, and nothing else.
fn remove_stale(path: &Path) -> Result<(), BindErrorCause> {
    let found = fs::symlink_metadata(path)?;
    if !found.file_type().is_socket() {
        return Err(BindErrorCause::NotASocket);
    }
    if found.uid() != nix::unistd::geteuid().as_raw() {
        return Err(BindErrorCause::NotOurs);
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        // A server that has its hands full is one, too.
        Ok(()) => Err(BindErrorCause::InUse),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(BindErrorCause::InUse),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(fs::remove_file(path)?),
        Err(error) => Err(error.into()),
    }
}

/// Which file is there now. A link is not followed.
pub(super) fn identity(path: &Path) -> io::Result<Identity> {
    let found = fs::symlink_metadata(path)?;
    Ok(Identity(found.dev(), found.ino()))
}

/// Removes the socket if it is still the one that was made.
pub(super) fn remove(path: &Path, made: Identity) {
    if identity(path).is_ok_and(|found| found == made)
        && let Err(error) = fs::remove_file(path)
    {
        log::debug!("cannot remove the control socket {}: {error}", path.display());
    }
}

impl BindError {
    /// The next step.
    pub fn hint(&self) -> Option<&'static str> {
        match &self.cause {
            BindErrorCause::InUse => {
                Some("stop that server with `rusmd ctl stop`, or set `control` in [server] to another path")
            }
            BindErrorCause::NotASocket | BindErrorCause::NotOurs => {
                Some("move it away, or set `control` in [server] to another path")
            }
            BindErrorCause::TooLong => Some("set `control` in [server] to a shorter path"),
            BindErrorCause::System(error) if error.kind() == io::ErrorKind::NotFound => {
                Some("the directory of `control` in [server] has to be there")
            }
            BindErrorCause::Busy | BindErrorCause::System(_) => None,
        }
    }
}

impl From<io::Error> for BindErrorCause {
    fn from(error: io::Error) -> BindErrorCause {
        BindErrorCause::System(error)
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot make the control socket {}", self.path.display())?;
        match &self.cause {
            BindErrorCause::InUse => f.write_str(": another server answers there"),
            BindErrorCause::Busy => f.write_str(": another process is making one at this moment"),
            BindErrorCause::NotASocket => f.write_str(": a file that is no socket is there"),
            BindErrorCause::NotOurs => f.write_str(": a socket of another user is there"),
            BindErrorCause::TooLong => write!(f, ": the path has more than {PATH_BYTES_MAX} bytes"),
            BindErrorCause::System(_) => Ok(()),
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.cause {
            BindErrorCause::System(error) => Some(error),
            BindErrorCause::InUse
            | BindErrorCause::Busy
            | BindErrorCause::NotASocket
            | BindErrorCause::NotOurs
            | BindErrorCause::TooLong => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::scratch::Scratch;
    use super::*;
    use std::os::unix::net::UnixStream;

    fn refused(path: &Path) -> BindErrorCause {
        bind(path).expect_err("a refusal").cause
    }

    #[test]
    fn the_socket_is_this_user_s_alone() {
        let scratch = Scratch::new();
        let path = scratch.join("a.sock");
        let (_listener, _) = bind(&path).expect("bound");
        assert_eq!(path.metadata().expect("it is there").mode() & 0o7777, 0o600);
    }

    #[test]
    fn a_socket_that_nobody_answers_is_replaced_and_a_live_one_is_not() {
        let scratch = Scratch::new();
        let path = scratch.join("a.sock");
        let (listener, first) = bind(&path).expect("bound");
        assert!(matches!(refused(&path), BindErrorCause::InUse));
        assert!(UnixStream::connect(&path).is_ok(), "the refused one has done no harm");
        drop(listener);
        let (_listener, second) = bind(&path).expect("replaced");
        remove(&path, first);
        assert!(path.exists() || first == second, "what another has made stays");
        remove(&path, second);
        assert!(!path.exists());
    }

    #[test]
    fn a_server_with_a_full_backlog_is_alive() {
        let scratch = Scratch::new();
        let path = scratch.join("a.sock");
        let (_listener, _) = bind(&path).expect("bound");
        let connect = || {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
            socket.set_nonblocking(true).expect("set");
            socket.connect(&SockAddr::unix(&path).expect("an address")).map(|()| socket)
        };
        let held: Vec<_> = (0..=BACKLOG).map(|_| connect().expect("held by the kernel")).collect();
        assert_eq!(connect().expect_err("one too many").kind(), io::ErrorKind::WouldBlock);
        assert!(matches!(refused(&path), BindErrorCause::InUse));
        drop(held);
    }

    #[test]
    fn files_and_links_are_left_alone() {
        let scratch = Scratch::new();
        let file = scratch.join("file");
        fs::write(&file, "precious").expect("written");
        assert!(matches!(refused(&file), BindErrorCause::NotASocket));
        let link = scratch.join("link");
        std::os::unix::fs::symlink(&file, &link).expect("linked");
        assert!(matches!(refused(&link), BindErrorCause::NotASocket));
        let dangling = scratch.join("dangling");
        std::os::unix::fs::symlink(scratch.join("target"), &dangling).expect("linked");
        assert!(matches!(refused(&dangling), BindErrorCause::NotASocket));
        assert!(!scratch.join("target").exists(), "nothing was made through the link");
        assert_eq!(fs::read_to_string(&file).expect("it is there"), "precious");
    }

    #[test]
    fn a_path_has_its_limit_and_a_directory_has_to_be_there() {
        let scratch = Scratch::new();
        let room = PATH_BYTES_MAX - scratch.as_os_str().len() - 1;
        assert!(bind(&scratch.join("x".repeat(room))).is_ok());
        assert!(matches!(refused(&scratch.join("x".repeat(room + 1))), BindErrorCause::TooLong));
        let error = bind(&scratch.join("nowhere/a.sock")).expect_err("a refusal");
        assert_eq!(error.hint(), Some("the directory of `control` in [server] has to be there"));
    }

    #[test]
    fn two_that_start_at_the_same_time_do_not_remove_each_other_s_socket() {
        let scratch = Scratch::new();
        let held = lock_directory(&scratch.join("a.sock")).expect("locked");
        assert!(matches!(refused(&scratch.join("a.sock")), BindErrorCause::Busy));
        drop(held);
        assert!(bind(&scratch.join("a.sock")).is_ok());
    }
}
