//! Write an HTTP application for `rusmd` as plain functions from a request to a response.
//!
//! Owns what an author of a component sees: the types of [`http`], the attribute [`handlers`], and the way from
//! `log::info!` to the server's log. It never does I/O of its own; the server drives it, through `guest`.
//!
//! ```
//! use rusm_rs::http::{Params, Request, Response};
//!
//! #[rusm_rs::handlers]
//! pub mod api {
//!     use super::*;
//!     // routed from `[serve.routes]`:  "GET /users/:id" = "api#show"
//!     pub fn show(_req: Request, p: Params) -> Response {
//!         Response::text(format!("user {}", p.get("id").unwrap_or("?")))
//!     }
//! }
//! # fn main() {}
//! ```
//!
//! That is a whole component. The server accepts the connection, parses HTTP, finds the route and makes a fresh instance
//! for each request; the instance runs one action and is gone, so nothing that an action leaves in memory is ever seen
//! again. A panic costs one request: the client gets 502, and the message goes to the server's log.
//!
//! `Cargo.toml` needs this crate alone, and a library that can be linked as a component:
//!
//! ```toml
//! [lib]
//! crate-type = ["cdylib"]
//!
//! [dependencies]
//! rusm-rs = { path = "…/rusmd/sdk/rust" } # not on crates.io: the crate of that name there is another one
//! ```
//!
//! `cargo build --release --target wasm32-wasip2` makes the component. Everything here compiles for the host as well, so
//! `cargo test` runs an action as the function that it is: make a request with [`http::Request::builder`].
//!
//! # JSON
//!
//! [`json`] derives what a type needs to travel as JSON, and [`http::Json`] makes a response of it:
//!
//! ```
//! use rusm_rs::http::{Json, Request, Result};
//!
//! #[rusm_rs::json]
//! pub struct Greeting {
//!     name: String,
//! }
//!
//! #[rusm_rs::handlers]
//! pub mod api {
//!     use super::*;
//!     pub fn greet(req: Request) -> Result<Json<Greeting>> {
//!         let greeting: Greeting = req.json()?; // a body that is no such JSON is answered with 400
//!         rusm_rs::log::info!("greeting {}", greeting.name);
//!         Ok(Json(greeting))
//!     }
//! }
//! # fn main() {}
//! ```

// The generated bindings and the macros name this crate from outside.
extern crate self as rusm_rs;

#[allow(
    unsafe_code,
    missing_debug_implementations,
    clippy::unwrap_used,
    reason = "generated: the canonical ABI is made of raw pointers"
)]
#[doc(hidden)]
pub mod bindings;
mod guest;
pub mod http;
mod logger;

pub use log;
pub use rusm_rs_macros::{handlers, json};
pub use serde;
pub use serde_json;

/// What the code that the macros generate needs. Not for authors: it may change in any release.
#[doc(hidden)]
pub mod __private {
    pub use crate::bindings;
    pub use crate::guest::{Arguments, FirstOfTwo, Handlers, OnlyArgument, SecondOfTwo, no_such_action, respond};
    pub use wit_bindgen::rt;
}
