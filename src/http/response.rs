//! Responses: the head as bytes, and how the body behind it is framed (RFC 9112 §4, §6.3, §7.1).
//!
//! Owns what a guest may put into a response and what the supervisor puts there itself: the framing is always the supervisor's.
//! Writes into a buffer, or a list of fields, that it is given; `connection` and `h2` drive it.

use super::context::DATE_BYTES;
use super::error::ResponseError;
use super::fields::{Header, content_length, is_forbidden_in_trailers, is_hop_by_hop, is_token, is_value};
use super::head::{Facts, Version};
use super::request_id::REQUEST_ID_FIELD;

/// A response head as a guest, or the reactor, wants it.
#[derive(Clone, Copy, Debug)]
pub struct ResponseHead<'a> {
    /// 200 to 599.
    pub status: u16,
    /// Any order, any case. Hop-by-hop fields, `date` and `x-request-id` are left out: they are the supervisor's.
    pub headers: &'a [Header<'a>],
    /// What the request is called. Empty: its client is not told.
    pub request_id: &'a str,
    /// The length of the whole body, when it is known.
    pub body_length: Option<u64>,
}

/// How the end of a response body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// By `content-length`; this much is still promised.
    Length(u64),
    Chunked,
    /// By the end of the connection, for HTTP/1.0 knows no chunks, or of the stream: HTTP/2 needs none.
    UntilClose,
    /// The status or the method allows no body: whatever comes is dropped.
    NoBody,
}

/// Appends a head to `out`, or leaves `out` as it was. Returns the framing of the body, and whether the connection may be kept
/// (never, if `keep` is false).
pub(super) fn write_head(
    out: &mut Vec<u8>,
    head: &ResponseHead<'_>,
    facts: Facts,
    keep: bool,
    date: &[u8; DATE_BYTES],
) -> Result<(Framing, bool), ResponseError> {
    let before = out.len();
    let written = write_checked_head(out, head, facts, keep, date);
    if written.is_err() {
        out.truncate(before);
    }
    written
}

fn write_checked_head(
    out: &mut Vec<u8>,
    head: &ResponseHead<'_>,
    facts: Facts,
    keep: bool,
    date: &[u8; DATE_BYTES],
) -> Result<(Framing, bool), ResponseError> {
    write_status_line(out, head.status)?;
    let framing = write_fields(out, head, facts, date)?;
    let keep = keep && framing != Framing::UntilClose;
    match (keep, facts.version) {
        (false, _) => out.extend_from_slice(b"connection: close\r\n"),
        (true, Version::Http10) => out.extend_from_slice(b"connection: keep-alive\r\n"),
        (true, Version::Http11 | Version::Http2) => {}
    }
    out.extend_from_slice(b"\r\n");
    Ok((framing, keep))
}

/// Where the fields of a response go: the text of HTTP/1.1, or a list.
pub(super) trait Fields {
    /// Appends a field whose name is a token and whose value is one.
    fn push_field(&mut self, name: &str, value: &[u8]) -> Result<(), ResponseError>;
}

impl Fields for Vec<u8> {
    fn push_field(&mut self, name: &str, value: &[u8]) -> Result<(), ResponseError> {
        self.extend_from_slice(name.as_bytes());
        self.extend_from_slice(b": ");
        self.extend_from_slice(value);
        self.extend_from_slice(b"\r\n");
        Ok(())
    }
}

/// Appends everything that a head says beside its status, but for the options of the connection. After an error some of it may be there.
pub(super) fn write_fields(
    out: &mut impl Fields,
    head: &ResponseHead<'_>,
    facts: Facts,
    date: &[u8; DATE_BYTES],
) -> Result<Framing, ResponseError> {
    let declared = write_guest_fields(out, head.headers)?;
    let contradicts = match (head.status, declared, head.body_length) {
        // Whatever the guest says of a body here, none is sent and nothing is promised.
        (204 | 205 | 304, _, _) => false,
        (_, Some(declared), Some(actual)) => declared != actual && !(facts.is_head && actual == 0),
        (_, None, _) | (_, _, None) => false,
    };
    if contradicts {
        return Err(ResponseError::ContentLength);
    }
    let framing = write_framing(out, head, facts, declared)?;
    out.push_field("date", date)?;
    if !head.request_id.is_empty() {
        write_field(out, REQUEST_ID_FIELD, head.request_id.as_bytes())?;
    }
    Ok(framing)
}

/// The version is always 1.1: it tells what this server can do, not what the client speaks (RFC 9110 §6.2).
fn write_status_line(out: &mut Vec<u8>, status: u16) -> Result<(), ResponseError> {
    check_status(status)?;
    out.extend_from_slice(b"HTTP/1.1 ");
    push_decimal(out, u64::from(status));
    out.push(b' ');
    out.extend_from_slice(reason_phrase(status).as_bytes());
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// A final response that HTTP knows (RFC 9110 §15).
pub(super) fn check_status(status: u16) -> Result<(), ResponseError> {
    if (200..=599).contains(&status) { Ok(()) } else { Err(ResponseError::Status(status)) }
}

/// Appends the guest's fields but for those that are not its own, and returns its `content-length`.
fn write_guest_fields(out: &mut impl Fields, headers: &[Header<'_>]) -> Result<Option<u64>, ResponseError> {
    let mut declared = None;
    for &(name, value) in headers {
        match owner(name) {
            Owner::Guest => write_field(out, name, value)?,
            Owner::Supervisor => {}
            Owner::Length => {
                let length = content_length(value).ok_or(ResponseError::ContentLength)?;
                if declared.replace(length).is_some() {
                    return Err(ResponseError::ContentLength);
                }
            }
        }
    }
    Ok(declared)
}

fn write_field(out: &mut impl Fields, name: &str, value: &[u8]) -> Result<(), ResponseError> {
    if !is_token(name.as_bytes()) {
        return Err(ResponseError::HeaderName);
    }
    if !is_value(value) {
        return Err(ResponseError::HeaderValue);
    }
    out.push_field(name, value)
}

/// Appends the trailers that may stand there (RFC 9110 §6.5.1).
pub(super) fn write_trailers(out: &mut impl Fields, trailers: &[Header<'_>]) -> Result<(), ResponseError> {
    let may_stand = |name: &str| !is_forbidden_in_trailers(name.to_ascii_lowercase().as_bytes());
    trailers.iter().filter(|(name, _)| may_stand(name)).try_for_each(|&(name, value)| write_field(out, name, value))
}

enum Owner {
    Guest,
    Supervisor,
    Length,
}

fn owner(name: &str) -> Owner {
    let mut lowercase = [0; "transfer-encoding".len()];
    let Some(lowercase) = lowercase.get_mut(..name.len()) else {
        return Owner::Guest;
    };
    lowercase.copy_from_slice(name.as_bytes());
    lowercase.make_ascii_lowercase();
    match &*lowercase {
        b"content-length" => Owner::Length,
        b"date" | b"x-request-id" => Owner::Supervisor,
        other if is_hop_by_hop(other) => Owner::Supervisor,
        _ => Owner::Guest,
    }
}

/// RFC 9112 §6.3 from the sender's side. A response without content (204, 304) has no framing fields even if the guest wrote them;
/// 205 says that its content is empty (RFC 9110 §15.3.6); a response to HEAD tells the length only where the guest knows it.
fn write_framing(
    out: &mut impl Fields,
    head: &ResponseHead<'_>,
    facts: Facts,
    declared: Option<u64>,
) -> Result<Framing, ResponseError> {
    let known = declared.or(head.body_length);
    match (head.status, known) {
        (204 | 304, _) => Ok(Framing::NoBody),
        (205, _) => write_content_length(out, 0).map(|()| Framing::NoBody),
        _ if facts.is_head => {
            // A guest that makes no body for HEAD says 0 here without meaning it.
            if let Some(length) = declared.or(head.body_length.filter(|&length| length > 0)) {
                write_content_length(out, length)?;
            }
            Ok(Framing::NoBody)
        }
        (_, Some(length)) => write_content_length(out, length).map(|()| Framing::Length(length)),
        (_, None) => match facts.version {
            Version::Http11 => out.push_field("transfer-encoding", b"chunked").map(|()| Framing::Chunked),
            Version::Http10 | Version::Http2 => Ok(Framing::UntilClose),
        },
    }
}

fn write_content_length(out: &mut impl Fields, length: u64) -> Result<(), ResponseError> {
    let mut digits = [0; 20];
    out.push_field("content-length", decimal(length, &mut digits))
}

/// Appends a piece of body, which must not be empty, in its framing.
pub(super) fn write_body(out: &mut Vec<u8>, framing: &mut Framing, bytes: &[u8]) -> Result<(), ResponseError> {
    match framing {
        Framing::NoBody => {}
        Framing::UntilClose => out.extend_from_slice(bytes),
        Framing::Length(remaining) => {
            *remaining = remaining.checked_sub(bytes.len() as u64).ok_or(ResponseError::BodyTooLong)?;
            out.extend_from_slice(bytes);
        }
        Framing::Chunked => {
            push_hexadecimal(out, bytes.len() as u64);
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(bytes);
            out.extend_from_slice(b"\r\n");
        }
    }
    Ok(())
}

/// Appends what ends a body. Trailers need chunks and a client that asked for them (RFC 9110 §6.5.1); else they are dropped, as are
/// fields that may not stand in trailers.
pub(super) fn write_end(
    out: &mut Vec<u8>,
    framing: Framing,
    trailers: &[Header<'_>],
    facts: Facts,
) -> Result<(), ResponseError> {
    match framing {
        Framing::NoBody | Framing::UntilClose | Framing::Length(0) => Ok(()),
        Framing::Length(_) => Err(ResponseError::BodyTooShort),
        Framing::Chunked => {
            let before = out.len();
            out.extend_from_slice(b"0\r\n");
            let trailers = if facts.accepts_trailers { trailers } else { &[] };
            if let Err(error) = write_trailers(out, trailers) {
                out.truncate(before);
                return Err(error);
            }
            out.extend_from_slice(b"\r\n");
            Ok(())
        }
    }
}

/// The body of an error response: short text, or JSON for a client that accepts only that. `request_id` may be empty.
pub(super) fn error_body(json: bool, status: u16, detail: &str, request_id: &str) -> (&'static str, String) {
    let reason = reason_phrase(status);
    if json {
        let mut body = format!("{{\"status\":{status},\"error\":\"{reason}\"");
        for (key, value) in [("detail", detail), ("request_id", request_id)] {
            if !value.is_empty() {
                body.push_str(&format!(",\"{key}\":\""));
                push_json_text(&mut body, value);
                body.push('"');
            }
        }
        body.push_str("}\n");
        ("application/json", body)
    } else {
        let mut body = format!("{status} {reason}\n");
        if !detail.is_empty() {
            body.push_str(detail);
            body.push('\n');
        }
        if !request_id.is_empty() {
            body.push_str(&format!("request id: {request_id}\n"));
        }
        ("text/plain; charset=utf-8", body)
    }
}

fn push_json_text(out: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            control if control < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => out.push(other),
        }
    }
}

fn push_decimal(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(decimal(number, &mut [0; 20]));
}

fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    &digits[start..]
}

fn push_hexadecimal(out: &mut Vec<u8>, number: u64) {
    let digits = (u64::BITS - number.leading_zeros()).div_ceil(4).max(1);
    out.extend((0..digits).rev().map(|digit| b"0123456789abcdef"[(number >> (4 * digit) & 0xf) as usize]));
}

/// The customary words for a status (RFC 9110 §15 and the IANA registry); empty for one that has none.
pub const fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        207 => "Multi-Status",
        208 => "Already Reported",
        226 => "IM Used",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        305 => "Use Proxy",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        418 => "I'm a teapot",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        423 => "Locked",
        424 => "Failed Dependency",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        506 => "Variant Also Negotiates",
        507 => "Insufficient Storage",
        508 => "Loop Detected",
        510 => "Not Extended",
        511 => "Network Authentication Required",
        _ => "",
    }
}
