//! The control socket: an operator connects, sends one command, gets one reply.
//!
//! Owns the listening socket, its connections and their limits. Never blocks, never reads a clock, and does not know what a command
//! does. The reactor drives it with its own poll:
//!
//! 1. [`ControlSocket::register`] once; then [`ControlSocket::handle_listener_event`] and [`ControlSocket::handle_connection_event`] for
//!    events of its tokens.
//! 2. In each turn [`ControlSocket::accept`], [`ControlSocket::handle_timers`], and [`ControlSocket::poll_command`] until `None`.
//! 3. [`ControlSocket::reply`], now or in a later turn. [`ControlSocket::has_work`] and [`ControlSocket::next_deadline`] say how long
//!    the reactor may wait.
//!
//! Only root and the user of the supervisor itself are listened to. Who connects and says nothing costs a place for [`IDLE_MAX`].

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::{UnixListener, UnixStream};
use mio::{Interest, Registry, Token};

use super::bind::{self, BindError};
use super::command::{Command, CommandError, LINE_BYTES_MAX, Reply};
use super::place::{Place, default_places, with_this_user};
use crate::config::Control;
use crate::socket_file::{Obstacle, SocketFile};
use crate::sys;

/// Connections at a time. The next takes the place of the one that has been silent longest; only where each has said something it is told that there are
/// too many.
pub const CONNECTIONS_MAX: usize = 16;

/// How long an operator may take to send the command, and to read the reply.
pub const IDLE_MAX: Duration = Duration::from_secs(5);

/// Connections accepted in one turn: fewer than there are places, so that each can say something before its place can be taken.
const ACCEPTS_PER_TURN: usize = CONNECTIONS_MAX / 2;

/// How long to rest after accept(2) has failed for want of descriptors or memory.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Names a connection. A key that is no longer valid names nobody.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnectionKey {
    place: usize,
    generation: u64,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct ControlSocket {
    /// Until another supervisor has it.
    listener: Option<UnixListener>,
    path: PathBuf,
    file: SocketFile,
    uid: u32,
    /// A connection's place is the number that its token is made of.
    connections: [Option<Connection>; CONNECTIONS_MAX],
    connection_token: fn(usize) -> Token,
    generation: u64,
    /// At most one for each connection.
    commands: VecDeque<(ConnectionKey, Command)>,
    accepting: Accepting,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Accepting {
    /// Until the next event.
    Waiting,
    /// There may be connections right now.
    Ready,
    Resting {
        until: Instant,
    },
    Stopped,
}

#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    generation: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    Reading {
        input: Vec<u8>,
        deadline: Instant,
    },
    /// The reactor has the command.
    AwaitingReply,
    Writing {
        output: Vec<u8>,
        written: usize,
        deadline: Instant,
    },
}

/// What became of a connection after it was read or written.
#[derive(Debug)]
enum Progress {
    Waits,
    Command(Command),
    Refused(CommandError),
    Over,
}

impl ControlSocket {
    /// The socket that the manifest asks for; `None` when it wants none.
    ///
    /// # Errors
    ///
    /// The socket cannot be made. With [`Control::Default`] nobody has asked for it, and the caller should only warn.
    pub fn open(control: &Control, manifest: &Path) -> Result<Option<ControlSocket>, BindError> {
        match control {
            Control::Off => Ok(None),
            Control::At(path) => {
                let absolute = std::path::absolute(path).unwrap_or_else(|_| path.clone());
                ControlSocket::bind(&absolute).map(Some)
            }
            Control::Default => open_default(manifest).map(Some),
        }
    }

    /// Whether a socket at this path, which another supervisor has made, is the one that this manifest asks for.
    pub fn is_wanted_at(path: &Path, control: &Control, manifest: &Path) -> bool {
        match control {
            Control::Off => false,
            Control::At(wanted) => std::path::absolute(wanted).is_ok_and(|wanted| wanted == path),
            Control::Default => {
                let places = with_this_user(|user| default_places(manifest, user)).unwrap_or_default();
                places.iter().any(|place| place.path() == path)
            }
        }
    }

    /// Makes a socket at this path.
    ///
    /// # Errors
    ///
    /// It cannot be made, or another server has it.
    pub fn bind(path: &Path) -> Result<ControlSocket, BindError> {
        let (listener, file) = bind::bind(path)?;
        Ok(ControlSocket::new(listener, path, file))
    }

    /// Takes over the listening socket of the supervisor that this one follows.
    ///
    /// # Errors
    ///
    /// It is not the socket at this path.
    pub fn from_fd(fd: OwnedFd, path: &Path) -> Result<ControlSocket, BindError> {
        let take = || {
            let listener = StdUnixListener::from(fd);
            listener.set_nonblocking(true)?;
            if listener.local_addr()?.as_pathname() != Some(path) {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "the inherited socket is another one"));
            }
            Ok((listener, SocketFile::found(path)?))
        };
        match take() {
            Ok((listener, file)) => Ok(ControlSocket::new(listener, path, file)),
            Err(error) => Err(BindError { path: path.to_owned(), cause: Obstacle::System(error) }),
        }
    }

    fn new(listener: StdUnixListener, path: &Path, file: SocketFile) -> ControlSocket {
        ControlSocket {
            listener: Some(UnixListener::from_std(listener)),
            path: path.to_owned(),
            file,
            uid: nix::unistd::geteuid().as_raw(),
            connections: Default::default(),
            connection_token: Token,
            generation: 0,
            commands: VecDeque::new(),
            accepting: Accepting::Waiting,
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The listening socket, unless another supervisor has it.
    pub fn listener(&self) -> Option<BorrowedFd<'_>> {
        self.listener.as_ref().map(AsFd::as_fd)
    }

    /// Begins to accept. `connection` makes the token of a connection from its place, which is below [`CONNECTIONS_MAX`].
    ///
    /// # Errors
    ///
    /// The poll does not take it.
    pub fn register(&mut self, registry: &Registry, listener: Token, connection: fn(usize) -> Token) -> io::Result<()> {
        self.connection_token = connection;
        self.listener.as_mut().map_or(Ok(()), |socket| registry.register(socket, listener, Interest::READABLE))
    }

    /// Accepts no more: another supervisor has this socket now, or this one ends. Replies that are owed can still be given.
    pub fn stop_accepting(&mut self, registry: &Registry) {
        self.accepting = Accepting::Stopped;
        // Closed: while any process has it, whoever starts where none serves any more would take it for a server's.
        if let Some(mut listener) = self.listener.take() {
            // It was not registered if the server has never served; nothing is accepted either way.
            let _ = registry.deregister(&mut listener);
        }
    }

    /// Removes the socket's file, if it is still this one. For a clean stop; not when another supervisor has taken the socket over.
    pub fn remove(&self) {
        self.file.remove();
    }

    pub fn handle_listener_event(&mut self) {
        if self.accepting == Accepting::Waiting {
            self.accepting = Accepting::Ready;
        }
    }

    /// Takes in the connections that wait.
    pub fn accept(&mut self, registry: &Registry, now: Instant) {
        for _ in 0..ACCEPTS_PER_TURN {
            if self.accepting != Accepting::Ready {
                return;
            }
            let Some(listener) = &self.listener else { return };
            match listener.accept() {
                Ok((stream, _)) => self.admit(stream, registry, now),
                Err(error) => self.handle_accept_error(&error, now),
            }
        }
    }

    /// accept(2): errors of the one connection are passed over; those of the process call for a rest, or the loop would spin.
    fn handle_accept_error(&mut self, error: &io::Error, now: Instant) {
        if error.kind() == io::ErrorKind::WouldBlock {
            self.accepting = Accepting::Waiting;
        } else if let Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) = error.raw_os_error() {
            log::warn!("cannot accept connections to the control socket for now: {error}");
            self.accepting = Accepting::Resting { until: now + ACCEPT_REST };
        }
    }

    fn admit(&mut self, mut stream: UnixStream, registry: &Registry, now: Instant) {
        let uid = sys::peer_uid(&stream);
        if !uid.as_ref().is_ok_and(|uid| *uid == 0 || *uid == self.uid) {
            log::warn!("the control socket refuses user {}", uid.map_or("unknown".to_owned(), |uid| uid.to_string()));
            return turn_away(&mut stream, "only root and the user of the server may control it");
        }
        let Some(place) = self.place() else {
            return turn_away(&mut stream, "too many operators at a time");
        };
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = registry.register(&mut stream, (self.connection_token)(place), interest) {
            log::warn!("cannot wait for the control socket: {error}");
            return;
        }
        self.generation += 1;
        let state = State::Reading { input: Vec::new(), deadline: now + IDLE_MAX };
        self.connections[place] = Some(Connection { stream, generation: self.generation, state });
    }

    /// A place for another connection: a free one, or that of who has been silent longest.
    fn place(&self) -> Option<usize> {
        let silent_until = |connection: &Option<Connection>| match connection {
            None => Some(None),
            Some(Connection { state: State::Reading { input, deadline }, .. }) if input.is_empty() => {
                Some(Some(*deadline))
            }
            Some(_) => None,
        };
        let places = self.connections.iter().enumerate();
        let silent = places.filter_map(|(place, connection)| Some((silent_until(connection)?, place)));
        silent.min().map(|(_, place)| place)
    }

    /// Something has happened on the connection at this place.
    pub fn handle_connection_event(&mut self, place: usize, event: &Event, now: Instant) {
        let Some(Some(connection)) = self.connections.get_mut(place) else { return };
        let key = ConnectionKey { place, generation: connection.generation };
        match connection.advance() {
            Progress::Waits => {}
            Progress::Command(command) => {
                connection.state = State::AwaitingReply;
                self.commands.push_back((key, command));
            }
            Progress::Refused(error) => self.reply(key, &Reply::failed(error.to_string()), now),
            Progress::Over => self.connections[place] = None,
        }
        // Nobody is there to have a reply. The command, if there is one, is carried out all the same.
        if event.is_write_closed() {
            self.connections[place] = None;
        }
    }

    /// The next command. Each is owed a reply.
    pub fn poll_command(&mut self) -> Option<(ConnectionKey, Command)> {
        self.commands.pop_front()
    }

    /// Answers a command; the connection ends with it. Who has left is not missed.
    pub fn reply(&mut self, key: ConnectionKey, reply: &Reply, now: Instant) {
        let Some(entry) = self.connections.get_mut(key.place) else { return };
        let Some(connection) = entry.as_mut().filter(|connection| connection.generation == key.generation) else {
            return;
        };
        let output = reply.to_line().into_bytes();
        connection.state = State::Writing { output, written: 0, deadline: now + IDLE_MAX };
        match connection.advance() {
            Progress::Over => *entry = None,
            Progress::Waits | Progress::Command(_) | Progress::Refused(_) => {}
        }
    }

    /// Whether somebody still waits for the reply to this command.
    pub fn is_awaited(&self, key: ConnectionKey) -> bool {
        let connection = self.connections.get(key.place).and_then(Option::as_ref);
        connection.is_some_and(|connection| connection.generation == key.generation)
    }

    /// Ends connections that have used up their time.
    pub fn handle_timers(&mut self, now: Instant) {
        if let Accepting::Resting { until } = self.accepting
            && until <= now
        {
            self.accepting = Accepting::Ready;
        }
        for entry in &mut self.connections {
            if entry.as_ref().and_then(Connection::deadline).is_some_and(|deadline| deadline <= now) {
                *entry = None;
            }
        }
    }

    /// The server stood still for `leap`: no operator is late by that time.
    pub fn forgive(&mut self, leap: Duration) {
        for connection in self.connections.iter_mut().flatten() {
            match &mut connection.state {
                State::Reading { deadline, .. } | State::Writing { deadline, .. } => *deadline += leap,
                State::AwaitingReply => {}
            }
        }
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        let rest = match self.accepting {
            Accepting::Resting { until } => Some(until),
            Accepting::Waiting | Accepting::Ready | Accepting::Stopped => None,
        };
        self.connections.iter().flatten().filter_map(Connection::deadline).chain(rest).min()
    }

    /// There may be connections to accept, or commands to take, right now.
    pub fn has_work(&self) -> bool {
        self.accepting == Accepting::Ready || !self.commands.is_empty()
    }

    /// A reply is on its way.
    pub fn is_writing(&self) -> bool {
        self.connections.iter().flatten().any(|connection| matches!(connection.state, State::Writing { .. }))
    }
}

/// The listening socket, to be handed to the next supervisor.
impl Connection {
    fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Reading { deadline, .. } | State::Writing { deadline, .. } => Some(deadline),
            State::AwaitingReply => None,
        }
    }

    /// Reads or writes as far as the socket allows.
    fn advance(&mut self) -> Progress {
        match &mut self.state {
            State::Reading { input, .. } => read(&mut self.stream, input),
            State::AwaitingReply => Progress::Waits,
            State::Writing { output, written, .. } => write(&mut self.stream, output, written),
        }
    }
}

fn read(stream: &mut UnixStream, input: &mut Vec<u8>) -> Progress {
    let mut chunk = [0; LINE_BYTES_MAX];
    loop {
        let room = LINE_BYTES_MAX - input.len();
        if room == 0 {
            return Progress::Refused(CommandError::TooLong);
        }
        match stream.read(&mut chunk[..room]) {
            Ok(0) if input.is_empty() => return Progress::Over,
            Ok(0) => return Progress::Refused(CommandError::Unfinished),
            Ok(count) => input.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Progress::Waits,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Progress::Over,
        }
        if let Some(end) = input.iter().position(|byte| *byte == b'\n') {
            return match Command::parse(&input[..end]) {
                _ if end + 1 < input.len() => Progress::Refused(CommandError::NotAlone),
                Ok(command) => Progress::Command(command),
                Err(error) => Progress::Refused(error),
            };
        }
    }
}

fn write(stream: &mut UnixStream, output: &[u8], written: &mut usize) -> Progress {
    while *written < output.len() {
        match stream.write(&output[*written..]) {
            Ok(0) => return Progress::Over,
            Ok(count) => *written += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Progress::Waits,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Progress::Over,
        }
    }
    Progress::Over
}

/// Says why and closes. The socket is new, so that it has room for a line.
fn turn_away(stream: &mut UnixStream, why: &str) {
    let _ = stream.write(Reply::failed(why).to_line().as_bytes());
}

fn open_default(manifest: &Path) -> Result<ControlSocket, BindError> {
    let failure = |error: io::Error| BindError { path: manifest.to_owned(), cause: error.into() };
    let (uid, places) = with_this_user(|user| (user.uid, default_places(manifest, user)));
    let places = places.map_err(failure)?;
    let mut last = failure(io::ErrorKind::NotFound.into());
    for place in &places {
        match open_place(place, uid) {
            Ok(socket) => return Ok(socket),
            // A second server with the same manifest, which `rusmd ctl` would never find elsewhere.
            Err(error @ BindError { cause: Obstacle::InUse, .. }) => return Err(error),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn open_place(place: &Place, uid: u32) -> Result<ControlSocket, BindError> {
    let path = place.path();
    match place.prepare(uid) {
        Ok(()) => ControlSocket::bind(&path),
        Err(error) => Err(BindError { path, cause: Obstacle::System(error) }),
    }
}

#[cfg(test)]
mod tests;
