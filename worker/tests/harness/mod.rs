//! Drives the real worker binary over socket pairs, as the supervisor would, frame by frame.
//!
//! Shared by the tests and by the examples. Reads time out, so that a worker that should answer and does not fails
//! a test rather than hanging it.
#![allow(dead_code, reason = "each program that includes this uses its own part")]
#![allow(unsafe_code, reason = "a child's descriptors are arranged between fork and exec")]

mod samples;

use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rusmd_proto::frame::Kind;
use rusmd_proto::status::STATUS_PAGE_BYTES;
use rusmd_proto::{
    ComponentKind, ComponentSpec, FailureCause, FrameBuffer, LINK_FD, LogLevel, RequestHead, RequestId, STATUS_FD,
    SandboxLevel, StatusPage, ToSupervisor, ToWorker,
};
use rustix::mm::{MapFlags, ProtFlags};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
#[allow(unused_imports, reason = "each program that includes this uses its own part")]
pub use samples::{binary, cache, compile, guest, head, head_with_query, hello, repository, spec};

/// How long a worker may take for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// A message from the worker, owned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Got {
    Ready(Vec<Kinds>, SandboxLevel, Vec<String>),
    Refused(String),
    Forked {
        slot: u32,
        pid: u32,
    },
    ForkFailed(String),
    Begun,
    Backtrace {
        id: u64,
        backtrace: String,
    },
    Head {
        id: u64,
        status: u16,
        body_bytes: Option<u64>,
        headers: Vec<(String, Vec<u8>)>,
        end: bool,
    },
    Body {
        id: u64,
        bytes: Vec<u8>,
        end: bool,
    },
    Trailers {
        id: u64,
        headers: Vec<(String, Vec<u8>)>,
    },
    Failed {
        id: u64,
        cause: FailureCause,
        message: String,
        backtrace: String,
    },
    RequestCredit {
        id: u64,
        bytes: u32,
    },
    Log {
        id: u64,
        level: LogLevel,
        target: String,
        message: String,
    },
    Done {
        id: u64,
    },
    /// The worker has closed its end.
    End,
}

/// [`ComponentKind`], owned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kinds {
    Handlers(Vec<String>),
    WasiHttp02,
    WasiHttp03,
    Unloadable(String),
}

/// All that one request came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Outcome {
    pub status: Option<u16>,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
    pub ended: bool,
    pub trailers: Vec<(String, Vec<u8>)>,
    pub failed: Option<(FailureCause, String, String)>,
    pub log: Vec<(LogLevel, String, String)>,
}

impl Outcome {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn cause(&self) -> Option<FailureCause> {
        self.failed.as_ref().map(|(cause, ..)| *cause)
    }
}

/// One end of a link and what has come over it.
#[derive(Debug)]
pub struct Line {
    pub link: UnixStream,
    pub received: FrameBuffer,
}

/// The process that loads and forks.
#[derive(Debug)]
pub struct Template {
    pub child: Child,
    pub line: Line,
    pub status: &'static StatusPage,
}

/// A process that serves, and the template that it comes from.
#[derive(Debug)]
pub struct Worker {
    pub pid: u32,
    pub line: Line,
    pub status: &'static StatusPage,
    pub template: Option<Template>,
    ended: Option<ExitStatus>,
}

impl Template {
    /// Starts one without a handshake.
    pub fn spawn() -> Template {
        Template::spawn_as(|_| {})
    }

    /// The same, with something else about the process.
    pub fn spawn_as(change: impl FnOnce(&mut Command)) -> Template {
        adopt_orphans();
        let (line, theirs) = Line::pair();
        let (status, page) = status_page();
        let (link_fd, status_fd) = (theirs.as_raw_fd(), page.as_raw_fd());
        let mut command = Command::new(binary());
        command.arg("serve").env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        // SAFETY: only `fcntl` and `dup2` are called, which are safe between fork and exec. Both descriptors are moved out
        // of the way first, so that neither target overwrites the other source.
        unsafe {
            command.pre_exec(move || {
                let high_link = libc::fcntl(link_fd, libc::F_DUPFD_CLOEXEC, 100);
                let high_status = libc::fcntl(status_fd, libc::F_DUPFD_CLOEXEC, 100);
                if libc::dup2(high_link, LINK_FD) < 0 || libc::dup2(high_status, STATUS_FD) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        change(&mut command);
        let child = command.spawn().expect("the template starts");
        Template { child, line, status }
    }

    /// Starts one with this `Hello` and waits until it is ready.
    pub fn start(hello: &ToWorker<'_>) -> (Template, Vec<Kinds>) {
        let mut template = Template::spawn();
        template.line.send(hello);
        match template.line.receive() {
            Got::Ready(kinds, ..) => (template, kinds),
            got => panic!("{got:?} instead of Ready; {}", template.last_words()),
        }
    }

    /// Has it fork a worker, which waits for `Begin`.
    pub fn fork(&mut self, slot: u32) -> (u32, Line, &'static StatusPage) {
        let (line, theirs) = Line::pair();
        let (status, page) = status_page();
        self.line.send_with_descriptors(&ToWorker::Fork { slot }, &[theirs.as_fd(), page.as_fd()]);
        match self.line.receive() {
            Got::Forked { slot: of, pid } if of == slot => (pid, line, status),
            got => panic!("{got:?} instead of Forked; {}", self.last_words()),
        }
    }

    /// Has it fork a worker and waits until that can serve.
    pub fn begin(mut self) -> Worker {
        let (pid, line, status) = self.fork(7);
        let mut worker = self.into_worker(pid, line, status);
        worker.send(&ToWorker::Begin { slot: 7 });
        match worker.receive() {
            Got::Begun => worker,
            got => panic!("{got:?} instead of Begun; {}", worker.last_words()),
        }
    }

    /// A worker that it has forked, with it.
    pub fn into_worker(self, pid: u32, line: Line, status: &'static StatusPage) -> Worker {
        Worker { pid, line, status, template: Some(self), ended: None }
    }

    /// Closes the link and waits for the end.
    pub fn close(mut self) -> ExitStatus {
        self.line.link.shutdown(std::net::Shutdown::Both).expect("shutdown");
        self.wait()
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("the template can be waited for")
    }

    /// Ends the template and reads what it wrote to its standard error.
    pub fn last_words(&mut self) -> String {
        let _ = self.line.link.shutdown(std::net::Shutdown::Both);
        let _ = self.child.wait();
        let mut text = String::new();
        if let Some(stderr) = &mut self.child.stderr {
            let _ = stderr.read_to_string(&mut text);
        }
        format!("it said: {text:?}")
    }
}

impl Drop for Template {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Worker {
    /// Starts a worker with these components.
    pub fn start(specs: Vec<ComponentSpec<'_>>) -> (Worker, Vec<Kinds>) {
        let (template, kinds) = Template::start(&hello(specs));
        (template.begin(), kinds)
    }

    /// Starts a worker with the one component at `wasm`.
    pub fn serving(wasm: &Path) -> Worker {
        let artifact = compile(wasm);
        let (worker, kinds) = Worker::start(vec![spec(&artifact)]);
        assert!(!matches!(kinds[0], Kinds::Unloadable(_)), "{kinds:?}");
        worker
    }

    /// A request is offered before it is sent, and only one at a time.
    pub fn send(&mut self, message: &ToWorker<'_>) {
        if let ToWorker::Request { id, .. } = message {
            let deadline = now() + PATIENCE;
            while !self.status.is_offer_settled() {
                assert!(now() < deadline, "the request before {id} was never taken up");
                std::thread::yield_now();
            }
            self.status.store_offer(*id);
        }
        self.line.send(message);
    }

    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.line.send_raw(bytes);
    }

    /// The next message, whatever it is.
    pub fn receive(&mut self) -> Got {
        self.line.receive()
    }

    /// Sends a request with its whole body, grants what is used, and waits for `Done`.
    pub fn request(&mut self, id: u64, head: RequestHead<'_>, body: &[u8]) -> Outcome {
        self.send(&ToWorker::Request { id: RequestId(id), head, end: body.is_empty() });
        if !body.is_empty() {
            let mut bytes = Vec::new();
            rusmd_proto::message::encode_body(&mut bytes, Kind::RequestBody, RequestId(id), body, true).expect("legal");
            self.send_raw(&bytes);
        }
        self.outcome(id)
    }

    pub fn get(&mut self, id: u64, path: &str) -> Outcome {
        self.request(id, head("GET", path), b"")
    }

    /// Collects what a request comes to, granting credit as the body arrives.
    pub fn outcome(&mut self, id: u64) -> Outcome {
        let mut outcome = Outcome::default();
        loop {
            match self.receive() {
                Got::Head { id: of, status, headers, end, .. } if of == id => {
                    assert!(outcome.status.is_none(), "a second head");
                    outcome.status = Some(status);
                    outcome.headers = headers;
                    outcome.ended = end;
                }
                Got::Body { id: of, bytes, end } if of == id => {
                    assert!(outcome.status.is_some() && !outcome.ended, "a body out of place");
                    outcome.body.extend_from_slice(&bytes);
                    outcome.ended = end;
                    if !end && !bytes.is_empty() {
                        self.send(&ToWorker::ResponseCredit { id: RequestId(id), bytes: bytes.len() as u32 });
                    }
                }
                Got::Trailers { id: of, headers } if of == id => {
                    outcome.trailers = headers;
                    outcome.ended = true;
                }
                Got::Failed { id: of, cause, message, backtrace } if of == id => {
                    outcome.failed = Some((cause, message, backtrace));
                }
                Got::Log { id: of, level, target, message } if of == id => outcome.log.push((level, target, message)),
                Got::RequestCredit { .. } => {}
                Got::Done { id: of } if of == id => return outcome,
                got => panic!("{got:?} while waiting for {id}; {}", self.last_words()),
            }
        }
    }

    /// Waits until the worker says that the guest of this request has control.
    pub fn wait_until_started(&self, id: u64) {
        let deadline = now() + PATIENCE;
        while self.status.started() != RequestId(id) {
            assert!(now() < deadline, "request {id} never started");
            std::thread::yield_now();
        }
    }

    /// Waits until the worker waits: its guest has nothing to run.
    pub fn wait_until_asleep(&self) {
        let deadline = now() + PATIENCE;
        let is_asleep = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).expect("it has not been waited for");
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S'))
        };
        while !is_asleep() {
            assert!(now() < deadline, "it never sleeps");
            std::thread::yield_now();
        }
    }

    pub fn signal(&self, signal: i32) {
        assert!(self.ended.is_none(), "a worker that has been waited for has no id");
        // SAFETY: it has not been waited for, so its id is still its own.
        assert_eq!(unsafe { libc::kill(self.pid as i32, signal) }, 0);
    }

    /// Closes the link and waits for the end.
    pub fn close(mut self) -> ExitStatus {
        self.line.link.shutdown(std::net::Shutdown::Both).expect("shutdown");
        self.wait()
    }

    pub fn wait(&mut self) -> ExitStatus {
        let pid = self.pid as i32;
        *self.ended.get_or_insert_with(|| {
            let mut status = 0;
            // SAFETY: a child of this process, by adoption, that has not been waited for; the status is written to a variable.
            assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
            ExitStatus::from_raw(status)
        })
    }

    /// Ends the worker and gives back its template.
    pub fn end(mut self) -> Template {
        let template = self.template.take().expect("it is given back once");
        drop(self);
        template
    }

    /// Ends the worker and its template, and reads what they wrote to their standard error.
    pub fn last_words(&mut self) -> String {
        let _ = self.line.link.shutdown(std::net::Shutdown::Both);
        let ended = self.wait();
        let words = self.template.as_mut().map(Template::last_words).unwrap_or_default();
        format!("the worker ended with {ended}, {words}")
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.ended.is_none() {
            self.signal(libc::SIGKILL);
            self.wait();
        }
    }
}

impl Line {
    /// One end, and the other for the process.
    pub fn pair() -> (Line, UnixStream) {
        let (link, theirs) = UnixStream::pair().expect("a socket pair");
        link.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        link.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        (Line { link, received: FrameBuffer::default() }, theirs)
    }

    pub fn send(&mut self, message: &ToWorker<'_>) {
        let mut bytes = Vec::new();
        message.encode(&mut bytes).expect("the message is legal");
        self.send_raw(&bytes);
    }

    pub fn send_with_descriptors(&mut self, message: &ToWorker<'_>, descriptors: &[BorrowedFd<'_>]) {
        let mut bytes = Vec::new();
        message.encode(&mut bytes).expect("the message is legal");
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            assert!(ancillary.push(SendAncillaryMessage::ScmRights(descriptors)), "room for them");
        }
        let sent = rustix::net::sendmsg(&self.link, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL)
            .expect("sent");
        assert_eq!(sent, bytes.len());
    }

    /// Writes bytes, and takes in what the worker says meanwhile: neither side may wait for the other to read.
    pub fn send_raw(&mut self, mut bytes: &[u8]) {
        let deadline = now() + PATIENCE;
        self.link.set_nonblocking(true).expect("an option");
        while !bytes.is_empty() {
            match self.link.write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    assert!(now() < deadline, "the worker does not read");
                    let mut chunk = [0; 65536];
                    // An end is noticed by whoever receives next.
                    if let Ok(count) = self.link.read(&mut chunk) {
                        self.received.extend(&chunk[..count]);
                    }
                    std::thread::yield_now();
                }
                Err(error) => panic!("the worker does not read: {error}"),
            }
        }
        self.link.set_nonblocking(false).expect("an option");
    }

    /// The next message, whatever it is.
    pub fn receive(&mut self) -> Got {
        loop {
            if let Some(frame) = self.received.peek().expect("the worker's frames are well formed") {
                let header = frame.header;
                let got = own(&ToSupervisor::decode(&frame).expect("the worker's messages are legal"));
                self.received.consume(header);
                return got;
            }
            let mut chunk = [0; 65536];
            match self.link.read(&mut chunk) {
                Ok(0) => return Got::End,
                Ok(count) => self.received.extend(&chunk[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Got::End,
                // A socket with a timeout is not read on after a signal, not even after one that is ignored.
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => panic!("no answer from the worker: {error}"),
            }
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "a deadline for tests")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

/// Whoever loses its parent below this process becomes its child, as it does below the supervisor.
fn adopt_orphans() {
    // SAFETY: this option takes one number.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }, 0);
}

fn status_page() -> (&'static StatusPage, OwnedFd) {
    let page = rustix::fs::memfd_create("status", rustix::fs::MemfdFlags::CLOEXEC).expect("a memory file");
    rustix::fs::ftruncate(&page, STATUS_PAGE_BYTES as u64).expect("room in it");
    (map(&page), page)
}

fn map(page: &OwnedFd) -> &'static StatusPage {
    let flags = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a fresh shared mapping of a file of that size, never unmapped, accessed through atomics only.
    unsafe {
        let address =
            rustix::mm::mmap(std::ptr::null_mut(), STATUS_PAGE_BYTES, flags, MapFlags::SHARED, page, 0).expect("mmap");
        &*address.cast::<StatusPage>()
    }
}

fn own(message: &ToSupervisor<'_>) -> Got {
    let lines = |headers: &[rusmd_proto::Header<'_>]| {
        headers.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect()
    };
    match message {
        ToSupervisor::Ready(ready) => Got::Ready(
            ready
                .components
                .iter()
                .map(|info| match &info.kind {
                    ComponentKind::Handlers(actions) => {
                        Kinds::Handlers(actions.iter().map(|action| (*action).to_owned()).collect())
                    }
                    ComponentKind::WasiHttp02 => Kinds::WasiHttp02,
                    ComponentKind::WasiHttp03 => Kinds::WasiHttp03,
                    ComponentKind::Unloadable(reason) => Kinds::Unloadable((*reason).to_owned()),
                })
                .collect(),
            ready.sandbox,
            ready.sandbox_missing.iter().map(|step| (*step).to_owned()).collect(),
        ),
        ToSupervisor::Refused(refused) => Got::Refused(refused.message.to_owned()),
        ToSupervisor::ResponseHead { id, head, end } => Got::Head {
            id: id.0,
            status: head.status,
            body_bytes: head.body_bytes,
            headers: lines(&head.headers),
            end: *end,
        },
        ToSupervisor::ResponseBody { id, bytes, end } => Got::Body { id: id.0, bytes: bytes.to_vec(), end: *end },
        ToSupervisor::ResponseTrailers { id, trailers } => {
            Got::Trailers { id: id.0, headers: lines(&trailers.headers) }
        }
        ToSupervisor::Failed { id, failure } => Got::Failed {
            id: id.0,
            cause: failure.cause,
            message: failure.message.to_owned(),
            backtrace: failure.backtrace.to_owned(),
        },
        ToSupervisor::RequestCredit { id, bytes } => Got::RequestCredit { id: id.0, bytes: *bytes },
        ToSupervisor::Log { id, line } => {
            Got::Log { id: id.0, level: line.level, target: line.target.to_owned(), message: line.message.to_owned() }
        }
        ToSupervisor::Done { id } => Got::Done { id: id.0 },
        ToSupervisor::Forked { slot, pid } => Got::Forked { slot: *slot, pid: *pid },
        ToSupervisor::ForkFailed(failed) => Got::ForkFailed(failed.message.to_owned()),
        ToSupervisor::Begun => Got::Begun,
        ToSupervisor::Backtrace { id, backtrace } => Got::Backtrace { id: id.0, backtrace: (*backtrace).to_owned() },
    }
}
