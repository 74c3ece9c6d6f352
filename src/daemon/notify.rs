//! Owns what is told to a service manager (sd_notify(3)): ready, reloading, stopping, and a line of status. Does nothing where nobody has asked
//! for it, and never waits. Driven by the reactor.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::sys;

/// The variable that names the service manager's socket.
const VARIABLE: &str = "NOTIFY_SOCKET";

/// A way to tell a service manager, if there is one.
#[derive(Debug)]
pub struct Notify {
    manager: Option<(UnixDatagram, SocketAddr)>,
}

impl Notify {
    /// Takes what the environment says, and leaves it there: a successor by an upgrade has the same manager.
    pub fn from_environment() -> Notify {
        Notify::to(std::env::var_os(VARIABLE))
    }

    /// Tells the socket of this name, a path or `@` and an abstract name.
    pub fn to(name: Option<OsString>) -> Notify {
        let Some(name) = name.filter(|name| !name.is_empty()) else { return Notify { manager: None } };
        match open(&name) {
            Ok(manager) => Notify { manager: Some(manager) },
            Err(error) => {
                log::warn!("the service manager cannot be told anything: {VARIABLE}={name:?}: {error}");
                Notify { manager: None }
            }
        }
    }

    /// Whether there is somebody to tell.
    pub fn is_on(&self) -> bool {
        self.manager.is_some()
    }

    /// Requests are served, by this process: also the end of a reload, and of an upgrade.
    pub fn ready(&self, pid: u32) {
        self.tell(&format!("READY=1\nMAINPID={pid}"));
    }

    /// A reload begins.
    pub fn reloading(&self) {
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={}", sys::monotonic_ns() / 1000));
    }

    /// The end begins.
    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// One line for `systemctl status`.
    pub fn status(&self, text: &str) {
        let line = text.lines().next().unwrap_or_default();
        self.tell(&format!("STATUS={line}"));
    }

    fn tell(&self, message: &str) {
        let Some((socket, manager)) = &self.manager else { return };
        if let Err(error) = socket.send_to_addr(message.as_bytes(), manager) {
            log::warn!("the service manager was not told {:?}: {error}", message.lines().next().unwrap_or_default());
        }
    }
}

fn open(name: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let bytes = name.as_bytes();
    let address = match bytes.first() {
        Some(b'/') => SocketAddr::from_pathname(name)?,
        Some(b'@') => SocketAddr::from_abstract_name(&bytes[1..])?,
        Some(_) | None => return Err(io::ErrorKind::Unsupported.into()),
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scratch;

    fn receive(manager: &UnixDatagram) -> String {
        let mut message = [0; 256];
        let count = manager.recv(&mut message).expect("a message has come");
        String::from_utf8_lossy(&message[..count]).into_owned()
    }

    #[test]
    fn a_manager_is_told_by_path_and_by_abstract_name() {
        let scratch = Scratch::new();
        let path = scratch.path().join("notify");
        let manager = UnixDatagram::bind(&path).expect("the directory is writable");
        let notify = Notify::to(Some(path.into_os_string()));
        notify.ready(4711);
        assert_eq!(receive(&manager), "READY=1\nMAINPID=4711");
        notify.reloading();
        let message = receive(&manager);
        let time = message.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect("both are told");
        assert!(time.parse::<u64>().is_ok_and(|time| time > 0), "{message}");
        notify.stopping();
        assert_eq!(receive(&manager), "STOPPING=1");
        notify.status("serving\nMAINPID=1");
        assert_eq!(receive(&manager), "STATUS=serving");

        let name = format!("rusmd-unit-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a short name");
        let manager = UnixDatagram::bind_addr(&address).expect("nobody has this name");
        Notify::to(Some(format!("@{name}").into())).stopping();
        assert_eq!(receive(&manager), "STOPPING=1");
    }

    #[test]
    fn nobody_is_told_where_nobody_asked_and_a_manager_that_is_gone_is_no_failure() {
        for name in [None, Some(""), Some("relative"), Some("vsock:2:1")] {
            assert!(!Notify::to(name.map(OsString::from)).is_on());
        }
        let notify = Notify::to(Some("/no/such/socket".into()));
        assert!(notify.is_on());
        notify.ready(1);
    }
}
