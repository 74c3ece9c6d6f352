//! The PROXY protocol, versions 1 and 2: who a proxy says that a connection is from, in the bytes before its first (HAProxy's
//! `proxy-protocol.txt`).
//!
//! Pure: bytes in, an address out. Knows no socket and trusts nobody: `transport` reads, and `reactor` has asked who is trusted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Most bytes of a header, what is skipped of it included. Version 1 is limited to [`V1_BYTES_MAX`] by its definition; the addresses of version
/// 2 take at most 232 bytes, and proxies add some hundred bytes of TLVs.
pub const HEADER_BYTES_MAX: usize = 2048;

/// "the most restrictive approach": section 2.1.
pub const V1_BYTES_MAX: usize = 107;

const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_FIXED_BYTES: usize = 16;
const V1_PREFIX: &[u8; 6] = b"PROXY ";

/// Whose a connection is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// This client's, behind the proxy.
    Client(SocketAddr),
    /// The proxy's own, as for a health check, or it does not know: the peer is who it is (sections 2.1 and 2.2).
    Peer,
}

/// A header that is whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    pub bytes: usize,
    pub origin: Origin,
}

/// Why bytes are no header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Malformed {
    /// Neither version begins like this.
    NoHeader,
    TooLong,
    Version,
    Command,
    /// A family of addresses or a transport that a stream cannot have.
    Family,
    /// Fewer bytes than the addresses take.
    TooShort,
    Text,
}

/// Reads the header at the beginning of `bytes`; `None` while it is not whole.
///
/// # Errors
///
/// No more bytes would make it one.
pub fn parse(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    if is_prefix(bytes, V2_SIGNATURE) {
        parse_v2(bytes)
    } else if is_prefix(bytes, V1_PREFIX) {
        parse_v1(bytes)
    } else {
        Err(Malformed::NoHeader)
    }
}

/// One of the two is the beginning of the other.
fn is_prefix(bytes: &[u8], prefix: &[u8]) -> bool {
    bytes.iter().zip(prefix).all(|(byte, expected)| byte == expected)
}

fn parse_v2(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    let Some((fixed, rest)) = bytes.split_first_chunk::<V2_FIXED_BYTES>() else { return Ok(None) };
    let [.., version_command, family, length_high, length_low] = *fixed;
    let length = usize::from(u16::from_be_bytes([length_high, length_low]));
    if version_command >> 4 != 2 {
        return Err(Malformed::Version);
    }
    if V2_FIXED_BYTES + length > HEADER_BYTES_MAX {
        return Err(Malformed::TooLong);
    }
    let is_local = match version_command & 0xf {
        0 => true,
        1 => false,
        _ => return Err(Malformed::Command),
    };
    let address_bytes = match family {
        0x00 => 0,
        0x11 => 12,
        0x21 => 36,
        0x31 => 216,
        // A receiver of LOCAL takes whatever is there, and skips it (section 2.2).
        _ if is_local => 0,
        _ => return Err(Malformed::Family),
    };
    if !is_local && length < address_bytes {
        return Err(Malformed::TooShort);
    }
    let Some(body) = rest.get(..length) else { return Ok(None) };
    let origin = match (is_local, family) {
        (false, 0x11) => ipv4_origin(body)?,
        (false, 0x21) => ipv6_origin(body)?,
        // Two Unix sockets on the proxy's machine tell nothing of who is where.
        _ => Origin::Peer,
    };
    Ok(Some(Header { bytes: V2_FIXED_BYTES + length, origin }))
}

fn ipv4_origin(body: &[u8]) -> Result<Origin, Malformed> {
    let source: [u8; 4] = chunk(body, 0)?;
    let port = u16::from_be_bytes(chunk(body, 8)?);
    Ok(Origin::Client(SocketAddr::new(Ipv4Addr::from(source).into(), port)))
}

fn ipv6_origin(body: &[u8]) -> Result<Origin, Malformed> {
    let source: [u8; 16] = chunk(body, 0)?;
    let port = u16::from_be_bytes(chunk(body, 32)?);
    Ok(Origin::Client(SocketAddr::new(Ipv6Addr::from(source).into(), port)))
}

fn chunk<const N: usize>(body: &[u8], at: usize) -> Result<[u8; N], Malformed> {
    body.get(at..).and_then(<[u8]>::first_chunk).copied().ok_or(Malformed::TooShort)
}

fn parse_v1(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    let window = &bytes[..bytes.len().min(V1_BYTES_MAX)];
    // The first carriage return or line feed has to be the end of the line, whatever comes after it.
    let Some(end) = window.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        return if window.len() == V1_BYTES_MAX { Err(Malformed::TooLong) } else { Ok(None) };
    };
    match window.get(end..end + 2) {
        Some(b"\r\n") => {}
        None if window.len() == V1_BYTES_MAX => return Err(Malformed::TooLong),
        None if window[end] == b'\r' => return Ok(None),
        Some(_) | None => return Err(Malformed::Text),
    }
    let line = std::str::from_utf8(&window[..end]).map_err(|_| Malformed::Text)?;
    Ok(Some(Header { bytes: end + 2, origin: v1_origin(line).ok_or(Malformed::Text)? }))
}

/// The line without its end: `PROXY TCP4 192.0.2.1 192.0.2.2 56324 443`.
fn v1_origin(line: &str) -> Option<Origin> {
    let mut words = line.split(' ');
    let (_proxy, family) = (words.next()?, words.next()?);
    if family == "UNKNOWN" {
        return Some(Origin::Peer);
    }
    let [source, destination] = [words.next()?, words.next()?].map(str::parse::<IpAddr>);
    let [source_port, _] = [port(words.next()?)?, port(words.next()?)?];
    let (source, destination) = (source.ok()?, destination.ok()?);
    let is_sound = match family {
        "TCP4" => source.is_ipv4() && destination.is_ipv4(),
        "TCP6" => source.is_ipv6() && destination.is_ipv6(),
        _ => false,
    };
    (is_sound && words.next().is_none()).then_some(Origin::Client(SocketAddr::new(source, source_port)))
}

/// Decimal digits without a leading zero.
fn port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| digits)
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Malformed::NoHeader => "there is no header",
            Malformed::TooLong => "the header is too long",
            Malformed::Version => "the header's version is unknown",
            Malformed::Command => "the header's command is unknown",
            Malformed::Family => "the header has addresses of another kind than a stream's",
            Malformed::TooShort => "the header is shorter than its addresses",
            Malformed::Text => "the header's line is malformed",
        })
    }
}

impl std::error::Error for Malformed {}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(version_command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = V2_SIGNATURE.to_vec();
        bytes.extend([version_command, family]);
        bytes.extend((body.len() as u16).to_be_bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    fn client(address: &str) -> Origin {
        Origin::Client(address.parse().expect("an address"))
    }

    #[test]
    fn both_versions_name_the_client_whatever_follows() {
        let v4 = v2(0x21, 0x11, &[192, 0, 2, 1, 192, 0, 2, 2, 0xdc, 4, 1, 187]);
        let mut with_tlvs = [0; 36].to_vec();
        with_tlvs[15] = 1;
        with_tlvs[33] = 80;
        with_tlvs.extend([4, 0, 1, 9]);
        let table: [(&[u8], Origin); 7] = [
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n", client("192.0.2.1:56324")),
            (b"PROXY TCP6 2001:db8::1 ::1 0 65535\r\n", client("[2001:db8::1]:0")),
            (b"PROXY UNKNOWN\r\n", Origin::Peer),
            (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", Origin::Peer),
            (&v4, client("192.0.2.1:56324")),
            (&v2(0x21, 0x21, &with_tlvs), client("[::1]:80")),
            (&v2(0x20, 0xff, b"anything"), Origin::Peer),
        ];
        for (bytes, origin) in table {
            assert_eq!(parse(bytes), Ok(Some(Header { bytes: bytes.len(), origin })));
            assert_eq!(parse(&[bytes, b"GET / HTTP"].concat()), Ok(Some(Header { bytes: bytes.len(), origin })));
            for end in 0..bytes.len() {
                assert_eq!(parse(&bytes[..end]), Ok(None), "{end} of {bytes:?}");
            }
        }
        assert_eq!(parse(&v2(0x21, 0, b"x")).map(|header| header.map(|header| header.origin)), Ok(Some(Origin::Peer)));
        assert_eq!(parse(&v2(0x21, 0x31, &[0; 216])).map(|header| header.map(|header| header.bytes)), Ok(Some(232)));
    }

    #[test]
    fn lengths_are_taken_up_to_their_limit_and_not_past_it() {
        let most = HEADER_BYTES_MAX - V2_FIXED_BYTES;
        assert!(matches!(parse(&v2(0x20, 0, &vec![0; most])), Ok(Some(_))));
        assert_eq!(parse(&v2(0x20, 0, &vec![0; most + 1])[..16]), Err(Malformed::TooLong));
        let line = |bytes: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(bytes - 16));
        assert!(matches!(parse(line(V1_BYTES_MAX).as_bytes()), Ok(Some(_))));
        assert_eq!(parse(line(V1_BYTES_MAX + 1).as_bytes()), Err(Malformed::TooLong));
    }

    #[test]
    fn what_can_be_no_header_is_refused_at_once() {
        let table: [(&[u8], Malformed); 17] = [
            (b"PROXY UNKNOWN \n\r\n", Malformed::Text),
            (b"PROXY UNKNOWN \rx", Malformed::Text),
            (b"GET / HTTP/1.1\r\n", Malformed::NoHeader),
            (b"PROXY\n", Malformed::NoHeader),
            (b"\r\n\r\n\0\r\nQUIx", Malformed::NoHeader),
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n", Malformed::Text),
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n", Malformed::Text),
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n", Malformed::Text),
            (b"PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n", Malformed::Text),
            (b"PROXY TCP4 ::1 ::1 1 2\r\n", Malformed::Text),
            (b"PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n", Malformed::Text),
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n", Malformed::Text),
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 +1 65536\r\n", Malformed::Text),
            (b"PROXY TCP4 \xff\r\n", Malformed::Text),
            (&v2(0x11, 0x11, &[0; 12]), Malformed::Version),
            (&v2(0x22, 0x11, &[0; 12]), Malformed::Command),
            (&v2(0x21, 0x12, &[0; 12]), Malformed::Family),
        ];
        for (bytes, malformed) in table {
            assert_eq!(parse(bytes), Err(malformed), "{bytes:?}");
        }
        assert_eq!(parse(&v2(0x21, 0x11, &[0; 11])), Err(Malformed::TooShort));
    }
}
