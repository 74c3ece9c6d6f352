//! A worker that lies: it takes the place of `rusmd-worker`, runs no guest, and breaks the rules of the link on demand.
//!
//! Owns one misbehaviour for each action name, with which the tests prove that the supervisor trusts no worker. The honest
//! ones among them (`hello`, `echo`) show that the others fail for what they do. Driven by a supervisor, through its link.

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::os::fd::FromRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use rusmd_proto::limits::{BODY_CHUNK_BYTES_MAX, PROTOCOL_VERSION, WINDOW_BYTES};
use rusmd_proto::message::encode_body;
use rusmd_proto::{
    BUILD, ComponentInfo, ComponentKind, FrameBuffer, FrameHeader, Kind, LINK_FD, LogLevel, LogLine, Ready, Refused,
    RequestId, ResponseHead, STATUS_FD, ToSupervisor, ToWorker,
};

/// What this worker claims to have, which is all that it can do.
const ACTIONS: &[&str] = &[
    "hello",
    "echo",
    "exit_before_start",
    "exit_after_start",
    "abort_after_start",
    "garbage",
    "frame_too_long",
    "undecodable",
    "wrong_direction",
    "ready_again",
    "unknown_request",
    "head_twice",
    "body_first",
    "end_missing",
    "done_first",
    "done_twice",
    "body_beyond_window",
    "empty_chunks",
    "status_out_of_range",
    "header_with_line_end",
    "credit_overflow",
    "log_flood",
    "half_a_frame",
    "deaf",
];

/// Chosen by the environment that the manifest grants the first component, under this name.
const AT_START: &str = "AT_START";

/// Log lines of one flood.
const FLOOD_LINES: usize = 20_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("compile") => compile(&arguments),
        Some("serve") => serve(),
        _ => ExitCode::from(2),
    }
}

/// Claims that every source is its own compiled form.
fn compile(arguments: &[String]) -> ExitCode {
    for source in arguments.iter().filter(|argument| argument.ends_with(".wasm")) {
        println!("ok\t{source}\t{source}\tcached\t0");
    }
    ExitCode::SUCCESS
}

#[allow(unsafe_code, reason = "an inherited descriptor can be taken over in no other way")]
fn link() -> UnixStream {
    // SAFETY: the supervisor leaves the link at this number for this process alone, nothing else here has taken it over, and
    // this function is called once.
    unsafe { UnixStream::from_raw_fd(LINK_FD) }
}

struct Double {
    link: UnixStream,
    received: FrameBuffer,
}

fn serve() -> ExitCode {
    let mut double = Double { link: link(), received: FrameBuffer::default() };
    let at_start = match double.receive(|message| match message {
        ToWorker::Hello(hello) => {
            let env = hello.components.first().map(|component| component.env.as_slice()).unwrap_or_default();
            env.iter().find(|(name, _)| *name == AT_START).map(|(_, value)| (*value).to_owned()).unwrap_or_default()
        }
        _ => String::new(),
    }) {
        Some(at_start) => at_start,
        None => return ExitCode::SUCCESS,
    };
    match at_start.as_str() {
        // Returning would close the link first, and the supervisor would be quicker than the exit.
        "exit" => std::process::exit(3),
        "refuse" => {
            double.send(&ToSupervisor::Refused(Refused { protocol: PROTOCOL_VERSION, message: "out of spirits" }));
            return ExitCode::FAILURE;
        }
        "garbage" => double.send_bytes(&[0xff; 4096]),
        "other-build" => double.ready("0.0.0-other"),
        _ => double.ready(BUILD),
    }
    while double.serve_one().is_some() {}
    ExitCode::SUCCESS
}

impl Double {
    fn ready(&mut self, build: &str) {
        let components = vec![ComponentInfo { kind: ComponentKind::Handlers(ACTIONS.to_vec()) }];
        self.send(&ToSupervisor::Ready(Ready {
            protocol: PROTOCOL_VERSION,
            build,
            components,
            sandbox: rusmd_proto::SandboxLevel::Off,
            sandbox_missing: Vec::new(),
        }));
    }

    /// Waits for a request and does what its action says. `None` is the end of the link.
    fn serve_one(&mut self) -> Option<()> {
        let (id, action, end) = self.receive(|message| match message {
            ToWorker::Request { id, head, end } => Some((id, head.action.unwrap_or_default().to_owned(), end)),
            _ => None,
        })??;
        if action.as_str() != "exit_before_start" && !self.accept_offer(id) {
            self.done(id);
            return Some(());
        }
        match action.as_str() {
            "exit_before_start" => std::process::exit(3),
            _ => self.store_started(id),
        }
        match action.as_str() {
            "exit_after_start" => std::process::exit(3),
            "abort_after_start" => std::process::abort(),
            "echo" => self.echo(id, end)?,
            "half_a_frame" => {
                self.send_bytes(&[1, 0, 0]);
                self.be_deaf()
            }
            "deaf" => self.be_deaf(),
            "hello" => {
                self.head(id, 200, &[]);
                self.body(id, b"hello\n", true);
                self.done(id);
            }
            other => self.break_rule(id, other),
        }
        Some(())
    }

    fn break_rule(&mut self, id: RequestId, rule: &str) {
        match rule {
            "garbage" => self.send_bytes(&[0xff; 64 * 1024]),
            "frame_too_long" => {
                let payload_bytes = u32::MAX as usize;
                self.send_bytes(
                    &FrameHeader { kind: Kind::ResponseHead, end: true, request: id, payload_bytes }.to_bytes(),
                );
            }
            "undecodable" => {
                let header = FrameHeader { kind: Kind::ResponseHead, end: true, request: id, payload_bytes: 8 };
                self.send_bytes(&[header.to_bytes().as_slice(), &[0xff; 8]].concat());
            }
            "wrong_direction" => {
                let header = FrameHeader { kind: Kind::Cancel, end: false, request: id, payload_bytes: 0 };
                self.send_bytes(&header.to_bytes());
            }
            "ready_again" => self.ready(BUILD),
            "unknown_request" => self.head(RequestId(id.0 ^ 1 << 40), 200, &[]),
            "head_twice" => (0..2).for_each(|_| self.head(id, 200, &[])),
            "body_first" => self.body(id, b"too early", false),
            "end_missing" => {
                self.head(id, 200, &[]);
                self.body(id, b"unfinished", false);
                self.done(id);
            }
            "done_first" => self.done(id),
            "done_twice" => {
                self.head(id, 200, &[]);
                self.body(id, b"hello\n", true);
                // In one write: between two the worker could be given another request, and would take it along into its death.
                let mut frames = Vec::new();
                for _ in 0..2 {
                    ToSupervisor::Done { id }.encode(&mut frames).expect("the message is within its limits");
                }
                self.send_bytes(&frames);
            }
            "body_beyond_window" => {
                self.head(id, 200, &[]);
                let chunk = [b'x'; BODY_CHUNK_BYTES_MAX];
                (0..4 * WINDOW_BYTES as usize / chunk.len()).for_each(|_| self.body(id, &chunk, false));
            }
            "empty_chunks" => {
                self.head(id, 200, &[]);
                let header = FrameHeader { kind: Kind::ResponseBody, end: false, request: id, payload_bytes: 0 };
                (0..1000).for_each(|_| self.send_bytes(&header.to_bytes()));
            }
            "status_out_of_range" => self.head(id, 1000, &[]),
            "header_with_line_end" => self.head(id, 200, &[("x-split", b"one\r\nset-cookie: stolen=1")]),
            "credit_overflow" => {
                (0..4).for_each(|_| self.send(&ToSupervisor::RequestCredit { id, bytes: u32::MAX }));
            }
            "log_flood" => {
                let message = "m".repeat(100);
                let line = LogLine { level: LogLevel::Debug, target: "flood", message: &message };
                (0..FLOOD_LINES).for_each(|_| self.send(&ToSupervisor::Log { id, line: line.clone() }));
                self.head(id, 200, &[]);
                self.body(id, b"hello\n", true);
                self.done(id);
            }
            unknown => panic!("the manifest routes to {unknown}"),
        }
    }

    /// Sends the request's body back, a chunk at a time, under the rules of credit in both directions.
    fn echo(&mut self, id: RequestId, mut end: bool) -> Option<()> {
        self.head(id, 200, &[]);
        let mut window = WINDOW_BYTES as usize;
        let mut waiting = Vec::new();
        while !(end && waiting.is_empty()) {
            let (bytes, last, credit) = self.receive(|message| match message {
                ToWorker::RequestBody { bytes, end, .. } => (bytes.to_vec(), end, 0),
                ToWorker::RequestTrailers { .. } => (Vec::new(), true, 0),
                ToWorker::ResponseCredit { bytes, .. } => (Vec::new(), false, bytes as usize),
                _ => (Vec::new(), false, 0),
            })?;
            waiting.extend_from_slice(&bytes);
            (end, window) = (end || last, window + credit);
            let sent = waiting.len().min(window);
            if sent > 0 {
                let bytes: Vec<u8> = waiting.drain(..sent).collect();
                window -= sent;
                self.body(id, &bytes, false);
                self.send(&ToSupervisor::RequestCredit { id, bytes: sent as u32 });
            }
        }
        self.body(id, b"", true);
        self.done(id);
        Some(())
    }

    /// Takes in nothing and says nothing until it is killed.
    fn be_deaf(&self) -> ! {
        loop {
            std::thread::park();
        }
    }

    fn head(&mut self, id: RequestId, status: u16, headers: &[(&str, &[u8])]) {
        let head = ResponseHead { status, body_bytes: None, headers: headers.to_vec() };
        self.send(&ToSupervisor::ResponseHead { id, head, end: false });
    }

    fn body(&mut self, id: RequestId, bytes: &[u8], end: bool) {
        let mut frames = Vec::new();
        encode_body(&mut frames, Kind::ResponseBody, id, bytes, end).expect("a chunk fits into frames");
        self.send_bytes(&frames);
    }

    fn done(&mut self, id: RequestId) {
        self.send(&ToSupervisor::Done { id });
    }

    fn send(&mut self, message: &ToSupervisor<'_>) {
        let mut frame = Vec::new();
        message.encode(&mut frame).expect("the message is within its limits");
        self.send_bytes(&frame);
    }

    /// A supervisor that has hung up ends this process.
    fn send_bytes(&mut self, bytes: &[u8]) {
        if self.link.write_all(bytes).is_err() {
            std::process::exit(0);
        }
    }

    /// Waits for the next message. `None` is the end of the link.
    fn receive<T>(&mut self, read: impl FnOnce(ToWorker<'_>) -> T) -> Option<T> {
        loop {
            if let Some(frame) = self.received.peek().expect("the supervisor keeps the rules") {
                let header = frame.header;
                let result = read(ToWorker::decode(&frame).expect("the supervisor keeps the rules"));
                self.received.consume(header);
                return Some(result);
            }
            let mut bytes = [0; 64 * 1024];
            match self.link.read(&mut bytes) {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.received.extend(&bytes[..count]),
            }
        }
    }

    /// The third word of the status page. Not atomic: nothing withdraws an offer from a worker that has nothing else to do.
    fn accept_offer(&self, id: RequestId) -> bool {
        const OFFER_AT: u64 = 128;
        let page = OpenOptions::new().read(true).write(true).open(format!("/proc/self/fd/{STATUS_FD}"));
        let page = page.expect("the status page is readable");
        let mut offer = [0; 8];
        page.read_exact_at(&mut offer, OFFER_AT).expect("the status page is readable");
        if offer != id.0.to_le_bytes() {
            return false;
        }
        page.write_all_at(&[0; 8], OFFER_AT).expect("the status page is writable");
        true
    }

    /// The first word of the status page.
    fn store_started(&self, id: RequestId) {
        let page = OpenOptions::new().write(true).open(format!("/proc/self/fd/{STATUS_FD}"));
        page.and_then(|page| page.write_all_at(&id.0.to_le_bytes(), 0)).expect("the status page is writable");
    }
}
