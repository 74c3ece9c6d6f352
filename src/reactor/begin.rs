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
use crate::http::{self, PublicId, REQUEST_ID_FIELD};
use crate::request::{ClientKey, Request, Upload};
use crate::router::Params;

use super::backend::{Backend, refusal};
use super::downloads::{Asked, Instead, Refusal};

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
        let name = self.name(id, self.app.trusts(serve, peer), head);
        let request = match self.prepare(id, name.clone(), client, peer, serve, head, now) {
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

    /// What everybody calls this request: what a trusted proxy calls it, if it says so once and in a form that can stand anywhere.
    fn name(&self, id: RequestId, is_trusted: bool, head: &http::RequestHead<'_>) -> PublicId {
        let mut given = head.headers.iter().filter(|(name, _)| is_trusted && *name == REQUEST_ID_FIELD);
        let name = given.next().and_then(|(_, value)| PublicId::given(value)).filter(|_| given.next().is_none());
        name.unwrap_or_else(|| self.ids.of(id.0))
    }

    /// Makes a request of a head, unless it is answered at once.
    #[expect(clippy::too_many_arguments, reason = "private, and each is a part of the request")]
    fn prepare(
        &mut self,
        id: RequestId,
        name: PublicId,
        client: ClientKey,
        peer: Option<SocketAddr>,
        serve: usize,
        head: &http::RequestHead<'_>,
        now: Instant,
    ) -> Result<Request, Refusal> {
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
        let body_bytes = match head.body {
            http::BodyLength::None => Some(0),
            http::BodyLength::Known(bytes) => Some(bytes),
            http::BodyLength::Chunked => None,
        };
        let is_trusted = self.app.trusts(serve, peer);
        let passes = |name: &str| (is_trusted || !http::is_forwarding(name)) && !http::is_request_id(name);
        let mut headers = Vec::with_capacity(head.headers.len() + 1);
        headers.extend(head.headers.iter().filter(|(name, _)| passes(name)));
        headers.push((REQUEST_ID_FIELD, name.as_str().as_bytes()));
        let wire = RequestHead {
            component,
            action,
            method: head.method,
            scheme: match head.scheme {
                http::Scheme::Http => Scheme::Http,
                http::Scheme::Https => Scheme::Https,
            },
            authority: head.authority,
            path: &path,
            query: head.query,
            peer,
            body_bytes,
            params: params.iter().collect(),
            headers,
        };
        let mut frames = self.spare_frames.pop().unwrap_or_default();
        let end = body_bytes == Some(0);
        if (ToWorker::Request { id, head: wire, end }).encode(&mut frames).is_err() {
            return Err(Answer::new(431, "the request's head is too large").into());
        }
        let mut request = Request::new(id, name, client, serve, component, frames, now, now + self.request_timeout);
        request.fingerprint = fingerprint;
        if end {
            request.upload = Upload::Over;
        }
        Ok(request)
    }
}
