//! Owns what a component is granted: `[capabilities.<name>]`, the built-in profiles, and inheritance between them. Nothing is granted by
//! default but a bounded memory. The reader of the manifest drives it; `component` asks for the finished grants by name.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use toml::de::{DeTable, DeValue};

use super::Surroundings;
use super::diagnostic::{Diagnostic, Report, Span, quoted};
use super::document::{self, Key, Shape, Value, span};

/// Most memory of one instance where the manifest does not say, 128 MiB: room for a JavaScript engine and its work.
pub const MEMORY_BYTES_DEFAULT: u64 = 128 << 20;

/// What the built-in profile `trusted` may use, 1 GiB.
const MEMORY_BYTES_TRUSTED: u64 = 1 << 30;

/// The address space of a 32-bit component, in MiB.
const MEMORY_MB_MAX: u64 = 4096;

/// Most capabilities of one manifest.
pub const CAPABILITIES_MAX: usize = 1024;

/// Most capabilities between one and the built-in that it comes down to.
pub(super) const INHERITANCE_MAX: usize = 16;

/// Profiles that need no declaration. One in the manifest may take the name, and then goes before the built-in.
const BUILT_IN: [&str; 3] = ["sandboxed", "network-client", "trusted"];

const SHAPE: Shape = Shape {
    name: "[capabilities.<name>]",
    keys: &["inherits", "max-memory-mb", "allow-network", "allow-stdio", "env", "preopen"],
    unsupported: &[
        ("allow-spawn", "a component cannot start others"),
        ("allow-process-control", "a component cannot control others"),
        ("allow-storage", "there is no key-value store"),
        ("bridges", "there are no bridges"),
    ],
};

const PREOPEN: Shape = Shape { name: "preopen", keys: &["host", "guest", "read-only"], unsupported: &[] };

/// What a component may use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grants {
    /// Most bytes of linear memory for one instance, over all its memories.
    pub memory_bytes_max: u64,
    pub network: Network,
    /// Environment variables, no name twice.
    pub env: Vec<(String, String)>,
    /// Directories, no guest path twice.
    pub preopens: Vec<Preopen>,
}

/// Outgoing network.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Network {
    Denied,
    /// Only these, each `name` or `name:port`, in lowercase.
    Hosts(Vec<String>),
    Any,
}

/// A directory that a component may use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Preopen {
    pub host: PathBuf,
    pub guest: String,
    pub writable: bool,
}

impl Grants {
    /// The least there is, which is what a component gets that names no capability.
    pub fn sandboxed() -> Grants {
        Grants {
            memory_bytes_max: MEMORY_BYTES_DEFAULT,
            network: Network::Denied,
            env: Vec::new(),
            preopens: Vec::new(),
        }
    }

    fn built_in(name: &str) -> Option<Grants> {
        match name {
            "sandboxed" => Some(Grants::sandboxed()),
            "network-client" => Some(Grants { network: Network::Any, ..Grants::sandboxed() }),
            "trusted" => {
                Some(Grants { network: Network::Any, memory_bytes_max: MEMORY_BYTES_TRUSTED, ..Grants::sandboxed() })
            }
            _ => None,
        }
    }

    /// Scalars replace the inherited ones; variables and directories are added, and replace those of the same name.
    fn override_with(&mut self, profile: &Profile) {
        self.memory_bytes_max = profile.memory_bytes_max.unwrap_or(self.memory_bytes_max);
        if let Some(network) = &profile.network {
            self.network = network.clone();
        }
        for (name, value) in &profile.env {
            self.env.retain(|(known, _)| known != name);
            self.env.push((name.clone(), value.clone()));
        }
        for preopen in &profile.preopens {
            self.preopens.retain(|known| known.guest != preopen.guest);
            self.preopens.push(preopen.clone());
        }
    }
}

/// One `[capabilities.<name>]`, as written.
#[derive(Default, Debug)]
struct Profile {
    inherits: Option<(String, Option<Span>)>,
    memory_bytes_max: Option<u64>,
    network: Option<Network>,
    env: Vec<(String, String)>,
    preopens: Vec<Preopen>,
}

/// All capabilities of a manifest, inheritance resolved.
#[derive(Debug)]
pub(super) struct Capabilities {
    resolved: HashMap<String, Grants>,
    names: Vec<String>,
}

impl Capabilities {
    pub(super) fn read<'d>(
        table: Option<&'d DeTable<'d>>,
        around: &Surroundings<'_>,
        report: &mut Report,
    ) -> Capabilities {
        let mut profiles = BTreeMap::new();
        for (key, value) in table.map(document::entries).unwrap_or_default() {
            if profiles.len() == CAPABILITIES_MAX {
                let message = format!("a manifest has at most {CAPABILITIES_MAX} capabilities");
                report.push(Diagnostic::error(span(key), message));
                break;
            }
            if let Some(table) = document::table(value, report) {
                profiles.insert(key.get_ref().to_string(), Profile::read(table, around, report));
            }
        }
        let names: Vec<String> =
            profiles.keys().cloned().chain(BUILT_IN.iter().map(|name| (*name).to_owned())).collect();
        let resolved = names.iter().map(|name| (name.clone(), resolve(name, &profiles, &names, report))).collect();
        Capabilities { resolved, names }
    }

    /// The grants of a capability, or those of `sandboxed` and an error when there is no such one.
    pub(super) fn grants(&self, name: &str, place: Option<Span>, report: &mut Report) -> Grants {
        match self.resolved.get(name) {
            Some(grants) => grants.clone(),
            None => {
                report.push(unknown(name, place, &self.names));
                Grants::sandboxed()
            }
        }
    }
}

fn resolve(name: &str, profiles: &BTreeMap<String, Profile>, names: &[String], report: &mut Report) -> Grants {
    let mut chain: Vec<(&str, &Profile)> = Vec::new();
    let mut next = name;
    let mut grants = loop {
        let Some(profile) = profiles.get(next) else { break Grants::built_in(next).unwrap_or_else(Grants::sandboxed) };
        if let Some(place) = chain.iter().position(|(known, _)| *known == next) {
            report_cycle(name, chain.get(place..).unwrap_or_default(), report);
            return Grants::sandboxed();
        }
        chain.push((next, profile));
        let Some((parent, place)) = &profile.inherits else { break Grants::sandboxed() };
        if chain.len() > INHERITANCE_MAX {
            let message = format!("{} inherits through more than {INHERITANCE_MAX} capabilities", quoted(name));
            report.push(Diagnostic::error(chain.first().and_then(|(_, first)| first.inherits.as_ref()?.1), message));
            return Grants::sandboxed();
        }
        if !profiles.contains_key(parent) && Grants::built_in(parent).is_none() {
            // The error belongs to the capability that names the parent, and is told when that one is resolved.
            if next == name {
                report.push(unknown(parent, *place, names));
            }
            break Grants::sandboxed();
        }
        next = parent;
    };
    for (_, profile) in chain.iter().rev() {
        grants.override_with(profile);
    }
    grants
}

/// A cycle is told once, at the first of its names.
fn report_cycle(name: &str, cycle: &[(&str, &Profile)], report: &mut Report) {
    if cycle.iter().map(|(member, _)| *member).min() != Some(name) {
        return;
    }
    let mut members: Vec<_> = cycle.iter().map(|(member, _)| quoted(member)).collect();
    members.push(quoted(name));
    let place = cycle.first().and_then(|(_, profile)| profile.inherits.as_ref()?.1);
    report.push(Diagnostic::error(place, "a capability inherits from itself").label(members.join(" inherits ")));
}

fn unknown(name: &str, place: Option<Span>, names: &[String]) -> Diagnostic {
    let found = Diagnostic::error(place, format!("there is no capability {}", quoted(name))).absence();
    let suggested = document::suggest(found, name, names.iter().map(String::as_str));
    suggested.hint(format!("declare it under [capabilities], or use one of {}", BUILT_IN.join(", ")))
}

impl Profile {
    fn read<'d>(table: &'d DeTable<'d>, around: &Surroundings<'_>, report: &mut Report) -> Profile {
        let mut profile = Profile::default();
        for (key, value) in document::entries(table) {
            let name: &str = key.get_ref();
            match name {
                "inherits" => {
                    profile.inherits = document::string(value, report).map(|parent| (parent.to_owned(), span(value)));
                }
                "max-memory-mb" => {
                    profile.memory_bytes_max =
                        document::integer(value, &(1..=MEMORY_MB_MAX), " MiB", report).map(|mebibytes| mebibytes << 20);
                }
                "allow-network" => profile.network = read_network(value, report),
                // What a component prints goes to the server's log in any case.
                "allow-stdio" => {
                    document::boolean(value, report);
                }
                "env" => profile.env = read_env(value, around, report),
                "preopen" => profile.preopens = read_preopens(value, around, report),
                _ => document::unknown_key(key, value, &SHAPE, report),
            }
        }
        profile
    }
}

/// `true`, `false`, or a list of hosts.
fn read_network(value: &Value<'_>, report: &mut Report) -> Option<Network> {
    match value.get_ref() {
        DeValue::Boolean(true) => Some(Network::Any),
        DeValue::Boolean(false) => Some(Network::Denied),
        DeValue::Array(hosts) => {
            let hosts = hosts.iter().filter_map(|host| read_host(host, report)).collect();
            Some(Network::Hosts(hosts))
        }
        DeValue::String(_) | DeValue::Integer(_) | DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Table(_) => {
            let message = "expected true, false or an array of hosts";
            report.push(
                Diagnostic::error(span(value), message).hint("for example allow-network = [\"api.example.org\"]"),
            );
            None
        }
    }
}

fn read_host(value: &Value<'_>, report: &mut Report) -> Option<String> {
    let text = document::string(value, report)?;
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        Some(_) | None => (text, None),
    };
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
    let named = !host.is_empty() && host.chars().all(legal);
    if named && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0)) {
        return Some(text.to_ascii_lowercase());
    }
    let found = Diagnostic::error(span(value), format!("{} is not a host", quoted(text)));
    report
        .push(found.hint("write a name or an address, with a port or without: \"api.example.org\", \"10.0.0.7:8080\""));
    None
}

/// A table of names and values, or a list of names, whose values are those of the server's own environment, and of `NAME=value`.
fn read_env<'d>(value: &'d Value<'d>, around: &Surroundings<'_>, report: &mut Report) -> Vec<(String, String)> {
    let mut env: Vec<(String, String)> = Vec::new();
    match value.get_ref() {
        DeValue::Table(table) => {
            for (key, value) in document::entries(table) {
                if let Some(value) = document::string(value, report)
                    && is_variable(key.get_ref(), span(key), report)
                {
                    env.push((key.get_ref().to_string(), value.to_owned()));
                }
            }
        }
        DeValue::Array(items) => {
            for item in items.iter() {
                let Some((name, value)) = read_env_item(item, around, report) else { continue };
                if env.iter().any(|(known, _)| *known == name) {
                    report.push(Diagnostic::error(span(item), format!("{} is listed twice", quoted(&name))));
                }
                env.push((name, value));
            }
        }
        DeValue::String(_) | DeValue::Integer(_) | DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Boolean(_) => {
            let message = "expected a table of variables or an array of their names";
            report.push(
                Diagnostic::error(span(value), message)
                    .hint("for example env = { MODE = \"live\" }, or env = [\"MODE\"]"),
            );
        }
    }
    env
}

fn read_env_item(item: &Value<'_>, around: &Surroundings<'_>, report: &mut Report) -> Option<(String, String)> {
    let text = document::string(item, report)?;
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, (around.variable)(text)),
    };
    if !is_variable(name, span(item), report) {
        return None;
    }
    if value.is_none() {
        let message = format!("the variable {} is not set, so the component does not get it", quoted(name));
        report.push(Diagnostic::warning(span(item), message));
    }
    Some((name.to_owned(), value?))
}

fn is_variable(name: &str, place: Option<Span>, report: &mut Report) -> bool {
    let legal = !name.is_empty() && !name.contains(['=', '\0']);
    if !legal {
        report.push(Diagnostic::error(place, format!("{} cannot be the name of a variable", quoted(name))));
    }
    legal
}

/// A list of tables `{ host = "data", guest = "/data", read-only = false }` or of `"data::/data"`, `"data::/data:rw"`. Read-only unless
/// it says otherwise.
fn read_preopens<'d>(value: &'d Value<'d>, around: &Surroundings<'_>, report: &mut Report) -> Vec<Preopen> {
    let mut preopens: Vec<Preopen> = Vec::new();
    for item in document::array(value, report).unwrap_or_default() {
        let Some(preopen) = read_preopen(item, around, report) else { continue };
        if preopens.iter().any(|known| known.guest == preopen.guest) {
            report.push(Diagnostic::error(span(item), format!("{} is mounted twice", quoted(&preopen.guest))));
        }
        preopens.push(preopen);
    }
    preopens
}

fn read_preopen<'d>(item: &'d Value<'d>, around: &Surroundings<'_>, report: &mut Report) -> Option<Preopen> {
    let (host, guest, writable) = match item.get_ref() {
        DeValue::String(text) => {
            let (text, writable) = match (text.strip_suffix(":rw"), text.strip_suffix(":ro")) {
                (Some(text), _) => (text, true),
                (None, Some(text)) => (text, false),
                (None, None) => (&**text, false),
            };
            let (host, guest) = text.split_once("::").unwrap_or((text, text));
            (host.to_owned(), guest.to_owned(), writable)
        }
        DeValue::Table(table) => read_preopen_table(item, table, report)?,
        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) => {
            let found = Diagnostic::error(span(item), "expected a directory");
            report.push(found.hint("write { host = \"data\", guest = \"/data\" } or \"data::/data\""));
            return None;
        }
    };
    if host.is_empty() || guest.is_empty() || host.contains('\0') || guest.contains('\0') {
        report.push(Diagnostic::error(span(item), "a directory needs a path on both sides"));
        return None;
    }
    let host = around.directory.join(host);
    if !(around.is_directory)(&host) {
        report.push(Diagnostic::error(span(item), format!("{} is not a directory", quoted(&host.to_string_lossy()))));
        return None;
    }
    Some(Preopen { host, guest, writable })
}

fn read_preopen_table<'d>(
    item: &'d Value<'d>,
    table: &'d DeTable<'d>,
    report: &mut Report,
) -> Option<(String, String, bool)> {
    let (mut host, mut guest, mut read_only) = (None, None, true);
    for (key, value) in document::entries(table) {
        let (key, value): (&Key<'_>, &Value<'_>) = (key, value);
        let name: &str = key.get_ref();
        match name {
            "host" => host = Some(document::string(value, report)?.to_owned()),
            "guest" => guest = Some(document::string(value, report)?.to_owned()),
            "read-only" => read_only = document::boolean(value, report)?,
            _ => document::unknown_key(key, value, &PREOPEN, report),
        }
    }
    match (host, guest) {
        (Some(host), Some(guest)) => Some((host, guest, !read_only)),
        (None, _) | (_, None) => {
            report.push(Diagnostic::error(span(item), "a directory needs both `host` and `guest`").absence());
            None
        }
    }
}
