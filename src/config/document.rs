//! Owns the access to TOML: typed values, each kind of mistake told the same way everywhere. Knows no key by name.
//!
//! Everything here takes the [`Report`] that mistakes go to and returns `None` where there was one, so that reading goes on.

use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::diagnostic::{Diagnostic, Report, Span, closest, quoted};
use super::listen::Listen;

pub(super) type Key<'d> = Spanned<DeString<'d>>;
pub(super) type Value<'d> = Spanned<DeValue<'d>>;

/// Most keys that a message lists.
const KEYS_LISTED_MAX: usize = 10;

/// A table of the manifest: how messages name it, and its keys.
pub(super) struct Shape {
    /// As it is written in a manifest, for example `[[serve]]`.
    pub(super) name: &'static str,
    pub(super) keys: &'static [&'static str],
    /// Keys that mean something to the system whose manifests rusmd reads, but that rusmd does not honour, each with what to tell.
    /// They are accepted where they say that the thing is off.
    pub(super) unsupported: &'static [(&'static str, &'static str)],
}

/// The entries of a table in the order of the file.
pub(super) fn entries<'d>(table: &'d DeTable<'d>) -> Vec<(&'d Key<'d>, &'d Value<'d>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

pub(super) fn span<T>(spanned: &Spanned<T>) -> Option<Span> {
    let Range { start, end } = spanned.span();
    Some(Span { start, end })
}

pub(super) fn string<'d>(value: &'d Value<'_>, report: &mut Report) -> Option<&'d str> {
    match value.get_ref().as_str() {
        Some(text) if text.contains('\0') => {
            report.push(Diagnostic::error(span(value), "the value has a NUL in it"));
            None
        }
        Some(text) => Some(text),
        None => mismatch(value, "a string", report),
    }
}

/// A path that is not empty.
pub(super) fn file_path<'d>(value: &'d Value<'_>, report: &mut Report) -> Option<&'d str> {
    let path = string(value, report)?;
    if path.is_empty() {
        report.push(Diagnostic::error(span(value), "the path is empty"));
        return None;
    }
    Some(path)
}

pub(super) fn boolean(value: &Value<'_>, report: &mut Report) -> Option<bool> {
    value.get_ref().as_bool().or_else(|| mismatch(value, "true or false", report))
}

pub(super) fn table<'d>(value: &'d Value<'d>, report: &mut Report) -> Option<&'d DeTable<'d>> {
    value.get_ref().as_table().or_else(|| mismatch(value, "a table", report))
}

pub(super) fn array<'d>(value: &'d Value<'d>, report: &mut Report) -> Option<&'d [Value<'d>]> {
    match value.get_ref().as_array() {
        Some(array) => Some(array),
        None => mismatch(value, "an array", report),
    }
}

/// A whole number within `range`; `unit` follows the bounds in the message, as in ` ms`.
pub(super) fn integer(value: &Value<'_>, range: &RangeInclusive<u64>, unit: &str, report: &mut Report) -> Option<u64> {
    let Some(integer) = value.get_ref().as_integer() else { return mismatch(value, "a whole number", report) };
    let number = i128::from_str_radix(integer.as_str(), integer.radix()).ok();
    match number.and_then(|number| u64::try_from(number).ok()).filter(|number| range.contains(number)) {
        Some(number) => Some(number),
        None => {
            let message = format!("{} is out of range", quoted(&integer.to_string()));
            let allowed = format!("must be from {} to {}{unit}", range.start(), range.end());
            report.push(Diagnostic::error(span(value), message).label(allowed));
            None
        }
    }
}

/// The number zero.
pub(super) fn is_zero(value: &Value<'_>) -> bool {
    value.get_ref().as_integer().is_some_and(|integer| i128::from_str_radix(integer.as_str(), integer.radix()) == Ok(0))
}

/// One of a few words.
pub(super) fn word<'d>(value: &'d Value<'_>, words: &[&'static str], report: &mut Report) -> Option<&'d str> {
    let text = string(value, report)?;
    if words.contains(&text) {
        return Some(text);
    }
    let message = format!("{} is not one of {}", quoted(text), words.join(", "));
    report.push(suggest(Diagnostic::error(span(value), message), text, words.iter().copied()));
    None
}

/// Where to listen.
pub(super) fn address(value: &Value<'_>, report: &mut Report) -> Option<Listen> {
    match string(value, report)?.parse::<Listen>() {
        Ok(listen) => Some(listen),
        Err(error) => {
            report.push(Diagnostic::error(span(value), error.to_string()).hint(error.hint()));
            None
        }
    }
}

/// Tells that a key is not one of the table's, or not supported.
pub(super) fn unknown_key(key: &Key<'_>, value: &Value<'_>, shape: &Shape, report: &mut Report) {
    let name: &str = key.get_ref();
    if let Some((_, why)) = shape.unsupported.iter().find(|(unsupported, _)| *unsupported == name) {
        if !is_off(value) {
            report.push(Diagnostic::error(span(key), format!("{} is not supported", quoted(name))).label(*why));
        }
        return;
    }
    let unknown = Diagnostic::error(span(key), format!("unknown key {}", quoted(name)));
    let suggested = suggest(unknown.clone(), name, shape.keys.iter().copied());
    report.push(if suggested == unknown && shape.keys.len() <= KEYS_LISTED_MAX {
        unknown.label(format!("not a key of {}", shape.name)).hint(format!("the keys are {}", shape.keys.join(", ")))
    } else if suggested == unknown {
        unknown.label(format!("not a key of {}", shape.name)).hint("`rusmd --help` lists the keys")
    } else {
        suggested
    });
}

/// Adds `did you mean` where one of the candidates is near enough.
pub(super) fn suggest<'c>(found: Diagnostic, name: &str, candidates: impl IntoIterator<Item = &'c str>) -> Diagnostic {
    match closest(name, candidates) {
        Some(candidate) => found.label(format!("did you mean {}?", quoted(candidate))),
        None => found,
    }
}

fn is_off(value: &Value<'_>) -> bool {
    match value.get_ref() {
        DeValue::Boolean(on) => !on,
        DeValue::Array(array) => array.is_empty(),
        DeValue::String(_) | DeValue::Integer(_) | DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Table(_) => {
            false
        }
    }
}

fn mismatch<T>(value: &Value<'_>, expected: &str, report: &mut Report) -> Option<T> {
    let kind = value.get_ref().type_str();
    let article = if kind.starts_with(['a', 'i']) { "an" } else { "a" };
    report.push(Diagnostic::error(span(value), format!("expected {expected}, found {article} {kind}")));
    None
}
