//! What an operator sees and says: the status of the supervisor, its metrics, the control socket and the command `rusmd ctl`.
//!
//! - `status`: what the supervisor knows at one moment, as data
//! - `counters`: what is counted on a request's path
//!
//! Never touches a client, a worker or a clock. The reactor fills the status and carries out the commands.

pub mod counters;
pub mod status;
