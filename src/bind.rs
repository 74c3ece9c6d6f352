//! Listening sockets from the addresses of a manifest: inherited where there are any, bound otherwise.

use std::fmt;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::rc::Rc;

use crate::config::{Address, Config, Networks, SocketOptions};
use crate::socket_file::{self, Obstacle, SocketFile};
use crate::sys;
use crate::tls::Acceptor;

/// Connections to the admin listener that the kernel holds.
const ADMIN_BACKLOG: i32 = 64;

/// An address that a manifest wants served.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// As it is written; its port may be 0, for any.
    pub address: Address,
    /// Which `[[serve]]` it is; means nothing for the admin listener.
    pub serve: usize,
    pub connections_max: Option<usize>,
    pub options: SocketOptions,
    pub backlog: i32,
    /// Who is believed when a connection begins with a header of the PROXY protocol; `None` where it does not.
    pub proxies: Option<Rc<Networks>>,
    pub tls: Option<Acceptor>,
    /// A client that begins with HTTP/2 is spoken to in it.
    pub http2: bool,
}

/// A listening socket.
#[derive(Debug)]
pub enum Socket {
    Tcp(TcpListener),
    /// With its file.
    Unix(UnixListener, SocketFile),
}

/// A socket that is bound and listening.
#[derive(Debug)]
pub struct Bound {
    pub socket: Socket,
    pub wanted: Wanted,
    /// With the port that it has.
    pub address: Address,
}

/// The addresses of a manifest, in its order.
pub fn wanted(config: &Config) -> Result<Vec<Wanted>, BindError> {
    let mut all = Vec::new();
    for (serve, spec) in config.serves.iter().enumerate() {
        let addresses =
            spec.listen.addresses().map_err(|source| BindError { address: spec.listen.to_string(), source })?;
        let (connections_max, options) = (spec.connections_max, spec.socket);
        let backlog = i32::try_from(options.backlog.unwrap_or(config.server.backlog)).unwrap_or(i32::MAX);
        let proxies = spec.proxy_protocol.then(|| Rc::new(spec.trusted_proxies.clone()));
        let tls = spec.tls.as_ref().and_then(|tls| tls.acceptor.clone());
        all.extend(addresses.into_iter().map(|address| Wanted {
            address,
            serve,
            connections_max,
            options,
            backlog,
            proxies: proxies.clone(),
            tls: tls.clone(),
            http2: spec.http2,
        }));
    }
    Ok(all)
}

/// Takes `inherited` for the address, or binds it.
pub fn bind(wanted: Wanted, inherited: Option<Socket>) -> Result<Bound, BindError> {
    let blame = |source| BindError { address: wanted.address.to_string(), source };
    let socket = match inherited {
        Some(socket) => socket,
        None => open(&wanted).map_err(blame)?,
    };
    let address = match &socket {
        Socket::Tcp(listener) => Address::Tcp(listener.local_addr().map_err(blame)?),
        Socket::Unix(..) => wanted.address.clone(),
    };
    Ok(Bound { socket, wanted, address })
}

fn open(wanted: &Wanted) -> io::Result<Socket> {
    let SocketOptions { reuse_port, ipv6_only, mode, .. } = wanted.options;
    match &wanted.address {
        Address::Tcp(address) => sys::bind_tcp(*address, wanted.backlog, reuse_port, ipv6_only).map(Socket::Tcp),
        Address::Unix(path) => match socket_file::bind(path, mode, wanted.backlog) {
            Ok((listener, file)) => Ok(Socket::Unix(listener, file)),
            Err(Obstacle::System(error)) => Err(error),
            Err(obstacle) => Err(io::Error::new(kind(&obstacle), obstacle)),
        },
    }
}

fn kind(obstacle: &Obstacle) -> io::ErrorKind {
    match obstacle {
        Obstacle::InUse | Obstacle::Busy => io::ErrorKind::AddrInUse,
        Obstacle::NotASocket | Obstacle::NotOurs => io::ErrorKind::AlreadyExists,
        Obstacle::TooLong => io::ErrorKind::InvalidFilename,
        Obstacle::System(error) => error.kind(),
    }
}

/// The sockets of the admin listener: what `inherit` has for an address, or bound.
pub fn admin(config: &Config, mut inherit: impl FnMut(&Address) -> Option<Socket>) -> Result<Vec<Bound>, BindError> {
    let Some(listen) = &config.server.admin else { return Ok(Vec::new()) };
    let addresses = listen.addresses().map_err(|source| BindError { address: listen.to_string(), source })?;
    let bound = addresses.into_iter().map(|address| {
        let inherited = inherit(&address);
        let options = SocketOptions::default();
        let wanted = Wanted {
            address,
            serve: 0,
            connections_max: None,
            options,
            backlog: ADMIN_BACKLOG,
            proxies: None,
            tls: None,
            http2: false,
        };
        bind(wanted, inherited)
    });
    bound.collect()
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Tcp(listener) => listener.as_fd(),
            Socket::Unix(listener, _) => listener.as_fd(),
        }
    }
}

/// An address cannot be served.
#[derive(Debug)]
pub struct BindError {
    pub address: String,
    pub source: io::Error,
}

impl BindError {
    pub fn hint(&self) -> Option<&'static str> {
        match self.source.kind() {
            io::ErrorKind::AddrInUse if self.is_unix() => {
                Some("stop the server that listens there, or listen elsewhere")
            }
            io::ErrorKind::AlreadyExists => Some("move it away, or listen elsewhere"),
            io::ErrorKind::NotFound if self.is_unix() => Some("the directory of the socket has to be there"),
            io::ErrorKind::PermissionDenied if self.is_unix() => Some("rusmd must be able to write to its directory"),
            io::ErrorKind::AddrInUse => Some("another program has this address; stop it, or listen elsewhere"),
            io::ErrorKind::PermissionDenied => Some("ports below 1024 need root or CAP_NET_BIND_SERVICE"),
            io::ErrorKind::AddrNotAvailable => Some("this machine does not have that address"),
            _ => None,
        }
    }

    fn is_unix(&self) -> bool {
        self.address.starts_with("unix:")
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {}", self.address)
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}
