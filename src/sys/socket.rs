//! Socket options that std does not offer.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use nix::sys::socket::{MsgFlags, recv};
use nix::sys::stat::{Mode, fchmod};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::process::Process;

/// A listening socket, not blocking. `SO_REUSEADDR` lets a restarted server have its port while old connections linger.
///
/// Whether `[::]` takes IPv4 connections too is what is asked for, whatever the system's default (`net.ipv6.bindv6only`).
pub fn bind_tcp(address: SocketAddr, backlog: i32, reuse_port: bool, ipv6_only: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if reuse_port {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(ipv6_only)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

/// A listening Unix socket that nobody but this user can connect to, not blocking. A name that is taken is `AddrInUse`, also when it is a
/// symbolic link: bind(2) follows none.
///
/// A socket's file gets the mode of the socket, less the umask (unix(7)), so that there is no moment at which it is open to others.
pub fn bind_private(path: &Path, backlog: i32) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
    socket.bind(&socket2::SockAddr::unix(path)?)?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

/// Changes how many connections the kernel holds for a socket that listens already (listen(2)).
pub fn set_backlog(listener: &impl AsFd, backlog: i32) -> io::Result<()> {
    SockRef::from(listener).listen(backlog)
}

/// Looks at what a socket has for us and leaves it there (`MSG_PEEK`, recv(2)).
pub fn peek(stream: &impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(recv(stream.as_fd().as_raw_fd(), buffer, MsgFlags::MSG_PEEK)?)
}

/// The user whose process is at the other end, as it was when that process connected.
pub fn peer_uid(stream: &impl AsFd) -> io::Result<u32> {
    peer_credentials(stream).map(|peer| peer.uid)
}

/// The process that has connected from the other end, or has made both ends of a pair.
///
/// # Errors
///
/// It is gone, as far as the socket tells: its pid may be somebody else's by now.
pub fn peer_process(stream: &impl AsFd) -> io::Result<Process> {
    let process = Process::open(peer_credentials(stream)?.pid as u32)?;
    // An end that is still open after that was so before: the pid was that process's when it was opened.
    match recv(stream.as_fd().as_raw_fd(), &mut [0], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT) {
        Ok(0) => Err(io::ErrorKind::NotFound.into()),
        Ok(_) | Err(nix::errno::Errno::EAGAIN) => Ok(process),
        Err(error) => Err(error.into()),
    }
}

fn peer_credentials(stream: &impl AsFd) -> io::Result<libc::ucred> {
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: both pointers are to live locals, and `length` is the size of the first; getsockopt(2) writes no more than that.
    let result = unsafe {
        libc::getsockopt(
            stream.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut length,
        )
    };
    // Root is uid 0: what was not written must not look like it.
    if result == 0 && length as usize == size_of::<libc::ucred>() { Ok(peer) } else { Err(io::Error::last_os_error()) }
}

/// Two connected sockets that keep the bounds of messages (`SOCK_SEQPACKET`, unix(7)), close-on-exec.
pub fn packet_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None)?;
    Ok((ours.into(), theirs.into()))
}

/// Bytes that were written to a socket and that its other side has not acknowledged (`SIOCOUTQ`, tcp(7)); in a Unix socket those that were not read,
/// with what they cost the kernel.
pub fn unacknowledged_bytes(stream: &impl AsFd) -> io::Result<u64> {
    let mut count: libc::c_int = 0;
    // SAFETY: SIOCOUTQ is TIOCOUTQ, and ioctl(2) stores one int through its pointer for that, which is to a live local.
    let result = unsafe { libc::ioctl(stream.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut count) };
    if result == 0 { Ok(u64::try_from(count).unwrap_or_default()) } else { Err(io::Error::last_os_error()) }
}

/// Makes the close of this connection a reset, so that a client cannot take a body that was cut for one that ended.
pub fn reset_on_close(stream: &impl AsFd) {
    // A socket that refuses the option is closed plainly; a chunked or counted body shows the cut all the same.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}
