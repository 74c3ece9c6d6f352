//! TLS over a socket that does not block: rustls keeps the protocol, this keeps it in step with the socket.
//!
//! Bounded both ways: no record is read from the socket before the last one's plaintext is taken, and no plaintext is taken before the last
//! record is written. So a count of written bytes is what the kernel has, as it is of a plain socket, and deadlines mean the same.

use std::io::{self, Read as _, Write as _};

use rustls::ServerConnection;

use super::{Opening, OpeningError, Socket, is_wait};
use crate::sys;

/// Most plaintext of one record (RFC 8446, section 5.1), which is what is written at a time.
const RECORD_BYTES_MAX: usize = 16 * 1024;

/// Reads of the socket in one call. A record takes up to five; records without content take more.
const READS_MAX: usize = 16;

/// A session and its place between a socket and HTTP.
#[derive(Debug)]
pub(super) struct Secure {
    session: ServerConnection,
    opening: Stage,
    /// Plaintext that the session has, and that is not written until its record is.
    owed: usize,
    goodbye_said: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Nobody has looked at the first byte.
    Unseen,
    Handshaking,
    Open,
}

impl Secure {
    pub(super) fn new(session: ServerConnection) -> Secure {
        Secure { session, opening: Stage::Unseen, owed: 0, goodbye_said: false }
    }

    pub(super) fn is_opening(&self) -> bool {
        self.opening != Stage::Open
    }

    /// What was agreed to be spoken inside, if anything was.
    pub(super) fn protocol(&self) -> Option<&[u8]> {
        self.session.alpn_protocol()
    }

    /// Goes on with the handshake.
    pub(super) fn open(&mut self, socket: &mut Socket) -> Opening {
        if self.opening == Stage::Unseen {
            let mut first = [0];
            match sys::peek(socket, &mut first) {
                Ok(0) => return Opening::Failed(OpeningError::Gone),
                Ok(_) if begins_http(first[0]) => return Opening::PlainHttp,
                Ok(_) => self.opening = Stage::Handshaking,
                Err(error) if is_wait(&error) => return Opening::Waits,
                Err(error) => return Opening::Failed(OpeningError::System(error)),
            }
        }
        for _ in 0..READS_MAX {
            match self.flush(socket) {
                Ok(()) => {}
                Err(error) if is_wait(&error) => return Opening::Waits,
                Err(error) => return Opening::Failed(OpeningError::System(error)),
            }
            if !self.session.is_handshaking() {
                self.opening = Stage::Open;
                return Opening::Open;
            }
            match self.session.read_tls(socket) {
                Ok(0) => return Opening::Failed(OpeningError::Gone),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if is_wait(&error) => return Opening::Waits,
                Err(error) => return Opening::Failed(OpeningError::System(error)),
            }
            if let Err(error) = self.session.process_new_packets() {
                // The alert that tells the client why (RFC 8446, section 6.2).
                let _ = self.flush(socket);
                return Opening::Failed(OpeningError::Handshake(error));
            }
        }
        Opening::Postponed
    }

    pub(super) fn read(&mut self, socket: &mut Socket, buffer: &mut [u8]) -> io::Result<usize> {
        for _ in 0..READS_MAX {
            match self.session.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
            // An end without a farewell is told by the next look at the plaintext.
            self.session.read_tls(socket)?;
            let processed = self.session.process_new_packets();
            // Answers to what was read: a key update, an alert.
            match self.flush(socket) {
                Err(error) if !is_wait(&error) => return Err(error),
                Ok(()) | Err(_) => {}
            }
            processed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
        Err(io::ErrorKind::Interrupted.into())
    }

    pub(super) fn write(&mut self, socket: &mut Socket, bytes: &[u8]) -> io::Result<usize> {
        // What is owed is the beginning of these bytes: they are offered again until they are taken.
        if self.owed == 0 {
            self.owed = self.session.writer().write(&bytes[..bytes.len().min(RECORD_BYTES_MAX)])?;
        }
        self.flush(socket)?;
        Ok(std::mem::take(&mut self.owed))
    }

    /// Writes the records that are there.
    pub(super) fn flush(&mut self, socket: &mut Socket) -> io::Result<()> {
        while self.session.wants_write() {
            match self.session.write_tls(socket) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sends the alert `close_notify` (RFC 8446, section 6.1). Before the handshake is over there is nobody yet who could believe it.
    pub(super) fn say_goodbye(&mut self, socket: &mut Socket) -> io::Result<()> {
        if self.is_opening() {
            return Ok(());
        }
        if !std::mem::replace(&mut self.goodbye_said, true) {
            self.session.send_close_notify();
        }
        self.flush(socket)
    }
}

/// A method, or the end of line that may stand before one: no record of TLS begins so (RFC 8446, section 5.1).
fn begins_http(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || matches!(byte, b'\r' | b'\n')
}
