//! The one place that knows bincode: a value to and from the payload of a frame.
//!
//! bincode 2.0 is pinned and no longer maintained; replacing it means replacing this file and adding a protocol version.

use std::fmt;

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::enc::write::Writer;
use bincode::error::EncodeError;
use bincode::{BorrowDecode, Encode};

use crate::frame::{FrameHeader, Kind, RequestId};
use crate::limits::{DECODE_BYTES_MAX, FRAME_HEADER_BYTES};

type Config = Configuration<LittleEndian, Varint, Limit<DECODE_BYTES_MAX>>;

const CONFIG: Config = bincode::config::standard().with_limit::<DECODE_BYTES_MAX>();

struct Append<'a>(&'a mut Vec<u8>);

impl Writer for Append<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// Appends a frame with `value` as its payload to `out`. On error `out` is as it was.
pub fn encode_frame<T: Encode>(
    out: &mut Vec<u8>,
    kind: Kind,
    request: RequestId,
    end: bool,
    value: &T,
) -> Result<(), CodecError> {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_HEADER_BYTES]);
    let encoded = bincode::encode_into_writer(value, Append(out), CONFIG);
    let payload_bytes = out.len() - start - FRAME_HEADER_BYTES;
    if encoded.is_err() || payload_bytes > kind.payload_bytes_max() {
        out.truncate(start);
        return Err(CodecError::TooLong { kind, payload_bytes });
    }
    let header = FrameHeader { kind, end, request, payload_bytes };
    out[start..start + FRAME_HEADER_BYTES].copy_from_slice(&header.to_bytes());
    Ok(())
}

/// Appends a frame whose payload is `payload` as it is: body bytes are not encoded a second time.
pub fn raw_frame(
    out: &mut Vec<u8>,
    kind: Kind,
    request: RequestId,
    end: bool,
    payload: &[u8],
) -> Result<(), CodecError> {
    let payload_bytes = payload.len();
    if payload_bytes > kind.payload_bytes_max() {
        return Err(CodecError::TooLong { kind, payload_bytes });
    }
    out.reserve(FRAME_HEADER_BYTES + payload_bytes);
    out.extend_from_slice(&FrameHeader { kind, end, request, payload_bytes }.to_bytes());
    out.extend_from_slice(payload);
    Ok(())
}

/// Decodes a whole payload; bytes left over are an error.
pub fn decode<'a, T: BorrowDecode<'a, ()>>(kind: Kind, payload: &'a [u8]) -> Result<T, CodecError> {
    match bincode::borrow_decode_from_slice(payload, CONFIG) {
        Ok((value, used)) if used == payload.len() => Ok(value),
        Ok((_, used)) => Err(CodecError::LeftOver { kind, bytes: payload.len() - used }),
        Err(error) => Err(CodecError::Undecodable { kind, reason: error.to_string() }),
    }
}

/// Decodes the value at the start of a payload and ignores the rest: for the version that opens a handshake.
pub fn decode_prefix<'a, T: BorrowDecode<'a, ()>>(kind: Kind, payload: &'a [u8]) -> Result<T, CodecError> {
    bincode::borrow_decode_from_slice(payload, CONFIG)
        .map(|(value, _)| value)
        .map_err(|error| CodecError::Undecodable { kind, reason: error.to_string() })
}

/// Why a payload could not be written or read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CodecError {
    TooLong { kind: Kind, payload_bytes: usize },
    LeftOver { kind: Kind, bytes: usize },
    Undecodable { kind: Kind, reason: String },
    WrongVersion { ours: u16, theirs: u16 },
    WrongDirection(Kind),
    OverLimit { kind: Kind, what: &'static str },
    EmptyChunk(Kind),
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CodecError::TooLong { kind, payload_bytes } => {
                write!(f, "{kind:?} of {payload_bytes} bytes, more than {}", kind.payload_bytes_max())
            }
            CodecError::LeftOver { kind, bytes } => write!(f, "{bytes} bytes left over after a {kind:?}"),
            CodecError::Undecodable { kind, reason } => write!(f, "undecodable {kind:?}: {reason}"),
            CodecError::WrongVersion { ours, theirs } => {
                write!(f, "protocol version {theirs}, but this build speaks {ours}")
            }
            CodecError::WrongDirection(kind) => write!(f, "a {kind:?} frame in the wrong direction"),
            CodecError::OverLimit { kind, what } => write!(f, "too many {what} in a {kind:?}"),
            CodecError::EmptyChunk(kind) => write!(f, "an empty {kind:?} that ends nothing"),
        }
    }
}

impl std::error::Error for CodecError {}
