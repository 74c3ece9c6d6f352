//! Owns how the file of a listening Unix socket is made and removed: never open to more than it is meant for, never in the place of somebody
//! else's file, never through a symbolic link.
//!
//! Happens when listeners are opened and closed. `control` and `bind` drive it.

use std::fmt;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::sys;

/// Most bytes of the path of a Unix socket (unix(7)), without the zero at its end.
pub const PATH_BYTES_MAX: usize = 107;

/// The file of a socket, removed when this goes unless another process has it by then.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: Identity,
    is_ours: bool,
}

/// Which file a path leads to: device and inode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Identity(u64, u64);

/// What is in the way of a socket.
#[derive(Debug)]
pub enum Obstacle {
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

/// Makes a listening socket with these permission bits; without any, only this user can connect. A socket that a server has left there is
/// replaced.
///
/// # Errors
///
/// What is in the way.
pub fn bind(path: &Path, mode: Option<u32>, backlog: i32) -> Result<(UnixListener, SocketFile), Obstacle> {
    if path.as_os_str().as_bytes().len() > PATH_BYTES_MAX {
        return Err(Obstacle::TooLong);
    }
    // Two servers that found the same stale socket at the same time could otherwise each remove it, the slower one the faster one's new.
    let _lock = lock_directory(path)?;
    let listener = match sys::bind_private(path, backlog) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            remove_stale(path)?;
            sys::bind_private(path, backlog)?
        }
        bound => bound?,
    };
    let mut file = SocketFile::found(path)?;
    file.is_ours = true;
    if let Some(mode) = mode {
        file.set_mode(mode)?;
    }
    Ok((listener, file))
}

impl SocketFile {
    /// The file of a socket that another process has made, and removes.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn found(path: &Path) -> io::Result<SocketFile> {
        Ok(SocketFile { path: path.to_owned(), identity: identity(path)?, is_ours: false })
    }

    /// This process is to remove it.
    pub fn take_over(&mut self) {
        self.is_ours = true;
    }

    /// Another process has it, and removes it.
    pub fn hand_over(&mut self) {
        self.is_ours = false;
    }

    pub fn is_ours(&self) -> bool {
        self.is_ours
    }

    /// Changes who may connect.
    ///
    /// # Errors
    ///
    /// It is gone, or belongs to another user.
    pub fn set_mode(&self, mode: u32) -> io::Result<()> {
        fs::set_permissions(&self.path, Permissions::from_mode(mode))
    }
}

impl SocketFile {
    /// Removes the file if it is still the one that was found or made, whoever made it.
    pub fn remove(&self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity)
            && let Err(error) = fs::remove_file(&self.path)
        {
            log::debug!("cannot remove the socket {}: {error}", self.path.display());
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_ours {
            self.remove();
        }
    }
}

fn lock_directory(path: &Path) -> Result<Flock<File>, Obstacle> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let directory = File::open(directory)?;
    Flock::lock(directory, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
        nix::errno::Errno::EWOULDBLOCK => Obstacle::Busy,
        error => Obstacle::System(error.into()),
    })
}

/// Removes the socket of a server that has ended, and nothing else.
fn remove_stale(path: &Path) -> Result<(), Obstacle> {
    let found = fs::symlink_metadata(path)?;
    if !found.file_type().is_socket() {
        return Err(Obstacle::NotASocket);
    }
    if found.uid() != nix::unistd::geteuid().as_raw() {
        return Err(Obstacle::NotOurs);
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        // A server that has its hands full is one, too.
        Ok(()) => Err(Obstacle::InUse),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(Obstacle::InUse),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(fs::remove_file(path)?),
        Err(error) => Err(error.into()),
    }
}

/// Which file is there now. A link is not followed.
fn identity(path: &Path) -> io::Result<Identity> {
    let found = fs::symlink_metadata(path)?;
    Ok(Identity(found.dev(), found.ino()))
}

impl From<io::Error> for Obstacle {
    fn from(error: io::Error) -> Obstacle {
        Obstacle::System(error)
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Obstacle::InUse => f.write_str("another server answers there"),
            Obstacle::Busy => f.write_str("another process is making one at this moment"),
            Obstacle::NotASocket => f.write_str("a file that is no socket is there"),
            Obstacle::NotOurs => f.write_str("a socket of another user is there"),
            Obstacle::TooLong => write!(f, "the path has more than {PATH_BYTES_MAX} bytes"),
            Obstacle::System(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Obstacle {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            // `Display` is the error's own.
            Obstacle::System(error) => error.source(),
            Obstacle::InUse | Obstacle::Busy | Obstacle::NotASocket | Obstacle::NotOurs | Obstacle::TooLong => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scratch;
    use std::os::unix::net::UnixStream;

    const BACKLOG: i32 = 64;

    fn bind(path: &Path) -> Result<(UnixListener, SocketFile), Obstacle> {
        super::bind(path, None, BACKLOG)
    }

    fn refused(path: &Path) -> Obstacle {
        bind(path).expect_err("a refusal")
    }

    #[test]
    fn the_socket_is_this_user_s_alone() {
        let scratch = Scratch::new();
        let path = scratch.path().join("a.sock");
        let (_listener, _file) = bind(&path).expect("bound");
        assert_eq!(path.metadata().expect("it is there").mode() & 0o7777, 0o600);
        let open = scratch.path().join("b.sock");
        let (_listener, _file) = super::bind(&open, Some(0o666), BACKLOG).expect("bound");
        assert_eq!(open.metadata().expect("it is there").mode() & 0o7777, 0o666);
    }

    #[test]
    fn a_socket_that_nobody_answers_is_replaced_and_a_live_one_is_not() {
        let scratch = Scratch::new();
        let path = scratch.path().join("a.sock");
        let (listener, mut first) = bind(&path).expect("bound");
        assert!(matches!(refused(&path), Obstacle::InUse));
        assert!(UnixStream::connect(&path).is_ok(), "the refused one has done no harm");
        drop(listener);
        let (_listener, mut second) = bind(&path).expect("replaced");
        // The file system may have given the number of the old file to the new one: then nothing tells them apart.
        if first.identity == second.identity {
            first.hand_over();
        }
        drop(first);
        assert!(path.exists(), "what another has made stays");
        second.hand_over();
        drop(second);
        assert!(path.exists(), "what was handed over stays");
        let mut third = SocketFile::found(&path).expect("it is there");
        third.take_over();
        drop(third);
        assert!(!path.exists());
    }

    #[test]
    fn a_server_with_a_full_backlog_is_alive() {
        let scratch = Scratch::new();
        let path = scratch.path().join("a.sock");
        let (_listener, _file) = bind(&path).expect("bound");
        let connect = || {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
            socket.set_nonblocking(true).expect("set");
            socket.connect(&SockAddr::unix(&path).expect("an address")).map(|()| socket)
        };
        let held: Vec<_> = (0..=BACKLOG).map(|_| connect().expect("held by the kernel")).collect();
        assert_eq!(connect().expect_err("one too many").kind(), io::ErrorKind::WouldBlock);
        assert!(matches!(refused(&path), Obstacle::InUse));
        drop(held);
    }

    #[test]
    fn files_and_links_are_left_alone() {
        let scratch = Scratch::new();
        let file = scratch.path().join("file");
        fs::write(&file, "precious").expect("written");
        assert!(matches!(refused(&file), Obstacle::NotASocket));
        let link = scratch.path().join("link");
        std::os::unix::fs::symlink(&file, &link).expect("linked");
        assert!(matches!(refused(&link), Obstacle::NotASocket));
        let dangling = scratch.path().join("dangling");
        std::os::unix::fs::symlink(scratch.path().join("target"), &dangling).expect("linked");
        assert!(matches!(refused(&dangling), Obstacle::NotASocket));
        assert!(!scratch.path().join("target").exists(), "nothing was made through the link");
        assert_eq!(fs::read_to_string(&file).expect("it is there"), "precious");
    }

    #[test]
    fn a_path_has_its_limit_and_a_directory_has_to_be_there() {
        let scratch = Scratch::new();
        let room = PATH_BYTES_MAX - scratch.path().as_os_str().len() - 1;
        assert!(bind(&scratch.path().join("x".repeat(room))).is_ok());
        assert!(matches!(refused(&scratch.path().join("x".repeat(room + 1))), Obstacle::TooLong));
        assert!(matches!(refused(&scratch.path().join("nowhere/a.sock")), Obstacle::System(_)));
    }

    #[test]
    fn two_that_start_at_the_same_time_do_not_remove_each_other_s_socket() {
        let scratch = Scratch::new();
        let held = lock_directory(&scratch.path().join("a.sock")).expect("locked");
        assert!(matches!(refused(&scratch.path().join("a.sock")), Obstacle::Busy));
        drop(held);
        assert!(bind(&scratch.path().join("a.sock")).is_ok());
    }
}
