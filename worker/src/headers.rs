//! Field lines between the wire and `http::HeaderMap`, and what a guest's response must satisfy to be one.
//!
//! The supervisor validates what it sends to clients by itself; the checks here are so that the guest is blamed with a
//! message that says what is wrong.

use http::{HeaderMap, HeaderName, HeaderValue};
use rusmd_proto::Header;
use rusmd_proto::limits::HEADERS_MAX;

/// The map of field lines that came from the supervisor.
pub fn to_map(headers: &[Header<'_>]) -> Result<HeaderMap, String> {
    let mut map = HeaderMap::with_capacity(headers.len() + 1);
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("field name {name:?}"))?;
        let value = HeaderValue::from_bytes(value).map_err(|_| format!("value of the field {name}"))?;
        map.append(name, value);
    }
    Ok(map)
}

/// The field lines of a map, borrowed.
pub fn from_map(map: &HeaderMap) -> Result<Vec<Header<'_>>, String> {
    if map.len() > HEADERS_MAX {
        return Err(too_many(map.len()));
    }
    Ok(map.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect())
}

/// The length that a response declares, when it is one number.
pub fn content_length(map: &HeaderMap) -> Option<u64> {
    map.get(http::header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Checks and lowers the names of field lines that a guest made itself (RFC 9110, sections 5.1 and 5.5).
pub fn check(headers: &mut [(String, Vec<u8>)]) -> Result<(), String> {
    if headers.len() > HEADERS_MAX {
        return Err(too_many(headers.len()));
    }
    for (name, value) in headers {
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(format!("{name:?} is no name for a response header"));
        }
        name.make_ascii_lowercase();
        if value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            return Err(format!("the response header {name} contains a line break or NUL"));
        }
    }
    Ok(())
}

/// Checks the status of a final response (RFC 9110, section 15).
pub fn check_status(status: u16) -> Result<(), String> {
    if (200..=599).contains(&status) { Ok(()) } else { Err(format!("{status} is no status for a final response")) }
}

fn too_many(count: usize) -> String {
    format!("{count} response header fields, more than {HEADERS_MAX}")
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_final_response_has_a_status_from_200_to_599() {
        for (status, allowed) in [(199, false), (200, true), (599, true), (600, false), (0, false), (101, false)] {
            assert_eq!(check_status(status).is_ok(), allowed, "{status}");
        }
    }

    #[test]
    fn field_lines_that_could_split_a_response_are_refused() {
        for (name, value, allowed) in [
            ("X-Name", b"value".as_slice(), true),
            ("x", b"", true),
            ("x", &[0xff, b'\t', b' '], true),
            ("", b"v", false),
            ("a b", b"v", false),
            ("a:", b"v", false),
            ("x", b"a\r\nb: c", false),
            ("x", b"a\0", false),
        ] {
            let mut headers = [(name.to_owned(), value.to_vec())];
            assert_eq!(check(&mut headers).is_ok(), allowed, "{name:?}");
            assert!(!allowed || headers.iter().all(|(name, _)| *name == name.to_ascii_lowercase()));
        }
    }

    #[test]
    fn as_many_field_lines_are_allowed_as_the_limit_says() {
        let mut headers = vec![("x".to_owned(), Vec::new()); HEADERS_MAX];
        assert!(check(&mut headers).is_ok());
        headers.push(("x".to_owned(), Vec::new()));
        assert!(check(&mut headers).is_err());
    }
}
