//! Owns the syntax of a route's path: literals, `:name`, and a final `*`. Knows no methods and no other routes. `Router::new` drives it.

use std::fmt;

use super::params::PARAMS_PER_ROUTE_MAX;
use super::path::{self, PathError};

/// Most segments of one route. It bounds the depth of every lookup.
pub const SEGMENTS_PER_ROUTE_MAX: usize = 32;

/// A parsed pattern.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Pattern {
    pub(super) segments: Vec<Segment>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Segment {
    /// Decoded, so that `/caf%C3%A9` and `/café` are the same route.
    Literal(String),
    Param(String),
    /// One or more segments; always the last.
    Rest,
}

/// Why a pattern is not one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PatternError {
    NotAbsolute,
    QueryOrFragment,
    /// `{id}` or `<id>`, as other routers write it.
    ForeignParam(String),
    /// `:` alone, or a name with something else than letters, digits, `_` and `-`.
    BadName(String),
    DuplicateName(String),
    /// A `*` that is not the last segment.
    StarNotLast,
    /// A `*` with something beside it in its segment, as in `/files/*.png` or `/files/*rest`.
    StarNotAlone(String),
    DotSegment,
    Encoding(PathError),
    Control,
    TooManySegments,
    TooManyParams,
}

impl Pattern {
    pub(super) fn parse(pattern: &str) -> Result<Pattern, PatternError> {
        if !pattern.starts_with('/') {
            return Err(PatternError::NotAbsolute);
        }
        if pattern.contains(['?', '#']) {
            return Err(PatternError::QueryOrFragment);
        }
        if pattern.contains(|c: char| c.is_control() || c.is_whitespace()) {
            return Err(PatternError::Control);
        }
        let mut segments = Vec::new();
        let mut params = 0;
        for text in pattern.split('/').filter(|text| !text.is_empty()) {
            if segments.last() == Some(&Segment::Rest) {
                return Err(PatternError::StarNotLast);
            }
            let segment = Segment::parse(text)?;
            if let Segment::Param(name) = &segment
                && segments.contains(&segment)
            {
                return Err(PatternError::DuplicateName(name.clone()));
            }
            params += usize::from(!matches!(segment, Segment::Literal(_)));
            segments.push(segment);
            if segments.len() > SEGMENTS_PER_ROUTE_MAX {
                return Err(PatternError::TooManySegments);
            }
        }
        if params > PARAMS_PER_ROUTE_MAX {
            return Err(PatternError::TooManyParams);
        }
        Ok(Pattern { segments })
    }

    /// The names of the parameters, in order.
    pub(super) fn into_names(self) -> Box<[String]> {
        let name = |segment| match segment {
            Segment::Literal(_) => None,
            Segment::Param(name) => Some(name),
            Segment::Rest => Some("*".to_owned()),
        };
        self.segments.into_iter().filter_map(name).collect()
    }
}

impl Segment {
    fn parse(text: &str) -> Result<Segment, PatternError> {
        if text == "*" {
            return Ok(Segment::Rest);
        }
        if text.contains('*') {
            return Err(PatternError::StarNotAlone(text.to_owned()));
        }
        if text.contains(['{', '}', '<', '>']) {
            return Err(PatternError::ForeignParam(text.to_owned()));
        }
        if let Some(name) = text.strip_prefix(':') {
            let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            return if !name.is_empty() && name.chars().all(legal) {
                Ok(Segment::Param(name.to_owned()))
            } else {
                Err(PatternError::BadName(text.to_owned()))
            };
        }
        if path::dots(text) > 0 {
            return Err(PatternError::DotSegment);
        }
        match path::decode(text) {
            Ok(literal) => Ok(Segment::Literal(literal.into_owned())),
            Err(error) => Err(PatternError::Encoding(error)),
        }
    }
}

impl PatternError {
    /// The next step for the author, where there is one to tell.
    pub fn hint(&self) -> Option<String> {
        match self {
            PatternError::NotAbsolute => {
                Some("write the path from its first slash, as in \"GET /users/:id\"".to_owned())
            }
            PatternError::QueryOrFragment => {
                Some("a route has no query: the component reads it from the request".to_owned())
            }
            PatternError::ForeignParam(text) => {
                let name: String =
                    text.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_' || *c == '-').collect();
                Some(if name.is_empty() { "write `:name`".to_owned() } else { format!("write `:{name}`") })
            }
            PatternError::BadName(_) => {
                Some("a name is made of letters, digits, `_` and `-`, and is a whole segment".to_owned())
            }
            PatternError::StarNotLast => Some("name the segments before the last with `:name`".to_owned()),
            PatternError::StarNotAlone(_) => Some("what `*` matched is the parameter named `*`".to_owned()),
            PatternError::DuplicateName(_)
            | PatternError::DotSegment
            | PatternError::Encoding(_)
            | PatternError::Control
            | PatternError::TooManySegments
            | PatternError::TooManyParams => None,
        }
    }
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PatternError::NotAbsolute => f.write_str("the path of a route begins with a slash"),
            PatternError::QueryOrFragment => f.write_str("the path of a route has no `?` and no `#`"),
            PatternError::ForeignParam(text) => write!(f, "`{text}` is not how a parameter is written"),
            PatternError::BadName(text) => write!(f, "`{text}` is not a parameter"),
            PatternError::DuplicateName(name) => write!(f, "the parameter `:{name}` is named twice"),
            PatternError::StarNotLast => f.write_str("`*` is not the last segment"),
            PatternError::StarNotAlone(text) => write!(f, "`*` is not alone in the segment `{text}`"),
            PatternError::DotSegment => f.write_str("a route has no `.` and `..` segments: no request has them"),
            PatternError::Encoding(error) => error.fmt(f),
            PatternError::Control => f.write_str("the path of a route has no white space or control characters"),
            PatternError::TooManySegments => write!(f, "a route has at most {SEGMENTS_PER_ROUTE_MAX} segments"),
            PatternError::TooManyParams => write!(f, "a route has at most {PARAMS_PER_ROUTE_MAX} parameters"),
        }
    }
}

impl std::error::Error for PatternError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_told_apart() {
        use PatternError::*;
        let table = [
            ("", NotAbsolute),
            ("users", NotAbsolute),
            ("/a?b=c", QueryOrFragment),
            ("/a#b", QueryOrFragment),
            ("/users/{id}", ForeignParam("{id}".into())),
            ("/users/<id>", ForeignParam("<id>".into())),
            ("/users/:", BadName(":".into())),
            ("/users/:id.json", BadName(":id.json".into())),
            ("/a/:id/b/:id", DuplicateName("id".into())),
            ("/*/a", StarNotLast),
            ("/*/*", StarNotLast),
            ("/a/*rest", StarNotAlone("*rest".into())),
            ("/a/../b", DotSegment),
            ("/a/%2e", DotSegment),
            ("/%zz", Encoding(PathError::BadEncoding)),
            ("/%00", Encoding(PathError::Nul)),
            ("/%ff", Encoding(PathError::NotUtf8)),
            ("/a\tb", Control),
        ];
        for (pattern, expected) in table {
            assert_eq!(Pattern::parse(pattern), Err(expected), "{pattern:?}");
        }
    }

    #[test]
    fn segments_are_counted_up_to_their_limit() {
        assert!(Pattern::parse(&"/a".repeat(SEGMENTS_PER_ROUTE_MAX)).is_ok());
        assert_eq!(Pattern::parse(&"/a".repeat(SEGMENTS_PER_ROUTE_MAX + 1)), Err(PatternError::TooManySegments));
    }

    #[test]
    fn params_are_counted_up_to_their_limit() {
        let pattern = |count: usize| (0..count).map(|n| format!("/:p{n}")).collect::<String>();
        assert!(Pattern::parse(&pattern(PARAMS_PER_ROUTE_MAX)).is_ok());
        assert_eq!(Pattern::parse(&pattern(PARAMS_PER_ROUTE_MAX + 1)), Err(PatternError::TooManyParams));
        assert!(Pattern::parse(&(pattern(PARAMS_PER_ROUTE_MAX - 1) + "/*")).is_ok());
        assert_eq!(Pattern::parse(&(pattern(PARAMS_PER_ROUTE_MAX) + "/*")), Err(PatternError::TooManyParams));
    }
}
