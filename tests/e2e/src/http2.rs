//! An HTTP/2 client of raw frames (RFC 9113): what a test sends is what goes out, legal or not.
//!
//! Owns one connection, its read deadline and what a client has to answer by itself: settings, pings, and windows for what has been read. Compresses
//! no header (RFC 7541, appendix C.2) and reads of one nothing but its status; what a guest has seen is told by its response's body.

use std::collections::HashMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::wait::{Deadline, SOON};
use crate::wire::Wire;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types of frames (RFC 9113, section 6).
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

/// Flags of frames.
pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;

/// Codes of errors (RFC 9113, section 7).
pub const NO_ERROR: u32 = 0;
pub const PROTOCOL_ERROR: u32 = 1;
pub const INTERNAL_ERROR: u32 = 2;
pub const FLOW_CONTROL_ERROR: u32 = 3;
pub const STREAM_CLOSED: u32 = 5;
pub const FRAME_SIZE_ERROR: u32 = 6;
pub const REFUSED_STREAM: u32 = 7;
pub const CANCEL: u32 = 8;
pub const COMPRESSION_ERROR: u32 = 9;
pub const ENHANCE_YOUR_CALM: u32 = 11;

/// One connection.
#[derive(Debug)]
pub struct Http2 {
    wire: Wire,
    buffer: Vec<u8>,
    /// Frames of streams that the test has not asked for yet.
    kept: Vec<Frame>,
    /// Whether windows are opened again for what has been read.
    reads: bool,
    /// What may be sent of bodies: on each stream, and under 0 on all of them together (RFC 9113, section 6.9).
    windows: HashMap<u32, i64>,
}

/// One frame.
#[derive(Clone, Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// What became of a request.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub statuses: Vec<u16>,
    pub body: Vec<u8>,
    pub trailers: bool,
    /// It ended so, and not with END_STREAM.
    pub reset: Option<u32>,
}

impl Outcome {
    /// The status of the final response.
    #[track_caller]
    pub fn status(&self) -> u16 {
        *self.statuses.last().unwrap_or_else(|| panic!("no response: {self:?}"))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The same without the line in which a guest tells of the id that its request has got.
    pub fn told(&self) -> String {
        let own = ["field x-request-id: ", "field x-forwarded-for: ", "field x-forwarded-proto: "];
        self.text().split_inclusive('\n').filter(|line| !own.iter().any(|field| line.starts_with(field))).collect()
    }

    #[track_caller]
    pub fn assert(&self, status: u16, body: &str) {
        assert_eq!((self.status(), self.text().as_str(), self.reset), (status, body, None));
    }
}

/// How a connection has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// With this code in its last GOAWAY.
    Goaway(u32),
    Closed,
}

impl Http2 {
    /// By prior knowledge (RFC 9113, section 3.3), with no settings but the defaults.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Http2 {
        let mut client = Http2::connect_silent(address);
        client.greet();
        client
    }

    /// Without a word.
    #[track_caller]
    pub fn connect_silent(address: SocketAddr) -> Http2 {
        Http2::over(Wire::Tcp(connect(address)))
    }

    /// By ALPN (RFC 9113, section 3.2).
    #[track_caller]
    pub fn connect_tls(address: SocketAddr, config: &ClientConfig, name: &str) -> Http2 {
        let mut config = config.clone();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let name = ServerName::try_from(name.to_owned()).expect("a legal name");
        let session = ClientConnection::new(Arc::new(config), name).expect("a session can begin");
        let mut client = Http2::over(Wire::Tls(Box::new(StreamOwned::new(session, connect(address)))));
        client.greet();
        client
    }

    fn over(wire: Wire) -> Http2 {
        wire.set_read_timeout(Some(SOON)).expect("a positive timeout is accepted");
        Http2 { wire, buffer: Vec::new(), kept: Vec::new(), reads: true, windows: HashMap::new() }
    }

    /// Its preface.
    #[track_caller]
    pub fn greet(&mut self) {
        self.send_bytes(PREFACE);
        self.send(SETTINGS, 0, 0, &[]);
    }

    /// From now on no window is opened for what it is sent.
    pub fn stop_reading(&mut self) {
        self.reads = false;
    }

    #[track_caller]
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.try_send_bytes(bytes).expect("the server reads");
    }

    /// As [`Http2::send_bytes`], to a server that may have closed already.
    pub fn try_send_bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.wire.write_all(bytes).and_then(|()| self.wire.flush())
    }

    #[track_caller]
    pub fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.send_bytes(&frame(kind, flags, stream, payload));
    }

    /// A request's head.
    #[track_caller]
    pub fn head(&mut self, stream: u32, fields: &[(&str, &str)], ends: bool) {
        let flags = END_HEADERS | if ends { END_STREAM } else { 0 };
        self.send(HEADERS, flags, stream, &block(fields));
    }

    /// A request without a body.
    #[track_caller]
    pub fn get(&mut self, stream: u32, path: &str) {
        self.head(stream, &request("GET", path), true);
    }

    /// A request with one.
    #[track_caller]
    pub fn post(&mut self, stream: u32, path: &str, body: &[u8]) {
        self.head(stream, &request("POST", path), body.is_empty());
        if !body.is_empty() {
            self.body(stream, body, true);
        }
    }

    /// A part of a request's body, in frames of the largest size that every server takes, as fast as the server's windows allow.
    #[track_caller]
    pub fn body(&mut self, stream: u32, mut body: &[u8], ends: bool) {
        while !body.is_empty() {
            let room = self.window(0).min(self.window(stream)).clamp(0, FRAME_BYTES_MAX as i64) as usize;
            if room == 0 {
                let frame = self.frame().expect("the connection is open");
                assert!(frame.kind != GOAWAY && (frame.kind, frame.stream) != (RST_STREAM, stream), "{frame:?}");
                if frame.stream != 0 && frame.kind != WINDOW_UPDATE {
                    self.kept.push(frame);
                }
                continue;
            }
            let (piece, rest) = body.split_at(room.min(body.len()));
            self.send(DATA, if ends && rest.is_empty() { END_STREAM } else { 0 }, stream, piece);
            for of in [0, stream] {
                *self.windows.entry(of).or_insert(WINDOW_BYTES) -= piece.len() as i64;
            }
            body = rest;
        }
    }

    fn window(&self, stream: u32) -> i64 {
        self.windows.get(&stream).copied().unwrap_or(WINDOW_BYTES)
    }

    /// What becomes of a request.
    #[track_caller]
    pub fn outcome(&mut self, stream: u32) -> Outcome {
        let mut outcome = Outcome::default();
        loop {
            let Some(frame) = self.frame_of(stream) else { panic!("the connection ended after {outcome:?}") };
            match frame.kind {
                HEADERS if frame.flags & END_HEADERS == 0 => panic!("a head in pieces is not read here"),
                HEADERS if !outcome.body.is_empty() || frame.payload.first().is_some_and(|byte| !is_status(*byte)) => {
                    outcome.trailers = true;
                }
                HEADERS => outcome.statuses.push(status(&frame.payload)),
                DATA => outcome.body.extend_from_slice(&frame.payload),
                RST_STREAM => {
                    outcome.reset = Some(code(&frame.payload));
                    return outcome;
                }
                _ => {}
            }
            if matches!(frame.kind, HEADERS | DATA) && frame.flags & END_STREAM != 0 {
                return outcome;
            }
        }
    }

    /// The next frame of this stream.
    fn frame_of(&mut self, stream: u32) -> Option<Frame> {
        if let Some(at) = self.kept.iter().position(|frame| frame.stream == stream) {
            return Some(self.kept.remove(at));
        }
        loop {
            let frame = self.frame()?;
            match frame.stream {
                0 => assert!(frame.kind != GOAWAY || code(&frame.payload[4..]) == NO_ERROR, "{frame:?}"),
                other if other == stream => return Some(frame),
                _ => self.kept.push(frame),
            }
        }
    }

    /// The next frame of this kind.
    #[track_caller]
    pub fn frame_of_kind(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.frame().expect("the connection is open");
            if frame.kind == kind {
                return frame;
            }
            if frame.stream != 0 {
                self.kept.push(frame);
            }
        }
    }

    /// What was agreed on in TLS.
    #[track_caller]
    pub fn protocol(&self) -> Option<Vec<u8>> {
        let Wire::Tls(stream) = &self.wire else { panic!("this connection is plain") };
        stream.conn.alpn_protocol().map(<[u8]>::to_vec)
    }

    /// The same of a connection on which nothing has been read yet.
    #[track_caller]
    pub fn protocol_after_handshake(mut self) -> Option<Vec<u8>> {
        let Wire::Tls(stream) = &mut self.wire else { panic!("this connection is plain") };
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).expect("the handshake ends well");
        }
        self.protocol()
    }

    /// Waits for the acknowledgement of a ping: everything that was sent before has been seen by then.
    #[track_caller]
    pub fn ping(&mut self) {
        self.send(PING, 0, 0, b"12345678");
        loop {
            let frame = self.frame().expect("the connection is open");
            match (frame.kind, frame.flags) {
                (PING, ACK) => return,
                (GOAWAY, _) => panic!("{frame:?}"),
                _ if frame.stream != 0 => self.kept.push(frame),
                _ => {}
            }
        }
    }

    /// Reads to the end of the connection.
    #[track_caller]
    pub fn end(&mut self) -> End {
        let mut end = End::Closed;
        while let Some(frame) = self.frame() {
            if frame.kind == GOAWAY {
                end = End::Goaway(code(&frame.payload[4..]));
            }
        }
        end
    }

    /// What comes of something illegal on this stream: its reset or the end of the connection, with this code.
    #[track_caller]
    pub fn error_of(&mut self, stream: u32) -> Option<u32> {
        loop {
            let frame = self.frame()?;
            match frame.kind {
                GOAWAY => return Some(code(&frame.payload[4..])),
                RST_STREAM if frame.stream == stream => return Some(code(&frame.payload)),
                _ => {}
            }
        }
    }

    /// The next frame, `None` at the end of the connection. Answers what a client answers.
    #[track_caller]
    pub fn frame(&mut self) -> Option<Frame> {
        let deadline = Deadline::after(SOON);
        while self.buffer.len() < FRAME_HEAD_BYTES || self.buffer.len() < FRAME_HEAD_BYTES + length(&self.buffer) {
            assert!(deadline.left().is_some(), "no frame comes");
            let mut bytes = [0; 64 * 1024];
            match self.wire.read(&mut bytes) {
                Ok(0) => return None,
                Ok(count) => self.buffer.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    panic!("no frame comes")
                }
                Err(_) => return None,
            }
        }
        let rest = self.buffer.split_off(FRAME_HEAD_BYTES + length(&self.buffer));
        let bytes = std::mem::replace(&mut self.buffer, rest);
        let stream = u32::from_be_bytes([bytes[5], bytes[6], bytes[7], bytes[8]]);
        let frame = Frame { kind: bytes[3], flags: bytes[4], stream, payload: bytes[FRAME_HEAD_BYTES..].to_vec() };
        self.answer(&frame);
        Some(frame)
    }

    fn answer(&mut self, received: &Frame) {
        if received.kind == WINDOW_UPDATE {
            *self.windows.entry(received.stream).or_insert(WINDOW_BYTES) += i64::from(code(&received.payload));
        }
        let answers = match (received.kind, received.flags & ACK) {
            (SETTINGS, 0) => frame(SETTINGS, ACK, 0, &[]),
            (PING, 0) => frame(PING, ACK, 0, &received.payload),
            (DATA, _) if self.reads && !received.payload.is_empty() => {
                let increment = (received.payload.len() as u32).to_be_bytes();
                [frame(WINDOW_UPDATE, 0, 0, &increment), frame(WINDOW_UPDATE, 0, received.stream, &increment)].concat()
            }
            _ => return,
        };
        // It may have gone after what it has just said.
        let _ = self.try_send_bytes(&answers);
    }
}

const FRAME_HEAD_BYTES: usize = 9;
pub const FRAME_BYTES_MAX: usize = 16 * 1024;

/// What every window has at first. The server may give more, and that is not made use of.
const WINDOW_BYTES: i64 = 65_535;

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, SOON).expect("the listener accepts");
    stream.set_nodelay(true).expect("a TCP socket has this option");
    stream.set_write_timeout(Some(SOON)).expect("a positive timeout is accepted");
    stream
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// The fields of a request to this server.
pub fn request<'a>(method: &'a str, path: &'a str) -> [(&'a str, &'a str); 4] {
    [(":method", method), (":scheme", "http"), (":path", path), (":authority", "localhost")]
}

/// A header block without compression.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            push_length(&mut block, text.len());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// RFC 7541, section 5.1, with a prefix of seven bits.
fn push_length(block: &mut Vec<u8>, length: usize) {
    let Some(mut rest) = length.checked_sub(0x7f) else { return block.push(length as u8) };
    block.push(0x7f);
    while rest >= 0x80 {
        block.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    block.push(rest as u8);
}

fn length(frame: &[u8]) -> usize {
    u32::from_be_bytes([0, frame[0], frame[1], frame[2]]) as usize
}

#[track_caller]
pub fn code(payload: &[u8]) -> u32 {
    u32::from_be_bytes(payload[..4].try_into().expect("four bytes"))
}

/// Statuses of the static table (RFC 7541, appendix A), a literal under their name, or one that was sent before.
fn is_status(first: u8) -> bool {
    matches!(first, 0x88..=0x8e | 0x48 | 0xbe..)
}

#[track_caller]
pub fn status(block: &[u8]) -> u16 {
    const STATIC: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    match block {
        [indexed @ 0x88..=0x8e, ..] => STATIC[usize::from(indexed - 0x88)],
        [0x48, length, rest @ ..] if length & 0x80 != 0 => huffman_digits(&rest[..usize::from(length & 0x7f)]),
        [0x48, length, rest @ ..] => {
            String::from_utf8_lossy(&rest[..usize::from(*length)]).parse().expect("a status is a number")
        }
        _ => panic!("this status is not read here: {block:x?}"),
    }
}

/// RFC 7541, appendix B, as far as a status needs it.
fn huffman_digits(bytes: &[u8]) -> u16 {
    let codes: HashMap<(u8, u16), u16> =
        [(5, 0), (5, 1), (5, 2), (6, 0x19), (6, 0x1a), (6, 0x1b), (6, 0x1c), (6, 0x1d), (6, 0x1e), (6, 0x1f)]
            .into_iter()
            .zip(0..)
            .collect();
    let (mut number, mut digits, mut bits, mut read) = (0, 0, 0, 0);
    for bit in bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| u16::from(byte >> at & 1))) {
        (bits, read) = (bits << 1 | bit, read + 1);
        if let Some(digit) = codes.get(&(read, bits)).filter(|_| digits < 3) {
            (number, digits, bits, read) = (number * 10 + digit, digits + 1, 0, 0);
        }
    }
    assert_eq!(digits, 3, "a status has three digits");
    number
}
