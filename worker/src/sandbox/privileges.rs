//! Users, groups and capabilities of a worker.
//!
//! Owns their order: the bounding set while there is the capability to change it, groups before the user, and what is left of the
//! capabilities after it.

use std::io;

use rusmd_proto::Identity;
use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, remove_capability_from_bounding_set,
    set_capabilities, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use super::{IDENTITY, SandboxError};

/// Capabilities that there are or may be one day: the kernel has 64 bits for them.
const CAPABILITIES_MAX: u32 = 64;

/// What this process may do before it gives it up.
#[derive(Clone, Copy, Debug)]
pub struct Privileges {
    effective: CapabilitySet,
}

impl Privileges {
    pub fn now() -> Privileges {
        let effective = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
        Privileges { effective }
    }

    pub fn may_change_user(self) -> bool {
        self.effective.contains(CapabilitySet::SETUID | CapabilitySet::SETGID)
    }
}

/// Becomes `identity` where one is given, and gives up every capability for ever.
pub fn drop_all(identity: Option<&Identity>) -> Result<(), SandboxError> {
    let failed = |errno: rustix::io::Errno| SandboxError::Step(IDENTITY, errno.into());
    if Privileges::now().effective.contains(CapabilitySet::SETPCAP) {
        for number in 0..CAPABILITIES_MAX {
            let capability = CapabilitySet::from_bits_retain(1 << number);
            match remove_capability_from_bounding_set(capability) {
                Ok(()) => {}
                // The kernel has no more.
                Err(rustix::io::Errno::INVAL) => break,
                Err(errno) => return Err(failed(errno)),
            }
        }
    }
    if let Some(identity) = identity {
        let groups: Vec<Gid> = identity.groups.iter().map(|group| Gid::from_raw(*group)).collect();
        let (user, group) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
        set_thread_groups(&groups).map_err(failed)?;
        set_thread_res_gid(group, group, group).map_err(failed)?;
        set_thread_res_uid(user, user, user).map_err(failed)?;
    }
    clear_ambient_capability_set().map_err(failed)?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none }).map_err(failed)?;
    if Privileges::now().effective.is_empty() {
        Ok(())
    } else {
        Err(SandboxError::Step(IDENTITY, io::Error::other("capabilities are left")))
    }
}
