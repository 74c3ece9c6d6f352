//! One request after the other until the link ends.
//!
//! Owns the link, the runtime and the loaded components of a worker, and decides when to block: on the link alone while nothing runs,
//! on the link and the reactor while a guest waits. `run` carries one request through. `template` loads and `worker` starts it.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use rusmd_proto::{ComponentKind, Hello, LogLevel, RequestId, StatusPage, ToSupervisor};
use tokio::runtime::Runtime;

use crate::error::ServeError;
use crate::failure;
use crate::flag::Flag;
use crate::host::load::{Loaded, Loader, Program};
use crate::host::{Interrupted, Surroundings, new_store, take_inspection};
use crate::link::{Link, Outbox, Received};
use crate::probe::ACTIONS_TIMEOUT;
use crate::requests::{Illegal, Requests};
use crate::service::{Answer, Seat, Service};
use crate::sys::signals;

/// Components, loaded, and the reactor that they run on in a process that was forked to run them.
#[derive(Debug)]
pub struct Components {
    loaded: Vec<Loaded>,
    log_level: Option<LogLevel>,
    runtime: Option<Runtime>,
}

impl Service for Components {
    fn load(hello: &Hello<'_>, status: &StatusPage) -> Result<Components, String> {
        let mut loader = Loader::new(&hello.components);
        let mut loaded = Vec::with_capacity(hello.components.len());
        for (component, spec) in (0..).zip(&hello.components) {
            status.store_loading(Some(component));
            loaded.push(loader.load(spec));
        }
        Ok(Components { loaded, log_level: hello.log_level, runtime: None })
    }

    fn unasked(&self) -> Vec<usize> {
        let is_unasked = |loaded: &Loaded| matches!(loaded.program, Program::Handlers { actions: None, .. });
        (0..).zip(&self.loaded).filter(|(_, loaded)| is_unasked(loaded)).map(|(component, _)| component).collect()
    }

    fn learn(&mut self, component: usize, answer: Answer) {
        let Some(loaded) = self.loaded.get_mut(component) else { return };
        match (answer, &mut loaded.program) {
            (Ok(told), Program::Handlers { actions, .. }) => *actions = Some(told),
            (Ok(_), Program::Http02 { .. } | Program::Http03 { .. } | Program::Unloadable(_)) => {}
            (Err(reason), program) => *program = Program::Unloadable(reason),
        }
    }

    fn kinds(&self) -> Vec<ComponentKind<'_>> {
        self.loaded.iter().map(|loaded| kind(&loaded.program)).collect()
    }

    fn open(&mut self) -> Result<(), ServeError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        self.runtime = Some(runtime.map_err(ServeError::Runtime)?);
        Ok(())
    }

    fn ask(&mut self, component: usize, status: &'static StatusPage, outbox: &Outbox) -> Answer {
        let surroundings = Surroundings { status, outbox: outbox.clone(), log_level: self.log_level };
        let (Some(loaded), Some(runtime)) = (self.loaded.get(component), &self.runtime) else {
            return Err("it is not loaded".to_owned());
        };
        let Program::Handlers { engine, handlers, .. } = &loaded.program else { return Ok(Vec::new()) };
        let asked = async {
            let store = new_store(engine, &loaded.grants, &surroundings, RequestId::NONE)?;
            let log = store.data().log.clone();
            let asked = handlers.ask(store).await;
            log.finish();
            asked
        };
        signals::set_alarm(ACTIONS_TIMEOUT);
        let answer = runtime.block_on(asked);
        signals::cancel_alarm();
        answer.map_err(|error| {
            let reason = match error.is::<Interrupted>() {
                true => format!("it did not tell them within {ACTIONS_TIMEOUT:?}"),
                false => failure::message(&error),
            };
            format!("cannot learn its actions: {reason}")
        })
    }

    fn serve(self, seat: Seat) -> Result<(), ServeError> {
        let Components { loaded, log_level, runtime } = self;
        let Some(runtime) = runtime else { return Ok(()) };
        // wasmtime-wasi starts a runtime of its own, with threads, for calls outside of one.
        let handle = runtime.handle().clone();
        let _entered = handle.enter();
        Server::new(seat, loaded.into(), log_level, runtime).serve()
    }
}

/// A worker once it has begun.
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

impl Server {
    fn new(seat: Seat, components: Rc<[Loaded]>, log_level: Option<LogLevel>, runtime: Runtime) -> Server {
        let Seat { link, status } = seat;
        let surroundings = Surroundings { status, outbox: link.outbox().clone(), log_level };
        let requests = Requests::new(link.outbox().clone());
        let flag = Arc::new(Flag::default());
        let waker = Waker::from(flag.clone());
        Server { link, requests, components, surroundings, runtime, flag, waker }
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
        self.answer_inspection()?;
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
        self.answer_inspection()?;
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

    /// Before this process waits: a guest that computes has answered, or will, when the signal comes, but one that waits for the host
    /// has no stack to be looked at.
    fn answer_inspection(&mut self) -> Result<(), ServeError> {
        let status = self.surroundings.status;
        let Some(exchange) = self.requests.active().filter(|exchange| exchange.inspected) else { return Ok(()) };
        exchange.inspected = false;
        let id = exchange.id;
        if take_inspection(status, id) {
            self.link.outbox().push(&ToSupervisor::Backtrace { id, backtrace: "" })?;
            self.link.flush()?;
        }
        Ok(())
    }
}

fn kind(program: &Program) -> ComponentKind<'_> {
    match program {
        Program::Handlers { actions, .. } => {
            ComponentKind::Handlers(actions.iter().flatten().map(String::as_str).collect())
        }
        Program::Http02 { .. } => ComponentKind::WasiHttp02,
        Program::Http03 { .. } => ComponentKind::WasiHttp03,
        Program::Unloadable(reason) => ComponentKind::Unloadable(reason),
    }
}
