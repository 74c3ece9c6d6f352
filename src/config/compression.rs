//! Owns what a listener compresses: `compression`, `compression-min-bytes`, `compression-types`.

use super::diagnostic::{Diagnostic, Report, quoted};
use super::document::{self, Value, span};
use crate::compress::{Coding, Policy};

/// Most media types of one list.
const TYPES_MAX: usize = 256;

/// Most that `compression-min-bytes` can be.
const MIN_BYTES_MAX: u64 = 1 << 30;

const NAMES: [&str; Coding::ALL.len()] = [Coding::ALL[0].name(), Coding::ALL[1].name(), Coding::ALL[2].name()];

/// `compression = ["zstd", "br", "gzip"]`: in the order of preference.
pub(super) fn read_codings(value: &Value<'_>, policy: &mut Policy, report: &mut Report) {
    for item in document::array(value, report).unwrap_or_default() {
        let Some(name) = document::word(item, &NAMES, report) else { continue };
        let Some(coding) = Coding::ALL.into_iter().find(|coding| coding.name() == name) else { continue };
        if policy.codings.contains(&coding) {
            report.push(Diagnostic::error(span(item), format!("{} is listed twice", quoted(name))));
        } else {
            policy.codings.push(coding);
        }
    }
}

pub(super) fn read_min_bytes(value: &Value<'_>, policy: &mut Policy, report: &mut Report) {
    if let Some(bytes) = document::integer(value, &(0..=MIN_BYTES_MAX), " bytes", report) {
        policy.min_bytes = bytes;
    }
}

/// `compression-types = ["text/*", "application/json"]`, in place of the usual ones.
pub(super) fn read_types(value: &Value<'_>, policy: &mut Policy, report: &mut Report) {
    let Some(items) = document::array(value, report) else { return };
    if items.len() > TYPES_MAX {
        report.push(Diagnostic::error(span(value), format!("a list has at most {TYPES_MAX} media types")));
        return;
    }
    policy.types.clear();
    for item in items {
        let Some(text) = document::string(item, report) else { continue };
        if is_media_type(text) {
            policy.types.push(text.to_ascii_lowercase());
        } else {
            let found = Diagnostic::error(span(item), format!("{} is not a media type", quoted(text)));
            report.push(found.hint("write \"type/subtype\" or \"type/*\", without parameters"));
        }
    }
}

/// `type/subtype` (RFC 9110, section 8.3.1), where the subtype may be a star.
fn is_media_type(text: &str) -> bool {
    let legal = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
    };
    text.split_once('/').is_some_and(|(family, subtype)| legal(family) && (subtype == "*" || legal(subtype)))
}
