//! Reload: the next generation is read, compiled, started and only then switched to. Whatever goes wrong before changes nothing.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use mio::Interest;
use mio::unix::SourceFd;
use std::os::fd::AsRawFd;

use crate::app::App;
use crate::bind;
use crate::compile::{Compiler, Outcomes};
use crate::config::{self, Loaded, Overrides, Purpose};
use crate::request::GenerationId;

use super::generation::{GENERATIONS_MAX, Progress};
use super::listeners::Plan;
use super::renewal::Renewal;
use super::source::Source;
use super::succession::new_failings;
use super::{Phase, Reactor, Settings, report};

/// How long components may take to compile for a reload.
const COMPILE_TIMEOUT: Duration = Duration::from_secs(600);

/// How long a generation that was cut has to end before another is, however short the timeouts.
const CUT_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How long the next generation may take from its template's start until it is ready: a template that dies over a component is started again.
const STARTING_TIMEOUT: Duration = Duration::from_secs(120);

/// Where manifests come from, each time that one is read, and programs.
#[derive(Clone, Debug)]
pub struct Origin {
    pub overrides: Overrides,
    pub worker_binary: PathBuf,
    /// The program's own file, and where it was started: for an upgrade.
    pub program: PathBuf,
    pub directory: PathBuf,
}

/// How something went that an operator may wait for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// The number of the generation that serves, or why nothing has changed.
    Reload(Result<u64, String>),
    /// The process that serves, or why nothing has changed.
    Upgrade(Result<i32, String>),
}

/// A reload in progress.
#[derive(Debug)]
pub(super) struct Reload {
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Compiling { loaded: Box<Loaded>, plan: Plan, compiler: Compiler, deadline: Instant },
    Starting { generation: GenerationId, plan: Plan, settings: Box<Settings>, deadline: Instant },
}

impl Reload {
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Compiling { deadline, .. } | Stage::Starting { deadline, .. } => Some(*deadline),
        }
    }

    pub(super) fn compiler_pid(&self) -> Option<i32> {
        match &self.stage {
            Stage::Compiling { compiler, .. } => Some(compiler.pid()),
            Stage::Starting { .. } => None,
        }
    }

    /// The machine stood still for `leap`.
    pub(super) fn forgive(&mut self, leap: Duration) {
        match &mut self.stage {
            Stage::Compiling { deadline, .. } | Stage::Starting { deadline, .. } => *deadline += leap,
        }
    }

    pub(super) fn generation(&self) -> Option<GenerationId> {
        match &self.stage {
            Stage::Compiling { .. } => None,
            Stage::Starting { generation, .. } => Some(*generation),
        }
    }
}

impl Reactor<'_> {
    /// Reads the manifest again and begins to get the next generation ready.
    pub(super) fn begin_reload(&mut self, now: Instant) {
        match self.phase {
            Phase::Serving => {}
            Phase::Starting | Phase::Draining { .. } | Phase::Stopping { .. } | Phase::Stopped => {
                return self.conclude_reload(Err("the server is not serving".to_owned()), now);
            }
        }
        self.resume();
        if self.is_renewing() {
            return self.queue(Renewal::Reload);
        }
        if self.generations.are_full() {
            return self.defer_reload(now);
        }
        self.reload_waits_until = None;
        log::info!("reload: reading {}", self.generations.current().app().config().manifest.display());
        self.daemon.handle_reload();
        if let Err(reason) = self.try_begin_reload(now) {
            self.conclude_reload(Err(reason), now);
        }
    }

    /// There are as many generations as there may be: the reload begins when the first of them has ended. It reads the manifest then, however many have
    /// asked for it meanwhile.
    fn defer_reload(&mut self, now: Instant) {
        if self.reload_waits_until.is_none() {
            let patience = self.shutdown_timeout;
            log::warn!(
                "reload: waits for one of {GENERATIONS_MAX} generations to end; the oldest is cut after {patience:?}"
            );
            self.reload_waits_until = Some(now + patience);
        }
    }

    /// Begins the reload that waits, once there is a place for it.
    pub(super) fn advance_deferred_reload(&mut self, now: Instant) {
        let Some(until) = self.reload_waits_until else { return };
        if self.reload.is_none() && !self.generations.are_full() {
            self.reload_waits_until = None;
            self.begin_reload(now);
        } else if until <= now {
            self.generations.cut_oldest(&mut self.clients, now);
            self.reload_waits_until = Some(now + self.shutdown_timeout.max(CUT_AGAIN_AFTER));
        }
    }

    /// A reload is in progress, or waits for its turn.
    pub(super) fn is_reloading(&self) -> bool {
        self.reload.is_some() || self.reload_waits_until.is_some()
    }

    /// There will be no reload any more.
    pub(super) fn give_up_reloads(&mut self, reason: &str, now: Instant) {
        let was_waiting = self.reload_waits_until.take().is_some();
        if self.reload.is_some() {
            self.fail_reload(reason.to_owned(), now);
        } else if was_waiting {
            self.conclude_reload(Err(reason.to_owned()), now);
        }
    }

    fn try_begin_reload(&mut self, now: Instant) -> Result<(), String> {
        let loaded = config::load(&self.origin.overrides).map_err(|findings| {
            let text = findings.render(Purpose::Check, false);
            // Whoever tells it says himself that it is one.
            text.strip_prefix("error: ").unwrap_or(&text).trim_end().to_owned()
        })?;
        let plan = self.plan_listeners(&loaded)?;
        let sources: Vec<PathBuf> = loaded.config.components.iter().map(|component| component.source.clone()).collect();
        let compiler = Compiler::start(&self.origin.worker_binary, &loaded.config.server.cache_dir, sources)
            .map_err(|error| report::chain(&error))?;
        let fd = compiler.output().as_raw_fd();
        self.poll
            .registry()
            .register(&mut SourceFd(&fd), Source::Compiler.token(), Interest::READABLE)
            .map_err(|error| format!("cannot wait for the compiler: {error}"))?;
        let stage = Stage::Compiling { loaded: Box::new(loaded), plan, compiler, deadline: now + COMPILE_TIMEOUT };
        self.reload = Some(Reload { stage });
        Ok(())
    }

    /// Which listeners stay, and which are new: those are bound now, so that a failure changes nothing.
    fn plan_listeners(&self, loaded: &Loaded) -> Result<Plan, String> {
        let text = |error: bind::BindError| report::chain(&error);
        let mut plan = Plan::default();
        for wanted in bind::wanted(&loaded.config).map_err(text)? {
            match self.listeners.find(&wanted.address) {
                Some(listener) => plan.keep(listener, wanted),
                None => plan.open(bind::bind(wanted, None).map_err(text)?),
            }
        }
        Ok(plan)
    }

    /// The compiler has said something, or has ended.
    pub(super) fn handle_compiler(&mut self, now: Instant) {
        let Some(Reload { stage: Stage::Compiling { compiler, .. } }) = &mut self.reload else { return };
        let Some(outcomes) = compiler.handle_readable() else { return };
        let fd = compiler.output().as_raw_fd();
        let _ = self.poll.registry().deregister(&mut SourceFd(&fd));
        self.handle_compiled(outcomes.map_err(|error| report::chain(&error)), now);
    }

    fn handle_compiled(&mut self, outcomes: Result<Outcomes, String>, now: Instant) {
        let Some(Reload { stage: Stage::Compiling { loaded, plan, .. } }) = self.reload.take() else { return };
        let outcomes = match outcomes {
            Ok(outcomes) => outcomes,
            Err(reason) => return self.conclude_reload(Err(reason), now),
        };
        let app = App::new(*loaded, outcomes);
        if let Some(reason) = self.new_problems(&app) {
            return self.conclude_reload(Err(reason), now);
        }
        let settings = Box::new(Settings::of(app.config(), self.origin.worker_binary.clone()));
        let generation = self.generations.add(app, &settings, now, self.seed());
        if let Some(backend) = self.generations.get_mut(generation)
            && let Err(error) = backend.start_template(self.poll.registry(), now)
        {
            self.generations.abandon(generation);
            return self.conclude_reload(Err(report::chain(&error)), now);
        }
        let stage = Stage::Starting { generation, plan, settings, deadline: now + STARTING_TIMEOUT };
        self.reload = Some(Reload { stage });
    }

    /// What is wrong with this manifest and its components that is not wrong with those that serve.
    fn new_problems(&self, app: &App) -> Option<String> {
        let known: Vec<String> = self.generations.current().app().failings().collect();
        new_failings(app, &known)
    }

    /// Looks whether the next generation is ready, or has failed.
    pub(super) fn advance_reload(&mut self, now: Instant) {
        let Some(reload) = &self.reload else { return };
        let (generation, deadline) = match &reload.stage {
            Stage::Compiling { deadline, .. } if *deadline <= now => {
                return self.handle_compiled(Err("the components took too long to compile".to_owned()), now);
            }
            Stage::Compiling { .. } => return,
            Stage::Starting { generation, deadline, .. } => (*generation, *deadline),
        };
        let Some(backend) = self.generations.get(generation) else { return };
        let progress = match self.new_problems(backend.app()) {
            Some(reason) if backend.is_settled => Progress::Failed { reason },
            Some(_) | None => backend.progress(),
        };
        match progress {
            Progress::Going if deadline <= now => {
                let reason = format!("no {} workers became ready within {STARTING_TIMEOUT:?}", backend.pool.workers());
                self.fail_reload(reason, now);
            }
            Progress::Going => {}
            Progress::Complete => self.switch_generation(now),
            Progress::Failed { reason } => self.fail_reload(reason, now),
        }
    }

    /// The next generation will not do.
    pub(super) fn fail_reload(&mut self, reason: String, now: Instant) {
        let Some(reload) = self.reload.take() else { return };
        if let Stage::Starting { generation, .. } = reload.stage {
            self.generations.abandon(generation);
        }
        self.conclude_reload(Err(reason), now);
    }

    fn switch_generation(&mut self, now: Instant) {
        let Some(Reload { stage: Stage::Starting { generation, plan, settings, .. } }) = self.reload.take() else {
            return;
        };
        let former = self.generations.current().id;
        self.generations.switch_to(generation);
        let context = self.clients.context().successor(settings.limits.clone(), settings.timeouts.clone());
        self.clients.renew(context, settings.connections_max, settings.connections_per_address_max);
        self.kill_grace = settings.kill_grace;
        self.shutdown_timeout = settings.shutdown_timeout;
        let opened = self.listeners.apply(plan, self.poll.registry());
        for (address, is_secure) in &opened {
            report::listening(address, *is_secure);
        }
        let listeners = &self.listeners;
        self.clients.reassign(|listener| listeners.serve_of(listener));
        self.move_waiting(former, now);
        let backend = self.generations.current();
        self.logs.reload(&backend.app().config().log);
        report::unchanged(&self.fixed, &backend.app().config().server);
        report::problems(backend.app());
        self.conclude_reload(Ok(backend.number), now);
    }

    /// What a generation does that has been loaded.
    pub(super) fn manner(&self) -> &'static str {
        if self.is_resting { "is loaded, and rests (WINCH)" } else { "serves" }
    }

    /// Says how a reload went.
    fn conclude_reload(&mut self, outcome: Result<u64, String>, now: Instant) {
        match &outcome {
            Ok(number) => {
                self.counters.reloads.ok += 1;
                log::info!("reload: generation {number} {}", self.manner());
            }
            Err(reason) => {
                self.counters.reloads.failed += 1;
                log::error!("reload: refused, and nothing has changed: {reason}");
            }
        }
        self.daemon.handle_reloaded();
        self.tell_verdict(&Verdict::Reload(outcome), now);
        self.begin_queued(now);
    }
}
