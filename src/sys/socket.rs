//! Socket options that std does not offer.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// A listening socket, not blocking. `SO_REUSEADDR` lets a restarted server have its port while old connections linger.
pub fn bind_tcp(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

/// Makes the close of this connection a reset, so that a client cannot take a body that was cut for one that ended.
pub fn reset_on_close(stream: &impl std::os::fd::AsFd) {
    // A socket that refuses the option is closed plainly; a chunked or counted body shows the cut all the same.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}
