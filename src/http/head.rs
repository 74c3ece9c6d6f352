//! Request heads: from bytes to a request line, header fields, and what they say about framing.
//!
//! Owns every decision of RFC 9112 §3, §5 and §6 about what is refused; never touches a body byte or a buffer of its own.
//! `connection` drives it: `HeadScan` until the head is whole, then `parse` once.

use httparse::{EMPTY_HEADER, Error, Status};

use super::error::RequestError;
use super::fields::{ascii, content_length, is_forbidden_in_trailers, is_hop_by_hop, is_token_byte, list};
use super::limits::{CONNECTION_OPTIONS_MAX, Limits, METHOD_BYTES_MAX};
use super::lines::Lines;
use super::target::{self, Scheme, Span, Target, TargetForm};

/// What the client speaks. A later minor version is spoken to as 1.1 (RFC 9110 §2.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    Http10,
    #[default]
    Http11,
    Http2,
}

impl Version {
    pub const ALL: [Self; 3] = [Self::Http10, Self::Http11, Self::Http2];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2.0",
        }
    }
}

/// How much request body there will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// No body, or `content-length: 0`: no `Body` and no `BodyEnd` event follows.
    None,
    /// This many bytes, at least one.
    Known(u64),
    /// Told only at the end.
    Chunked,
}

/// A request that may be dispatched. Everything in it is valid, and nothing in it can be read in two ways.
#[derive(Clone, Debug)]
pub struct RequestHead<'a> {
    /// A token, case kept.
    pub method: &'a str,
    pub form: TargetForm,
    /// Of the connection.
    pub scheme: Scheme,
    /// The target says `https`, and has come in the clear: refused unless a trusted proxy has secured it (RFC 9110 §7.4).
    pub claims_https: bool,
    /// Of the target or the `host` field; empty only where an HTTP/1.0 client sends neither.
    pub authority: &'a str,
    /// As sent: visible ASCII that begins with `/` (or is `*` in the asterisk form), not yet normalised.
    pub path: &'a str,
    /// As sent, without the question mark.
    pub query: Option<&'a str>,
    pub version: Version,
    /// Names in lowercase, hop-by-hop fields and `expect` removed.
    pub headers: Headers<'a>,
    pub body: BodyLength,
    /// The client waits for `Connection::respond_continue` or a final response before it sends the body.
    pub expects_continue: bool,
    /// Whether the client is ready to send another request after this one.
    pub keep_alive: bool,
    /// Whether the client asks for trailers (`te: trailers`).
    pub accepts_trailers: bool,
}

/// The fields of a head or of a trailer section.
#[derive(Clone, Copy, Debug)]
pub struct Headers<'a> {
    section: &'a [u8],
    /// The same, unless a value is not UTF-8. Checking once is faster than checking each name.
    text: Option<&'a str>,
    slots: &'a [HeaderSlot],
}

impl<'a> Headers<'a> {
    pub(super) fn new(section: &'a [u8], slots: &'a [HeaderSlot]) -> Self {
        Self { section, text: std::str::from_utf8(section).ok(), slots }
    }

    pub const fn len(&self) -> usize {
        self.slots.len()
    }

    pub const fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Name and value of each field, in the order sent.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&'a str, &'a [u8])> + use<'a> {
        let Self { section, text, slots } = *self;
        slots.iter().map(move |slot| {
            let name = text.and_then(|text| text.get(slot.name.start as usize..slot.name.end as usize));
            (name.unwrap_or_else(|| ascii(slot.name.of(section))), slot.value.of(section))
        })
    }

    /// The value of the first field with this name, which must be in lowercase.
    pub fn find(&self, name: &str) -> Option<&'a [u8]> {
        self.iter().find(|(candidate, _)| *candidate == name).map(|(_, value)| value)
    }
}

/// Where a field stands in its section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderSlot {
    name: Span,
    value: Span,
}

/// What the rest of the exchange has to remember of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub version: Version,
    pub is_head: bool,
    pub keep_alive: bool,
    pub expects_continue: bool,
    pub accepts_trailers: bool,
    pub accepts_only_json: bool,
}

impl Facts {
    /// For the answer to bytes that are no request.
    pub const UNKNOWN: Self = Self {
        version: Version::Http11,
        is_head: false,
        keep_alive: false,
        expects_continue: false,
        accepts_trailers: false,
        accepts_only_json: false,
    };
}

/// A parsed head; spans are relative to its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub line: RequestLine,
    pub authority: Span,
    pub body: BodyLength,
    pub facts: Facts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RequestLine {
    pub method: Span,
    /// Spans relative to the head.
    pub target: Target,
    pub version: Version,
}

/// A head that is still arriving.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct HeadScan {
    lines: Lines,
    request_line: Option<(RequestLine, u32)>,
}

/// A head that is whole but whose fields have not been looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WholeHead {
    line: RequestLine,
    fields_start: u32,
    fields_count: u32,
    pub length: usize,
}

impl HeadScan {
    /// Looks at what is new in `bytes`, which begin at the request line. `None` until the head is whole. The outcome is the same
    /// however the bytes are split: limits count bytes of the head, not of what happens to have arrived.
    pub fn scan(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<WholeHead>, RequestError> {
        let window = &bytes[..bytes.len().min(limits.head_bytes_max)];
        while let Some(span) = self.next_line(window, limits)? {
            match self.request_line {
                None => {
                    let line = request_line(span.of(window), limits)?;
                    self.request_line = Some((line, self.lines.consumed() as u32));
                }
                Some((line, fields_start)) if span.start == span.end => {
                    let (length, fields_count) = (self.lines.consumed(), self.lines.count - 1);
                    return Ok(Some(WholeHead { line, fields_start, fields_count, length }));
                }
                Some(_) if self.lines.count as usize > limits.headers_max + 1 => {
                    return Err(RequestError::TooManyHeaders);
                }
                Some(_) => {}
            }
        }
        if self.request_line.is_none() {
            unfinished_request_line(window, limits)?;
        }
        if bytes.len() > limits.head_bytes_max { Err(RequestError::HeadTooLarge) } else { Ok(None) }
    }

    /// What is wrong with a request line comes before what is wrong with its end, as if its bytes had come one by one.
    fn next_line(&mut self, window: &[u8], limits: &Limits) -> Result<Option<Span>, RequestError> {
        self.lines.next(window).map_err(|error| match self.request_line {
            Some(_) => error,
            None => {
                let line = window.split(|&byte| byte == b'\n').next().unwrap_or_default();
                unfinished_request_line(line, limits).err().unwrap_or(error)
            }
        })
    }
}

/// `method SP target SP version`, single spaces only (RFC 9112 §3).
fn request_line(line: &[u8], limits: &Limits) -> Result<RequestLine, RequestError> {
    let method = method_length(line)?.ok_or(RequestError::RequestLineInvalid)?;
    if line.len() > request_line_bytes_max(limits) {
        return Err(RequestError::TargetTooLong);
    }
    let rest = &line[method + 1..];
    let target_length = rest.iter().position(|&byte| byte == b' ');
    if target_length.unwrap_or(rest.len()) > limits.target_bytes_max {
        return Err(RequestError::TargetTooLong);
    }
    let target_length = target_length.ok_or(RequestError::RequestLineInvalid)?;
    let version = version(&rest[target_length + 1..])?;
    if &line[..method] == b"CONNECT" {
        return Err(RequestError::Connect);
    }
    let parsed = target::parse(&rest[..target_length], &line[..method] == b"OPTIONS")?;
    let start = method + 1;
    let target = Target {
        authority: parsed.authority.map(|span| span.shifted(start)),
        path: parsed.path.shifted(start),
        query: parsed.query.map(|span| span.shifted(start)),
        ..parsed
    };
    Ok(RequestLine { method: Span::new(0, method), target, version })
}

/// Refuses as early as can be what will not become a request line, such as binary bytes or an endless target.
fn unfinished_request_line(line: &[u8], limits: &Limits) -> Result<(), RequestError> {
    // Perhaps the first half of the line's end.
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    method_length(line)?;
    if line.len() > request_line_bytes_max(limits) {
        return Err(RequestError::TargetTooLong);
    }
    Ok(())
}

fn request_line_bytes_max(limits: &Limits) -> usize {
    METHOD_BYTES_MAX + " ".len() + limits.target_bytes_max + " HTTP/1.1".len()
}

/// The bytes before the first space, `None` if the line ends before that.
fn method_length(line: &[u8]) -> Result<Option<usize>, RequestError> {
    const TLS_HANDSHAKE: u8 = 0x16;
    for (at, &byte) in line.iter().take(METHOD_BYTES_MAX + 1).enumerate() {
        match byte {
            b' ' if at > 0 => return Ok(Some(at)),
            TLS_HANDSHAKE if at == 0 => return Err(RequestError::TlsOnPlainPort),
            _ if is_token_byte(byte) => {}
            _ => return Err(RequestError::MethodInvalid),
        }
    }
    if line.len() > METHOD_BYTES_MAX { Err(RequestError::MethodTooLong) } else { Ok(None) }
}

/// `HTTP/` digit `.` digit (RFC 9112 §2.3).
fn version(text: &[u8]) -> Result<Version, RequestError> {
    match text {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        b"HTTP/2" | b"HTTP/3" => Err(RequestError::VersionUnsupported),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            if *major == b'1' {
                Ok(Version::Http11)
            } else {
                Err(RequestError::VersionUnsupported)
            }
        }
        _ if text.contains(&b' ') => Err(RequestError::RequestLineInvalid),
        _ => Err(RequestError::VersionInvalid),
    }
}

/// Reads the fields of a whole head: names become lowercase in place, `slots` receives those that the guest may see.
pub(super) fn parse(
    whole: WholeHead,
    head: &mut [u8],
    slots: &mut Vec<HeaderSlot>,
    limits: &Limits,
) -> Result<Head, RequestError> {
    read_fields(head, whole.fields_start as usize, whole.fields_count as usize, slots)?;
    let mut findings = Findings::default();
    for slot in &*slots {
        findings.note(slot, head)?;
    }
    let line = whole.line;
    let authority = findings.authority(&line, head)?;
    let body = findings.body_length(line.version, limits)?;
    let expects_continue = findings.expects_continue(line.version, body)?;
    findings.hide_fields(head, slots)?;
    let facts = Facts {
        version: line.version,
        is_head: line.method.of(head) == b"HEAD",
        keep_alive: match line.version {
            Version::Http11 | Version::Http2 => !findings.close,
            Version::Http10 => findings.keep_alive && !findings.close,
        },
        expects_continue,
        accepts_trailers: findings.accepts_trailers && line.version != Version::Http10,
        accepts_only_json: findings.accept == Accept::OnlyJson,
    };
    Ok(Head { line, authority, body, facts })
}

/// Reads a trailer section, the empty line included, and leaves out the fields that may not stand there.
pub(super) fn parse_trailers(section: &mut [u8], count: u32, slots: &mut Vec<HeaderSlot>) -> Result<(), RequestError> {
    read_fields(section, 0, count as usize, slots).map_err(|_| RequestError::TrailerInvalid)?;
    slots.retain(|slot| !is_forbidden_in_trailers(slot.name.of(section)));
    Ok(())
}

/// Lets httparse read the field lines in `section[start..]`, `count` of them as `Lines` has seen. A different count would mean
/// that the two disagree about where a line ends, which is what smuggling is made of: it is refused.
fn read_fields(
    section: &mut [u8],
    start: usize,
    count: usize,
    slots: &mut Vec<HeaderSlot>,
) -> Result<(), RequestError> {
    const ON_STACK: usize = 24;
    slots.clear();
    if count <= ON_STACK {
        locate_fields(section, start, &mut [EMPTY_HEADER; ON_STACK][..count], slots)?;
    } else {
        locate_fields(section, start, &mut vec![EMPTY_HEADER; count], slots)?;
    }
    for slot in &*slots {
        section[slot.name.start as usize..slot.name.end as usize].make_ascii_lowercase();
    }
    Ok(())
}

fn locate_fields<'a>(
    section: &'a [u8],
    start: usize,
    found: &mut [httparse::Header<'a>],
    slots: &mut Vec<HeaderSlot>,
) -> Result<(), RequestError> {
    let count = found.len();
    let base = section.as_ptr().addr();
    let span = |bytes: &[u8]| {
        let offset = bytes.as_ptr().addr() - base;
        Span::new(offset, offset + bytes.len())
    };
    match httparse::parse_headers(&section[start..], found) {
        Ok(Status::Complete((length, fields))) if length == section.len() - start && fields.len() == count => {
            slots.extend(
                fields.iter().map(|field| HeaderSlot { name: span(field.name.as_bytes()), value: span(field.value) }),
            );
            Ok(())
        }
        Ok(_) | Err(Error::HeaderName | Error::TooManyHeaders) => Err(RequestError::HeaderName),
        Err(_) => Err(RequestError::HeaderValue),
    }
}

/// What the fields say about the connection, gathered in one pass.
#[derive(Default)]
struct Findings {
    host: Option<Span>,
    length: Option<u64>,
    coding: Coding,
    expect: Expect,
    accept: Accept,
    close: bool,
    keep_alive: bool,
    accepts_trailers: bool,
    hides_fields: bool,
    nominates_fields: bool,
}

#[derive(Default, PartialEq, Eq)]
enum Coding {
    #[default]
    None,
    /// Only codings that are not `chunked` so far. RFC 9112 §6.3 would have 400 where `chunked` does not follow, §6.1 has 501 for a coding
    /// that is not understood: that is what a client can act upon, and the connection closes either way.
    Foreign,
    Chunked,
    ForeignThenChunked,
}

#[derive(Default)]
enum Expect {
    #[default]
    Nothing,
    Continue,
    Unknown,
}

#[derive(Default, PartialEq, Eq)]
enum Accept {
    #[default]
    Anything,
    OnlyJson,
    Other,
}

impl Findings {
    fn note(&mut self, slot: &HeaderSlot, head: &[u8]) -> Result<(), RequestError> {
        let (name, value) = (slot.name.of(head), slot.value.of(head));
        match name {
            b"host" => self.note_host(slot.value)?,
            b"content-length" => {
                let length = content_length(value).ok_or(RequestError::ContentLengthInvalid)?;
                // RFC 9110 §8.6 would allow equal ones to be merged.
                if self.length.replace(length).is_some() {
                    return Err(RequestError::ContentLengthRepeated);
                }
            }
            b"transfer-encoding" => self.note_coding(value)?,
            b"connection" => self.note_connection(value),
            b"te" => self.accepts_trailers |= list(value).any(|coding| coding.eq_ignore_ascii_case(b"trailers")),
            b"accept" => self.note_accept(value),
            b"expect" => {
                self.expect = match self.expect {
                    Expect::Nothing if value.eq_ignore_ascii_case(b"100-continue") => Expect::Continue,
                    Expect::Nothing | Expect::Continue | Expect::Unknown => Expect::Unknown,
                }
            }
            _ => {}
        }
        self.hides_fields |= is_hop_by_hop(name) || name == b"expect";
        Ok(())
    }

    fn note_host(&mut self, value: Span) -> Result<(), RequestError> {
        if self.host.replace(value).is_some() { Err(RequestError::HostRepeated) } else { Ok(()) }
    }

    /// RFC 9112 §6.1 and §7: `chunked` once and last. Parameters are not part of any coding known here.
    fn note_coding(&mut self, value: &[u8]) -> Result<(), RequestError> {
        for coding in list(value) {
            let chunked = coding.eq_ignore_ascii_case(b"chunked");
            self.coding = match self.coding {
                Coding::Chunked | Coding::ForeignThenChunked => {
                    return Err(RequestError::CodingInvalid);
                }
                Coding::None if chunked => Coding::Chunked,
                Coding::Foreign if chunked => Coding::ForeignThenChunked,
                Coding::None | Coding::Foreign if super::fields::is_token(coding) => Coding::Foreign,
                Coding::None | Coding::Foreign => return Err(RequestError::CodingInvalid),
            };
        }
        Ok(())
    }

    fn note_connection(&mut self, value: &[u8]) {
        for option in list(value) {
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if !option.is_empty() {
                self.nominates_fields = true;
            }
        }
    }

    fn note_accept(&mut self, value: &[u8]) {
        let is_json = |range: &[u8]| {
            let media_type = range.split(|&byte| byte == b';').next().unwrap_or_default();
            let media_type = super::fields::trim(media_type);
            media_type.eq_ignore_ascii_case(b"application/json")
                || media_type.len() > 5 && media_type[media_type.len() - 5..].eq_ignore_ascii_case(b"+json")
        };
        if self.accept != Accept::Other {
            self.accept = if list(value).all(is_json) { Accept::OnlyJson } else { Accept::Other };
        }
    }

    /// RFC 9112 §3.2. Where the target has a host too, it wins, and a `host` field that differs is refused rather than ignored.
    fn authority(&self, line: &RequestLine, head: &[u8]) -> Result<Span, RequestError> {
        let host = match (self.host, line.version) {
            (Some(host), _) if target::is_authority(host.of(head)) => Some(host),
            (Some(_), _) => return Err(RequestError::HostInvalid),
            (None, Version::Http11 | Version::Http2) => return Err(RequestError::HostMissing),
            (None, Version::Http10) => None,
        };
        match (line.target.authority, host) {
            (Some(authority), Some(host)) => {
                let scheme = line.target.scheme.unwrap_or(Scheme::Http);
                if target::same_authority(authority.of(head), host.of(head), scheme) {
                    Ok(authority)
                } else {
                    Err(RequestError::HostDisagrees)
                }
            }
            (Some(authority), None) => Ok(authority),
            (None, host) => Ok(host.unwrap_or_default()),
        }
    }

    /// RFC 9112 §6.3, with every doubt decided as an error.
    fn body_length(&self, version: Version, limits: &Limits) -> Result<BodyLength, RequestError> {
        match (&self.coding, self.length) {
            (Coding::None, None | Some(0)) => Ok(BodyLength::None),
            (Coding::None, Some(length)) if length > limits.body_bytes_max => Err(RequestError::BodyTooLarge),
            (Coding::None, Some(length)) => Ok(BodyLength::Known(length)),
            (_, Some(_)) => Err(RequestError::LengthAndCoding),
            (_, None) if version == Version::Http10 => Err(RequestError::CodingInHttp10),
            (Coding::Chunked, None) => Ok(BodyLength::Chunked),
            (Coding::Foreign | Coding::ForeignThenChunked, None) => Err(RequestError::CodingUnsupported),
        }
    }

    /// RFC 9110 §10.1.1: HTTP/1.0 has no expectations, and a request without a body has nothing to wait with.
    fn expects_continue(&self, version: Version, body: BodyLength) -> Result<bool, RequestError> {
        match (&self.expect, version) {
            (Expect::Nothing, _) | (_, Version::Http10) => Ok(false),
            (Expect::Continue, Version::Http11 | Version::Http2) => Ok(body != BodyLength::None),
            (Expect::Unknown, Version::Http11 | Version::Http2) => Err(RequestError::Expectation),
        }
    }

    /// RFC 9110 §7.6.1: neither hop-by-hop fields nor those that `connection` names. `host` and `content-length` cannot be named
    /// away: they have been acted upon, and the guest must see the same.
    fn hide_fields(&self, head: &[u8], slots: &mut Vec<HeaderSlot>) -> Result<(), RequestError> {
        if self.nominates_fields {
            let mut nominated = Vec::with_capacity(CONNECTION_OPTIONS_MAX);
            let connection = slots.iter().filter(|slot| slot.name.of(head) == b"connection");
            for option in connection.flat_map(|slot| list(slot.value.of(head))).filter(|option| !option.is_empty()) {
                if nominated.len() == CONNECTION_OPTIONS_MAX {
                    return Err(RequestError::ConnectionOptions);
                }
                nominated.push(option);
            }
            slots.retain(|slot| match slot.name.of(head) {
                b"host" | b"content-length" => true,
                name => !nominated.iter().any(|option| option.eq_ignore_ascii_case(name)),
            });
        }
        if self.hides_fields {
            slots.retain(|slot| match slot.name.of(head) {
                b"expect" => false,
                name => !is_hop_by_hop(name),
            });
        }
        Ok(())
    }
}
