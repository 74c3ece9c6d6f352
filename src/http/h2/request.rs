//! A request's head, from the fields of HTTP/2 to what a guest may see (RFC 9113 §8.2, §8.3).
//!
//! Owns what only HTTP/2 can get wrong. Everything else is decided where it is for HTTP/1.1: the head is written as the one of HTTP/1.1 that says
//! the same, and read by that parser, so that nothing passes in one that is refused in the other, and the limits count the same bytes.
//! `stream` drives it. The library has refused already, with a stream error: pseudo-header fields that are missing, doubled, unknown or too
//! late, names that are not lowercase tokens, fields of the connection, and lengths that are not those of the body.

use http::request::Parts;
use http::{HeaderMap, Method, header};

use crate::http::context::Buffers;
use crate::http::error::RequestError;
use crate::http::fields::is_hop_by_hop;
use crate::http::head::{self, Head, HeadScan, Version};
use crate::http::limits::Limits;
use crate::http::target::{self, Scheme};

/// Reads a head into `buffers`, whose input it is from then on. `has_body`: the stream has not ended with it.
pub(super) fn read(
    parts: &Parts,
    has_body: bool,
    scheme: Scheme,
    buffers: &mut Buffers,
    limits: &Limits,
) -> Result<Head, RequestError> {
    buffers.discard_input();
    write(parts, has_body, scheme, &mut buffers.input)?;
    let whole = HeadScan::default().scan(&buffers.input, limits)?.ok_or(RequestError::HeadTooLarge)?;
    let length = whole.length;
    let bytes = buffers.input.get_mut(..length).ok_or(RequestError::HeadTooLarge)?;
    let mut head = head::parse(whole, bytes, &mut buffers.slots, limits)?;
    head.facts.version = Version::Http2;
    // What the target of HTTP/1.1 would have named, in absolute form.
    head.line.target.scheme = named_scheme(parts)?;
    buffers.take(length);
    Ok(head)
}

/// RFC 9113 §8.3.1: the library demands `:scheme`; another than these leads to no server of HTTP.
fn named_scheme(parts: &Parts) -> Result<Option<Scheme>, RequestError> {
    let Some(text) = parts.uri.scheme_str() else { return Ok(None) };
    let named = [Scheme::Http, Scheme::Https].into_iter().find(|scheme| text.eq_ignore_ascii_case(scheme.as_str()));
    named.map(Some).ok_or(RequestError::TargetScheme)
}

fn write(parts: &Parts, has_body: bool, scheme: Scheme, out: &mut Vec<u8>) -> Result<(), RequestError> {
    if parts.method == Method::CONNECT {
        return Err(RequestError::Connect);
    }
    // RFC 9113 §8.3.1: never a whole URL, which the parser would take for one.
    let target = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    if !target.starts_with('/') && target != "*" {
        return Err(RequestError::TargetForm);
    }
    out.extend_from_slice(parts.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    if let Some(authority) = authority {
        check_host(&parts.headers, authority, scheme)?;
        write_field(out, "host", authority)?;
    }
    for (name, value) in &parts.headers {
        match name.as_str() {
            "host" if authority.is_some() => {}
            // Together, behind the others.
            "cookie" => {}
            // What `te` may say here is that trailers are welcome (RFC 9113 §8.2.2).
            "te" if value == "trailers" => write_field(out, "te", b"trailers")?,
            name if is_hop_by_hop(name.as_bytes()) && name != "trailer" => return Err(RequestError::ConnectionField),
            name => write_field(out, name, value.as_bytes())?,
        }
    }
    write_cookie(out, &parts.headers)?;
    if has_body && !parts.headers.contains_key(header::CONTENT_LENGTH) {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// RFC 9113 §8.3.1: a `host` that names another place than `:authority` is refused, as one that disagrees with the target of HTTP/1.1.
fn check_host(fields: &HeaderMap, authority: &[u8], scheme: Scheme) -> Result<(), RequestError> {
    let mut hosts = fields.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) => Ok(()),
        (Some(_), Some(_)) => Err(RequestError::HostRepeated),
        (Some(host), None) if !target::is_authority(host.as_bytes()) => Err(RequestError::HostInvalid),
        (Some(host), None) if target::same_authority(authority, host.as_bytes(), scheme) => Ok(()),
        (Some(_), None) => Err(RequestError::HostDisagrees),
    }
}

/// RFC 9113 §8.2.3: the crumbs of a cookie are put together again before it is passed on to who knows nothing of them.
fn write_cookie(out: &mut Vec<u8>, fields: &HeaderMap) -> Result<(), RequestError> {
    for (at, crumb) in fields.get_all(header::COOKIE).iter().enumerate() {
        check_value(crumb.as_bytes())?;
        out.extend_from_slice(if at == 0 { b"cookie: " } else { b"; " });
        out.extend_from_slice(crumb.as_bytes());
    }
    if fields.contains_key(header::COOKIE) {
        out.extend_from_slice(b"\r\n");
    }
    Ok(())
}

/// Trailers as a section of HTTP/1.1, and how many they are.
pub(super) fn write_trailers(trailers: &HeaderMap, limits: &Limits, out: &mut Vec<u8>) -> Result<u32, RequestError> {
    if trailers.len() > limits.headers_max {
        return Err(RequestError::TrailersTooLarge);
    }
    let start = out.len();
    for (name, value) in trailers {
        write_field(out, name.as_str(), value.as_bytes()).map_err(|_| RequestError::TrailerInvalid)?;
    }
    out.extend_from_slice(b"\r\n");
    if out.len() - start > limits.trailer_bytes_max {
        return Err(RequestError::TrailersTooLarge);
    }
    Ok(trailers.len() as u32)
}

fn write_field(out: &mut Vec<u8>, name: &str, value: &[u8]) -> Result<(), RequestError> {
    check_value(value)?;
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// RFC 9113 §8.2.1: neither begins nor ends with a space. That it has no line in it is the library's word, and is not relied upon here.
fn check_value(value: &[u8]) -> Result<(), RequestError> {
    let is_padded = matches!(value, [b' ' | b'\t', ..] | [.., b' ' | b'\t']);
    if is_padded || value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
        return Err(RequestError::HeaderValue);
    }
    Ok(())
}
