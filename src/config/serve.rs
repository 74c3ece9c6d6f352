//! Owns the listeners of a manifest: `[[serve]]` with its routes and headers. Builds each listener's `Router`; binds nothing.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};

use toml::de::DeTable;

use super::Surroundings;
use super::component::{ComponentRef, Registry};
use super::compression;
use super::diagnostic::{Diagnostic, Report, Span, quoted};
use super::directory::{self, Directory};
use super::document::{self, Key, Shape, Value, span};
use super::listen::{Listen, SocketOptions};
use super::networks::Networks;
use super::response_headers;
use super::settings;
use super::tls::{self, Tls};
use crate::compress::Policy;
use crate::router::{RouteErrorCause, RouteIndex, Router};

/// Most `[[serve]]` of one manifest.
pub const SERVES_MAX: usize = 256;

/// Most bytes of a method in a route.
const METHOD_BYTES_MAX: usize = 32;

const CONNECTIONS_MAX: u64 = 1_000_000;

const PROTOCOLS: [&str; 2] = ["http", "https"];

const SHAPE: Shape = Shape {
    name: "[[serve]]",
    keys: &[
        "protocol",
        "listen",
        "component",
        "routes",
        "headers",
        "server-header",
        "max_connections",
        "backlog",
        "reuse-port",
        "ipv6-only",
        "socket-mode",
        "proxy-protocol",
        "trusted-proxies",
        "tls",
        "http2",
        "compression",
        "compression-min-bytes",
        "compression-types",
    ],
    unsupported: &[
        ("authentication", "a component checks its own requests"),
        ("source", "the file of a component is named in [components.<name>]"),
        ("subprotocols", "WebSockets are not supported yet"),
        ("allowed_origins", "WebSockets are not supported yet"),
        ("max_message_size", "WebSockets are not supported yet"),
    ],
};

/// One listener.
#[derive(Clone, Debug)]
pub struct Serve {
    pub listen: Listen,
    pub target: Target,
    /// Added to every response, in the order of the manifest; names and values are legal field lines.
    pub headers: Vec<(String, String)>,
    /// Most open connections of this listener; the server's own limit holds besides.
    pub connections_max: Option<usize>,
    pub socket: SocketOptions,
    /// Every connection begins with a PROXY protocol header, from a trusted proxy.
    pub proxy_protocol: bool,
    pub trusted_proxies: Networks,
    pub tls: Option<Tls>,
    /// HTTP/2 is spoken with clients that want it.
    pub http2: bool,
    pub compression: Policy,
    /// Where the listener begins in the manifest.
    pub span: Option<Span>,
}

/// Who answers on a listener.
#[derive(Clone, Debug)]
pub enum Target {
    /// One component gets every request, and dispatches itself.
    Component(ComponentRef),
    Routes(Routes),
}

/// The `[serve.routes]` of a listener.
#[derive(Clone, Debug)]
pub struct Routes {
    pub router: Router,
    /// What the router's indices mean, in the order of the manifest.
    pub list: Vec<RouteSpec>,
}

/// One route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RouteSpec {
    /// Absent when any method will do.
    pub method: Option<String>,
    pub pattern: String,
    pub target: RouteTarget,
    /// The place of the target in the manifest, for findings about it.
    pub span: Option<Span>,
}

/// Who answers on a route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RouteTarget {
    Component {
        component: ComponentRef,
        /// What follows `#`; absent for a `wasi:http` component.
        action: Option<String>,
    },
    /// The supervisor itself, with files.
    Directory(Directory),
}

impl RouteTarget {
    pub fn action(&self) -> Option<&str> {
        match self {
            RouteTarget::Component { action, .. } => action.as_deref(),
            RouteTarget::Directory(_) => None,
        }
    }

    pub(super) fn directory_mut(&mut self) -> Option<&mut Directory> {
        match self {
            RouteTarget::Component { .. } => None,
            RouteTarget::Directory(directory) => Some(directory),
        }
    }
}

/// A `[[serve]]` while its keys are read.
#[derive(Default)]
struct Draft<'d> {
    listen: Option<Listen>,
    listen_given: bool,
    component: Option<&'d Value<'d>>,
    routes: Option<(&'d Key<'d>, &'d Value<'d>)>,
    headers: Vec<(String, String)>,
    server_header: Option<(&'d Value<'d>, String)>,
    connections_max: Option<usize>,
    socket: SocketOptions,
    proxy_protocol: Option<&'d Key<'d>>,
    trusted_proxies: Networks,
    tls: Option<Tls>,
    without_http2: bool,
    compression: Policy,
    protocol: Option<&'d Value<'d>>,
    /// Keys that only some kinds of address have.
    for_ipv6: Option<&'d Key<'d>>,
    for_tcp: Option<&'d Key<'d>>,
    for_unix: Option<&'d Key<'d>>,
}

/// Reads all listeners. `listen_flags` take the place of the address of a sole listener; with none given, the manifest's stand.
pub(super) fn read<'d>(
    value: Option<&'d Value<'d>>,
    listen_flags: &[Listen],
    around: &Surroundings<'_>,
    registry: &mut Registry<'_>,
    report: &mut Report,
) -> Vec<Serve> {
    let Some(value) = value else {
        let found = Diagnostic::error(None, "the manifest has no [[serve]]").absence();
        report.push(found.hint("a listener needs `listen`, and `component` or [serve.routes]"));
        return Vec::new();
    };
    let Some(items) = value.get_ref().as_array() else {
        let found = Diagnostic::error(span(value), "expected one or more listeners");
        report.push(found.hint("write `[[serve]]` with two brackets: there may be several"));
        return Vec::new();
    };
    if items.len() > SERVES_MAX {
        report.push(Diagnostic::error(span(value), format!("a manifest has at most {SERVES_MAX} listeners")));
        return Vec::new();
    }
    if items.len() > 1 && !listen_flags.is_empty() {
        let found = Diagnostic::error(None, "--listen cannot tell which of several [[serve]] it is for");
        report.push(found.hint("change `listen` in the manifest instead"));
    }
    let mut taken: HashMap<Listen, Option<Span>> = HashMap::new();
    let mut serves = Vec::new();
    for item in items.iter() {
        let Some(table) = document::table(item, report) else { continue };
        if let Some(serve) = read_one(item, table, listen_flags, &mut taken, around, registry, report) {
            serves.extend(at_each_address(serve, listen_flags));
        }
    }
    find_doubled_families(&serves, report);
    serves
}

/// `[::]` takes the connections of `0.0.0.0` as well, unless it is told not to: the second of the two could not be bound.
fn find_doubled_families(serves: &[Serve], report: &mut Report) {
    let any_ipv4 = |port: u16| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    for serve in serves.iter().filter(|serve| !serve.socket.ipv6_only && !serve.listen.is_any_port()) {
        let Listen::Address(SocketAddr::V6(address)) = &serve.listen else { continue };
        let other = Listen::Address(any_ipv4(address.port()));
        if address.ip().is_unspecified()
            && let Some(first) = serves.iter().find(|serve| serve.listen == other)
        {
            let found = Diagnostic::error(serve.span, format!("this address takes the connections of {other} too"));
            report.push(found.also(first.span, "which is here").hint("set ipv6-only = true for one each"));
        }
    }
}

fn at_each_address(serve: Serve, listen_flags: &[Listen]) -> Vec<Serve> {
    if listen_flags.is_empty() {
        return vec![serve];
    }
    listen_flags.iter().map(|listen| Serve { listen: listen.clone(), ..serve.clone() }).collect()
}

fn read_one<'d>(
    item: &'d Value<'d>,
    table: &'d DeTable<'d>,
    listen_flags: &[Listen],
    taken: &mut HashMap<Listen, Option<Span>>,
    around: &Surroundings<'_>,
    registry: &mut Registry<'_>,
    report: &mut Report,
) -> Option<Serve> {
    let mut draft = Draft::default();
    for (key, value) in document::entries(table) {
        draft.read(key, value, taken, around, report);
    }
    draft.check_protocol(report);
    draft.add_server_header(report);
    if !draft.listen_given && listen_flags.is_empty() {
        let found = Diagnostic::error(span(item), "the listener has no `listen`").absence();
        report.push(found.hint("for example listen = \"127.0.0.1:8080\""));
    }
    let target = read_target(item, &draft, around, registry, report);
    let listen = listen_flags.first().cloned().or(draft.listen.take())?;
    draft.check_options(&listen, report);
    if let Some(tls) = &mut draft.tls {
        tls.spec.http2 = !draft.without_http2;
    }
    Some(Serve {
        listen,
        target: target?,
        headers: draft.headers,
        connections_max: draft.connections_max,
        socket: draft.socket,
        proxy_protocol: draft.proxy_protocol.is_some(),
        trusted_proxies: draft.trusted_proxies,
        tls: draft.tls,
        http2: !draft.without_http2,
        compression: draft.compression,
        span: span(item),
    })
}

impl<'d> Draft<'d> {
    fn read(
        &mut self,
        key: &'d Key<'d>,
        value: &'d Value<'d>,
        taken: &mut HashMap<Listen, Option<Span>>,
        around: &Surroundings<'_>,
        report: &mut Report,
    ) {
        let name: &str = key.get_ref();
        let is_on = |report: &mut Report| document::boolean(value, report).unwrap_or_default();
        match name {
            "protocol" => self.protocol = read_protocol(value, report),
            "listen" => {
                self.listen_given = true;
                self.listen = read_listen(value, taken, around, report);
            }
            "backlog" => {
                self.socket.backlog = document::integer(value, &settings::BACKLOG_RANGE, "", report)
                    .and_then(|backlog| usize::try_from(backlog).ok());
            }
            "reuse-port" => {
                self.socket.reuse_port = is_on(report);
                self.for_tcp = self.socket.reuse_port.then_some(key);
            }
            "ipv6-only" => {
                self.socket.ipv6_only = is_on(report);
                self.for_ipv6 = self.socket.ipv6_only.then_some(key);
            }
            "socket-mode" => {
                self.socket.mode = settings::file_mode(value, report);
                self.for_unix = Some(key);
            }
            "proxy-protocol" => self.proxy_protocol = is_on(report).then_some(key),
            "trusted-proxies" => self.trusted_proxies = Networks::read(value, report),
            "tls" => self.tls = tls::read(key, value, around, report),
            "http2" => self.without_http2 = document::boolean(value, report) == Some(false),
            "compression" => compression::read_codings(value, &mut self.compression, report),
            "compression-min-bytes" => compression::read_min_bytes(value, &mut self.compression, report),
            "compression-types" => compression::read_types(value, &mut self.compression, report),
            "component" => self.component = Some(value),
            "routes" => self.routes = Some((key, value)),
            "headers" => self.headers = response_headers::read(value, report),
            "server-header" => self.server_header = response_headers::read_server(value, report),
            "max_connections" => {
                self.connections_max = document::integer(value, &(1..=CONNECTIONS_MAX), "", report)
                    .and_then(|connections| usize::try_from(connections).ok());
            }
            _ => document::unknown_key(key, value, &SHAPE, report),
        }
    }
}

impl Draft<'_> {
    /// `https` is another word for what the table says.
    fn check_protocol(&self, report: &mut Report) {
        if let Some(value) = self.protocol.filter(|_| self.tls.is_none()) {
            let found = Diagnostic::error(span(value), "the listener has no certificate");
            report.push(found.hint("[serve.tls] names its `cert` and its `key`"));
        }
    }

    /// It is one of the fields that are added to every response.
    fn add_server_header(&mut self, report: &mut Report) {
        let Some((value, text)) = self.server_header.take() else { return };
        if self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("server")) {
            report.push(Diagnostic::error(span(value), "`headers` has a Server header already"));
        } else {
            self.headers.push(("server".to_owned(), text));
        }
    }

    /// Options of the socket are for the kinds of address that have them; headers of the PROXY protocol are for somebody to be believed.
    fn check_options(&self, listen: &Listen, report: &mut Report) {
        let is_unix = matches!(listen, Listen::Unix(_));
        let may_be_ipv6 = match listen {
            Listen::Address(address) => address.is_ipv6(),
            Listen::Name { .. } => true,
            Listen::Unix(_) => false,
        };
        let table = [
            (self.for_unix.filter(|_| !is_unix), "only a Unix socket has permissions"),
            (self.for_tcp.filter(|_| is_unix), "a Unix socket has no port"),
            (self.for_ipv6.filter(|_| !may_be_ipv6), "this is not an IPv6 address"),
        ];
        for (key, message) in table {
            if let Some(key) = key {
                report.push(Diagnostic::error(span(key), message));
            }
        }
        if let Some(key) = self.proxy_protocol.filter(|_| self.trusted_proxies.is_empty()) {
            let found = Diagnostic::error(span(key), "nobody is trusted to say whom a connection is from");
            report.push(found.hint("name the proxies, as in trusted-proxies = [\"10.0.0.0/8\"]"));
        }
    }
}

/// Returns the value where it says `https`.
fn read_protocol<'d>(value: &'d Value<'d>, report: &mut Report) -> Option<&'d Value<'d>> {
    let protocol = document::string(value, report)?;
    match protocol {
        "http" => {}
        "https" => return Some(value),
        "sse" | "ws" => {
            let found =
                Diagnostic::error(span(value), format!("the protocol {} is not supported yet", quoted(protocol)));
            report.push(found.label("use \"http\""));
        }
        _ => {
            document::word(value, &PROTOCOLS, report);
        }
    }
    None
}

fn read_listen(
    value: &Value<'_>,
    taken: &mut HashMap<Listen, Option<Span>>,
    around: &Surroundings<'_>,
    report: &mut Report,
) -> Option<Listen> {
    let listen = document::address(value, report)?.within(around.directory);
    if !listen.is_any_port()
        && let Some(first) = taken.insert(listen.clone(), span(value))
    {
        let found = Diagnostic::error(span(value), "two listeners have the same address");
        report.push(found.label("again here").also(first, "first here"));
    }
    Some(listen)
}

fn read_target(
    item: &Value<'_>,
    draft: &Draft<'_>,
    around: &Surroundings<'_>,
    registry: &mut Registry<'_>,
    report: &mut Report,
) -> Option<Target> {
    match (draft.component, draft.routes) {
        (Some(component), None) => {
            let name = document::string(component, report)?;
            if let Some((name, _)) = name.split_once('#') {
                let found = Diagnostic::error(span(component), "a listener's component has no action");
                report.push(found.label(format!("write {}, or use [serve.routes]", quoted(name))));
                return None;
            }
            Some(Target::Component(registry.reference(name, span(component), report)?))
        }
        (None, Some((key, routes))) => read_routes(key, routes, around, registry, report).map(Target::Routes),
        (Some(component), Some((routes, _))) => {
            let found = Diagnostic::error(span(component), "the listener has both a component and routes");
            report.push(found.label("remove this").also(span(routes), "or these"));
            None
        }
        (None, None) => {
            let found = Diagnostic::error(span(item), "the listener has nothing to serve").absence();
            report.push(found.hint("give it `component = \"…\"`, or a table [serve.routes]"));
            None
        }
    }
}

fn read_routes<'d>(
    key: &Key<'_>,
    value: &'d Value<'d>,
    around: &Surroundings<'_>,
    registry: &mut Registry<'_>,
    report: &mut Report,
) -> Option<Routes> {
    let entries = document::entries(document::table(value, report)?);
    if entries.is_empty() {
        let found = Diagnostic::error(span(key), "the listener has no routes").absence();
        report.push(found.hint("for example \"GET /users/:id\" = \"api#show\""));
        return None;
    }
    let mut list = Vec::with_capacity(entries.len());
    let mut keys = Vec::with_capacity(entries.len());
    let mut good = true;
    for (key, value) in entries {
        // Both sides are read before either is given up, so that the mistakes of both are told.
        let path = read_route_key(key, report);
        let mut target = read_route_target(value, around, registry, report);
        if let (Some((method, pattern)), Some(directory)) =
            (&path, target.as_mut().and_then(RouteTarget::directory_mut))
        {
            match directory::skipped_segments(method.as_deref(), pattern, span(key), report) {
                Some(skipped) => directory.skipped = skipped,
                None => good = false,
            }
        }
        match (path, target) {
            (Some((method, pattern)), Some(target)) => {
                list.push(RouteSpec { method, pattern, target, span: span(value) });
                keys.push(span(key));
            }
            (None, _) | (_, None) => good = false,
        }
    }
    match Router::new(list.iter().map(|route| (route.method.as_deref(), route.pattern.as_str()))) {
        Ok(mut router) => {
            // `/assets` and `/assets/` are the directory's own page; what `*` matches is never empty.
            for (index, route) in (0..).map(RouteIndex).zip(&list) {
                if let RouteTarget::Directory(_) = route.target {
                    router.extend_to_prefix(index, &route.pattern);
                }
            }
            good.then_some(Routes { router, list })
        }
        Err(errors) => {
            for error in errors {
                let place = keys.get(error.route.index()).copied().flatten();
                report.push(route_error(place, &error.cause, &keys));
            }
            None
        }
    }
}

fn route_error(place: Option<Span>, cause: &RouteErrorCause, keys: &[Option<Span>]) -> Diagnostic {
    let found = Diagnostic::error(place, cause.to_string());
    match cause {
        RouteErrorCause::Conflict { with } => {
            let first = keys.get(with.index()).copied().flatten();
            found.label("this one").also(first, "the earlier one")
        }
        RouteErrorCause::Pattern(error) => match error.hint() {
            Some(hint) => found.hint(hint),
            None => found,
        },
        RouteErrorCause::TooMany => found,
    }
}

/// `GET /users/:id`, or `/users/:id` for any method. Methods are written in any case and meant in capitals.
fn read_route_key(key: &Key<'_>, report: &mut Report) -> Option<(Option<String>, String)> {
    let text = key.get_ref().trim();
    let (method, pattern) = match text.split_once(char::is_whitespace) {
        Some((method, pattern)) => (Some(method), pattern.trim_start()),
        None if text.starts_with('/') => (None, text),
        None => {
            let found = Diagnostic::error(span(key), format!("{} is not a route", quoted(text)));
            report.push(
                found.hint("write a method and a path, as in \"GET /users/:id\", or a path alone for any method"),
            );
            return None;
        }
    };
    if let Some(method) = method.filter(|method| !is_token(method) || method.len() > METHOD_BYTES_MAX) {
        report.push(Diagnostic::error(span(key), format!("{} is not a method", quoted(method))));
        return None;
    }
    Some((method.map(str::to_ascii_uppercase), pattern.to_owned()))
}

/// `api#show`, or `api` for a component that dispatches itself, or `dir:public` for the files of a directory.
fn read_route_target(
    value: &Value<'_>,
    around: &Surroundings<'_>,
    registry: &mut Registry<'_>,
    report: &mut Report,
) -> Option<RouteTarget> {
    let text = document::string(value, report)?;
    if let Some(name) = text.strip_prefix(directory::PREFIX) {
        return directory::read(name, value, around, report).map(RouteTarget::Directory);
    }
    let (name, action) = match text.split_once('#') {
        Some((name, action)) => (name, Some(action)),
        None => (text, None),
    };
    if let Some(action) = action.filter(|action| !is_action(action)) {
        let found = Diagnostic::error(span(value), format!("{} is not the name of an action", quoted(action)));
        report.push(found.hint("a target is `component#action`, the action being a function of the component"));
        return None;
    }
    let component = registry.reference(name, span(value), report)?;
    Some(RouteTarget::Component { component, action: action.map(str::to_owned) })
}

fn is_action(action: &str) -> bool {
    !action.is_empty()
        && action.len() <= rusmd_proto::limits::ACTION_BYTES_MAX
        && action.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))
}

/// RFC 9110, section 5.6.2.
pub(super) fn is_token(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(legal)
}
