//! One generation, which is what lies behind the clients: a manifest with its requests in progress, its queue, its pool and the links of
//! its workers.
//!
//! Touches a client only through [`Clients`], to answer it. `frames` holds what workers say, `workers` how they come and go, `template` the
//! process that they are forked from, `begin` how requests come here, `dispatch` how they get to workers, `uploads` how their bodies do.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::Registry;
use rusmd_proto::limits::WINDOW_BYTES;
use rusmd_proto::{RequestId, SandboxLevel, ToWorker};

use crate::answer::Answer;
use crate::app::App;
use crate::blame::{Blame, Verdict};
use crate::compress::Room;
use crate::config::settings::OnTrap;
use crate::control::counters::{Outcome, RestartReason};
use crate::http::Ids;
use crate::link::Link;
use crate::pool::{Pool, SlotId};
use crate::queue::Queue;
use crate::random::Random;
use crate::request::{GenerationId, Reply, Request, RequestRef, Requests, Stage};
use crate::sys::{Cgroups, Priorities, Process, SharedPage};
use crate::timers::{Armed, Timers};

use super::Settings;
use super::account::{Tally, Unrouted};
use super::chatter::Chatter;
use super::clients::Clients;
use super::holding::Holding;
use super::report;
use super::source::{Member, Source};
use super::template::Template;

/// Buffers for encoded requests that are kept for the next ones.
const SPARE_FRAMES_MAX: usize = 64;

/// A buffer that has grown beyond this is given back.
const SPARE_FRAMES_BYTES_MAX: usize = 16 * 1024;

/// One worker process and everything that the supervisor shares with it.
#[derive(Debug)]
pub(super) struct Worker {
    /// Absent until its template has said which process it is.
    pub process: Option<Process>,
    pub link: Link,
    pub page: SharedPage,
    pub started_at: Instant,
    /// Nothing that it says counts any more, for this reason.
    pub silenced: Option<String>,
    /// Why this process killed it, if it did.
    pub killed: Option<RestartReason>,
    /// It does not serve any longer, and what it had begun has been blamed for that: from then on another has its place.
    pub gone: bool,
    /// When it is killed unless it has thrown away what was taken back from it.
    pub discard_by: Option<Instant>,
    pub armed: Armed,
    pub chatter: Chatter,
    talking: bool,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Backend {
    pub(super) id: GenerationId,
    /// Counted from 1, for the operator.
    pub(super) number: u64,
    pub(super) standing: Standing,
    pub(super) app: App,
    /// The app knows what the template found.
    pub(super) is_settled: bool,
    pub(super) pool: Pool,
    pub(super) queue: Queue,
    pub(super) requests: Requests,
    pub(super) ids: Rc<Ids>,
    pub(super) workers: Vec<Option<Worker>>,
    pub(super) template: Template,
    pub(super) blame: Blame,
    pub(super) random: Random,
    pub(super) timers: Timers<SlotId>,
    pub(super) request_timeout: Duration,
    pub(super) kill_grace: Duration,
    pub(super) on_trap: OnTrap,
    /// Zero is never.
    pub(super) slow_after: Duration,
    pub(super) worker_binary: PathBuf,
    pub(super) encoders: Room,
    /// Absent where this process may not raise a priority again that it has lowered.
    pub(super) priorities: Option<Priorities>,
    /// A control group for each worker, where that can be had.
    pub(super) cgroups: Option<Rc<Cgroups>>,
    pub(super) sandbox_reached: SandboxLevel,
    pub(super) sandbox_missing: Vec<String>,
    /// A worker has been ready once.
    pub(super) proven: bool,
    /// Workers in a row that could not be forked, or ended before they were ready, and why the last one did if that is known.
    pub(super) start_failures: u32,
    pub(super) last_failure: Option<String>,
    /// Workers whose end is awaited, and when to look for it whatever their pidfds have told.
    pub(super) dying: Vec<SlotId>,
    pub(super) look_at: Option<Instant>,
    /// Requests that are over and not accounted for yet, and dispatches.
    pub(super) finished: Vec<Request>,
    pub(super) dispatched_again: u64,
    /// Requests that ended before they could have become one.
    pub(super) unrouted: Vec<Unrouted>,
    pub(super) tells_access: bool,
    pub(super) tally: Tally,
    /// Its workers are sent away until an operator wants them back.
    pub(super) is_resting: bool,
    pub(super) holding: Holding,
    /// Links with something to say in this turn.
    talkers: Vec<SlotId>,
    /// Links that had more to read than their share of a turn.
    pub(super) unread_links: Vec<SlotId>,
    pub(super) spare_frames: Vec<Vec<u8>>,
    /// A process may have been forked that nobody waits for.
    pub(super) has_strays: bool,
}

/// Where a generation is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// Its workers are not ready yet; another generation serves, or none.
    Starting,
    /// New requests go to it.
    Current,
    /// It finishes what it has.
    Draining,
}

impl Backend {
    pub fn new(
        app: App,
        settings: &Settings,
        ids: Rc<Ids>,
        id: GenerationId,
        number: u64,
        now: Instant,
        seed: u64,
    ) -> Backend {
        Backend {
            id,
            number,
            standing: Standing::Starting,
            slow_after: app.config().log.slow.unwrap_or_default(),
            app,
            is_settled: false,
            workers: Vec::new(),
            pool: Pool::new(settings.workers, settings.spare_workers, settings.recycling, now, seed),
            queue: Queue::new(settings.queue_length, settings.queue_timeout),
            requests: Requests::new(seed),
            ids,
            template: Template::new(now),
            blame: Blame::new(settings.blame, now, seed),
            random: Random::new(seed),
            timers: Timers::default(),
            request_timeout: settings.request_timeout,
            kill_grace: settings.kill_grace,
            on_trap: settings.on_trap,
            worker_binary: settings.worker_binary.clone(),
            encoders: Room::default(),
            priorities: Priorities::probe(),
            cgroups: settings.cgroups.clone(),
            sandbox_reached: SandboxLevel::Off,
            sandbox_missing: Vec::new(),
            proven: false,
            start_failures: 0,
            last_failure: None,
            dying: Vec::new(),
            look_at: None,
            finished: Vec::new(),
            dispatched_again: 0,
            unrouted: Vec::new(),
            tells_access: true,
            tally: Tally::default(),
            is_resting: false,
            holding: Holding::new(settings.busy_body_timeout),
            talkers: Vec::new(),
            unread_links: Vec::new(),
            spare_frames: Vec::new(),
            has_strays: false,
        }
    }

    pub fn app(&self) -> &App {
        &self.app
    }

    /// Requests whose clients wait, or whose instances live.
    pub fn in_flight(&self) -> usize {
        self.requests.len()
    }

    /// Workers and templates that are there.
    pub fn processes_alive(&self) -> usize {
        self.pool.alive() + usize::from(self.template.is_running())
    }

    /// Components that cannot even be tried: they have taken templates down.
    pub fn skipped(&self) -> &[u16] {
        self.template.skipped()
    }

    /// A worker has been ready: the server can serve.
    pub fn is_proven(&self) -> bool {
        self.proven
    }

    /// Workers are still to be started when some are missing.
    pub(super) fn wants_workers(&self) -> bool {
        self.pool.is_replacing() && !self.is_resting
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        // Without a template the pool has to wait for it, whatever its own times.
        let pool = self.pool.next_deadline().filter(|_| self.template.is_running());
        [
            self.timers.next(),
            self.queue.next_expiry(),
            pool,
            self.template_deadline(),
            self.blame.next_deadline(),
            self.look_at,
            self.holding.next_look(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    pub fn has_work(&self) -> bool {
        !self.unread_links.is_empty()
    }

    /// The client has left. A handler that has the request runs to its end; one that does not never starts.
    pub fn leave(&mut self, id: RequestId, now: Instant) {
        if let Some(request) = self.requests.get_mut(id) {
            request.trace.conclude(Outcome::ClientLeft, now);
        }
        self.abort_body(id, now);
        if let Some(request) = self.requests.get_mut(id) {
            request.client = None;
            let window = request.window;
            let grant = WINDOW_BYTES - window;
            request.window = WINDOW_BYTES;
            self.grant(id, grant);
        }
    }

    /// The client has sent what is no body. It has had that status for an answer, unless a response had begun, which is cut.
    pub fn refuse_body(&mut self, id: RequestId, status: u16, now: Instant) {
        if let Some(request) = self.requests.get_mut(id) {
            if request.trace.status == 0 {
                request.trace.status = status;
            }
            request.trace.conclude(Outcome::Malformed, now);
        }
        self.leave(id, now);
    }

    /// True while the request waits for a worker.
    pub fn is_queued(&self, id: RequestId) -> bool {
        let stage = self.requests.get(id).map(|request| request.stage);
        matches!(stage, Some(Stage::Queued | Stage::Offered { .. }))
    }

    /// The client has `unsent` bytes of this response before it: grants the worker what has left since the last grant.
    pub fn refill_window(&mut self, id: RequestId, unsent: usize) {
        let Some(request) = self.requests.get_mut(id) else { return };
        if request.reply != Reply::Body {
            return;
        }
        let owed = (WINDOW_BYTES as usize).saturating_sub(request.window as usize + unsent) as u32;
        if owed >= WINDOW_BYTES / 2 {
            request.window += owed;
            self.grant(id, owed);
        }
    }

    pub(super) fn grant(&mut self, id: RequestId, bytes: u32) {
        let Some(slot) = self.requests.get(id).and_then(Request::slot) else { return };
        if bytes > 0 {
            self.send(slot, &ToWorker::ResponseCredit { id, bytes });
        }
    }

    pub(super) fn send(&mut self, slot: SlotId, message: &ToWorker<'_>) {
        if let Some(worker) = worker(&mut self.workers, slot) {
            worker.link.encode(|out| message.encode(out).is_ok());
            self.talk(slot);
        }
    }

    pub(super) fn talk(&mut self, slot: SlotId) {
        if let Some(worker) = worker(&mut self.workers, slot)
            && !worker.talking
        {
            worker.talking = true;
            self.talkers.push(slot);
        }
    }

    /// A link whose socket has room again has more to say.
    pub(super) fn resume_talk(&mut self, slot: SlotId) {
        if worker(&mut self.workers, slot).is_some_and(|worker| worker.link.unsent_bytes() > 0) {
            self.talk(slot);
        }
    }

    /// Writes what the links have to say: once in each turn.
    pub fn flush_links(&mut self, registry: &Registry) {
        let generation = self.id;
        while let Some(slot) = self.talkers.pop() {
            if let Some(worker) = worker(&mut self.workers, slot) {
                worker.talking = false;
                worker.link.flush();
                watch(&mut worker.link, Member { generation, slot }, registry);
            }
        }
    }

    /// Answers a request's client in the guest's place. After the head is out, all that is left is to cut.
    pub(super) fn answer(
        &mut self,
        clients: &mut Clients,
        id: RequestId,
        answer: &Answer,
        outcome: Outcome,
        now: Instant,
    ) {
        let Some(request) = self.requests.get_mut(id) else { return };
        request.trace.conclude(outcome, now);
        let Some(client) = request.client.take().and_then(|key| clients.get_mut(key)) else { return };
        client.request = None;
        let head_out = match request.stage {
            Stage::Reading | Stage::Queued | Stage::Offered { .. } | Stage::Sent { .. } => false,
            Stage::HeadOut { .. } | Stage::Finishing { .. } | Stage::Interrupted { .. } => true,
        };
        if head_out {
            client.connection.break_off(now);
        } else {
            request.trace.status = answer.status;
            let added = self.app.response_headers(request.serve);
            report::respond(&mut client.connection, answer, &request.name, added, now);
        }
        let key = client.key;
        clients.touch(key);
    }

    /// Ends a request that no worker has, or that its worker has finished.
    pub(super) fn forget(&mut self, id: RequestId) {
        if self.is_queued(id) {
            self.queue.remove(id);
        }
        self.finished.extend(self.requests.remove(id));
    }

    /// Takes back the memory of a request that is over and accounted for.
    pub(super) fn recycle(&mut self, request: Request) {
        let mut frames = request.frames;
        if self.spare_frames.len() < SPARE_FRAMES_MAX && frames.capacity() <= SPARE_FRAMES_BYTES_MAX {
            frames.clear();
            self.spare_frames.push(frames);
        }
    }

    /// What the control group of a slot's worker is called.
    pub(super) fn group_name(&self, slot: SlotId) -> String {
        format!("worker-{}-{slot}", self.number)
    }

    /// How the client of a request names it.
    pub(super) fn reference(&self, id: RequestId) -> RequestRef {
        RequestRef { generation: self.id, id }
    }
}

/// What a request gets that may not go to a worker.
pub(super) fn refusal(verdict: Verdict) -> Option<Answer> {
    let seconds = Duration::from_secs;
    match verdict {
        Verdict::Admit => None,
        Verdict::Poisoned { retry_after_s } => Some(Answer::poisoned(seconds(retry_after_s))),
        Verdict::Suspended { retry_after_s } => Some(Answer::suspended(seconds(retry_after_s))),
    }
}

/// Has the poll wait for what the link waits for.
fn watch(link: &mut Link, member: Member, registry: &Registry) {
    let wanted = link.wanted_interest();
    if *link.interest() != wanted {
        *link.interest() = wanted;
        if let Err(error) = registry.reregister(link.source(), Source::Link(member).token(), wanted) {
            log::error!("cannot wait for the worker in slot {}: {error}", member.slot);
        }
    }
}

pub(super) fn worker(workers: &mut [Option<Worker>], slot: SlotId) -> Option<&mut Worker> {
    workers.get_mut(slot.0 as usize)?.as_mut()
}

impl Worker {
    pub(super) fn new(link: Link, page: SharedPage, started_at: Instant) -> Worker {
        Worker {
            process: None,
            link,
            page,
            started_at,
            silenced: None,
            killed: None,
            gone: false,
            discard_by: None,
            armed: Armed::default(),
            chatter: Chatter::default(),
            talking: false,
        }
    }

    /// 0 while it is not known.
    pub(super) fn pid(&self) -> i32 {
        self.process.as_ref().map_or(0, Process::pid)
    }

    pub(super) fn signal(&self, signal: i32) {
        if let Some(process) = &self.process {
            process.signal(signal);
        }
    }
}
