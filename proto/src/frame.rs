//! Frames: a fixed little-endian header and a payload. Finds where frames begin and end; never looks inside a payload.
//!
//! ```text
//!  0        4      5       6          8                16
//!  | length | kind | flags | reserved | request id     | payload ... |
//!  | u32    | u8   | u8    | u16 = 0  | u64            | length bytes |
//! ```

use std::fmt;

use crate::limits::{BODY_CHUNK_BYTES_MAX, FRAME_HEADER_BYTES, HANDSHAKE_BYTES_MAX, HEAD_BYTES_MAX, SMALL_BYTES_MAX};

/// Names one request on a link, and in every log line and error body. Zero means "no request".
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct RequestId(pub u64);

impl RequestId {
    /// The id of frames that belong to no request, such as the handshake.
    pub const NONE: RequestId = RequestId(0);
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a frame is. The high bit tells the direction: clear towards the worker, set towards the supervisor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    Hello = 0x01,
    Request = 0x02,
    RequestBody = 0x03,
    RequestTrailers = 0x04,
    RequestAborted = 0x05,
    ResponseCredit = 0x06,
    Cancel = 0x07,
    Drain = 0x08,
    Fork = 0x09,
    Begin = 0x0a,
    Inspect = 0x0b,
    Ready = 0x81,
    Refused = 0x82,
    ResponseHead = 0x83,
    ResponseBody = 0x84,
    ResponseTrailers = 0x85,
    Failed = 0x86,
    RequestCredit = 0x87,
    Log = 0x88,
    Done = 0x89,
    Forked = 0x8a,
    ForkFailed = 0x8b,
    Begun = 0x8c,
    Backtrace = 0x8d,
}

impl Kind {
    /// Every kind, for tests and for fuzzing.
    pub const ALL: [Kind; 24] = [
        Kind::Hello,
        Kind::Request,
        Kind::RequestBody,
        Kind::RequestTrailers,
        Kind::RequestAborted,
        Kind::ResponseCredit,
        Kind::Cancel,
        Kind::Drain,
        Kind::Fork,
        Kind::Begin,
        Kind::Inspect,
        Kind::Ready,
        Kind::Refused,
        Kind::ResponseHead,
        Kind::ResponseBody,
        Kind::ResponseTrailers,
        Kind::Failed,
        Kind::RequestCredit,
        Kind::Log,
        Kind::Done,
        Kind::Forked,
        Kind::ForkFailed,
        Kind::Begun,
        Kind::Backtrace,
    ];

    fn from_byte(byte: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }

    /// The most payload bytes that a frame of this kind may have.
    pub const fn payload_bytes_max(self) -> usize {
        match self {
            Kind::Hello | Kind::Ready => HANDSHAKE_BYTES_MAX,
            Kind::Request | Kind::ResponseHead | Kind::RequestTrailers | Kind::ResponseTrailers => HEAD_BYTES_MAX,
            Kind::RequestBody | Kind::ResponseBody => BODY_CHUNK_BYTES_MAX,
            Kind::Refused | Kind::Failed | Kind::Log | Kind::Backtrace | Kind::ForkFailed => SMALL_BYTES_MAX,
            Kind::RequestCredit | Kind::ResponseCredit => 4,
            Kind::Fork | Kind::Begin => 4,
            Kind::Forked => 8,
            Kind::RequestAborted | Kind::Cancel | Kind::Drain | Kind::Inspect | Kind::Done | Kind::Begun => 0,
        }
    }

    /// Whether [`FLAG_END`] has a meaning for this kind; on any other it is a reserved bit.
    pub const fn may_end(self) -> bool {
        match self {
            Kind::Request | Kind::RequestBody | Kind::ResponseHead | Kind::ResponseBody => true,
            Kind::Hello
            | Kind::RequestTrailers
            | Kind::RequestAborted
            | Kind::ResponseCredit
            | Kind::Cancel
            | Kind::Drain
            | Kind::Ready
            | Kind::Refused
            | Kind::ResponseTrailers
            | Kind::Failed
            | Kind::RequestCredit
            | Kind::Log
            | Kind::Done
            | Kind::Fork
            | Kind::Begin
            | Kind::Inspect
            | Kind::Forked
            | Kind::ForkFailed
            | Kind::Begun
            | Kind::Backtrace => false,
        }
    }

    /// Whether frames of this kind belong to the link as a whole, so that their id is [`RequestId::NONE`].
    pub const fn is_of_link(self) -> bool {
        match self {
            Kind::Hello
            | Kind::Drain
            | Kind::Fork
            | Kind::Begin
            | Kind::Ready
            | Kind::Refused
            | Kind::Forked
            | Kind::ForkFailed
            | Kind::Begun => true,
            Kind::Request
            | Kind::RequestBody
            | Kind::RequestTrailers
            | Kind::RequestAborted
            | Kind::ResponseCredit
            | Kind::Cancel
            | Kind::Inspect
            | Kind::ResponseHead
            | Kind::ResponseBody
            | Kind::ResponseTrailers
            | Kind::Failed
            | Kind::RequestCredit
            | Kind::Log
            | Kind::Backtrace
            | Kind::Done => false,
        }
    }
}

/// Flag of the kinds for which [`Kind::may_end`] holds: no body byte follows in this message.
pub const FLAG_END: u8 = 0b0000_0001;

/// The header of a frame, already checked against [`Kind::payload_bytes_max`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameHeader {
    pub kind: Kind,
    pub end: bool,
    pub request: RequestId,
    pub payload_bytes: usize,
}

impl FrameHeader {
    /// Reads a header from the first bytes of `input`, or `None` while they are not all there.
    pub fn parse(input: &[u8]) -> Result<Option<FrameHeader>, FrameError> {
        let Some(raw) = input.first_chunk::<FRAME_HEADER_BYTES>() else {
            return Ok(None);
        };
        let [l0, l1, l2, l3, kind, flags, r0, r1, id @ ..] = *raw;
        let kind = Kind::from_byte(kind).ok_or(FrameError::UnknownKind(kind))?;
        let allowed = if kind.may_end() { FLAG_END } else { 0 };
        if flags & !allowed != 0 || [r0, r1] != [0, 0] {
            return Err(FrameError::ReservedBits(kind));
        }
        let request = RequestId(u64::from_le_bytes(id));
        if kind.is_of_link() && request != RequestId::NONE {
            return Err(FrameError::IdOfLink(kind));
        }
        let payload_bytes = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if payload_bytes > kind.payload_bytes_max() {
            return Err(FrameError::TooLong { kind, payload_bytes });
        }
        Ok(Some(FrameHeader { kind, end: flags & FLAG_END != 0, request, payload_bytes }))
    }

    /// The bytes of this header.
    pub fn to_bytes(self) -> [u8; FRAME_HEADER_BYTES] {
        let mut raw = [0; FRAME_HEADER_BYTES];
        raw[0..4].copy_from_slice(&(self.payload_bytes as u32).to_le_bytes());
        raw[4] = self.kind as u8;
        raw[5] = if self.end { FLAG_END } else { 0 };
        raw[8..16].copy_from_slice(&self.request.0.to_le_bytes());
        raw
    }
}

/// One whole frame, lent from the buffer in which it arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame<'a> {
    pub header: FrameHeader,
    pub payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Splits the first frame off `input`. `None` means that more bytes are needed; the stream is beyond repair after an error.
    pub fn split(input: &'a [u8]) -> Result<Option<(Frame<'a>, &'a [u8])>, FrameError> {
        let Some(header) = FrameHeader::parse(input)? else {
            return Ok(None);
        };
        let Some(rest) = input.get(FRAME_HEADER_BYTES..) else {
            return Ok(None);
        };
        match rest.split_at_checked(header.payload_bytes) {
            Some((payload, rest)) => Ok(Some((Frame { header, payload }, rest))),
            None => Ok(None),
        }
    }
}

/// Bytes received from a stream, from which whole frames are taken. Never grows beyond one frame and one read.
#[derive(Default, Debug)]
pub struct FrameBuffer {
    bytes: Vec<u8>,
    start: usize,
}

/// A buffer that has grown beyond this is given back once it is empty.
const BUFFER_KEEP_BYTES: usize = 256 * 1024;

impl FrameBuffer {
    /// The buffer itself, with space for at least `bytes_min` more bytes, to which what is received is appended.
    pub fn space(&mut self, bytes_min: usize) -> &mut Vec<u8> {
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
            if self.bytes.capacity() > BUFFER_KEEP_BYTES {
                self.bytes = Vec::new();
            }
        } else if self.start > 0 && self.bytes.capacity() - self.bytes.len() < bytes_min {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.reserve(bytes_min);
        &mut self.bytes
    }

    /// Appends bytes that were received.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.space(bytes.len()).extend_from_slice(bytes);
    }

    /// The bytes that were received and not yet consumed.
    pub fn unread(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Lends the next whole frame. It stays in the buffer until [`FrameBuffer::consume`] is called with it.
    pub fn peek(&self) -> Result<Option<Frame<'_>>, FrameError> {
        Ok(Frame::split(self.unread())?.map(|(frame, _)| frame))
    }

    /// Removes a frame that [`FrameBuffer::peek`] lent, told by its header.
    pub fn consume(&mut self, header: FrameHeader) {
        self.start = (self.start + FRAME_HEADER_BYTES + header.payload_bytes).min(self.bytes.len());
    }

    /// Drops what was received and the memory that held it.
    pub fn clear(&mut self) {
        *self = FrameBuffer::default();
    }
}

/// Why a stream of frames cannot be read further. The blame is the sender's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameError {
    UnknownKind(u8),
    ReservedBits(Kind),
    IdOfLink(Kind),
    TooLong { kind: Kind, payload_bytes: usize },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::UnknownKind(byte) => write!(f, "unknown frame kind 0x{byte:02x}"),
            FrameError::ReservedBits(kind) => write!(f, "reserved bits set in a {kind:?} frame"),
            FrameError::IdOfLink(kind) => write!(f, "a request id in a {kind:?} frame"),
            FrameError::TooLong { kind, payload_bytes } => {
                write!(f, "{kind:?} frame of {payload_bytes} bytes, more than {}", kind.payload_bytes_max())
            }
        }
    }
}

impl std::error::Error for FrameError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(kind: Kind, payload_bytes: usize) -> FrameHeader {
        let request = if kind.is_of_link() { RequestId::NONE } else { RequestId(7) };
        FrameHeader { kind, end: kind.may_end(), request, payload_bytes }
    }

    #[test]
    fn every_kind_survives_the_header() {
        for kind in Kind::ALL {
            let header = header(kind, kind.payload_bytes_max());
            assert_eq!(FrameHeader::parse(&header.to_bytes()), Ok(Some(header)));
        }
    }

    #[test]
    fn a_payload_one_past_its_kinds_limit_is_refused_before_it_arrives() {
        for kind in Kind::ALL {
            let payload_bytes = kind.payload_bytes_max() + 1;
            let raw = header(kind, payload_bytes).to_bytes();
            assert_eq!(FrameHeader::parse(&raw), Err(FrameError::TooLong { kind, payload_bytes }));
        }
    }

    #[test]
    fn unknown_kinds_and_reserved_bits_are_refused() {
        let mut raw = header(Kind::Done, 0).to_bytes();
        raw[4] = 0x7f;
        assert_eq!(FrameHeader::parse(&raw), Err(FrameError::UnknownKind(0x7f)));
        for (at, value) in [(5, 0b10), (6, 1), (7, 1)] {
            let mut raw = header(Kind::Done, 0).to_bytes();
            raw[at] = value;
            assert_eq!(FrameHeader::parse(&raw), Err(FrameError::ReservedBits(Kind::Done)));
        }
    }

    #[test]
    fn an_end_flag_is_refused_where_it_has_no_meaning() {
        for kind in Kind::ALL.into_iter().filter(|kind| !kind.may_end()) {
            let raw = FrameHeader { end: true, ..header(kind, 0) }.to_bytes();
            assert_eq!(FrameHeader::parse(&raw), Err(FrameError::ReservedBits(kind)));
        }
    }

    #[test]
    fn a_frame_of_the_link_itself_has_no_request_id() {
        for kind in Kind::ALL.into_iter().filter(|kind| kind.is_of_link()) {
            let raw = FrameHeader { request: RequestId(1), ..header(kind, 0) }.to_bytes();
            assert_eq!(FrameHeader::parse(&raw), Err(FrameError::IdOfLink(kind)));
        }
    }

    #[test]
    fn frames_are_found_however_the_stream_is_cut() {
        let mut stream = Vec::new();
        for n in 0..5usize {
            stream.extend_from_slice(&header(Kind::RequestBody, n).to_bytes());
            stream.extend(std::iter::repeat_n(n as u8, n));
        }
        for step in 1..stream.len() {
            let mut buffer = FrameBuffer::default();
            let mut seen = 0;
            for piece in stream.chunks(step) {
                buffer.extend(piece);
                while let Some(frame) = buffer.peek().expect("the stream is well formed") {
                    assert_eq!(frame.payload, vec![seen as u8; seen]);
                    let header = frame.header;
                    buffer.consume(header);
                    seen += 1;
                }
            }
            assert_eq!(seen, 5);
        }
    }

    #[test]
    fn a_buffer_that_grew_gives_its_memory_back() {
        let mut buffer = FrameBuffer::default();
        let big = header(Kind::Ready, HANDSHAKE_BYTES_MAX);
        buffer.extend(&big.to_bytes());
        buffer.extend(&vec![0; HANDSHAKE_BYTES_MAX]);
        assert!(buffer.peek().expect("well formed").is_some());
        buffer.consume(big);
        assert!(buffer.space(16).capacity() <= BUFFER_KEEP_BYTES);
    }
}
