//! What a worker that has been taken over would try: one attempt for each request, inside the sandbox of a real worker.
//!
//! Owns the attempts. Each is a system call as the kernel sees it, with no library between, and says what came of it, if the process
//! lives to tell: `done`, or `refused` with the number and the words of the error. The tests know what must not be `done`.
#![allow(unsafe_code, reason = "attempts on the operating system have no safe interface")]

use std::ffi::CString;
use std::io;
use std::ptr;

/// What is said of an attempt that nobody knows.
const UNKNOWN: &str = "unknown attempt";

/// What is said when the process to be harmed is this one.
const MYSELF: &str = "that is me";

/// The arguments of one attempt.
struct Target {
    path: CString,
    pid: libc::c_long,
    port: u16,
}

/// Tries what the query says, as in `what=kill&pid=4711`.
pub fn attempt(query: &str) -> String {
    let value = |name: &str| {
        query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
    };
    let target = Target {
        path: CString::new(value("path").unwrap_or("/")).unwrap_or_default(),
        pid: value("pid").and_then(|pid| pid.parse().ok()).unwrap_or(0),
        port: value("port").and_then(|port| port.parse().ok()).unwrap_or(0),
    };
    if target.pid == libc::c_long::from(std::process::id()) {
        return MYSELF.to_owned();
    }
    match target.attempt(value("what").unwrap_or_default()) {
        None => UNKNOWN.to_owned(),
        Some(Ok(())) => "done".to_owned(),
        Some(Err(error)) => format!("refused: {} {error}", error.raw_os_error().unwrap_or(0)),
    }
}

/// A raw system call with up to six numbers or addresses.
macro_rules! call {
    ($number:ident $(, $argument:expr)*) => {
        // SAFETY: every address that is passed lives until the call returns and is as large as the call takes it to be, or is null. What
        // the call does to this process beyond that, if it succeeds, is what the test is about.
        returned(unsafe { libc::syscall(libc::$number $(, $argument)*) })
    };
}

fn returned(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

impl Target {
    fn attempt(&self, what: &str) -> Option<io::Result<()>> {
        self.on_files(what)
            .or_else(|| self.on_processes(what))
            .or_else(|| self.on_the_network(what))
            .or_else(|| on_the_kernel(what))
    }

    fn on_files(&self, what: &str) -> Option<io::Result<()>> {
        let path = self.path.as_ptr();
        let create = libc::O_CREAT | libc::O_WRONLY;
        let other = c"/tmp/rusmd-hostile".as_ptr();
        let result = match what {
            "read" => call!(SYS_openat, libc::AT_FDCWD, path, libc::O_RDONLY).and_then(read_from),
            "write" => call!(SYS_openat, libc::AT_FDCWD, path, libc::O_WRONLY).and_then(|file| {
                let text = b"hostile";
                call!(SYS_write, file, text.as_ptr(), text.len())
            }),
            "create" => call!(SYS_openat, libc::AT_FDCWD, path, create, 0o600),
            "unlink" => call!(SYS_unlinkat, libc::AT_FDCWD, path, 0),
            "mkdir" => call!(SYS_mkdirat, libc::AT_FDCWD, path, 0o700),
            "link" => call!(SYS_linkat, libc::AT_FDCWD, path, libc::AT_FDCWD, other, 0),
            "rename" => call!(SYS_renameat2, libc::AT_FDCWD, path, libc::AT_FDCWD, other, 0),
            "chmod" => call!(SYS_fchmodat, libc::AT_FDCWD, path, 0o777),
            "truncate" => call!(SYS_truncate, path, 0),
            "mknod" => call!(SYS_mknodat, libc::AT_FDCWD, path, libc::S_IFCHR | 0o666, 0x103),
            "open-by-handle" => {
                let handle = [8_u32, 1, 0, 0];
                call!(SYS_open_by_handle_at, libc::AT_FDCWD, handle.as_ptr(), libc::O_RDONLY)
            }
            "mount" => call!(SYS_mount, c"proc".as_ptr(), path, c"proc".as_ptr(), 0, ptr::null::<u8>()),
            "unmount" => call!(SYS_umount2, path, libc::MNT_DETACH),
            "chroot" => call!(SYS_chroot, path),
            "pivot-root" => call!(SYS_pivot_root, path, path),
            "memory-file" => call!(SYS_memfd_create, c"hostile".as_ptr(), 0),
            "watch-files" => call!(SYS_fanotify_init, 0, 0),
            _ => return None,
        };
        Some(result.map(|_| ()))
    }

    fn on_processes(&self, what: &str) -> Option<io::Result<()>> {
        let pid = self.pid;
        let mut byte = [0_u8; 1];
        let here = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
        let there = libc::iovec { iov_base: ptr::without_provenance_mut(0x1000), iov_len: 1 };
        let nothing = [ptr::null::<libc::c_char>()];
        let result = match what {
            "execute" => call!(SYS_execve, self.path.as_ptr(), nothing.as_ptr(), nothing.as_ptr()),
            "fork" => call!(SYS_clone, libc::SIGCHLD, 0, 0, 0, 0).inspect(|child| {
                if *child == 0 {
                    std::process::exit(0);
                }
            }),
            "clone3" => call!(SYS_clone3, ptr::null::<u8>(), 0),
            "trace" => call!(SYS_ptrace, libc::PTRACE_SEIZE, pid, 0, 0),
            "read-memory" => call!(SYS_process_vm_readv, pid, &raw const here, 1, &raw const there, 1, 0),
            "write-memory" => call!(SYS_process_vm_writev, pid, &raw const here, 1, &raw const there, 1, 0),
            "kill" => call!(SYS_kill, pid, libc::SIGKILL),
            "kill-thread" => call!(SYS_tgkill, pid, pid, libc::SIGKILL),
            "kill-all" => call!(SYS_kill, -1, libc::SIGKILL),
            "kill-group" => call!(SYS_kill, 0, libc::SIGKILL),
            "queue-signal" => call!(SYS_rt_sigqueueinfo, pid, libc::SIGKILL, byte.as_ptr()),
            "pidfd" => call!(SYS_pidfd_open, pid, 0).and_then(|fd| call!(SYS_pidfd_getfd, fd, 0, 0)),
            "compare" => call!(SYS_kcmp, pid, pid, 0, 0, 0),
            "limit-other" => call!(SYS_prlimit64, pid, libc::RLIMIT_CPU, &raw const here, 0),
            "priority" => call!(SYS_setpriority, libc::PRIO_PROCESS, pid, 19),
            "namespace" => call!(SYS_unshare, libc::CLONE_NEWUSER),
            "join-namespace" => call!(SYS_setns, pid, 0),
            "become-root" => call!(SYS_setresuid, 0, 0, 0),
            "capabilities" => {
                let (header, all) = ([0x2008_0522_u32, 0], [u32::MAX; 6]);
                call!(SYS_capset, header.as_ptr(), all.as_ptr())
            }
            "dumpable" => call!(SYS_prctl, libc::PR_SET_DUMPABLE, 1, 0, 0, 0),
            "outlive-supervisor" => call!(SYS_prctl, libc::PR_SET_PDEATHSIG, 0, 0, 0, 0),
            "code" => map(libc::PROT_READ | libc::PROT_EXEC),
            "code-by-protection" => map(libc::PROT_READ | libc::PROT_WRITE)
                .and_then(|page| call!(SYS_mprotect, page, 4096, libc::PROT_READ | libc::PROT_EXEC)),
            "write-code" => {
                let code = (attempt as *const ()).addr() & !4095;
                call!(SYS_mprotect, code, 4096, libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC)
            }
            _ => return None,
        };
        Some(result.map(|_| ()))
    }

    fn on_the_network(&self, what: &str) -> Option<io::Result<()>> {
        let (inet, stream) = (libc::AF_INET, libc::SOCK_STREAM);
        let address = libc::sockaddr_in {
            sin_family: inet as libc::sa_family_t,
            sin_port: self.port.to_be(),
            sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes([127, 0, 0, 1]) },
            sin_zero: [0; 8],
        };
        let (at, length) = (&raw const address, size_of::<libc::sockaddr_in>());
        let result = match what {
            "socket" => call!(SYS_socket, inet, stream, 0),
            "datagram-socket" => call!(SYS_socket, inet, libc::SOCK_DGRAM, 0),
            "raw-socket" => call!(SYS_socket, inet, libc::SOCK_RAW, 1),
            "packet-socket" => call!(SYS_socket, libc::AF_PACKET, libc::SOCK_RAW, 0),
            "unix-socket" => call!(SYS_socket, libc::AF_UNIX, stream, 0),
            "vsock" => call!(SYS_socket, libc::AF_VSOCK, stream, 0),
            "audit-socket" => call!(SYS_socket, libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_AUDIT),
            "socket-pair" => call!(SYS_socketpair, libc::AF_UNIX, stream, 0, [0; 2].as_mut_ptr()),
            "connect" => call!(SYS_socket, inet, stream, 0).and_then(|socket| call!(SYS_connect, socket, at, length)),
            "bind" => call!(SYS_socket, inet, stream, 0).and_then(|socket| call!(SYS_bind, socket, at, length)),
            "listen" => call!(SYS_socket, inet, stream, 0).and_then(|socket| call!(SYS_listen, socket, 1)),
            _ => return None,
        };
        Some(result.map(|_| ()))
    }
}

fn on_the_kernel(what: &str) -> Option<io::Result<()>> {
    let zeros = [0_u64; 32];
    let result = match what {
        "bpf" => call!(SYS_bpf, 0, zeros.as_ptr(), 128),
        "io-uring" => call!(SYS_io_uring_setup, 1, zeros.as_ptr()),
        "userfaultfd" => call!(SYS_userfaultfd, 1),
        "performance-events" => call!(SYS_perf_event_open, zeros.as_ptr(), 0, -1, -1, 0),
        "keys" => call!(SYS_keyctl, 0, -3, 1),
        "filter" => call!(SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, zeros.as_ptr()),
        "personality" => call!(SYS_personality, 0x0040_0000),
        "terminal" => call!(SYS_ioctl, 2, libc::TIOCSTI, c"x".as_ptr()),
        "module" => call!(SYS_init_module, zeros.as_ptr(), 8, c"".as_ptr()),
        "reboot" => call!(SYS_reboot, 0, 0, 0, 0),
        "clock" => call!(SYS_clock_settime, libc::CLOCK_REALTIME, zeros.as_ptr()),
        "host-name" => call!(SYS_sethostname, c"hostile".as_ptr(), 7),
        "shared-memory" => call!(SYS_shmget, libc::IPC_PRIVATE, 4096, 0o600),
        "message-queue" => call!(SYS_mq_open, c"hostile".as_ptr(), libc::O_CREAT | libc::O_RDWR, 0o600, 0),
        _ => return None,
    };
    Some(result.map(|_| ()))
}

fn read_from(file: libc::c_long) -> io::Result<libc::c_long> {
    let mut bytes = [0_u8; 64];
    call!(SYS_read, file, bytes.as_mut_ptr(), bytes.len())
}

fn map(protection: libc::c_int) -> io::Result<libc::c_long> {
    call!(SYS_mmap, ptr::null::<u8>(), 4096, protection, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
}
