//! How workers come and go: start, reading their links, interruption, kill, death and its consequences.

use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use mio::Registry;
use mio::unix::SourceFd;
use rusmd_proto::limits::WINDOW_BYTES;
use rusmd_proto::{Frame, FrameBuffer, FrameError, FrameHeader, RequestId, ToWorker};

use crate::answer::Answer;
use crate::blame::Key;
use crate::control::counters::{Outcome, RestartReason};
use crate::link::Received;
use crate::pool::{Retirement, SlotId, Vacated};
use crate::request::{Stage, Upload};
use crate::sys::{Exit, Usage};
use crate::timers::Timers;

use super::backend::{Backend, Standing, Worker, worker};
use super::clients::Clients;
use super::deaths::Death;
use super::dispatch::may_be_sent_again;
use super::frames::Violation;
use super::report;

/// How long after a worker has closed its link its end is looked for, should nobody have told of it. Edge-triggered events come once.
const LOOK_AFTER: Duration = Duration::from_millis(100);

/// Reads from one link in one turn, so that a worker that talks without end does not hold up the others.
const READS_PER_TURN: usize = 16;

impl Backend {
    /// Something has happened on a worker's link.
    pub(super) fn handle_link(&mut self, slot: SlotId, scratch: &mut [u8], clients: &mut Clients, now: Instant) {
        self.resume_talk(slot);
        self.read_link(slot, scratch, clients, now);
    }

    /// Reads on where a link had more than its share of the last turn.
    pub(super) fn read_unread_links(&mut self, scratch: &mut [u8], clients: &mut Clients, now: Instant) {
        for slot in std::mem::take(&mut self.unread_links) {
            self.read_link(slot, scratch, clients, now);
        }
    }

    /// A worker's process may have ended.
    pub(super) fn handle_process(
        &mut self,
        slot: SlotId,
        registry: &Registry,
        scratch: &mut [u8],
        clients: &mut Clients,
        now: Instant,
    ) -> Option<Death> {
        let process = worker(&mut self.workers, slot)?.process.as_ref()?;
        let (exit, usage) = match process.try_reap() {
            Ok(ended) => ended?,
            Err(error) => {
                log::error!("cannot reap worker {}: {error}", process.pid());
                return None;
            }
        };
        // What it said before its end still counts.
        self.read_link(slot, scratch, clients, now);
        let ended = self.take_worker(slot, registry)?;
        if let Some(groups) = &self.cgroups {
            groups.leave(&self.group_name(slot));
        }
        let vacated = self.pool.handle_exit(slot, now);
        self.start_failures = if vacated.never_ready { self.start_failures.saturating_add(1) } else { 0 };
        if ended.chatter.dropped() > 0 {
            report::dropped_lines(ended.pid(), ended.chatter.dropped());
        }
        let death = self.describe_death(slot, &ended, exit, vacated, now);
        report::worker_ended(&death, usage, vacated.delay, self.wants_workers());
        for id in [vacated.request, vacated.offered].into_iter().flatten() {
            self.handle_orphan(id, &ended, exit, usage, clients, now);
        }
        Some(death)
    }

    /// The workers whose links have been closed for a while and whose ends have not been told.
    pub(super) fn overdue_ends(&mut self, now: Instant) -> Vec<SlotId> {
        if self.look_at.is_none_or(|at| at > now) {
            return Vec::new();
        }
        let mut dying = std::mem::take(&mut self.dying);
        dying.retain(|slot| worker(&mut self.workers, *slot).is_some_and(|entry| entry.gone));
        self.look_at = (!dying.is_empty()).then_some(now + LOOK_AFTER);
        self.dying.clone_from(&dying);
        dying
    }

    pub(super) fn worker_is_gone(&self, slot: SlotId) -> bool {
        self.workers.get(slot.0 as usize).is_none_or(Option::is_none)
    }

    fn describe_death(&self, slot: SlotId, ended: &Worker, exit: Exit, vacated: Vacated, now: Instant) -> Death {
        let reason = match (ended.killed, vacated.retirement, exit) {
            (Some(reason), _, _) => reason,
            _ if vacated.never_ready => RestartReason::StartFailed,
            (None, Some(retirement), Exit::Code(0)) => match retirement {
                Retirement::Requests => RestartReason::MaxRequests,
                Retirement::Age => RestartReason::MaxAge,
                Retirement::Trap => RestartReason::Trap,
                Retirement::ScaledDown => RestartReason::ScaledDown,
                Retirement::Replaced => RestartReason::Reload,
            },
            (None, _, Exit::Signal(libc::SIGKILL)) => RestartReason::Killed,
            (None, _, Exit::Code(0)) => RestartReason::Other,
            (None, _, Exit::Code(_) | Exit::Signal(_)) => RestartReason::Crashed,
        };
        let started = vacated.request.filter(|id| ended.page.started() == *id);
        let request = started.and_then(|id| self.requests.get(id));
        let head = request.and_then(|request| request.head());
        Death {
            at: now,
            pid: ended.pid(),
            slot,
            generation: self.number,
            reason,
            exit,
            never_ready: vacated.never_ready,
            request: request.map(|request| request.name.clone()),
            component: head.as_ref().and_then(|head| self.app.component_name(head.component)).map(str::to_owned),
            action: head.and_then(|head| head.action.map(str::to_owned)),
        }
    }

    /// The timer of a slot's request has fired.
    pub(super) fn handle_slot_timer(&mut self, slot: SlotId, clients: &mut Clients, now: Instant) {
        let Some(entry) = worker(&mut self.workers, slot) else { return };
        Timers::<SlotId>::fired(&mut entry.armed, now);
        if self.pool.is_discarding(slot) {
            if entry.discard_by.is_some_and(|by| by <= now) {
                report::hung(slot, entry.pid(), self.kill_grace);
                self.note_gone(slot, now);
                self.kill(slot, RestartReason::Hung);
                return;
            }
        } else if self.take_up_by(slot).is_some_and(|by| by <= now) && self.take_back(slot, now) {
            return self.arm_slot(slot);
        }
        let Some(id) = self.pool.request(slot) else { return self.arm_slot(slot) };
        self.tell_slow(id, slot, now);
        let Some(request) = self.requests.get_mut(id) else { return };
        match request.kill_at() {
            Some(kill_at) if kill_at <= now => {
                report::not_letting_go(&self.app, request, self.kill_grace);
                self.note_gone(slot, now);
                self.kill(slot, RestartReason::Hung);
                // Its end is told by its pidfd; a timer that is past already would fire for ever.
                return;
            }
            Some(_) => {}
            None => {
                // A guest that waits for its client is not to blame: `write-timeout-ms` watches one that does not read,
                // `body-timeout-ms` one that does not send.
                let client = request.client.and_then(|key| clients.get_mut(key));
                let reads = client.is_some_and(|client| client.connection.unsent() > 0);
                let sends = matches!(request.upload, Upload::Open { credit } if credit >= WINDOW_BYTES / 2);
                if reads || sends {
                    request.deadline = request.deadline.max(now + self.request_timeout);
                }
                if request.deadline <= now {
                    self.interrupt(id, slot, clients, now);
                }
            }
        }
        self.arm_slot(slot);
    }

    /// The slow-request log: where a guest is that runs for longer than `slow-ms`.
    fn tell_slow(&mut self, id: RequestId, slot: SlotId, now: Instant) {
        let Some(request) = self.requests.get_mut(id).filter(|request| !request.trace.told_slow) else { return };
        if self.slow_after.is_zero() || request.trace.handed.is_none_or(|handed| handed + self.slow_after > now) {
            return;
        }
        request.trace.told_slow = true;
        report::slow(&self.app, request, self.slow_after);
        self.send(slot, &ToWorker::Inspect { id });
        if let Some(entry) = worker(&mut self.workers, slot) {
            entry.page.store_inspect(id);
            entry.signal(libc::SIGUSR1);
        }
    }

    pub(super) fn take_worker(&mut self, slot: SlotId, registry: &Registry) -> Option<Worker> {
        let mut ended = self.workers.get_mut(slot.0 as usize)?.take()?;
        // Both descriptors are closed when `ended` is dropped, which takes them out of the poll as well.
        let _ = registry.deregister(ended.link.source());
        if let Some(process) = &ended.process {
            let _ = registry.deregister(&mut SourceFd(&process.as_fd().as_raw_fd()));
        }
        Some(ended)
    }

    /// Reads what a worker says, within the share of one turn.
    fn read_link(&mut self, slot: SlotId, scratch: &mut [u8], clients: &mut Clients, now: Instant) {
        for _ in 0..READS_PER_TURN {
            let Some(entry) = worker(&mut self.workers, slot) else { return };
            let received = entry.link.receive(scratch);
            let count = match received {
                Received::Last(count) | Received::More(count) => count,
                Received::Nothing => return,
                Received::Closed => return self.handle_closed_link(slot, now),
            };
            if entry.silenced.is_some() {
                continue;
            }
            if let Err(violation) = self.handle_bytes(slot, &scratch[..count], clients, now) {
                self.punish(slot, &violation, now);
            }
            if received == Received::Last(count) {
                return;
            }
        }
        self.unread_links.push(slot);
    }

    /// Frames are read where they lie: in the bytes just received, unless the first of them began earlier.
    fn handle_bytes(
        &mut self,
        slot: SlotId,
        mut bytes: &[u8],
        clients: &mut Clients,
        now: Instant,
    ) -> Result<(), Violation> {
        let Some(entry) = worker(&mut self.workers, slot) else { return Ok(()) };
        let mut inbox: FrameBuffer = std::mem::take(entry.link.inbox());
        if !inbox.unread().is_empty() {
            let missing = missing_bytes(inbox.unread(), bytes).map_err(Violation::Frame)?.min(bytes.len());
            let (first, rest) = bytes.split_at(missing);
            inbox.extend(first);
            bytes = rest;
            if let Some(frame) = inbox.peek().map_err(Violation::Frame)? {
                let header = frame.header;
                self.handle_frame(slot, &frame, clients, now)?;
                inbox.consume(header);
            }
        }
        while let Some((frame, rest)) = Frame::split(bytes).map_err(Violation::Frame)? {
            self.handle_frame(slot, &frame, clients, now)?;
            bytes = rest;
        }
        if !bytes.is_empty() {
            inbox.extend(bytes);
        }
        if let Some(entry) = worker(&mut self.workers, slot) {
            *entry.link.inbox() = inbox;
        }
        Ok(())
    }

    /// A worker that has closed its link is of no use; its end is told by its pidfd.
    fn handle_closed_link(&mut self, slot: SlotId, now: Instant) {
        // There is no process yet whose end could be told: what has become of it, if it was forked at all, is its template's to say.
        if self.is_unborn(slot) {
            return;
        }
        self.note_gone(slot, now);
        if let Some(entry) = worker(&mut self.workers, slot)
            && entry.silenced.is_none()
        {
            entry.silenced = Some("it has closed its link".to_owned());
            // One that was told to end does that on its way out.
            if !self.pool.is_ending(slot) {
                entry.signal(libc::SIGKILL);
                self.pool.handle_ending(slot);
            }
        }
    }

    fn punish(&mut self, slot: SlotId, violation: &Violation, now: Instant) {
        let Some(entry) = worker(&mut self.workers, slot) else { return };
        log::error!("killing worker {} in slot {slot}: {violation}", entry.pid());
        entry.silenced = Some(violation.to_string());
        self.note_gone(slot, now);
        self.kill(slot, RestartReason::Protocol);
    }

    /// SIGKILL. Everything else follows when the process has ended.
    pub(super) fn kill(&mut self, slot: SlotId, reason: RestartReason) {
        if let Some(entry) = worker(&mut self.workers, slot) {
            entry.killed.get_or_insert(reason);
            entry.signal(libc::SIGKILL);
            self.pool.handle_ending(slot);
        }
    }

    /// Kills the workers that have not become ready, or have not ended, in time.
    pub fn kill_overdue(&mut self, now: Instant) {
        while let Some(slot) = self.pool.poll_overdue(now) {
            if let Some(entry) = worker(&mut self.workers, slot) {
                log::error!("killing worker {}: it did not become ready, or did not end, in time", entry.pid());
                entry.killed.get_or_insert(RestartReason::Hung);
                entry.signal(libc::SIGKILL);
            }
        }
    }

    pub fn kill_all(&mut self) {
        for slot in self.pool.slots() {
            if let Some(entry) = worker(&mut self.workers, slot) {
                log::warn!("killing worker {}: it did not stop in time", entry.pid());
                self.kill(slot, RestartReason::Other);
            }
        }
    }

    /// The server is at its end: workers exit, and are killed where a request that nobody waits for any more keeps them. They are not replaced.
    pub fn drain_workers(&mut self) {
        self.pool.stop_replacing();
        self.stop_template();
        for slot in self.pool.slots() {
            if self.pool.request(slot).is_some() {
                self.kill(slot, RestartReason::Other);
            } else {
                self.pool.handle_ending(slot);
                // To one that has not begun this would be illegal; it ends with its template, or with its link.
                if !self.is_unborn(slot) {
                    self.send(slot, &ToWorker::Drain);
                }
            }
        }
    }

    /// Kills what is left of a generation that nobody waits for.
    pub(super) fn kill_quietly(&mut self) {
        for slot in self.pool.slots() {
            self.kill(slot, RestartReason::Reload);
        }
    }

    /// Its template died while it loaded this component, and goes on without it.
    pub(super) fn suspend_unloaded(&mut self, component: u16, now: Instant) {
        let change = self.blame.handle_load_failure(component, now, self.random.number());
        report::blame(&self.app, &[change]);
    }

    /// Takes everything out of the poll: the end.
    pub(super) fn close(&mut self, registry: &Registry) {
        for slot in self.pool.slots() {
            drop(self.take_worker(slot, registry));
        }
    }

    /// Tells the workers to end that have to go.
    pub(super) fn retire_workers(&mut self, now: Instant) {
        // What waits until it may serve does not grow old: it would never be complete.
        if self.standing != Standing::Starting {
            self.pool.retire_aged(now);
        }
        while let Some((slot, why)) = self.pool.poll_retire(now, self.kill_grace) {
            self.dismiss(slot, why);
        }
    }

    pub(super) fn dismiss(&mut self, slot: SlotId, why: Retirement) {
        if let Some(entry) = worker(&mut self.workers, slot) {
            log::debug!("worker {} in slot {slot} ends: {}", entry.pid(), why.name());
        }
        self.send(slot, &ToWorker::Drain);
    }

    /// The machine stood still for `leap`: neither guests nor workers are late by that time.
    pub(super) fn forgive(&mut self, leap: Duration) {
        self.pool.forgive(leap);
        self.template.forgive(leap);
        self.queue.forgive(leap);
        for request in self.requests.iter_mut() {
            request.deadline += leap;
            request.trace.handed = request.trace.handed.map(|handed| handed + leap);
            if let Stage::Interrupted { kill_at, .. } = &mut request.stage {
                *kill_at += leap;
            }
        }
        for entry in self.workers.iter_mut().flatten() {
            entry.discard_by = entry.discard_by.map(|by| by + leap);
        }
    }

    /// A request's time is over: its client is answered now, its guest is interrupted, and killed if that does not help.
    fn interrupt(&mut self, id: RequestId, slot: SlotId, clients: &mut Clients, now: Instant) {
        if let Some(request) = self.requests.get(id) {
            report::deadline(&self.app, request, self.request_timeout);
        }
        self.answer(clients, id, &Answer::TIMED_OUT, Outcome::TimedOut, now);
        if let Some(request) = self.requests.get_mut(id) {
            request.stage = Stage::Interrupted { slot, kill_at: now + self.kill_grace };
        }
        self.send(slot, &ToWorker::Cancel { id });
        if let Some(entry) = worker(&mut self.workers, slot) {
            // The order matters: the handler of the signal looks at what was stored before it was sent.
            entry.page.store_interrupt(id);
            entry.signal(libc::SIGUSR1);
        }
    }

    /// Makes sure that whatever comes first for the slot's worker fires.
    pub(super) fn arm_slot(&mut self, slot: SlotId) {
        let take_up_by = self.take_up_by(slot);
        let Some(entry) = worker(&mut self.workers, slot) else { return };
        let discard_by = entry.discard_by.filter(|_| self.pool.is_discarding(slot));
        let request = self.pool.request(slot).and_then(|id| self.requests.get(id));
        let deadline = request.map(|request| request.kill_at().unwrap_or(request.deadline));
        let slow_at = request
            .filter(|request| !self.slow_after.is_zero() && !request.trace.told_slow)
            .and_then(|request| Some(request.trace.handed? + self.slow_after));
        let first = [take_up_by, discard_by, deadline, slow_at].into_iter().flatten().min();
        self.timers.arm(slot, &mut entry.armed, first);
    }

    /// A worker has died with this request: who had not started it is innocent, and another worker gets it.
    fn handle_orphan(
        &mut self,
        id: RequestId,
        ended: &Worker,
        exit: Exit,
        usage: Usage,
        clients: &mut Clients,
        now: Instant,
    ) {
        let Some(request) = self.requests.get_mut(id) else { return };
        let started = ended.page.started() == id;
        if started {
            request.trace.started_ns = ended.page.started_at_ns().max(1);
            if !ended.gone {
                self.convict(id, now);
            }
        } else {
            self.excuse(id, now);
        }
        let Some(request) = self.requests.get_mut(id) else { return };
        match request.stage {
            Stage::Sent { .. } if !started && may_be_sent_again(request) => {
                let name = &request.name;
                log::info!("{name} had not started when worker {} ended: dispatching it again", ended.pid());
                request.stage = Stage::Queued;
                self.queue.push_again(id, now);
                self.dispatched_again += 1;
            }
            Stage::Offered { .. } => {
                request.stage = Stage::Queued;
                self.queue.handle_withdrawn(id);
            }
            Stage::Reading | Stage::Queued => {}
            Stage::Sent { .. } | Stage::HeadOut { .. } | Stage::Finishing { .. } => {
                if request.trace.outcome != Some(Outcome::Stopped) {
                    report::died(&self.app, request, ended.pid(), exit, usage, now);
                }
                self.answer(clients, id, &Answer::CRASHED, Outcome::WorkerDied, now);
                self.forget(id);
            }
            Stage::Interrupted { .. } => self.forget(id),
        }
    }

    /// A worker is lost, whose end will be told by its pidfd. The next request may go to another before that, so what has cost this one is blamed now.
    fn note_gone(&mut self, slot: SlotId, now: Instant) {
        let Some(entry) = worker(&mut self.workers, slot).filter(|entry| !entry.gone) else { return };
        entry.gone = true;
        self.dying.push(slot);
        self.look_at.get_or_insert(now + LOOK_AFTER);
        let started = entry.page.started();
        if self.pool.request(slot) == Some(started) {
            self.convict(started, now);
        }
    }

    /// A worker is lost with this request, which had started.
    fn convict(&mut self, id: RequestId, now: Instant) {
        let Some(request) = self.requests.get(id) else { return };
        // Sent when it was handed over; one that was offered may have been sent a little earlier.
        let sent_at = request.trace.handed.unwrap_or(request.admitted);
        let Some(head) = request.head() else { return };
        let key = Key { component: head.component, action: head.action, path: head.path };
        let changes = self.blame.handle_death(key, sent_at, now, self.random.number());
        report::blame(&self.app, &changes);
    }

    /// A worker has outlived this request.
    pub(super) fn acquit(&mut self, id: RequestId, now: Instant) {
        let Some(request) = self.requests.get(id) else { return };
        let changes = self.blame.handle_success(request.fingerprint, now);
        report::blame(&self.app, &changes);
    }
}

/// How many of `next` belong to the frame that begins in `begun`.
fn missing_bytes(begun: &[u8], next: &[u8]) -> Result<usize, FrameError> {
    const HEADER: usize = rusmd_proto::limits::FRAME_HEADER_BYTES;
    let mut raw = [0; HEADER];
    let held = begun.len().min(HEADER);
    raw[..held].copy_from_slice(&begun[..held]);
    let lacking = HEADER - held;
    let Some(more) = next.get(..lacking) else { return Ok(next.len()) };
    raw[held..].copy_from_slice(more);
    let header = FrameHeader::parse(&raw)?;
    Ok(header.map_or(lacking, |header| HEADER + header.payload_bytes - begun.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusmd_proto::{Kind, RequestId};

    #[test]
    fn the_rest_of_a_frame_is_found_wherever_it_was_cut() {
        let header = FrameHeader { kind: Kind::ResponseBody, end: true, request: RequestId(3), payload_bytes: 10 };
        let mut whole = header.to_bytes().to_vec();
        whole.extend_from_slice(&[1; 10]);
        let mut stream = whole.clone();
        stream.extend_from_slice(&whole);
        for cut in 1..whole.len() {
            let (begun, next) = stream.split_at(cut);
            assert_eq!(missing_bytes(begun, next), Ok(whole.len() - cut));
        }
        assert_eq!(missing_bytes(&whole[..3], &whole[3..7]), Ok(4), "a header that is not whole takes all there is");
    }
}
