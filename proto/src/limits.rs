//! Every limit of the wire, by name. A peer that passes one is killed or, on the worker's side, kills itself.

/// Version of the protocol that this build speaks. Any change of a byte on the wire makes the next one.
pub const PROTOCOL_VERSION: u16 = 2;

/// Bytes of the fixed frame header.
pub const FRAME_HEADER_BYTES: usize = 16;

/// Most bytes of one `RequestBody` or `ResponseBody` frame's payload.
pub const BODY_CHUNK_BYTES_MAX: usize = 64 * 1024;

/// Most bytes of an encoded request or response head, or of trailers.
pub const HEAD_BYTES_MAX: usize = 256 * 1024;

/// Most field lines in a head or in trailers.
pub const HEADERS_MAX: usize = 1024;

/// Most path parameters in a request head.
pub const PARAMS_MAX: usize = 64;

/// Most bytes of an encoded `Hello` or `Ready`: both grow with the number of components and actions.
pub const HANDSHAKE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Most components in a `Hello`.
pub const COMPONENTS_MAX: usize = 1024;

/// Most actions that one component may tell.
pub const ACTIONS_MAX: usize = 1024;

/// Most bytes of an action's name.
pub const ACTION_BYTES_MAX: usize = 256;

/// Most bytes of one log line's message; a worker cuts longer ones and says so.
pub const LOG_MESSAGE_BYTES_MAX: usize = 16 * 1024;

/// Most bytes of a log line's target.
pub const LOG_TARGET_BYTES_MAX: usize = 256;

/// Most bytes of a failure's message, and most bytes of its backtrace.
pub const FAILURE_TEXT_BYTES_MAX: usize = 16 * 1024;

/// Most steps of the sandbox that a `Ready` may tell as missing.
pub const SANDBOX_MISSING_MAX: usize = 16;

/// Most bytes of an encoded small message: a failure, a log line, a refusal, a backtrace.
pub const SMALL_BYTES_MAX: usize = 64 * 1024;

/// Body bytes that a sender may have on the way, in each direction and for each request, before the receiver has granted more.
/// A multiple of [`BODY_CHUNK_BYTES_MAX`], so that a whole window is always sendable.
pub const WINDOW_BYTES: u32 = 256 * 1024;

/// Most bytes that decoding one message may claim in memory.
pub const DECODE_BYTES_MAX: usize = 8 * 1024 * 1024;
