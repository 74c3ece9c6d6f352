//! Owns whether a file's state is what a request asks for: its validators, and the preconditions on them (RFC 9110, sections 8.8 and 13).
//! Pure. `super::reply` drives it.

use std::time::{Duration, SystemTime};

use crate::http::Headers;

/// The last second that an HTTP date can tell: the year has four digits (RFC 9110, section 5.6.7).
const SECONDS_MAX: u64 = 253_402_300_799;

/// What tells one state of a file from another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Validators {
    /// With its quotes. Strong: file systems keep time finely enough that whoever changes a file changes it.
    tag: String,
    /// Seconds since 1970; none where no HTTP date can tell it.
    modified: Option<u64>,
}

/// What the preconditions of a request come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// `ranged`: a `Range` field counts.
    Met { ranged: bool },
    /// 304
    NotModified,
    /// 412
    Failed,
}

impl Validators {
    pub(super) fn new(size: u64, modified_s: i64, modified_ns: i64) -> Validators {
        let tag = format!("\"{size:x}-{modified_s:x}-{modified_ns:x}\"");
        Validators { tag, modified: u64::try_from(modified_s).ok().filter(|seconds| *seconds <= SECONDS_MAX) }
    }

    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// The value of `Last-Modified` in a response with this `Date`: never later than that (section 8.8.2.1).
    pub fn last_modified(&self, date: Option<SystemTime>) -> Option<String> {
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(self.modified?);
        Some(httpdate::fmt_http_date(date.map_or(modified, |date| date.min(modified))))
    }

    /// Evaluates the preconditions in the order of section 13.2.2, for GET and HEAD.
    pub(super) fn judge(&self, headers: &Headers<'_>) -> Verdict {
        match self.tags(headers, "if-match", Comparison::Strong) {
            Some(false) => return Verdict::Failed,
            Some(true) => {}
            None if date(headers, "if-unmodified-since").is_some_and(|since| self.is_later_than(since)) => {
                return Verdict::Failed;
            }
            None => {}
        }
        match self.tags(headers, "if-none-match", Comparison::Weak) {
            Some(true) => return Verdict::NotModified,
            Some(false) => {}
            None if date(headers, "if-modified-since").is_some_and(|since| !self.is_later_than(since)) => {
                return Verdict::NotModified;
            }
            None => {}
        }
        Verdict::Met { ranged: self.continues(headers) }
    }

    /// Section 13.1.5: a part is of use only to somebody who has the rest of this very state.
    fn continues(&self, headers: &Headers<'_>) -> bool {
        let Some(field) = headers.find("if-range") else { return true };
        match date(headers, "if-range") {
            Some(date) => Some(date) == self.modified,
            None => field == self.tag.as_bytes(),
        }
    }

    /// A time that no date can tell is later than any.
    fn is_later_than(&self, since: u64) -> bool {
        self.modified.is_none_or(|modified| modified > since)
    }

    /// Whether one of the entity tags in a field is this one; nothing without the field.
    fn tags(&self, headers: &Headers<'_>, name: &str, comparison: Comparison) -> Option<bool> {
        let mut lines = headers.iter().filter(|(known, _)| *known == name).map(|(_, value)| value).peekable();
        lines.peek()?;
        Some(lines.any(|line| line == b"*" || has_tag(line, self.tag.as_bytes(), comparison)))
    }
}

/// How entity tags are compared (section 8.8.3.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Comparison {
    Strong,
    Weak,
}

/// Looks for a tag in a list of them. What follows something that is no tag is not read.
fn has_tag(list: &[u8], tag: &[u8], comparison: Comparison) -> bool {
    let mut rest = list;
    loop {
        rest = match rest {
            [b' ' | b'\t' | b',', tail @ ..] => tail,
            _ => {
                let (is_weak, quoted) = rest.strip_prefix(b"W/").map_or((false, rest), |quoted| (true, quoted));
                let [b'"', inner @ ..] = quoted else { return false };
                let Some(length) = inner.iter().position(|byte| *byte == b'"') else { return false };
                let (found, tail) = quoted.split_at(length + 2);
                if found == tag && (comparison == Comparison::Weak || !is_weak) {
                    return true;
                }
                tail
            }
        }
    }
}

/// The date in a field, in seconds since 1970. One that is none, or is there twice, is ignored (sections 13.1.3 and 13.1.4).
fn date(headers: &Headers<'_>, name: &str) -> Option<u64> {
    let mut fields = headers.iter().filter(|(known, _)| *known == name);
    let (Some((_, field)), None) = (fields.next(), fields.next()) else { return None };
    let date = httpdate::parse_http_date(std::str::from_utf8(field).ok()?).ok()?;
    date.duration_since(SystemTime::UNIX_EPOCH).ok().map(|since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assets::testing::with_headers;

    const MODIFIED: i64 = 784_111_777;
    const SAME: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const LATER: &str = "Sunday, 06-Nov-94 08:49:38 GMT";
    const TAG: &str = "\"a-2ebc98a1-5\"";

    fn judge(fields: &str) -> Verdict {
        let fields = fields.replace("TAG", TAG).replace("SAME", SAME).replace("EARLIER", EARLIER);
        let fields = fields.replace("LATER", LATER);
        let validators = Validators::new(10, MODIFIED, 5);
        assert_eq!(validators.tag(), TAG);
        with_headers("GET", "/", &fields, |head| validators.judge(&head.headers))
    }

    #[test]
    fn preconditions_are_evaluated_in_their_order() {
        const MET: Verdict = Verdict::Met { ranged: true };
        const WHOLE: Verdict = Verdict::Met { ranged: false };
        use Verdict::{Failed, NotModified};
        let table = [
            ("", MET),
            ("if-match: TAG\r\n", MET),
            ("if-match: *\r\n", MET),
            ("if-match: \"x\", TAG\r\n", MET),
            ("if-match: \"x\"\r\nif-match: TAG\r\n", MET),
            ("if-match: W/TAG\r\n", Failed),
            ("if-match: \"x\"\r\n", Failed),
            ("if-match: x, TAG\r\n", Failed),
            ("if-match: TAG\r\nif-unmodified-since: EARLIER\r\n", MET),
            ("if-unmodified-since: SAME\r\n", MET),
            ("if-unmodified-since: LATER\r\n", MET),
            ("if-unmodified-since: EARLIER\r\n", Failed),
            ("if-unmodified-since: yesterday\r\n", MET),
            ("if-none-match: TAG\r\n", NotModified),
            ("if-none-match: W/TAG\r\n", NotModified),
            ("if-none-match: *\r\n", NotModified),
            ("if-none-match: \"a,b\" ,, W/\"c\", TAG\r\n", NotModified),
            ("if-none-match: \"x\"\r\n", MET),
            ("if-none-match: \"x\r\n", MET),
            ("if-none-match: \"x\"\r\nif-modified-since: SAME\r\n", MET),
            ("if-modified-since: SAME\r\n", NotModified),
            ("if-modified-since: LATER\r\n", NotModified),
            ("if-modified-since: EARLIER\r\n", MET),
            ("if-modified-since: SAME\r\nif-modified-since: SAME\r\n", MET),
            ("if-match: \"x\"\r\nif-none-match: TAG\r\n", Failed),
            ("if-range: TAG\r\n", MET),
            ("if-range: W/TAG\r\n", WHOLE),
            ("if-range: \"x\"\r\n", WHOLE),
            ("if-range: SAME\r\n", MET),
            ("if-range: LATER\r\n", WHOLE),
            ("if-range: EARLIER\r\n", WHOLE),
        ];
        for (fields, expected) in table {
            assert_eq!(judge(fields), expected, "{fields:?}");
        }
    }

    #[test]
    fn no_file_was_modified_after_its_response() {
        let validators = Validators::new(1, MODIFIED, 0);
        let at = |seconds: u64| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(validators.last_modified(at(MODIFIED as u64 + 9)).as_deref(), Some(SAME));
        assert_eq!(validators.last_modified(at(MODIFIED as u64 - 1)).as_deref(), Some(EARLIER));
    }

    #[test]
    fn a_time_that_no_date_can_tell_is_left_out() {
        for (seconds, is_told) in [(-1, false), (0, true), (SECONDS_MAX as i64, true), (SECONDS_MAX as i64 + 1, false)]
        {
            assert_eq!(Validators::new(1, seconds, 0).last_modified(None).is_some(), is_told, "{seconds}");
        }
    }
}
