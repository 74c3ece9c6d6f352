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

use super::generation::Progress;
use super::listeners::Plan;
use super::renewal::Renewal;
use super::source::Source;
use super::succession::new_failings;
use super::{Phase, Reactor, Settings, report};

/// How long components may take to compile for a reload.
const COMPILE_TIMEOUT: Duration = Duration::from_secs(600);

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
    Starting { generation: GenerationId, plan: Plan, settings: Box<Settings> },
}

impl Reload {
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Compiling { deadline, .. } => Some(*deadline),
            Stage::Starting { .. } => None,
        }
    }

    pub(super) fn compiler_pid(&self) -> Option<i32> {
        match &self.stage {
            Stage::Compiling { compiler, .. } => Some(compiler.pid()),
            Stage::Starting { .. } => None,
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
        if self.is_renewing() {
            return self.queue(Renewal::Reload);
        }
        log::info!("reload: reading {}", self.generations.current().app().config().manifest.display());
        self.daemon.handle_reload();
        if let Err(reason) = self.try_begin_reload(now) {
            self.conclude_reload(Err(reason), now);
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
        self.reload = Some(Reload { stage: Stage::Starting { generation, plan, settings } });
    }

    /// What is wrong with this manifest and its components that is not wrong with those that serve.
    fn new_problems(&self, app: &App) -> Option<String> {
        let known: Vec<String> = self.generations.current().app().failings().collect();
        new_failings(app, &known)
    }

    /// Looks whether the next generation is ready, or has failed.
    pub(super) fn advance_reload(&mut self, now: Instant) {
        let Some(reload) = &self.reload else { return };
        let generation = match &reload.stage {
            Stage::Compiling { deadline, .. } if *deadline <= now => {
                return self.handle_compiled(Err("the components took too long to compile".to_owned()), now);
            }
            Stage::Compiling { .. } => return,
            Stage::Starting { generation, .. } => *generation,
        };
        let Some(backend) = self.generations.get(generation) else { return };
        let progress = match self.new_problems(backend.app()) {
            Some(reason) if backend.is_settled => Progress::Failed { reason },
            Some(_) | None => backend.progress(),
        };
        match progress {
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
        let Some(Reload { stage: Stage::Starting { generation, plan, settings } }) = self.reload.take() else { return };
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
        let backend = self.generations.current();
        self.logs.reload(&backend.app().config().log);
        report::unchanged(&self.fixed, &backend.app().config().server);
        report::problems(backend.app());
        self.conclude_reload(Ok(backend.number), now);
    }

    /// Says how a reload went.
    fn conclude_reload(&mut self, outcome: Result<u64, String>, now: Instant) {
        match &outcome {
            Ok(number) => {
                self.counters.reloads.ok += 1;
                log::info!("reload: generation {number} serves");
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
