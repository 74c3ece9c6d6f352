//! How much of a busy processor a child gets beside others (setpriority(2), sched(7)).

use std::io;

use nix::sys::resource::{Resource, getrlimit};

/// The lowest nice value of setpriority(2), which stands for the highest priority, is so far below the limit of getrlimit(2).
const NICE_LIMIT_OFFSET: i64 = 20;

/// `CAP_SYS_NICE` of capabilities(7).
const CAP_SYS_NICE: u64 = 1 << 23;

/// Priorities of children that work ahead and of those that are needed now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Priorities {
    own: i32,
    policy: i32,
}

/// Nice value of who works ahead, above that of this process: about a tenth of the share of one that is needed now (sched(7)).
const AHEAD: i32 = 10;

/// Highest nice value there is.
const NICE_MAX: i32 = 19;

impl Priorities {
    /// `None` where this process could lower a child's priority but not raise it again, and where an operator has it scheduled in a way of his own.
    pub fn probe() -> Option<Priorities> {
        // SAFETY: sched_getscheduler takes an integer.
        let policy = unsafe { libc::sched_getscheduler(0) };
        if !matches!(policy, libc::SCHED_OTHER | libc::SCHED_BATCH) {
            return None;
        }
        // SAFETY: getpriority takes integers. An error cannot be told from -1, which is a nice value like any other.
        let own = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
        let (most, _) = getrlimit(Resource::RLIMIT_NICE).ok()?;
        let may_raise =
            may_raise_any() || i64::try_from(most).is_ok_and(|most| NICE_LIMIT_OFFSET - most <= i64::from(own));
        may_raise.then_some(Priorities { own, policy })
    }

    /// Has a child of this process take what others leave, and make room at once for whoever wakes up.
    pub fn lower(self, pid: i32) -> io::Result<()> {
        set(pid, (self.own + AHEAD).min(NICE_MAX))?;
        schedule(pid, libc::SCHED_IDLE)
    }

    /// Has a child of this process stand back behind nobody.
    pub fn restore(self, pid: i32) -> io::Result<()> {
        schedule(pid, self.policy)?;
        set(pid, self.own)
    }
}

/// `SCHED_IDLE` waits for everybody else; what it forks does so too (sched(7)).
fn schedule(pid: i32, policy: i32) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: `parameters` outlives the call, which only reads it.
    match unsafe { libc::sched_setscheduler(pid, policy, &parameters) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn set(pid: i32, nice: i32) -> io::Result<()> {
    // SAFETY: setpriority takes integers and touches no memory of ours.
    match unsafe { libc::setpriority(libc::PRIO_PROCESS, pid.cast_unsigned(), nice) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether the capability is in force (proc_pid_status(5)).
fn may_raise_any() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).map(str::trim);
    effective.and_then(|bits| u64::from_str_radix(bits, 16).ok()).is_some_and(|bits| bits & CAP_SYS_NICE != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_lowered_and_can_be_restored_exactly_where_that_was_found() {
        let found = Priorities::probe();
        // SAFETY: getpriority takes integers.
        let nice = |pid: i32| unsafe { libc::getpriority(libc::PRIO_PROCESS, pid.cast_unsigned()) };
        let priorities = found.unwrap_or(Priorities { own: nice(0), policy: libc::SCHED_OTHER });
        // SAFETY: sched_getscheduler takes an integer.
        let policy = |pid: i32| unsafe { libc::sched_getscheduler(pid) };
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep is there");
        let pid = child.id().cast_signed();
        priorities.lower(pid).expect("a child's priority can be lowered");
        assert_eq!(nice(pid), (priorities.own + AHEAD).min(NICE_MAX));
        assert_eq!(policy(pid), libc::SCHED_IDLE);
        assert_eq!(priorities.restore(pid).is_ok(), found.is_some());
        assert_eq!(policy(pid) == priorities.policy, found.is_some());
        assert_eq!(nice(pid) == priorities.own, found.is_some());
        child.kill().expect("it runs");
        child.wait().expect("it ends");
    }
}
