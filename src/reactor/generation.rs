//! The generations that live at one time: the one that requests go to, the next one while it gets ready, and those that finish what they
//! have.

use std::rc::Rc;
use std::time::Instant;

use mio::Registry;

use crate::answer::Answer;
use crate::app::App;
use crate::control::counters::Outcome;
use crate::http::Ids;
use crate::pool::Retirement;
use crate::request::{GenerationId, Stage};

use super::Settings;
use super::backend::{Backend, Standing};
use super::clients::Clients;

/// Most generations that live at a time. Reloads in quick succession, with requests that take long, leave one behind each; then the next one waits for
/// one of them to end.
pub const GENERATIONS_MAX: usize = 8;

/// Workers in a row that may fail to start before a generation is given up that has never been ready.
const START_FAILURES_MAX: u32 = 3;

/// See the module's documentation. There is always a current one.
#[derive(Debug)]
pub(super) struct Generations {
    /// The current one, and the others.
    list: Vec<Backend>,
    current: GenerationId,
    next: u32,
    ids: Rc<Ids>,
}

impl Generations {
    pub fn new(app: App, settings: &Settings, ids: Rc<Ids>, now: Instant, seed: u64) -> Generations {
        let id = GenerationId(1);
        let mut first = Backend::new(app, settings, ids.clone(), id, 1, now, seed);
        first.standing = Standing::Current;
        Generations { list: vec![first], current: id, next: 2, ids }
    }

    /// Makes the next generation, which does not serve yet.
    pub fn add(&mut self, app: App, settings: &Settings, now: Instant, seed: u64) -> GenerationId {
        let id = GenerationId(self.next);
        self.list.push(Backend::new(app, settings, self.ids.clone(), id, u64::from(self.next), now, seed));
        self.next += 1;
        id
    }

    pub fn current(&self) -> &Backend {
        let at = self.position(self.current);
        &self.list[at]
    }

    pub fn current_mut(&mut self) -> &mut Backend {
        let at = self.position(self.current);
        &mut self.list[at]
    }

    fn position(&self, id: GenerationId) -> usize {
        // The current one is only ever removed by being replaced, so that it is there.
        self.list.iter().position(|backend| backend.id == id).unwrap_or(0)
    }

    pub fn get_mut(&mut self, id: GenerationId) -> Option<&mut Backend> {
        self.list.iter_mut().find(|backend| backend.id == id)
    }

    pub fn get(&self, id: GenerationId) -> Option<&Backend> {
        self.list.iter().find(|backend| backend.id == id)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Backend> {
        self.list.iter()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Backend> {
        self.list.iter_mut()
    }

    /// There is no place for another generation.
    pub fn are_full(&self) -> bool {
        self.list.len() >= GENERATIONS_MAX
    }

    /// This generation, and the current one if that is another.
    pub fn with_current(&mut self, id: GenerationId) -> Option<(&mut Backend, &mut Backend)> {
        let (this, current) = (self.list.iter().position(|backend| backend.id == id)?, self.position(self.current));
        let [this, current] = self.list.get_disjoint_mut([this, current]).ok()?;
        Some((this, current))
    }

    /// Ends what is left of the oldest generation that drains.
    pub fn cut_oldest(&mut self, clients: &mut Clients, now: Instant) {
        if let Some(oldest) = self.list.iter_mut().find(|backend| backend.standing == Standing::Draining) {
            let (number, requests) = (oldest.number, oldest.in_flight());
            log::warn!(
                "cutting {requests} requests of generation {number}: a reload has waited long enough for its end"
            );
            oldest.cut(clients, now);
        }
    }

    /// Sends new requests to this generation from now on; the one before it drains.
    pub fn switch_to(&mut self, id: GenerationId) {
        let last = std::mem::replace(&mut self.current, id);
        let (old, new) = (self.position(last), self.position(id));
        if old == new {
            return;
        }
        self.list[old].standing = Standing::Draining;
        self.list[new].standing = Standing::Current;
        let [old, new] = match self.list.get_disjoint_mut([old, new]) {
            Ok(both) => both,
            Err(_) => return,
        };
        new.requests.continue_ids(&old.requests);
        // There is one measure for both.
        new.encoders = old.encoders.clone();
    }

    /// Gives a generation up that never served, or has served long enough: its workers are killed.
    pub fn abandon(&mut self, id: GenerationId) {
        if let Some(backend) = self.get_mut(id) {
            backend.standing = Standing::Draining;
            backend.pool.stop_replacing();
            backend.stop_template();
            backend.kill_quietly();
        }
    }

    /// Lets those go that have nothing left to do.
    pub fn wind_down(&mut self, registry: &Registry) {
        if self.list.len() == 1 {
            return;
        }
        for backend in &mut self.list {
            if backend.standing == Standing::Draining {
                backend.wind_down();
            }
        }
        self.list.retain_mut(|backend| {
            let is_over = backend.standing == Standing::Draining && backend.is_over();
            if is_over {
                log::debug!("generation {} has ended", backend.number);
                backend.close(registry);
            }
            !is_over
        });
    }

    /// The processes that are known: what a template says that it has forked must be none of them.
    pub fn pids(&self) -> Vec<i32> {
        let of_backend = |backend: &Backend| {
            let workers = backend.workers.iter().flatten().map(super::backend::Worker::pid);
            workers.chain(backend.template.pid()).collect::<Vec<_>>()
        };
        self.list.iter().flat_map(of_backend).collect()
    }

    pub fn in_flight(&self) -> usize {
        self.list.iter().map(Backend::in_flight).sum()
    }

    pub fn processes_alive(&self) -> usize {
        self.list.iter().map(Backend::processes_alive).sum()
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.list.iter().filter_map(Backend::next_deadline).min()
    }
}

/// How far a generation has come that does not serve yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Progress {
    Going,
    Complete,
    Failed { reason: String },
}

impl Backend {
    /// Whether this generation could take over.
    pub(super) fn progress(&self) -> Progress {
        if self.start_failures >= START_FAILURES_MAX {
            let last = self.last_failure.as_deref().unwrap_or("they ended before they were ready");
            let reason = format!("{START_FAILURES_MAX} attempts to start a worker failed: {last}");
            return Progress::Failed { reason };
        }
        if self.pool.is_complete() { Progress::Complete } else { Progress::Going }
    }

    /// Lets workers go that are not needed any more; the others follow when they are done.
    fn wind_down(&mut self) {
        if self.pool.is_replacing() && !self.has_waiting() {
            self.pool.stop_replacing();
            self.stop_template();
            for slot in self.pool.slots() {
                self.pool.retire(slot, Retirement::Replaced);
            }
        }
    }

    /// It has requests that no worker has yet.
    pub(super) fn has_waiting(&self) -> bool {
        let waits = |stage: Stage| matches!(stage, Stage::Reading | Stage::Queued | Stage::Offered { .. });
        self.requests.iter().any(|request| waits(request.stage))
    }

    /// Nothing is left of it.
    fn is_over(&self) -> bool {
        !self.pool.is_replacing() && self.in_flight() == 0 && self.finished.is_empty() && self.processes_alive() == 0
    }

    /// Ends what is left of it.
    fn cut(&mut self, clients: &mut Clients, now: Instant) {
        self.pool.stop_replacing();
        self.stop_template();
        self.shed_all(clients, now);
        self.answer_all(clients, now);
        self.kill_quietly();
    }

    /// Answers whoever still waits: the server, or this generation, has no more time.
    pub(super) fn answer_all(&mut self, clients: &mut Clients, now: Instant) {
        let ids: Vec<_> = self.requests.iter().map(|request| request.id).collect();
        for id in ids {
            self.answer(clients, id, &Answer::STOPPING, Outcome::Stopped, now);
        }
    }
}
