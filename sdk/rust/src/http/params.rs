//! The parameters that a route takes from the path.
//!
//! Owns a short list of names and decoded values, which the server's router has filled.

use std::fmt;
use std::str::FromStr;

use crate::http::Error;

/// The path parameters of a route: `id` in `"GET /users/:id"`. The rest that a final `*` matched is named `*`.
///
/// ```
/// use rusm_rs::http::Params;
///
/// let params = Params::from([("id", "42")]);
/// assert_eq!(params.get("id"), Some("42"));
/// assert_eq!(params.parse::<u64>("id").unwrap(), 42);
/// assert_eq!(params.get("name"), None);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// The value of a parameter, percent-decoded.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(have, _)| *have == name).map(|(_, value)| value)
    }

    /// The value of a parameter as a number or anything else that a string can be parsed into.
    ///
    /// # Errors
    ///
    /// With `?`, a value that cannot be parsed is answered with 404, since there is nothing at such a path; a
    /// parameter that the route does not have, with 500.
    pub fn parse<T: FromStr<Err: fmt::Display>>(&self, name: &str) -> Result<T, Error> {
        let Some(value) = self.get(name) else {
            return Err(Error::from(format!("the route has no parameter `{name}`")));
        };
        value.parse().map_err(|error| Error::new(404, format!("{name}: {error}")))
    }

    /// All of them, in the order of the path.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the route has none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Vec<(String, String)>> for Params {
    fn from(pairs: Vec<(String, String)>) -> Params {
        Params(pairs)
    }
}

impl<N: Into<String>, V: Into<String>, const LENGTH: usize> From<[(N, V); LENGTH]> for Params {
    fn from(pairs: [(N, V); LENGTH]) -> Params {
        Params(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}
