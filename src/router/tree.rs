//! Owns the lookup: a tree of segments, walked best choice first. Knows segments and methods, not names of parameters. `Router` drives it.
//!
//! The walk goes back where a better-looking branch led nowhere. Each node has one way to it, so that a lookup visits a node at
//! most once, and the depth is bounded by the longest pattern, whatever the length of the request's path.

use std::ops::Range;

use super::RouteIndex;
use super::params::PARAMS_PER_ROUTE_MAX;
use super::path;
use super::pattern::{Pattern, Segment};

/// The root is the first node.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
}

#[derive(Clone, Default, Debug)]
struct Node {
    /// Sorted by the literal, decoded.
    literals: Vec<(Box<str>, usize)>,
    param: Option<usize>,
    /// Routes that end here.
    here: Methods,
    /// Routes that end in a `*` here.
    rest: Methods,
}

/// The routes of one pattern.
#[derive(Clone, Default, Debug)]
struct Methods {
    named: Vec<(Box<str>, RouteIndex)>,
    any: Option<RouteIndex>,
}

/// Where in the path the parameters of the route that was found lie, in order.
#[derive(Debug)]
pub(super) struct Captures {
    ranges: [(usize, usize); PARAMS_PER_ROUTE_MAX],
    len: usize,
}

impl Captures {
    pub(super) const fn new() -> Captures {
        Captures { ranges: [(0, 0); PARAMS_PER_ROUTE_MAX], len: 0 }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Range<usize>> {
        self.ranges.iter().take(self.len).map(|&(start, end)| start..end)
    }

    /// Everything past `len` is left over from a branch that led nowhere.
    fn set(&mut self, place: usize, range: Range<usize>) {
        if let Some(slot) = self.ranges.get_mut(place) {
            *slot = (range.start, range.end);
        }
    }
}

impl Tree {
    pub(super) fn new() -> Tree {
        Tree { nodes: vec![Node::default()] }
    }

    /// Adds a route, or tells which one is already there.
    pub(super) fn insert(
        &mut self,
        method: Option<&str>,
        pattern: &Pattern,
        route: RouteIndex,
    ) -> Result<(), RouteIndex> {
        let mut at = 0;
        let mut rest = false;
        for segment in &pattern.segments {
            match segment {
                Segment::Literal(literal) => at = self.literal_child(at, literal),
                Segment::Param(_) => at = self.param_child(at),
                Segment::Rest => rest = true,
            }
        }
        let Some(node) = self.nodes.get_mut(at) else { return Ok(()) };
        let methods = if rest { &mut node.rest } else { &mut node.here };
        methods.insert(method, route)
    }

    /// Adds a route at the node of which the pattern's `*` hangs, where nothing answers this method.
    pub(super) fn insert_prefix(&mut self, method: &str, pattern: &Pattern, route: RouteIndex) {
        let mut at = 0;
        for segment in &pattern.segments {
            match segment {
                Segment::Literal(literal) => at = self.literal_child(at, literal),
                Segment::Param(_) => at = self.param_child(at),
                Segment::Rest => {}
            }
        }
        if let Some(node) = self.nodes.get_mut(at).filter(|node| node.here.find(method).is_none()) {
            // It has just been seen to be free.
            let _ = node.here.insert(Some(method), route);
        }
    }

    /// The best route that has both the path and the method. `path` is normalised.
    pub(super) fn find(&self, method: &str, path: &str, captures: &mut Captures) -> Option<RouteIndex> {
        Walk { tree: self, method, path, captures }.find(0, 0, 0)
    }

    /// The methods of all routes that have this path, as the value of an `Allow` field; nothing when no route has it.
    pub(super) fn allow(&self, path: &str) -> Option<String> {
        let mut methods = Vec::new();
        self.collect(0, path, 0, &mut methods);
        if methods.is_empty() {
            return None;
        }
        if methods.contains(&"GET") {
            methods.push("HEAD");
        }
        methods.push("OPTIONS");
        methods.sort_unstable();
        methods.dedup();
        Some(methods.join(", "))
    }

    fn collect<'t>(&'t self, node: usize, path: &str, at: usize, methods: &mut Vec<&'t str>) {
        let Some(node) = self.nodes.get(node) else { return };
        let Some(segment) = segment_at(path, at) else { return node.here.collect(methods) };
        if let Some(child) = node.literal(path.get(segment.clone()).unwrap_or_default()) {
            self.collect(child, path, segment.end, methods);
        }
        if let Some(child) = node.param {
            self.collect(child, path, segment.end, methods);
        }
        node.rest.collect(methods);
    }

    fn literal_child(&mut self, parent: usize, literal: &str) -> usize {
        let next = self.nodes.len();
        let Some(node) = self.nodes.get_mut(parent) else { return parent };
        match node.literals.binary_search_by(|(known, _)| (**known).cmp(literal)) {
            Ok(place) => node.literals.get(place).map_or(parent, |(_, child)| *child),
            Err(place) => {
                node.literals.insert(place, (literal.into(), next));
                self.nodes.push(Node::default());
                next
            }
        }
    }

    fn param_child(&mut self, parent: usize) -> usize {
        let next = self.nodes.len();
        let Some(node) = self.nodes.get_mut(parent) else { return parent };
        if let Some(child) = node.param {
            return child;
        }
        node.param = Some(next);
        self.nodes.push(Node::default());
        next
    }
}

struct Walk<'w> {
    tree: &'w Tree,
    method: &'w str,
    path: &'w str,
    captures: &'w mut Captures,
}

impl Walk<'_> {
    fn find(&mut self, node: usize, at: usize, captured: usize) -> Option<RouteIndex> {
        let node = self.tree.nodes.get(node)?;
        let Some(segment) = segment_at(self.path, at) else {
            self.captures.len = captured;
            return node.here.find(self.method);
        };
        if let Some(child) = node.literal(self.path.get(segment.clone())?)
            && let Some(route) = self.find(child, segment.end, captured)
        {
            return Some(route);
        }
        if let Some(child) = node.param {
            self.captures.set(captured, segment.clone());
            if let Some(route) = self.find(child, segment.end, captured + 1) {
                return Some(route);
            }
        }
        let route = node.rest.find(self.method)?;
        self.captures.set(captured, segment.start..self.path.len());
        self.captures.len = captured + 1;
        Some(route)
    }
}

impl Node {
    fn literal(&self, segment: &str) -> Option<usize> {
        if self.literals.is_empty() {
            return None;
        }
        let segment = path::decode_or_raw(segment);
        let place = self.literals.binary_search_by(|(known, _)| (**known).cmp(&segment)).ok()?;
        self.literals.get(place).map(|(_, child)| *child)
    }
}

impl Methods {
    fn insert(&mut self, method: Option<&str>, route: RouteIndex) -> Result<(), RouteIndex> {
        let earlier = match method {
            Some(method) => self.named(method),
            None => self.any,
        };
        match (earlier, method) {
            (Some(earlier), _) => return Err(earlier),
            (None, Some(method)) => self.named.push((method.into(), route)),
            (None, None) => self.any = Some(route),
        }
        Ok(())
    }

    /// A HEAD request is served from GET unless HEAD is declared (RFC 9110, section 9.3.2).
    fn find(&self, method: &str) -> Option<RouteIndex> {
        let named = self.named(method);
        let named = if method == "HEAD" { named.or_else(|| self.named("GET")) } else { named };
        named.or(self.any)
    }

    fn named(&self, method: &str) -> Option<RouteIndex> {
        self.named.iter().find(|(known, _)| **known == *method).map(|(_, route)| *route)
    }

    fn collect<'t>(&'t self, methods: &mut Vec<&'t str>) {
        methods.extend(self.named.iter().map(|(method, _)| &**method));
    }
}

/// The first segment at or after `at`; doubled and trailing slashes are not segments.
fn segment_at(path: &str, at: usize) -> Option<Range<usize>> {
    let bytes = path.as_bytes();
    let start = at + bytes.get(at..)?.iter().position(|byte| *byte != b'/')?;
    let length = bytes.get(start..)?.iter().position(|byte| *byte == b'/');
    Some(start..length.map_or(bytes.len(), |length| start + length))
}
