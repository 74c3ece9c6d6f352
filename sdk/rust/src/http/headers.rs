//! Header fields (RFC 9110, section 5).
//!
//! Owns an ordered list of lowercase names and values. It validates nothing: the server has validated what comes in, and
//! refuses what may not go out.

use std::borrow::Cow;

/// Header fields in order. Names are matched without regard to case.
///
/// ```
/// use rusm_rs::http::Headers;
///
/// let mut headers = Headers::default();
/// headers.set("Cache-Control", "no-store");
/// headers.append("vary", "accept");
/// assert_eq!(headers.get("cache-control"), Some("no-store"));
/// assert_eq!(headers.iter().count(), 2);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, Vec<u8>)>);

impl Headers {
    /// The first value of a field, if it is there and is text. See [`Headers::get_bytes`] for one that is not UTF-8.
    pub fn get(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.get_bytes(name)?).ok()
    }

    /// The first value of a field, as the bytes that were sent.
    pub fn get_bytes(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().find(|(have, _)| have.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_slice())
    }

    /// Every value of a field that may be repeated, in order; what is no UTF-8 in them becomes U+FFFD.
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Cow<'a, str>> {
        self.0
            .iter()
            .filter(move |(have, _)| have.eq_ignore_ascii_case(name))
            .map(|(_, value)| String::from_utf8_lossy(value))
    }

    /// Whether a field is there.
    pub fn contains(&self, name: &str) -> bool {
        self.get_bytes(name).is_some()
    }

    /// Gives a field one value, in the place of those that it has.
    pub fn set(&mut self, name: impl AsRef<str>, value: impl Into<Vec<u8>>) {
        self.remove(name.as_ref());
        self.append(name, value);
    }

    /// Adds a field line after those that are there.
    pub fn append(&mut self, name: impl AsRef<str>, value: impl Into<Vec<u8>>) {
        self.0.push((name.as_ref().to_ascii_lowercase(), value.into()));
    }

    /// Removes every line of a field.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(have, _)| !have.eq_ignore_ascii_case(name));
    }

    /// The lines in order: name and value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_slice()))
    }

    /// How many lines there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Vec<(String, Vec<u8>)>> for Headers {
    fn from(lines: Vec<(String, Vec<u8>)>) -> Headers {
        Headers(lines)
    }
}

impl From<Headers> for Vec<(String, Vec<u8>)> {
    fn from(headers: Headers) -> Vec<(String, Vec<u8>)> {
        headers.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_without_regard_to_case_and_are_kept_lowercase() {
        let mut headers = Headers::default();
        headers.append("X-One", "1");
        assert_eq!(headers.get("x-ONE"), Some("1"));
        assert_eq!(headers.iter().next(), Some(("x-one", b"1".as_slice())));
    }

    #[test]
    fn set_replaces_every_line_and_append_adds_one() {
        let mut headers = Headers::default();
        headers.append("a", "1");
        headers.append("A", "2");
        assert_eq!(headers.get_all("a").collect::<Vec<_>>(), ["1", "2"]);
        headers.set("a", "3");
        assert_eq!(headers.get_all("a").collect::<Vec<_>>(), ["3"]);
    }

    #[test]
    fn a_value_that_is_no_text_is_still_there_as_bytes() {
        let headers = Headers::from(vec![("x".to_owned(), vec![0xff])]);
        assert_eq!(headers.get("x"), None);
        assert_eq!(headers.get_bytes("x"), Some([0xff].as_slice()));
        assert_eq!(headers.get_all("x").collect::<Vec<_>>(), ["\u{fffd}"]);
    }
}
