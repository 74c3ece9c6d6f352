//! What a test's client speaks over: TCP, a Unix socket, or TLS over TCP.
//!
//! Owns the stream and the calls that differ between the three. `client` drives it.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustls::{ClientConnection, StreamOwned};

#[derive(Debug)]
pub enum Wire {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Wire {
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Wire::Tcp(stream) => stream.set_read_timeout(timeout),
            Wire::Unix(stream) => stream.set_read_timeout(timeout),
            Wire::Tls(stream) => stream.sock.set_read_timeout(timeout),
        }
    }

    pub fn set_nonblocking(&self, on: bool) -> io::Result<()> {
        match self {
            Wire::Tcp(stream) => stream.set_nonblocking(on),
            Wire::Unix(stream) => stream.set_nonblocking(on),
            Wire::Tls(stream) => stream.sock.set_nonblocking(on),
        }
    }

    /// Says that nothing more will be sent.
    pub fn shutdown_write(&mut self) -> io::Result<()> {
        match self {
            Wire::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Wire::Unix(stream) => stream.shutdown(Shutdown::Write),
            Wire::Tls(stream) => {
                stream.conn.send_close_notify();
                stream.conn.complete_io(&mut stream.sock).map(|_| ())
            }
        }
    }

    /// The TCP connection below.
    #[track_caller]
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Wire::Tcp(stream) => stream,
            Wire::Tls(stream) => &stream.sock,
            Wire::Unix(_) => panic!("a Unix socket is no TCP connection"),
        }
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Wire::Tcp(stream) => stream.read(buffer),
            Wire::Unix(stream) => stream.read(buffer),
            Wire::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Wire::Tcp(stream) => stream.write(bytes),
            Wire::Unix(stream) => stream.write(bytes),
            Wire::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Wire::Tcp(stream) => stream.flush(),
            Wire::Unix(stream) => stream.flush(),
            Wire::Tls(stream) => stream.flush(),
        }
    }
}
