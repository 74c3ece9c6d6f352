//! Fills the status of the server, when somebody asks for it.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::blame::{Cause, Standing as BlameStanding};
use crate::control::status::{
    ComponentState, ComponentStatus, DeathStatus, GenerationState, GenerationStatus, ListenerStatus, POISONED_MAX,
    PoisonStatus, RequestStatus, SandboxStatus, ServerState, Status, WorkerState, WorkerStatus, excerpt,
};
use crate::http::PublicId;
use crate::pool::SlotId;
use crate::sys::LiveUsage;

use super::backend::{Backend, Standing};
use super::{Phase, Reactor};

impl Reactor<'_> {
    pub(super) fn status(&self, now: Instant) -> Status {
        let current = self.generations.current();
        let config = current.app().config();
        let own = LiveUsage::of(std::process::id() as i32);
        let mut status = Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            build: rusmd_proto::BUILD.to_owned(),
            pid: std::process::id() as i32,
            manifest: absolute(&config.manifest),
            state: self.server_state(),
            reload_waits: self.reload_waits_until.is_some(),
            uptime_ms: milliseconds(now.saturating_duration_since(self.started_at)),
            generation: current.number,
            generations: self.generations.iter().map(generation_status).collect(),
            listeners: self
                .listeners
                .connections()
                .map(|(address, connections)| ListenerStatus {
                    address: address.to_string(),
                    connections: connections as u64,
                })
                .collect(),
            connections: self.clients.len() as u64,
            connections_max: self.clients.connections_max() as u64,
            workers_wanted: current.pool.workers() as u64,
            spares_wanted: config.server.spare_workers as u64,
            workers: self.worker_statuses(now),
            components: component_statuses(current, now),
            poisoned: poison_statuses(current, now),
            sandbox: SandboxStatus {
                wanted: config.server.sandbox.name().to_owned(),
                reached: current.sandbox_reached.name().to_owned(),
                missing: current.sandbox_missing.iter().map(|step| excerpt(step)).collect(),
            },
            last_deaths: self
                .deaths
                .iter()
                .map(|death| DeathStatus {
                    ago_ms: milliseconds(now.saturating_duration_since(death.at)),
                    pid: death.pid,
                    slot: death.slot.0,
                    generation: death.generation,
                    reason: death.reason.name().to_owned(),
                    exit: death.exit.to_string(),
                    request: death.request.as_ref().map(PublicId::to_string),
                    component: death.component.clone(),
                    action: death.action.as_deref().map(excerpt),
                })
                .collect(),
            memory_kib: own.map(|usage| usage.memory_kib),
            cpu_ms: own.map(|usage| milliseconds(usage.cpu)),
            ..Status::default()
        };
        status.queue.depth = current.queue.len() as u64;
        status.queue.length_max = config.server.queue_length as u64;
        status.queue.oldest_wait_ms = current.queue.oldest_wait(now).map(milliseconds);
        self.counters.fill(&mut status);
        status
    }

    pub(super) fn worker_statuses(&self, now: Instant) -> Vec<WorkerStatus> {
        let of_backend = |backend: &Backend| {
            let workers = backend.pool.slots().filter_map(|slot| {
                let occupant = backend.pool.occupant(slot)?;
                let worker = backend.workers.get(slot.0 as usize)?.as_ref()?;
                let usage = LiveUsage::of(worker.pid());
                Some(WorkerStatus {
                    generation: backend.number,
                    slot: slot.0,
                    pid: worker.pid(),
                    state: occupant_state(occupant.state),
                    request: request_status(backend, slot, now),
                    requests: occupant.served,
                    age_ms: milliseconds(now.saturating_duration_since(worker.started_at)),
                    memory_kib: usage.map(|usage| usage.memory_kib),
                    cpu_ms: usage.map(|usage| milliseconds(usage.cpu)),
                })
            });
            workers.collect::<Vec<_>>()
        };
        self.generations.iter().flat_map(of_backend).collect()
    }

    pub(super) fn server_state(&self) -> ServerState {
        match self.phase {
            Phase::Starting => ServerState::Starting,
            Phase::Serving if self.upgrade.is_some() => ServerState::Upgrading,
            Phase::Serving if self.is_reloading() => ServerState::Reloading,
            Phase::Serving if self.is_resting => ServerState::Resting,
            Phase::Serving => ServerState::Serving,
            Phase::Draining { .. } => ServerState::Draining,
            Phase::Stopping { .. } | Phase::Stopped => ServerState::Stopping,
        }
    }
}

fn generation_status(backend: &Backend) -> GenerationStatus {
    GenerationStatus {
        number: backend.number,
        state: match backend.standing {
            Standing::Starting => GenerationState::Starting,
            Standing::Current => GenerationState::Current,
            Standing::Draining => GenerationState::Draining,
        },
        in_flight: backend.in_flight() as u64,
        workers_ready: backend.pool.ready() as u64,
        workers_total: backend.pool.alive() as u64,
        template_pid: backend.template.pid(),
    }
}

fn occupant_state(state: &str) -> WorkerState {
    match state {
        "idle" => WorkerState::Idle,
        "busy" => WorkerState::Busy,
        "discarding" => WorkerState::Discarding,
        "retiring" => WorkerState::Retiring,
        _ => WorkerState::Starting,
    }
}

fn request_status(backend: &Backend, slot: SlotId, now: Instant) -> Option<RequestStatus> {
    let request = backend.pool.request(slot).and_then(|id| backend.requests.get(id))?;
    let head = request.head()?;
    Some(RequestStatus {
        id: request.name.to_string(),
        method: excerpt(head.method),
        path: excerpt(head.path),
        component: backend.app().component_name(head.component).unwrap_or("?").to_owned(),
        action: head.action.map(excerpt),
        age_ms: milliseconds(now.saturating_duration_since(request.admitted)),
    })
}

fn component_statuses(backend: &Backend, now: Instant) -> Vec<ComponentStatus> {
    let suspended: Vec<_> = backend.blame.suspended(now).collect();
    let app = backend.app();
    let status_of = |(index, component): (usize, &crate::config::Component)| {
        let place = app.place_of(index);
        let tally = place.map(|place| backend.tally.of(place)).unwrap_or_default();
        let suspension = suspended.iter().find(|suspended| Some(suspended.component) == place);
        let unloadable = app.unloadable(index);
        ComponentStatus {
            name: component.name.clone(),
            state: match (suspension, &unloadable) {
                (Some(_), _) => ComponentState::Suspended,
                (None, Some(_)) => ComponentState::Unloadable,
                (None, None) => ComponentState::Ok,
            },
            reason: suspension
                .map(|suspension| match suspension.cause {
                    Cause::Crashes { deaths } => format!("it has killed {deaths} workers in a row"),
                    Cause::Load { failures } => format!("it could not be loaded, {failures} times in a row"),
                })
                .or(unloadable.map(|reason| excerpt(&reason))),
            retry_in_ms: suspension.and_then(|suspension| left(suspension.standing)),
            requests: tally.requests,
            failures: tally.failures,
            worker_deaths: tally.deaths,
        }
    };
    app.config().components.iter().enumerate().map(status_of).collect()
}

fn poison_statuses(backend: &Backend, now: Instant) -> Vec<PoisonStatus> {
    let refused = backend.blame.refused(now).take(POISONED_MAX);
    refused
        .map(|refused| PoisonStatus {
            component: backend.app().component_name(refused.component).unwrap_or("?").to_owned(),
            action: refused.action.map(excerpt),
            path: excerpt(refused.path),
            deaths: refused.deaths.into(),
            refused_for_ms: left(refused.standing).unwrap_or(0),
        })
        .collect()
}

/// How long a refusal goes on.
fn left(standing: BlameStanding) -> Option<u64> {
    match standing {
        BlameStanding::Refused { left } => Some(milliseconds(left)),
        BlameStanding::Due | BlameStanding::OnTrial { .. } | BlameStanding::Loading => Some(0),
    }
}

/// A path that means the same in every directory.
fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
