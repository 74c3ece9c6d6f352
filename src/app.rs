//! The application: a manifest whose components are compiled. Says which component and action answer a request.
//!
//! Immutable but for [`App::settle`], which takes in what the first worker found when it loaded the components. A reload makes another
//! `App`. Knows nothing of workers, clients or time.

use std::net::SocketAddr;
use std::path::PathBuf;

use rusmd_proto::{
    ComponentInfo, ComponentKind, ComponentSpec, Hello, Identity, LogLevel, Network, Preopen, Ready, Sandbox,
    limits::PROTOCOL_VERSION,
};

use crate::answer::Answer;
use crate::compress::Policy;
use crate::config::{
    self, ComponentIndex, ComponentRef, Config, Diagnostic, Diagnostics, Directory, Loaded, RouteTarget, Severity,
    Span, Target,
};
use crate::http;
use crate::router::{Params, Resolution};

/// What `OPTIONS *` says that this server knows (RFC 9110, section 9.3.7).
const METHODS: &str = "GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS";

/// See the module's documentation.
#[derive(Debug)]
pub struct App {
    config: Config,
    diagnostics: Diagnostics,
    /// What the workers load, in the order of the wire.
    loads: Vec<Load>,
    /// For each `[[serve]]`, who answers: for each of its routes, or for all requests alone.
    destinations: Vec<Vec<Destination>>,
}

/// A component that compiled.
#[derive(Debug)]
struct Load {
    component: ComponentIndex,
    artifact: String,
    /// The host side of the preopened directories, as text, in the order of the manifest.
    preopens: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Destination {
    /// By its place on the wire.
    Component(u16),
    /// A file of the directory that the route names.
    Directory,
    /// Requests get 500; the finding about it has been made.
    Broken,
}

/// What is to happen with a request.
#[derive(Debug)]
pub enum Lookup<'a> {
    Handler {
        component: u16,
        action: Option<&'a str>,
        path: std::borrow::Cow<'a, str>,
    },
    /// No worker is needed.
    File {
        directory: &'a Directory,
        path: std::borrow::Cow<'a, str>,
    },
    Answer(Answer),
}

/// A worker's list of components is not the one that it was told to load.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WrongComponents;

impl App {
    /// `artifacts` has, for each component of the manifest, where its compiled form is, or why there is none.
    pub fn new(loaded: Loaded, artifacts: Vec<Result<PathBuf, String>>) -> App {
        let Loaded { config, diagnostics } = loaded;
        let mut app = App { config, diagnostics, loads: Vec::new(), destinations: Vec::new() };
        let mut places = Vec::new();
        for (index, artifact) in artifacts.into_iter().enumerate() {
            places.push(app.place(ComponentIndex(index as u16), artifact));
        }
        let destination = |component: &ComponentRef| match component {
            ComponentRef::Registered(index) => places.get(index.index()).cloned().unwrap_or(Destination::Broken),
            ComponentRef::Unregistered(_) => Destination::Broken,
        };
        let of_serve = |serve: &config::Serve| match &serve.target {
            Target::Component(component) => vec![destination(component)],
            Target::Routes(routes) => {
                let of_route = |route: &config::RouteSpec| match &route.target {
                    RouteTarget::Component { component, .. } => destination(component),
                    RouteTarget::Directory(_) => Destination::Directory,
                };
                routes.list.iter().map(of_route).collect()
            }
        };
        app.destinations = app.config.serves.iter().map(of_serve).collect();
        app
    }

    fn place(&mut self, component: ComponentIndex, artifact: Result<PathBuf, String>) -> Destination {
        let Some(declared) = self.config.components.get(component.index()) else { return Destination::Broken };
        let text = |path: &std::path::Path| path.to_str().map(str::to_owned);
        let preopens: Option<Vec<String>> =
            declared.grants.preopens.iter().map(|preopen| text(&preopen.host)).collect();
        let artifact = artifact.and_then(|path| text(&path).ok_or_else(|| "its cache path is not UTF-8".to_owned()));
        match (artifact, preopens) {
            (Ok(artifact), Some(preopens)) => {
                self.loads.push(Load { component, artifact, preopens });
                Destination::Component((self.loads.len() - 1) as u16)
            }
            (Ok(_), None) => {
                self.find_unserved(declared.span, format!("component `{}`: a directory is not UTF-8", declared.name));
                Destination::Broken
            }
            (Err(reason), _) => {
                let message = format!("component `{}` cannot be compiled: {reason}", declared.name);
                self.find_unserved(declared.span, message);
                Destination::Broken
            }
        }
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Everything found about the manifest and its components so far.
    pub fn diagnostics(&self) -> &Diagnostics {
        &self.diagnostics
    }

    /// One line for each finding, and whether it leaves a component unserved.
    pub fn problems(&self) -> impl Iterator<Item = (Severity, String)> {
        self.diagnostics.lines()
    }

    /// What keeps something of the manifest from being served, without the place in the manifest: it differs where nothing else does.
    pub fn failings(&self) -> impl Iterator<Item = String> {
        self.diagnostics.failings()
    }

    /// Why no request at all would get anything but 500, if that is so. Components that are skipped have taken a template down.
    pub fn serves_nothing(&self, skipped: &[u16]) -> Option<String> {
        let is_dead = |destination: &Destination| match destination {
            Destination::Component(place) => skipped.contains(place),
            Destination::Directory => false,
            Destination::Broken => true,
        };
        let mut all = self.destinations.iter().flatten().peekable();
        if all.peek().is_none() || !all.all(is_dead) {
            return None;
        }
        let killers = skipped.iter().filter_map(|place| self.component_name(*place));
        let killers = killers.map(|name| format!("component `{name}` ends or stops the process that loads it"));
        let reasons: Vec<String> = self.failings().chain(killers).collect();
        Some(format!("nothing of {} can be served: {}", self.config.manifest.display(), reasons.join("; ")))
    }

    /// Why a component of the manifest cannot be served, if it cannot.
    pub fn unloadable(&self, component: usize) -> Option<String> {
        let name = &self.config.components.get(component)?.name;
        self.diagnostics.failings().find(|failing| failing.starts_with(&format!("component `{name}` cannot")))
    }

    /// The message that makes a template load this application, but for the components that are skipped: they have taken a template down.
    pub fn hello(&self, skipped: &[u16]) -> Hello<'_> {
        let components = self.loads.iter().enumerate().filter_map(|(place, load)| {
            let is_skipped = skipped.iter().any(|skipped| usize::from(*skipped) == place);
            let declared = self.config.components.get(load.component.index())?;
            let grants = &declared.grants;
            let preopens = grants.preopens.iter().zip(&load.preopens).map(|(preopen, host)| Preopen {
                host,
                guest: &preopen.guest,
                writable: preopen.writable,
            });
            Some(ComponentSpec {
                name: &declared.name,
                // No artifact has an empty name: the component is told as unloadable, and keeps its place.
                artifact: if is_skipped { "" } else { &load.artifact },
                memory_bytes_max: grants.memory_bytes_max,
                env: grants.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
                preopens: preopens.collect(),
                network: match &grants.network {
                    config::Network::Denied => Network::Denied,
                    config::Network::Hosts(hosts) => Network::Hosts(hosts.iter().map(String::as_str).collect()),
                    config::Network::Any => Network::Any,
                },
            })
        });
        Hello {
            protocol: PROTOCOL_VERSION,
            build: rusmd_proto::BUILD,
            supervisor_pid: std::process::id(),
            log_level: log_level(log::max_level()),
            sandbox: self.sandbox(),
            components: components.collect(),
        }
    }

    fn sandbox(&self) -> Sandbox {
        let server = &self.config.server;
        let identity = server.identity.as_ref().map(|identity| Identity {
            uid: identity.uid,
            gid: identity.gid,
            groups: identity.groups.clone(),
        });
        Sandbox { wanted: server.sandbox, identity, data_bytes_max: server.worker_memory_bytes }
    }

    /// Takes in what a worker found: which routes lead to nothing is known only now.
    ///
    /// # Errors
    ///
    /// The worker did not answer for the components that it was given.
    pub fn settle(&mut self, ready: &Ready<'_>, skipped: &[u16]) -> Result<(), WrongComponents> {
        if ready.components.len() != self.loads.len() {
            return Err(WrongComponents);
        }
        let mut findings = Vec::new();
        for (place, (info, load)) in ready.components.iter().zip(&self.loads).enumerate() {
            if skipped.iter().any(|skipped| usize::from(*skipped) == place) {
                continue;
            }
            if let (ComponentKind::Unloadable(reason), Some(declared)) =
                (&info.kind, self.config.components.get(load.component.index()))
            {
                findings.push((declared.span, format!("component `{}` cannot be loaded: {reason}", declared.name)));
            }
        }
        for (serve, destinations) in self.config.serves.iter().zip(&mut self.destinations) {
            match &serve.target {
                Target::Component(_) => {
                    for destination in destinations {
                        destination.settle(ready, skipped, None, serve.span, &mut findings);
                    }
                }
                Target::Routes(routes) => {
                    for (route, destination) in routes.list.iter().zip(destinations) {
                        let action = Some(route.target.action());
                        destination.settle(ready, skipped, action, route.span, &mut findings);
                    }
                }
            }
        }
        for (span, message) in findings {
            self.find_unserved(span, message);
        }
        Ok(())
    }

    fn find_unserved(&mut self, span: Option<Span>, message: String) {
        self.diagnostics.push(Diagnostic::unserved(span, message));
    }

    /// Who answers this request. `params` are filled with the parameters of its path.
    pub fn lookup<'a>(&'a self, serve: usize, head: &http::RequestHead<'a>, params: &mut Params<'a>) -> Lookup<'a> {
        match head.form {
            http::TargetForm::Asterisk => {
                return Lookup::Answer(Answer::allowing(204, "no content", METHODS.to_owned()));
            }
            http::TargetForm::Origin | http::TargetForm::Absolute => {}
        }
        match http::target::normalise(head.path) {
            Ok(path) => self.resolve(serve, head.method, path, params),
            Err(_) => Lookup::Answer(Answer::new(400, "the path is malformed")),
        }
    }

    /// The same for a path that is normalised.
    pub fn resolve<'a>(
        &'a self,
        serve: usize,
        method: &str,
        path: std::borrow::Cow<'a, str>,
        params: &mut Params<'a>,
    ) -> Lookup<'a> {
        let (Some(serve), Some(destinations)) = (self.config.serves.get(serve), self.destinations.get(serve)) else {
            return Lookup::Answer(Answer::BROKEN);
        };
        let (place, target) = match &serve.target {
            Target::Component(_) => (0, None),
            Target::Routes(routes) => match routes.router.resolve(method, &path, params) {
                Resolution::Found(route) => (route.index(), routes.list.get(route.index()).map(|route| &route.target)),
                Resolution::NotFound => return Lookup::Answer(Answer::new(404, "no route has this path")),
                Resolution::MethodNotAllowed { allow } => {
                    return Lookup::Answer(Answer::allowing(405, "this path does not have this method", allow));
                }
                Resolution::Options { allow } => {
                    return Lookup::Answer(Answer::allowing(204, "no content", allow));
                }
                Resolution::BadPath(_) => return Lookup::Answer(Answer::new(400, "the path is malformed")),
            },
        };
        match (destinations.get(place), target) {
            (Some(Destination::Component(component)), target) => {
                Lookup::Handler { component: *component, action: target.and_then(RouteTarget::action), path }
            }
            (Some(Destination::Directory), Some(RouteTarget::Directory(directory))) => Lookup::File { directory, path },
            (Some(Destination::Directory | Destination::Broken) | None, _) => Lookup::Answer(Answer::BROKEN),
        }
    }

    /// The fields that the manifest adds to every response of a listener.
    pub fn response_headers(&self, serve: usize) -> &[(String, String)] {
        self.config.serves.get(serve).map_or(&[], |serve| &serve.headers)
    }

    /// Whether this peer of a `[[serve]]` is believed when its requests say on whose behalf they are. With the PROXY protocol they are those of
    /// whoever is behind the proxy, even where that has not said who it is.
    pub fn trusts(&self, serve: usize, peer: Option<SocketAddr>) -> bool {
        let serve = self.config.serves.get(serve).filter(|serve| !serve.proxy_protocol);
        serve.is_some_and(|serve| serve.trusted_proxies.contain(peer))
    }

    /// Whether this peer of a `[[serve]]` may say what its requests are called: proxies where there are some, and everybody where there are none,
    /// for a name proves nothing.
    pub fn lets_name(&self, serve: usize, peer: Option<SocketAddr>) -> bool {
        let has_proxies = self
            .config
            .serves
            .get(serve)
            .is_some_and(|serve| serve.proxy_protocol || !serve.trusted_proxies.is_empty());
        !has_proxies || self.trusts(serve, peer)
    }

    /// What this `[[serve]]` compresses, if anything.
    pub fn compression(&self, serve: usize) -> Option<&Policy> {
        self.config.serves.get(serve).map(|serve| &serve.compression).filter(|policy| policy.is_on())
    }

    /// The place on the wire of a component of the manifest, unless it could not be compiled.
    pub fn place_of(&self, component: usize) -> Option<u16> {
        self.loads.iter().position(|load| load.component.index() == component).map(|place| place as u16)
    }

    /// How many components there are on the wire.
    pub fn places(&self) -> u16 {
        self.loads.len() as u16
    }

    /// The name of a component by its place on the wire.
    pub fn component_name(&self, place: u16) -> Option<&str> {
        let load = self.loads.get(usize::from(place))?;
        self.config.components.get(load.component.index()).map(|component| component.name.as_str())
    }
}

impl Destination {
    /// `action` is what the route says; `None` where there are no routes.
    fn settle(
        &mut self,
        ready: &Ready<'_>,
        skipped: &[u16],
        action: Option<Option<&str>>,
        span: Option<Span>,
        findings: &mut Vec<(Option<Span>, String)>,
    ) {
        let Destination::Component(place) = self else { return };
        // Requests to it are refused while it rests; its routes are looked at when it has been loaded.
        if skipped.contains(place) {
            return;
        }
        let Some(ComponentInfo { kind }) = ready.components.get(usize::from(*place)) else { return };
        let problem = match (kind, action) {
            // Told once, for the component.
            (ComponentKind::Unloadable(_), _) => {
                *self = Destination::Broken;
                return;
            }
            (ComponentKind::WasiHttp02 | ComponentKind::WasiHttp03, None | Some(None)) => return,
            (ComponentKind::Handlers(actions), Some(Some(action))) if actions.contains(&action) => return,
            (ComponentKind::Handlers(actions), Some(Some(action))) => {
                format!("the component has no action `{action}`; it has {}", listed(actions))
            }
            (ComponentKind::Handlers(actions), Some(None)) => {
                format!("the route names no action, and the component has {}", listed(actions))
            }
            (ComponentKind::Handlers(_), None) => {
                "the component has actions, which need [serve.routes] to lead to them".to_owned()
            }
            (ComponentKind::WasiHttp02 | ComponentKind::WasiHttp03, Some(Some(action))) => {
                format!("the component is wasi:http and dispatches itself: leave out `#{action}`")
            }
        };
        *self = Destination::Broken;
        findings.push((span, problem));
    }
}

/// Most actions that a message lists.
const LISTED_MAX: usize = 20;

fn listed(actions: &[&str]) -> String {
    if actions.is_empty() {
        return "none".to_owned();
    }
    let mut names: Vec<String> = actions.iter().take(LISTED_MAX).map(|action| format!("`{action}`")).collect();
    if actions.len() > LISTED_MAX {
        names.push(format!("and {} more", actions.len() - LISTED_MAX));
    }
    names.join(", ")
}

fn log_level(level: log::LevelFilter) -> Option<LogLevel> {
    match level {
        log::LevelFilter::Off => None,
        log::LevelFilter::Error => Some(LogLevel::Error),
        log::LevelFilter::Warn => Some(LogLevel::Warn),
        log::LevelFilter::Info => Some(LogLevel::Info),
        log::LevelFilter::Debug => Some(LogLevel::Debug),
        log::LevelFilter::Trace => Some(LogLevel::Trace),
    }
}
