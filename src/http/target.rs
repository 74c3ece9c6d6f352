//! Request targets (RFC 9112 §3.2) and paths (RFC 3986 §3.3, §5.2.4).
//!
//! Pure functions. Owns what a target, an authority and a path may look like; knows nothing of routes. `head` drives the parser,
//! the router and the reactor drive `normalise`.

use std::borrow::Cow;
use std::fmt;
use std::net::Ipv6Addr;

use super::error::RequestError;
use super::fields::ascii;

/// Which of the four forms of RFC 9112 §3.2 a target has; the authority form belongs to `CONNECT`, which is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetForm {
    /// `/path?query`
    Origin,
    /// `http://host/path?query`
    Absolute,
    /// `*`, of `OPTIONS`: the server itself is meant.
    Asterisk,
}

/// The scheme of a connection or of an absolute target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// A path that is no path (RFC 3986 §2.1, §3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetError {
    NotAbsolute,
    PercentEncoding,
    EncodedNul,
    Backslash,
    AboveRoot,
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAbsolute => "the path does not begin with a slash",
            Self::PercentEncoding => "the path has a malformed percent-encoding",
            Self::EncodedNul => "the path has an encoded NUL",
            Self::Backslash => "the path has a backslash",
            Self::AboveRoot => "the path leads above the root",
        })
    }
}

impl std::error::Error for TargetError {}

/// `path` without dot segments, `%2e` read as a dot; everything else stays byte for byte. Segments are not decoded: that is for
/// whoever splits them.
///
/// Errors, each a 400: a path that does not begin with a slash, a `%` without two hexadecimal digits, `%00`, a backslash (which
/// URL parsers of browsers and of JavaScript read as a slash), and dot segments that lead above the root.
pub fn normalise(path: &str) -> Result<Cow<'_, str>, TargetError> {
    let bytes = path.as_bytes();
    if bytes.first() != Some(&b'/') {
        return Err(TargetError::NotAbsolute);
    }
    let mut previous = 0;
    let mut dots = false;
    for (at, &byte) in bytes.iter().enumerate() {
        match byte {
            b'.' => dots |= previous == b'/',
            b'\\' => return Err(TargetError::Backslash),
            b'%' => match bytes.get(at + 1..at + 3) {
                Some(b"00") => return Err(TargetError::EncodedNul),
                Some(b"2e" | b"2E") => dots |= previous == b'/',
                Some([high, low]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {}
                Some(_) | None => return Err(TargetError::PercentEncoding),
            },
            _ => {}
        }
        previous = byte;
    }
    if dots { without_dot_segments(path).map(Cow::Owned) } else { Ok(Cow::Borrowed(path)) }
}

fn without_dot_segments(path: &str) -> Result<String, TargetError> {
    let mut result = String::with_capacity(path.len());
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        match dot_segment(segment) {
            None => {
                result.push('/');
                result.push_str(segment);
                continue;
            }
            Some(Dots::Here) => {}
            Some(Dots::Up) => result.truncate(result.rfind('/').ok_or(TargetError::AboveRoot)?),
        }
        if segments.peek().is_none() {
            result.push('/');
        }
    }
    Ok(result)
}

enum Dots {
    Here,
    Up,
}

fn dot_segment(segment: &str) -> Option<Dots> {
    let mut rest = segment;
    let mut dots = 0;
    while !rest.is_empty() {
        let after = rest.strip_prefix('.').or_else(|| rest.strip_prefix("%2e")).or_else(|| rest.strip_prefix("%2E"));
        rest = after?;
        dots += 1;
    }
    match dots {
        1 => Some(Dots::Here),
        2 => Some(Dots::Up),
        _ => None,
    }
}

/// A piece of the bytes that are being parsed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub start: u32,
    pub end: u32,
}

impl Span {
    /// Heads are far below 4 GiB, so the offsets fit.
    pub const fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
    }

    pub fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    pub const fn shifted(self, by: usize) -> Self {
        Self { start: self.start + by as u32, end: self.end + by as u32 }
    }
}

/// A valid target, taken apart. Spans are relative to the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub form: TargetForm,
    /// Of the absolute form, else that of the connection.
    pub scheme: Option<Scheme>,
    pub authority: Option<Span>,
    /// Empty in `http://host`, where it stands for `/`.
    pub path: Span,
    pub query: Option<Span>,
}

/// Takes apart what stands between the two spaces of a request line. `options`: the method is `OPTIONS`, which alone may ask for
/// `*`.
pub(super) fn parse(target: &[u8], options: bool) -> Result<Target, RequestError> {
    match target {
        [b'/', ..] => path_and_query(target, 0, TargetForm::Origin, None, None),
        b"*" if options => {
            Ok(Target { form: TargetForm::Asterisk, scheme: None, authority: None, path: Span::new(0, 1), query: None })
        }
        _ => absolute(target),
    }
}

fn absolute(target: &[u8]) -> Result<Target, RequestError> {
    let colon = target.iter().position(|&byte| !byte.is_ascii_alphanumeric()).ok_or(RequestError::TargetForm)?;
    if colon == 0 || !target[colon..].starts_with(b"://") {
        return Err(if target.iter().all(|&byte| is_target_byte(byte)) {
            RequestError::TargetForm
        } else {
            RequestError::TargetInvalid
        });
    }
    let scheme = if target[..colon].eq_ignore_ascii_case(b"http") {
        Scheme::Http
    } else if target[..colon].eq_ignore_ascii_case(b"https") {
        Scheme::Https
    } else {
        return Err(RequestError::TargetScheme);
    };
    let start = colon + 3;
    let length = target[start..].iter().position(|byte| b"/?#\\".contains(byte)).unwrap_or(target.len() - start);
    let authority = Span::new(start, start + length);
    if authority.of(target).contains(&b'@') {
        return Err(RequestError::TargetUserinfo);
    }
    if !is_authority(authority.of(target)) {
        return Err(RequestError::TargetInvalid);
    }
    path_and_query(target, start + length, TargetForm::Absolute, Some(scheme), Some(authority))
}

/// Any visible ASCII passes but `#`, and a backslash in the path: stricter would refuse what browsers send (`|`, `{`, `"`).
fn path_and_query(
    target: &[u8],
    start: usize,
    form: TargetForm,
    scheme: Option<Scheme>,
    authority: Option<Span>,
) -> Result<Target, RequestError> {
    let mut question = None;
    for (at, &byte) in target.iter().enumerate().skip(start) {
        match byte {
            b'#' => return Err(RequestError::TargetFragment),
            b'\\' if question.is_none() => return Err(RequestError::TargetInvalid),
            b'?' if question.is_none() => question = Some(at),
            _ if is_target_byte(byte) => {}
            _ => return Err(RequestError::TargetInvalid),
        }
    }
    Ok(Target {
        form,
        scheme,
        authority,
        path: Span::new(start, question.unwrap_or(target.len())),
        query: question.map(|at| Span::new(at + 1, target.len())),
    })
}

const fn is_target_byte(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~')
}

/// `host [":" port]` with a host that is not empty (RFC 9110 §4.2.1, RFC 3986 §3.2.2).
pub(super) fn is_authority(authority: &[u8]) -> bool {
    let (host, port) = split_port(authority);
    let port_valid = port.len() <= 5 && port.iter().all(u8::is_ascii_digit) && (decimal(port) <= u32::from(u16::MAX));
    port_valid
        && match host {
            [] => false,
            [b'[', literal @ .., b']'] => ascii(literal).parse::<Ipv6Addr>().is_ok(),
            _ => is_reg_name(host),
        }
}

/// Whether two valid authorities name the same place: hosts without regard to case, a missing port as the scheme's own.
pub(super) fn same_authority(one: &[u8], other: &[u8], scheme: Scheme) -> bool {
    let (host, port) = split_port(one);
    let (other_host, other_port) = split_port(other);
    let number = |port: &[u8]| match (port, scheme) {
        ([], Scheme::Http) => 80,
        ([], Scheme::Https) => 443,
        (digits, _) => decimal(digits),
    };
    host.eq_ignore_ascii_case(other_host) && number(port) == number(other_port)
}

/// The host, and the digits after the last colon outside of brackets. A second colon stays in the host, where it is invalid.
fn split_port(authority: &[u8]) -> (&[u8], &[u8]) {
    match authority.iter().rposition(|&byte| byte == b':' || byte == b']') {
        Some(at) if authority[at] == b':' => (&authority[..at], &authority[at + 1..]),
        Some(_) | None => (authority, &[]),
    }
}

fn decimal(digits: &[u8]) -> u32 {
    digits.iter().fold(0, |number, digit| number * 10 + u32::from(digit.wrapping_sub(b'0')))
}

/// RFC 3986 section 3.2.2 without percent-encoding and without delimiters such as a comma, which no name that can be looked up has (RFC
/// 9110 section 4.2.3 has hosts compared as they stand): a proxy that has joined two hosts to a list must not be believed.
fn is_reg_name(host: &[u8]) -> bool {
    host.iter().all(|byte| matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dot_segments_are_removed_and_the_rest_is_kept() {
        for (path, expected) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
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
            ("/...", "/..."),
            ("/.well-known/x", "/.well-known/x"),
            ("/a/..b", "/a/..b"),
            ("/%2e%2e%2fb", "/%2e%2e%2fb"),
            ("/a%2Fb%20c", "/a%2Fb%20c"),
            ("/a//b/", "/a//b/"),
        ] {
            assert_eq!(normalise(path).as_deref(), Ok(expected), "{path}");
        }
    }

    #[test]
    fn a_path_without_dots_is_borrowed() {
        assert!(matches!(normalise("/a.b/c..d/%41"), Ok(Cow::Borrowed(_))));
    }

    #[test]
    fn paths_that_are_no_paths_are_refused() {
        for (path, error) in [
            ("", TargetError::NotAbsolute),
            ("a/b", TargetError::NotAbsolute),
            ("/..", TargetError::AboveRoot),
            ("/a/../..", TargetError::AboveRoot),
            ("/%2e%2e/etc", TargetError::AboveRoot),
            ("/a/%00", TargetError::EncodedNul),
            ("/%", TargetError::PercentEncoding),
            ("/%4", TargetError::PercentEncoding),
            ("/%4g", TargetError::PercentEncoding),
            ("/%é", TargetError::PercentEncoding),
            ("/a\\..\\b", TargetError::Backslash),
        ] {
            assert_eq!(normalise(path), Err(error), "{path}");
        }
    }

    #[test]
    fn normalising_twice_changes_nothing_more() {
        for path in ["/a/./b/../c/", "/a/%2e%2e/./", "//./..//x"] {
            let once = normalise(path).expect("a valid path").into_owned();
            assert_eq!(normalise(&once).as_deref(), Ok(once.as_str()));
        }
    }

    #[test]
    fn authorities_are_hosts_with_an_optional_port() {
        for good in ["a", "a.b", "a:80", "a:", "127.0.0.1:1", "[::1]", "[::1]:65535", "a_b", "xn--a"] {
            assert!(is_authority(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            ":80",
            "a:65536",
            "a:8x",
            "a:123456",
            "a b",
            "a/b",
            "a@b",
            "[::1",
            "::1",
            "[]",
            "[g::]",
            "a:b:80",
            "%41",
            "%zz",
            "a?b",
            "a#b",
            "a,b",
            "a;b",
            "a=b",
            "a'b",
            "a*",
            "a,b c",
            "é",
            "[::1]x:80",
            "a\\b",
        ] {
            assert!(!is_authority(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn a_missing_port_is_that_of_the_scheme() {
        assert!(same_authority(b"A.example", b"a.EXAMPLE:80", Scheme::Http));
        assert!(same_authority(b"a:", b"a:443", Scheme::Https));
        assert!(!same_authority(b"a", b"a:443", Scheme::Http));
        assert!(!same_authority(b"a:81", b"a:80", Scheme::Http));
        assert!(!same_authority(b"a", b"b", Scheme::Http));
    }
}
