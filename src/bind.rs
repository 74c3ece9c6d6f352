//! Listening sockets from the addresses of a manifest: inherited where there are any, bound otherwise.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};

use crate::config::Config;
use crate::sys;

/// Connections to the admin listener that the kernel holds.
const ADMIN_BACKLOG: usize = 64;

/// An address that a manifest wants served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// As it is written; its port may be 0, for any.
    pub address: SocketAddr,
    /// Which `[[serve]]` it is; means nothing for the admin listener.
    pub serve: usize,
    pub connections_max: Option<usize>,
}

/// A socket that is bound and listening.
#[derive(Debug)]
pub struct Bound {
    pub socket: TcpListener,
    pub wanted: Wanted,
    /// With the port that it has.
    pub address: SocketAddr,
}

/// The addresses of a manifest, in its order.
pub fn wanted(config: &Config) -> Result<Vec<Wanted>, BindError> {
    let mut all = Vec::new();
    for (serve, spec) in config.serves.iter().enumerate() {
        let addresses =
            spec.listen.addresses().map_err(|source| BindError { address: spec.listen.to_string(), source })?;
        let connections_max = spec.connections_max;
        all.extend(addresses.into_iter().map(|address| Wanted { address, serve, connections_max }));
    }
    Ok(all)
}

/// Takes `inherited` for the address, or binds it.
pub fn bind(wanted: Wanted, inherited: Option<TcpListener>, backlog: usize) -> Result<Bound, BindError> {
    let blame = |source| BindError { address: wanted.address.to_string(), source };
    let socket = match inherited {
        Some(socket) => socket,
        None => sys::bind_tcp(wanted.address, i32::try_from(backlog).unwrap_or(i32::MAX)).map_err(blame)?,
    };
    let address = socket.local_addr().map_err(blame)?;
    Ok(Bound { socket, wanted, address })
}

/// The sockets of the admin listener: what `inherit` has for an address, or bound.
pub fn admin(
    config: &Config,
    mut inherit: impl FnMut(SocketAddr) -> Option<TcpListener>,
) -> Result<Vec<Bound>, BindError> {
    let Some(listen) = &config.server.admin else { return Ok(Vec::new()) };
    let addresses = listen.addresses().map_err(|source| BindError { address: listen.to_string(), source })?;
    let bound = addresses.into_iter().map(|address| {
        let wanted = Wanted { address, serve: 0, connections_max: None };
        bind(wanted, inherit(address), ADMIN_BACKLOG)
    });
    bound.collect()
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
            io::ErrorKind::AddrInUse => Some("another program has this address; stop it, or listen elsewhere"),
            io::ErrorKind::PermissionDenied => Some("ports below 1024 need root or CAP_NET_BIND_SERVICE"),
            io::ErrorKind::AddrNotAvailable => Some("this machine does not have that address"),
            _ => None,
        }
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
