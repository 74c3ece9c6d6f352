//! `rusmd-worker serve`: the handshake, then one request after the other until the link ends.
//!
//! Owns the link, the runtime and the loaded components, and decides when to block: on the link alone while nothing runs,
//! on the link and the reactor while a guest waits. `run` carries one request through.

use std::fmt;
use std::future::poll_fn;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use rusmd_proto::frame::Kind;
use rusmd_proto::limits::PROTOCOL_VERSION;
use rusmd_proto::{
    BUILD, CodecError, ComponentInfo, ComponentKind, Frame, FrameHeader, Hello, Ready, Refused, StatusPage,
    ToSupervisor, ToWorker,
};
use tokio::runtime::Runtime;

use crate::flag::Flag;
use crate::host::Surroundings;
use crate::host::load::{Loaded, Loader, Program};
use crate::link::{Link, LinkError, Received};
use crate::requests::{Illegal, Requests};
use crate::sys::{self, Inherited, SysError};

/// The worker once it is ready.
#[derive(Debug)]
pub struct Server {
    pub link: Link,
    pub requests: Requests,
    pub components: Rc<[Loaded]>,
    pub surroundings: Surroundings,
    pub runtime: Runtime,
    pub flag: Arc<Flag>,
    pub waker: Waker,
}

/// Whether to go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    Continue,
    /// The supervisor has closed the link, or wanted an end that has now come.
    Exit,
}

/// How the handshake ended.
#[derive(Debug)]
enum Handshake {
    Ready(Box<Server>),
    /// The supervisor left before it was over.
    Ended,
    /// The supervisor cannot be served, and has been told why.
    Refused,
}

/// Serves until the link ends.
pub fn serve() -> Result<ExitCode, ServeError> {
    sys::settle()?;
    let Inherited { link, status } = sys::inherit()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ServeError::Runtime)?;
    // wasmtime-wasi starts a runtime of its own, with threads, for calls outside of one.
    let handle = runtime.handle().clone();
    let _entered = handle.enter();
    match Server::handshake(link, status, runtime)? {
        Handshake::Ready(mut server) => server.serve().map(|()| ExitCode::SUCCESS),
        Handshake::Ended => Ok(ExitCode::SUCCESS),
        Handshake::Refused => Ok(ExitCode::FAILURE),
    }
}

impl Server {
    /// Learns what to serve and loads it.
    fn handshake(socket: OwnedFd, status: &'static StatusPage, runtime: Runtime) -> Result<Handshake, ServeError> {
        let mut link = Link::new(socket);
        let Some((header, payload)) = first_frame(&mut link)? else {
            return Ok(Handshake::Ended);
        };
        let hello = match ToWorker::decode(&Frame { header, payload: &payload }) {
            Ok(ToWorker::Hello(hello)) if hello.build == BUILD => hello,
            Ok(ToWorker::Hello(Hello { build, .. })) => {
                return refuse(link, &format!("build {build} of rusmd, but this is rusmd-worker {BUILD}"));
            }
            Err(error @ CodecError::WrongVersion { .. }) => return refuse(link, &error.to_string()),
            Err(error) => return Err(Illegal::Codec(error).into()),
            Ok(_) => return Err(Illegal::Unexpected(header.kind).into()),
        };
        let surroundings = Surroundings { status, outbox: link.outbox().clone(), log_level: hello.log_level };
        let mut loader = Loader::new(&hello.components, surroundings.clone());
        let mut components = Vec::with_capacity(hello.components.len());
        for spec in &hello.components {
            components.push(runtime.block_on(loader.load(spec)));
        }
        let infos = components.iter().map(|loaded| ComponentInfo { kind: kind(&loaded.program) }).collect();
        let ready = Ready { protocol: PROTOCOL_VERSION, build: BUILD, components: infos };
        link.outbox().push(&ToSupervisor::Ready(ready)).map_err(Illegal::Codec)?;
        link.flush().map_err(Illegal::Link)?;
        let requests = Requests::new(link.outbox().clone());
        let flag = Arc::new(Flag::default());
        let waker = Waker::from(flag.clone());
        let components = components.into();
        let server = Server { link, requests, components, surroundings, runtime, flag, waker };
        Ok(Handshake::Ready(Box::new(server)))
    }

    /// One request after the other.
    fn serve(&mut self) -> Result<(), ServeError> {
        loop {
            self.take_frames()?;
            if self.requests.is_draining() {
                return Ok(());
            }
            let next = match self.requests.start_next() {
                Some(head) if self.takes_up() => self.run(&head)?,
                Some(_) => self.discard()?,
                None => self.block_on_link()?,
            };
            if next == Next::Exit {
                return Ok(());
            }
        }
    }

    /// Whether the active request is still this worker's to run: the supervisor may have withdrawn it while it waited.
    fn takes_up(&mut self) -> bool {
        let status = self.surroundings.status;
        self.requests.active().is_some_and(|exchange| status.accept_offer(exchange.id))
    }

    /// Throws the active request away, which another worker has, and says so: until then the supervisor sends nothing that this worker
    /// could mistake for it.
    fn discard(&mut self) -> Result<Next, ServeError> {
        if let Some(id) = self.requests.active().map(|exchange| exchange.id) {
            self.requests.finish_active();
            self.link.outbox().push(&ToSupervisor::Done { id }).map_err(Illegal::Codec)?;
            self.link.flush()?;
        }
        Ok(Next::Continue)
    }

    /// Waits for frames and nothing else.
    pub fn block_on_link(&mut self) -> Result<Next, ServeError> {
        match self.link.receive().map_err(Illegal::Link)? {
            Received::Ended => Ok(Next::Exit),
            Received::Some | Received::Nothing => {
                self.take_frames()?;
                Ok(Next::Continue)
            }
        }
    }

    /// Waits for frames, or for whatever the guest waits for.
    pub fn block_on_guest_or_link(&mut self) -> Result<Next, ServeError> {
        let (flag, link) = (&self.flag, &mut self.link);
        let received = self.runtime.block_on(poll_fn(|cx| {
            if flag.arm(cx.waker()) {
                return std::task::Poll::Ready(Ok(Received::Nothing));
            }
            link.poll_receive(cx)
        }));
        self.flag.disarm();
        match received.map_err(Illegal::Link)? {
            Received::Ended => Ok(Next::Exit),
            Received::Some | Received::Nothing => {
                self.take_frames()?;
                Ok(Next::Continue)
            }
        }
    }

    /// Looks at the link and at the reactor without waiting: for guests that never do.
    pub fn look_around(&mut self) -> Result<Next, ServeError> {
        self.runtime.block_on(tokio::task::yield_now());
        match self.link.try_receive().map_err(Illegal::Link)? {
            Received::Ended => Ok(Next::Exit),
            Received::Some | Received::Nothing => {
                self.take_frames()?;
                Ok(Next::Continue)
            }
        }
    }

    fn take_frames(&mut self) -> Result<(), ServeError> {
        let requests = &mut self.requests;
        while self.link.next_frame(|frame| requests.handle(frame))?.is_some() {}
        Ok(())
    }
}

/// The frame that opens the handshake, or `None` when the supervisor left before.
fn first_frame(link: &mut Link) -> Result<Option<(FrameHeader, Vec<u8>)>, ServeError> {
    loop {
        let frame = link.next_frame(|frame| match frame.header.kind {
            Kind::Hello => Ok((frame.header, frame.payload.to_vec())),
            kind => Err(Illegal::Unexpected(kind)),
        })?;
        if frame.is_some() {
            return Ok(frame);
        }
        if link.receive().map_err(Illegal::Link)? == Received::Ended {
            return Ok(None);
        }
    }
}

fn refuse(mut link: Link, message: &str) -> Result<Handshake, ServeError> {
    let refused = Refused { protocol: PROTOCOL_VERSION, message };
    link.outbox().push(&ToSupervisor::Refused(refused)).map_err(Illegal::Codec)?;
    link.flush()?;
    Ok(Handshake::Refused)
}

fn kind(program: &Program) -> ComponentKind<'_> {
    match program {
        Program::Handlers { actions, .. } => ComponentKind::Handlers(actions.iter().map(String::as_str).collect()),
        Program::Http02 { .. } => ComponentKind::WasiHttp02,
        Program::Http03 { .. } => ComponentKind::WasiHttp03,
        Program::Unloadable(reason) => ComponentKind::Unloadable(reason),
    }
}

/// Why the worker cannot go on. None of these is a guest's fault.
#[derive(Debug)]
pub enum ServeError {
    Sys(SysError),
    Runtime(std::io::Error),
    Illegal(Illegal),
}

impl From<SysError> for ServeError {
    fn from(error: SysError) -> Self {
        ServeError::Sys(error)
    }
}

impl From<Illegal> for ServeError {
    fn from(error: Illegal) -> Self {
        ServeError::Illegal(error)
    }
}

impl From<LinkError> for ServeError {
    fn from(error: LinkError) -> Self {
        ServeError::Illegal(Illegal::Link(error))
    }
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServeError::Sys(error) => fmt::Display::fmt(error, f),
            ServeError::Runtime(error) => write!(f, "cannot start the reactor: {error}"),
            ServeError::Illegal(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl std::error::Error for ServeError {}
