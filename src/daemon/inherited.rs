//! Owns listening sockets that another process has opened for this one: a service manager (sd_listen_fds(3)), or the predecessor of an upgrade.
//! Gives each to the listener of the manifest with its address. Driven by the start.

use std::fmt;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use socket2::{SockRef, Type};

use crate::config::Address;
use crate::socket_file::SocketFile;
use crate::{bind, sys};

/// Where handed descriptors begin (sd_listen_fds(3)).
const FIRST: i32 = 3;

/// Most sockets that are taken over.
pub const INHERITED_MAX: usize = 1024;

const VARIABLES: [&str; 3] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];

/// Listening sockets that nothing listens on yet.
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: Vec<Socket>,
}

#[derive(Debug)]
struct Socket {
    socket: bind::Socket,
    address: Address,
    name: String,
}

/// What is wrong with what was handed over.
#[derive(Debug)]
pub enum InheritedError {
    /// The variable is not a number up to [`INHERITED_MAX`].
    Count {
        value: String,
    },
    NotOpen {
        number: i32,
        source: io::Error,
    },
    /// It is something else than a listening TCP or Unix socket.
    NoListener {
        name: String,
        what: String,
    },
    /// The manifest does not listen there.
    Unmatched {
        sockets: Vec<String>,
    },
}

impl Inherited {
    /// Takes what the environment names, if it is meant for this process, and removes the variables. To be called before anything is opened.
    pub fn from_environment() -> Result<Inherited, InheritedError> {
        let [pid, count, names] = VARIABLES.map(|name| std::env::var(name).ok());
        VARIABLES.iter().for_each(|name| sys::remove_variable(name));
        let named = numbers(pid.as_deref(), count.as_deref(), names.as_deref(), std::process::id())?;
        let mut handed = Vec::new();
        for (number, name) in named {
            let fd = sys::take_descriptor(number).map_err(|source| InheritedError::NotOpen { number, source })?;
            handed.push((fd, name));
        }
        Inherited::new(handed)
    }

    /// Takes descriptors, each with a name for messages.
    pub fn new(handed: impl IntoIterator<Item = (OwnedFd, String)>) -> Result<Inherited, InheritedError> {
        let sockets = handed.into_iter().map(|(fd, name)| Socket::new(fd, name)).collect::<Result<_, _>>()?;
        Ok(Inherited { sockets })
    }

    pub fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }

    /// The socket that listens at this address. Port 0 is any port there: ask for the others first.
    pub fn take(&mut self, address: &Address) -> Option<bind::Socket> {
        let is_wanted = |there: &Address| match (there, address) {
            (Address::Tcp(there), Address::Tcp(wanted)) if wanted.port() == 0 => there.ip() == wanted.ip(),
            _ => there == address,
        };
        let at = self.sockets.iter().position(|socket| is_wanted(&socket.address))?;
        Some(self.sockets.remove(at).socket)
    }

    /// To be called when every listener has taken its own.
    ///
    /// # Errors
    ///
    /// There is one left: whoever opened it believes that it is served.
    pub fn left_over(&self) -> Result<(), InheritedError> {
        let sockets: Vec<_> = self.sockets.iter().map(Socket::to_string).collect();
        if sockets.is_empty() { Ok(()) } else { Err(InheritedError::Unmatched { sockets }) }
    }
}

impl Socket {
    fn new(fd: OwnedFd, name: String) -> Result<Socket, InheritedError> {
        let no_listener = |what: &str| InheritedError::NoListener { name: name.clone(), what: what.to_owned() };
        let socket = SockRef::from(&fd);
        let address = match socket.local_addr() {
            Ok(address) => address,
            Err(error) if error.raw_os_error() == Some(libc::ENOTSOCK) => return Err(no_listener("not a socket")),
            Err(error) => return Err(no_listener(&error.to_string())),
        };
        if !socket.r#type().is_ok_and(|kind| kind == Type::STREAM) {
            return Err(no_listener("not a TCP or Unix stream socket"));
        }
        if !socket.is_listener().unwrap_or(false) {
            return Err(no_listener("a connection, not a listening socket"));
        }
        socket.set_nonblocking(true).map_err(|error| no_listener(&error.to_string()))?;
        match (address.as_socket(), address.as_pathname()) {
            (Some(address), _) => {
                Ok(Socket { socket: bind::Socket::Tcp(TcpListener::from(fd)), address: Address::Tcp(address), name })
            }
            (None, Some(path)) => {
                let path = std::path::absolute(path).map_err(|error| no_listener(&error.to_string()))?;
                // Whoever has made it removes it; a successor is told otherwise.
                let file = SocketFile::found(&path).map_err(|_| no_listener("a Unix socket whose file is gone"))?;
                let socket = bind::Socket::Unix(UnixListener::from(fd), file);
                Ok(Socket { socket, address: Address::Unix(path), name })
            }
            (None, None) => Err(no_listener("neither a TCP nor a Unix socket with a path")),
        }
    }
}

/// The numbers and names of what is handed over; none when it is for another process.
fn numbers(
    pid: Option<&str>,
    count: Option<&str>,
    names: Option<&str>,
    own: u32,
) -> Result<Vec<(i32, String)>, InheritedError> {
    let (Some(pid), Some(count)) = (pid, count) else { return Ok(Vec::new()) };
    if pid.parse() != Ok(own) {
        return Ok(Vec::new());
    }
    let wrong = || InheritedError::Count { value: count.to_owned() };
    let count = count.parse::<usize>().ok().filter(|count| *count <= INHERITED_MAX).ok_or_else(wrong)?;
    let mut names = names.unwrap_or_default().split(':');
    let named = (FIRST..).take(count).map(|number| {
        let name = names.next().filter(|name| !name.is_empty());
        (number, name.map_or_else(|| format!("descriptor {number}"), str::to_owned))
    });
    Ok(named.collect())
}

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.address, self.name)
    }
}

impl fmt::Display for InheritedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InheritedError::Count { value } => {
                write!(f, "LISTEN_FDS is {value:?}, and must be a number up to {INHERITED_MAX}")
            }
            InheritedError::NotOpen { number, .. } => {
                write!(f, "LISTEN_FDS speaks of descriptor {number}, which cannot be taken over")
            }
            InheritedError::NoListener { name, what } => write!(f, "what was handed over as {name:?} is {what}"),
            InheritedError::Unmatched { sockets } => {
                write!(f, "the manifest does not listen where this was opened to be served: {}", sockets.join(", "))
            }
        }
    }
}

impl std::error::Error for InheritedError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            InheritedError::NotOpen { source, .. } => Some(source),
            InheritedError::Count { .. } | InheritedError::NoListener { .. } | InheritedError::Unmatched { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpStream, UdpSocket};
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::testing::Scratch;

    fn listener() -> (TcpListener, Address) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("some port is free");
        let address = listener.local_addr().expect("it is bound");
        (listener, Address::Tcp(address))
    }

    fn address(text: &str) -> Address {
        Address::Tcp(text.parse().expect("an address"))
    }

    fn inherit(fds: Vec<OwnedFd>) -> Result<Inherited, InheritedError> {
        Inherited::new(fds.into_iter().map(|fd| (fd, "web".to_owned())))
    }

    #[test]
    fn each_listener_takes_the_socket_with_its_address() {
        let ((first, at_first), (second, at_second)) = (listener(), listener());
        let mut inherited = inherit(vec![first.into(), second.into()]).expect("two listening sockets");
        let Some(bind::Socket::Tcp(taken)) = inherited.take(&at_second) else { panic!("it is there") };
        assert_eq!(Address::Tcp(taken.local_addr().expect("it is bound")), at_second);
        assert!(inherited.take(&at_second).is_none());
        let error = inherited.left_over().expect_err("one is left");
        assert!(error.to_string().ends_with(&format!("{at_first} (web)")), "{error}");
        assert!(inherited.take(&address("127.0.0.2:0")).is_none());
        assert!(inherited.take(&address("127.0.0.1:0")).is_some());
        assert!(inherited.left_over().is_ok() && inherited.is_empty());
    }

    #[test]
    fn what_is_no_listening_stream_socket_is_refused_by_name() {
        let (listening, address) = listener();
        let Address::Tcp(address) = address else { panic!("it is TCP") };
        let connection = TcpStream::connect(address).expect("it listens");
        let datagrams = UdpSocket::bind("127.0.0.1:0").expect("some port is free");
        let scratch = Scratch::new();
        let path = scratch.path().join("socket");
        let local = UnixListener::bind(&path).expect("the directory is writable");
        std::fs::remove_file(&path).expect("it is there");
        let file = std::fs::File::open("/dev/null").expect("it is there");
        drop(listening);
        let table: [(OwnedFd, &str); 4] = [
            (connection.into(), "a connection"),
            (datagrams.into(), "not a TCP or Unix stream socket"),
            (local.into(), "whose file is gone"),
            (file.into(), "not a socket"),
        ];
        for (fd, what) in table {
            let error = inherit(vec![fd]).expect_err("it is not what it should be").to_string();
            assert!(error.contains("\"web\"") && error.contains(what), "{error}");
        }
    }

    #[test]
    fn a_unix_socket_is_taken_by_its_path_and_its_file_left_to_who_made_it() {
        let scratch = Scratch::new();
        let path = scratch.path().join("socket");
        let listener = UnixListener::bind(&path).expect("the directory is writable");
        let mut inherited = inherit(vec![listener.into()]).expect("a listening socket");
        drop(inherited.take(&Address::Unix(path.clone())).expect("it is there"));
        assert!(path.exists() && inherited.is_empty());
    }

    #[test]
    fn only_what_is_meant_for_this_process_is_taken_and_within_the_limit() {
        let named = |pid, count, names| numbers(Some(pid), Some(count), names, 7).map_err(|error| error.to_string());
        assert_eq!(named("7", "2", Some("web")), Ok(vec![(3, "web".to_owned()), (4, "descriptor 4".to_owned())]));
        assert_eq!(named("8", "2", None), Ok(Vec::new()));
        assert_eq!(named("7", "0", None), Ok(Vec::new()));
        assert_eq!(named("7", "1024", None).map(|list| list.len()), Ok(INHERITED_MAX));
        for wrong in ["1025", "-1", "many", ""] {
            assert!(named("7", wrong, None).is_err(), "{wrong}");
        }
        assert!(numbers(None, Some("1"), None, 7).is_ok_and(|list| list.is_empty()));
    }
}
