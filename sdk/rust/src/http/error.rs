//! The error that an action can return with `?`.
//!
//! Owns the line between what a client may read and what belongs in the log. `into_response` drives it.

use std::error::Error as StdError;
use std::fmt;

use crate::http::{BodyError, IntoResponse, Response, StatusCode};

/// `Result<Response>`, or `Result<Json<User>>`, and so on: what an action that uses `?` returns.
pub type Result<T = Response, E = Error> = std::result::Result<T, E>;

/// A failure that becomes a response.
///
/// Any other error turns into it through `?`. The client then gets a plain 500; the error and its causes go to the
/// server's log. A failure that the client should hear about says so:
///
/// ```
/// use rusm_rs::http::{Error, IntoResponse, Params, Response, Result};
///
/// fn show(params: Params) -> Result {
///     let name = params.get("name").ok_or_else(|| Error::new(400, "a name is needed"))?;
///     let file = std::fs::read_to_string(format!("/data/{name}"))?; // 500, logged
///     Ok(Response::text(file))
/// }
///
/// assert_eq!(show(Params::default()).into_response().status(), 400);
/// assert_eq!(show(Params::from([("name", "none")])).into_response().body(), b"500 Internal Server Error\n");
/// ```
pub struct Error(Kind);

enum Kind {
    Public { status: StatusCode, message: String },
    Internal(Box<dyn StdError>),
}

impl Error {
    /// A failure with a message for the client.
    pub fn new(status: impl Into<StatusCode>, message: impl Into<String>) -> Error {
        Error(Kind::Public { status: status.into(), message: message.into() })
    }

    /// The status that the client will get.
    pub fn status(&self) -> StatusCode {
        match &self.0 {
            Kind::Public { status, .. } => *status,
            Kind::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl<E: Into<Box<dyn StdError>>> From<E> for Error {
    fn from(error: E) -> Error {
        let error = error.into();
        match error.downcast_ref::<BodyError>() {
            Some(body) => Error::new(StatusCode::BAD_REQUEST, body.message()),
            None => Error(Kind::Internal(error)),
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        match self.0 {
            Kind::Public { status, message } => Response::new(status, message),
            Kind::Internal(_) => {
                log::error!("the action failed: {self}");
                Response::from(StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Public { message, .. } => formatter.write_str(message),
            Kind::Internal(error) => {
                write!(formatter, "{error}")?;
                let mut cause = error.source();
                while let Some(error) = cause {
                    write!(formatter, ": {error}")?;
                    cause = error.source();
                }
                Ok(())
            }
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Error({}, {:?})", self.status().as_u16(), self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Request;

    #[test]
    fn any_error_becomes_a_500_that_tells_the_client_nothing() {
        let error = Error::from("x".parse::<u8>().expect_err("no number"));
        assert_eq!(error.to_string(), "invalid digit found in string");
        let response = error.into_response();
        assert_eq!((response.status().as_u16(), response.body()), (500, b"500 Internal Server Error\n".as_slice()));
    }

    #[test]
    fn a_string_becomes_an_internal_error() {
        assert_eq!(Error::from("the disk is full").status(), 500);
        assert_eq!(Error::from(String::from("the disk is full")).status(), 500);
    }

    #[test]
    fn a_body_error_stays_a_400_through_the_question_mark() {
        fn parse(request: &Request) -> Result<u8> {
            Ok(request.json()?)
        }
        let error = parse(&Request::builder("POST", "/").body("nonsense").build()).expect_err("no JSON");
        assert_eq!(error.status(), 400);
        assert!(error.to_string().starts_with("the request body is not the JSON"), "{error}");
    }

    #[test]
    fn an_error_shows_its_causes() {
        let request = Request::builder("POST", "/").body("nonsense").build();
        let nested = std::io::Error::other(request.json::<u8>().expect_err("no JSON"));
        assert!(Error::from(nested).to_string().starts_with("the request body is not"));
    }
}
