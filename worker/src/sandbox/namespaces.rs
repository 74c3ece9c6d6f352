//! Namespaces that the template enters, and its workers with it: user, network, mounts.
//!
//! Without the rights to do so, a user namespace gives them: the same user and group, and no other, are mapped into it.
#![allow(unsafe_code, reason = "unshare has no safe interface")]

use std::cell::Cell;
use std::fs::OpenOptions;
use std::io::{self, Write};

use rustix::process::{getegid, geteuid};
use rustix::thread::UnshareFlags;

use super::jail::JailError;

/// The user namespace that the others belong to.
#[derive(Debug)]
pub struct User {
    is_own: Cell<bool>,
}

impl User {
    pub fn prepare() -> User {
        User { is_own: Cell::new(false) }
    }

    /// Whether the template is in a user namespace of its own.
    pub fn is_own(&self) -> bool {
        self.is_own.get()
    }

    /// A network without interfaces, not even one of its own.
    pub fn enter_network(&self) -> io::Result<()> {
        self.enter(UnshareFlags::NEWNET)
    }

    /// A tree of mounts that can be changed without anybody else noticing.
    pub fn enter_mounts(&self) -> Result<(), JailError> {
        self.enter(UnshareFlags::NEWNS).map_err(JailError::NotPossible)
    }

    fn enter(&self, flags: UnshareFlags) -> io::Result<()> {
        match unshare(flags) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !self.is_own.get() => {
                self.own()?;
                unshare(flags)
            }
            entered => entered,
        }
    }

    fn own(&self) -> io::Result<()> {
        let (user, group) = (geteuid(), getegid());
        unshare(UnshareFlags::NEWUSER)?;
        self.is_own.set(true);
        // An unprivileged process may map its group only when it has given up to change its supplementary ones.
        write("/proc/self/setgroups", "deny")?;
        write("/proc/self/uid_map", &format!("{user} {user} 1", user = user.as_raw()))?;
        write("/proc/self/gid_map", &format!("{group} {group} 1", group = group.as_raw()))
    }
}

fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: none of the flags used here unshares descriptors or memory, and there is one thread.
    unsafe { rustix::thread::unshare_unsafe(flags) }.map_err(io::Error::from)
}

fn write(path: &str, text: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes())
}
