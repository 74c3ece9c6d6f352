//! Owns the routes of one listener: from a method and a path to a route and its path parameters.
//!
//! Immutable once built and pure: no I/O, no clock, no knowledge of components. `config` builds a [`Router`] per listener when it loads
//! the manifest; the reactor asks it once per request, on bytes that `http` has already found to be a request target.
//!
//! Precedence is decided segment by segment from the left: a literal beats `:name`, which beats `*`. Among the routes of one path,
//! a declared method beats a route without a method. The best route that has both the path and the method answers, so `POST /users/:id`
//! is found for `/users/new` even where `GET /users/new` exists.

mod params;
mod path;
mod pattern;
mod tree;

use std::borrow::Cow;
use std::fmt;

pub use params::{PARAMS_PER_ROUTE_MAX, Params};
pub use path::PathError;
pub use pattern::{PatternError, SEGMENTS_PER_ROUTE_MAX};

use pattern::Pattern;
use tree::{Captures, Tree};

/// Most routes of one listener.
pub const ROUTES_MAX: usize = 10_000;

/// The place of a route in the list that [`Router::new`] was given.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RouteIndex(pub u32);

impl RouteIndex {
    /// As an index into the list of routes.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// The routes of one listener, compiled.
#[derive(Clone, Debug)]
pub struct Router {
    tree: Tree,
    /// For each route, the names of its parameters, in the order of the path.
    names: Vec<Box<[String]>>,
}

/// What becomes of a request, as far as the routes can tell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Resolution {
    /// This route answers. The parameters are in the `params` that [`Router::resolve`] was given.
    Found(RouteIndex),
    /// No route has this path: 404.
    NotFound,
    /// Routes have this path, but none of them this method: 405. `allow` is the value of the `Allow` field (RFC 9110, section 10.2.1).
    MethodNotAllowed { allow: String },
    /// An OPTIONS request for a path whose routes do not declare OPTIONS: the server answers it, with `allow` as `Allow`
    /// (RFC 9110, section 9.3.7).
    Options { allow: String },
    /// The path is not one: 400.
    BadPath(PathError),
}

/// Why a list of routes is not a router. Every faulty route is told, not just the first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RouteError {
    pub route: RouteIndex,
    pub cause: RouteErrorCause,
}

/// What is wrong with one route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RouteErrorCause {
    Pattern(PatternError),
    /// Nothing tells this route and an earlier one apart: same method, same literals, parameters in the same places.
    Conflict {
        with: RouteIndex,
    },
    /// One more than [`ROUTES_MAX`].
    TooMany,
}

impl Router {
    /// Compiles routes, each a method (absent: any method) and a pattern such as `/users/:id` or `/files/*`.
    ///
    /// # Errors
    ///
    /// All the routes that are malformed, too many, or conflict with an earlier one.
    pub fn new<'r>(routes: impl IntoIterator<Item = (Option<&'r str>, &'r str)>) -> Result<Router, Vec<RouteError>> {
        let mut router = Router { tree: Tree::new(), names: Vec::new() };
        let mut errors = Vec::new();
        for (number, (method, pattern)) in routes.into_iter().enumerate() {
            let route = RouteIndex(u32::try_from(number).unwrap_or(u32::MAX));
            if number >= ROUTES_MAX {
                errors.push(RouteError { route, cause: RouteErrorCause::TooMany });
                break;
            }
            let names = match Pattern::parse(pattern) {
                Ok(pattern) => {
                    if let Err(with) = router.tree.insert(method, &pattern, route) {
                        errors.push(RouteError { route, cause: RouteErrorCause::Conflict { with } });
                    }
                    pattern.into_names()
                }
                Err(error) => {
                    errors.push(RouteError { route, cause: RouteErrorCause::Pattern(error) });
                    Box::default()
                }
            };
            router.names.push(names);
        }
        if errors.is_empty() { Ok(router) } else { Err(errors) }
    }

    /// Lets a GET route that ends in `*` have the path before the `*` as well, unless a route of its own answers there.
    pub fn extend_to_prefix(&mut self, route: RouteIndex, pattern: &str) {
        if let Ok(pattern) = Pattern::parse(pattern) {
            self.tree.insert_prefix("GET", &pattern, route);
        }
    }

    /// Finds the route for a request. `method` is compared as it stands, for methods are case-sensitive (RFC 9110, section 9.1);
    /// `path` is the path of the request target without the query, normalised and percent-encoded: what the component will be shown, so
    /// that it cannot be routed by one path and answered by another. Nothing is allocated unless the path has escapes, or had dot
    /// segments, or the answer is an `allow`.
    #[expect(
        clippy::ptr_arg,
        reason = "a path that is borrowed for long enough lends its values; one that is owned cannot"
    )]
    pub fn resolve<'a>(&'a self, method: &str, path: &Cow<'a, str>, params: &mut Params<'a>) -> Resolution {
        params.clear();
        if let Err(error) = path::check_utf8(path) {
            return Resolution::BadPath(error);
        }
        let mut captures = Captures::new();
        let Some(route) = self.tree.find(method, path, &mut captures) else {
            return self.refuse(method, path);
        };
        let names = self.names.get(route.index()).map_or(&[][..], |names| names);
        match path {
            Cow::Borrowed(path) => params.fill(names, &captures, path, |value| value),
            Cow::Owned(path) => params.fill(names, &captures, path, |value| Cow::Owned(value.into_owned())),
        }
        Resolution::Found(route)
    }

    fn refuse(&self, method: &str, path: &str) -> Resolution {
        match self.tree.allow(path) {
            None => Resolution::NotFound,
            Some(allow) if method == "OPTIONS" => Resolution::Options { allow },
            Some(allow) => Resolution::MethodNotAllowed { allow },
        }
    }
}

impl fmt::Display for RouteErrorCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RouteErrorCause::Pattern(error) => error.fmt(f),
            RouteErrorCause::Conflict { .. } => f.write_str("nothing tells this route and an earlier one apart"),
            RouteErrorCause::TooMany => write!(f, "a listener has at most {ROUTES_MAX} routes"),
        }
    }
}

impl std::error::Error for RouteErrorCause {}

#[cfg(test)]
mod tests;
