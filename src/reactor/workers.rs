//! How workers come and go: start, reading their links, interruption, kill, death and its consequences.

use std::io;
use std::time::Instant;

use mio::unix::SourceFd;
use mio::{Interest, Registry};
use rusmd_proto::limits::WINDOW_BYTES;
use rusmd_proto::{Frame, FrameBuffer, FrameError, FrameHeader, Hello, ToWorker};
use std::os::fd::{AsFd, AsRawFd};

use crate::answer::Answer;
use crate::config::Severity;
use crate::link::{Link, Received};
use crate::pool::SlotId;
use crate::request::{Replay, Stage, Upload};
use crate::sys::{self, Spawned};
use crate::timers::Timers;

use super::backend::{Backend, Worker, worker};
use super::clients::Clients;
use super::frames::Violation;
use super::{Phase, Reactor, ReactorError, Source, report};

/// Reads from one link in one turn, so that a worker that talks without end does not hold up the others.
const READS_PER_TURN: usize = 16;

impl Reactor {
    /// Starts the workers that are missing.
    pub(super) fn start_workers(&mut self, now: Instant) -> Result<(), ReactorError> {
        while let Some(slot) = self.backend.pool.poll_start(now) {
            if let Err(error) = self.backend.start_worker(slot, self.poll.registry(), now) {
                if self.phase == Phase::Starting {
                    return Err(ReactorError::NoWorker { reason: report::chain(&error) });
                }
                let vacated = self.backend.pool.handle_exit(slot, now);
                log::error!("{}; next attempt in {:?}", report::chain(&error), vacated.delay);
            }
        }
        Ok(())
    }

    /// Something has happened on a worker's link.
    pub(super) fn handle_link(&mut self, slot: SlotId, now: Instant) {
        self.backend.resume_talk(slot);
        self.backend.read_link(slot, &mut self.scratch, &mut self.clients, now);
        self.after_frames();
    }

    /// Reads on where a link had more than its share of the last turn.
    pub(super) fn read_unread_links(&mut self, now: Instant) {
        for slot in std::mem::take(&mut self.backend.unread_links) {
            self.backend.read_link(slot, &mut self.scratch, &mut self.clients, now);
        }
        self.after_frames();
    }

    fn after_frames(&mut self) {
        if self.phase == Phase::Starting && self.backend.is_proven() {
            self.begin_serving();
        }
    }

    fn begin_serving(&mut self) {
        self.phase = Phase::Serving;
        for (severity, problem) in self.backend.app().problems() {
            match severity {
                Severity::Error | Severity::Unserved => log::error!("{problem}"),
                Severity::Warning => log::warn!("{problem}"),
            }
        }
        if let Err(error) = self.listeners.open(self.poll.registry()) {
            log::error!("cannot wait for connections: {error}");
        }
        for address in self.listeners.addresses() {
            report::listening(address);
        }
    }

    /// A worker's process may have ended.
    pub(super) fn handle_process(&mut self, slot: SlotId, now: Instant) -> Result<(), ReactorError> {
        let Some(entry) = worker(&mut self.backend.workers, slot) else { return Ok(()) };
        let (exit, usage) = match entry.process.try_reap() {
            Ok(Some(ended)) => ended,
            Ok(None) => return Ok(()),
            Err(source) => return Err(ReactorError::System { what: "reap a worker", source }),
        };
        // What it said before its end still counts.
        self.backend.read_link(slot, &mut self.scratch, &mut self.clients, now);
        self.after_frames();
        let Some(ended) = self.backend.take_worker(slot, self.poll.registry()) else { return Ok(()) };
        let wanted = matches!(self.phase, Phase::Stopping { .. } | Phase::Stopped);
        let vacated = self.backend.pool.handle_exit(slot, now);
        if !wanted {
            report::worker_ended(slot, ended.process.pid(), exit, usage, vacated);
        }
        for id in [vacated.request, vacated.offered].into_iter().flatten() {
            self.backend.handle_orphan(id, &ended, exit, &mut self.clients, now);
        }
        if self.phase == Phase::Starting {
            let reason = ended.silenced.unwrap_or_else(|| format!("it ended with {exit}"));
            return Err(ReactorError::NoWorker { reason });
        }
        Ok(())
    }

    /// The timer of a slot's request has fired.
    pub(super) fn handle_request_timer(&mut self, slot: SlotId, now: Instant) {
        let Some(entry) = worker(&mut self.backend.workers, slot) else { return };
        Timers::<SlotId>::fired(&mut entry.armed, now);
        let Some(id) = self.backend.pool.request(slot) else { return };
        let Some(request) = self.backend.requests.get_mut(id) else { return };
        match request.kill_at() {
            Some(kill_at) if kill_at <= now => {
                report::not_letting_go(&self.backend.app, request, self.backend.kill_grace);
                self.backend.kill(slot);
                // Its end is told by its pidfd; a timer that is past already would fire for ever.
                return;
            }
            Some(_) => {}
            None => {
                // A guest that waits for its client is not to blame: `write-timeout-ms` watches one that does not read,
                // `body-timeout-ms` one that does not send.
                let client = request.client.and_then(|key| self.clients.get_mut(key));
                let reads = client.is_some_and(|client| !client.connection.output().is_empty());
                let sends = matches!(request.upload, Upload::Open { credit } if credit >= WINDOW_BYTES / 2);
                if reads || sends {
                    request.deadline = request.deadline.max(now + self.backend.request_timeout);
                }
                if request.deadline <= now {
                    self.backend.interrupt(id, slot, &mut self.clients, now);
                }
            }
        }
        self.backend.arm_slot(slot);
    }
}

impl Backend {
    fn start_worker(&mut self, slot: SlotId, registry: &Registry, now: Instant) -> Result<(), sys::SpawnError> {
        let Spawned { process, link, page } = sys::spawn_worker(&self.worker_binary)?;
        let mut started = Worker::new(process, Link::new(link), page, now);
        let registered = registry
            .register(started.link.source(), Source::Link(slot).token(), Interest::READABLE)
            .and_then(|()| register_process(registry, &started, slot));
        if let Err(error) = registered {
            log::error!("cannot wait for worker {}: {error}", started.process.pid());
        }
        log::debug!("worker {} started in slot {slot}", started.process.pid());
        if let Some(entry) = self.workers.get_mut(slot.0 as usize) {
            *entry = Some(started);
        }
        let hello: Hello<'_> = self.app.hello(slot);
        if let Some(started) = worker(&mut self.workers, slot) {
            started.link.encode(|out| ToWorker::Hello(hello).encode(out).is_ok());
        }
        self.talk(slot);
        Ok(())
    }

    fn take_worker(&mut self, slot: SlotId, registry: &Registry) -> Option<Worker> {
        let mut ended = self.workers.get_mut(slot.0 as usize)?.take()?;
        // Both descriptors are closed when `ended` is dropped, which takes them out of the poll as well.
        let _ = registry.deregister(ended.link.source());
        let _ = registry.deregister(&mut SourceFd(&ended.process.as_fd().as_raw_fd()));
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
                Received::Closed => return self.handle_closed_link(slot),
            };
            if entry.silenced.is_some() {
                continue;
            }
            if let Err(violation) = self.handle_bytes(slot, &scratch[..count], clients, now) {
                self.punish(slot, &violation);
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
    fn handle_closed_link(&mut self, slot: SlotId) {
        if let Some(entry) = worker(&mut self.workers, slot)
            && entry.silenced.is_none()
        {
            entry.silenced = Some("it has closed its link".to_owned());
            self.kill(slot);
        }
    }

    fn punish(&mut self, slot: SlotId, violation: &Violation) {
        let Some(entry) = worker(&mut self.workers, slot) else { return };
        log::error!("killing worker {} in slot {slot}: {violation}", entry.process.pid());
        entry.silenced = Some(violation.to_string());
        self.kill(slot);
    }

    /// SIGKILL. Everything else follows when the process has ended.
    pub(super) fn kill(&mut self, slot: SlotId) {
        if let Some(entry) = worker(&mut self.workers, slot) {
            entry.process.signal(libc::SIGKILL);
            self.pool.handle_ending(slot);
        }
    }

    /// Kills the workers that have not become ready in time.
    pub fn kill_overdue(&mut self, now: Instant) {
        while let Some(slot) = self.pool.poll_overdue(now) {
            if let Some(entry) = worker(&mut self.workers, slot) {
                log::error!("killing worker {}: it did not become ready in time", entry.process.pid());
                entry.process.signal(libc::SIGKILL);
            }
        }
    }

    pub fn kill_all(&mut self) {
        for slot in self.pool.slots() {
            if let Some(entry) = worker(&mut self.workers, slot) {
                log::warn!("killing worker {}: it did not stop in time", entry.process.pid());
                self.kill(slot);
            }
        }
    }

    /// The server is stopping: workers finish what they have started, and exit. They are not replaced.
    pub fn drain_workers(&mut self) {
        self.pool.stop_replacing();
        for slot in self.pool.slots() {
            self.pool.handle_ending(slot);
            self.send(slot, &ToWorker::Drain);
        }
    }

    /// A request's time is over: its client is answered now, its guest is interrupted, and killed if that does not help.
    fn interrupt(&mut self, id: rusmd_proto::RequestId, slot: SlotId, clients: &mut Clients, now: Instant) {
        if let Some(request) = self.requests.get(id) {
            report::deadline(&self.app, request, self.request_timeout);
        }
        self.answer(clients, id, &Answer::TIMED_OUT, now);
        if let Some(request) = self.requests.get_mut(id) {
            request.stage = Stage::Interrupted { slot, kill_at: now + self.kill_grace };
        }
        self.send(slot, &ToWorker::Cancel { id });
        if let Some(entry) = worker(&mut self.workers, slot) {
            // The order matters: the handler of the signal looks at what was stored before it was sent.
            entry.page.store_interrupt(id);
            entry.process.signal(libc::SIGUSR1);
        }
    }

    /// Makes sure that the deadline of the slot's request fires.
    fn arm_slot(&mut self, slot: SlotId) {
        let Some(request) = self.pool.request(slot).and_then(|id| self.requests.get(id)) else { return };
        let deadline = request.kill_at().unwrap_or(request.deadline);
        if let Some(entry) = worker(&mut self.workers, slot) {
            self.timers.arm(slot, &mut entry.armed, Some(deadline));
        }
    }

    /// A worker has died with this request: who had not started it is innocent, and another worker gets it, once.
    fn handle_orphan(
        &mut self,
        id: rusmd_proto::RequestId,
        ended: &Worker,
        exit: sys::Exit,
        clients: &mut Clients,
        now: Instant,
    ) {
        let Some(request) = self.requests.get_mut(id) else { return };
        let started = ended.page.started() == id;
        match request.stage {
            Stage::Sent { .. } if !started && request.replay == Replay::Possible => {
                log::info!("{id} had not started when worker {} ended: dispatching it again", ended.process.pid());
                request.replay = Replay::Impossible;
                request.stage = Stage::Queued;
                self.queue.push_again(id, now);
            }
            Stage::Offered { .. } => {
                request.stage = Stage::Queued;
                self.queue.handle_withdrawn(id);
            }
            Stage::Reading | Stage::Queued => {}
            Stage::Sent { .. } | Stage::HeadOut { .. } | Stage::Finishing { .. } => {
                report::died(&self.app, request, ended.process.pid(), exit, now);
                self.answer(clients, id, &Answer::CRASHED, now);
                self.forget(id);
            }
            Stage::Interrupted { .. } => self.forget(id),
        }
    }
}

fn register_process(registry: &Registry, started: &Worker, slot: SlotId) -> io::Result<()> {
    let fd = started.process.as_fd().as_raw_fd();
    registry.register(&mut SourceFd(&fd), Source::Process(slot).token(), Interest::READABLE)
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
