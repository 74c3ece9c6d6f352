//! The process that runs WebAssembly for `rusmd`, as a library, so that a test double can use its process parts.
//!
//! | room | owns |
//! | --- | --- |
//! | `template` | `rusmd-worker serve`: the handshake, and the loop that forks workers |
//! | `probe` | asking components for their actions, in a child of the template |
//! | `worker` | from the fork to the first request |
//! | `sandbox` | what a worker may do to the machine, one file for each mechanism |
//! | `service` | the seam between those and what runs in them |
//! | `serve` | one request after the other; the service that is wasmtime |
//! | `run` | one request; `requests`, `upload` and `reply` are what the wire says of it |
//! | `host` | what a guest sees, and how components are loaded |
//! | `engine`, `cache` | settings of wasmtime; compiled components on disk |
//! | `link` | the socket |
//! | `failure` | whose fault it was |
//! | `flag`, `headers` | a waker that remembers; field lines |
//! | `sys` | the process, and what is unsafe about it |

pub mod cache;
pub mod engine;
pub mod error;
pub mod failure;
mod flag;
mod headers;
pub mod host;
pub mod link;
pub mod probe;
mod reply;
pub mod requests;
mod run;
pub mod sandbox;
pub mod serve;
pub mod service;
pub mod sys;
pub mod template;
mod upload;
pub mod worker;

/// A panic is a bug of ours, after which no state can be trusted: the supervisor learns of it as of any death. A hook does
/// it rather than the profile, because tests are always built to unwind, and wasmtime would be compiled twice.
pub fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        report(info);
        std::process::abort();
    }));
}
