//! Owns the components of a manifest: which there are, where their files lie, what they are granted. Reads `[components.<name>]`, and
//! registers what routes name. A component whose file does not exist is not registered; what is routed to it gets 500.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use rusmd_proto::limits::COMPONENTS_MAX;
use toml::de::DeTable;

use super::Surroundings;
use super::capability::{Capabilities, Grants};
use super::diagnostic::{Diagnostic, Report, Span, closest, quoted};
use super::document::{self, Shape, Value, span};

/// Most bytes of a component's name.
pub const COMPONENT_NAME_BYTES_MAX: usize = 128;

const SHAPE: Shape = Shape {
    name: "[components.<name>]",
    keys: &["capability", "source"],
    unsupported: &[
        ("resident", "every request gets a fresh instance"),
        ("dynamic", "a component is a file that is there at start"),
        ("entry", "a component is recognised by what it exports"),
    ],
};

/// The place of a component in [`super::Config::components`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ComponentIndex(pub u16);

impl ComponentIndex {
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// One registered component. Its file was there when the manifest was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Component {
    pub name: String,
    /// Absolute, or relative to the working directory as the manifest's own path is.
    pub source: PathBuf,
    pub grants: Grants,
    /// Where the manifest first speaks of it, for findings about it.
    pub span: Option<Span>,
}

/// What a route or a listener names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ComponentRef {
    Registered(ComponentIndex),
    /// Requests get 500. The finding about it has been made.
    Unregistered(String),
}

/// One `[components.<name>]`, as written.
#[derive(Debug)]
struct Declared {
    place: Option<Span>,
    source: Option<(PathBuf, Option<Span>)>,
    capability: Option<(String, Option<Span>)>,
    referenced: bool,
}

/// Registers components by name, each once.
#[derive(Debug)]
pub(super) struct Registry<'a> {
    around: &'a Surroundings<'a>,
    capabilities: Capabilities,
    declared: BTreeMap<String, Declared>,
    known: HashMap<String, ComponentRef>,
    components: Vec<Component>,
}

impl<'a> Registry<'a> {
    pub(super) fn read<'d>(
        table: Option<&'d DeTable<'d>>,
        capabilities: Capabilities,
        around: &'a Surroundings<'a>,
        report: &mut Report,
    ) -> Registry<'a> {
        let mut declared = BTreeMap::new();
        for (key, value) in table.map(document::entries).unwrap_or_default() {
            if declared.len() == COMPONENTS_MAX {
                report.push(too_many(span(key)));
                break;
            }
            if !is_name(key.get_ref(), span(key), report) {
                continue;
            }
            if let Some(table) = document::table(value, report) {
                let component = Declared::read(table, span(key), around, report);
                declared.insert(key.get_ref().to_string(), component);
            }
        }
        Registry { around, capabilities, declared, known: HashMap::new(), components: Vec::new() }
    }

    /// The component that `place` names; registers it when it is the first to do so.
    pub(super) fn reference(&mut self, name: &str, place: Option<Span>, report: &mut Report) -> Option<ComponentRef> {
        if let Some(known) = self.known.get(name) {
            return Some(known.clone());
        }
        // The one past the limit is known too, so that it is told once.
        match self.known.len() {
            0..COMPONENTS_MAX => {}
            COMPONENTS_MAX => report.push(too_many(place)),
            _ => return None,
        }
        if !is_name(name, place, report) {
            return None;
        }
        if let Some(declared) = self.declared.get_mut(name) {
            declared.referenced = true;
        }
        let component = self.register(name, place, report);
        self.known.insert(name.to_owned(), component.clone());
        Some(component)
    }

    /// Registers what was declared and not referenced, so that it is checked all the same.
    pub(super) fn finish(mut self, report: &mut Report) -> Vec<Component> {
        let unused: Vec<_> =
            self.declared.iter().filter(|(_, declared)| !declared.referenced).map(|(name, _)| name.clone()).collect();
        for name in unused {
            let place = self.declared.get(&name).and_then(|declared| declared.place);
            report.push(
                Diagnostic::warning(place, format!("no listener serves the component {}", quoted(&name))).absence(),
            );
            self.reference(&name, place, report);
        }
        self.components
    }

    fn register(&mut self, name: &str, place: Option<Span>, report: &mut Report) -> ComponentRef {
        let declared = self.declared.get(name);
        let capability = declared.and_then(|declared| declared.capability.as_ref());
        let grants = match capability {
            Some((capability, place)) => self.capabilities.grants(capability, *place, report),
            None => self.capabilities.grants("sandboxed", None, report),
        };
        let declared_source = declared.and_then(|declared| declared.source.as_ref());
        let span = declared.and_then(|declared| declared.place).or(place);
        let (source, place) = match declared_source {
            Some((source, place)) => (source.clone(), *place),
            None => (
                self.around.directory.join("wasm").join(format!("{name}.wasm")),
                span.filter(|_| declared.is_some()).or(place),
            ),
        };
        if !(self.around.is_file)(&source) {
            report.push(self.missing(name, &source, place));
            return ComponentRef::Unregistered(name.to_owned());
        }
        let Ok(index) = u16::try_from(self.components.len()) else {
            return ComponentRef::Unregistered(name.to_owned());
        };
        self.components.push(Component { name: name.to_owned(), source, grants, span });
        ComponentRef::Registered(ComponentIndex(index))
    }

    fn missing(&self, name: &str, source: &Path, place: Option<Span>) -> Diagnostic {
        let file = quoted(&source.to_string_lossy());
        let message = format!("the component {} is not registered: there is no file {file}", quoted(name));
        let found = Diagnostic::unserved(place, message).label("requests to it get 500");
        if (self.around.is_file)(&source.with_extension("js")) {
            return found.hint("there is a .js file of that name: build it into a component first");
        }
        match closest(name, self.declared.keys().map(String::as_str).filter(|declared| *declared != name)) {
            Some(declared) => found.hint(format!("did you mean {}?", quoted(declared))),
            None if self.declared.get(name).is_some_and(|declared| declared.source.is_some()) => found,
            None => {
                found.hint(format!("build it into that file, or say where it is: [components.{name}] source = \"…\""))
            }
        }
    }
}

impl Declared {
    fn read<'d>(
        table: &'d DeTable<'d>,
        place: Option<Span>,
        around: &Surroundings<'_>,
        report: &mut Report,
    ) -> Declared {
        let mut declared = Declared { place, source: None, capability: None, referenced: false };
        for (key, value) in document::entries(table) {
            let name: &str = key.get_ref();
            match name {
                "capability" => {
                    declared.capability = document::string(value, report).map(|name| (name.to_owned(), span(value)));
                }
                "source" => declared.source = read_source(value, around, report).map(|path| (path, span(value))),
                _ => document::unknown_key(key, value, &SHAPE, report),
            }
        }
        declared
    }
}

fn read_source(value: &Value<'_>, around: &Surroundings<'_>, report: &mut Report) -> Option<PathBuf> {
    let text = document::string(value, report)?;
    let remote = ["http://", "https://", "url:", "kv:", "oci:"].iter().any(|scheme| text.starts_with(scheme));
    if text.is_empty() || remote {
        let found = Diagnostic::error(span(value), format!("{} is not a file", quoted(text)));
        report.push(found.label("a component is a file that is there at start"));
        return None;
    }
    Some(around.directory.join(text))
}

fn too_many(place: Option<Span>) -> Diagnostic {
    Diagnostic::error(place, format!("a manifest has at most {COMPONENTS_MAX} components"))
}

/// A name becomes part of a path and of log lines.
fn is_name(name: &str, place: Option<Span>, report: &mut Report) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let good = !name.is_empty()
        && name.len() <= COMPONENT_NAME_BYTES_MAX
        && name.chars().all(legal)
        && name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    if !good {
        let found = Diagnostic::error(place, format!("{} cannot be the name of a component", quoted(name)));
        report.push(found.hint(format!(
            "a name is at most {COMPONENT_NAME_BYTES_MAX} letters, digits, `-`, `_` and `.`, and begins with a letter or a digit"
        )));
    }
    good
}
