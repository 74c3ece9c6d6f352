//! What an operator sees and says: the status of the supervisor, its metrics, the control socket and the command `rusmd ctl`.
//!
//! - `status`: what the supervisor knows at one moment, as data
//! - `counters`: what is counted on a request's path
//! - `command`: the language of the control socket
//! - `render`, `metrics`: the status in a terminal, and for Prometheus
//! - `admin`: what is answered over HTTP
//! - `client`: `rusmd ctl`, the other side of the socket
//! - `socket`, `bind`, `place`: the control socket itself, how its file is made, and where
//!
//! Never touches a client, a worker or a clock. The reactor fills the status and carries out the commands.

pub mod admin;
mod bind;
pub mod client;
mod command;
pub mod counters;
pub mod metrics;
mod place;
pub mod render;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod scratch;
mod socket;
pub mod status;

pub use bind::BindError;
pub use client::{ClientError, Order};
pub use command::{Command, CommandError, LINE_BYTES_MAX, Reply};
pub use place::{Place, User, default_places};
pub use socket::{CONNECTIONS_MAX, ConnectionKey, ControlSocket, IDLE_MAX};
pub use status::Status;
