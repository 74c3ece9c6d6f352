//! The client connections of a reactor: sockets, their `http::Connection`, and which of them have something to do.
//!
//! Knows nothing of workers. `drive` moves bytes and events between a client and the backend.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::Registry;
use slab::Slab;

use crate::config::{Address, Networks};
use crate::http::h2::{Accepted, Stream, StreamEnd};
use crate::http::{Connection, Context, Protocol, Scheme};
use crate::request::{ClientKey, RequestRef};
use crate::sys;
use crate::timers::{Armed, Timers};
use crate::tls::Acceptor;
use crate::transport::Transport;

use super::downloads::Download;

use super::neighbours::{Neighbourhood, Neighbours};
use super::turns::{Cause, Turns};

/// What clients are told for which there is no place.
pub(super) const TOO_MANY: &str = "too many connections";

/// Clients that are told that there is no place for them, at a time; the next are told without seeing to it that they hear it.
pub(super) const FAREWELLS_MAX: usize = 64;

/// One client connection, or one request of a connection of HTTP/2.
#[derive(Debug)]
pub struct Client {
    pub key: ClientKey,
    /// A request of HTTP/2 has none: its bytes are its session's.
    pub transport: Option<Transport>,
    pub connection: Protocol,
    pub kin: Kin,
    /// The client's own address, or that which a trusted proxy has said; none in a Unix socket.
    pub peer: Option<SocketAddr>,
    /// Which listener it came through, and that one's address.
    pub listener: usize,
    pub listener_address: Rc<Address>,
    /// There is no place for it: it is told so, and counts neither for its listener nor for the server.
    pub is_farewell: bool,
    /// What its address is counted by, when that is limited.
    counted: Option<Neighbourhood>,
    /// Which `[[serve]]` of the manifest that listener is.
    pub serve: usize,
    /// On which terms of that listener it has come in.
    terms: u32,
    /// The request that it waits for, from its head to the end of its response.
    pub request: Option<RequestRef>,
    /// The file that it is sent, from the head of the response to its end.
    pub download: Option<Box<Download>>,
    /// The socket may have bytes for us.
    pub readable: bool,
    /// The client has closed its sending side. Its last bytes and its end may come with one event, so that a short read is not the last.
    pub ended: bool,
    /// The socket may take bytes of ours.
    pub writable: bool,
    armed: Armed,
    touched: bool,
}

/// Which clients share a connection of HTTP/2.
#[derive(Debug)]
pub enum Kin {
    /// A connection, with the requests that it has of HTTP/2.
    Session(Vec<ClientKey>),
    /// A request, with its connection.
    Stream(ClientKey),
}

/// Where a connection came in.
#[derive(Clone, Copy, Debug)]
pub struct Door<'a> {
    pub listener: usize,
    pub address: &'a Rc<Address>,
    pub serve: usize,
    pub terms: u32,
    /// Who may say from whom a connection is, where each begins with that.
    pub proxies: Option<&'a Networks>,
    pub tls: Option<&'a Acceptor>,
    /// HTTP/2 is spoken with who begins with it.
    pub http2: bool,
}

/// All client connections of a reactor.
#[derive(Debug)]
pub struct Clients {
    slab: Slab<Client>,
    context: Rc<Context>,
    connections_max: usize,
    farewells: usize,
    /// Requests of HTTP/2, which are no connections.
    streams: usize,
    neighbours: Neighbours,
    generation: u32,
    timers: Timers<ClientKey>,
    /// Clients whose time seems to be over in this turn.
    suspects: Vec<ClientKey>,
    turns: Turns,
}

impl Clients {
    pub fn new(context: Rc<Context>, connections_max: usize, per_address_max: usize) -> Clients {
        Clients {
            slab: Slab::new(),
            context,
            connections_max,
            farewells: 0,
            streams: 0,
            neighbours: Neighbours::new(per_address_max),
            generation: 0,
            timers: Timers::default(),
            suspects: Vec::new(),
            turns: Turns::default(),
        }
    }

    pub fn context(&self) -> &Rc<Context> {
        &self.context
    }

    /// Another connection would be one too many.
    pub fn is_full(&self) -> bool {
        self.connections() >= self.connections_max
    }

    /// Those that have a place, without those that are told that there is none.
    fn connections(&self) -> usize {
        self.slab.len() - self.farewells - self.streams
    }

    pub fn connections_max(&self) -> usize {
        self.connections_max
    }

    /// Another manifest serves: its limits are for the connections that come from now on.
    pub fn renew(&mut self, context: Context, connections_max: usize, per_address_max: usize) {
        self.context = Rc::new(context);
        self.connections_max = connections_max;
        self.neighbours.renew(per_address_max);
    }

    /// Another manifest serves: `serve_of` tells which `[[serve]]` a listener is for, and its terms. Connections of listeners that are gone end, and
    /// those that would not be let in any more as they have come.
    pub fn reassign(&mut self, serve_of: impl Fn(usize) -> Option<(usize, u32)>) {
        let keys: Vec<ClientKey> = self.slab.iter().map(|(_, client)| client.key).collect();
        for key in keys {
            let Some(client) = self.get_mut(key) else { continue };
            let now_there = serve_of(client.listener);
            if let Some((serve, _)) = now_there {
                client.serve = serve;
            }
            if now_there.is_none_or(|(_, terms)| terms != client.terms) {
                client.connection.begin_drain();
                self.touch(key);
            }
        }
    }

    /// The index at which the next client will be, for its poll token.
    pub fn next_index(&self) -> usize {
        self.slab.vacant_key()
    }

    /// Takes an accepted connection.
    pub fn insert(
        &mut self,
        transport: Transport,
        peer: Option<SocketAddr>,
        origin: Door<'_>,
        now: Instant,
    ) -> ClientKey {
        let scheme = if transport.is_secure() { Scheme::Https } else { Scheme::Http };
        let mut connection = Connection::new(self.context.clone(), scheme, now);
        if origin.http2 && !transport.is_secure() {
            connection.expect_http2();
        }
        self.place(|key| Client {
            key,
            transport: Some(transport),
            connection: connection.into(),
            kin: Kin::Session(Vec::new()),
            peer,
            listener: origin.listener,
            listener_address: origin.address.clone(),
            is_farewell: false,
            counted: None,
            serve: origin.serve,
            terms: origin.terms,
            request: None,
            download: None,
            readable: true,
            ended: false,
            writable: true,
            armed: Armed::default(),
            touched: false,
        })
    }

    fn place(&mut self, client: impl FnOnce(ClientKey) -> Client) -> ClientKey {
        self.generation = self.generation.wrapping_add(1);
        let entry = self.slab.vacant_entry();
        let key = ClientKey { index: entry.key() as u32, generation: self.generation };
        entry.insert(client(key));
        self.add(key, Cause::Event);
        key
    }

    /// Takes a request of a connection of HTTP/2, if there is a place for it. There are as many as for connections, so that who has many requests on
    /// one is no better off than who has many connections; and one for each connection besides, so that none is kept from asking by others.
    pub fn insert_stream(&mut self, session: ClientKey, accepted: Accepted, now: Instant) {
        let (is_full, of_session) = (self.streams >= self.connections_max, session);
        let Some(session) = self.get_mut(session) else { return accepted.refuse() };
        let (Protocol::Session(protocol), Kin::Session(streams)) = (&mut session.connection, &session.kin) else {
            return accepted.refuse();
        };
        if is_full && !streams.is_empty() {
            accepted.refuse();
            return protocol.handle_stream_end(StreamEnd::Refused, now);
        }
        let stream = Stream::new(protocol.context().clone(), protocol.scheme(), accepted, now);
        let (peer, listener, serve, terms) = (session.peer, session.listener, session.serve, session.terms);
        let listener_address = session.listener_address.clone();
        self.streams += 1;
        let key = self.place(|key| Client {
            key,
            transport: None,
            connection: Protocol::Stream(Box::new(stream)),
            kin: Kin::Stream(of_session),
            peer,
            listener,
            listener_address,
            is_farewell: false,
            counted: None,
            serve,
            terms,
            request: None,
            download: None,
            readable: false,
            ended: false,
            writable: true,
            armed: Armed::default(),
            touched: false,
        });
        if let Some(Client { kin: Kin::Session(streams), .. }) = self.get_mut(of_session) {
            streams.push(key);
        }
    }

    /// A client has had its turn: whoever shares its connection of HTTP/2 may have something to do.
    pub fn drive_kin(&mut self, key: ClientKey, now: Instant) {
        let Some(client) = self.get_mut(key) else { return };
        match (&client.kin, &mut client.connection) {
            (Kin::Stream(session), _) => {
                let session = *session;
                self.touch(session);
            }
            (Kin::Session(_), Protocol::Session(session)) => {
                let accepted = session.take_accepted();
                if !accepted.is_empty() {
                    // It has waited with the next ones.
                    self.touch(key);
                }
                for accepted in accepted {
                    self.insert_stream(key, accepted, now);
                }
                self.touch_streams(key);
            }
            (Kin::Session(_), Protocol::Http1(_) | Protocol::Stream(_)) => {}
        }
    }

    /// Has those requests of a connection of HTTP/2 looked at for which it has something; all of them when it is over.
    pub fn touch_streams(&mut self, session: ClientKey) {
        let Some(Client { kin: Kin::Session(streams), connection, .. }) = self.get_mut(session) else { return };
        let is_over = matches!(connection, Protocol::Session(session) if !session.is_open());
        // They are given back below: nothing else changes them meanwhile.
        let streams = std::mem::take(streams);
        for key in &streams {
            let Some(Client { connection: Protocol::Stream(stream), .. }) = self.get_mut(*key) else { continue };
            if is_over {
                stream.handle_disconnect();
            }
            if is_over || stream.is_woken() {
                self.add(*key, Cause::Event);
            }
        }
        if let Some(Client { kin: Kin::Session(place), .. }) = self.get_mut(session) {
            *place = streams;
        }
    }

    /// Takes an accepted connection for which there is no place, to tell it so.
    pub fn insert_farewell(&mut self, transport: Transport, peer: Option<SocketAddr>, origin: Door<'_>, now: Instant) {
        let key = self.insert(transport, peer, origin, now);
        if let Some(client) = self.get_mut(key) {
            client.is_farewell = true;
            client.connection.turn_away(TOO_MANY, now);
            self.farewells += 1;
        }
    }

    pub fn has_room_for_farewell(&self) -> bool {
        self.farewells < FAREWELLS_MAX
    }

    /// Whether the connections from this address are as many as may be.
    pub fn is_crowded(&self, peer: Option<SocketAddr>) -> bool {
        peer.is_some_and(|peer| self.neighbours.is_full(Neighbourhood::of(peer.ip())))
    }

    /// It is known now from which address this client is: counts it there, or tells it that there are too many.
    pub fn handle_address(&mut self, key: ClientKey, now: Instant) {
        let Some(client) = self.slab.get_mut(key.index as usize).filter(|client| client.key == key) else { return };
        let Some(peer) = client.peer else { return };
        let neighbourhood = Neighbourhood::of(peer.ip());
        if !self.neighbours.is_full(neighbourhood) {
            client.counted = self.neighbours.count(neighbourhood);
        } else if client.is_opening() {
            // Nothing can be said before a handshake.
            client.connection.abort();
        } else {
            client.connection.turn_away(TOO_MANY, now);
        }
    }

    pub fn get_mut(&mut self, key: ClientKey) -> Option<&mut Client> {
        self.slab.get_mut(key.index as usize).filter(|client| client.key == key)
    }

    /// Notes that there is something for this client to do.
    pub fn touch(&mut self, key: ClientKey) {
        self.add(key, Cause::Answer);
    }

    fn add(&mut self, key: ClientKey, cause: Cause) {
        if let Some(client) = self.slab.get_mut(key.index as usize).filter(|client| client.key == key)
            && !client.touched
        {
            client.touched = true;
            let is_session = matches!(client.connection, Protocol::Session(_));
            self.turns.add(key, if is_session { Cause::Session } else { cause });
        }
    }

    /// How many clients have something to do.
    pub fn touched(&self) -> usize {
        self.turns.len()
    }

    /// The next client that has something to do for this cause.
    pub fn next_touched(&mut self, cause: Cause) -> Option<ClientKey> {
        loop {
            let key = self.turns.pop(cause)?;
            if let Some(client) = self.get_mut(key) {
                client.touched = false;
                return Some(key);
            }
        }
    }

    /// Notes that this client goes on in the next turn, so that others have theirs.
    pub fn postpone(&mut self, key: ClientKey) {
        self.turns.postpone(key);
    }

    pub fn begin_turn(&mut self) {
        for key in self.turns.take_postponed() {
            self.add(key, Cause::Event);
        }
    }

    pub fn have_work(&self) -> bool {
        !self.turns.is_empty()
    }

    pub fn handle_event(&mut self, index: usize, event: &mio::event::Event) {
        let Some(client) = self.slab.get_mut(index) else { return };
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            client.readable = true;
        }
        if event.is_read_closed() {
            client.ended = true;
        }
        if event.is_writable() || event.is_error() {
            client.writable = true;
        }
        let key = client.key;
        self.add(key, Cause::Event);
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Has those clients looked at whose time is over, unless what they have sent, or taken, tells otherwise: [`Clients::judge`] comes when they have
    /// had their turn. False if there are none.
    pub fn handle_timers(&mut self, now: Instant) -> bool {
        while let Some(key) = self.timers.pop(now) {
            let Some(client) = self.get_mut(key) else { continue };
            Timers::<ClientKey>::fired(&mut client.armed, now);
            if client.connection.deadline().is_some_and(|at| at <= now) {
                (client.readable, client.writable) = (true, true);
                if let Kin::Stream(session) = client.kin {
                    self.look_at(session);
                }
                self.suspects.push(key);
            }
            self.touch(key);
        }
        !self.suspects.is_empty()
    }

    /// Has the socket of a connection read in this turn, whatever has been heard of it.
    fn look_at(&mut self, key: ClientKey) {
        if let Some(client) = self.get_mut(key) {
            (client.readable, client.writable) = (true, true);
        }
        self.touch(key);
    }

    /// Tells the connections whose time is over so.
    pub fn judge(&mut self, now: Instant) {
        let mut suspects = std::mem::take(&mut self.suspects);
        for key in suspects.drain(..) {
            let Some(client) = self.get_mut(key) else { continue };
            if client.connection.is_write_due(now)
                && let Some(transport) = &client.transport
            {
                let unacknowledged = sys::unacknowledged_bytes(&transport.socket).unwrap_or(u64::MAX);
                client.connection.handle_acknowledged(unacknowledged, now);
            }
            if client.connection.deadline().is_some_and(|at| at <= now) {
                client.connection.handle_timeout(now);
            }
            self.touch(key);
        }
        self.suspects = suspects;
    }

    /// This process stood still for `leap`: no client is late by that time.
    pub fn forgive(&mut self, leap: Duration) {
        for (_, client) in &mut self.slab {
            client.connection.forgive(leap);
        }
    }

    /// Makes sure that the client's deadline fires.
    pub fn arm(&mut self, key: ClientKey) {
        if let Some(client) = self.slab.get_mut(key.index as usize).filter(|client| client.key == key) {
            self.timers.arm(key, &mut client.armed, client.connection.deadline());
            self.timers.sweep(self.slab.len(), |key, armed| {
                self.slab.get(key.index as usize).is_some_and(|client| client.key == key && client.armed == armed)
            });
        }
    }

    /// Closes a connection, or ends a request of HTTP/2. A cut connection is reset, so that its client notices.
    pub fn remove(&mut self, key: ClientKey, registry: &Registry, now: Instant) {
        if self.get_mut(key).is_none() {
            return;
        }
        self.touch_streams(key);
        let mut client = self.slab.remove(key.index as usize);
        self.uncount(&client);
        if let Kin::Stream(session) = client.kin {
            self.leave_session(session, &client, now);
        }
        let Some(transport) = &mut client.transport else { return };
        // The descriptor is closed right below, which takes it out of the poll as well.
        let _ = registry.deregister(&mut transport.socket);
        if client.connection.was_cut() {
            sys::reset_on_close(&transport.socket);
        } else {
            transport.finish();
        }
    }

    fn leave_session(&mut self, session: ClientKey, stream: &Client, now: Instant) {
        let Some(Client { kin: Kin::Session(streams), connection, .. }) = self.get_mut(session) else { return };
        streams.retain(|key| *key != stream.key);
        if let (Protocol::Session(protocol), Protocol::Stream(stream)) = (connection, &stream.connection) {
            protocol.handle_stream_end(stream.end(), now);
        }
        self.touch(session);
    }

    fn uncount(&mut self, client: &Client) {
        self.farewells -= usize::from(client.is_farewell);
        self.streams -= usize::from(client.is_stream());
        if let Some(neighbourhood) = client.counted {
            self.neighbours.uncount(neighbourhood);
        }
    }

    /// The connections that another process can go on with: nothing is in progress on them, and nothing is known here alone.
    pub fn idle(&self) -> Vec<ClientKey> {
        let is_idle = |client: &&Client| client.request.is_none() && client.connection.is_idle() && client.is_plain();
        self.slab.iter().map(|(_, client)| client).filter(is_idle).map(|client| client.key).collect()
    }

    /// Lets a connection go without closing it: another process has it.
    pub fn forget(&mut self, key: ClientKey, registry: &Registry) {
        if self.get_mut(key).is_some() {
            let mut client = self.slab.remove(key.index as usize);
            self.uncount(&client);
            if let Some(transport) = &mut client.transport {
                let _ = registry.deregister(&mut transport.socket);
            }
        }
    }

    /// Another process serves: connections with keys, or with a state of HTTP/2, that only this one has end as soon as nothing is in progress on them.
    pub fn drain_secret(&mut self) {
        let is_secret = |client: &Client| !client.is_plain() || matches!(client.connection, Protocol::Session(_));
        let secret = self.slab.iter().filter(|(_, client)| is_secret(client));
        let keys: Vec<ClientKey> = secret.map(|(_, client)| client.key).collect();
        for key in keys {
            if let Some(client) = self.get_mut(key) {
                client.connection.begin_drain();
            }
            self.touch(key);
        }
    }

    /// Has every client looked at, and its socket read.
    pub fn touch_all(&mut self) {
        let keys: Vec<ClientKey> = self.slab.iter().map(|(_, client)| client.key).collect();
        for key in keys {
            if let Some(client) = self.get_mut(key) {
                client.readable = true;
            }
            self.touch(key);
        }
    }

    /// The server is stopping: idle connections close, the others after their response.
    pub fn begin_drain(&mut self) {
        let keys: Vec<ClientKey> = self.slab.iter().map(|(_, client)| client.key).collect();
        for key in keys {
            if let Some(client) = self.get_mut(key) {
                client.connection.begin_drain();
            }
            self.touch(key);
        }
    }

    /// The downloads that are not over.
    pub(super) fn downloads(&mut self) -> impl Iterator<Item = Box<Download>> {
        self.slab.iter_mut().filter_map(|(_, client)| client.download.take())
    }

    /// Cuts every connection that is left.
    pub fn cut_all(&mut self, registry: &Registry, now: Instant) {
        let keys: Vec<ClientKey> = self.slab.iter().map(|(_, client)| client.key).collect();
        for key in keys {
            if let Some(client) = self.get_mut(key) {
                client.connection.abort();
            }
            self.remove(key, registry, now);
        }
    }

    /// Connections, those included that are told that there is no place for them.
    pub fn len(&self) -> usize {
        self.slab.len() - self.streams
    }

    pub fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }
}

impl Client {
    /// A request of HTTP/2, and no connection of its own.
    pub fn is_stream(&self) -> bool {
        matches!(self.kin, Kin::Stream(_))
    }

    /// HTTP cannot be spoken yet.
    pub fn is_opening(&self) -> bool {
        self.transport.as_ref().is_some_and(Transport::is_opening)
    }

    /// Its bytes are those of a socket.
    pub fn is_plain(&self) -> bool {
        self.transport.as_ref().is_some_and(Transport::is_plain)
    }
}
