//! The supervisor of rusmd: a pre-forked multi-process server of HTTP with WebAssembly components.
//!
//! The program is [`run`]; this library exists so that its rooms can be tested and fuzzed. The rooms, and who may know whom:
//!
//! ```text
//! main → run ─┬→ cli, config        arguments and manifest → a valid configuration
//!             ├→ birth              by which names this program was started, for an upgrade
//!             ├→ compile, app       components compiled; who answers which request
//!             ├→ check              `rusmd check`
//!             ├→ daemon             verdict about the start, pidfile, service manager, inherited sockets
//!             ├→ logs               main log and access log: lines ↔ files
//!             └→ reactor ─┬→ transport, tls, proxy_protocol   a client's socket ↔ bytes of HTTP
//!                         ├→ http   bytes ↔ requests and responses    (no I/O, no clock)
//!                         ├→ compress a response's body → fewer bytes          (pure)
//!                         ├→ assets files of directories that the manifest names: request → open file (reads the disk by sys)
//!                         ├→ router method and path → route           (pure)
//!                         ├→ queue, pool, request, timers, blame      (pure)
//!                         ├→ link   one worker's socket ↔ frames of rusmd-proto, by pieces for bodies
//!                         ├→ control status, metrics, commands of the operator and their socket
//!                         └→ sys    processes, descriptors, pages: all the unsafe code
//! ```
//!
//! An arrow is the only direction in which a room knows another; rooms beside each other do not know each other, but that `app` speaks
//! `http`'s and `router`'s types, `assets`, `compress` and `control` `http`'s, and `config` asks `sys` who a user is, `tls`
//! what is in certificates, `compress` what codings there are, and `assets` for directories. The reactor drives `daemon` and `logs` too, which touch the system through
//! `sys` and files of their own. Only `reactor` reads a clock.

pub mod answer;
pub mod app;
pub mod assets;
pub mod bind;
pub mod birth;
pub mod blame;
pub mod check;
pub mod cli;
pub mod compile;
pub mod compress;
pub mod config;
pub mod control;
pub mod daemon;
pub mod handover;
pub mod http;
pub mod link;
pub mod logs;
pub mod pieces;
pub mod pool;
pub mod proxy_protocol;
pub mod queue;
pub mod random;
pub mod reactor;
pub mod request;
pub mod router;
pub mod run;
pub mod socket_file;
pub mod sys;
#[cfg(test)]
mod testing;
pub mod timers;
pub mod tls;
pub mod transport;
