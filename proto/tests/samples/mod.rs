//! At least one message of every kind, and every variant of every enum inside them. The golden bytes, the corruption
//! tests and the seed corpora of the fuzz targets are all made of these.
#![allow(dead_code, reason = "each test binary uses its own part of this module")]

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use rusmd_proto::limits::PROTOCOL_VERSION;
use rusmd_proto::{
    CodecError, ComponentInfo, ComponentKind, ComponentSpec, Failure, FailureCause, ForkFailed, Frame, Hello, Identity,
    LogLevel, LogLine, Network, Preopen, Ready, Refused, RequestHead, RequestId, ResponseHead, Sandbox, SandboxLevel,
    Scheme, ToSupervisor, ToWorker, Trailers,
};

const ID: RequestId = RequestId(0x0102_0304_0506_0708);

/// A message of either direction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message<'a> {
    ToWorker(ToWorker<'a>),
    ToSupervisor(ToSupervisor<'a>),
}

impl<'a> Message<'a> {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Message::ToWorker(message) => message.encode(&mut out),
            Message::ToSupervisor(message) => message.encode(&mut out),
        }
        .expect("a sample is within the limits");
        out
    }

    /// Decodes a frame in the direction that its kind belongs to.
    pub fn decode(frame: &Frame<'a>) -> Result<Message<'a>, CodecError> {
        if (frame.header.kind as u8) & 0x80 == 0 {
            ToWorker::decode(frame).map(Message::ToWorker)
        } else {
            ToSupervisor::decode(frame).map(Message::ToSupervisor)
        }
    }
}

/// Every sample with the name of its golden file.
pub fn all() -> Vec<(&'static str, Message<'static>)> {
    let to_worker = to_worker().into_iter().map(|(name, message)| (name, Message::ToWorker(message)));
    let to_supervisor = to_supervisor().into_iter().map(|(name, message)| (name, Message::ToSupervisor(message)));
    to_worker.chain(to_supervisor).collect()
}

pub fn to_worker() -> Vec<(&'static str, ToWorker<'static>)> {
    vec![
        ("hello", ToWorker::Hello(hello())),
        ("hello_without_components", ToWorker::Hello(hello_without_components())),
        ("request_handlers", ToWorker::Request { id: ID, head: request_handlers(), end: true }),
        ("request_wasi_http", ToWorker::Request { id: RequestId(1), head: request_wasi_http(), end: false }),
        ("request_body", ToWorker::RequestBody { id: ID, bytes: b"\x00name=value\xff", end: false }),
        ("request_body_end", ToWorker::RequestBody { id: ID, bytes: b"", end: true }),
        ("request_trailers", ToWorker::RequestTrailers { id: ID, trailers: trailers() }),
        ("request_aborted", ToWorker::RequestAborted { id: ID }),
        ("response_credit", ToWorker::ResponseCredit { id: ID, bytes: 65_536 }),
        ("cancel", ToWorker::Cancel { id: ID }),
        ("drain", ToWorker::Drain),
        ("fork", ToWorker::Fork { slot: 7 }),
        ("begin", ToWorker::Begin { slot: 7 }),
        ("inspect", ToWorker::Inspect { id: ID }),
    ]
}

pub fn to_supervisor() -> Vec<(&'static str, ToSupervisor<'static>)> {
    let mut samples = vec![
        ("ready", ToSupervisor::Ready(ready())),
        ("refused", ToSupervisor::Refused(Refused { protocol: PROTOCOL_VERSION, message: "no artifact is readable" })),
        ("response_head", ToSupervisor::ResponseHead { id: ID, head: response_head(), end: false }),
        ("response_head_end", ToSupervisor::ResponseHead { id: ID, head: response_head_empty(), end: true }),
        ("response_body", ToSupervisor::ResponseBody { id: ID, bytes: b"user 7\n", end: false }),
        ("response_body_end", ToSupervisor::ResponseBody { id: ID, bytes: b"user 7\n", end: true }),
        ("response_trailers", ToSupervisor::ResponseTrailers { id: ID, trailers: trailers() }),
        ("request_credit", ToSupervisor::RequestCredit { id: ID, bytes: u32::MAX }),
        ("done", ToSupervisor::Done { id: RequestId(u64::MAX) }),
        ("forked", ToSupervisor::Forked { slot: 7, pid: 4711 }),
        ("fork_failed", ToSupervisor::ForkFailed(ForkFailed { slot: 7, message: "cannot fork: out of memory" })),
        ("begun", ToSupervisor::Begun),
        ("backtrace", ToSupervisor::Backtrace { id: ID, backtrace: "api!api::show\napi!naïve" }),
    ];
    samples.extend(failures());
    samples.extend(log_lines());
    samples
}

pub fn hello() -> Hello<'static> {
    Hello {
        protocol: PROTOCOL_VERSION,
        build: "0.1.0",
        supervisor_pid: 4711,
        log_level: Some(LogLevel::Debug),
        sandbox: Sandbox {
            wanted: SandboxLevel::Strict,
            identity: Some(Identity { uid: 1000, gid: 100, groups: vec![100, 27] }),
            data_bytes_max: 512 * 1024 * 1024,
        },
        components: vec![
            ComponentSpec {
                name: "api",
                artifact: "/var/cache/rusmd/api.cwasm",
                memory_bytes_max: 256 * 1024 * 1024,
                env: vec![("MODE", "production"), ("EMPTY", "")],
                preopens: vec![
                    Preopen { host: "/srv/data", guest: "/data", writable: true },
                    Preopen { host: "/srv/static", guest: "/static", writable: false },
                ],
                network: Network::Hosts(vec!["example.org", "example.org:8080"]),
            },
            ComponentSpec { network: Network::Any, ..plain_component("fetch") },
            plain_component("pure"),
        ],
    }
}

pub fn plain_component(name: &str) -> ComponentSpec<'_> {
    ComponentSpec {
        name,
        artifact: "/a",
        memory_bytes_max: 0,
        env: Vec::new(),
        preopens: Vec::new(),
        network: Network::Denied,
    }
}

pub fn hello_without_components() -> Hello<'static> {
    let sandbox = Sandbox { wanted: SandboxLevel::Off, identity: None, data_bytes_max: 0 };
    Hello { protocol: PROTOCOL_VERSION, build: "", supervisor_pid: 0, log_level: None, sandbox, components: Vec::new() }
}

pub fn request_handlers() -> RequestHead<'static> {
    RequestHead {
        component: 0,
        action: Some("show"),
        method: "GET",
        scheme: Scheme::Http,
        authority: "localhost:8080",
        path: "/users/caf%C3%A9",
        query: Some("a=1&b=%20"),
        peer: Some(SocketAddr::from((Ipv4Addr::new(192, 0, 2, 7), 54_321))),
        body_bytes: None,
        params: vec![("id", "café")],
        headers: vec![("accept", b"*/*"), ("x-latin", b"caf\xe9")],
    }
}

pub fn request_wasi_http() -> RequestHead<'static> {
    RequestHead {
        component: 1023,
        action: None,
        method: "POST",
        scheme: Scheme::Https,
        authority: "[::1]",
        path: "*",
        query: None,
        peer: Some(SocketAddr::from((Ipv6Addr::LOCALHOST, 1))),
        body_bytes: Some(u64::MAX),
        params: Vec::new(),
        headers: Vec::new(),
    }
}

pub fn response_head() -> ResponseHead<'static> {
    ResponseHead {
        status: 200,
        body_bytes: Some(7),
        headers: vec![("content-type", b"text/plain; charset=utf-8"), ("x-empty", b"")],
    }
}

fn response_head_empty() -> ResponseHead<'static> {
    ResponseHead { status: 204, body_bytes: None, headers: Vec::new() }
}

pub fn trailers() -> Trailers<'static> {
    Trailers { headers: vec![("x-checksum", b"0123abcd")] }
}

pub fn ready() -> Ready<'static> {
    let kinds = [
        ComponentKind::Handlers(vec!["index", "show"]),
        ComponentKind::WasiHttp02,
        ComponentKind::WasiHttp03,
        ComponentKind::Unloadable("imports `example:kv/store`, which rusmd does not have"),
    ];
    Ready {
        protocol: PROTOCOL_VERSION,
        build: "0.1.0",
        sandbox: SandboxLevel::BestEffort,
        sandbox_missing: vec!["network namespace", "landlock"],
        components: kinds.map(|kind| ComponentInfo { kind }).into(),
    }
}

fn failures() -> Vec<(&'static str, ToSupervisor<'static>)> {
    let sample = |name, cause| {
        let failure = Failure { cause, message: "wasm `unreachable`", backtrace: "api::show\nrust_begin_unwind" };
        (name, ToSupervisor::Failed { id: ID, failure })
    };
    vec![
        sample("failed_trap", FailureCause::Trap),
        sample("failed_memory", FailureCause::Memory),
        sample("failed_no_response", FailureCause::NoResponse),
        sample("failed_invalid_response", FailureCause::InvalidResponse),
        sample("failed_interrupted", FailureCause::Interrupted),
        sample("failed_internal", FailureCause::Internal),
    ]
}

fn log_lines() -> Vec<(&'static str, ToSupervisor<'static>)> {
    let sample = |name, level| {
        (name, ToSupervisor::Log { id: ID, line: LogLine { level, target: "api", message: "naïve, but bounded" } })
    };
    vec![
        sample("log_error", LogLevel::Error),
        sample("log_warn", LogLevel::Warn),
        sample("log_info", LogLevel::Info),
        sample("log_debug", LogLevel::Debug),
        sample("log_trace", LogLevel::Trace),
    ]
}
