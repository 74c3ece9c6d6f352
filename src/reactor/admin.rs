//! The admin listener: metrics and health over HTTP, from the first moment of the server to its last.
//!
//! Owns its sockets and its few connections, which count for nothing else: neither the limits of clients nor a drain has to do with them.
//! What is answered is decided in `control::admin`. Driven by the loop.

use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry};

use crate::bind::{self, Bound};
use crate::config::Address;
use crate::control::admin::{AdminAnswer, Readiness, answer};
use crate::http::{Connection, Context, Event, ResponseHead, Scheme};

use super::source::Source;
use super::{Reactor, listeners};

/// Connections at a time. The next takes the place of the one that has waited longest: who opens connections and says nothing
/// must not keep an orchestrator from asking how the server is.
const CONNECTIONS_MAX: usize = 16;

/// Connections accepted in one turn: fewer than there are places, so that each is served once before its place can be taken.
const ACCEPTS_PER_TURN: usize = CONNECTIONS_MAX / 2;

/// Rounds of read, answer and write that one connection gets in one turn.
const ROUNDS_PER_TURN: usize = 8;

/// See the module's documentation. Empty when the manifest wants none.
#[derive(Debug, Default)]
pub(super) struct Admin {
    listeners: Vec<Listener>,
    is_open: bool,
    visitors: [Option<Visitor>; CONNECTIONS_MAX],
    resting_until: Option<Instant>,
}

#[derive(Debug)]
struct Listener {
    socket: TcpListener,
    /// As the manifest has it.
    wanted: Address,
    address: Address,
    ready: bool,
}

/// One connection.
#[derive(Debug)]
struct Visitor {
    stream: TcpStream,
    connection: Connection,
    /// When it was accepted, or last answered. Bytes of a request that is not whole do not count.
    waits_since: Instant,
    /// The socket may have bytes for us, or may take some.
    readable: bool,
    writable: bool,
    has_work: bool,
}

impl Admin {
    pub fn new(bound: Vec<Bound>) -> Admin {
        let listener = |bound: Bound| match bound.socket {
            bind::Socket::Tcp(socket) => Some(Listener {
                socket: TcpListener::from_std(socket),
                wanted: bound.wanted.address,
                address: bound.address,
                ready: false,
            }),
            // A manifest cannot ask for it.
            bind::Socket::Unix(..) => None,
        };
        Admin { listeners: bound.into_iter().filter_map(listener).collect(), ..Admin::default() }
    }

    /// Begins to accept. Done at once, since a server that starts is worth knowing of; but who takes over from another leaves the
    /// listeners to that one until it serves itself.
    pub fn open(&mut self, registry: &Registry) -> io::Result<()> {
        if std::mem::replace(&mut self.is_open, true) {
            return Ok(());
        }
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            registry.register(&mut listener.socket, Source::AdminListener(index).token(), Interest::READABLE)?;
            log::info!("admin listener on http://{}", listener.address);
        }
        Ok(())
    }

    /// Leaves the listeners to who takes over. The connections that are there stay.
    pub fn close(&mut self, registry: &Registry) {
        for mut listener in self.listeners.drain(..) {
            // Closing it is what counts.
            let _ = registry.deregister(&mut listener.socket);
        }
    }

    /// The listening sockets, for who takes over.
    pub fn sockets(&self) -> impl Iterator<Item = (Address, BorrowedFd<'_>)> {
        self.listeners.iter().map(|listener| (listener.wanted.clone(), listener.socket.as_fd()))
    }

    pub fn handle_listener_event(&mut self, index: usize) {
        if let Some(listener) = self.listeners.get_mut(index) {
            listener.ready = true;
        }
    }

    pub fn handle_event(&mut self, place: usize, event: &mio::event::Event) {
        if let Some(Some(visitor)) = self.visitors.get_mut(place) {
            visitor.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
            visitor.writable |= event.is_writable() || event.is_error();
            visitor.has_work = true;
        }
    }

    pub fn handle_timers(&mut self, now: Instant) {
        if self.resting_until.is_some_and(|until| until <= now) {
            self.resting_until = None;
        }
        for visitor in self.visitors.iter_mut().flatten() {
            if visitor.connection.deadline().is_some_and(|deadline| deadline <= now) {
                visitor.connection.handle_timeout(now);
                visitor.has_work = true;
            }
        }
    }

    /// This process stood still for `leap`: no visitor is late by that time.
    pub fn forgive(&mut self, leap: Duration) {
        for visitor in self.visitors.iter_mut().flatten() {
            visitor.connection.forgive(leap);
        }
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        let deadlines = self.visitors.iter().flatten().filter_map(|visitor| visitor.connection.deadline());
        deadlines.chain(self.resting_until).min()
    }

    /// There is something to do right now.
    pub fn has_work(&self) -> bool {
        let waits = self.resting_until.is_none() && self.listeners.iter().any(|listener| listener.ready);
        waits || self.visitors.iter().flatten().any(|visitor| visitor.has_work)
    }

    fn accept(&mut self, context: &Rc<Context>, registry: &Registry, now: Instant) {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(listener) = self.listeners.iter_mut().find(|listener| listener.ready) else { return };
            if self.resting_until.is_some() {
                return;
            }
            match listener.socket.accept() {
                Ok((stream, _)) => self.admit(stream, context, registry, now),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => listener.ready = false,
                Err(error) => self.resting_until = listeners::accept_error(&error, now),
            }
        }
    }

    fn admit(&mut self, mut stream: TcpStream, context: &Rc<Context>, registry: &Registry, now: Instant) {
        let waits_since =
            |(_, visitor): &(usize, &Option<Visitor>)| visitor.as_ref().map(|visitor| visitor.waits_since);
        // A place that is free comes before any that is not.
        let Some((place, _)) = self.visitors.iter().enumerate().min_by_key(waits_since) else { return };
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = registry.register(&mut stream, Source::Admin(place).token(), interest) {
            log::warn!("cannot wait for a connection to the admin listener: {error}");
            return;
        }
        let connection = Connection::new(context.clone(), Scheme::Http, now);
        let visitor = Visitor { stream, connection, waits_since: now, readable: true, writable: true, has_work: true };
        self.visitors[place] = Some(visitor);
    }

    /// Gives each connection that has something to do its turn.
    fn drive(&mut self, scratch: &mut [u8], now: Instant, mut answer: impl FnMut(&str, &str) -> AdminAnswer) {
        for entry in &mut self.visitors {
            let Some(visitor) = entry.as_mut().filter(|visitor| visitor.has_work) else { continue };
            visitor.drive(scratch, now, &mut answer);
            if visitor.connection.is_closed() {
                *entry = None;
            }
        }
    }
}

impl Visitor {
    fn drive(&mut self, scratch: &mut [u8], now: Instant, answer: &mut impl FnMut(&str, &str) -> AdminAnswer) {
        for _ in 0..ROUNDS_PER_TURN {
            self.answer_requests(now, answer);
            self.flush(now);
            if self.connection.should_shutdown_write() {
                // The other side may have gone already; the linger that follows finds out.
                let _ = self.stream.shutdown(Shutdown::Write);
                self.connection.handle_write_shutdown();
            }
            let reads = self.readable && self.connection.wants_input();
            if self.connection.is_closed() || !(reads || self.connection.wants_poll()) {
                self.has_work = false;
                return;
            }
            if reads {
                self.receive(scratch, now);
            }
        }
    }

    fn flush(&mut self, now: Instant) {
        while self.writable && !self.connection.output().is_empty() {
            match self.stream.write(self.connection.output()) {
                Ok(count) => self.connection.consume_output(count, now),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(_) => self.connection.handle_disconnect(),
            }
        }
    }

    fn receive(&mut self, scratch: &mut [u8], now: Instant) {
        match self.stream.read(scratch) {
            Ok(0) => {
                self.readable = false;
                self.connection.handle_eof(now);
            }
            Ok(count) => self.connection.handle_input(&scratch[..count], now),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
            Err(_) => {
                self.readable = false;
                self.connection.handle_disconnect();
            }
        }
    }

    fn answer_requests(&mut self, now: Instant, answer: &mut impl FnMut(&str, &str) -> AdminAnswer) {
        while let Some(event) = self.connection.poll_event(now) {
            let answer = match event {
                Event::Request(head) => answer(head.method, head.path),
                Event::Body(_) | Event::BodyEnd { .. } | Event::Refused { .. } | Event::ClientGone => continue,
            };
            let mut headers = vec![("content-type", answer.content_type.as_bytes()), ("cache-control", b"no-store")];
            headers.extend(answer.allow.map(|allow| ("allow", allow.as_bytes())));
            let body = answer.body.as_bytes();
            let head = ResponseHead {
                status: answer.status,
                headers: &headers,
                request_id: "",
                body_length: Some(body.len() as u64),
            };
            let answered = self
                .connection
                .respond_head(&head, now)
                .and_then(|()| self.connection.respond_body(body, now))
                .and_then(|()| self.connection.respond_end(&[], now));
            debug_assert!(answered.is_ok(), "a response is owed, and this is one");
            self.waits_since = now;
        }
    }
}

impl Reactor<'_> {
    /// Answers what the admin listener was asked.
    pub(super) fn serve_admin(&mut self, now: Instant) {
        if !self.admin.has_work() {
            return;
        }
        // Out of the reactor, which is asked for its status meanwhile.
        let mut admin = std::mem::take(&mut self.admin);
        let mut scratch = std::mem::take(&mut self.scratch);
        admin.accept(self.clients.context(), self.poll.registry(), now);
        admin.drive(&mut scratch, now, |method, path| {
            let workers_ready = self.generations.current().pool.ready() as u64;
            let readiness = Readiness { state: self.server_state(), workers_ready };
            answer(method, path, readiness, || self.status(now))
        });
        (self.admin, self.scratch) = (admin, scratch);
    }
}
