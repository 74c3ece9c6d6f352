//! The list of system calls that a worker may make (seccomp(2)). Any other kills the process.
//!
//! Owns the list, in parts that depend on what is granted, and the conditions on arguments. Generous within what harms nobody, so that
//! another C library, with other habits, is not killed for them; strict about everything that names a file, a process or an address.
#![allow(unsafe_code, reason = "asking the kernel what it can do has no safe interface")]

use std::collections::BTreeMap;
use std::io;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};

use super::needs::{Needs, Network};

/// What every worker does: its link, its memory, its clocks, its own signals.
const ALWAYS: &[libc::c_long] = &[
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_shutdown,
    libc::SYS_getsockopt,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_ppoll,
    libc::SYS_futex,
    libc::SYS_munmap,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_brk,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_setitimer,
    libc::SYS_getitimer,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getppid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getrusage,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getcpu,
    libc::SYS_rseq,
    libc::SYS_membarrier,
    libc::SYS_set_robust_list,
    libc::SYS_restart_syscall,
];

#[cfg(target_arch = "x86_64")]
const ALWAYS_X86: &[libc::c_long] = &[libc::SYS_epoll_wait, libc::SYS_poll, libc::SYS_time];

/// With granted directories, and for what a resolver of names reads.
const FILES: &[libc::c_long] = &[
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_fstatfs,
    libc::SYS_statfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_getdents64,
    libc::SYS_readlinkat,
    libc::SYS_lseek,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_fadvise64,
    libc::SYS_getcwd,
    libc::SYS_dup,
    libc::SYS_dup3,
];

#[cfg(target_arch = "x86_64")]
const FILES_X86: &[libc::c_long] =
    &[libc::SYS_open, libc::SYS_stat, libc::SYS_lstat, libc::SYS_access, libc::SYS_readlink];

/// With directories that may be written to.
const WRITABLE_FILES: &[libc::c_long] = &[
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_utimensat,
];

#[cfg(target_arch = "x86_64")]
const WRITABLE_FILES_X86: &[libc::c_long] = &[libc::SYS_renameat];

/// With outgoing network. Which addresses is for Landlock and for the host side of WASI to say.
const NETWORK: &[libc::c_long] = &[
    libc::SYS_socket,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_setsockopt,
    libc::SYS_sendmmsg,
    libc::SYS_recvmmsg,
];

/// Where a guest may use sockets as it likes.
const LISTENING: &[libc::c_long] = &[libc::SYS_listen, libc::SYS_accept4];

/// ioctl(2) by which wasmtime learns which pages a guest has written to.
const PAGEMAP_SCAN: u64 = 0xc060_6610;

/// What a new process or namespace would have among the flags of clone(2), and a thread has not.
const NO_THREAD: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_PARENT
    | libc::CLONE_VFORK
    | libc::CLONE_PTRACE) as u32 as u64;

/// Stands in a compiled program for the id of the process that it will be applied to, which is not known yet. No process has it.
const OWN_PID: u32 = 0x7fff_fff0;

/// Filters, of which the strictest verdict counts.
#[derive(Clone, Debug)]
pub struct Programs {
    /// Kills for what is not on the list. In the order in which they are applied the last: it forbids to apply more.
    list: BpfProgram,
    /// Calls on the list that are answered with an error all the same.
    refused: Vec<BpfProgram>,
}

impl Programs {
    /// In the template. `Err` where the kernel does not have what this takes.
    pub fn compile(needs: &Needs) -> io::Result<Programs> {
        check_available()?;
        let list = filter(list(needs)?, SeccompAction::KillProcess, SeccompAction::Allow)?;
        let mut refused = Vec::new();
        if needs.network.is_granted() {
            refused.push(refusal(libc::SYS_socket, other_families()?, libc::EAFNOSUPPORT)?);
        }
        if needs.threads() {
            // Its flags are in memory, where no filter can see them. Without it the C library uses clone.
            refused.push(refusal(libc::SYS_clone3, Vec::new(), libc::ENOSYS)?);
        }
        Ok(Programs { list, refused })
    }

    /// In a worker, for ever.
    pub fn apply(mut self) -> io::Result<()> {
        let own = std::process::id();
        for instruction in &mut self.list {
            if instruction.k == OWN_PID {
                instruction.k = own;
            }
        }
        for program in self.refused.iter().chain([&self.list]) {
            apply_filter(program).map_err(io::Error::other)?;
        }
        Ok(())
    }
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn list(needs: &Needs) -> io::Result<Rules> {
    let mut rules = Rules::new();
    let mut allow = |calls: &[libc::c_long]| rules.extend(calls.iter().map(|call| (*call, Vec::new())));
    allow(ALWAYS);
    #[cfg(target_arch = "x86_64")]
    allow(ALWAYS_X86);
    if needs.threads() {
        allow(FILES);
        allow(&[libc::SYS_clone3]);
        #[cfg(target_arch = "x86_64")]
        allow(FILES_X86);
    }
    if needs.writes() {
        allow(WRITABLE_FILES);
        #[cfg(target_arch = "x86_64")]
        allow(WRITABLE_FILES_X86);
    }
    if needs.network.is_granted() {
        allow(NETWORK);
    }
    if needs.network == Network::Any {
        allow(LISTENING);
    }
    let number = |value: libc::c_int| value as u32 as u64;
    let no_code = || masked(2, number(libc::PROT_EXEC), 0);
    rules.insert(libc::SYS_mmap, vec![no_code()?]);
    rules.insert(libc::SYS_mprotect, vec![no_code()?]);
    rules.insert(libc::SYS_kill, vec![equal(0, OWN_PID.into())?]);
    rules.insert(libc::SYS_tgkill, vec![equal(0, OWN_PID.into())?]);
    rules.insert(libc::SYS_prctl, vec![equal(0, number(libc::PR_SET_NAME))?, equal(0, number(libc::PR_SET_VMA))?]);
    let mut controls = vec![equal(1, PAGEMAP_SCAN)?];
    if needs.network.is_granted() {
        controls.extend([equal(1, libc::FIONBIO)?, equal(1, libc::FIONREAD)?]);
    }
    rules.insert(libc::SYS_ioctl, controls);
    let commands = [libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_SETFL, libc::F_DUPFD_CLOEXEC];
    rules.insert(
        libc::SYS_fcntl,
        commands.map(|command| equal(1, number(command))).into_iter().collect::<Result<_, _>>()?,
    );
    if needs.threads() {
        let thread = number(libc::CLONE_THREAD);
        rules.insert(libc::SYS_clone, vec![masked(0, thread | NO_THREAD, thread)?]);
    }
    Ok(rules)
}

/// Sockets that are neither IPv4, nor IPv6, nor the kernel's table of addresses, which getaddrinfo(3) looks into.
fn other_families() -> io::Result<Vec<SeccompRule>> {
    let differs = |at: u8, value: libc::c_int| condition(at, SeccompCmpOp::Ne, value as u64);
    let (ip, ip6, kernel) = (libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK);
    let other = vec![differs(0, ip)?, differs(0, ip6)?, differs(0, kernel)?];
    let other_table = vec![condition(0, SeccompCmpOp::Eq, kernel as u64)?, differs(2, libc::NETLINK_ROUTE)?];
    Ok(vec![rule(other)?, rule(other_table)?])
}

fn refusal(call: libc::c_long, when: Vec<SeccompRule>, errno: libc::c_int) -> io::Result<BpfProgram> {
    filter(Rules::from([(call, when)]), SeccompAction::Allow, SeccompAction::Errno(errno as u32))
}

fn filter(rules: Rules, otherwise: SeccompAction, listed: SeccompAction) -> io::Result<BpfProgram> {
    let architecture = std::env::consts::ARCH.try_into().map_err(io::Error::other)?;
    let filter = SeccompFilter::new(rules, otherwise, listed, architecture).map_err(io::Error::other)?;
    filter.try_into().map_err(io::Error::other)
}

fn equal(at: u8, value: u64) -> io::Result<SeccompRule> {
    rule(vec![condition(at, SeccompCmpOp::Eq, value)?])
}

fn masked(at: u8, mask: u64, value: u64) -> io::Result<SeccompRule> {
    rule(vec![condition(at, SeccompCmpOp::MaskedEq(mask), value)?])
}

fn rule(conditions: Vec<SeccompCondition>) -> io::Result<SeccompRule> {
    SeccompRule::new(conditions).map_err(io::Error::other)
}

/// All arguments that are looked at are 32 bits wide to the kernel, whatever is in the upper half of the register.
fn condition(at: u8, operator: SeccompCmpOp, value: u64) -> io::Result<SeccompCondition> {
    SeccompCondition::new(at, SeccompCmpArgLen::Dword, operator, value).map_err(io::Error::other)
}

fn check_available() -> io::Result<()> {
    for action in [libc::SECCOMP_RET_KILL_PROCESS, libc::SECCOMP_RET_ERRNO] {
        // SAFETY: the kernel reads one number, which lives until the call returns.
        let available =
            unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) };
        if available != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::needs::Directory;

    fn needs(directory: Option<bool>, network: Network) -> Needs {
        let directories = directory.map(|writable| Directory { path: "/data".into(), writable }).into_iter().collect();
        Needs { directories, network }
    }

    #[test]
    fn what_is_not_granted_is_not_on_the_list() {
        let has = |needs: &Needs, call| list(needs).expect("valid rules").contains_key(&call);
        let nothing = needs(None, Network::Denied);
        for call in [libc::SYS_openat, libc::SYS_socket, libc::SYS_clone, libc::SYS_clone3, libc::SYS_connect] {
            assert!(!has(&nothing, call), "{call}");
        }
        let reading = needs(Some(false), Network::Denied);
        assert!(
            has(&reading, libc::SYS_openat) && !has(&reading, libc::SYS_unlinkat) && !has(&reading, libc::SYS_socket)
        );
        let writing = needs(Some(true), Network::Denied);
        assert!(has(&writing, libc::SYS_unlinkat));
        let connected = needs(None, Network::Ports(vec![80]));
        assert!(has(&connected, libc::SYS_connect) && !has(&connected, libc::SYS_listen));
        assert!(has(&needs(None, Network::Any), libc::SYS_listen));
    }

    #[test]
    fn nothing_that_names_processes_programs_or_the_kernel_is_ever_on_the_list() {
        let everything = list(&needs(Some(true), Network::Any)).expect("valid rules");
        for call in [
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_pidfd_open,
            libc::SYS_pidfd_getfd,
            libc::SYS_bpf,
            libc::SYS_io_uring_setup,
            libc::SYS_userfaultfd,
            libc::SYS_perf_event_open,
            libc::SYS_keyctl,
            libc::SYS_mount,
            libc::SYS_chroot,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_setuid,
            libc::SYS_open_by_handle_at,
            libc::SYS_memfd_create,
            libc::SYS_seccomp,
        ] {
            assert!(!everything.contains_key(&call), "{call}");
        }
    }

    #[test]
    fn the_place_of_the_own_process_is_in_the_program_and_no_other_number_is() {
        let programs = Programs::compile(&needs(Some(true), Network::Any)).expect("the kernel has seccomp");
        assert_eq!(programs.list.iter().filter(|instruction| instruction.k == OWN_PID).count(), 2);
        assert!(programs.refused.iter().flatten().all(|instruction| instruction.k != OWN_PID));
    }
}
