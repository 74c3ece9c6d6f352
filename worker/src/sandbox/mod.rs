//! The sandbox: what a worker may do to the machine, which is next to nothing.
//!
//! Owns the order of the steps and the level that is reached; each mechanism has a file of its own. `template` prepares once what can be
//! prepared before the first fork, and every process that is forked to run guests confines itself before the first byte that is not
//! trusted. There is no way back from a step, so the order matters: each needs rights that a later one takes away.
//!
//! In the template:
//!
//! 1. `namespaces`: a network of its own, without interfaces, unless a component may use the network;
//! 2. `jail`: a file system of its own, in which only granted directories are to be found;
//! 3. `landlock` and `seccomp`: rules for files, ports and system calls are written down.
//!
//! In a worker, and in a probe, when `Begin` has come and all that it needs is open:
//!
//! 4. `jail`: chroot into the part with the granted directories;
//! 5. `privileges`: bounding set, groups, group, user, capabilities;
//! 6. `limits`: rlimits;
//! 7. no process of the same user can look into it (dumpable off), and again the wish to die with the supervisor, which the change of user
//!    has revoked;
//! 8. `landlock`, then `seccomp` last, for it takes away the calls that the other steps are made of.
//!
//! `no_new_privs` is set in the template from the start, and inherited.

mod jail;
mod landlock;
mod limits;
mod namespaces;
mod needs;
mod pagemap;
mod privileges;
mod seccomp;

use std::fmt;
use std::io;

use rusmd_proto::{Hello, Identity, SandboxLevel};

use crate::sys::{self, SysError};
use limits::Limits;
use needs::Needs;
pub use needs::directory;
use privileges::Privileges;

/// The steps, by the names that `Ready` and the log have for them.
const NETWORK_NAMESPACE: &str = "network-namespace";
const MOUNT_NAMESPACE: &str = "mount-namespace";
const IDENTITY: &str = "identity";
const LANDLOCK: &str = "landlock";
const LANDLOCK_NETWORK: &str = "landlock-network";
const SECCOMP: &str = "seccomp";

/// What is ready to be applied to each forked process.
#[derive(Debug)]
pub struct Sandbox {
    level: SandboxLevel,
    missing: Vec<&'static str>,
    limits: Limits,
    steps: Option<Steps>,
}

#[derive(Debug)]
struct Steps {
    is_jailed: bool,
    identity: Option<Identity>,
    landlock: Option<landlock::Restriction>,
    seccomp: Option<seccomp::Programs>,
}

impl Sandbox {
    /// In the template, once: enters namespaces and writes down the rules. `Err` says why nothing can be served.
    pub fn prepare(hello: &Hello<'_>) -> Result<Sandbox, SandboxError> {
        let wanted = &hello.sandbox;
        let needs = Needs::of(&hello.components);
        let limits = Limits::of(&needs, wanted.data_bytes_max)?;
        if wanted.wanted == SandboxLevel::Off {
            return Ok(Sandbox { level: SandboxLevel::Off, missing: Vec::new(), limits, steps: None });
        }
        let mut missing = Missing::default();
        let privileges = Privileges::now();
        let user = namespaces::User::prepare();
        if !needs.network.is_granted() {
            missing.note(NETWORK_NAMESPACE, user.enter_network());
        }
        let jailed = user.enter_mounts().and_then(|()| jail::build(&needs));
        let is_jailed = match jailed {
            Err(jail::JailError::Broken(error)) => return Err(SandboxError::Step(MOUNT_NAMESPACE, error)),
            Err(jail::JailError::NotPossible(error)) => missing.note(MOUNT_NAMESPACE, Err(error)),
            Ok(()) => true,
        };
        let identity = wanted.identity.clone().filter(|_| {
            let possible = privileges.may_change_user() && !user.is_own();
            missing.note(IDENTITY, if possible { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) })
        });
        let landlock = landlock::Restriction::prepare(&needs, is_jailed, &mut missing);
        let seccomp = match seccomp::Programs::compile(&needs) {
            Ok(programs) => Some(programs),
            Err(error) => {
                missing.note(SECCOMP, Err(error));
                None
            }
        };
        if wanted.wanted == SandboxLevel::Strict && !missing.0.is_empty() {
            return Err(SandboxError::Incomplete(missing));
        }
        let level = if missing.0.is_empty() { SandboxLevel::Strict } else { SandboxLevel::BestEffort };
        let steps = Some(Steps { is_jailed, identity, landlock, seccomp });
        Ok(Sandbox { level, missing: missing.0.into_iter().map(|(step, _)| step).collect(), limits, steps })
    }

    /// The level that workers reach.
    pub fn level(&self) -> SandboxLevel {
        self.level
    }

    /// The steps that are not possible here, for the rest of them to be worth having.
    pub fn missing(&self) -> &[&'static str] {
        &self.missing
    }

    /// Whether it has to be tried out before anything is promised.
    pub fn confines(&self) -> bool {
        self.steps.is_some()
    }

    /// In a forked process, once: from here on it can do nothing but serve. What it needs must be open.
    pub fn confine(&mut self) -> Result<(), SandboxError> {
        let Some(Steps { is_jailed, identity, landlock, seccomp }) = self.steps.take() else {
            self.limits.apply_data()?;
            return Ok(sys::hide_memory()?);
        };
        // The clock is looked for at its first use, in a way that will be forbidden.
        let _ = sys::monotonic_ns();
        pagemap::open_without_privileges().map_err(|error| SandboxError::Step(IDENTITY, error))?;
        if is_jailed {
            jail::enter().map_err(|error| SandboxError::Step(MOUNT_NAMESPACE, error))?;
        }
        privileges::drop_all(identity.as_ref())?;
        self.limits.apply()?;
        sys::hide_memory()?;
        sys::die_with_parent()?;
        if let Some(landlock) = landlock {
            landlock.apply().map_err(|error| SandboxError::Step(LANDLOCK, error))?;
        }
        if let Some(seccomp) = seccomp {
            seccomp.apply().map_err(|error| SandboxError::Step(SECCOMP, error))?;
        }
        Ok(())
    }
}

/// Steps that are not possible, and why.
#[derive(Default, Debug)]
pub struct Missing(Vec<(&'static str, io::Error)>);

impl Missing {
    /// Whether the step has been taken.
    fn note(&mut self, step: &'static str, taken: io::Result<()>) -> bool {
        match taken {
            Ok(()) => true,
            Err(error) => {
                self.0.push((step, error));
                false
            }
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (step, error)) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { ", " };
            write!(f, "{separator}{step} ({error})")?;
        }
        Ok(())
    }
}

/// Why a process cannot be confined as it was wanted.
#[derive(Debug)]
pub enum SandboxError {
    Incomplete(Missing),
    Step(&'static str, io::Error),
    /// The process has more memory already than it may have.
    Data {
        used_bytes: u64,
        bytes_max: u64,
    },
    Sys(SysError),
    /// A process that confined itself for trial did not get to its end.
    Trial(String),
}

impl From<SysError> for SandboxError {
    fn from(error: SysError) -> Self {
        SandboxError::Sys(error)
    }
}

impl fmt::Display for SandboxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SandboxError::Incomplete(missing) => write!(
                f,
                "the sandbox is incomplete, and `sandbox = \"strict\"` allows no less: {missing}; start rusmd as root, allow user \
                 namespaces, or make do with `sandbox = \"best-effort\"`"
            ),
            SandboxError::Step(step, error) => write!(f, "the sandbox cannot be entered: {step}: {error}"),
            SandboxError::Data { used_bytes, bytes_max } => write!(
                f,
                "a worker has {} KiB of memory before its first request, and may have {} KiB; raise `worker-memory-mb`",
                used_bytes >> 10,
                bytes_max >> 10
            ),
            SandboxError::Sys(error) => fmt::Display::fmt(error, f),
            SandboxError::Trial(reason) => write!(f, "the sandbox does not work here: {reason}"),
        }
    }
}

impl std::error::Error for SandboxError {}
