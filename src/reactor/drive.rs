//! Moves what can be moved for the clients that have something to do: bytes in, events to the backend, bytes out.

use std::io;
use std::time::Instant;

use rusmd_proto::RequestId;

use crate::answer::Answer;
use crate::control::counters::Counters;
use crate::http::Event;
use crate::request::{ClientKey, RequestRef};

use super::backend::Backend;
use super::clients::Client;
use super::downloads::{self, Instead, Pace};
use super::generation::Generations;
use super::open::open;
use super::turns::Cause;
use super::{Reactor, report};

/// Rounds of read, events and write that one client gets in one turn.
const ROUNDS_PER_TURN: usize = 32;

/// Rounds in one turn over all clients, but that each gets the least that brings a request in and its answer out: where many have something to do,
/// those who have much wait for those who have little.
const ROUNDS_OF_ALL: usize = 2048;

const ROUNDS_MIN: usize = 2;

/// Clients of one turn, and connections of HTTP/2 beside them; workers do not wait for more.
const CLIENTS_PER_TURN: usize = 32;

/// Steps of handshakes in one turn, over all clients: each may cost a signature, and those who have theirs behind them wait meanwhile.
const OPENINGS_PER_TURN: usize = 16;

/// What a client's socket, its protocol and the backend came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Progress {
    /// Nothing more to do until something happens.
    Waits,
    /// It is known from now on whose the connection is.
    Announced,
    /// Its share of the turn is used up.
    Postponed,
    /// Close the socket.
    Ended,
}

/// What there is for the clients of one turn: rounds for each, steps of handshakes for all.
struct Share {
    rounds: usize,
    openings: usize,
}

impl Reactor<'_> {
    /// Gives clients that have something to do their turn, as many as one turn of the loop is for.
    pub(super) fn drive_clients(&mut self, now: Instant) {
        self.drive_up_to(CLIENTS_PER_TURN, now);
    }

    /// The same for all of them.
    pub(super) fn drive_all_clients(&mut self, now: Instant) {
        self.drive_up_to(usize::MAX, now);
    }

    /// Everybody for whom there is something, and so many of whom something has come; connections of HTTP/2 come behind their requests.
    fn drive_up_to(&mut self, most: usize, now: Instant) {
        let mut share = self.share();
        let (mut events, mut sessions) = (most, most);
        loop {
            let key = if let Some(key) = self.clients.next_touched(Cause::Answer) {
                key
            } else if let Some(key) = take(&mut events, || self.clients.next_touched(Cause::Event)) {
                key
            } else if let Some(key) = take(&mut sessions, || self.clients.next_touched(Cause::Session)) {
                key
            } else {
                return;
            };
            self.drive(key, &mut share, now);
        }
    }

    fn share(&self) -> Share {
        Share { rounds: rounds_each(self.clients.touched()), openings: OPENINGS_PER_TURN }
    }

    fn drive(&mut self, key: ClientKey, share: &mut Share, now: Instant) {
        let Some(client) = self.clients.get_mut(key) else { return };
        if client.is_opening() && !client.connection.is_closed() {
            let Some(left) = share.openings.checked_sub(1) else { return self.clients.postpone(key) };
            share.openings = left;
        }
        let progress =
            drive_client(client, share.rounds, &mut self.generations, &mut self.counters, &mut self.scratch, now);
        match progress {
            Progress::Waits => self.clients.arm(key),
            Progress::Announced => {
                self.clients.handle_address(key, now);
                self.clients.touch(key);
            }
            Progress::Postponed => self.clients.postpone(key),
            Progress::Ended => {
                let (request, listener) = (client.request, client.listener);
                let is_counted = !client.is_farewell && !client.is_stream();
                if let Some(download) = client.download.take() {
                    download.break_off(self.generations.current_mut(), now);
                }
                if let Some(request) = request {
                    leave(&mut self.generations, request, now);
                }
                self.clients.remove(key, self.poll.registry(), now);
                if is_counted {
                    self.listeners.handle_closed(listener);
                }
                return;
            }
        }
        self.clients.drive_kin(key, now);
    }
}

/// Takes one, while some of what there may be is left.
fn take(left: &mut usize, next: impl FnOnce() -> Option<ClientKey>) -> Option<ClientKey> {
    let fewer = left.checked_sub(1)?;
    let key = next()?;
    *left = fewer;
    Some(key)
}

/// How many rounds each of so many clients gets in one turn.
const fn rounds_each(clients: usize) -> usize {
    match ROUNDS_OF_ALL.checked_div(clients) {
        Some(rounds) if rounds < ROUNDS_MIN => ROUNDS_MIN,
        Some(rounds) if rounds < ROUNDS_PER_TURN => rounds,
        Some(_) | None => ROUNDS_PER_TURN,
    }
}

fn drive_client(
    client: &mut Client,
    rounds: usize,
    generations: &mut Generations,
    counters: &mut Counters,
    scratch: &mut [u8],
    now: Instant,
) -> Progress {
    if client.is_opening()
        && let Some(progress) = open(client, counters, now)
    {
        return progress;
    }
    // The end of a client whose request is queued is known before its bytes are read: there may be a body that nobody takes yet.
    if client.ended && is_queued(client, generations) {
        client.connection.handle_disconnect();
    }
    for _ in 0..rounds {
        handle_events(client, generations, counters, scratch, now);
        flush(client, now);
        match downloads::go_on(client, generations, scratch, now) {
            Pace::None | Pace::Waits => {}
            Pace::Over => continue,
            Pace::Spent => return Progress::Postponed,
        }
        if let Some(RequestRef { generation, id }) = client.request
            && let Some(backend) = generations.get_mut(generation)
        {
            backend.refill_window(id, client.connection.unsent());
        }
        if client.connection.is_closed() {
            return Progress::Ended;
        }
        if client.connection.should_shutdown_write()
            && let Some(transport) = &mut client.transport
        {
            match transport.shutdown_write() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => client.writable = false,
                // The client may have gone already; the linger that follows finds out.
                Ok(()) | Err(_) => client.connection.handle_write_shutdown(),
            }
        }
        if client.connection.is_foreign() {
            client.connection.begin_http2(now);
            counters.connections_http2 += 1;
            return Progress::Postponed;
        }
        // A pipelined request may have waited for the output to drain.
        if client.connection.wants_poll() && backend_takes(client, generations) {
            continue;
        }
        if !(client.readable && client.connection.wants_input()) {
            return Progress::Waits;
        }
        if client.connection.is_sated(now) {
            return Progress::Postponed;
        }
        receive(client, generations, scratch, now);
    }
    Progress::Postponed
}

/// True when the backend has room for the client's next event.
fn backend_takes(client: &Client, generations: &Generations) -> bool {
    let Some(RequestRef { generation, id }) = client.request else { return true };
    generations.get(generation).is_none_or(|backend| backend.wants_body(id))
}

/// True while the client's request waits for a worker.
fn is_queued(client: &Client, generations: &Generations) -> bool {
    let Some(RequestRef { generation, id }) = client.request else { return false };
    generations.get(generation).is_some_and(|backend| backend.is_queued(id))
}

/// The client has left, or is not to have the rest.
fn leave(generations: &mut Generations, request: RequestRef, now: Instant) {
    if let Some(backend) = generations.get_mut(request.generation) {
        backend.leave(request.id, now);
    }
}

/// The rest of its body is none.
fn refuse(generations: &mut Generations, request: RequestRef, status: u16, now: Instant) {
    if let Some(backend) = generations.get_mut(request.generation) {
        backend.refuse_body(request.id, status, now);
    }
}

/// Reads once.
fn receive(client: &mut Client, generations: &Generations, scratch: &mut [u8], now: Instant) {
    let Some(transport) = &mut client.transport else { return };
    match transport.read(scratch) {
        Ok(0) => {
            client.readable = false;
            client.connection.handle_eof(now);
            // Whether a client that has closed its side still reads cannot be known. One whose request is being handled is given the
            // benefit of the doubt; one that has not got that far has left.
            if is_queued(client, generations) {
                client.connection.handle_disconnect();
            }
        }
        Ok(count) => {
            client.readable = !transport.is_drained_by(count, scratch.len()) || client.ended;
            client.connection.handle_input(&scratch[..count], now);
        }
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => client.readable = false,
        Err(_) => {
            client.readable = false;
            client.connection.handle_disconnect();
        }
    }
}

/// Writes as much as the socket takes, or, of a request of HTTP/2, gives as much to its session as the client has room for.
pub(super) fn flush(client: &mut Client, now: Instant) {
    client.connection.advance(now);
    let Some(transport) = &mut client.transport else { return };
    transport.flush();
    while client.writable && !client.connection.output().is_empty() {
        match transport.write(client.connection.output()) {
            Ok(count) => client.connection.consume_output(count, now),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => client.writable = false,
            Err(_) => client.connection.handle_disconnect(),
        }
    }
}

/// Takes the events that the backend has room for.
fn handle_events(
    client: &mut Client,
    generations: &mut Generations,
    counters: &mut Counters,
    scratch: &mut [u8],
    now: Instant,
) {
    while backend_takes(client, generations) {
        let Some(event) = client.connection.poll_event(now) else { return };
        let instead = match event {
            Event::Request(head) => {
                let continues = head.expects_continue;
                let backend = generations.current_mut();
                counters.handle_version(head.version);
                match backend.begin(client.key, client.peer, client.serve, &head, now) {
                    Ok((id, name)) => {
                        client.request = Some(backend.reference(id));
                        client.connection.name_request(name);
                        if continues {
                            client.connection.respond_continue(now);
                        }
                        None
                    }
                    Err(instead) => Some(instead),
                }
            }
            Event::Body(bytes) => pass_on(client.request, generations, |backend, id| backend.take_body(id, bytes, now)),
            Event::BodyEnd { trailers } => {
                pass_on(client.request, generations, |backend, id| backend.end_body(id, trailers, now))
            }
            Event::Refused { id, status, reason } => {
                log::debug!("{id} {:?} refused: {status} {reason}", client.peer);
                match client.request.take() {
                    Some(request) => refuse(generations, request, status, now),
                    None => generations.current_mut().note_refused(id, client.peer, status),
                }
                None
            }
            Event::ClientGone => {
                if let Some(request) = client.request.take() {
                    leave(generations, request, now);
                }
                None
            }
        };
        match instead {
            None => {}
            Some(Instead::Answer(id, answer)) => {
                client.request = None;
                let added = generations.current().app().response_headers(client.serve);
                report::respond(&mut client.connection, &answer, &id, added, now);
                // Nor does one who has pipelined hundreds have hundreds of answers before others have one.
                return;
            }
            Some(Instead::File(asked, reply)) => {
                client.connection.name_request(asked.id.clone());
                downloads::begin(client, generations.current_mut(), asked, *reply, scratch, now);
                // A file costs system calls: one for each round.
                return;
            }
        }
    }
}

/// Gives a part of a request to who has the rest of it. What comes back is the answer that ends it.
fn pass_on(
    request: Option<RequestRef>,
    generations: &mut Generations,
    take: impl FnOnce(&mut Backend, RequestId) -> Result<(), Answer>,
) -> Option<Instead> {
    let RequestRef { generation, id } = request?;
    let backend = generations.get_mut(generation)?;
    let name = backend.requests.get(id)?.name.clone();
    let answer = take(backend, id).err()?;
    Some(Instead::Answer(name, answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_have_something_to_do_the_less_each_does_in_a_turn() {
        let table = [(0, 32), (1, 32), (64, 32), (65, 31), (1000, 2), (1024, 2), (1025, 2), (1_000_000, 2)];
        for (clients, rounds) in table {
            assert_eq!(rounds_each(clients), rounds, "{clients}");
        }
    }
}
