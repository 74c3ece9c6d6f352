//! Requests, responses, and everything that an action may return.
//!
//! Owns the types that an author writes against. They hold bytes and strings, know nothing of the wire, and can be made
//! in a test on any machine; `guest` and authors' tests drive them.

mod body;
mod encoding;
mod error;
mod headers;
mod into_response;
mod params;
mod request;
mod response;
mod status;

pub use body::{Body, BodyError};
pub use error::{Error, Result};
pub use headers::Headers;
pub use into_response::{IntoResponse, Json};
pub use params::Params;
pub use request::{Request, RequestBuilder};
pub use response::{Html, Response};
pub use status::StatusCode;

pub(crate) use request::RequestParts;
pub(crate) use response::ResponseParts;
