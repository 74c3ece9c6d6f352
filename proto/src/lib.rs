//! The wire between the supervisor and one worker: frames, messages, limits and the status page.
//!
//! Owns every byte that crosses the link and nothing else: no sockets, no clocks, no processes. Both `rusmd` and
//! `rusmd-worker` drive it; neither depends on the other. `PROTOCOL.md` beside this crate says the same in prose, and
//! `tests/golden` freezes the bytes of each protocol version.

mod build;
pub mod codec;
pub mod frame;
pub mod limits;
pub mod message;
pub mod status;

pub use build::BUILD;
pub use codec::CodecError;
pub use frame::{Frame, FrameBuffer, FrameError, FrameHeader, Kind, RequestId};
pub use message::{
    ComponentInfo, ComponentKind, ComponentSpec, Failure, FailureCause, ForkFailed, Header, Hello, Identity, LogLevel,
    LogLine, Network, Preopen, Ready, Refused, RequestHead, ResponseHead, Sandbox, SandboxLevel, Scheme, ToSupervisor,
    ToWorker, Trailers,
};
pub use status::StatusPage;

/// File descriptor on which a template finds its link: one end of a `SOCK_STREAM` socket pair.
pub const LINK_FD: i32 = 3;

/// File descriptor on which a template finds its status page: a sealed memory file of [`status::STATUS_PAGE_BYTES`]. Workers are given theirs,
/// and their links, with the order to fork them.
pub const STATUS_FD: i32 = 4;
