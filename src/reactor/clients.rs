//! The client connections of a reactor: sockets, their `http::Connection`, and which of them have something to do.
//!
//! Knows nothing of workers. `drive` moves bytes and events between a client and the backend.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use mio::Registry;
use slab::Slab;

use crate::config::{Address, Networks};
use crate::http::{Connection, Context, Scheme};
use crate::request::{ClientKey, RequestRef};
use crate::sys;
use crate::timers::{Armed, Timers};
use crate::tls::Acceptor;
use crate::transport::Transport;

use super::downloads::Download;

use super::neighbours::{Neighbourhood, Neighbours};

/// What clients are told for which there is no place.
pub(super) const TOO_MANY: &str = "too many connections";

/// Clients that are told that there is no place for them, at a time; the next are told without seeing to it that they hear it.
pub(super) const FAREWELLS_MAX: usize = 64;

/// One client connection.
#[derive(Debug)]
pub struct Client {
    pub key: ClientKey,
    pub transport: Transport,
    pub connection: Connection,
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
}

/// All client connections of a reactor.
#[derive(Debug)]
pub struct Clients {
    slab: Slab<Client>,
    context: Rc<Context>,
    connections_max: usize,
    farewells: usize,
    neighbours: Neighbours,
    generation: u32,
    timers: Timers<ClientKey>,
    /// Clients that have something to do in this turn.
    work: Vec<ClientKey>,
    /// Clients that have used up their share of this turn.
    later: Vec<ClientKey>,
}

impl Clients {
    pub fn new(context: Rc<Context>, connections_max: usize, per_address_max: usize) -> Clients {
        Clients {
            slab: Slab::new(),
            context,
            connections_max,
            farewells: 0,
            neighbours: Neighbours::new(per_address_max),
            generation: 0,
            timers: Timers::default(),
            work: Vec::new(),
            later: Vec::new(),
        }
    }

    pub fn context(&self) -> &Rc<Context> {
        &self.context
    }

    /// Another connection would be one too many.
    pub fn is_full(&self) -> bool {
        self.slab.len() - self.farewells >= self.connections_max
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
        self.generation = self.generation.wrapping_add(1);
        let entry = self.slab.vacant_entry();
        let key = ClientKey { index: entry.key() as u32, generation: self.generation };
        entry.insert(Client {
            key,
            transport,
            connection: Connection::new(self.context.clone(), scheme, now),
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
        });
        self.touch(key);
        key
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
        } else if client.transport.is_opening() {
            // Nothing can be said before a handshake.
            client.connection.abort();
        } else {
            client.connection.turn_away(TOO_MANY, now);
        }
    }

    pub fn get_mut(&mut self, key: ClientKey) -> Option<&mut Client> {
        self.slab.get_mut(key.index as usize).filter(|client| client.key == key)
    }

    /// Notes that this client has something to do before the turn ends.
    pub fn touch(&mut self, key: ClientKey) {
        if let Some(client) = self.slab.get_mut(key.index as usize).filter(|client| client.key == key)
            && !client.touched
        {
            client.touched = true;
            self.work.push(key);
        }
    }

    /// The next client that has something to do.
    pub fn next_touched(&mut self) -> Option<ClientKey> {
        loop {
            let key = self.work.pop()?;
            if let Some(client) = self.get_mut(key) {
                client.touched = false;
                return Some(key);
            }
        }
    }

    /// Notes that this client goes on in the next turn, so that others have theirs.
    pub fn postpone(&mut self, key: ClientKey) {
        self.later.push(key);
    }

    pub fn begin_turn(&mut self) {
        for key in std::mem::take(&mut self.later) {
            self.touch(key);
        }
    }

    pub fn have_work(&self) -> bool {
        !self.later.is_empty() || !self.work.is_empty()
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
        self.touch(key);
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Tells the connections whose time is over so.
    pub fn handle_timers(&mut self, now: Instant) {
        while let Some(key) = self.timers.pop(now) {
            if let Some(client) = self.get_mut(key) {
                Timers::<ClientKey>::fired(&mut client.armed, now);
                if client.connection.is_write_due(now) {
                    let unacknowledged = sys::unacknowledged_bytes(&client.transport.socket).unwrap_or(u64::MAX);
                    client.connection.handle_acknowledged(unacknowledged, now);
                }
                if client.connection.deadline().is_some_and(|at| at <= now) {
                    client.connection.handle_timeout(now);
                }
                self.touch(key);
            }
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

    /// Closes a connection. A cut one is reset, so that its client notices.
    pub fn remove(&mut self, key: ClientKey, registry: &Registry) {
        if self.get_mut(key).is_none() {
            return;
        }
        let mut client = self.slab.remove(key.index as usize);
        self.uncount(&client);
        // The descriptor is closed right below, which takes it out of the poll as well.
        let _ = registry.deregister(&mut client.transport.socket);
        if client.connection.was_cut() {
            sys::reset_on_close(&client.transport.socket);
        } else {
            client.transport.finish();
        }
    }

    fn uncount(&mut self, client: &Client) {
        self.farewells -= usize::from(client.is_farewell);
        if let Some(neighbourhood) = client.counted {
            self.neighbours.uncount(neighbourhood);
        }
    }

    /// The connections that another process can go on with: nothing is in progress on them, and nothing is known here alone.
    pub fn idle(&self) -> Vec<ClientKey> {
        let is_idle =
            |client: &&Client| client.request.is_none() && client.connection.is_idle() && client.transport.is_plain();
        self.slab.iter().map(|(_, client)| client).filter(is_idle).map(|client| client.key).collect()
    }

    /// Lets a connection go without closing it: another process has it.
    pub fn forget(&mut self, key: ClientKey, registry: &Registry) {
        if self.get_mut(key).is_some() {
            let mut client = self.slab.remove(key.index as usize);
            self.uncount(&client);
            let _ = registry.deregister(&mut client.transport.socket);
        }
    }

    /// Another process serves: connections with keys that only this one has end as soon as nothing is in progress on them.
    pub fn drain_secret(&mut self) {
        let secret = self.slab.iter().filter(|(_, client)| !client.transport.is_plain());
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
    pub fn cut_all(&mut self, registry: &Registry) {
        let keys: Vec<ClientKey> = self.slab.iter().map(|(_, client)| client.key).collect();
        for key in keys {
            if let Some(client) = self.get_mut(key) {
                client.connection.abort();
            }
            self.remove(key, registry);
        }
    }

    pub fn len(&self) -> usize {
        self.slab.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }
}
