//! A worker that lies: it takes the place of `rusmd-worker`, runs no guest, and breaks the rules of the link, or tries to break out of
//! its sandbox, on demand.
//!
//! Owns one misbehaviour for each action name, with which the tests prove that the supervisor trusts no worker. The honest
//! ones among them (`hello`, `echo`) show that the others fail for what they do. Its processes are made and confined by the code of the
//! real worker; only what runs in them is different. Driven by a supervisor, through its link.

mod dictation;
mod hostile;
mod template;

use std::process::ExitCode;

use rusmd_proto::limits::{BODY_CHUNK_BYTES_MAX, PROTOCOL_VERSION, WINDOW_BYTES};
use rusmd_proto::message::encode_body;
use rusmd_proto::{
    BUILD, ComponentKind, FrameHeader, Hello, Kind, LogLevel, LogLine, Ready, RequestId, ResponseHead, SandboxLevel,
    StatusPage, ToSupervisor, ToWorker, Trailers,
};
use rusmd_worker::error::ServeError;
use rusmd_worker::link::{Link, LinkError, Outbox, Received};
use rusmd_worker::service::{Answer, Seat, Service};
use rusmd_worker::sys;

use dictation::{Dictation, lent};

/// What this worker claims to have, which is all that it can do.
const ACTIONS: &[&str] = &[
    "hello",
    "echo",
    "dictated",
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
    "begun_again",
    "forked",
    "backtrace_of_another",
    "endless",
    "attempt",
];

/// More than a client that does not read, and everything on the way to it, can hold.
const BEYOND_WINDOW_BYTES: usize = 256 << 20;

/// Log lines of one flood.
const FLOOD_LINES: usize = 20_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("compile") => compile(&arguments),
        Some("serve") => rusmd_worker::template::serve::<Claims>().unwrap_or(ExitCode::FAILURE),
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

/// What it says of itself before it serves.
struct Claims;

impl Service for Claims {
    fn load(hello: &Hello<'_>, status: &StatusPage) -> Result<Claims, String> {
        template::misbehave(hello, status).map(|()| Claims)
    }

    fn unasked(&self) -> Vec<usize> {
        Vec::new()
    }

    fn learn(&mut self, _: usize, _: Answer) {}

    fn kinds(&self) -> Vec<ComponentKind<'_>> {
        vec![ComponentKind::Handlers(ACTIONS.to_vec())]
    }

    fn open(&mut self) -> Result<(), ServeError> {
        Ok(())
    }

    fn ask(&mut self, _: usize, _: &'static StatusPage, _: &Outbox) -> Answer {
        Ok(Vec::new())
    }

    fn serve(self, seat: Seat) -> Result<(), ServeError> {
        let Seat { link, status } = seat;
        let mut double = Double { link, status };
        while double.serve_one().is_some() {}
        Ok(())
    }
}

struct Double {
    link: Link,
    status: &'static StatusPage,
}

impl Double {
    /// Waits for a request and does what its action says. `None` is the end of the link.
    fn serve_one(&mut self) -> Option<()> {
        let (id, action, query, end) = self.receive(|message| match message {
            ToWorker::Request { id, head, end } => {
                let (action, query) = (head.action.unwrap_or_default(), head.query.unwrap_or_default());
                Some(Some((id, action.to_owned(), query.to_owned(), end)))
            }
            // Late, about a request that is over.
            ToWorker::ResponseCredit { .. } => None,
            _ => Some(None),
        })??;
        if action.as_str() != "exit_before_start" && !self.status.accept_offer(id) {
            self.done(id);
            return Some(());
        }
        match action.as_str() {
            "exit_before_start" => std::process::exit(3),
            _ => self.status.store_started(id, sys::monotonic_ns()),
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
            "hello" => self.answer(id, b"hello\n"),
            "dictated" => self.dictated(id, &Dictation::read(&query)),
            "attempt" => {
                let outcome = hostile::attempt(&query);
                self.answer(id, outcome.as_bytes());
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
            "ready_again" => self.send(&ToSupervisor::Ready(Ready {
                protocol: PROTOCOL_VERSION,
                build: BUILD,
                sandbox: SandboxLevel::Off,
                sandbox_missing: Vec::new(),
                components: Vec::new(),
            })),
            "begun_again" => self.send(&ToSupervisor::Begun),
            "forked" => self.send(&ToSupervisor::Forked { slot: 0, pid: std::process::id() }),
            "backtrace_of_another" => {
                self.send(&ToSupervisor::Backtrace { id: RequestId(id.0 ^ 1 << 40), backtrace: "main" });
            }
            "endless" => loop {
                let line = LogLine { level: LogLevel::Trace, target: "endless", message: "and on" };
                self.send(&ToSupervisor::Log { id, line });
            },
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
                (0..BEYOND_WINDOW_BYTES / chunk.len()).for_each(|_| self.body(id, &chunk, false));
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
                ToWorker::RequestBody { bytes, end, .. } => Some((bytes.to_vec(), end, 0)),
                ToWorker::RequestTrailers { .. } => Some((Vec::new(), true, 0)),
                ToWorker::ResponseCredit { bytes, .. } => Some((Vec::new(), false, bytes as usize)),
                _ => None,
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

    fn dictated(&mut self, id: RequestId, dictation: &Dictation) {
        let headers = lent(&dictation.fields);
        let head = ResponseHead { status: dictation.status, body_bytes: dictation.body_bytes, headers };
        self.send(&ToSupervisor::ResponseHead { id, head, end: false });
        let is_last = dictation.trailers.is_empty();
        if !dictation.body.is_empty() || is_last {
            self.body(id, &dictation.body, is_last);
        }
        if !is_last {
            self.send(&ToSupervisor::ResponseTrailers {
                id,
                trailers: Trailers { headers: lent(&dictation.trailers) },
            });
        }
        self.done(id);
    }

    fn answer(&mut self, id: RequestId, body: &[u8]) {
        self.head(id, 200, &[]);
        self.body(id, body, true);
        self.done(id);
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
        self.link.outbox().lock().extend_from_slice(bytes);
        if self.link.flush().is_err() {
            std::process::exit(0);
        }
    }

    /// Waits for the next message of which `read` makes something. `None` is the end of the link.
    fn receive<T>(&mut self, mut read: impl FnMut(ToWorker<'_>) -> Option<T>) -> Option<T> {
        loop {
            let taken = self.link.next_frame(|frame| {
                let message = ToWorker::decode(frame).expect("the supervisor keeps the rules");
                Ok::<_, LinkError>(read(message))
            });
            match taken.expect("the supervisor keeps the rules") {
                Some(Some(taken)) => return Some(taken),
                Some(None) => {}
                None => match self.link.receive() {
                    Ok(Received::Some | Received::Nothing) => {}
                    Ok(Received::Ended) | Err(_) => return None,
                },
            }
        }
    }
}
