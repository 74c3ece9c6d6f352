//! What an action may return.
//!
//! Owns [`IntoResponse`] and its implementations. The code that `#[handlers]` generates drives it.

use std::borrow::Cow;
use std::convert::Infallible;

use serde::Serialize;

use crate::http::{Html, Response, StatusCode};

/// A type that an action may return. Implement it for a type of yours, in particular for an error type.
///
/// ```
/// use rusm_rs::http::{IntoResponse, Response};
///
/// enum Failure {
///     NoSuchUser(u64),
///     Closed,
/// }
///
/// impl IntoResponse for Failure {
///     fn into_response(self) -> Response {
///         match self {
///             Failure::NoSuchUser(id) => Response::new(404, format!("no user {id}")),
///             Failure::Closed => Response::new(503, "come back tomorrow"),
///         }
///     }
/// }
/// # assert_eq!(Err::<(), _>(Failure::NoSuchUser(1)).into_response().status(), 404);
/// # assert_eq!(Failure::Closed.into_response().status(), 503);
/// ```
#[diagnostic::on_unimplemented(
    message = "an action cannot return `{Self}`",
    label = "this does not become a response",
    note = "return `Response`, text, bytes, `Json(value)`, `Html(text)`, `StatusCode`, `(status, any of these)`, an `Option` or a `Result` of these, or implement `rusm_rs::http::IntoResponse` for your type",
    note = "an action with `?` in it returns `rusm_rs::http::Result`"
)]
pub trait IntoResponse {
    /// Makes the response.
    fn into_response(self) -> Response;
}

/// A value to send as JSON: `Json(user)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl IntoResponse for Response {
    fn into_response(self) -> Response {
        self
    }
}

impl IntoResponse for Infallible {
    fn into_response(self) -> Response {
        match self {}
    }
}

/// 204.
impl IntoResponse for () {
    fn into_response(self) -> Response {
        Response::empty(StatusCode::NO_CONTENT)
    }
}

impl IntoResponse for StatusCode {
    fn into_response(self) -> Response {
        Response::from(self)
    }
}

macro_rules! text {
    ($($text:ty),*) => {
        $(
            /// 200 with text.
            impl IntoResponse for $text {
                fn into_response(self) -> Response {
                    Response::text(self)
                }
            }
        )*
    };
}

text!(&str, String, Box<str>, Cow<'_, str>);

macro_rules! bytes {
    ($($bytes:ty),*) => {
        $(
            /// 200 with bytes.
            impl IntoResponse for $bytes {
                fn into_response(self) -> Response {
                    Response::bytes(self)
                }
            }
        )*
    };
}

bytes!(&[u8], Vec<u8>, Box<[u8]>);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        Response::json(self.0)
    }
}

impl IntoResponse for serde_json::Value {
    fn into_response(self) -> Response {
        Response::json(self)
    }
}

impl<T: Into<String>> IntoResponse for Html<T> {
    fn into_response(self) -> Response {
        Response::html(self.0)
    }
}

/// The response, with another status.
impl<S: Into<StatusCode>, T: IntoResponse> IntoResponse for (S, T) {
    fn into_response(self) -> Response {
        self.1.into_response().with_status(self.0)
    }
}

/// `None` is 404.
impl<T: IntoResponse> IntoResponse for Option<T> {
    fn into_response(self) -> Response {
        self.map_or_else(|| Response::from(StatusCode::NOT_FOUND), T::into_response)
    }
}

/// The error is answered as it says; one that does not say that it is an error (a `String`, for example) was not written
/// for the client: it is logged and answered with a plain 500.
impl<T: IntoResponse, E: IntoResponse> IntoResponse for Result<T, E> {
    fn into_response(self) -> Response {
        let response = match self {
            Ok(value) => return value.into_response(),
            Err(error) => error.into_response(),
        };
        if !response.status().is_success() {
            return response;
        }
        log::error!("the action failed: {}", String::from_utf8_lossy(response.body()));
        Response::from(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status_and_body(value: impl IntoResponse) -> (u16, String) {
        let response = value.into_response();
        (response.status().as_u16(), String::from_utf8_lossy(response.body()).into_owned())
    }

    #[test]
    fn every_kind_of_value_becomes_the_response_that_one_expects() {
        let expect = |got: (u16, String), status: u16, body: &str| assert_eq!(got, (status, body.to_owned()));
        expect(status_and_body(Response::new(418, "tea")), 418, "tea");
        expect(status_and_body("text"), 200, "text");
        expect(status_and_body(String::from("text")), 200, "text");
        expect(status_and_body(vec![b'x']), 200, "x");
        expect(status_and_body(b"x".as_slice()), 200, "x");
        expect(status_and_body(()), 204, "");
        expect(status_and_body(StatusCode::NOT_FOUND), 404, "404 Not Found\n");
        expect(status_and_body(StatusCode::ACCEPTED), 202, "");
        expect(status_and_body((201, "made")), 201, "made");
        expect(status_and_body((StatusCode::CREATED, Json([1, 2]))), 201, "[1,2]");
        expect(status_and_body(Html("<p>")), 200, "<p>");
        expect(status_and_body(Some("here")), 200, "here");
        expect(status_and_body(None::<&str>), 404, "404 Not Found\n");
        expect(status_and_body(Ok::<_, Infallible>("fine")), 200, "fine");
        expect(status_and_body(Err::<(), _>((409, "taken"))), 409, "taken");
    }

    #[test]
    fn an_error_that_does_not_say_so_is_a_500_without_its_text() {
        assert_eq!(status_and_body(Err::<(), _>("secret path")), (500, "500 Internal Server Error\n".to_owned()));
    }

    #[test]
    fn a_redirect_as_an_error_is_sent() {
        assert_eq!(status_and_body(Err::<(), _>(Response::redirect("/login"))).0, 302);
    }
}
