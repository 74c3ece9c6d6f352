//! Owns the address of a listener: how it is written, and what is wrong with one that is not. Resolves names only when asked to.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

/// Where to listen. Port 0 lets the kernel choose.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Listen {
    Address(SocketAddr),
    /// A host name, such as `localhost`.
    Name {
        host: String,
        port: u16,
    },
}

/// Why a text is not an address to listen on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListenError {
    UnixSocket,
    Url,
    NoHost,
    NoPort,
    BadPort,
    BareIpv6,
    BadHost,
}

impl Listen {
    /// The addresses to bind. Blocks while a name is looked up.
    ///
    /// # Errors
    ///
    /// What the look-up failed with; an empty answer is `NotFound`.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        match self {
            Listen::Address(address) => Ok(vec![*address]),
            Listen::Name { host, port } => {
                let addresses: Vec<_> = (host.as_str(), *port).to_socket_addrs()?.collect();
                if addresses.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(addresses) }
            }
        }
    }

    pub const fn port(&self) -> u16 {
        match self {
            Listen::Address(address) => address.port(),
            Listen::Name { port, .. } => *port,
        }
    }
}

impl FromStr for Listen {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Listen, ListenError> {
        if let Ok(address) = text.parse() {
            return Ok(Listen::Address(address));
        }
        if text.starts_with("unix:") || text.starts_with(['/', '@']) {
            return Err(ListenError::UnixSocket);
        }
        if text.contains("://") {
            return Err(ListenError::Url);
        }
        let Some((host, port)) = text.rsplit_once(':') else {
            let only_port = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            return Err(if only_port { ListenError::NoHost } else { ListenError::NoPort });
        };
        if host.contains(':') && !host.starts_with('[') {
            return Err(ListenError::BareIpv6);
        }
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|_| digits).ok_or(ListenError::BadPort)?;
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        match host {
            "" | "*" => Err(ListenError::NoHost),
            // All digits and dots, but not an address: a look-up could only mislead.
            _ if host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') => Err(ListenError::BadHost),
            _ if host.chars().all(legal) => Ok(Listen::Name { host: host.to_owned(), port }),
            _ => Err(ListenError::BadHost),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Address(address) => address.fmt(f),
            Listen::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

impl ListenError {
    /// The next step.
    pub const fn hint(self) -> &'static str {
        match self {
            ListenError::UnixSocket => "listen on an address and a port for now, such as \"127.0.0.1:8080\"",
            ListenError::Url => "leave out the scheme and the path: \"127.0.0.1:8080\"",
            ListenError::NoHost => "write \"0.0.0.0:8080\" for every IPv4 address, \"[::]:8080\" for every address",
            ListenError::BareIpv6 => "write brackets around the address: \"[::1]:8080\"",
            ListenError::NoPort | ListenError::BadPort | ListenError::BadHost => {
                "write an address and a port, such as \"127.0.0.1:8080\"; port 0 lets the kernel choose"
            }
        }
    }
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ListenError::UnixSocket => "listening on a Unix socket is not supported yet",
            ListenError::Url => "a listener has an address, not a URL",
            ListenError::NoHost => "the address has no host",
            ListenError::NoPort => "the address has no port",
            ListenError::BadPort => "the port is not a number from 0 to 65535",
            ListenError::BareIpv6 => "the IPv6 address has no brackets",
            ListenError::BadHost => "the host is neither an address nor a name",
        })
    }
}

impl std::error::Error for ListenError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_are_accepted_and_shown_as_written() {
        for text in ["127.0.0.1:8080", "[::1]:0", "0.0.0.0:80", "localhost:65535", "my-host.example:1"] {
            assert_eq!(text.parse::<Listen>().map(|listen| listen.to_string()).as_deref(), Ok(text));
        }
    }

    #[test]
    fn each_mistake_has_its_own_error() {
        let table = [
            ("unix:/run/rusmd.sock", ListenError::UnixSocket),
            ("/run/rusmd.sock", ListenError::UnixSocket),
            ("http://127.0.0.1:80", ListenError::Url),
            ("8080", ListenError::NoHost),
            (":8080", ListenError::NoHost),
            ("*:8080", ListenError::NoHost),
            ("127.0.0.1", ListenError::NoPort),
            ("", ListenError::NoPort),
            ("127.0.0.1:", ListenError::BadPort),
            ("127.0.0.1:65536", ListenError::BadPort),
            ("127.0.0.1:+80", ListenError::BadPort),
            ("localhost:http", ListenError::BadPort),
            ("::1:8080", ListenError::BareIpv6),
            ("127.0.0.256:80", ListenError::BadHost),
            ("[::g]:80", ListenError::BadHost),
            ("a b:80", ListenError::BadHost),
        ];
        for (text, expected) in table {
            // `::1:8080` is an address without a port, never one with.
            assert_eq!(text.parse::<Listen>(), Err(expected), "{text}");
        }
    }

    #[test]
    fn an_address_needs_no_look_up() {
        let listen: Listen = "127.0.0.1:0".parse().expect("an address");
        assert_eq!(listen.addresses().expect("no look-up"), ["127.0.0.1:0".parse().expect("an address")]);
    }
}
