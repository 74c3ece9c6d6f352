//! The `wasi:http` worlds, 0.2 and 0.3, through wasmtime-wasi-http.
//!
//! Owns the translation of a request's head to what that crate takes, and the call of the export. Bodies are not collected:
//! `Upload` feeds the one, `Reply` drains the other while the guest runs.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header, uri};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use rusmd_proto::{RequestHead, Scheme};
use tokio::sync::oneshot;
use wasmtime::Store;
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme as Scheme02;
use wasmtime_wasi_http::p3::bindings::ServicePre;
use wasmtime_wasi_http::{Error, WasiBody, WasiHttpView, p3};

use crate::headers;
use crate::host::Guest;
use crate::reply::{Answer, AnswerSlot, PASS_ON_AFTER};
use crate::sys::signals;
use crate::upload::{Upload, UploadBody};

/// What the export's name begins with in 0.2.
pub const INCOMING_HANDLER_02: &str = "wasi:http/incoming-handler@0.2.";

/// What the export's name begins with in 0.3.
pub const HANDLER_03: &str = "wasi:http/handler@0.3.";

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The request as wasmtime-wasi-http takes it. `Err` says what cannot be expressed there.
pub fn request(head: &RequestHead<'_>, upload: Upload) -> Result<http::Request<UploadBody>, String> {
    let mut parts = uri::Parts::default();
    parts.scheme = Some(match head.scheme {
        Scheme::Http => uri::Scheme::HTTP,
        Scheme::Https => uri::Scheme::HTTPS,
    });
    // A request without a host (HTTP/1.0) has an authority all the same, since the interface demands one.
    let authority = if head.authority.is_empty() { "localhost" } else { head.authority };
    parts.authority = Some(authority.parse().map_err(|_| format!("the authority {authority:?} is not valid"))?);
    let target = match (head.path, head.query) {
        // An absolute URI cannot carry the asterisk form (RFC 9112, section 3.2.4).
        ("*", _) => "/*".to_owned(),
        (path, None) => path.to_owned(),
        (path, Some(query)) => format!("{path}?{query}"),
    };
    let target = match uri::PathAndQuery::try_from(&target) {
        Ok(target) => target,
        Err(_) => uri::PathAndQuery::from_maybe_shared(Bytes::from(encoded(&target)))
            .map_err(|_| format!("the path {:?} is not valid", head.path))?,
    };
    parts.path_and_query = Some(target);
    let mut request = http::Request::new(UploadBody(upload));
    *request.uri_mut() = Uri::from_parts(parts).map_err(|error| error.to_string())?;
    *request.method_mut() =
        Method::from_bytes(head.method.as_bytes()).map_err(|_| format!("the method {:?} is not valid", head.method))?;
    *request.headers_mut() = headers::to_map(&head.headers)?;
    let host = HeaderValue::from_str(authority).map_err(|error| error.to_string())?;
    request.headers_mut().insert(header::HOST, host);
    tell_client(head, request.headers_mut());
    Ok(request)
}

/// Says who the client is, and how it has asked, in the fields that frameworks look at: the interface has no other place for an address. They
/// take the place of what a proxy has written, which is where the supervisor has found the client.
fn tell_client(head: &RequestHead<'_>, fields: &mut HeaderMap) {
    let address = head.peer.and_then(|peer| HeaderValue::try_from(peer.ip().to_canonical().to_string()).ok());
    match address {
        Some(address) => drop(fields.insert(X_FORWARDED_FOR, address)),
        None => drop(fields.remove(X_FORWARDED_FOR)),
    }
    let scheme = match head.scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
    };
    fields.insert(X_FORWARDED_PROTO, HeaderValue::from_static(scheme));
}

/// Runs a 0.2 component on a fresh instance. What it answers goes to `slot`, long before this ends if the guest likes.
pub async fn handle_02(
    pre: &ProxyPre<Guest>,
    store: &mut Store<Guest>,
    request: http::Request<UploadBody>,
    slot: AnswerSlot,
) -> wasmtime::Result<()> {
    let scheme = match request.uri().scheme_str() {
        Some("https") => Scheme02::Https,
        Some(_) | None => Scheme02::Http,
    };
    let request = store.data_mut().http().new_incoming_request(scheme, request)?;
    let out = store.data_mut().http().new_response_outparam_from_callback(move |answer| {
        signals::set_alarm(PASS_ON_AFTER);
        slot.set(match answer {
            Ok(response) => Answer::Stream(response),
            Err(code) => Answer::Refused(format!("the guest answered with the error {}", plain(&code))),
        });
    })?;
    let proxy = pre.instantiate_async(&mut *store).await?;
    proxy.wasi_http_incoming_handler().call_handle(store, request, out).await
}

/// Runs a 0.3 component on a fresh instance, until its body has been taken and its last task has ended.
pub async fn handle_03(
    pre: &ServicePre<Guest>,
    store: &mut Store<Guest>,
    request: http::Request<UploadBody>,
    slot: AnswerSlot,
) -> wasmtime::Result<()> {
    let (request, transmitted) = p3::Request::from_http(store.data_mut().http().hooks, request);
    let service = pre.instantiate_async(&mut *store).await?;
    store
        .run_concurrent(async |accessor| {
            let response = match service.handle(accessor, request).await? {
                Ok(response) => response,
                Err(code) => {
                    slot.set(Answer::Refused(format!("the guest answered with the error {}", plain(&code))));
                    return Ok(());
                }
            };
            let response = accessor.with(|mut store| response.into_http(&mut store, transmitted))?;
            let (ended, end) = oneshot::channel();
            slot.set(Answer::Stream(response.map(|body| Watched { body, _ended: ended }.boxed_unsync())));
            // The sender is dropped with the body, and the guest's own part of the body runs only while this future does.
            let _ = end.await;
            poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
            Ok(())
        })
        .await?
}

/// Percent-encodes what clients send as it is although a URI has no such characters (RFC 3986, section 2), quotes and angle brackets
/// above all: servers accept them, the type of the interface does not.
fn encoded(target: &str) -> String {
    let mut encoded = String::with_capacity(target.len() + 8);
    for character in target.chars() {
        match character {
            '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}' => {
                encoded.push_str(&format!("%{:02X}", u32::from(character)));
            }
            _ => encoded.push(character),
        }
    }
    encoded
}

/// An error code as one word and its details, without the noise of the generated names.
fn plain(code: &impl std::fmt::Debug) -> String {
    let text = format!("{code:?}");
    text.strip_prefix("ErrorCode::").map_or(text.clone(), str::to_owned)
}

/// A body whose end, or whose being given up, can be waited for.
#[derive(Debug)]
struct Watched {
    body: WasiBody,
    _ended: oneshot::Sender<()>,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Error>>> {
        Pin::new(&mut self.body as &mut UnsyncBoxBody<Bytes, Error>).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}
