//! Owns what is told when there can be no control socket. Its file is made as every Unix socket's is, for this user alone.
//!
//! Happens at start and at the end only. `socket` drives it.

use std::fmt;
use std::io;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use crate::socket_file::{self, Obstacle, SocketFile};

/// Connections that the kernel holds before they are accepted.
const BACKLOG: i32 = 64;

/// Why there is no control socket.
#[derive(Debug)]
pub struct BindError {
    pub path: PathBuf,
    pub cause: Obstacle,
}

/// Makes a listening socket that only this user can connect to. A socket that a server has left there is replaced.
pub(super) fn bind(path: &Path) -> Result<(UnixListener, SocketFile), BindError> {
    match socket_file::bind(path, None, BACKLOG) {
        Ok((listener, mut file)) => {
            // Only a clean stop removes it, and not when a successor has it: whoever drives the socket knows.
            file.hand_over();
            Ok((listener, file))
        }
        Err(cause) => Err(BindError { path: path.to_owned(), cause }),
    }
}

impl BindError {
    /// The next step.
    pub fn hint(&self) -> Option<&'static str> {
        match &self.cause {
            Obstacle::InUse => {
                Some("stop that server with `rusmd ctl stop`, or set `control` in [server] to another path")
            }
            Obstacle::NotASocket | Obstacle::NotOurs => {
                Some("move it away, or set `control` in [server] to another path")
            }
            Obstacle::TooLong => Some("set `control` in [server] to a shorter path"),
            Obstacle::System(error) if error.kind() == io::ErrorKind::NotFound => {
                Some("the directory of `control` in [server] has to be there")
            }
            Obstacle::Busy | Obstacle::System(_) => None,
        }
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot make the control socket {}", self.path.display())?;
        match &self.cause {
            Obstacle::System(_) => Ok(()),
            obstacle @ (Obstacle::InUse
            | Obstacle::Busy
            | Obstacle::NotASocket
            | Obstacle::NotOurs
            | Obstacle::TooLong) => write!(f, ": {obstacle}"),
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.cause {
            Obstacle::System(error) => Some(error),
            Obstacle::InUse | Obstacle::Busy | Obstacle::NotASocket | Obstacle::NotOurs | Obstacle::TooLong => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::scratch::Scratch;
    use super::*;

    #[test]
    fn a_refusal_has_its_reason_and_the_next_step() {
        let scratch = Scratch::new();
        let error = bind(&scratch.join("nowhere/a.sock")).expect_err("a refusal");
        assert_eq!(error.hint(), Some("the directory of `control` in [server] has to be there"));
        let path = scratch.join("a.sock");
        let _held = bind(&path).expect("bound");
        let told = crate::reactor::chain(&bind(&path).expect_err("a refusal"));
        assert_eq!(told, format!("cannot make the control socket {}: another server answers there", path.display()));
    }
}
