//! Header fields as bytes: which bytes may stand in them, and which fields belong to the connection rather than to the guest.
//!
//! Pure functions. Never looks at framing; `head` and `response` drive it.

use super::request_id::REQUEST_ID_FIELD;

/// A name and a value. Names that come from a client are in lowercase.
pub type Header<'a> = (&'a str, &'a [u8]);

/// A `tchar` (RFC 9110 §5.6.2).
pub const fn is_token_byte(byte: u8) -> bool {
    TOKEN[byte as usize]
}

/// A token: what a method or a field name must be.
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| is_token_byte(byte))
}

/// Tab, visible ASCII, space, or obs-text (RFC 9110 §5.5).
pub fn is_value(bytes: &[u8]) -> bool {
    // A fold without an early exit is what the compiler turns into vector code.
    bytes.iter().fold(true, |valid, &byte| valid & ((byte >= b' ' && byte != 0x7f) || byte == b'\t'))
}

/// Fields that speak about one connection and are never passed on in either direction (RFC 9110 §7.6.1). `trailer` is among them
/// because the supervisor frames the message anew. `name` in lowercase.
pub fn is_hop_by_hop(name: &[u8]) -> bool {
    matches!(
        name,
        b"te"
            | b"connection"
            | b"keep-alive"
            | b"proxy-connection"
            | b"trailer"
            | b"transfer-encoding"
            | b"upgrade"
            | b"http2-settings"
    )
}

/// Fields that must not be taken from a trailer section: framing, routing, conditions, credentials, who asks, and what controls a
/// response (RFC 9110 §6.5.1). `name` in lowercase.
pub fn is_forbidden_in_trailers(name: &[u8]) -> bool {
    is_hop_by_hop(name)
        || name.starts_with(b"if-")
        || is_forwarding(ascii(name))
        || matches!(
            name,
            b"age"
                | b"authorization"
                | b"cache-control"
                | b"content-encoding"
                | b"content-length"
                | b"content-range"
                | b"content-type"
                | b"cookie"
                | b"date"
                | b"expect"
                | b"expires"
                | b"host"
                | b"location"
                | b"max-forwards"
                | b"pragma"
                | b"proxy-authenticate"
                | b"proxy-authorization"
                | b"range"
                | b"retry-after"
                | b"set-cookie"
                | b"vary"
                | b"via"
                | b"www-authenticate"
                | b"x-request-id"
        )
}

/// The elements of a comma-separated field value, without the whitespace around them, empty ones included (RFC 9110 §5.6.1).
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim)
}

/// Without spaces and tabs at either end.
pub fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// Whether a field says on whose behalf a proxy asks: `forwarded` (RFC 7239) and what is customary. `name` is in lowercase.
pub fn is_forwarding(name: &str) -> bool {
    name == "forwarded" || begins_as(name, "x-forwarded-") || is_as(name, "x-real-ip")
}

/// Whether a field is for proxies to write: on whose behalf it asks, or the way that a message has come (RFC 9110 §7.6.3).
pub fn is_of_proxies(name: &str) -> bool {
    name == "via" || is_forwarding(name)
}

/// Whether a field says what a request is called. `name` is in lowercase.
pub fn is_request_id(name: &str) -> bool {
    is_as(name, REQUEST_ID_FIELD)
}

/// An underscore is as good as a hyphen: who makes variables of fields, as CGI does (RFC 3875, section 4.1.18), cannot tell them apart.
fn begins_as(name: &str, known: &str) -> bool {
    let same = |(byte, known): (u8, u8)| byte == known || byte == b'_' && known == b'-';
    name.len() >= known.len() && name.bytes().zip(known.bytes()).all(same)
}

fn is_as(name: &str, known: &str) -> bool {
    name.len() == known.len() && begins_as(name, known)
}

/// A `Content-Length` value: one to twenty decimal digits and nothing else (RFC 9110 §8.6).
pub fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > super::limits::CONTENT_LENGTH_DIGITS_MAX {
        return None;
    }
    value.iter().try_fold(0u64, |length, &byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        length.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// `bytes` as text, where the parser has let only ASCII pass.
pub(super) fn ascii(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = matches!(byte as u8,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
            | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z');
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_proxies_are_known_whatever_stands_for_the_hyphens() {
        for name in ["forwarded", "x-forwarded-for", "x_forwarded_for", "x-forwarded_proto", "x-real-ip", "x_real-ip"] {
            assert!(is_forwarding(name), "{name}");
        }
        assert!(is_of_proxies("via") && is_of_proxies("forwarded") && !is_of_proxies("host"));
        assert!(is_request_id("x-request-id") && is_request_id("x_request-id") && !is_request_id("x-request-ids"));
        for name in ["", "x-forwarded", "x-forward-for", "x-real-ips", "x-real", "forwarded-for", "via", "host"] {
            assert!(!is_forwarding(name), "{name}");
        }
    }

    #[test]
    fn content_length_is_digits_and_nothing_else() {
        assert_eq!(content_length(b"0"), Some(0));
        assert_eq!(content_length(b"0042"), Some(42));
        assert_eq!(content_length(b"18446744073709551615"), Some(u64::MAX));
        for bad in ["", "18446744073709551616", "000000000000000000001", "+1", "-1", " 1", "1 ", "1,1", "0x1", "1.0"] {
            assert_eq!(content_length(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn values_refuse_every_control_byte_but_the_tab() {
        for byte in 0..=255u8 {
            let allowed = byte == b'\t' || (byte >= 0x20 && byte != 0x7f);
            assert_eq!(is_value(&[b'a', byte, b'b']), allowed, "{byte:#x}");
        }
    }

    #[test]
    fn lists_keep_empty_elements_and_lose_whitespace() {
        let elements: Vec<_> = list(b" a ,\t,b").collect();
        assert_eq!(elements, [&b"a"[..], b"", b"b"]);
    }
}
