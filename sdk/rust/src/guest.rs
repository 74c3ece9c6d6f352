//! What stands between the server's call and an action: `Guest` of the generated bindings, for every component.
//!
//! Owns the conversion of a request and a response, and the traits that give an action its arguments. It may not look
//! into a request. The server drives it through the exports; the code that `#[handlers]` generates implements
//! [`Handlers`].

use crate::bindings::exports::rusm::http::handler::{Guest, Request as WireRequest, Response as WireResponse};
use crate::http::{Headers, IntoResponse, Params, Request, RequestParts, Response, ResponseParts};
use crate::logger;

/// A component: the names of its actions, and a way to run one of them.
pub trait Handlers {
    /// The names, in the order in which they are written.
    const ACTIONS: &'static [&'static str];

    /// Runs the action `name`.
    fn run(name: &str, arguments: Arguments) -> Response;
}

impl<T: Handlers> Guest for T {
    fn actions() -> Vec<String> {
        T::ACTIONS.iter().map(|&name| name.to_owned()).collect()
    }

    fn handle(action: String, params: Vec<(String, String)>, request: WireRequest) -> WireResponse {
        logger::install();
        let arguments = Arguments { request: request.into(), params: Params::from(params) };
        T::run(&action, arguments).into()
    }
}

/// What an action can be given.
#[derive(Debug)]
pub struct Arguments {
    /// The request.
    pub request: Request,
    /// The parameters of the route.
    pub params: Params,
}

/// Traps: the server checks a route's action when it loads the component, so it never asks for another.
pub fn no_such_action(name: &str) -> Response {
    panic!("the component has no action `{name}`")
}

/// Makes the response of what an action returned.
pub fn respond(returned: impl IntoResponse) -> Response {
    returned.into_response()
}

/// What the only parameter of an action may be.
#[diagnostic::on_unimplemented(
    message = "an action cannot take `{Self}`",
    label = "neither `Request` nor `Params`",
    note = "an action is `fn()`, `fn(Request)`, `fn(Params)` or `fn(Request, Params)`, with the types of `rusm_rs::http`, by value"
)]
pub trait OnlyArgument {
    /// Takes it out of the arguments.
    fn take(arguments: Arguments) -> Self;
}

impl OnlyArgument for Request {
    fn take(arguments: Arguments) -> Request {
        arguments.request
    }
}

impl OnlyArgument for Params {
    fn take(arguments: Arguments) -> Params {
        arguments.params
    }
}

/// What the first of two parameters of an action may be.
#[diagnostic::on_unimplemented(
    message = "the first parameter of an action cannot be `{Self}`",
    label = "not `Request`",
    note = "an action with two parameters is `fn(Request, Params)`, with the types of `rusm_rs::http`, by value"
)]
pub trait FirstOfTwo {
    /// Makes it of the request.
    fn take(request: Request) -> Self;
}

impl FirstOfTwo for Request {
    fn take(request: Request) -> Request {
        request
    }
}

/// What the second of two parameters of an action may be.
#[diagnostic::on_unimplemented(
    message = "the second parameter of an action cannot be `{Self}`",
    label = "not `Params`",
    note = "an action with two parameters is `fn(Request, Params)`, with the types of `rusm_rs::http`, by value"
)]
pub trait SecondOfTwo {
    /// Makes it of the parameters of the route.
    fn take(params: Params) -> Self;
}

impl SecondOfTwo for Params {
    fn take(params: Params) -> Params {
        params
    }
}

impl From<WireRequest> for Request {
    fn from(wire: WireRequest) -> Request {
        Request::from_parts(RequestParts {
            id: wire.id,
            method: wire.method,
            scheme: wire.scheme,
            authority: wire.authority,
            path: wire.path,
            query: wire.query,
            headers: Headers::from(wire.headers),
            body: wire.body,
            peer: wire.peer,
        })
    }
}

impl From<Response> for WireResponse {
    fn from(response: Response) -> WireResponse {
        let ResponseParts { status, headers, body } = response.into_parts();
        WireResponse { status, headers: headers.into(), body }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_from_the_server_keeps_every_part() {
        let request = Request::from(WireRequest {
            id: "r1".to_owned(),
            method: "PATCH".to_owned(),
            scheme: "https".to_owned(),
            authority: "example.org:8443".to_owned(),
            path: "/a%20b".to_owned(),
            query: Some("q=1".to_owned()),
            headers: vec![("x-raw".to_owned(), vec![0xff])],
            body: b"body".to_vec(),
            peer: Some("[::1]:9".to_owned()),
        });
        assert_eq!((request.id(), request.method(), request.scheme()), ("r1", "PATCH", "https"));
        assert_eq!((request.authority(), request.path()), ("example.org:8443", "/a%20b"));
        assert_eq!((request.raw_query(), request.query("q")), (Some("q=1"), Some("1")));
        assert_eq!(request.headers().get_bytes("X-Raw"), Some([0xff].as_slice()));
        assert_eq!((request.body(), request.peer()), (b"body".as_slice(), "[::1]:9".parse().ok()));
    }

    #[test]
    fn a_response_goes_to_the_server_as_the_action_made_it() {
        let wire = WireResponse::from(Response::new(700, "odd").append_header("X-A", "1"));
        assert_eq!((wire.status, wire.body.as_slice()), (700, b"odd".as_slice()));
        let text = (String::from("content-type"), b"text/plain; charset=utf-8".to_vec());
        assert_eq!(wire.headers, [text, ("x-a".to_owned(), b"1".to_vec())]);
    }

    #[test]
    #[should_panic(expected = "the component has no action `nope`")]
    fn an_action_that_is_not_there_traps() {
        let _ = no_such_action("nope");
    }
}
