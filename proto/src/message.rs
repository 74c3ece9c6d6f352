//! Messages: what a frame means. Borrowed where that saves a copy, checked against the limits when decoded.
//!
//! Which message is legal when is not decided here: the supervisor's `link` and the worker's `serve` each know their state.

use std::net::SocketAddr;

use bincode::{BorrowDecode, Encode};

use crate::codec::{CodecError, decode, decode_prefix, encode_frame, raw_frame};
use crate::frame::{Frame, Kind, RequestId};
use crate::limits::{
    ACTION_BYTES_MAX, ACTIONS_MAX, COMPONENTS_MAX, FAILURE_TEXT_BYTES_MAX, HEADERS_MAX, LOG_MESSAGE_BYTES_MAX,
    LOG_TARGET_BYTES_MAX, PARAMS_MAX, PROTOCOL_VERSION, SANDBOX_MISSING_MAX,
};

/// A field line: a name in lowercase and a value of any bytes but CR, LF and NUL (RFC 9110, section 5.5).
pub type Header<'a> = (&'a str, &'a [u8]);

/// Opens the handshake with a template: what it and the workers that are forked from it load, and how they are confined.
#[derive(Clone, PartialEq, Eq, Debug, Encode, BorrowDecode)]
pub struct Hello<'a> {
    /// Always the first field, so that any two versions can tell each other apart.
    pub protocol: u16,
    pub build: &'a str,
    /// The process that workers must end with.
    pub supervisor_pid: u32,
    /// The most detailed level that the supervisor's log shows.
    pub log_level: Option<LogLevel>,
    pub sandbox: Sandbox,
    pub components: Vec<ComponentSpec<'a>>,
}

/// How workers are confined before their first request.
#[derive(Clone, PartialEq, Eq, Debug, Encode, BorrowDecode)]
pub struct Sandbox {
    pub wanted: SandboxLevel,
    /// Whom workers become, where the supervisor is privileged.
    pub identity: Option<Identity>,
    /// Most bytes of writable private memory of one worker process (`RLIMIT_DATA`); 0 is no limit.
    pub data_bytes_max: u64,
}

/// A user, a group and the supplementary groups, by number.
#[derive(Clone, PartialEq, Eq, Debug, Encode, BorrowDecode)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}

/// What is asked of the sandbox, and what it came to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Encode, BorrowDecode)]
pub enum SandboxLevel {
    Off,
    /// Every step that the kernel allows.
    BestEffort,
    /// Every step, or no service.
    Strict,
}

impl SandboxLevel {
    /// The word for the manifest, the log and the status.
    pub const fn name(self) -> &'static str {
        match self {
            SandboxLevel::Off => "off",
            SandboxLevel::BestEffort => "best-effort",
            SandboxLevel::Strict => "strict",
        }
    }
}

/// One component to load. A request names it by its place in [`Hello::components`].
#[derive(Clone, PartialEq, Eq, Debug, Encode, BorrowDecode)]
pub struct ComponentSpec<'a> {
    pub name: &'a str,
    /// Path of the compiled form, as `rusmd-worker compile` printed it.
    pub artifact: &'a str,
    /// Most bytes of linear memory for one instance, over all its memories.
    pub memory_bytes_max: u64,
    pub env: Vec<(&'a str, &'a str)>,
    pub preopens: Vec<Preopen<'a>>,
    pub network: Network<'a>,
}

/// A directory that a component may use.
#[derive(Clone, PartialEq, Eq, Debug, Encode, BorrowDecode)]
pub struct Preopen<'a> {
    pub host: &'a str,
    pub guest: &'a str,
    pub writable: bool,
}

/// Outgoing network that a component may use.
#[derive(Clone, PartialEq, Eq, Debug, Encode, BorrowDecode)]
pub enum Network<'a> {
    Denied,
    /// Only these hosts: `name`, `name:port`.
    Hosts(Vec<&'a str>),
    Any,
}

/// The template has loaded everything and waits to be told to fork.
#[derive(Clone, PartialEq, Eq, Debug, Encode, BorrowDecode)]
pub struct Ready<'a> {
    pub protocol: u16,
    pub build: &'a str,
    /// The level that the workers reach.
    pub sandbox: SandboxLevel,
    /// The steps that this kernel or this user does not allow.
    pub sandbox_missing: Vec<&'a str>,
    /// In the order of [`Hello::components`].
    pub components: Vec<ComponentInfo<'a>>,
}

/// What a loaded component turned out to be.
#[derive(Clone, PartialEq, Eq, Debug, Encode, BorrowDecode)]
pub struct ComponentInfo<'a> {
    pub kind: ComponentKind<'a>,
}

/// Told apart by what the component exports.
#[derive(Clone, PartialEq, Eq, Debug, Encode, BorrowDecode)]
pub enum ComponentKind<'a> {
    /// `rusm:http/handler`, with the actions that it has.
    Handlers(Vec<&'a str>),
    /// `wasi:http/incoming-handler@0.2`.
    WasiHttp02,
    /// `wasi:http/handler@0.3`.
    WasiHttp03,
    /// It could not be loaded. The others are served all the same.
    Unloadable(&'a str),
}

/// The template, or the worker, cannot serve at all, and exits.
#[derive(Clone, PartialEq, Eq, Debug, Encode, BorrowDecode)]
pub struct Refused<'a> {
    pub protocol: u16,
    pub message: &'a str,
}

/// `http` or `https`, as the client's connection was.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, BorrowDecode)]
pub enum Scheme {
    Http,
    Https,
}

/// A request's head, parsed, bounded and routed. The body follows in `RequestBody` frames unless the frame says `end`.
#[derive(Clone, PartialEq, Eq, Debug, Encode, BorrowDecode)]
pub struct RequestHead<'a> {
    pub component: u16,
    /// Set for a handlers component, absent for `wasi:http`.
    pub action: Option<&'a str>,
    pub method: &'a str,
    pub scheme: Scheme,
    pub authority: &'a str,
    /// Normalised, still percent-encoded; begins with `/`, or is `*`.
    pub path: &'a str,
    pub query: Option<&'a str>,
    pub peer: Option<SocketAddr>,
    /// The body's length when the client declared it.
    pub body_bytes: Option<u64>,
    /// Path parameters, percent-decoded, in the order of the route.
    pub params: Vec<(&'a str, &'a str)>,
    pub headers: Vec<Header<'a>>,
}

/// A response's head, as the guest gave it. The supervisor validates it before a byte of it reaches a client.
#[derive(Clone, PartialEq, Eq, Debug, Encode, BorrowDecode)]
pub struct ResponseHead<'a> {
    pub status: u16,
    /// The body's length when it is known.
    pub body_bytes: Option<u64>,
    pub headers: Vec<Header<'a>>,
}

/// Field lines after a body (RFC 9110, section 6.5). They end the body.
#[derive(Clone, PartialEq, Eq, Debug, Encode, BorrowDecode)]
pub struct Trailers<'a> {
    pub headers: Vec<Header<'a>>,
}

/// Why a request got no response, or an unfinished one.
#[derive(Clone, PartialEq, Eq, Debug, Encode, BorrowDecode)]
pub struct Failure<'a> {
    pub cause: FailureCause,
    /// One line for the log.
    pub message: &'a str,
    /// The guest's stack, one frame a line, or empty.
    pub backtrace: &'a str,
}

/// The kinds of failure that the contract tells apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, BorrowDecode)]
pub enum FailureCause {
    /// `unreachable`, a panic, a stack overflow, an uncaught exception, an exit.
    Trap,
    /// The instance asked for more than [`ComponentSpec::memory_bytes_max`].
    Memory,
    /// The guest returned without a response.
    NoResponse,
    /// The guest's response cannot be one, or its body broke off.
    InvalidResponse,
    /// Interrupted because the supervisor said so.
    Interrupted,
    /// The worker could not run the request; the guest is not to blame.
    Internal,
}

impl FailureCause {
    /// The word for the log.
    pub const fn name(self) -> &'static str {
        match self {
            FailureCause::Trap => "trap",
            FailureCause::Memory => "memory limit",
            FailureCause::NoResponse => "no response",
            FailureCause::InvalidResponse => "invalid response",
            FailureCause::Interrupted => "interrupted",
            FailureCause::Internal => "internal error",
        }
    }
}

/// The levels of the `log` crate.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Encode, BorrowDecode)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// A line that a guest wrote, through `rusm:http/log` or on its standard output or error.
#[derive(Clone, PartialEq, Eq, Debug, Encode, BorrowDecode)]
pub struct LogLine<'a> {
    pub level: LogLevel,
    pub target: &'a str,
    pub message: &'a str,
}

/// No worker for a slot, and why.
#[derive(Clone, PartialEq, Eq, Debug, Encode, BorrowDecode)]
pub struct ForkFailed<'a> {
    pub slot: u32,
    pub message: &'a str,
}

/// Supervisor to worker, or to template.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ToWorker<'a> {
    Hello(Hello<'a>),
    Request {
        id: RequestId,
        head: RequestHead<'a>,
        end: bool,
    },
    RequestBody {
        id: RequestId,
        bytes: &'a [u8],
        end: bool,
    },
    RequestTrailers {
        id: RequestId,
        trailers: Trailers<'a>,
    },
    /// The rest of the body will not come; the guest must not take it for complete.
    RequestAborted {
        id: RequestId,
    },
    /// The worker may send this many more bytes of the response's body.
    ResponseCredit {
        id: RequestId,
        bytes: u32,
    },
    /// Stop this request: its deadline has passed. Answered by `Failed` and `Done`, or by `Done` alone.
    Cancel {
        id: RequestId,
    },
    /// Finish what has started and exit.
    Drain,
    /// To a template: fork the worker of this slot. Its link and its status page travel with the frame.
    Fork {
        slot: u32,
    },
    /// To a worker that was forked: its supervisor knows it. Confine yourself, then say `Begun`.
    Begin {
        slot: u32,
    },
    /// The stack of this request's guest is wanted for the log.
    Inspect {
        id: RequestId,
    },
}

/// Worker to supervisor, or template to supervisor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ToSupervisor<'a> {
    Ready(Ready<'a>),
    Refused(Refused<'a>),
    ResponseHead {
        id: RequestId,
        head: ResponseHead<'a>,
        end: bool,
    },
    ResponseBody {
        id: RequestId,
        bytes: &'a [u8],
        end: bool,
    },
    ResponseTrailers {
        id: RequestId,
        trailers: Trailers<'a>,
    },
    Failed {
        id: RequestId,
        failure: Failure<'a>,
    },
    /// The supervisor may send this many more bytes of the request's body.
    RequestCredit {
        id: RequestId,
        bytes: u32,
    },
    Log {
        id: RequestId,
        line: LogLine<'a>,
    },
    /// The last frame of a request: its instance is gone, and no frame with this id follows.
    Done {
        id: RequestId,
    },
    /// From a template: the worker of this slot is this process, by now a child of the supervisor.
    Forked {
        slot: u32,
        pid: u32,
    },
    /// From a template: the worker of this slot could not be made.
    ForkFailed(ForkFailed<'a>),
    /// The worker is confined and waits for requests.
    Begun,
    /// Where this request's guest is, one frame a line.
    Backtrace {
        id: RequestId,
        backtrace: &'a str,
    },
}

impl<'a> ToWorker<'a> {
    /// Appends the frame of this message.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), CodecError> {
        match self {
            ToWorker::Hello(hello) => encode_frame(out, Kind::Hello, RequestId::NONE, false, hello),
            ToWorker::Request { id, head, end } => encode_frame(out, Kind::Request, *id, *end, head),
            ToWorker::RequestBody { id, bytes, end } => raw_frame(out, Kind::RequestBody, *id, *end, bytes),
            ToWorker::RequestTrailers { id, trailers } => {
                encode_frame(out, Kind::RequestTrailers, *id, false, trailers)
            }
            ToWorker::RequestAborted { id } => raw_frame(out, Kind::RequestAborted, *id, false, &[]),
            ToWorker::ResponseCredit { id, bytes } => {
                raw_frame(out, Kind::ResponseCredit, *id, false, &bytes.to_le_bytes())
            }
            ToWorker::Cancel { id } => raw_frame(out, Kind::Cancel, *id, false, &[]),
            ToWorker::Drain => raw_frame(out, Kind::Drain, RequestId::NONE, false, &[]),
            ToWorker::Fork { slot } => raw_frame(out, Kind::Fork, RequestId::NONE, false, &slot.to_le_bytes()),
            ToWorker::Begin { slot } => raw_frame(out, Kind::Begin, RequestId::NONE, false, &slot.to_le_bytes()),
            ToWorker::Inspect { id } => raw_frame(out, Kind::Inspect, *id, false, &[]),
        }
    }

    /// Reads the message of a frame and checks it against the limits.
    pub fn decode(frame: &Frame<'a>) -> Result<ToWorker<'a>, CodecError> {
        let Frame { header, payload } = *frame;
        let (kind, id, end) = (header.kind, header.request, header.end);
        Ok(match kind {
            Kind::Hello => {
                version(kind, payload)?;
                let hello: Hello<'a> = decode(kind, payload)?;
                at_most(kind, "components", hello.components.len(), COMPONENTS_MAX)?;
                ToWorker::Hello(hello)
            }
            Kind::Request => {
                let head: RequestHead<'a> = decode(kind, payload)?;
                at_most(kind, "field lines", head.headers.len(), HEADERS_MAX)?;
                at_most(kind, "parameters", head.params.len(), PARAMS_MAX)?;
                ToWorker::Request { id, head, end }
            }
            Kind::RequestBody => ToWorker::RequestBody { id, bytes: chunk(kind, payload, end)?, end },
            Kind::RequestTrailers => ToWorker::RequestTrailers { id, trailers: trailers(kind, payload)? },
            Kind::RequestAborted => ToWorker::RequestAborted { id },
            Kind::ResponseCredit => ToWorker::ResponseCredit { id, bytes: number(kind, payload)? },
            Kind::Cancel => ToWorker::Cancel { id },
            Kind::Drain => ToWorker::Drain,
            Kind::Fork => ToWorker::Fork { slot: number(kind, payload)? },
            Kind::Begin => ToWorker::Begin { slot: number(kind, payload)? },
            Kind::Inspect => ToWorker::Inspect { id },
            Kind::Ready
            | Kind::Refused
            | Kind::ResponseHead
            | Kind::ResponseBody
            | Kind::ResponseTrailers
            | Kind::Failed
            | Kind::RequestCredit
            | Kind::Log
            | Kind::Done
            | Kind::Forked
            | Kind::ForkFailed
            | Kind::Begun
            | Kind::Backtrace => return Err(CodecError::WrongDirection(kind)),
        })
    }
}

impl<'a> ToSupervisor<'a> {
    /// Appends the frame of this message.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), CodecError> {
        match self {
            ToSupervisor::Ready(ready) => encode_frame(out, Kind::Ready, RequestId::NONE, false, ready),
            ToSupervisor::Refused(refused) => encode_frame(out, Kind::Refused, RequestId::NONE, false, refused),
            ToSupervisor::ResponseHead { id, head, end } => encode_frame(out, Kind::ResponseHead, *id, *end, head),
            ToSupervisor::ResponseBody { id, bytes, end } => raw_frame(out, Kind::ResponseBody, *id, *end, bytes),
            ToSupervisor::ResponseTrailers { id, trailers } => {
                encode_frame(out, Kind::ResponseTrailers, *id, false, trailers)
            }
            ToSupervisor::Failed { id, failure } => encode_frame(out, Kind::Failed, *id, false, failure),
            ToSupervisor::RequestCredit { id, bytes } => {
                raw_frame(out, Kind::RequestCredit, *id, false, &bytes.to_le_bytes())
            }
            ToSupervisor::Log { id, line } => encode_frame(out, Kind::Log, *id, false, line),
            ToSupervisor::Done { id } => raw_frame(out, Kind::Done, *id, false, &[]),
            ToSupervisor::Forked { slot, pid } => {
                let [s0, s1, s2, s3] = slot.to_le_bytes();
                let [p0, p1, p2, p3] = pid.to_le_bytes();
                raw_frame(out, Kind::Forked, RequestId::NONE, false, &[s0, s1, s2, s3, p0, p1, p2, p3])
            }
            ToSupervisor::ForkFailed(failed) => encode_frame(out, Kind::ForkFailed, RequestId::NONE, false, failed),
            ToSupervisor::Begun => raw_frame(out, Kind::Begun, RequestId::NONE, false, &[]),
            ToSupervisor::Backtrace { id, backtrace } => {
                raw_frame(out, Kind::Backtrace, *id, false, backtrace.as_bytes())
            }
        }
    }

    /// Reads the message of a frame and checks it against the limits.
    pub fn decode(frame: &Frame<'a>) -> Result<ToSupervisor<'a>, CodecError> {
        let Frame { header, payload } = *frame;
        let (kind, id, end) = (header.kind, header.request, header.end);
        Ok(match kind {
            Kind::Ready => {
                version(kind, payload)?;
                let ready: Ready<'a> = decode(kind, payload)?;
                check_ready(kind, &ready)?;
                ToSupervisor::Ready(ready)
            }
            Kind::Refused => ToSupervisor::Refused(decode(kind, payload)?),
            Kind::ResponseHead => {
                let head: ResponseHead<'a> = decode(kind, payload)?;
                at_most(kind, "field lines", head.headers.len(), HEADERS_MAX)?;
                ToSupervisor::ResponseHead { id, head, end }
            }
            Kind::ResponseBody => ToSupervisor::ResponseBody { id, bytes: chunk(kind, payload, end)?, end },
            Kind::ResponseTrailers => ToSupervisor::ResponseTrailers { id, trailers: trailers(kind, payload)? },
            Kind::Failed => {
                let failure: Failure<'a> = decode(kind, payload)?;
                at_most(kind, "bytes of message", failure.message.len(), FAILURE_TEXT_BYTES_MAX)?;
                at_most(kind, "bytes of backtrace", failure.backtrace.len(), FAILURE_TEXT_BYTES_MAX)?;
                ToSupervisor::Failed { id, failure }
            }
            Kind::RequestCredit => ToSupervisor::RequestCredit { id, bytes: number(kind, payload)? },
            Kind::Log => {
                let line: LogLine<'a> = decode(kind, payload)?;
                at_most(kind, "bytes of message", line.message.len(), LOG_MESSAGE_BYTES_MAX)?;
                at_most(kind, "bytes of target", line.target.len(), LOG_TARGET_BYTES_MAX)?;
                ToSupervisor::Log { id, line }
            }
            Kind::Done => ToSupervisor::Done { id },
            Kind::Forked => {
                let (slot, pid) = payload.split_at(payload.len().min(4));
                ToSupervisor::Forked { slot: number(kind, slot)?, pid: number(kind, pid)? }
            }
            Kind::ForkFailed => ToSupervisor::ForkFailed(decode(kind, payload)?),
            Kind::Begun => ToSupervisor::Begun,
            Kind::Backtrace => {
                at_most(kind, "bytes of backtrace", payload.len(), FAILURE_TEXT_BYTES_MAX)?;
                let backtrace = std::str::from_utf8(payload)
                    .map_err(|error| CodecError::Undecodable { kind, reason: error.to_string() })?;
                ToSupervisor::Backtrace { id, backtrace }
            }
            Kind::Hello
            | Kind::Request
            | Kind::RequestBody
            | Kind::RequestTrailers
            | Kind::RequestAborted
            | Kind::ResponseCredit
            | Kind::Cancel
            | Kind::Drain
            | Kind::Fork
            | Kind::Begin
            | Kind::Inspect => return Err(CodecError::WrongDirection(kind)),
        })
    }
}

/// Splits `bytes` into `RequestBody` or `ResponseBody` frames of legal size; the last one says `end` when `end` is set.
pub fn encode_body(
    out: &mut Vec<u8>,
    kind: Kind,
    id: RequestId,
    mut bytes: &[u8],
    end: bool,
) -> Result<(), CodecError> {
    let limit = kind.payload_bytes_max();
    while bytes.len() > limit {
        let (chunk, rest) = bytes.split_at(limit);
        raw_frame(out, kind, id, false, chunk)?;
        bytes = rest;
    }
    if !bytes.is_empty() || end {
        raw_frame(out, kind, id, end, bytes)?;
    }
    Ok(())
}

/// Cuts `text` at a character boundary so that it has at most `bytes_max` bytes.
pub fn cut_text(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

fn version(kind: Kind, payload: &[u8]) -> Result<(), CodecError> {
    let theirs: u16 = decode_prefix(kind, payload)?;
    if theirs == PROTOCOL_VERSION { Ok(()) } else { Err(CodecError::WrongVersion { ours: PROTOCOL_VERSION, theirs }) }
}

fn check_ready(kind: Kind, ready: &Ready<'_>) -> Result<(), CodecError> {
    at_most(kind, "components", ready.components.len(), COMPONENTS_MAX)?;
    at_most(kind, "missing steps of the sandbox", ready.sandbox_missing.len(), SANDBOX_MISSING_MAX)?;
    for component in &ready.components {
        match &component.kind {
            ComponentKind::Handlers(actions) => {
                at_most(kind, "actions", actions.len(), ACTIONS_MAX)?;
                for action in actions {
                    at_most(kind, "bytes of an action's name", action.len(), ACTION_BYTES_MAX)?;
                }
            }
            ComponentKind::WasiHttp02 | ComponentKind::WasiHttp03 | ComponentKind::Unloadable(_) => {}
        }
    }
    Ok(())
}

fn trailers<'a>(kind: Kind, payload: &'a [u8]) -> Result<Trailers<'a>, CodecError> {
    let trailers: Trailers<'a> = decode(kind, payload)?;
    at_most(kind, "field lines", trailers.headers.len(), HEADERS_MAX)?;
    Ok(trailers)
}

/// An empty chunk that does not end its body says nothing, and could be sent for ever without using up a window.
fn chunk(kind: Kind, payload: &[u8], end: bool) -> Result<&[u8], CodecError> {
    if payload.is_empty() && !end { Err(CodecError::EmptyChunk(kind)) } else { Ok(payload) }
}

/// A credit, a slot, a process id.
fn number(kind: Kind, payload: &[u8]) -> Result<u32, CodecError> {
    let raw: [u8; 4] = payload
        .try_into()
        .map_err(|_| CodecError::Undecodable { kind, reason: "a number has four bytes".to_owned() })?;
    Ok(u32::from_le_bytes(raw))
}

fn at_most(kind: Kind, what: &'static str, count: usize, limit: usize) -> Result<(), CodecError> {
    if count > limit { Err(CodecError::OverLimit { kind, what }) } else { Ok(()) }
}
