//! What one supervisor hands to the one that takes over from it (SIGUSR2): listening sockets, the pidfile's lock, the control socket, and
//! later each idle client connection. And what they tell each other: how far the successor is, why it has failed, that both stop.
//!
//! A pair of `SOCK_SEQPACKET` sockets (unix(7)): one message is one packet of JSON, with the descriptors that it speaks of attached. Knows
//! neither clients nor generations; the two reactors drive it. Both ends are the same user's, and a message that cannot be read ends the
//! handover.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::Address;
use crate::sys::{self, Process};

/// The variable that tells a supervisor that it takes over. Its value is the number of the descriptor.
pub const VARIABLE: &str = "RUSMD_TAKES_OVER";

/// Most bytes of one message: a connection's addresses, or some listeners'.
const MESSAGE_BYTES_MAX: usize = 16 * 1024;

/// Listeners in one message.
const LISTENERS_MAX: usize = sys::DESCRIPTORS_MAX;

/// Failings that a successor is told of: what is broken beyond these it takes for new.
pub const FAILINGS_MAX: usize = 64;

/// Most bytes of one failing: all of them together have room in the socket.
const FAILING_BYTES_MAX: usize = 512;

/// Most bytes of the reason for an end. JSON can make six of one, and they still are one message.
pub const REASON_BYTES_MAX: usize = 2048;

/// What the two say.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Message {
    /// To the successor: listening sockets, as many as addresses.
    Listeners(Vec<Address>),
    /// Unix sockets among them whose files the successor is to remove at its end.
    SocketFiles(Vec<PathBuf>),
    /// The locked pidfile.
    Pidfile(PathBuf),
    /// The listening control socket.
    Control(PathBuf),
    /// Something that the predecessor does not serve either, so that it may stay broken.
    Failing(String),
    /// That was all.
    Begin,
    /// To the predecessor: all of that has come, and the manifest is read; components are loaded now.
    Loading,
    /// To the predecessor: requests are served.
    Serving,
    /// To the predecessor: this process ends, for this reason.
    Failed(String),
    /// To the predecessor: whoever serves is told to stop, and so are those that still finish what they have.
    Stop { is_fast: bool },
    /// To the successor: an idle connection of this listener.
    /// A client of a Unix socket has no address.
    Connection { listener: Address, peer: Option<SocketAddr> },
}

/// One end.
#[derive(Debug)]
pub struct Handover(OwnedFd);

/// What a successor has been given before it serves.
#[derive(Debug, Default)]
pub struct Estate {
    pub listeners: Vec<(OwnedFd, Address)>,
    pub socket_files: Vec<PathBuf>,
    pub pidfile: Option<(OwnedFd, PathBuf)>,
    pub control: Option<(OwnedFd, PathBuf)>,
    /// As much of each as is told: see [`told`].
    pub failings: Vec<String>,
}

/// What a predecessor tells of a failing.
pub fn told(failing: &str) -> &str {
    cut(failing, FAILING_BYTES_MAX)
}

/// Cuts a text that a message would not hold.
pub fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

impl Handover {
    /// Both ends.
    pub fn pair() -> io::Result<(Handover, OwnedFd)> {
        let (ours, theirs) = sys::packet_pair()?;
        Ok((Handover(ours), theirs))
    }

    /// The end that this process was started with, if it takes over from another.
    ///
    /// # Errors
    ///
    /// The variable names nothing that could be one.
    pub fn from_environment() -> io::Result<Option<Handover>> {
        let Ok(value) = std::env::var(VARIABLE) else { return Ok(None) };
        sys::remove_variable(VARIABLE);
        let number = value.parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        sys::take_descriptor(number).map(|fd| Some(Handover(fd)))
    }

    /// Sends a message.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when the other side has not taken in what it was sent before.
    pub fn send(&self, message: &Message, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        sys::send_with_descriptors(&self.0, &serde_json::to_vec(message)?, descriptors)
    }

    /// Receives a message. `None` is the end of the other side. Waits unless the end is set not to.
    pub fn receive(&self) -> io::Result<Option<(Message, Vec<OwnedFd>)>> {
        let mut bytes = vec![0; MESSAGE_BYTES_MAX];
        let (count, descriptors) = sys::receive_with_descriptors(&self.0, &mut bytes)?;
        if count == 0 {
            return Ok(None);
        }
        Ok(Some((serde_json::from_slice(&bytes[..count])?, descriptors)))
    }

    /// Another handle on the same end.
    pub fn try_clone(&self) -> io::Result<Handover> {
        self.0.try_clone().map(Handover)
    }

    /// The process that has made the pair, if it still has the other end.
    pub fn maker(&self) -> io::Result<Process> {
        sys::peer_process(&self.0)
    }

    pub fn set_nonblocking(&self) -> io::Result<()> {
        sys::set_nonblocking(&self.0)
    }

    /// Gives away all that a successor needs before it serves.
    pub fn send_estate<'a>(
        &self,
        listeners: impl Iterator<Item = (Address, BorrowedFd<'a>)>,
        socket_files: &[PathBuf],
        pidfile: Option<(BorrowedFd<'_>, PathBuf)>,
        control: Option<(BorrowedFd<'_>, PathBuf)>,
        failings: impl Iterator<Item = String>,
    ) -> io::Result<()> {
        let listeners: Vec<_> = listeners.collect();
        for some in listeners.chunks(LISTENERS_MAX) {
            let (addresses, sockets): (Vec<_>, Vec<_>) = some.iter().cloned().unzip();
            self.send(&Message::Listeners(addresses), &sockets)?;
        }
        for some in socket_files.chunks(LISTENERS_MAX) {
            self.send(&Message::SocketFiles(some.to_vec()), &[])?;
        }
        if let Some((fd, path)) = pidfile {
            self.send(&Message::Pidfile(path), &[fd])?;
        }
        if let Some((fd, path)) = control {
            self.send(&Message::Control(path), &[fd])?;
        }
        for failing in failings.take(FAILINGS_MAX) {
            self.send(&Message::Failing(told(&failing).to_owned()), &[])?;
        }
        self.send(&Message::Begin, &[])
    }

    /// Receives what a predecessor gives away before this process serves.
    pub fn receive_estate(&self) -> io::Result<Estate> {
        let mut estate = Estate::default();
        loop {
            let Some((message, descriptors)) = self.receive()? else { return Err(io::ErrorKind::UnexpectedEof.into()) };
            let mut descriptors = descriptors.into_iter();
            match message {
                Message::Listeners(addresses) => estate.listeners.extend(descriptors.zip(addresses)),
                Message::SocketFiles(paths) => estate.socket_files.extend(paths),
                Message::Pidfile(path) => estate.pidfile = descriptors.next().map(|fd| (fd, path)),
                Message::Control(path) => estate.control = descriptors.next().map(|fd| (fd, path)),
                Message::Failing(failing) => estate.failings.push(failing),
                Message::Begin => return Ok(estate),
                Message::Loading
                | Message::Serving
                | Message::Failed(_)
                | Message::Stop { .. }
                | Message::Connection { .. } => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
    }
}

impl AsFd for Handover {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn an_estate_arrives_as_it_was_sent() {
        let (ours, theirs) = Handover::pair().expect("a pair of sockets");
        let theirs = Handover(theirs);
        let listeners: Vec<TcpListener> =
            (0..LISTENERS_MAX + 1).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
        let addressed =
            || listeners.iter().map(|listener| (Address::Tcp(listener.local_addr().expect("bound")), listener.as_fd()));
        let control = (listeners[0].as_fd(), PathBuf::from("/run/x.sock"));
        let failings = (0..FAILINGS_MAX + 1).map(|number| format!("{number}{}", "\"".repeat(FAILING_BYTES_MAX)));
        ours.send_estate(addressed(), &[PathBuf::from("/run/y.sock")], None, Some(control), failings.clone())
            .expect("there is room");
        let estate = theirs.receive_estate().expect("all of it");
        let sent: Vec<Address> = addressed().map(|(address, _)| address).collect();
        let received: Vec<Address> = estate.listeners.iter().map(|(_, address)| address.clone()).collect();
        assert_eq!((received, estate.socket_files), (sent, vec![PathBuf::from("/run/y.sock")]));
        let expected: Vec<String> = failings.take(FAILINGS_MAX).map(|failing| told(&failing).to_owned()).collect();
        assert_eq!((expected[0].len(), &estate.failings), (FAILING_BYTES_MAX, &expected));
        assert!(estate.pidfile.is_none() && estate.control.is_some_and(|(_, path)| path.as_os_str() == "/run/x.sock"));
        theirs.send(&Message::Serving, &[]).expect("there is room");
        assert_eq!(ours.receive().expect("a message").map(|(message, _)| message), Some(Message::Serving));
        drop(theirs);
        assert!(ours.receive().expect("the end").is_none());
    }

    #[test]
    fn a_text_is_cut_between_characters_and_is_one_message_whatever_it_is_made_of() {
        assert_eq!((cut("xé", 2), cut("xé", 3), cut("", 2)), ("x", "xé", ""));
        let (ours, theirs) = Handover::pair().expect("a pair of sockets");
        let longest = "\u{1}".repeat(REASON_BYTES_MAX);
        ours.send(&Message::Failed(longest.clone()), &[]).expect("there is room");
        let received = Handover(theirs).receive().expect("it is one message").map(|(message, _)| message);
        assert_eq!(received, Some(Message::Failed(longest)));
    }

    #[test]
    fn what_is_no_message_ends_the_handover() {
        let (ours, theirs) = Handover::pair().expect("a pair of sockets");
        sys::send_with_descriptors(&theirs, b"{}", &[]).expect("there is room");
        assert!(ours.receive().is_err());
        assert!(Handover(theirs).set_nonblocking().is_ok());
    }
}
