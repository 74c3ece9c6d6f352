//! Owns what a listener adds to every response: `headers` and `server-header`. Reads them; `serve` keeps them, the reactor sends them.

use super::diagnostic::{Diagnostic, Report, quoted};
use super::document::{self, Value, span};
use super::serve::is_token;

/// Most response headers of one listener.
const HEADERS_MAX: usize = 64;

/// Fields that frame a message or belong to the connection are the server's own (RFC 9110, section 7.6.1; RFC 9112, section 6).
const FRAMING_HEADERS: [&str; 8] =
    ["connection", "content-length", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"];

/// Fields that are different in each response.
const RESPONSE_HEADERS: [&str; 2] = ["date", "x-request-id"];

/// Reads a table of fields that every response gets.
pub(super) fn read<'d>(value: &'d Value<'d>, report: &mut Report) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    let Some(table) = document::table(value, report) else { return headers };
    if table.len() > HEADERS_MAX {
        report.push(Diagnostic::error(span(value), format!("a listener adds at most {HEADERS_MAX} headers")));
        return headers;
    }
    for (key, value) in document::entries(table) {
        let name: &str = key.get_ref();
        let Some(text) = document::string(value, report) else { continue };
        if !is_token(name) {
            report.push(Diagnostic::error(span(key), format!("{} cannot be the name of a header", quoted(name))));
        } else if FRAMING_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
            let found = Diagnostic::error(span(key), format!("the header {} is the server's own", quoted(name)));
            report.push(found.label("it frames the message"));
        } else if RESPONSE_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
            let found = Diagnostic::error(span(key), format!("the header {} is the server's own", quoted(name)));
            report.push(found.label("each response has one of its own"));
        } else if is_field_value(value, text, report) {
            headers.push((name.to_owned(), text.to_owned()));
        }
    }
    headers
}

fn is_field_value(value: &Value<'_>, text: &str, report: &mut Report) -> bool {
    let is_legal = !text.chars().any(|c| c.is_control() && c != '\t') && text.trim_matches([' ', '\t']) == text;
    if !is_legal {
        let message = "a header's value has no control characters and no blanks around it";
        report.push(Diagnostic::error(span(value), message));
    }
    is_legal
}

/// What responses tell of their server (RFC 9110, section 10.2.4).
pub(super) fn read_server<'d>(value: &'d Value<'d>, report: &mut Report) -> Option<(&'d Value<'d>, String)> {
    let text = document::string(value, report)?;
    if text.is_empty() {
        report.push(Diagnostic::error(span(value), "the Server header would be empty").hint("leave the key out"));
        return None;
    }
    is_field_value(value, text, report).then(|| (value, text.to_owned()))
}
