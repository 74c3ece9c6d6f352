//! Owns the address of a listener and the options of its socket: how they are written, and what is wrong with what is not. Resolves names
//! only when asked to.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where to listen. Port 0 lets the kernel choose.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Listen {
    Address(SocketAddr),
    /// A host name, such as `localhost`.
    Name {
        host: String,
        port: u16,
    },
    /// A Unix socket; relative to the manifest, or to the working directory in a flag.
    Unix(PathBuf),
}

/// Where a socket listens, or is to listen.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// What a listening socket is made with, beside its address.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct SocketOptions {
    /// Connections that the kernel holds before they are accepted; the server's own number where there is none.
    pub backlog: Option<usize>,
    /// Other programs may listen there too, and the kernel spreads connections (`SO_REUSEPORT`, socket(7)).
    pub reuse_port: bool,
    /// `[::]` is for IPv6 alone (`IPV6_V6ONLY`, ipv6(7)).
    pub ipv6_only: bool,
    /// Permission bits of a Unix socket's file.
    pub mode: Option<u32>,
}

/// Why a text is not an address to listen on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListenError {
    NoPath,
    RelativeUnix,
    Abstract,
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
    pub fn addresses(&self) -> io::Result<Vec<Address>> {
        match self {
            Listen::Address(address) => Ok(vec![Address::Tcp(*address)]),
            Listen::Unix(path) => Ok(vec![Address::Unix(std::path::absolute(path)?)]),
            Listen::Name { host, port } => {
                let addresses: Vec<_> = (host.as_str(), *port).to_socket_addrs()?.map(Address::Tcp).collect();
                if addresses.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(addresses) }
            }
        }
    }

    /// The kernel chooses the port.
    pub const fn is_any_port(&self) -> bool {
        match self {
            Listen::Address(address) => address.port() == 0,
            Listen::Name { port, .. } => *port == 0,
            Listen::Unix(_) => false,
        }
    }

    /// The same, as it is meant in a manifest of this directory.
    pub fn within(self, directory: &Path) -> Listen {
        match self {
            Listen::Unix(path) => Listen::Unix(directory.join(path)),
            other @ (Listen::Address(_) | Listen::Name { .. }) => other,
        }
    }
}

impl FromStr for Listen {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Listen, ListenError> {
        if let Ok(address) = text.parse() {
            return Ok(Listen::Address(address));
        }
        if let Some(path) = text.strip_prefix("unix:") {
            return match path.as_bytes() {
                [] => Err(ListenError::NoPath),
                [b'@', ..] => Err(ListenError::Abstract),
                _ => Ok(Listen::Unix(PathBuf::from(path))),
            };
        }
        if text.starts_with(['/', '.', '@']) {
            return Err(ListenError::RelativeUnix);
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
            Listen::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(f),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl From<Address> for String {
    fn from(address: Address) -> String {
        address.to_string()
    }
}

impl TryFrom<String> for Address {
    type Error = std::net::AddrParseError;

    fn try_from(text: String) -> Result<Address, Self::Error> {
        match text.strip_prefix("unix:") {
            Some(path) => Ok(Address::Unix(PathBuf::from(path))),
            None => text.parse().map(Address::Tcp),
        }
    }
}

impl ListenError {
    /// The next step.
    pub const fn hint(self) -> &'static str {
        match self {
            ListenError::NoPath | ListenError::RelativeUnix => "write \"unix:\" before the path of a Unix socket",
            ListenError::Abstract => "anybody can take an abstract name: write a path, as in \"unix:/run/rusmd.sock\"",
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
            ListenError::NoPath => "the Unix socket has no path",
            ListenError::RelativeUnix => "a path alone is no address",
            ListenError::Abstract => "abstract Unix sockets are not supported",
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
        for text in [
            "127.0.0.1:8080",
            "[::1]:0",
            "0.0.0.0:80",
            "localhost:65535",
            "my-host.example:1",
            "unix:/run/x.sock",
            "unix:a",
        ] {
            assert_eq!(text.parse::<Listen>().map(|listen| listen.to_string()).as_deref(), Ok(text));
        }
    }

    #[test]
    fn each_mistake_has_its_own_error() {
        let table = [
            ("unix:", ListenError::NoPath),
            ("unix:@rusmd", ListenError::Abstract),
            ("/run/rusmd.sock", ListenError::RelativeUnix),
            ("./rusmd.sock", ListenError::RelativeUnix),
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
        assert_eq!(listen.addresses().expect("no look-up"), [Address::Tcp("127.0.0.1:0".parse().expect("an address"))]);
    }

    #[test]
    fn a_path_is_relative_to_the_manifest_and_an_address_is_read_back_as_it_is_shown() {
        let listen: Listen = "unix:x.sock".parse().expect("a path");
        let addresses = listen.within(Path::new("/srv")).addresses().expect("no look-up");
        assert_eq!(addresses, [Address::Unix(PathBuf::from("/srv/x.sock"))]);
        for address in [addresses[0].clone(), Address::Tcp("[::1]:8".parse().expect("an address"))] {
            assert_eq!(Address::try_from(address.to_string()), Ok(address));
        }
        assert!(Address::try_from("nowhere".to_owned()).is_err());
    }
}
