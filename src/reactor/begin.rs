//! How a request begins: who asks, what it is called, who answers it, and its head as a worker is sent it.
//!
//! Owns what a component is told of a request beside its body. Driven by `drive`; what follows of the request is `backend`'s.

use std::net::SocketAddr;
use std::time::Instant;

use rusmd_proto::{RequestHead, RequestId, Scheme, ToWorker};

use crate::answer::Answer;
use crate::app::Lookup;
use crate::assets;
use crate::blame::Key;
use crate::http::{self, Header, Origin, PublicId, REQUEST_ID_FIELD};
use crate::request::{ClientKey, Request, Upload};
use crate::router::Params;

use super::backend::{Backend, refusal};
use super::downloads::{Asked, Instead, Refusal};

/// Whose request it is.
struct Asker<'a> {
    /// The peer of the connection is believed.
    is_trusted: bool,
    origin: Origin<'a>,
    name: PublicId,
}

impl Backend {
    /// Routes a request and encodes its head. Its body follows by [`Backend::take_body`] and [`Backend::end_body`].
    pub fn begin(
        &mut self,
        client: ClientKey,
        peer: Option<SocketAddr>,
        serve: usize,
        head: &http::RequestHead<'_>,
        now: Instant,
    ) -> Result<(RequestId, PublicId), Instead> {
        let id = self.requests.next_id();
        let asker = self.asker(id, serve, peer, head);
        let (name, peer) = (asker.name.clone(), asker.origin.peer);
        let request = match self.prepare(id, asker, client, serve, head, now) {
            Ok(request) => request,
            Err(Refusal::Answer(answer)) => {
                self.note_answered(name.clone(), peer, head, &answer);
                return Err(Instead::Answer(name, answer));
            }
            Err(Refusal::File(reply)) => {
                let asked = Asked { id: name, peer, began: now, generation: self.number, told: self.told(head) };
                return Err(Instead::File(asked, reply));
            }
        };
        let is_whole = request.upload == Upload::Over;
        if !self.requests.insert(request) {
            self.note_answered(name.clone(), peer, head, &Answer::OVERLOADED);
            return Err(Instead::Answer(name, Answer::OVERLOADED));
        }
        if is_whole && let Err(answer) = self.admit(id, now) {
            return Err(Instead::Answer(name, answer));
        }
        Ok((id, name))
    }

    /// Who asks: the peer of the connection, unless that is trusted and says otherwise.
    fn asker<'a>(
        &self,
        id: RequestId,
        serve: usize,
        peer: Option<SocketAddr>,
        head: &http::RequestHead<'a>,
    ) -> Asker<'a> {
        let origin = Origin { peer, scheme: head.scheme, authority: None };
        let name = self.name(id, serve, peer, head);
        if !self.app.trusts(serve, peer) {
            return Asker { is_trusted: false, origin, name };
        }
        let is_proxy = |address| self.app.trusts(serve, Some(SocketAddr::new(address, 0)));
        // A target in absolute form says how it was asked for, unless a field knows better.
        let scheme = if head.claims_https { http::Scheme::Https } else { head.scheme };
        let origin = Origin::find(head.headers.iter(), Origin { scheme, ..origin }, is_proxy);
        Asker { is_trusted: true, origin, name }
    }

    /// What everybody calls this request: as the client says, if it may, once and in a form that can stand anywhere; else by a name that is made.
    fn name(&self, id: RequestId, serve: usize, peer: Option<SocketAddr>, head: &http::RequestHead<'_>) -> PublicId {
        let mut given = head.headers.iter().filter(|(name, _)| *name == REQUEST_ID_FIELD);
        let name = given.next().filter(|_| given.next().is_none() && self.app.lets_name(serve, peer));
        name.and_then(|(_, value)| PublicId::given(value)).unwrap_or_else(|| self.ids.of(id.0))
    }

    /// Makes a request of a head, unless it is answered at once.
    fn prepare(
        &mut self,
        id: RequestId,
        asker: Asker<'_>,
        client: ClientKey,
        serve: usize,
        head: &http::RequestHead<'_>,
        now: Instant,
    ) -> Result<Request, Refusal> {
        if head.claims_https && !asker.is_trusted {
            return Err(Answer::MISDIRECTED.into());
        }
        let mut params = Params::new();
        let (component, action, path) = match self.app.lookup(serve, head, &mut params) {
            Lookup::Handler { component, action, path } => (component, action, path),
            Lookup::File { directory, path } => {
                let Some(root) = &directory.root else { return Err(Answer::BROKEN.into()) };
                let reply = assets::reply(root, directory.skipped, &path, head);
                return Err(Refusal::File(Box::new(reply)));
            }
            Lookup::Answer(answer) => return Err(answer.into()),
        };
        let fingerprint = self.blame.fingerprint(Key { component, action, path: &path });
        if let Some(answer) = refusal(self.blame.verdict(fingerprint, now)) {
            return Err(answer.into());
        }
        // RFC 9110, section 10.1.1: a client that asks whether to send its body is spared one that could not be taken anyway.
        if head.expects_continue && !self.has_place() {
            return Err(Answer::OVERLOADED.into());
        }
        let body_bytes = match head.body {
            http::BodyLength::None => Some(0),
            http::BodyLength::Known(bytes) => Some(bytes),
            http::BodyLength::Chunked => None,
        };
        let Asker { is_trusted, origin, name } = asker;
        let wire = RequestHead {
            component,
            action,
            method: head.method,
            scheme: match origin.scheme {
                http::Scheme::Http => Scheme::Http,
                http::Scheme::Https => Scheme::Https,
            },
            authority: origin.authority.unwrap_or(head.authority),
            path: &path,
            query: head.query,
            peer: origin.peer,
            body_bytes,
            params: params.iter().collect(),
            headers: fields(head, is_trusted, &origin, &name),
        };
        let mut frames = self.spare_frames.pop().unwrap_or_default();
        let end = body_bytes == Some(0);
        if (ToWorker::Request { id, head: wire, end }).encode(&mut frames).is_err() {
            return Err(Answer::new(431, "the request's head is too large").into());
        }
        let mut request = Request::new(id, name, client, serve, component, frames, now, now + self.request_timeout);
        request.fingerprint = fingerprint;
        request.trace.version = head.version;
        if end {
            request.upload = Upload::Over;
        }
        Ok(request)
    }
}

/// The fields that a component is given. What says on whose behalf somebody asks, and by what way, comes from trusted proxies or not at all; rusmd
/// adds no `Via` of its own, for it passes no message on (RFC 9110, section 7.6.3): to HTTP it is the origin.
fn fields<'a>(
    head: &http::RequestHead<'a>,
    is_trusted: bool,
    origin: &Origin<'a>,
    name: &'a PublicId,
) -> Vec<Header<'a>> {
    // A field that only looks like one of a proxy's is none.
    let may_say = |field: &str| is_trusted && !field.contains('_');
    let passes = |field: &str| (may_say(field) || !http::is_of_proxies(field)) && !http::is_request_id(field);
    let mut fields = Vec::with_capacity(head.headers.len() + 1);
    fields.extend(head.headers.iter().filter(|(field, _)| passes(field)));
    if let Some(authority) = origin.authority {
        fields.iter_mut().filter(|(field, _)| *field == "host").for_each(|field| field.1 = authority.as_bytes());
    }
    fields.push((REQUEST_ID_FIELD, name.as_str().as_bytes()));
    fields
}
