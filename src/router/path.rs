//! Owns what a path means: segments, percent-encoding (RFC 3986, section 2.1) and dot segments (section 5.2.4). Pure functions on text
//! that came from a client, so nothing here may panic. The router and, for listeners without routes, the reactor call it.

use std::borrow::Cow;
use std::fmt;

/// Why the path of a request is refused with 400.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PathError {
    /// It does not begin with a slash.
    NotAbsolute,
    /// A `%` without two hexadecimal digits after it.
    BadEncoding,
    /// A NUL, encoded or not.
    Nul,
    /// A segment that is not UTF-8 once it is decoded. Only routes ask for this: parameters are text.
    NotUtf8,
    /// More `..` than segments before them.
    AboveRoot,
}

/// Resolves dot segments, encoded ones too, and checks the encoding. All else stays as it was sent: doubled and trailing slashes, escapes.
/// Borrows when there is nothing to resolve.
///
/// # Errors
///
/// Everything in [`PathError`] except `NotUtf8`.
pub fn normalise(path: &str) -> Result<Cow<'_, str>, PathError> {
    let Some(relative) = path.strip_prefix('/') else { return Err(PathError::NotAbsolute) };
    let scan = Scan::of(path.as_bytes())?;
    if !scan.dots || !relative.split('/').any(|segment| dots(segment) > 0) {
        return Ok(Cow::Borrowed(path));
    }
    let mut kept: Vec<&str> = Vec::new();
    let mut ends_in_slash = false;
    for segment in relative.split('/') {
        let dots = dots(segment);
        ends_in_slash = dots > 0;
        match dots {
            0 => kept.push(segment),
            1 => {}
            _ => {
                kept.pop().ok_or(PathError::AboveRoot)?;
            }
        }
    }
    let mut resolved = String::with_capacity(path.len());
    for segment in &kept {
        resolved.push('/');
        resolved.push_str(segment);
    }
    if ends_in_slash || resolved.is_empty() {
        resolved.push('/');
    }
    Ok(Cow::Owned(resolved))
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

/// What one look at the bytes of a path tells.
struct Scan {
    /// Some segment begins with a dot, so that it may be a dot segment.
    dots: bool,
}

impl Scan {
    fn of(path: &[u8]) -> Result<Scan, PathError> {
        let mut dots = false;
        let mut previous = 0;
        let mut rest = path;
        while let [byte, tail @ ..] = rest {
            let mut byte = *byte;
            rest = tail;
            if byte == b'%' {
                let [high, low, tail @ ..] = tail else { return Err(PathError::BadEncoding) };
                let (Some(high), Some(low)) = (hex(*high), hex(*low)) else { return Err(PathError::BadEncoding) };
                rest = tail;
                // An encoded slash does not begin a segment, and so must not look like one.
                byte = match high << 4 | low {
                    b'/' => b'%',
                    decoded => decoded,
                };
            }
            if byte == 0 {
                return Err(PathError::Nul);
            }
            dots |= previous == b'/' && byte == b'.';
            previous = byte;
        }
        Ok(Scan { dots })
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
            PathError::NotAbsolute => "the path does not begin with a slash",
            PathError::BadEncoding => "the path has a `%` without two hexadecimal digits after it",
            PathError::Nul => "the path has a NUL in it",
            PathError::NotUtf8 => "the path is not UTF-8 once it is decoded",
            PathError::AboveRoot => "the path leads above the root",
        })
    }
}

impl std::error::Error for PathError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dot_segments_are_resolved_and_all_else_is_left_alone() {
        let table = [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a//b/", "/a//b/"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/b/..", "/a/"),
            ("/a/b/.", "/a/b/"),
            ("/.", "/"),
            ("/a/..", "/"),
            ("/a//../b", "/a/b"),
            ("//..", "/"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/.%2e/b", "/b"),
            ("/a/%2e/b", "/a/b"),
            ("/.well-known/x", "/.well-known/x"),
            ("/...", "/..."),
            ("/a/..b", "/a/..b"),
            ("/a%2F../b", "/a%2F../b"),
            ("/a%2f%2e%2e/b", "/a%2f%2e%2e/b"),
            ("/%c3%a9", "/%c3%a9"),
            ("/%ff", "/%ff"),
            ("/é", "/é"),
        ];
        for (path, expected) in table {
            assert_eq!(normalise(path).as_deref(), Ok(expected), "{path}");
        }
    }

    #[test]
    fn a_path_without_dot_segments_is_borrowed() {
        assert!(matches!(normalise("/.well-known/a%20b//"), Ok(Cow::Borrowed(_))));
    }

    #[test]
    fn what_cannot_be_a_path_is_refused() {
        let table = [
            ("", PathError::NotAbsolute),
            ("a/b", PathError::NotAbsolute),
            ("*", PathError::NotAbsolute),
            ("/%", PathError::BadEncoding),
            ("/%4", PathError::BadEncoding),
            ("/%4g", PathError::BadEncoding),
            ("/%é", PathError::BadEncoding),
            ("/%+1", PathError::BadEncoding),
            ("/a%00", PathError::Nul),
            ("/a\0", PathError::Nul),
            ("/..", PathError::AboveRoot),
            ("/a/../..", PathError::AboveRoot),
            ("/a/../../b", PathError::AboveRoot),
            ("/%2e%2e/etc/passwd", PathError::AboveRoot),
            ("/./..", PathError::AboveRoot),
        ];
        for (path, expected) in table {
            assert_eq!(normalise(path), Err(expected), "{path:?}");
        }
    }

    #[test]
    fn a_segment_that_is_not_utf8_is_refused_only_where_text_is_needed() {
        assert!(normalise("/%ff").is_ok());
        assert_eq!(check_utf8("/a/%ff"), Err(PathError::NotUtf8));
        assert_eq!(check_utf8("/a/%c3%a9"), Ok(()));
        // A character split over two segments is two broken segments.
        assert_eq!(check_utf8("/%c3/%a9"), Err(PathError::NotUtf8));
    }
}
