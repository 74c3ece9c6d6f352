//! Owns what is told about a manifest: every finding, where it is, how it is shown. Knows nothing of what a manifest means.
//!
//! The other files of this room add findings to a [`Report`]; whoever loads the manifest gets the finished [`Diagnostics`] and prints them.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// Most findings that are shown; the rest are counted.
pub const DIAGNOSTICS_SHOWN_MAX: usize = 50;

/// Most characters of a name from the manifest that a message repeats.
const NAME_CHARS_MAX: usize = 60;

/// Most candidates that a mistyped name is compared with.
const CANDIDATES_MAX: usize = 256;

/// Most bytes of a line that are shown on either side of a finding.
const CONTEXT_BYTES_MAX: usize = 400;

/// How much a finding matters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    /// rusmd does not start with this manifest.
    Error,
    /// Requests to one component are answered with 500. rusmd starts and serves the rest; `rusmd check` fails.
    Unserved,
    /// Worth knowing.
    Warning,
}

/// What the findings are shown for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// Starting or reloading: what leaves a component unserved is a warning.
    Start,
    /// `rusmd check`: it is an error.
    Check,
}

/// A range of bytes of the manifest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    pub start: usize,
    pub end: usize,
}

/// One finding. The message and the hint are lowercase and without a full stop.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnostic {
    pub severity: Severity,
    pub message: String,
    /// Absent when the finding is about the file as a whole, or about a flag.
    pub span: Option<Span>,
    /// Stands at the caret.
    label: Option<String>,
    /// A second place that has to do with it, and what it is.
    also: Option<(Span, String)>,
    /// The next step.
    hint: Option<String>,
    /// Something is absent. In a file with syntax errors that may be their doing, so it is not told there.
    absence: bool,
}

/// All findings about one manifest, in the order of its lines.
#[derive(Clone, Debug)]
pub struct Diagnostics {
    file: String,
    source: String,
    list: Vec<Diagnostic>,
}

impl Diagnostic {
    pub fn error(span: Option<Span>, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(Severity::Error, span, message.into())
    }

    pub fn unserved(span: Option<Span>, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(Severity::Unserved, span, message.into())
    }

    pub fn warning(span: Option<Span>, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(Severity::Warning, span, message.into())
    }

    /// Adds what stands at the caret.
    pub fn label(mut self, label: impl Into<String>) -> Diagnostic {
        self.label = Some(label.into());
        self
    }

    /// Adds the next step.
    pub fn hint(mut self, hint: impl Into<String>) -> Diagnostic {
        self.hint = Some(hint.into());
        self
    }

    /// Adds a second place.
    pub fn also(mut self, span: Option<Span>, label: impl Into<String>) -> Diagnostic {
        self.also = span.map(|span| (span, label.into()));
        self
    }

    pub(super) fn absence(mut self) -> Diagnostic {
        self.absence = true;
        self
    }

    fn new(severity: Severity, span: Option<Span>, message: String) -> Diagnostic {
        Diagnostic { severity, message, span, label: None, also: None, hint: None, absence: false }
    }
}

impl Diagnostics {
    /// `file` is how messages name the manifest; `source` is what spans are ranges of.
    pub fn new(file: impl Into<String>, source: impl Into<String>) -> Diagnostics {
        Diagnostics { file: file.into(), source: source.into(), list: Vec::new() }
    }

    /// Adds a finding, for example about a component that turned out not to load.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.list.push(diagnostic);
    }

    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.list.iter()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether any finding is an error for this purpose.
    pub fn has_errors(&self, purpose: Purpose) -> bool {
        self.list.iter().any(|diagnostic| is_error(diagnostic.severity, purpose))
    }

    /// All findings with their lines, carets and hints, and how many there are; empty when there is nothing to tell.
    pub fn render(&self, purpose: Purpose, styled: bool) -> String {
        let renderer = if styled { Renderer::styled() } else { Renderer::plain() };
        let mut list: Vec<_> = self.list.iter().collect();
        if list.len() > DIAGNOSTICS_SHOWN_MAX {
            // Where not all can be shown, what is in the way of a start is.
            list.sort_by_key(|diagnostic| !is_error(diagnostic.severity, purpose));
        }
        let mut shown = String::new();
        for diagnostic in list.into_iter().take(DIAGNOSTICS_SHOWN_MAX) {
            shown.push_str(&self.render_one(&renderer, diagnostic, purpose));
            shown.push_str("\n\n");
        }
        if let Some(more) = self.list.len().checked_sub(DIAGNOSTICS_SHOWN_MAX).filter(|more| *more > 0) {
            let _ = writeln!(shown, "and {more} more\n");
        }
        shown.truncate(shown.trim_end().len());
        if !shown.is_empty() {
            shown.push('\n');
        }
        shown
    }

    /// One line for each finding, `rusm.toml:12:3: message`, for the log.
    pub fn lines(&self) -> impl Iterator<Item = (Severity, String)> {
        self.list.iter().map(|diagnostic| {
            let place = match diagnostic.span {
                Some(span) => {
                    let (line, column) = self.position(span);
                    format!("{}:{line}:{column}", self.file)
                }
                None => self.file.clone(),
            };
            let label = diagnostic.label.as_ref().map_or(String::new(), |label| format!(" ({label})"));
            (diagnostic.severity, format!("{place}: {}{label}", diagnostic.message))
        })
    }

    /// The message of each finding that keeps something from being served.
    pub fn failings(&self) -> impl Iterator<Item = String> {
        let is_failing = |diagnostic: &&Diagnostic| is_error(diagnostic.severity, Purpose::Check);
        self.list.iter().filter(is_failing).map(|diagnostic| diagnostic.message.clone())
    }

    fn render_one(&self, renderer: &Renderer, diagnostic: &Diagnostic, purpose: Purpose) -> String {
        let level = if is_error(diagnostic.severity, purpose) { Level::ERROR } else { Level::WARNING };
        let mut group = Group::with_title(level.primary_title(diagnostic.message.as_str()));
        if let Some(span) = diagnostic.span {
            group = group.element(self.snippet(span, diagnostic.label.as_deref(), diagnostic.also.as_ref()));
            if let Some(hint) = &diagnostic.hint {
                group = group.element(Level::HELP.with_name("hint").message(hint.as_str()));
            }
        }
        let mut text = renderer.render(&[group]);
        if let (Some(hint), None) = (&diagnostic.hint, diagnostic.span) {
            let _ = write!(text, "\nhint: {hint}");
        }
        text
    }

    /// Only the lines that matter are handed on, each cut to what can be read, so that the cost does not depend on the manifest's size.
    fn snippet<'a>(
        &'a self,
        span: Span,
        label: Option<&'a str>,
        also: Option<&'a (Span, String)>,
    ) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
        let span = self.clamp(span);
        let also = also.map(|(other, text)| (self.clamp(*other), text));
        // The two places are shown in one excerpt when that is short enough to be one.
        let also = also.filter(|(other, _)| other.start.abs_diff(span.start) <= 8 * CONTEXT_BYTES_MAX);
        let first = also.as_ref().map_or(span.start, |(other, _)| other.start.min(span.start));
        let last = also.as_ref().map_or(span.end, |(other, _)| other.end.max(span.end));
        let from = self.line_start(first);
        let to = self.line_end(last);
        let (line, _) = self.position(Span { start: from, end: from });
        let inside = |span: &Range<usize>| span.start.saturating_sub(from)..span.end.saturating_sub(from);
        let mut snippet = Snippet::source(self.source.get(from..to).unwrap_or_default())
            .path(self.file.as_str())
            .line_start(line)
            .annotation(AnnotationKind::Primary.span(inside(&span)).label(label));
        if let Some((other, text)) = &also {
            snippet = snippet.annotation(AnnotationKind::Context.span(inside(other)).label(text.as_str()));
        }
        snippet
    }

    /// A span that lies in the source, on character boundaries, and within one line.
    fn clamp(&self, span: Span) -> Range<usize> {
        let start = self.source.floor_char_boundary(span.start);
        let line_end = self.line_end(start);
        let end = self.source.ceil_char_boundary(span.end).clamp(start, line_end.max(start));
        start..end
    }

    fn line_start(&self, at: usize) -> usize {
        let line = self.source.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |newline| newline + 1);
        line.max(self.source.ceil_char_boundary(at.saturating_sub(CONTEXT_BYTES_MAX)))
    }

    fn line_end(&self, at: usize) -> usize {
        let rest = self.source.get(at..).unwrap_or_default();
        let line = at + rest.find(['\r', '\n']).unwrap_or(rest.len());
        line.min(self.source.floor_char_boundary(at + CONTEXT_BYTES_MAX))
    }

    /// Line and column, both from 1, the column in characters.
    fn position(&self, span: Span) -> (usize, usize) {
        let before = self.source.get(..self.source.floor_char_boundary(span.start)).unwrap_or_default();
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |text| text.chars().count()) + 1;
        (line, column)
    }
}

fn is_error(severity: Severity, purpose: Purpose) -> bool {
    match (severity, purpose) {
        (Severity::Error, _) | (Severity::Unserved, Purpose::Check) => true,
        (Severity::Unserved, Purpose::Start) | (Severity::Warning, _) => false,
    }
}

/// Collects findings while the manifest is read.
#[derive(Default, Debug)]
pub(super) struct Report {
    pub(super) list: Vec<Diagnostic>,
}

impl Report {
    pub(super) fn push(&mut self, diagnostic: Diagnostic) {
        self.list.push(diagnostic);
    }

    /// Puts the findings in the order of the file. Where the file has syntax errors, findings that may be their doing are left out:
    /// those about something absent, those on a broken line, and those about a value that the parser made up, which has no extent.
    pub(super) fn finish(mut self, mut syntax: Vec<Diagnostic>, diagnostics: &mut Diagnostics) {
        if !syntax.is_empty() {
            let lines = Lines::of(&diagnostics.source);
            let line = |found: &Diagnostic| found.span.map(|span| lines.line(span.start));
            syntax.dedup_by_key(|error| line(error));
            let broken: HashSet<_> = syntax.iter().map(line).collect();
            let has_extent = |found: &Diagnostic| found.span.is_some_and(|span| span.start < span.end);
            self.list.retain(|found| !found.absence && has_extent(found) && !broken.contains(&line(found)));
        }
        self.list.extend(syntax);
        self.list.sort_by_key(|found| found.span.map_or((0, 0), |span| (1, span.start)));
        diagnostics.list.append(&mut self.list);
    }
}

/// Where the lines of a text begin, so that a position is found without reading the text again.
struct Lines {
    newlines: Vec<usize>,
}

impl Lines {
    fn of(text: &str) -> Lines {
        Lines { newlines: text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect() }
    }

    fn line(&self, at: usize) -> usize {
        self.newlines.partition_point(|newline| *newline < at)
    }
}

/// A name as a message repeats it: quoted, cut, and without characters that could upset a terminal.
pub(super) fn quoted(name: &str) -> String {
    let mut shown: String = name.chars().take(NAME_CHARS_MAX).collect::<String>().escape_debug().to_string();
    if name.chars().nth(NAME_CHARS_MAX).is_some() {
        shown.push('…');
    }
    format!("`{}`", shown.replace("\\'", "'").replace("\\\"", "\""))
}

/// The candidate that a mistyped name most probably meant. Only so many are looked at, for each look has its cost.
pub(super) fn closest<'c>(name: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    if name.len() > NAME_CHARS_MAX {
        return None;
    }
    let plain = |text: &str| text.to_ascii_lowercase().replace('_', "-");
    let name = plain(name);
    let near = |candidate: &&str| {
        let distance = strsim::damerau_levenshtein(&name, &plain(candidate));
        (distance <= (name.len() / 3).max(1)).then_some(distance)
    };
    candidates
        .into_iter()
        .take(CANDIDATES_MAX)
        .filter_map(|candidate| Some((near(&candidate)?, candidate)))
        .min_by_key(|(d, _)| *d)
        .map(|(_, c)| c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: usize, end: usize) -> Option<Span> {
        Some(Span { start, end })
    }

    #[test]
    fn a_finding_is_shown_with_its_line_caret_and_hint() {
        let mut found = Diagnostics::new("rusm.toml", "a = 1\nmax-memory = 64\n");
        found.push(
            Diagnostic::error(at(6, 16), "unknown key `max-memory`")
                .label("did you mean `max-memory-mb`?")
                .hint("look"),
        );
        let expected = "\
error: unknown key `max-memory`
 --> rusm.toml:2:1
  |
2 | max-memory = 64
  | ^^^^^^^^^^ did you mean `max-memory-mb`?
  |
  = hint: look
";
        assert_eq!(found.render(Purpose::Start, false), expected);
    }

    #[test]
    fn a_finding_about_the_whole_file_has_no_line() {
        let mut found = Diagnostics::new("rusm.toml", "");
        found.push(Diagnostic::error(None, "cannot read it").hint("name it with --config"));
        assert_eq!(found.render(Purpose::Start, false), "error: cannot read it\nhint: name it with --config\n");
    }

    #[test]
    fn what_leaves_a_component_unserved_is_a_warning_at_start_and_an_error_in_check() {
        let mut found = Diagnostics::new("rusm.toml", "");
        found.push(Diagnostic::unserved(None, "gone"));
        assert!(!found.has_errors(Purpose::Start) && found.has_errors(Purpose::Check));
        assert_eq!(found.render(Purpose::Start, false), "warning: gone\n");
        assert_eq!(found.render(Purpose::Check, false), "error: gone\n");
    }

    #[test]
    fn findings_are_shown_up_to_the_limit_and_the_rest_counted() {
        let mut found = Diagnostics::new("rusm.toml", "");
        for _ in 0..DIAGNOSTICS_SHOWN_MAX {
            found.push(Diagnostic::error(None, "bad"));
        }
        assert!(!found.render(Purpose::Start, false).contains("more"));
        found.push(Diagnostic::error(None, "bad"));
        assert!(found.render(Purpose::Start, false).ends_with("\n\nand 1 more\n"));
    }

    #[test]
    fn lines_for_the_log_name_the_place() {
        let mut found = Diagnostics::new("rusm.toml", "é = 1\né x\n");
        found.push(Diagnostic::warning(at(10, 11), "odd").label("here"));
        assert_eq!(found.lines().collect::<Vec<_>>(), [(Severity::Warning, "rusm.toml:2:3: odd (here)".to_owned())]);
    }

    #[test]
    fn names_are_shown_without_control_characters_and_cut() {
        assert_eq!(quoted("a\u{1b}[31m\n'\""), "`a\\u{1b}[31m\\n'\"`");
        assert_eq!(quoted(&"x".repeat(NAME_CHARS_MAX)), format!("`{}`", "x".repeat(NAME_CHARS_MAX)));
        assert_eq!(quoted(&"x".repeat(NAME_CHARS_MAX + 1)), format!("`{}…`", "x".repeat(NAME_CHARS_MAX)));
    }

    #[test]
    fn spans_outside_the_source_do_not_panic() {
        let source = "é\né";
        for start in 0..8 {
            for end in 0..8 {
                let mut found = Diagnostics::new("rusm.toml", source);
                found.push(Diagnostic::error(at(start, end), "bad").also(at(end, start), "there"));
                assert!(found.render(Purpose::Start, true).contains("bad"));
            }
        }
    }
}
