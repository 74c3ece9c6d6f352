//! What stands between the server's call and an action: `Guest` of the generated bindings, for every component.
//!
//! Owns the conversion of a request and a response, and the traits that give an action its arguments. It may not look
//! into a request. The server drives it through the exports; the code that `#[handlers]` generates implements
//! [`Handlers`].

use crate::bindings::exports::rusm::http::handler::{
    Guest, Request as WireRequest, Response as WireResponse,
};
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
