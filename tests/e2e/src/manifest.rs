//! Manifests of tests: listeners, routes, components, settings, written as `rusm.toml`.
//!
//! Owns text only. `server` writes it to a file and starts `rusmd` with it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use crate::paths;

/// Collects what a manifest says.
#[derive(Clone, Debug, Default)]
pub struct Manifest {
    server: BTreeMap<String, String>,
    log: BTreeMap<String, String>,
    listeners: Vec<Listener>,
    components: BTreeMap<String, Component>,
}

#[derive(Clone, Debug)]
struct Listener {
    listen: String,
    extra: String,
    target: Target,
}

#[derive(Clone, Debug)]
enum Target {
    Component(String),
    Routes(Vec<(String, String)>),
}

#[derive(Clone, Debug)]
struct Component {
    source: PathBuf,
    capability: String,
}

impl Manifest {
    /// Two workers, an address of the system's choice, the shared compile cache, a control socket beside the manifest.
    pub fn new() -> Manifest {
        let mut manifest = Manifest::default();
        manifest.set_server("workers", "2");
        manifest.set_server("control", "\"control.sock\"");
        manifest.set_server("cache-dir", &format!("{:?}", paths::cache().display().to_string()));
        manifest
    }

    /// Sets a key of `[server]` to a value in TOML.
    pub fn set_server(&mut self, key: &str, value: &str) {
        self.server.insert(key.to_owned(), value.to_owned());
    }

    /// Leaves a key of `[server]` at rusmd's own default.
    pub fn unset_server(&mut self, key: &str) {
        self.server.remove(key);
    }

    /// Sets a key of `[log]` to a value in TOML.
    pub fn set_log(&mut self, key: &str, value: &str) {
        self.log.insert(key.to_owned(), value.to_owned());
    }

    /// Adds a listener that sends every request to one component.
    pub fn add_component_listener(&mut self, component: &str) {
        self.declare(component);
        let target = Target::Component(component.to_owned());
        self.listeners.push(Listener { listen: "127.0.0.1:0".to_owned(), extra: String::new(), target });
    }

    /// Adds a listener with routes; every component that they name is declared. `dir:NAME` is a directory beside the manifest.
    pub fn add_routes_listener(&mut self, routes: &[(&str, &str)]) {
        for (_, to) in routes {
            let name = to.split('#').next().unwrap_or(to);
            if !name.starts_with("unregistered") && !name.starts_with("dir:") {
                self.declare(name);
            }
        }
        let target = Target::Routes(routes.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect());
        self.listeners.push(Listener { listen: "127.0.0.1:0".to_owned(), extra: String::new(), target });
    }

    /// Sets where the listener added last listens.
    pub fn set_listen(&mut self, listen: &str) {
        self.last().listen = listen.to_owned();
    }

    /// Sets where the first listener listens.
    pub fn set_first_listen(&mut self, listen: &str) {
        self.listeners.first_mut().expect("a listener is added first").listen = listen.to_owned();
    }

    /// Adds lines of TOML to the listener added last.
    pub fn extend_listener(&mut self, toml: &str) {
        let listener = self.last();
        listener.extra.push_str(toml);
        listener.extra.push('\n');
    }

    /// Declares a component with a file of its own.
    pub fn set_source(&mut self, name: &str, source: PathBuf) {
        self.components.insert(name.to_owned(), Component { source, capability: String::new() });
    }

    /// Adds a line of TOML to the capability of a component.
    pub fn extend_capability(&mut self, name: &str, toml: &str) {
        self.declare(name);
        if let Some(component) = self.components.get_mut(name) {
            component.capability.push_str(toml);
            component.capability.push('\n');
        }
    }

    /// How many listeners have an address of the Internet.
    pub fn listeners(&self) -> usize {
        self.listeners.iter().filter(|listener| !listener.listen.starts_with("unix:")).count()
    }

    pub fn to_toml(&self) -> String {
        let mut toml = String::new();
        let mut table = |name: &str, keys: &BTreeMap<String, String>| {
            if !keys.is_empty() {
                let _ = writeln!(toml, "[{name}]");
                keys.iter().for_each(|(key, value)| {
                    let _ = writeln!(toml, "{key} = {value}");
                });
            }
        };
        table("server", &self.server);
        table("log", &self.log);
        for Listener { listen, extra, target } in &self.listeners {
            let _ = write!(toml, "\n[[serve]]\nprotocol = \"http\"\nlisten = {listen:?}\n");
            match target {
                Target::Component(component) => {
                    let _ = write!(toml, "component = {component:?}\n{extra}");
                }
                Target::Routes(routes) => {
                    let _ = writeln!(toml, "{extra}[serve.routes]");
                    for (from, to) in routes {
                        let _ = writeln!(toml, "{from:?} = {to:?}");
                    }
                }
            }
        }
        for (name, Component { source, capability }) in &self.components {
            let source = source.display().to_string();
            let _ = write!(toml, "\n[components.{name}]\nsource = {source:?}\n");
            if !capability.is_empty() {
                let _ = write!(toml, "capability = \"{name}\"\n\n[capabilities.{name}]\n{capability}");
            }
        }
        toml
    }

    #[track_caller]
    fn declare(&mut self, name: &str) {
        if !self.components.contains_key(name) {
            self.set_source(name, paths::guest(name));
        }
    }

    fn last(&mut self) -> &mut Listener {
        self.listeners.last_mut().expect("a listener is added first")
    }
}
