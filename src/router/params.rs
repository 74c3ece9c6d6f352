//! Owns the parameters of one request: names from the route, values from the path, in place and without allocation where nothing
//! has to be decoded. Knows nothing of how the route was found.

use std::borrow::Cow;

use super::path;
use super::tree::Captures;

/// Most parameters of one route, `*` included. Well under what the wire to the workers carries.
pub const PARAMS_PER_ROUTE_MAX: usize = 16;

/// The path parameters of a request, in the order of the path. The rest that a final `*` matched is named `*`; its segments are decoded
/// and joined by single slashes, without a slash at either end.
#[derive(Clone, Debug)]
pub struct Params<'a> {
    items: [(&'a str, Cow<'a, str>); PARAMS_PER_ROUTE_MAX],
    len: usize,
}

impl<'a> Params<'a> {
    pub const fn new() -> Params<'a> {
        Params { items: [const { ("", Cow::Borrowed("")) }; PARAMS_PER_ROUTE_MAX], len: 0 }
    }

    /// The percent-decoded value of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// Names and percent-decoded values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.items.iter().take(self.len).map(|(name, value)| (*name, &**value))
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn clear(&mut self) {
        self.len = 0;
    }

    /// Takes the values out of `path`. `keep` makes a value outlive that path where it must.
    pub(super) fn fill<'p>(
        &mut self,
        names: &'a [String],
        captures: &Captures,
        path: &'p str,
        keep: impl Fn(Cow<'p, str>) -> Cow<'a, str>,
    ) {
        for ((item, name), range) in self.items.iter_mut().zip(names).zip(captures.iter()) {
            let raw = path.get(range).unwrap_or_default();
            let value = if name == "*" { path::decode_rest(raw) } else { path::decode_or_raw(raw) };
            *item = (name, keep(value));
            self.len += 1;
        }
    }
}

impl Default for Params<'_> {
    fn default() -> Self {
        Params::new()
    }
}
