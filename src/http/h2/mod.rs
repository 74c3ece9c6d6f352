//! The server side of HTTP/2, without I/O (RFC 9113), by the library `h2`, without a runtime.
//!
//! A connection is a [`Session`], each request of it a [`Stream`]. Owns what the library leaves open: how it is driven, what a request's head may be,
//! limits and times. Frames, compression of heads, windows and the states of streams are the library's. It is written for tasks of a runtime;
//! here a task is a flag: the reactor lets a session or a stream go on when bytes have moved, and looks at the flag to know which else can.
//! Never touches a socket, a clock, a log or a route.

mod pipe;
mod request;
mod session;
mod stream;
#[cfg(test)]
mod tests;

pub use session::{Accepted, Session, StreamEnd};
pub use stream::Stream;

/// What ALPN calls it (RFC 9113 §3.2).
pub const PROTOCOL_NAME: &[u8] = b"h2";

/// What a client begins with (RFC 9113 §3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
