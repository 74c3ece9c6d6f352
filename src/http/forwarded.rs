//! On whose behalf a trusted proxy asks: the fields `X-Forwarded-For`, `-Proto` and `-Host`, or `Forwarded` (RFC 7239).
//!
//! Pure functions over fields that `head` has found to be legal; the reactor asks, for peers that it trusts and for no others. A list is
//! walked from its right end, where the nearest proxy has written: the first address that is not a trusted proxy's is the client's. What stands
//! left of it was written by who knows whom and is not even looked at, so that nothing a client sends can change, or hide, what a proxy says.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::fields::{Header, ascii, is_token_byte, trim};
use super::target::{Scheme, is_authority};

/// Most proxies that are walked past; who is behind more of them is not found.
pub const HOPS_MAX: usize = 32;

/// Who asks, as far as it is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Origin<'a> {
    /// The port is 0 where only an address was told. `None`: who came by a Unix socket, and has told nobody else.
    pub peer: Option<SocketAddr>,
    pub scheme: Scheme,
    /// The host, and the port if there is one, that was asked for, where a proxy has told it.
    pub authority: Option<&'a str>,
}

/// What one proxy says of whom it asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Hop<'a> {
    node: Node,
    scheme: Option<Scheme>,
    authority: Option<&'a str>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Node {
    Address(SocketAddr),
    /// `unknown`, an obfuscated identifier (RFC 7239, sections 6.2 and 6.3), or not told at all.
    Hidden,
}

impl<'a> Origin<'a> {
    /// Finds who is behind a peer that is trusted. `connection` says who that is; `is_trusted` tells which addresses are proxies.
    ///
    /// Proxies in use append to `X-Forwarded-For`, and let a `Forwarded` of their clients pass: where both are there the first counts.
    pub fn find(
        fields: impl Iterator<Item = Header<'a>>,
        connection: Origin<'a>,
        is_trusted: impl Fn(IpAddr) -> bool,
    ) -> Origin<'a> {
        let mut told = Told::default();
        for (name, value) in fields {
            told.note(name, value);
        }
        if told.x_for.is_empty() && !told.forwarded.is_empty() {
            let elements = told.forwarded.iter().rev().flat_map(|line| Elements(Some(line)));
            return connection.walk(elements.map(element), is_trusted);
        }
        let (schemes, hosts) = (List::of(&told.x_proto), List::of(&told.x_host));
        let beside = |at, node| Hop {
            node,
            scheme: schemes.at(at).and_then(scheme),
            authority: hosts.at(at).and_then(authority),
        };
        if told.x_for.is_empty() {
            return connection.walk(std::iter::once(Some(beside(0, Node::Hidden))), is_trusted);
        }
        let hops = elements(&told.x_for).enumerate();
        connection.walk(hops.map(|(at, text)| customary_node(text).map(|node| beside(at, node))), is_trusted)
    }

    /// Takes what the hops say, the nearest first. What is malformed ends the walk at the last good one.
    fn walk(mut self, hops: impl Iterator<Item = Option<Hop<'a>>>, is_trusted: impl Fn(IpAddr) -> bool) -> Origin<'a> {
        for hop in hops.take(HOPS_MAX) {
            let Some(Hop { node, scheme, authority }) = hop else { break };
            self.scheme = scheme.unwrap_or(self.scheme);
            self.authority = authority.or(self.authority);
            let Node::Address(address) = node else { break };
            self.peer = Some(address);
            if !is_trusted(address.ip()) {
                break;
            }
        }
        self
    }
}

/// The lines of the fields that count, in the order sent.
#[derive(Default)]
struct Told<'a> {
    forwarded: Vec<&'a [u8]>,
    x_for: Vec<&'a [u8]>,
    x_proto: Vec<&'a [u8]>,
    x_host: Vec<&'a [u8]>,
}

impl<'a> Told<'a> {
    fn note(&mut self, name: &str, value: &'a [u8]) {
        match name {
            "forwarded" => self.forwarded.push(value),
            "x-forwarded-for" => self.x_for.push(value),
            "x-forwarded-proto" => self.x_proto.push(value),
            "x-forwarded-host" => self.x_host.push(value),
            _ => {}
        }
    }
}

/// The elements of a customary list, from the right; empty ones are none (RFC 9110 §5.6.1.2).
fn elements<'a>(lines: &[&'a [u8]]) -> impl Iterator<Item = &'a [u8]> {
    let elements = lines.iter().rev().flat_map(|line| line.rsplit(|&byte| byte == b','));
    elements.map(trim).filter(|element| !element.is_empty())
}

/// What proxies say beside the addresses: as many values as there are addresses where each proxy adds one, fewer where one replaces what it
/// gets. From the right, where it is known who has written.
struct List<'a>(Vec<&'a [u8]>);

impl<'a> List<'a> {
    fn of(lines: &[&'a [u8]]) -> List<'a> {
        List(elements(lines).take(HOPS_MAX).collect())
    }

    fn at(&self, hop: usize) -> Option<&'a [u8]> {
        self.0.get(hop).or(self.0.last()).copied()
    }
}

/// The elements of a line of `Forwarded`, from the right. Quotes are paired from there too: what a client has left open is its own affair.
struct Elements<'a>(Option<&'a [u8]>);

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            let line = self.0.take()?;
            let comma = last_comma(line);
            self.0 = comma.map(|at| &line[..at]);
            let element = trim(comma.map_or(line, |at| &line[at + 1..]));
            if !element.is_empty() {
                return Some(element);
            }
        }
    }
}

fn last_comma(line: &[u8]) -> Option<usize> {
    let mut is_quoted = false;
    for (at, byte) in line.iter().enumerate().rev() {
        match byte {
            b'"' if !is_quoted => is_quoted = true,
            b'"' => {
                let escapes = line[..at].iter().rev().take_while(|&&byte| byte == b'\\').count();
                is_quoted = escapes % 2 == 1;
            }
            b',' if !is_quoted => return Some(at),
            _ => {}
        }
    }
    None
}

/// `[ pair ] *( ";" [ pair ] )` with `pair = token "=" ( token / quoted-string )` (RFC 7239, section 4). Spaces around the semicolon, which
/// many write, do no harm.
fn element(text: &[u8]) -> Option<Hop<'_>> {
    let (mut node, mut scheme_text, mut authority_text) = (None, None, None);
    let mut rest = trim(text);
    while !rest.is_empty() {
        if let [b';', after @ ..] = rest {
            rest = trim(after);
            continue;
        }
        let (name, after) = token(rest)?;
        let (value, after) = match after.strip_prefix(b"=")? {
            quoted @ [b'"', ..] => quoted_string(quoted)?,
            plain => token(plain)?,
        };
        rest = trim(after);
        if !matches!(rest, [] | [b';', ..]) {
            return None;
        }
        let slot = match name {
            _ if name.eq_ignore_ascii_case(b"for") => &mut node,
            _ if name.eq_ignore_ascii_case(b"proto") => &mut scheme_text,
            _ if name.eq_ignore_ascii_case(b"host") => &mut authority_text,
            _ => continue,
        };
        // "Each parameter MUST NOT occur more than once" (section 4).
        if slot.replace(value).is_some() {
            return None;
        }
    }
    Some(Hop {
        node: node.map_or(Some(Node::Hidden), node_of)?,
        scheme: scheme_text.and_then(scheme),
        authority: authority_text.and_then(authority),
    })
}

fn token(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = text.iter().position(|&byte| !is_token_byte(byte)).unwrap_or(text.len());
    (length > 0).then(|| text.split_at(length))
}

/// What is between the quotes, and what follows them. An escape stays as it is: no value that counts here needs one, and none has it.
fn quoted_string(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut at = 1;
    loop {
        match text.get(at)? {
            b'"' => return Some((&text[1..at], &text[at + 1..])),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// `( IPv4 / "[" IPv6 "]" / "unknown" / obfnode ) [ ":" port ]` (RFC 7239, section 6).
fn node_of(text: &[u8]) -> Option<Node> {
    let (host, port) = match text.iter().position(|&byte| byte == b']') {
        Some(end) => text.split_at(end + 1),
        None => text.split_at(text.iter().position(|&byte| byte == b':').unwrap_or(text.len())),
    };
    let port = match port {
        [] => 0,
        [b':', b'_', name @ ..] if is_obfuscated(name) => 0,
        [b':', digits @ ..] if (1..=5).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit) => {
            ascii(digits).parse().ok()?
        }
        _ => return None,
    };
    let address = match host {
        [b'_', name @ ..] if is_obfuscated(name) => return Some(Node::Hidden),
        _ if host.eq_ignore_ascii_case(b"unknown") => return Some(Node::Hidden),
        [b'[', address @ .., b']'] => IpAddr::V6(ascii(address).parse::<Ipv6Addr>().ok()?),
        _ => IpAddr::V4(ascii(host).parse::<Ipv4Addr>().ok()?),
    };
    Some(Node::Address(SocketAddr::new(address, port)))
}

fn is_obfuscated(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(byte))
}

/// As in `Forwarded`, or an IPv6 address without brackets.
fn customary_node(text: &[u8]) -> Option<Node> {
    let bare = ascii(text).parse::<Ipv6Addr>().ok();
    bare.map_or_else(|| node_of(text), |address| Some(Node::Address(SocketAddr::new(IpAddr::V6(address), 0))))
}

/// Another scheme cannot have led here, and says nothing.
fn scheme(text: &[u8]) -> Option<Scheme> {
    [Scheme::Http, Scheme::Https].into_iter().find(|scheme| text.eq_ignore_ascii_case(scheme.as_str().as_bytes()))
}

/// As a `Host` field has to be; anything else says nothing.
fn authority(text: &[u8]) -> Option<&str> {
    is_authority(text).then(|| ascii(text))
}

#[cfg(test)]
#[path = "forwarded_tests.rs"]
mod tests;
