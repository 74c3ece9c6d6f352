//! Owns what the segments of a path mean once they are split: their percent-encoding (RFC 3986, section 2.1). Pure functions on text that
//! came from a client, so nothing here may panic. Only the router drives it; dot segments are gone before it sees a path.

use std::borrow::Cow;
use std::fmt;

/// Why a path cannot be compared with routes, and is refused with 400.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PathError {
    /// A `%` without two hexadecimal digits after it.
    BadEncoding,
    /// A NUL, encoded or not.
    Nul,
    /// A segment that is not UTF-8 once it is decoded: parameters are text.
    NotUtf8,
}

/// Whether every segment is UTF-8 once decoded.
pub(super) fn check_utf8(path: &str) -> Result<(), PathError> {
    if path.contains('%') {
        for segment in path.split('/') {
            decode(segment)?;
        }
    }
    Ok(())
}

/// Decodes one segment. A slash that comes out of it is data.
pub(super) fn decode(segment: &str) -> Result<Cow<'_, str>, PathError> {
    if !segment.contains('%') {
        return Ok(Cow::Borrowed(segment));
    }
    let mut decoded = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    loop {
        rest = match rest {
            [] => break,
            [b'%', high, low, tail @ ..] => {
                let (Some(high), Some(low)) = (hex(*high), hex(*low)) else { return Err(PathError::BadEncoding) };
                decoded.push(high << 4 | low);
                tail
            }
            [b'%', ..] => return Err(PathError::BadEncoding),
            [byte, tail @ ..] => {
                decoded.push(*byte);
                tail
            }
        };
    }
    if decoded.contains(&0) {
        return Err(PathError::Nul);
    }
    String::from_utf8(decoded).map(Cow::Owned).map_err(|_| PathError::NotUtf8)
}

/// Decodes a segment that [`check_utf8`] has already accepted.
pub(super) fn decode_or_raw(segment: &str) -> Cow<'_, str> {
    decode(segment).unwrap_or(Cow::Borrowed(segment))
}

/// Decodes what a final `*` matched: its segments, joined by single slashes.
pub(super) fn decode_rest(rest: &str) -> Cow<'_, str> {
    let rest = rest.trim_end_matches('/');
    if !rest.contains('%') && !rest.contains("//") {
        return Cow::Borrowed(rest);
    }
    let segments: Vec<_> = rest.split('/').filter(|segment| !segment.is_empty()).map(decode_or_raw).collect();
    Cow::Owned(segments.join("/"))
}

/// How many dots a segment is made of when it is `.` or `..`, in whatever encoding; 0 for any other segment.
pub(super) fn dots(segment: &str) -> usize {
    let mut rest = segment.as_bytes();
    let mut count = 0;
    loop {
        rest = match rest {
            [] => return if count <= 2 { count } else { 0 },
            [b'.', tail @ ..] | [b'%', b'2', b'e' | b'E', tail @ ..] => tail,
            _ => return 0,
        };
        count += 1;
    }
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PathError::BadEncoding => "the path has a `%` without two hexadecimal digits after it",
            PathError::Nul => "the path has a NUL in it",
            PathError::NotUtf8 => "the path is not UTF-8 once it is decoded",
        })
    }
}

impl std::error::Error for PathError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_that_is_no_text_is_refused() {
        assert_eq!(check_utf8("/a/%00"), Err(PathError::Nul));
        assert_eq!(check_utf8("/a/%4"), Err(PathError::BadEncoding));
        assert_eq!(check_utf8("/a/%ff"), Err(PathError::NotUtf8));
        assert_eq!(check_utf8("/a/%c3%a9"), Ok(()));
        // A character split over two segments is two broken segments.
        assert_eq!(check_utf8("/%c3/%a9"), Err(PathError::NotUtf8));
    }
}
