//! What the supervisor does for one request, in the stages that are measured: all of it but the system calls.
//!
//! Shared by `supervisor`, which takes the time, and `instructions`, which counts what a check compares.

use std::hint::black_box;
use std::rc::Rc;
use std::time::Instant;

use rusmd::http::{self, Connection, Context, Event, Ids, Limits, Timeouts, target};
use rusmd::router::{Params, Resolution, Router};
use rusmd_proto::{Frame, FrameBuffer, RequestHead, RequestId, ResponseHead, Scheme, ToSupervisor, ToWorker};

/// A request as browsers send it.
const REQUEST: &[u8] = b"GET /users/42/posts?page=2&order=newest HTTP/1.1\r\n\
    Host: www.example.com\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    Accept-Language: en-GB,en;q=0.7,de;q=0.3\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Referer: https://www.example.com/users/42\r\n\
    Connection: keep-alive\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef\r\n\r\n";

const ROUTES: [(Option<&str>, &str); 8] = [
    (Some("GET"), "/"),
    (Some("GET"), "/users"),
    (Some("POST"), "/users"),
    (Some("GET"), "/users/:id"),
    (Some("PUT"), "/users/:id"),
    (Some("GET"), "/users/:id/posts"),
    (Some("GET"), "/users/:id/posts/:post"),
    (None, "/assets/*"),
];

const ID: RequestId = RequestId(7);

/// One of the stages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// A request's bytes to its method, target and fields, and an answer of the server's own, which makes the connection ready for the next.
    Exchange,
    /// A path to its route and its parameters.
    Route,
    /// A request to the frame that a worker gets.
    Encode,
    /// A worker's frames to a response.
    Decode,
    /// All of it: bytes of a request, route, frame; frames of a response, bytes for the client.
    Path,
}

impl Stage {
    pub const ALL: [Stage; 5] = [Stage::Exchange, Stage::Route, Stage::Encode, Stage::Decode, Stage::Path];

    pub const fn name(self) -> &'static str {
        match self {
            Stage::Exchange => "exchange",
            Stage::Route => "route",
            Stage::Encode => "encode",
            Stage::Decode => "decode",
            Stage::Path => "path",
        }
    }
}

/// A client's connection, the routes, and what a worker has sent.
pub struct Bench {
    connection: Connection,
    router: Router,
    ids: Ids,
    frames: Vec<u8>,
    reply: Vec<u8>,
    inbox: FrameBuffer,
    now: Instant,
}

impl Bench {
    #[allow(clippy::disallowed_methods, reason = "an arbitrary origin; no time passes")]
    pub fn new() -> Bench {
        let now = Instant::now();
        let context = Rc::new(Context::new(Limits::default(), Timeouts::default()));
        let head = ResponseHead {
            status: 200,
            body_bytes: Some(14),
            headers: vec![("content-type", b"text/plain; charset=utf-8"), ("cache-control", b"no-store")],
        };
        let mut reply = Vec::new();
        for message in [
            ToSupervisor::ResponseHead { id: ID, head, end: false },
            ToSupervisor::ResponseBody { id: ID, bytes: b"Hello, world!\n", end: true },
            ToSupervisor::Done { id: ID },
        ] {
            message.encode(&mut reply).expect("it is within the limits of the wire");
        }
        Bench {
            connection: Connection::new(context, http::Scheme::Http, now),
            router: Router::new(ROUTES).expect("they do not contradict each other"),
            ids: Ids::default(),
            frames: Vec::new(),
            reply,
            inbox: FrameBuffer::default(),
            now,
        }
    }

    pub fn run(&mut self, stage: Stage) {
        match stage {
            Stage::Exchange => self.exchange(),
            Stage::Route => {
                let mut params = Params::new();
                black_box(route(&self.router, "GET", black_box("/users/42/posts"), &mut params));
            }
            Stage::Encode => {
                self.frames.clear();
                encode(black_box(&head()), &mut self.frames);
            }
            Stage::Decode => decode(&mut self.inbox, &self.reply, |message| {
                black_box(message);
            }),
            Stage::Path => self.path(),
        }
    }

    fn exchange(&mut self) {
        let Bench { connection, now, .. } = self;
        connection.handle_input(black_box(REQUEST), *now);
        match connection.poll_event(*now) {
            Some(Event::Request(head)) => drop(black_box(head.headers.iter().count())),
            other => panic!("{other:?}"),
        }
        connection.respond_error(404, "no route has this path", "0000000000000007", &[], *now);
        flush(connection, *now);
    }

    fn path(&mut self) {
        let Bench { connection, router, ids, frames, reply, inbox, now } = self;
        connection.handle_input(black_box(REQUEST), *now);
        let Some(Event::Request(head)) = connection.poll_event(*now) else { panic!("a request") };
        let mut params = Params::new();
        let path = target::normalise(head.path).expect("it is well-formed");
        let found = route(router, head.method, &path, &mut params);
        assert_eq!(found, 5);
        let name = ids.of(ID.0);
        let passes = |field: &str| !http::is_of_proxies(field) && !http::is_request_id(field);
        let mut fields: Vec<http::Header<'_>> = head.headers.iter().filter(|(field, _)| passes(field)).collect();
        fields.push((http::REQUEST_ID_FIELD, name.as_str().as_bytes()));
        frames.clear();
        let wire = RequestHead {
            component: 0,
            action: Some("posts"),
            method: head.method,
            scheme: Scheme::Http,
            authority: head.authority,
            path: &path,
            query: head.query,
            peer: None,
            body_bytes: Some(0),
            params: params.iter().collect(),
            headers: fields,
        };
        encode(&wire, frames);
        black_box(&frames);
        let now = *now;
        decode(inbox, reply, |message| match message {
            ToSupervisor::ResponseHead { head, .. } => {
                let (status, headers, body_length) = (head.status, &*head.headers, head.body_bytes);
                let head = http::ResponseHead { status, headers, request_id: name.as_str(), body_length };
                connection.respond_head(&head, now).expect("a valid response");
            }
            ToSupervisor::ResponseBody { bytes, .. } => {
                connection.respond_body(bytes, now).expect("as long as it was said to be");
                connection.respond_end(&[], now).expect("it is whole");
            }
            other => assert_eq!(other, ToSupervisor::Done { id: ID }),
        });
        flush(connection, now);
    }
}

fn route<'a>(router: &'a Router, method: &str, path: &'a str, params: &mut Params<'a>) -> usize {
    match router.resolve(method, &path.into(), params) {
        Resolution::Found(route) => route.index(),
        other => panic!("{other:?}"),
    }
}

fn head() -> RequestHead<'static> {
    RequestHead {
        component: 0,
        action: Some("posts"),
        method: "GET",
        scheme: Scheme::Http,
        authority: "www.example.com",
        path: "/users/42/posts",
        query: Some("page=2&order=newest"),
        peer: None,
        body_bytes: Some(0),
        params: vec![("id", "42")],
        headers: vec![("accept", b"*/*"), ("cookie", b"session=0123456789abcdef0123456789abcdef")],
    }
}

fn encode(head: &RequestHead<'_>, out: &mut Vec<u8>) {
    ToWorker::Request { id: ID, head: head.clone(), end: true }.encode(out).expect("it is within the limits");
}

fn decode(inbox: &mut FrameBuffer, bytes: &[u8], mut take: impl FnMut(ToSupervisor<'_>)) {
    inbox.extend(black_box(bytes));
    while let Ok(Some(frame)) = inbox.peek() {
        let Frame { header, .. } = frame;
        take(ToSupervisor::decode(&frame).expect("it was encoded here"));
        inbox.consume(header);
    }
}

/// The client reads everything.
fn flush(connection: &mut Connection, now: Instant) {
    let count = black_box(connection.output()).len();
    connection.consume_output(count, now);
    assert!(connection.is_idle(), "the next request can come");
}
