//! What a template carries: the code that loads components, and that serves in what is forked from the template.
//!
//! Owns the one seam between the process parts of this crate (`template`, `probe`, `worker`, `sandbox`) and what runs in the process,
//! so that a test double can stand in the place of wasmtime.

use rusmd_proto::{ComponentKind, Hello, StatusPage};

use crate::error::ServeError;
use crate::link::{Link, Outbox};

/// Where a worker serves.
#[derive(Debug)]
pub struct Seat {
    pub link: Link,
    pub status: &'static StatusPage,
}

/// What components have, or the reason why one of them cannot be served.
pub type Answer = Result<Vec<String>, String>;

/// The steps of one service's life, in the order in which they come: `load` in the template, `open` in each process that is forked from
/// it, then `ask` in a probe or `serve` in a worker. From `load` to `open` the process must have one thread.
pub trait Service: Sized {
    /// Loads the components, and says in `status` which one it is at. `Err` keeps everything from being served.
    fn load(hello: &Hello<'_>, status: &StatusPage) -> Result<Self, String>;

    /// The components that must be asked for their actions, which takes code of theirs.
    fn unasked(&self) -> Vec<usize>;

    /// What such a component has answered. It is not among the unasked ones any more.
    fn learn(&mut self, component: usize, answer: Answer);

    /// What each component is.
    fn kinds(&self) -> Vec<ComponentKind<'_>>;

    /// Opens what `ask` or `serve` need and a confined process could not open.
    fn open(&mut self) -> Result<(), ServeError>;

    /// Asks one component for its actions.
    fn ask(&mut self, component: usize, status: &'static StatusPage, outbox: &Outbox) -> Answer;

    /// Serves until the link ends or the supervisor wants an end.
    fn serve(self, seat: Seat) -> Result<(), ServeError>;
}
