//! What one client connection may use: sizes, and how long it may take.
//!
//! Owns the numbers and their defaults; never enforces them. The manifest fills them in, `context` shares them between connections.

use std::time::Duration;

use super::patience::MinRate;

/// A request method longer than this is not one that anybody routes (400; RFC 9110 §9.1 leaves the length open).
pub const METHOD_BYTES_MAX: usize = 32;
/// Empty lines that a client may send ahead of a request line (RFC 9112 §2.2).
pub const LEADING_BLANK_LINES_MAX: u8 = 2;
/// Digits of one chunk size, leading zeros included: enough for any `u64` (RFC 9112 §7.1).
pub const CHUNK_SIZE_DIGITS_MAX: u8 = 16;
/// Digits of a `Content-Length`: as many as the largest `u64` has (RFC 9110 §8.6).
pub const CONTENT_LENGTH_DIGITS_MAX: usize = 20;
/// Options in the `connection` fields of one request (RFC 9110 §7.6.1); clients send one or two (400).
pub const CONNECTION_OPTIONS_MAX: usize = 32;
/// After the response has ended, this much of an unread request body is read and thrown away to keep the connection;
/// with more than that to come it is cheaper to close.
pub const DRAIN_BYTES_MAX: u64 = 1024 * 1024;
/// What is read and thrown away of a client that is turned away, so that it sees why before its connection ends (RFC 9112 §9.6).
pub const FAREWELL_BYTES_MAX: u64 = 256 * 1024;
/// A client that goes on sending after it was told to leave is listened to for so long, so that it comes to the answer (RFC 9112 §9.6).
pub const LINGER_TIME_MAX: Duration = Duration::from_secs(30);
/// Pieces of a response smaller than this wait for each other while the client is behind.
pub const SMALL_PIECE_BYTES: usize = 1024;
/// So many bytes of them become one chunk.
pub const HELD_BYTES_MAX: usize = 16 * 1024;
/// Buffer sets that a `Context` keeps for the next request instead of giving them back to the allocator.
pub const SPARE_BUFFERS_MAX: usize = 64;
/// A buffer that has grown beyond this is given back rather than kept.
pub const SPARE_BUFFER_BYTES_MAX: usize = 16 * 1024;
/// Streams that a client of HTTP/2 may cancel beyond those that it lets end: a request that is cancelled may have cost as much as any other, and
/// its client nothing. Each response that is complete gives one back. The connection ends with ENHANCE_YOUR_CALM (RFC 9113 §10.5).
pub const H2_CANCELS_MAX: u32 = 200;
/// Bytes that a client of HTTP/2 may send beside requests, bodies, and what the responses that it reads allow for: pings, settings, priorities,
/// windows. More ends the connection in the same way.
pub const H2_OVERHEAD_BYTES_MAX: u64 = 1024 * 1024;
/// How many bytes of that each byte of a request or a response allows for.
pub const H2_OVERHEAD_FACTOR: u64 = 8;
/// What the library may write of HTTP/2 before the socket has taken the last of it. Without room it reads no further, so that a client that does
/// not read cannot make it answer.
pub const H2_OUTPUT_BYTES_HIGH: usize = 64 * 1024;
/// What the library may hold of one response until its frames are written.
pub const H2_SEND_BUFFER_BYTES: usize = 64 * 1024;
/// Streams reset by either side that are remembered, so that frames that cross the reset are not taken for errors.
pub const H2_RESETS_REMEMBERED: usize = 50;
/// Streams that the client has reset before they could be taken, and streams that were reset for what was wrong with them: more ends the
/// connection with ENHANCE_YOUR_CALM.
pub const H2_RESETS_UNSEEN_MAX: usize = 20;
pub const H2_ERRORS_MAX: usize = 200;

/// Sizes. All are inclusive: a request exactly at a limit is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Request line, header fields and the empty line that ends them (431).
    pub head_bytes_max: usize,
    /// Header fields of a request, and trailer fields of a body (431).
    pub headers_max: usize,
    /// The request target as sent (414).
    pub target_bytes_max: usize,
    /// Decoded body of a request (413); `u64::MAX` for none.
    pub body_bytes_max: u64,
    /// Chunk extensions of one request body, all together (400).
    pub chunk_ext_bytes_max: usize,
    /// The trailer section of a chunked request body (431).
    pub trailer_bytes_max: usize,
    /// One `Event::Body`.
    pub body_event_bytes_max: usize,
    /// While this many bytes from the client wait to be taken, `Connection::wants_input` is false.
    pub input_bytes_high: usize,
    /// While this many bytes for the client wait to be written, `Connection::wants_output` is false.
    pub output_bytes_high: usize,
    /// Requests in progress on one connection of HTTP/2; the next is refused and may be sent again (RFC 9113 §5.1.2).
    pub streams_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes_max: 32 * 1024,
            headers_max: 100,
            target_bytes_max: 8 * 1024,
            body_bytes_max: u64::MAX,
            chunk_ext_bytes_max: 16 * 1024,
            trailer_bytes_max: 8 * 1024,
            body_event_bytes_max: 64 * 1024,
            input_bytes_high: 64 * 1024,
            output_bytes_high: 64 * 1024,
            streams_max: 100,
        }
    }
}

/// Times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From the first byte of a request head to its end (408), and from the accept to the first byte (closed silently).
    pub head: Duration,
    /// Between bytes of a request body that somebody waits for (408).
    pub body: Duration,
    /// Without progress while there is output to write (the connection is cut).
    pub write: Duration,
    /// Between two requests (closed silently).
    pub keep_alive: Duration,
    /// For the client to send more, or close its side, after we have closed ours, and for the rest of an unwanted request body.
    pub linger: Duration,
    /// How slowly a request may be sent while it is waited for (408).
    pub receive: MinRate,
    /// How slowly a response may be read while it could be sent (the connection is cut).
    pub send: MinRate,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            body: Duration::from_secs(30),
            write: Duration::from_secs(30),
            keep_alive: Duration::from_secs(75),
            linger: Duration::from_secs(2),
            receive: MinRate::default(),
            send: MinRate::default(),
        }
    }
}
