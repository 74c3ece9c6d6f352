//! The encoders: bytes in, fewer bytes out, piece by piece.

use std::fmt;
use std::io::{self, Write};
use std::rc::Rc;

use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};

use super::Coding;
use crate::http::ResponseError;

/// Responses that are compressed at a time; the next is sent as it is. With the windows below it bounds the memory of all encoders.
pub(super) const ENCODERS_MAX: usize = 256;

/// Levels at which an encoder is about as fast as the rest of the request's path.
const GZIP_LEVEL: u32 = 1;
const BROTLI_QUALITY: u32 = 2;
const ZSTD_LEVEL: i32 = 1;

/// Base-2 logarithms of how far back an encoder looks, which is most of its memory.
const BROTLI_WINDOW_LOG: u32 = 17;
const ZSTD_WINDOW_LOG: u32 = 17;

/// Bytes that brotli collects before it looks at them.
const BROTLI_BUFFER_BYTES: usize = 4096;

/// Counts encoders.
#[derive(Clone, Default, Debug)]
pub struct Room(Rc<()>);

impl Room {
    /// An encoder, unless there are as many as may be already.
    pub fn encoder(&self, coding: Coding, promised: Option<u64>) -> Option<Encoder> {
        // One of the references is this one.
        if Rc::strong_count(&self.0) > ENCODERS_MAX {
            return None;
        }
        let stream = Stream::new(coding).ok()?;
        Some(Encoder { stream, promised, _place: self.0.clone() })
    }
}

/// One body on its way.
pub struct Encoder {
    stream: Stream,
    /// What the guest has still to bring, if it has said.
    promised: Option<u64>,
    _place: Rc<()>,
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder").field("promised", &self.promised).finish_non_exhaustive()
    }
}

impl Encoder {
    /// Takes a piece of the body and lends what can be sent, which may be nothing. Where the length is not known, the guest may be one that
    /// speaks when it has something to say: then everything so far can be read at the other end.
    pub fn encode(&mut self, bytes: &[u8]) -> Result<&[u8], ResponseError> {
        if let Some(promised) = &mut self.promised {
            *promised = promised.checked_sub(bytes.len() as u64).ok_or(ResponseError::BodyTooLong)?;
        }
        let is_flushed = self.promised.is_none();
        self.stream.write(bytes, is_flushed).map_err(|_| ResponseError::Encoding)
    }

    /// The end of the body.
    pub fn finish(self) -> Result<Vec<u8>, ResponseError> {
        if self.promised.is_some_and(|promised| promised > 0) {
            return Err(ResponseError::BodyTooShort);
        }
        self.stream.finish().map_err(|_| ResponseError::Encoding)
    }
}

enum Stream {
    Gzip(Box<GzEncoder<Vec<u8>>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Stream {
    fn new(coding: Coding) -> io::Result<Stream> {
        Ok(match coding {
            Coding::Gzip => Stream::Gzip(Box::new(GzBuilder::new().write(Vec::new(), Compression::new(GZIP_LEVEL)))),
            Coding::Brotli => {
                let (buffer, quality, window) = (BROTLI_BUFFER_BYTES, BROTLI_QUALITY, BROTLI_WINDOW_LOG);
                Stream::Brotli(Box::new(brotli::CompressorWriter::new(Vec::new(), buffer, quality, window)))
            }
            Coding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
                encoder.window_log(ZSTD_WINDOW_LOG)?;
                Stream::Zstd(encoder)
            }
        })
    }

    /// What was lent before is gone.
    fn write(&mut self, bytes: &[u8], is_flushed: bool) -> io::Result<&[u8]> {
        fn through(writer: &mut impl Write, bytes: &[u8], is_flushed: bool) -> io::Result<()> {
            writer.write_all(bytes)?;
            if is_flushed { writer.flush() } else { Ok(()) }
        }
        self.output().clear();
        match self {
            Stream::Gzip(encoder) => through(encoder, bytes, is_flushed)?,
            Stream::Brotli(encoder) => through(encoder, bytes, is_flushed)?,
            Stream::Zstd(encoder) => through(encoder, bytes, is_flushed)?,
        }
        Ok(self.output())
    }

    fn output(&mut self) -> &mut Vec<u8> {
        match self {
            Stream::Gzip(encoder) => encoder.get_mut(),
            Stream::Brotli(encoder) => encoder.get_mut(),
            Stream::Zstd(encoder) => encoder.get_mut(),
        }
    }

    fn finish(mut self) -> io::Result<Vec<u8>> {
        self.output().clear();
        match self {
            Stream::Gzip(encoder) => encoder.finish(),
            Stream::Brotli(encoder) => Ok(encoder.into_inner()),
            Stream::Zstd(encoder) => encoder.finish(),
        }
    }
}
