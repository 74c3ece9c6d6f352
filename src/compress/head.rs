//! The head of a response that may be compressed: whether it is, and how its fields change.

use super::{Coding, Policy, accept};
use crate::http::{Header, ResponseHead, content_length};

/// What becomes of a response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plan {
    /// Nothing: no client's `accept-encoding` would have changed that.
    Unchanged,
    /// Nothing, but another client might have had it compressed: caches are told (RFC 9110, section 12.5.5).
    Vary,
    /// It is compressed.
    Encode(Coding),
}

impl Plan {
    /// What to do with this response for a client that has sent `accept` as its `accept-encoding` fields.
    pub fn of<'r>(policy: &Policy, head: &ResponseHead<'_>, accept: impl Iterator<Item = &'r [u8]>) -> Plan {
        // No content (RFC 9110, sections 15.3.5, 15.3.6, 15.4.5), or a part of something that has its own coding (14.4).
        if matches!(head.status, 204 | 205 | 206 | 304) || !is_transformable(policy, head.headers) {
            return Plan::Unchanged;
        }
        let Ok(promised) = promised(head) else { return Plan::Unchanged };
        if promised.is_some_and(|length| length < policy.min_bytes) {
            return Plan::Vary;
        }
        accept::choose(accept, &policy.codings).map_or(Plan::Vary, Plan::Encode)
    }
}

/// A guest has promised two lengths, or one that is none: whoever writes its head says so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Contradiction;

/// How many bytes the guest has promised, by the fields or beside them.
pub fn promised(head: &ResponseHead<'_>) -> Result<Option<u64>, Contradiction> {
    let mut promised = head.body_length;
    for (name, value) in head.headers {
        if is(name, "content-length") {
            let declared = content_length(value).ok_or(Contradiction)?;
            if promised.replace(declared).is_some_and(|other| other != declared) {
                return Err(Contradiction);
            }
        }
    }
    Ok(promised)
}

/// Whether what the fields say leaves the choice, and whether it is worth it.
fn is_transformable(policy: &Policy, headers: &[Header<'_>]) -> bool {
    let mut covered = false;
    for (name, value) in headers {
        // Encoded already; a part; or something that was computed over the very bytes (RFC 9530).
        let fixed = ["content-encoding", "content-range", "content-md5", "digest", "content-digest", "repr-digest"];
        if fixed.iter().any(|fixed| is(name, fixed)) {
            return false;
        }
        // RFC 9111, section 5.2.2.6.
        if is(name, "cache-control") && has_element(value, "no-transform") {
            return false;
        }
        covered |= is(name, "content-type") && policy.covers(value);
    }
    covered
}

/// The entity tag of a compressed body, where the plain one has a strong one: the bytes are not the ones that it names (RFC 9110, section
/// 8.8.3.3).
pub fn weakened(headers: &[Header<'_>]) -> Option<Vec<u8>> {
    let strong = headers.iter().find(|(name, value)| is(name, "etag") && value.starts_with(b"\""));
    strong.map(|(_, value)| [b"W/", *value].concat())
}

/// The fields of a response that depends on `accept-encoding`, and is compressed with `coding` if there is one, with the entity tag that
/// [`weakened`] has made.
pub fn rewritten<'a>(headers: &[Header<'a>], coding: Option<Coding>, etag: Option<&'a [u8]>) -> Vec<Header<'a>> {
    let mut fields = Vec::with_capacity(headers.len() + 2);
    let mut says_vary = false;
    for (name, value) in headers {
        says_vary |= is(name, "vary") && (has_element(value, "accept-encoding") || has_element(value, "*"));
        match etag.filter(|_| is(name, "etag")) {
            Some(etag) => fields.push((*name, etag)),
            // The length is another, and ranges would be ones of the plain body (RFC 9110, section 14.3).
            None if coding.is_some() && (is(name, "content-length") || is(name, "accept-ranges")) => {}
            None => fields.push((*name, *value)),
        }
    }
    if let Some(coding) = coding {
        fields.push(("content-encoding", coding.name().as_bytes()));
    }
    if !says_vary {
        fields.push(("vary", b"accept-encoding"));
    }
    fields
}

fn is(name: &str, wanted: &str) -> bool {
    name.eq_ignore_ascii_case(wanted)
}

fn has_element(value: &[u8], wanted: &str) -> bool {
    value.split(|&byte| byte == b',').any(|element| element.trim_ascii().eq_ignore_ascii_case(wanted.as_bytes()))
}
