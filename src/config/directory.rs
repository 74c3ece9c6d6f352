//! Owns `dir:` targets of routes: which directory's files a route serves. `crate::assets` opens it, when a manifest is loaded from the
//! disk.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::diagnostic::{Diagnostic, Diagnostics, Report, Span, quoted};
use super::document::{Value, span};
use super::{Serve, Surroundings, Target};
use crate::assets::Root;
use crate::sys::{Identity, may_change_identity};

/// What a target with a directory begins with.
pub(super) const PREFIX: &str = "dir:";

/// A directory whose files a route serves.
#[derive(Clone, Debug)]
pub struct Directory {
    /// As written, for those who read what a route leads to.
    pub name: String,
    pub path: PathBuf,
    /// How many segments of a path are the route's own: what `*` matches is behind them.
    pub skipped: usize,
    /// The directory itself, once it has been opened.
    pub root: Option<Rc<Root>>,
}

impl PartialEq for Directory {
    fn eq(&self, other: &Directory) -> bool {
        self.path == other.path && self.skipped == other.skipped
    }
}

impl Eq for Directory {}

/// Reads what stands behind `dir:`.
pub(super) fn read(name: &str, value: &Value<'_>, around: &Surroundings<'_>, report: &mut Report) -> Option<Directory> {
    if name.is_empty() {
        let found = Diagnostic::error(span(value), "the directory has no name");
        report.push(found.hint("for example \"GET /assets/*\" = \"dir:public\""));
        return None;
    }
    let path = around.directory.join(name);
    if !(around.is_directory)(&path) {
        let found = Diagnostic::error(span(value), format!("{} is not a directory", quoted(&path.to_string_lossy())));
        report.push(found.hint("a path in the manifest begins where the manifest is"));
        return None;
    }
    Some(Directory { name: name.to_owned(), path, skipped: 0, root: None })
}

/// Files are read with GET, and `*` says which. Returns how many segments there are before it.
pub(super) fn skipped_segments(
    method: Option<&str>,
    pattern: &str,
    place: Option<Span>,
    report: &mut Report,
) -> Option<usize> {
    let mut segments: Vec<&str> = pattern.split('/').filter(|segment| !segment.is_empty()).collect();
    let ends_in_star = segments.pop_if(|last| *last == "*").is_some();
    if method == Some("GET") && ends_in_star {
        return Some(segments.len());
    }
    let (message, label) = if ends_in_star {
        ("a directory is served to GET alone", "HEAD follows")
    } else {
        ("the route of a directory ends in `*`", "`*` stands for the names of files")
    };
    let path = if segments.is_empty() { String::new() } else { format!("/{}", segments.join("/")) };
    let found = Diagnostic::error(place, message).label(label);
    report.push(found.hint(format!("write {}", quoted(&format!("GET {path}/*")))));
    None
}

/// Opens the directories of all routes, each once.
pub(super) fn open(serves: &mut [Serve], identity: Option<&Identity>, diagnostics: &mut Diagnostics) {
    // Any other user than root reads as himself, whoever the workers are.
    let reader = identity.filter(|_| may_change_identity());
    let mut opened: Vec<(PathBuf, Rc<Root>)> = Vec::new();
    for serve in serves {
        let Target::Routes(routes) = &mut serve.target else { continue };
        for route in &mut routes.list {
            let Some(directory) = route.target.directory_mut() else { continue };
            match find_or_open(&mut opened, &directory.path, reader) {
                Ok(root) => directory.root = Some(root),
                Err(error) => {
                    let name = quoted(&directory.path.to_string_lossy());
                    diagnostics.push(Diagnostic::error(route.span, format!("cannot open {name}: {error}")));
                }
            }
        }
    }
}

fn find_or_open(opened: &mut Vec<(PathBuf, Rc<Root>)>, path: &Path, reader: Option<&Identity>) -> io::Result<Rc<Root>> {
    if let Some((_, root)) = opened.iter().find(|(known, _)| known == path) {
        return Ok(root.clone());
    }
    let root = Rc::new(Root::open_at(path, reader.cloned())?);
    opened.push((path.to_owned(), root.clone()));
    Ok(root)
}
