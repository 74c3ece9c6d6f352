//! The process that a generation's workers are forked from: its start, what it says, its end.
//!
//! A template has loaded every component. It is trusted no more than a worker: what it claims to have forked is believed only if the
//! kernel says that it is a child of this process.

use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Registry};
use rusmd_proto::{FrameBuffer, Ready, ToSupervisor, ToWorker};

use crate::control::counters::{Counters, RestartReason};
use crate::link::{Link, Received};
use crate::pool::{START_TIMEOUT, SlotId};
use crate::sys::{self, Process, SharedPage, Spawned};

use super::backend::{Backend, Worker};
use super::chatter::Chatter;
use super::frames::Violation;
use super::report;
use super::source::{Member, Source};

/// Wait before a template is started again, when the one before it had not become ready; it doubles up to the limit.
const RESTART_FIRST: Duration = Duration::from_millis(100);
const RESTART_MAX: Duration = Duration::from_secs(30);

/// A generation's template.
#[derive(Debug)]
pub(super) struct Template {
    running: Option<Running>,
    /// When the next one may be started.
    not_before: Instant,
    /// Templates in a row that ended before they had forked anything.
    failures: u32,
    /// The component that the last one was loading when it ended. Whoever killed it may have met it by chance.
    suspect: Option<u16>,
    /// Components that took two down in a row while they loaded them.
    skipped: Vec<u16>,
}

#[derive(Debug)]
struct Running {
    process: Process,
    link: Link,
    page: SharedPage,
    stage: Stage,
    /// Nothing that it says counts any more, for this reason.
    silenced: Option<String>,
    /// Nobody waits for what it forks: it and its newborns have what others leave of the processors.
    is_ahead: bool,
    chatter: Chatter,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Loading { deadline: Instant },
    Ready,
}

/// What the end of a template means for its generation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum TemplateEnd {
    /// It had been ready, or another will be tried: nothing is lost but time.
    Replaced,
    /// While it loaded this component.
    LoadingKilled { component: u16, reason: String },
    /// It will not do, for a reason that is not one component's.
    Failed { reason: String },
}

impl Template {
    pub fn new(now: Instant) -> Template {
        Template { running: None, not_before: now, failures: 0, suspect: None, skipped: Vec::new() }
    }

    pub fn pid(&self) -> Option<i32> {
        self.running.as_ref().map(|running| running.process.pid())
    }

    pub fn skipped(&self) -> &[u16] {
        &self.skipped
    }

    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    fn is_ready(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.stage == Stage::Ready && running.silenced.is_none())
    }

    fn next_deadline(&self) -> Option<Instant> {
        match &self.running {
            None => Some(self.not_before),
            Some(Running { stage: Stage::Loading { deadline }, .. }) => Some(*deadline),
            Some(Running { stage: Stage::Ready, .. }) => None,
        }
    }

    fn kill(&mut self, reason: String) {
        if let Some(running) = &mut self.running {
            running.silenced.get_or_insert(reason);
            running.process.signal(libc::SIGKILL);
        }
    }

    /// The machine stood still for `leap`.
    pub fn forgive(&mut self, leap: Duration) {
        if let Some(Running { stage: Stage::Loading { deadline }, .. }) = &mut self.running {
            *deadline += leap;
        }
    }

    fn delay(&self) -> Duration {
        match self.failures.checked_sub(1) {
            None => Duration::ZERO,
            Some(doublings) => RESTART_FIRST.saturating_mul(1 << doublings.min(16)).min(RESTART_MAX),
        }
    }
}

impl Backend {
    /// Starts the template if there is none and it is time.
    ///
    /// # Errors
    ///
    /// It could not be started; the next attempt waits.
    pub fn start_template(&mut self, registry: &Registry, now: Instant) -> Result<(), sys::SpawnError> {
        if self.template.running.is_some() || self.template.not_before > now || !self.wants_workers() {
            return Ok(());
        }
        let spawned = sys::spawn_template(&self.worker_binary);
        let Spawned { process, ends } = spawned.inspect_err(|_| {
            self.template.failures = self.template.failures.saturating_add(1);
            self.template.not_before = now + self.template.delay();
        })?;
        let mut link = Link::new(ends.link);
        let registered = registry
            .register(link.source(), Source::TemplateLink(self.id).token(), Interest::READABLE)
            .and_then(|()| {
                let fd = process.as_fd().as_raw_fd();
                registry.register(&mut SourceFd(&fd), Source::TemplateProcess(self.id).token(), Interest::READABLE)
            });
        if let Err(error) = registered {
            log::error!("cannot wait for template {}: {error}", process.pid());
        }
        log::debug!("template {} of generation {} started", process.pid(), self.number);
        let hello = self.app.hello(&self.template.skipped);
        link.encode(|out| ToWorker::Hello(hello).encode(out).is_ok());
        link.flush();
        let stage = Stage::Loading { deadline: now + START_TIMEOUT };
        let chatter = Chatter::default();
        self.template.running =
            Some(Running { process, link, page: ends.page, stage, silenced: None, is_ahead: false, chatter });
        self.watch_template(registry);
        Ok(())
    }

    pub(super) fn template_deadline(&self) -> Option<Instant> {
        self.template.next_deadline().filter(|_| self.wants_workers() || self.template.is_running())
    }

    /// Has a template that cannot take all of its first message tell when it can.
    fn watch_template(&mut self, registry: &Registry) {
        let token = Source::TemplateLink(self.id).token();
        if let Some(running) = &mut self.template.running {
            let wanted = running.link.wanted_interest();
            if *running.link.interest() != wanted {
                *running.link.interest() = wanted;
                if let Err(error) = registry.reregister(running.link.source(), token, wanted) {
                    log::error!("cannot wait for template {}: {error}", running.process.pid());
                }
            }
        }
    }

    /// Something has happened on the template's link.
    pub(super) fn handle_template_link(
        &mut self,
        known: &[i32],
        registry: &Registry,
        scratch: &mut [u8],
        now: Instant,
    ) {
        if let Some(running) = &mut self.template.running {
            running.link.flush();
        }
        self.watch_template(registry);
        while let Some(running) = &mut self.template.running {
            let (Received::Last(count) | Received::More(count)) = running.link.receive(scratch) else {
                // Its end is told by its pidfd.
                return;
            };
            if running.silenced.is_some() {
                continue;
            }
            let mut inbox: FrameBuffer = std::mem::take(running.link.inbox());
            inbox.extend(&scratch[..count]);
            let taken = self.take_template_frames(&mut inbox, known, registry, now);
            if let Some(running) = &mut self.template.running {
                *running.link.inbox() = inbox;
            }
            if let Err(violation) = taken {
                log::error!("killing template {}: {violation}", self.template.pid().unwrap_or(0));
                self.template.kill(violation.to_string());
            }
        }
    }

    fn take_template_frames(
        &mut self,
        inbox: &mut FrameBuffer,
        known: &[i32],
        registry: &Registry,
        now: Instant,
    ) -> Result<(), Violation> {
        while let Some(frame) = inbox.peek().map_err(Violation::Frame)? {
            let header = frame.header;
            match ToSupervisor::decode(&frame).map_err(Violation::Codec)? {
                ToSupervisor::Ready(ready) => self.handle_template_ready(&ready)?,
                ToSupervisor::Refused(refused) => return Err(Violation::Refused(refused.message.to_owned())),
                ToSupervisor::Log { line, .. } => {
                    if let Some(running) = &mut self.template.running {
                        let pid = running.process.pid();
                        report::chatter(None, &line, &mut running.chatter, pid, now);
                    }
                }
                ToSupervisor::Forked { slot, pid } => self.handle_forked(SlotId(slot), pid, known, registry, now)?,
                ToSupervisor::ForkFailed(failed) => {
                    self.handle_fork_failed(SlotId(failed.slot), failed.message, registry, now);
                }
                ToSupervisor::ResponseHead { .. }
                | ToSupervisor::ResponseBody { .. }
                | ToSupervisor::ResponseTrailers { .. }
                | ToSupervisor::Failed { .. }
                | ToSupervisor::RequestCredit { .. }
                | ToSupervisor::Done { .. }
                | ToSupervisor::Begun
                | ToSupervisor::Backtrace { .. } => return Err(Violation::Unexpected("message of a worker")),
            }
            inbox.consume(header);
        }
        Ok(())
    }

    fn handle_template_ready(&mut self, ready: &Ready<'_>) -> Result<(), Violation> {
        if ready.build != rusmd_proto::BUILD {
            return Err(Violation::OtherBuild(ready.build.to_owned()));
        }
        let Some(running) = self.template.running.as_mut().filter(|running| running.stage != Stage::Ready) else {
            return Err(Violation::Unexpected("Ready"));
        };
        running.stage = Stage::Ready;
        self.template.suspect = None;
        if !self.is_settled {
            self.app.settle(ready, &self.template.skipped).map_err(|_| Violation::Unexpected("list of components"))?;
            self.is_settled = true;
            self.sandbox_reached = ready.sandbox;
            self.sandbox_missing = ready.sandbox_missing.iter().map(|step| (*step).to_owned()).collect();
            report::sandbox(self.app.config().server.sandbox, ready);
        }
        log::debug!("template {} of generation {} is ready", self.template.pid().unwrap_or(0), self.number);
        Ok(())
    }

    /// Orders the workers that are missing.
    pub fn fork_workers(&mut self, registry: &Registry, now: Instant) {
        self.set_pace();
        while self.template.is_ready() && self.wants_workers() {
            let Some(slot) = self.pool.poll_start(now) else { return };
            if let Err(error) = self.order_fork(slot, registry, now) {
                self.handle_fork_failed(slot, &error.to_string(), registry, now);
            }
        }
    }

    /// While as many workers are ready as requests may be at work, the next spare is no reason to keep a request waiting. As soon as one
    /// is missing, whatever is on its way to take its place is in a hurry.
    fn set_pace(&mut self) {
        let is_ahead = self.pool.is_complete();
        let Some(priorities) = self.priorities else { return };
        let Some(running) = self.template.running.as_mut().filter(|running| running.stage == Stage::Ready) else {
            return;
        };
        if running.is_ahead == is_ahead {
            return;
        }
        running.is_ahead = is_ahead;
        let pid = running.process.pid();
        let set = if is_ahead { priorities.lower(pid) } else { priorities.restore(pid) };
        if let Err(error) = set {
            log::debug!("template {pid} keeps its priority: {error}");
        }
        if !is_ahead {
            for slot in self.pool.slots().filter(|slot| self.pool.is_starting(*slot)) {
                if let Some(worker) = self.workers.get(slot.0 as usize).and_then(Option::as_ref) {
                    self.hurry(worker.pid());
                }
            }
        }
    }

    /// A worker that was forked ahead of time is needed now.
    pub(super) fn hurry(&self, pid: i32) {
        if let Some(priorities) = self.priorities
            && let Err(error) = priorities.restore(pid)
        {
            log::debug!("worker {pid} keeps its priority: {error}");
        }
    }

    fn handle_fork_failed(&mut self, slot: SlotId, reason: &str, registry: &Registry, now: Instant) {
        let delay = self.give_up_fork(slot, registry, now);
        log::error!("cannot start a worker: {reason}; next attempt in {delay:?}");
        self.start_failures = self.start_failures.saturating_add(1);
        self.last_failure = Some(reason.to_owned());
    }

    fn order_fork(&mut self, slot: SlotId, registry: &Registry, now: Instant) -> std::io::Result<()> {
        let Some(running) = &mut self.template.running else { return Ok(()) };
        let (ours, theirs) = sys::make_ends()?;
        let mut link = Link::new(ours.link);
        let member = Member { generation: self.id, slot };
        registry.register(link.source(), Source::Link(member).token(), Interest::READABLE)?;
        let mut frame = Vec::new();
        let encoded = (ToWorker::Fork { slot: slot.0 }).encode(&mut frame);
        debug_assert!(encoded.is_ok(), "a slot is four bytes");
        sys::send_with_descriptors(running.link.source(), &frame, &[theirs.link.as_fd(), theirs.page.as_fd()])?;
        let at = slot.0 as usize;
        if self.workers.len() <= at {
            self.workers.resize_with(at + 1, || None);
        }
        self.workers[at] = Some(Worker::new(link, ours.page, now));
        Ok(())
    }

    /// There will be no worker in this slot from the last order. Returns how long to wait before the next.
    fn give_up_fork(&mut self, slot: SlotId, registry: &Registry, now: Instant) -> Duration {
        if !self.is_unborn(slot) {
            return self.pool.handle_fork_failed(slot, now);
        }
        drop(self.take_worker(slot, registry));
        self.pool.handle_exit(slot, now).delay
    }

    /// A worker was ordered for this slot, and nobody has said which process it is. It may have been told to end all the same.
    pub(super) fn is_unborn(&self, slot: SlotId) -> bool {
        self.workers.get(slot.0 as usize).and_then(Option::as_ref).is_some_and(|worker| worker.process.is_none())
    }

    fn handle_forked(
        &mut self,
        slot: SlotId,
        pid: u32,
        known: &[i32],
        registry: &Registry,
        now: Instant,
    ) -> Result<(), Violation> {
        // Those of this generation are looked up anew: the last frame may have told of one.
        let own = self.workers.iter().flatten().map(Worker::pid);
        let is_known = own.chain(known.iter().copied()).any(|known| u32::try_from(known) == Ok(pid));
        let group = self.group_name(slot);
        let awaited = super::backend::worker(&mut self.workers, slot).filter(|worker| worker.process.is_none());
        let Some(entry) = awaited.filter(|_| !is_known) else { return Err(Violation::Unexpected("Forked")) };
        let process = match Process::adopt(pid) {
            Ok(process) => process,
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => {
                return Err(Violation::Unexpected("pid, which is no child of this process,"));
            }
            // For want of descriptors, or of memory: no fault of the template's. The worker ends with its link.
            Err(error) => {
                let reason = format!("cannot watch process {pid}: {error}");
                self.handle_fork_failed(slot, &reason, registry, now);
                self.has_strays = true;
                return Ok(());
            }
        };
        let fd = process.as_fd().as_raw_fd();
        let member = Member { generation: self.id, slot };
        if let Err(error) = registry.register(&mut SourceFd(&fd), Source::Process(member).token(), Interest::READABLE) {
            log::error!("cannot wait for worker {pid}: {error}");
        }
        entry.process = Some(process);
        if let Some(groups) = &self.cgroups
            && let Err(error) = groups.enter(&group, pid.cast_signed())
        {
            log::warn!("worker {pid} has no control group of its own: {error}");
        }
        self.template.failures = 0;
        log::debug!("worker {pid} in slot {slot} of generation {} was forked", self.number);
        if !self.template.running.as_ref().is_some_and(|running| running.is_ahead) {
            self.hurry(pid.cast_signed());
        }
        if self.pool.handle_forked(slot, now) {
            self.send(slot, &ToWorker::Begin { slot: slot.0 });
        } else {
            self.kill(slot, RestartReason::Other);
        }
        Ok(())
    }

    /// Kills a template that takes too long.
    pub(super) fn kill_overdue_template(&mut self, now: Instant) {
        let is_late = match &self.template.running {
            Some(Running { stage: Stage::Loading { deadline }, silenced: None, .. }) => *deadline <= now,
            Some(Running { stage: Stage::Ready, silenced: None, .. }) => self.pool.is_fork_overdue(now),
            Some(Running { silenced: Some(_), .. }) | None => false,
        };
        if is_late {
            log::error!("killing template {}: it did not answer in time", self.template.pid().unwrap_or(0));
            self.template.kill("it did not answer in time".to_owned());
            // Its end follows; a deadline that is past already would fire for ever.
            if let Some(running) = &mut self.template.running {
                running.stage = Stage::Ready;
            }
        }
    }

    /// Workers were ordered that have not been heard of yet.
    pub(super) fn awaits_forks(&self) -> bool {
        self.workers.iter().flatten().any(|worker| worker.process.is_none())
    }

    /// The workers that were ordered and have not been heard of will not come: their template is gone. One that has been forked all the
    /// same ends with its link.
    fn give_up_unborn(&mut self, registry: &Registry, now: Instant) {
        for slot in self.pool.slots() {
            if self.is_unborn(slot) {
                self.give_up_fork(slot, registry, now);
            }
        }
    }

    /// The template is of no more use: the generation gets no more workers.
    pub(super) fn stop_template(&mut self) {
        self.template.kill("its generation ends".to_owned());
    }

    /// The template's process may have ended.
    pub(super) fn handle_template_process(
        &mut self,
        known: &[i32],
        registry: &Registry,
        scratch: &mut [u8],
        counters: &mut Counters,
        now: Instant,
    ) -> Option<TemplateEnd> {
        // What it said before its end still counts.
        self.handle_template_link(known, registry, scratch, now);
        let running = self.template.running.as_ref()?;
        let (exit, _) = match running.process.try_reap() {
            Ok(ended) => ended?,
            Err(error) => {
                log::error!("cannot reap template {}: {error}", running.process.pid());
                return None;
            }
        };
        let mut ended = self.template.running.take()?;
        // Both descriptors are closed when `ended` is dropped, which takes them out of the poll as well.
        let _ = registry.deregister(ended.link.source());
        let _ = registry.deregister(&mut SourceFd(&ended.process.as_fd().as_raw_fd()));
        self.give_up_unborn(registry, now);
        if !self.wants_workers() {
            return Some(TemplateEnd::Replaced);
        }
        counters.template_restarts += 1;
        let pid = ended.process.pid();
        let reason = ended.silenced.clone().unwrap_or_else(|| format!("it ended with {exit}"));
        if ended.stage == Stage::Ready && self.is_settled {
            log::error!("template {pid} of generation {} ended with {exit}: another is started", self.number);
            // The first at once; one after the other, more and more slowly.
            self.template.not_before = now + self.template.delay();
            self.template.failures = self.template.failures.saturating_add(1);
            if !self.proven {
                self.start_failures = self.start_failures.saturating_add(1);
                self.last_failure = Some(reason);
            }
            return Some(TemplateEnd::Replaced);
        }
        self.template.failures = self.template.failures.saturating_add(1);
        self.template.not_before = now + self.template.delay();
        let loading = ended.page.loading().filter(|component| *component < self.app.places());
        match loading.filter(|component| !self.template.skipped.contains(component)) {
            Some(component) if self.template.suspect.replace(component) != Some(component) => {
                self.template.not_before = now;
                let name = self.app.component_name(component).unwrap_or("?");
                log::error!("template {pid} ended while it loaded component `{name}`: {reason}; once more");
                Some(TemplateEnd::Replaced)
            }
            Some(component) => {
                self.template.skipped.push(component);
                self.template.not_before = now;
                let name = self.app.component_name(component).unwrap_or("?");
                let reason = format!("component `{name}` took template {pid} down while it was loaded: {reason}");
                Some(TemplateEnd::LoadingKilled { component, reason })
            }
            None => Some(TemplateEnd::Failed { reason }),
        }
    }
}
