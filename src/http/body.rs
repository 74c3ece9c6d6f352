//! Request bodies: from bytes on the wire to decoded pieces (RFC 9112 §6.2, §7.1).
//!
//! Owns the chunked grammar and its limits; never copies a body byte and never sees a head. `connection` drives it with what has
//! arrived and takes away what was consumed.

use super::error::RequestError;
use super::fields::{is_token_byte, is_value};
use super::limits::{CHUNK_SIZE_DIGITS_MAX, DRAIN_BYTES_MAX, Limits};
use super::lines::Lines;

/// How far the body of the current request has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Upload {
    /// This much is still to come; at zero, only the end remains to be told.
    Length(u64),
    Chunked(Chunked),
    Done,
}

/// What the bytes at hand are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decoded {
    /// Framing only: drop `skip` bytes and come back with more.
    NeedMore { skip: usize },
    /// Drop `skip` bytes, then take `length` bytes of body.
    Data { skip: usize, length: usize },
    /// Drop `skip` bytes; the next `trailers` bytes are the trailer section with `fields` field lines; the body ends there.
    End { skip: usize, trailers: usize, fields: u32 },
}

impl Upload {
    /// The next piece of `input`, which must begin where the previous answer left off.
    pub fn decode(&mut self, input: &[u8], limits: &Limits) -> Result<Decoded, RequestError> {
        match self {
            Self::Done => Ok(Decoded::End { skip: 0, trailers: 0, fields: 0 }),
            Self::Length(0) => {
                *self = Self::Done;
                Ok(Decoded::End { skip: 0, trailers: 0, fields: 0 })
            }
            Self::Length(_) if input.is_empty() => Ok(Decoded::NeedMore { skip: 0 }),
            Self::Length(remaining) => {
                let length = piece(*remaining, input.len(), limits);
                *remaining -= length as u64;
                Ok(Decoded::Data { skip: 0, length })
            }
            Self::Chunked(chunked) => {
                let decoded = chunked.decode(input, limits)?;
                if matches!(decoded, Decoded::End { .. }) {
                    *self = Self::Done;
                }
                Ok(decoded)
            }
        }
    }

    /// Whether what is here of a body that begins with `input` is well-formed. Nothing is taken, and trailers are not looked into.
    pub fn foresee(mut self, mut input: &[u8], limits: &Limits) -> Result<(), RequestError> {
        while matches!(self, Self::Chunked(_)) {
            match self.decode(input, limits)? {
                Decoded::Data { skip, length } => input = input.get(skip + length..).unwrap_or_default(),
                Decoded::NeedMore { .. } | Decoded::End { .. } => break,
            }
        }
        Ok(())
    }

    /// Whether no byte of it is still to come.
    pub const fn is_complete(&self) -> bool {
        match self {
            Self::Done | Self::Length(0) => true,
            Self::Length(_) | Self::Chunked(_) => false,
        }
    }

    /// Whether reading the rest only to throw it away is cheaper than a new connection. How much a chunked body still brings is
    /// not known: it gets its chance.
    pub const fn is_worth_discarding(&self) -> bool {
        match self {
            Self::Done | Self::Chunked(_) => true,
            Self::Length(remaining) => *remaining <= DRAIN_BYTES_MAX,
        }
    }

    /// Whether nothing can be made of `unread` waiting bytes without more of them.
    pub const fn is_starving(&self, unread: usize) -> bool {
        match self {
            Self::Done | Self::Length(0) => false,
            Self::Length(_) => unread == 0,
            Self::Chunked(Chunked { state: Chunk::Trailers(lines), .. }) => lines.has_scanned(unread),
            Self::Chunked(_) => unread == 0,
        }
    }
}

/// A chunked body in progress.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Chunked {
    state: Chunk,
    /// Sum of the sizes of all chunks announced so far.
    announced: u64,
    extension_bytes: usize,
}

/// Which byte of the chunked coding comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chunk {
    Size {
        size: u64,
        digits: u8,
    },
    Extension {
        size: u64,
        place: Extension,
    },
    SizeLineFeed {
        size: u64,
    },
    /// At least one byte remains.
    Data {
        remaining: u64,
    },
    DataReturn,
    DataLineFeed,
    Trailers(Lines),
}

impl Default for Chunk {
    fn default() -> Self {
        Self::Size { size: 0, digits: 0 }
    }
}

impl Chunked {
    fn decode(&mut self, input: &[u8], limits: &Limits) -> Result<Decoded, RequestError> {
        let mut at = 0;
        loop {
            match &mut self.state {
                Chunk::Data { .. } if at == input.len() => {
                    return Ok(Decoded::NeedMore { skip: at });
                }
                Chunk::Data { remaining } => {
                    let length = piece(*remaining, input.len() - at, limits);
                    *remaining -= length as u64;
                    if *remaining == 0 {
                        self.state = Chunk::DataReturn;
                    }
                    return Ok(Decoded::Data { skip: at, length });
                }
                Chunk::Trailers(lines) => return trailers(lines, &input[at..], at, limits),
                _ => {
                    let Some(&byte) = input.get(at) else {
                        return Ok(Decoded::NeedMore { skip: at });
                    };
                    self.state = self.framing_byte(byte, limits)?;
                    at += 1;
                }
            }
        }
    }

    fn framing_byte(&mut self, byte: u8, limits: &Limits) -> Result<Chunk, RequestError> {
        match (self.state, byte) {
            (Chunk::Size { size, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                if digits == CHUNK_SIZE_DIGITS_MAX {
                    return Err(RequestError::ChunkSize);
                }
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                Ok(Chunk::Size { size: size << 4 | u64::from(digit), digits: digits + 1 })
            }
            // Whitespace after the size is refused, although §7.1.1 has it skipped: two readers that differ here smuggle.
            (Chunk::Size { digits: 0, .. }, _) => Err(RequestError::ChunkSize),
            (Chunk::Size { size, .. }, b'\r') => Ok(Chunk::SizeLineFeed { size }),
            (Chunk::Size { size, .. }, b';') => self.extension_byte(size, Extension::BeforeName, limits),
            (Chunk::Size { .. }, _) => Err(RequestError::ChunkSize),
            (Chunk::Extension { size, place }, b'\r') if place.may_end() => Ok(Chunk::SizeLineFeed { size }),
            (Chunk::Extension { size, place }, _) => match place.after(byte) {
                Some(next) => self.extension_byte(size, next, limits),
                None => Err(RequestError::ChunkExtension),
            },
            (Chunk::SizeLineFeed { size: 0 }, b'\n') => Ok(Chunk::Trailers(Lines::default())),
            (Chunk::SizeLineFeed { size }, b'\n') => {
                self.announced = self.announced.saturating_add(size);
                if self.announced > limits.body_bytes_max || size > i64::MAX as u64 {
                    return Err(RequestError::BodyTooLarge);
                }
                Ok(Chunk::Data { remaining: size })
            }
            (Chunk::SizeLineFeed { .. }, _) => Err(RequestError::ChunkSize),
            (Chunk::DataReturn, b'\r') => Ok(Chunk::DataLineFeed),
            (Chunk::DataLineFeed, b'\n') => Ok(Chunk::default()),
            (Chunk::DataReturn | Chunk::DataLineFeed, _) => Err(RequestError::ChunkEnd),
            (state @ (Chunk::Data { .. } | Chunk::Trailers(_)), _) => Ok(state),
        }
    }

    fn extension_byte(&mut self, size: u64, place: Extension, limits: &Limits) -> Result<Chunk, RequestError> {
        self.extension_bytes += 1;
        if self.extension_bytes > limits.chunk_ext_bytes_max {
            return Err(RequestError::ChunkExtensionsTooLarge);
        }
        Ok(Chunk::Extension { size, place })
    }
}

/// Where in `*( ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )` the next byte stands (RFC 9112 §7.1.1). No extension means
/// anything here, and still each has to be one: what only looks like it is where two readers find different line ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extension {
    BeforeName,
    Name,
    AfterName,
    BeforeValue,
    Token,
    Quoted,
    Escaped,
    /// Behind the quote that closes a value.
    Closed,
    AfterValue,
}

impl Extension {
    fn after(self, byte: u8) -> Option<Self> {
        match (self, byte) {
            (Self::Quoted, b'"') => Some(Self::Closed),
            (Self::Quoted, b'\\') => Some(Self::Escaped),
            (Self::Quoted | Self::Escaped, _) => is_value(&[byte]).then_some(Self::Quoted),
            (Self::BeforeName | Self::BeforeValue, b' ' | b'\t') => Some(self),
            (Self::Name | Self::AfterName, b' ' | b'\t') => Some(Self::AfterName),
            (Self::Token | Self::Closed | Self::AfterValue, b' ' | b'\t') => Some(Self::AfterValue),
            (Self::Name | Self::AfterName, b'=') => Some(Self::BeforeValue),
            (Self::Name | Self::AfterName | Self::Token | Self::Closed | Self::AfterValue, b';') => {
                Some(Self::BeforeName)
            }
            (Self::BeforeValue, b'"') => Some(Self::Quoted),
            (Self::BeforeName | Self::Name, _) => is_token_byte(byte).then_some(Self::Name),
            (Self::BeforeValue | Self::Token, _) => is_token_byte(byte).then_some(Self::Token),
            (Self::AfterName | Self::Closed | Self::AfterValue, _) => None,
        }
    }

    const fn may_end(self) -> bool {
        match self {
            Self::Name | Self::Token | Self::Closed => true,
            Self::BeforeName
            | Self::AfterName
            | Self::BeforeValue
            | Self::Quoted
            | Self::Escaped
            | Self::AfterValue => false,
        }
    }
}

/// How much body to lend at once; never nothing.
fn piece(remaining: u64, available: usize, limits: &Limits) -> usize {
    let length = available.min(limits.body_event_bytes_max.max(1));
    usize::try_from(remaining).map_or(length, |remaining| remaining.min(length))
}

/// The section stays unread until it is whole, so that its fields can be lent from one place.
fn trailers(lines: &mut Lines, section: &[u8], skip: usize, limits: &Limits) -> Result<Decoded, RequestError> {
    let window = &section[..section.len().min(limits.trailer_bytes_max.max("\r\n".len()))];
    while let Some(line) = lines.next(window)? {
        if line.start == line.end {
            return Ok(Decoded::End { skip, trailers: lines.consumed(), fields: lines.count });
        }
        if lines.count as usize > limits.headers_max {
            return Err(RequestError::TrailersTooLarge);
        }
    }
    if section.len() > window.len() { Err(RequestError::TrailersTooLarge) } else { Ok(Decoded::NeedMore { skip }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(wire: &[u8], step: usize, limits: &Limits) -> Result<Option<Vec<u8>>, RequestError> {
        let mut upload = Upload::Chunked(Chunked::default());
        let mut body = Vec::new();
        let (mut taken, mut end) = (0, 0);
        while end < wire.len() {
            end = (end + step).min(wire.len());
            loop {
                match upload.decode(&wire[taken..end], limits)? {
                    Decoded::NeedMore { skip } => {
                        taken += skip;
                        break;
                    }
                    Decoded::Data { skip, length } => {
                        taken += skip;
                        body.extend_from_slice(&wire[taken..taken + length]);
                        taken += length;
                    }
                    Decoded::End { .. } => return Ok(Some(body)),
                }
            }
        }
        Ok(None)
    }

    fn read_in_steps(wire: &str, limits: &Limits) -> Result<Option<Vec<u8>>, RequestError> {
        let whole = read(wire.as_bytes(), wire.len(), limits);
        for step in 1..wire.len() {
            assert_eq!(read(wire.as_bytes(), step, limits), whole, "{wire:?} in steps of {step}");
        }
        whole
    }

    #[test]
    fn well_formed_chunks_are_joined() {
        for (wire, body) in [
            ("0\r\n\r\n", ""),
            ("000\r\n\r\n", ""),
            ("5\r\nhello\r\n0\r\n\r\n", "hello"),
            ("2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", "hello"),
            ("A\r\n0123456789\r\n0\r\n\r\n", "0123456789"),
            ("a;x=1\r\n0123456789\r\n0;y\r\n\r\n", "0123456789"),
            ("1; x=\"q; z\"\r\na\r\n0\r\nt: v\r\n\r\n", "a"),
            ("0000000000000001\r\na\r\n0\r\n\r\n", "a"),
            ("1;x = y ;z;\tw=\"\\\"\" ;v\r\na\r\n0;u=t\r\n\r\n", "a"),
        ] {
            assert_eq!(read_in_steps(wire, &Limits::default()), Ok(Some(body.into())), "{wire:?}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        use RequestError::*;
        for (wire, error) in [
            ("\r\n", ChunkSize),
            ("g\r\n", ChunkSize),
            ("0x1\r\n", ChunkSize),
            ("+1\r\n", ChunkSize),
            ("-1\r\n", ChunkSize),
            (" 1\r\n", ChunkSize),
            ("1 \r\n", ChunkSize),
            ("1\t;a\r\n", ChunkSize),
            ("1\na", ChunkSize),
            ("1\ra", ChunkSize),
            ("00000000000000001\r\n", ChunkSize),
            ("ffffffffffffffff\r\n", BodyTooLarge),
            ("1;\r\n", ChunkExtension),
            ("1;=\r\n", ChunkExtension),
            ("1;a\n", ChunkExtension),
            ("1;a\0\r\n", ChunkExtension),
            ("1;a\rb", ChunkSize),
            ("1;a \r\n", ChunkExtension),
            ("1;a=\r\n", ChunkExtension),
            ("1;a==b\r\n", ChunkExtension),
            ("1;a b\r\n", ChunkExtension),
            ("1;a=b c\r\n", ChunkExtension),
            ("1;a=\"b\r\n", ChunkExtension),
            ("1;a=\"b\"c\r\n", ChunkExtension),
            ("1;a=\"\\\r\n", ChunkExtension),
            ("1;a;\r\n", ChunkExtension),
            ("1\r\nab\r\n", ChunkEnd),
            ("1\r\na\n", ChunkEnd),
            ("1\r\na\r0", ChunkEnd),
            ("1\r\na0\r\n", ChunkEnd),
            ("0\r\n\n", BareLineFeed),
            ("0\r\na: b\n\r\n", BareLineFeed),
        ] {
            assert_eq!(read_in_steps(wire, &Limits::default()), Err(error), "{wire:?}");
        }
    }

    #[test]
    fn a_body_at_the_limit_is_read_and_one_past_it_is_not() {
        let limits = Limits { body_bytes_max: 5, ..Limits::default() };
        assert_eq!(read_in_steps("2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n", &limits), Ok(Some(b"abcde".to_vec())));
        assert_eq!(read_in_steps("2\r\nab\r\n4\r\ncdef\r\n0\r\n\r\n", &limits), Err(RequestError::BodyTooLarge));
    }

    #[test]
    fn extensions_at_the_limit_are_read_and_one_past_it_are_not() {
        let limits = Limits { chunk_ext_bytes_max: 4, ..Limits::default() };
        assert_eq!(read_in_steps("1;a\r\na\r\n0;b\r\n\r\n", &limits), Ok(Some(b"a".to_vec())));
        assert_eq!(
            read_in_steps("1;a\r\na\r\n0;bc\r\n\r\n", &limits),
            Err(RequestError::ChunkExtensionsTooLarge),
            "the limit counts over all chunks"
        );
    }

    #[test]
    fn trailers_at_the_limits_are_read_and_one_past_them_are_not() {
        let limits = Limits { trailer_bytes_max: 10, headers_max: 2, ..Limits::default() };
        for (wire, expected) in [
            ("0\r\na: bcd\r\n\r\n", Ok(Some(Vec::new()))),
            ("0\r\na: bcde\r\n\r\n", Err(RequestError::TrailersTooLarge)),
            ("0\r\na:\r\nb:\r\n\r\n", Ok(Some(Vec::new()))),
        ] {
            assert_eq!(read_in_steps(wire, &limits), expected, "{wire:?}");
        }
        let limits = Limits { headers_max: 2, ..Limits::default() };
        let three = read_in_steps("0\r\na:\r\nb:\r\nc:\r\n\r\n", &limits);
        assert_eq!(three, Err(RequestError::TrailersTooLarge));
    }
}
