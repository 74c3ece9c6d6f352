//! The server side of HTTP/1.1, HTTP/1.0 and HTTP/2, without I/O (RFC 9110, RFC 9112, RFC 9113).
//!
//! Owns one client's protocol state and its two buffers, from the first byte of a request to the last of its response. Never
//! touches a socket, a clock, a log or a route. The reactor drives it: bytes and time in, events and bytes out. Stricter than the
//! RFC wherever it leaves a choice between refusing and guessing.
//!
//! - `connection`: the lifecycle of a connection of HTTP/1.1
//! - `h2`: a connection of HTTP/2, and its streams
//! - `protocol`: any of these, the only type that the reactor handles
//! - `head`, `target`, `fields`, `lines`, `body`: what a client sends
//! - `forwarded`: on whose behalf a proxy asks
//! - `response`: what it is sent
//! - `request_id`: what everybody calls a request
//! - `limits`, `context`, `error`: sizes and times, what connections share, and what goes wrong
//! - `patience`: least rates

mod body;
mod connection;
mod context;
#[cfg(test)]
mod corpus;
mod error;
mod fields;
mod forwarded;
pub mod h2;
mod head;
mod limits;
mod lines;
mod outflow;
mod patience;
mod protocol;
mod request_id;
mod response;
pub mod target;

pub use connection::{Connection, Event};
pub use context::{Context, DATE_BYTES};
pub use error::{RequestError, ResponseError};
pub use fields::{
    Header, content_length, is_forbidden_in_trailers, is_hop_by_hop, is_of_proxies, is_request_id, is_token, is_value,
};
pub use forwarded::Origin;
pub use head::{BodyLength, Headers, RequestHead, Version};
pub use limits::{H2_OUTPUT_BYTES_HIGH, HELD_BYTES_MAX, Limits, SMALL_PIECE_BYTES, Timeouts};
pub use patience::{MinRate, Patience};
pub use protocol::Protocol;
pub use request_id::{Ids, PublicId, REQUEST_ID_FIELD};
pub use response::{ResponseHead, reason_phrase};
pub use target::{Scheme, TargetForm};
