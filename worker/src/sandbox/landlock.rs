//! Landlock (landlock(7)): which files and ports a worker may reach, by rules of the kernel that hold even where there is no jail.
//!
//! Owns the rules. Everything that this knows of is denied but for granted directories and ports.

use std::io;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, Scope, make_bitflags,
};

use super::jail::{JAIL, RESOLVER_FILES};
use super::needs::{Needs, Network};
use super::{LANDLOCK, LANDLOCK_NETWORK, Missing};

/// The newest rights that are asked for. What a kernel does not know it does not restrict; later ones could deny what is granted here.
const NEWEST: ABI = ABI::V6;

/// Rules, written down, not yet in force.
#[derive(Debug)]
pub struct Restriction(RulesetCreated);

impl Restriction {
    /// `None`, and a missing step, where the kernel has none of it.
    pub fn prepare(needs: &Needs, is_jailed: bool, missing: &mut Missing) -> Option<Restriction> {
        let required = || Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
        if let Err(error) = required().handle_access(AccessFs::ReadFile) {
            missing.note(LANDLOCK, Err(io::Error::other(error)));
            return None;
        }
        // Without any network there is a namespace that has none, and no call to make a socket.
        if matches!(needs.network, Network::Ports(_)) {
            let ports = required().handle_access(AccessNet::ConnectTcp);
            missing.note(LANDLOCK_NETWORK, ports.map(|_| ()).map_err(io::Error::other));
        }
        match rules(needs, is_jailed) {
            Ok(rules) => Some(Restriction(rules)),
            Err(error) => {
                missing.note(LANDLOCK, Err(io::Error::other(error)));
                None
            }
        }
    }

    /// In a worker, for ever.
    pub fn apply(self) -> io::Result<()> {
        self.0.restrict_self().map(|_| ()).map_err(io::Error::other)
    }
}

fn rules(needs: &Needs, is_jailed: bool) -> Result<RulesetCreated, RulesetError> {
    let mut rules = Ruleset::default().handle_access(AccessFs::from_all(NEWEST))?;
    if needs.network != Network::Any {
        rules = rules.handle_access(AccessNet::from_all(NEWEST))?;
    }
    let mut rules = rules.scope(Scope::from_all(NEWEST))?.create()?;
    for directory in &needs.directories {
        let rights = if directory.writable { read() | write() } else { read() };
        // One that does not exist is missed by the request that wants it.
        if let Ok(opened) = PathFd::new(seen(&directory.path, is_jailed)) {
            rules = rules.add_rule(PathBeneath::new(opened, rights))?;
        }
    }
    if let Network::Ports(ports) = &needs.network {
        for port in ports {
            rules = rules.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
        }
    }
    if needs.network.is_granted() {
        for file in RESOLVER_FILES {
            if let Ok(opened) = PathFd::new(seen(Path::new(file), is_jailed)) {
                rules = rules.add_rule(PathBeneath::new(opened, AccessFs::ReadFile))?;
            }
        }
    }
    Ok(rules)
}

/// Where the template finds what a worker finds at `path`.
fn seen(path: &Path, is_jailed: bool) -> PathBuf {
    if is_jailed { Path::new(JAIL).join(path.strip_prefix("/").unwrap_or(path)) } else { path.to_owned() }
}

fn read() -> BitFlags<AccessFs> {
    make_bitflags!(AccessFs::{ReadFile | ReadDir})
}

/// What WASI has a call for.
fn write() -> BitFlags<AccessFs> {
    make_bitflags!(AccessFs::{WriteFile | Truncate | MakeReg | MakeDir | MakeSym | RemoveFile | RemoveDir | Refer})
}
