//! What a response body can be made of, and what can be wrong with a request body.
//!
//! Owns the media type that goes with each kind of value. `request` and `response` drive it.

use std::borrow::Cow;
use std::fmt;
use std::str::Utf8Error;

use crate::http::{IntoResponse, Response};

pub(crate) const TEXT: &str = "text/plain; charset=utf-8";
pub(crate) const HTML: &str = "text/html; charset=utf-8";
pub(crate) const JSON: &str = "application/json";
pub(crate) const BYTES: &str = "application/octet-stream";

/// A body: text, bytes, or nothing. Text is sent as `text/plain; charset=utf-8` and bytes as `application/octet-stream`,
/// unless the response says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body {
    pub(crate) bytes: Vec<u8>,
    pub(crate) media_type: Option<&'static str>,
}

macro_rules! bodies {
    ($media_type:ident: $(($($generics:tt)*) $from:ty,)*) => {
        $(
            impl<$($generics)*> From<$from> for Body {
                fn from(content: $from) -> Body {
                    Body { bytes: content.into(), media_type: Some($media_type) }
                }
            }
        )*
    };
}

bodies!(TEXT: () &str, () String,);
bodies!(BYTES: () Vec<u8>, () &[u8], () Box<[u8]>, (const LENGTH: usize) [u8; LENGTH], (const LENGTH: usize) &[u8; LENGTH],);

impl From<&String> for Body {
    fn from(content: &String) -> Body {
        Body::from(content.as_str())
    }
}

impl From<Cow<'_, str>> for Body {
    fn from(content: Cow<'_, str>) -> Body {
        Body::from(content.into_owned())
    }
}

impl From<()> for Body {
    fn from((): ()) -> Body {
        Body::default()
    }
}

/// Why a request body is not what the action asked for. The client is to blame, so it becomes a response with status 400,
/// also when it goes through `?` into an [`Error`](crate::http::Error).
#[derive(Debug)]
pub enum BodyError {
    /// The body is not UTF-8.
    NotText(Utf8Error),
    /// The body is not JSON, or not of the shape that the type has.
    NotJson(serde_json::Error),
}

impl fmt::Display for BodyError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            BodyError::NotText(_) => "the request body is not UTF-8",
            BodyError::NotJson(_) => "the request body is not the JSON that is expected here",
        })
    }
}

impl std::error::Error for BodyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            BodyError::NotText(source) => Some(source),
            BodyError::NotJson(source) => Some(source),
        }
    }
}

impl BodyError {
    /// What the client is told: it concerns nothing but what the client sent.
    pub(crate) fn message(&self) -> String {
        match self {
            BodyError::NotText(source) => format!("{self}: {source}"),
            BodyError::NotJson(source) => format!("{self}: {source}"),
        }
    }
}

impl IntoResponse for BodyError {
    fn into_response(self) -> Response {
        Response::new(400, self.message())
    }
}
