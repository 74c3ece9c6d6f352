//! How a client's bytes travel: over TCP or a Unix socket, plain or in TLS, after a header of the PROXY protocol or not.
//!
//! Owns the socket of a client connection and what lies between it and HTTP. Knows no HTTP, and reads no clock: `reactor` drives it as it would
//! drive a socket, and the plain one is nothing but the socket. A transport that is not open yet is driven by [`Transport::open`] alone.

mod secure;
mod socket;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;

use crate::proxy_protocol::{self, HEADER_BYTES_MAX, Malformed, Origin};
use crate::sys;
use crate::tls::Acceptor;

use secure::Secure;
pub use socket::Socket;

/// The way to a client.
#[derive(Debug)]
pub struct Transport {
    pub socket: Socket,
    layer: Layer,
}

/// What is between the socket and HTTP.
#[derive(Debug)]
enum Layer {
    Plain,
    /// A header of the PROXY protocol is awaited, and TLS begins after it where there is an acceptor.
    Announced(Option<Acceptor>),
    Secure(Box<Secure>),
}

/// How far the opening of a transport is.
#[derive(Debug)]
pub enum Opening {
    Open,
    /// A proxy has said whose the connection is.
    Announced(SocketAddr),
    /// The socket has to become readable or writable first.
    Waits,
    /// There is more to do, in another turn.
    Postponed,
    /// The client speaks HTTP, and TLS was expected. The transport is plain and open now, to tell it so.
    PlainHttp,
    Failed(OpeningError),
}

/// Why a transport will not open.
#[derive(Debug)]
pub enum OpeningError {
    Announcement(Malformed),
    Handshake(rustls::Error),
    /// The client has left.
    Gone,
    System(io::Error),
}

impl Transport {
    /// `announced`: a header of the PROXY protocol comes first.
    ///
    /// # Errors
    ///
    /// TLS cannot begin.
    pub fn new(socket: Socket, announced: bool, tls: Option<Acceptor>) -> Result<Transport, OpeningError> {
        let layer = match (announced, tls) {
            (true, tls) => Layer::Announced(tls),
            (false, tls) => secured(tls)?,
        };
        Ok(Transport { socket, layer })
    }

    /// A connection that is open already.
    pub fn plain(socket: Socket) -> Transport {
        Transport { socket, layer: Layer::Plain }
    }

    /// HTTP cannot be spoken yet: [`Transport::open`] has work when the socket has.
    pub fn is_opening(&self) -> bool {
        match &self.layer {
            Layer::Plain => false,
            Layer::Announced(_) => true,
            Layer::Secure(secure) => secure.is_opening(),
        }
    }

    /// A proxy has yet to say whose the connection is.
    pub fn is_announced(&self) -> bool {
        matches!(self.layer, Layer::Announced(_))
    }

    /// The socket carries HTTP itself, so that it is all that another process would need.
    pub fn is_plain(&self) -> bool {
        matches!(self.layer, Layer::Plain)
    }

    pub fn is_secure(&self) -> bool {
        matches!(self.layer, Layer::Secure(_) | Layer::Announced(Some(_)))
    }

    /// What client and server have agreed on to speak inside (RFC 7301).
    pub fn protocol(&self) -> Option<&[u8]> {
        match &self.layer {
            Layer::Plain | Layer::Announced(_) => None,
            Layer::Secure(secure) => secure.protocol(),
        }
    }

    /// A read that brought less than there was room for has emptied the socket.
    pub fn is_drained_by(&self, count: usize, room: usize) -> bool {
        self.is_plain() && count < room
    }

    /// Takes a step towards HTTP.
    pub fn open(&mut self) -> Opening {
        match &mut self.layer {
            Layer::Plain => Opening::Open,
            Layer::Secure(secure) => match secure.open(&mut self.socket) {
                Opening::PlainHttp => {
                    self.layer = Layer::Plain;
                    Opening::PlainHttp
                }
                other => other,
            },
            Layer::Announced(tls) => match announcement(&mut self.socket) {
                Ok(None) => Opening::Waits,
                Ok(Some(origin)) => match secured(tls.take()) {
                    Ok(layer) => {
                        self.layer = layer;
                        match origin {
                            Origin::Client(client) => Opening::Announced(client),
                            Origin::Peer => Opening::Postponed,
                        }
                    }
                    Err(error) => Opening::Failed(error),
                },
                Err(error) => Opening::Failed(error),
            },
        }
    }

    /// Reads what is for HTTP. `Ok(0)` is an end that the client has said; in TLS, one that it has not said is an error (RFC 8446, section 6.1).
    ///
    /// # Errors
    ///
    /// As of a socket; `Interrupted` also when there is more to do than one call should.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.layer {
            Layer::Plain => io::Read::read(&mut self.socket, buffer),
            Layer::Secure(secure) => secure.read(&mut self.socket, buffer),
            Layer::Announced(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Writes HTTP. After `WouldBlock` the same bytes have to be offered again: some of them may be on their way.
    ///
    /// # Errors
    ///
    /// As of a socket.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.layer {
            Layer::Plain => io::Write::write(&mut self.socket, bytes),
            Layer::Secure(secure) => secure.write(&mut self.socket, bytes),
            Layer::Announced(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Writes what TLS has to say beside HTTP.
    pub fn flush(&mut self) {
        if let Layer::Secure(secure) = &mut self.layer {
            // What fails is found by the next read.
            let _ = secure.flush(&mut self.socket);
        }
    }

    /// Says that nothing more will be sent.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when the socket has to take something first: call it again then.
    pub fn shutdown_write(&mut self) -> io::Result<()> {
        if let Layer::Secure(secure) = &mut self.layer {
            secure.say_goodbye(&mut self.socket)?;
        }
        self.socket.shutdown_write()
    }

    /// Ends the connection cleanly, as far as the socket takes it: its client can tell that nothing is missing.
    pub fn finish(&mut self) {
        if let Layer::Secure(secure) = &mut self.layer {
            let _ = secure.say_goodbye(&mut self.socket);
        }
    }
}

fn secured(tls: Option<Acceptor>) -> Result<Layer, OpeningError> {
    match tls {
        None => Ok(Layer::Plain),
        Some(acceptor) => Ok(Layer::Secure(Box::new(Secure::new(acceptor.begin().map_err(OpeningError::Handshake)?)))),
    }
}

/// Reads a header of the PROXY protocol and not a byte more: it is looked at before it is taken.
fn announcement(socket: &mut Socket) -> Result<Option<Origin>, OpeningError> {
    let mut bytes = [0; HEADER_BYTES_MAX];
    let count = match sys::peek(socket, &mut bytes) {
        Ok(0) => return Err(OpeningError::Gone),
        Ok(count) => count,
        Err(error) if is_wait(&error) => return Ok(None),
        Err(error) => return Err(OpeningError::System(error)),
    };
    match proxy_protocol::parse(&bytes[..count]) {
        Ok(None) if count == bytes.len() => Err(OpeningError::Announcement(Malformed::TooLong)),
        Ok(None) => Ok(None),
        Ok(Some(header)) => {
            // They are there, so that they come at once.
            io::Read::read_exact(socket, &mut bytes[..header.bytes]).map_err(OpeningError::System)?;
            Ok(Some(header.origin))
        }
        Err(malformed) => Err(OpeningError::Announcement(malformed)),
    }
}

fn is_wait(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

impl std::fmt::Display for OpeningError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            OpeningError::Announcement(malformed) => write!(f, "PROXY protocol: {malformed}"),
            OpeningError::Handshake(error) => write!(f, "TLS: {error}"),
            OpeningError::Gone => f.write_str("the client has left"),
            OpeningError::System(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for OpeningError {}
