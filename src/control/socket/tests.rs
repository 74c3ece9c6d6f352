//! The control socket under a real poll, with the time that the tests say it is.

use std::io::{BufRead as _, BufReader};
use std::net::Shutdown;
use std::os::unix::net::UnixStream as StdUnixStream;

use mio::{Events, Poll};

use super::super::scratch::Scratch;
use super::super::status::{Status, WorkerStatus};
use super::*;

const LISTENER: Token = Token(1000);

/// How many waits of 10 ms something may take.
const PATIENCE: usize = 1000;

struct Server {
    poll: Poll,
    socket: ControlSocket,
    now: Instant,
    _scratch: Scratch,
}

impl Server {
    #[allow(clippy::disallowed_methods, reason = "an arbitrary origin; time passes only where the tests say so")]
    fn new() -> Server {
        let scratch = Scratch::new();
        let mut socket = ControlSocket::bind(&scratch.join("a.sock")).expect("bound");
        let poll = Poll::new().expect("a poll");
        socket.register(poll.registry(), LISTENER, Token).expect("registered");
        Server { poll, socket, now: Instant::now(), _scratch: scratch }
    }

    fn turn(&mut self) {
        let mut events = Events::with_capacity(64);
        self.poll.poll(&mut events, Some(Duration::from_millis(10))).expect("polled");
        for event in &events {
            match event.token() {
                LISTENER => self.socket.handle_listener_event(),
                Token(place) => self.socket.handle_connection_event(place, event, self.now),
            }
        }
        self.socket.accept(self.poll.registry(), self.now);
        self.socket.handle_timers(self.now);
    }

    #[track_caller]
    fn until<T>(&mut self, mut condition: impl FnMut(&mut ControlSocket) -> Option<T>) -> T {
        for _ in 0..PATIENCE {
            self.turn();
            if let Some(value) = condition(&mut self.socket) {
                return value;
            }
        }
        panic!("it did not happen");
    }

    fn connect(&self) -> StdUnixStream {
        let stream = StdUnixStream::connect(self.socket.path()).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
        stream
    }

    fn say(&self, bytes: &[u8]) -> StdUnixStream {
        let mut stream = self.connect();
        stream.write_all(bytes).expect("written");
        stream
    }

    fn open(&self) -> usize {
        self.socket.connections.iter().flatten().count()
    }

    #[track_caller]
    fn until_open(&mut self, count: usize) {
        self.until(|socket| (socket.connections.iter().flatten().count() == count).then_some(()));
    }

    /// What the server says to a line that is not a command.
    #[track_caller]
    fn refusal(&mut self, bytes: &[u8]) -> String {
        let stream = self.say(bytes);
        self.until_open(1);
        self.until_open(0);
        assert_eq!(self.socket.poll_command(), None);
        let reply = hear(stream);
        assert!(!reply.ok);
        reply.error.expect("an error")
    }
}

fn hear(stream: StdUnixStream) -> Reply {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).expect("a line");
    serde_json::from_str(&line).expect("JSON")
}

#[test]
fn a_command_gets_its_reply_whenever_it_comes_and_then_the_end() {
    let mut server = Server::new();
    let mut stream = server.say(b"sta");
    server.until_open(1);
    assert_eq!(server.socket.poll_command(), None, "the line has no end yet");
    stream.write_all(b"tus\n").expect("written");
    let (key, command) = server.until(ControlSocket::poll_command);
    assert_eq!(command, Command::Status);
    server.now += IDLE_MAX * 100;
    server.turn();
    assert_eq!((server.open(), server.socket.next_deadline()), (1, None), "the reactor may take its time");
    assert!(server.socket.is_awaited(key));
    server.socket.reply(key, &Reply::done("well"), server.now);
    assert_eq!(server.open(), 0);
    let mut rest = String::new();
    stream.read_to_string(&mut rest).expect("the end");
    assert_eq!(rest, "{\"ok\":true,\"message\":\"well\"}\n");
    server.socket.reply(key, &Reply::done("twice"), server.now);
}

#[test]
fn what_is_no_command_is_answered_and_never_reaches_the_reactor() {
    let mut server = Server::new();
    assert!(server.refusal(b"dance\n").starts_with("unknown command \"dance\""));
    assert!(server.refusal(b"status\nstop\n").starts_with("there is more than one command"));
    assert!(server.refusal(b"scale 0\n").contains("from 1 to 1024"));
    assert!(server.refusal(&vec![b'x'; LINE_BYTES_MAX]).starts_with("the command has more than 4096 bytes"));
    assert!(server.refusal(&vec![b'x'; 3 * LINE_BYTES_MAX]).starts_with("the command has more than 4096 bytes"));
    let mut longest = vec![b'x'; LINE_BYTES_MAX - 1];
    longest.push(b'\n');
    assert!(server.refusal(&longest).starts_with("unknown command"));
}

#[test]
fn a_line_without_an_end_is_not_carried_out() {
    let mut server = Server::new();
    let stream = server.say(b"scale 1");
    stream.shutdown(Shutdown::Write).expect("shut");
    server.until_open(1);
    server.until_open(0);
    assert_eq!(server.socket.poll_command(), None);
    assert!(hear(stream).error.expect("an error").contains("no end"));
}

#[test]
fn who_sends_a_command_and_leaves_is_obeyed() {
    let mut server = Server::new();
    drop(server.say(b"reload\n"));
    let (key, command) = server.until(ControlSocket::poll_command);
    assert_eq!(command, Command::Reload);
    server.until_open(0);
    assert!(!server.socket.is_awaited(key));
    let _other = server.connect();
    server.until_open(1);
    server.socket.reply(key, &Reply::done("nobody hears it"), server.now);
    assert_eq!(server.open(), 1, "a stale key does not name who has the place now");
}

#[test]
fn a_half_closed_connection_still_gets_its_reply() {
    let mut server = Server::new();
    let stream = server.say(b"workers\n");
    stream.shutdown(Shutdown::Write).expect("shut");
    let (key, _) = server.until(ControlSocket::poll_command);
    server.turn();
    server.socket.reply(key, &Reply::workers(vec![WorkerStatus::default()]), server.now);
    assert_eq!(hear(stream).workers.expect("workers").len(), 1);
}

#[test]
fn connections_have_their_limit_and_the_next_takes_the_place_of_who_has_been_silent_longest() {
    let mut server = Server::new();
    let silent: Vec<_> = (0..CONNECTIONS_MAX).map(|_| server.connect()).collect();
    server.until_open(CONNECTIONS_MAX);
    let _stream = server.say(b"status\n");
    assert_eq!(server.until(ControlSocket::poll_command).1, Command::Status);
    assert_eq!(server.open(), CONNECTIONS_MAX);
    let mut end = [0; 1];
    let gone = silent.iter().filter(|stream| {
        stream.set_nonblocking(true).expect("set");
        matches!(std::io::Read::read(&mut &**stream, &mut end), Ok(0))
    });
    assert_eq!(gone.count(), 1, "nobody else has lost the place");
}

#[test]
fn connections_have_their_limit_and_the_next_is_told_so_where_all_have_said_something() {
    let mut server = Server::new();
    let silent: Vec<_> = (0..CONNECTIONS_MAX).map(|_| server.say(b"stat")).collect();
    server.until_open(CONNECTIONS_MAX);
    server.turn();
    let one_more = server.connect();
    server.turn();
    assert_eq!(hear(one_more).error.as_deref(), Some("too many operators at a time"));
    assert_eq!(server.open(), CONNECTIONS_MAX);
    drop(silent);
    server.until_open(0);
    let _stream = server.say(b"status\n");
    assert_eq!(server.until(ControlSocket::poll_command).1, Command::Status);
}

#[test]
fn who_says_nothing_or_too_little_loses_the_place_after_a_time() {
    let mut server = Server::new();
    let silent = [server.connect(), server.say(b"stat")];
    server.until_open(2);
    let deadline = server.now + IDLE_MAX;
    assert_eq!(server.socket.next_deadline(), Some(deadline));
    server.now = deadline - Duration::from_millis(1);
    server.turn();
    assert_eq!(server.open(), 2);
    server.now = deadline;
    server.turn();
    assert_eq!((server.open(), server.socket.next_deadline()), (0, None));
    drop(silent);
}

#[test]
fn who_does_not_read_the_reply_costs_a_place_for_a_time_and_a_reader_gets_all_of_it() {
    let mut server = Server::new();
    let large = Reply::status(Status { manifest: "x".repeat(4 << 20), ..Status::default() });
    let ask = |server: &mut Server| {
        let stream = server.say(b"status\n");
        let (key, _) = server.until(ControlSocket::poll_command);
        server.socket.reply(key, &large, server.now);
        assert!(server.socket.is_writing());
        stream
    };
    let lazy = ask(&mut server);
    server.now += IDLE_MAX;
    server.turn();
    assert!(!server.socket.is_writing());
    drop(lazy);
    let eager = ask(&mut server);
    let reader = std::thread::spawn(move || hear(eager));
    server.until_open(0);
    assert_eq!(reader.join().expect("read"), large);
}

#[test]
fn the_next_supervisor_takes_the_socket_over_without_a_gap() {
    let mut old = Server::new();
    let path = old.socket.path().to_owned();
    let fd = old.socket.listener().expect("it listens").try_clone_to_owned().expect("duplicated");
    let wrong = old.socket.listener().expect("it listens").try_clone_to_owned().expect("duplicated");
    assert!(ControlSocket::from_fd(wrong, Path::new("/elsewhere")).is_err());
    let stream = old.say(b"upgrade\n");
    let (key, _) = old.until(ControlSocket::poll_command);
    let mut socket = ControlSocket::from_fd(fd, &path).expect("taken over");
    let poll = Poll::new().expect("a poll");
    socket.register(poll.registry(), LISTENER, Token).expect("registered");
    old.socket.stop_accepting(old.poll.registry());
    let _late = old.say(b"status\n");
    old.turn();
    assert_eq!(old.open(), 1, "the new one is not for the old server");
    old.socket.reply(key, &Reply::done("upgraded"), old.now);
    assert!(hear(stream).ok);
    assert!(old.socket.listener().is_none(), "the old one keeps nothing open");
    let Server { socket: _old_socket, now, _scratch, .. } = old;
    let mut new = Server { poll, socket, now, _scratch };
    assert_eq!(new.until(ControlSocket::poll_command).1, Command::Status);
    new.socket.remove();
    assert!(!path.exists());
}

#[test]
fn the_manifest_says_where_it_is_or_that_there_is_none() {
    let scratch = Scratch::new();
    let manifest = scratch.join("rusm.toml");
    assert!(ControlSocket::open(&Control::Off, &manifest).expect("nothing to do").is_none());
    let path = scratch.join("b.sock");
    let socket = ControlSocket::open(&Control::At(path.clone()), &manifest).expect("bound").expect("a socket");
    assert_eq!(socket.path(), path);
    let is_wanted = |control: &Control| ControlSocket::is_wanted_at(&path, control, &manifest);
    assert!(is_wanted(&Control::At(path.clone())));
    assert!(!is_wanted(&Control::At(scratch.join("c.sock"))) && !is_wanted(&Control::Off));
    assert!(!is_wanted(&Control::Default));
    let error = ControlSocket::open(&Control::At(path.clone()), &manifest).expect_err("a refusal");
    assert!(error.to_string().ends_with("another server answers there"), "{error}");
}
