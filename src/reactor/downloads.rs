//! Files on their way to clients: the head of a response, then the file behind it, in pieces of what the socket takes.
//!
//! Owns who is sent which file and how far it has come. A plain socket has the bytes from the kernel (sendfile(2)); TLS, and a short file, pass
//! through the connection's buffer, one piece at a time. `drive` drives it. What it reads may have to come from a disk, and then the whole
//! reactor waits: a piece is small for that reason, too.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::time::{Instant, SystemTime};

use crate::answer::Answer;
use crate::assets::{Brief, Content, Reply, Validators};
use crate::control::counters::Outcome;
use crate::http::{Header, PublicId, ResponseHead};
use crate::sys;

use super::account::Told;
use super::backend::Backend;
use super::clients::Client;
use super::drive::flush;
use super::generation::Generations;
use super::{Reactor, reply};

/// Bytes that one client is sent in one turn.
const TURN_BYTES: usize = 128 * 1024;

/// A body up to this size is read at once and leaves with its head.
const SHORT_BYTES_MAX: u64 = 16 * 1024;

/// A request for a file: what is told of it when it is over.
#[derive(Debug)]
pub(super) struct Asked {
    pub id: PublicId,
    pub peer: Option<SocketAddr>,
    pub began: Instant,
    pub generation: u64,
    pub told: Option<Box<Told>>,
}

/// What happens to a request that no worker has to see.
#[derive(Debug)]
pub(super) enum Instead {
    Answer(PublicId, Answer),
    File(Asked, Box<Reply>),
}

/// Why no request for a worker is made of a head.
pub(super) enum Refusal {
    Answer(Answer),
    File(Box<Reply>),
}

impl From<Answer> for Refusal {
    fn from(answer: Answer) -> Refusal {
        Refusal::Answer(answer)
    }
}

/// A file on its way.
#[derive(Debug)]
pub struct Download {
    asked: Asked,
    status: u16,
    file: File,
    /// What is sent next, and how much from there on.
    offset: u64,
    left: u64,
    sent: u64,
    way: Way,
    /// What has become of it when its connection ends before it.
    if_broken: Outcome,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// From the file to the socket, past this process.
    Sent,
    /// Through the connection's buffer.
    Copied,
}

/// How it goes on with a client's download.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pace {
    /// There is none.
    None,
    /// For the socket.
    Waits,
    /// Its share of the turn is used up.
    Spent,
    /// The connection has its next turn, or its end.
    Over,
}

/// Answers a request for a file. Its listener's fields are those of the generation that serves, which has just found the file.
pub(super) fn begin(
    client: &mut Client,
    backend: &mut Backend,
    asked: Asked,
    reply: Reply,
    scratch: &mut [u8],
    now: Instant,
) {
    let date =
        std::str::from_utf8(&client.connection.date()).ok().and_then(|date| httpdate::parse_http_date(date).ok());
    match reply {
        Reply::Content(content) => begin_content(client, backend, asked, content, date, scratch, now),
        Reply::NotModified(validators) => {
            let own = own_fields(&validators, date);
            let added = backend.app().response_headers(client.serve);
            let answered = respond_head(client, 304, &asked.id, &own, added, None, now);
            debug_assert!(answered.is_some(), "a response is owed, and these are legal values");
            backend.note_download(asked, 304, 0, Outcome::Served, now);
        }
        Reply::Brief(brief) => {
            let outcome = brief_outcome(&brief);
            let added = backend.app().response_headers(client.serve);
            let body_bytes = respond_brief(client, added, &brief, &asked.id, now);
            backend.note_download(asked, brief.status, body_bytes, outcome, now);
        }
    }
}

fn begin_content(
    client: &mut Client,
    backend: &mut Backend,
    asked: Asked,
    content: Content,
    date: Option<SystemTime>,
    scratch: &mut [u8],
    now: Instant,
) {
    let (status, range) = (content.status(), content.range());
    let length = range.end - range.start;
    let mut own = own_fields(&content.validators, date);
    own.push(("content-type", content.media_type.to_owned()));
    // The type is what the server says, and no browser is to find another in the bytes.
    own.push(("x-content-type-options", "nosniff".to_owned()));
    // Said here for HEAD as well, and for an empty file.
    own.push(("content-length", length.to_string()));
    if content.part.is_some() {
        own.push(("content-range", format!("bytes {}-{}/{}", range.start, range.end - 1, content.size)));
    }
    let added = backend.app().response_headers(client.serve);
    let Some(left) = respond_head(client, status, &asked.id, &own, added, Some(length), now) else {
        client.connection.abort();
        return backend.note_download(asked, 0, 0, Outcome::InternalError, now);
    };
    let is_short = left <= SHORT_BYTES_MAX;
    let way = if client.is_plain() && !is_short { Way::Sent } else { Way::Copied };
    let mut download = Download {
        asked,
        status,
        file: content.file,
        offset: range.start,
        left,
        sent: 0,
        way,
        if_broken: Outcome::ClientLeft,
    };
    if is_short && left > 0 {
        download.copy(client, scratch, now);
    }
    if download.left == 0 {
        download.conclude(backend, Outcome::Served, now);
    } else {
        client.download = Some(Box::new(download));
    }
}

/// Begins a response whose body, if it has one, follows. Returns how much does.
fn respond_head(
    client: &mut Client,
    status: u16,
    id: &PublicId,
    own: &[(&'static str, String)],
    added: &[(String, String)],
    body_length: Option<u64>,
    now: Instant,
) -> Option<u64> {
    let mut headers: Vec<Header<'_>> = Vec::with_capacity(own.len() + added.len());
    reply::add(&mut headers, own.iter().map(|(name, value)| (*name, value.as_bytes())), added);
    let head = ResponseHead { status, headers: &headers, request_id: id.as_str(), body_length };
    let connection = &mut client.connection;
    match body_length {
        Some(_) => connection.respond_beside(&head, now).ok(),
        None => connection.respond_head(&head, now).and_then(|()| connection.respond_end(&[], now)).ok().map(|()| 0),
    }
}

/// What is true of the file, in a 304 as well (RFC 9110, section 15.4.5).
fn own_fields(validators: &Validators, date: Option<SystemTime>) -> Vec<(&'static str, String)> {
    let mut own = vec![("etag", validators.tag().to_owned()), ("accept-ranges", "bytes".to_owned())];
    own.extend(validators.last_modified(date).map(|modified| ("last-modified", modified)));
    own
}

fn respond_brief(client: &mut Client, added: &[(String, String)], brief: &Brief, id: &PublicId, now: Instant) -> u64 {
    let mut headers: Vec<Header<'_>> = Vec::with_capacity(1 + added.len());
    headers.extend(brief.field.as_ref().map(|(name, value)| (*name, value.as_bytes())));
    // The type is that of the text.
    let added = added.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("content-type"));
    headers.extend(added.map(|(name, value)| (name.as_str(), value.as_bytes())));
    client.connection.respond_error(brief.status, brief.detail, id.as_str(), &headers, now)
}

fn brief_outcome(brief: &Brief) -> Outcome {
    match brief.status {
        404 => Outcome::Unrouted,
        500.. => Outcome::InternalError,
        _ => Outcome::Served,
    }
}

/// Sends what the client's socket takes of its file, once everything before it has left.
pub(super) fn go_on(client: &mut Client, generations: &mut Generations, scratch: &mut [u8], now: Instant) -> Pace {
    let Some(mut download) = client.download.take() else { return Pace::None };
    let mut share = TURN_BYTES;
    let pace = loop {
        if client.connection.is_closed() {
            break Pace::Waits;
        }
        if download.left == 0 {
            download.conclude(generations.current_mut(), Outcome::Served, now);
            return Pace::Over;
        }
        if !client.writable || client.connection.unsent() > 0 {
            break Pace::Waits;
        }
        if share == 0 {
            break Pace::Spent;
        }
        let before = download.sent;
        match download.way {
            Way::Sent => download.send(client, share, now),
            Way::Copied => {
                download.copy(client, scratch, now);
                flush(client, now);
            }
        }
        share = share.saturating_sub(usize::try_from(download.sent - before).unwrap_or(usize::MAX));
    };
    client.download = Some(download);
    pace
}

impl Download {
    fn send(&mut self, client: &mut Client, share: usize, now: Instant) {
        let count = usize::try_from(self.left).unwrap_or(usize::MAX).min(share);
        let Some(transport) = &client.transport else {
            self.way = Way::Copied;
            return;
        };
        match sys::send_file(&transport.socket, &self.file, self.offset, count) {
            Ok(0) => self.cut_short(client),
            Ok(count) => {
                self.advance(count);
                client.connection.handle_sent_beside(count as u64, now);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => client.writable = false,
            // Not every file system has a way past this process.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => self.way = Way::Copied,
            // Whether the socket or the disk has failed: nothing more can be sent.
            Err(_) => client.connection.handle_disconnect(),
        }
    }

    /// Puts a piece into the connection's buffer.
    fn copy(&mut self, client: &mut Client, scratch: &mut [u8], now: Instant) {
        let count = usize::try_from(self.left).unwrap_or(usize::MAX).min(scratch.len());
        match sys::read_file(&self.file, self.offset, &mut scratch[..count]) {
            Ok(0) => self.cut_short(client),
            Ok(count) => {
                self.advance(count);
                client.connection.respond_beside_bytes(&scratch[..count], now);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                log::error!("{} a file cannot be read: {error}", self.asked.id);
                self.if_broken = Outcome::InternalError;
                client.connection.abort();
            }
        }
    }

    fn advance(&mut self, count: usize) {
        let count = count as u64;
        self.offset += count;
        self.left = self.left.saturating_sub(count);
        self.sent += count;
    }

    /// The file has become shorter than was promised: there is no honest end for this response (RFC 9112, section 8).
    fn cut_short(&mut self, client: &mut Client) {
        self.if_broken = Outcome::InternalError;
        log::warn!("{} a file became shorter while it was sent: the connection is cut", self.asked.id);
        client.connection.abort();
    }

    /// Its connection has ended.
    pub(super) fn break_off(self, backend: &mut Backend, now: Instant) {
        let outcome = self.if_broken;
        self.conclude(backend, outcome, now);
    }

    /// Tells what has become of it.
    pub(super) fn conclude(self, backend: &mut Backend, outcome: Outcome, now: Instant) {
        backend.note_download(self.asked, self.status, self.sent, outcome, now);
    }
}

impl Reactor<'_> {
    /// The server does not wait any longer.
    pub(super) fn stop_downloads(&mut self, now: Instant) {
        for download in self.clients.downloads() {
            download.conclude(self.generations.current_mut(), Outcome::Stopped, now);
        }
    }
}
