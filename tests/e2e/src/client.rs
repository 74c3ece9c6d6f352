//! An HTTP/1.1 client of raw bytes: what a test sends is what goes out, and what comes back is taken apart strictly.
//!
//! Owns one TCP connection and its read deadline. Knows nothing of rusmd; the tests drive it. It is strict on purpose: a
//! response that a strict client would refuse must fail a test here.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use socket2::{Domain, Socket, Type};

use crate::wait::{Deadline, SOON};
use crate::wire::Wire;

/// Bytes asked of the socket at a time.
const READ_BYTES: usize = 64 * 1024;

/// One connection.
#[derive(Debug)]
pub struct Client {
    stream: Wire,
    buffer: Vec<u8>,
}

/// A response's status line and field lines.
#[derive(Clone, Debug, Default)]
pub struct Head {
    pub version: String,
    pub status: u16,
    pub headers: Vec<(String, String)>,
}

/// A whole response.
#[derive(Clone, Debug, Default)]
pub struct Response {
    pub head: Head,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
}

/// Why there is no whole response.
#[derive(Debug)]
pub enum ClientError {
    /// The server ended the connection before the response was whole. What had come is kept, undecoded.
    Cut { received: Vec<u8> },
    /// The server reset the connection.
    Reset,
    /// The server has ended TCP, and TLS not: nobody can tell whether there was more (RFC 8446, section 6.1).
    Truncated { received: Vec<u8> },
    /// TLS failed; what the server has said of it is in the text.
    Tls(String),
    /// Nothing came for [`SOON`].
    TimedOut { received: Vec<u8> },
    /// What came is not HTTP/1.1.
    Malformed(String),
}

/// How a body ends (RFC 9112, section 6.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    None,
    Length(u64),
    Chunked,
    UntilClose,
}

impl Client {
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect_timeout(&address, SOON).expect("the listener accepts");
        stream.set_nodelay(true).expect("a TCP socket has this option");
        stream.set_write_timeout(Some(SOON)).expect("a positive timeout is accepted");
        Client::over(Wire::Tcp(stream))
    }

    /// With room for so many bytes that have not been read, more or less.
    #[track_caller]
    pub fn connect_with_room(address: SocketAddr, bytes: usize) -> Client {
        let socket =
            Socket::new(Domain::for_address(address), Type::STREAM, None).expect("descriptors are not exhausted");
        // Before the connection is there, for that is when its window is agreed on.
        socket.set_recv_buffer_size(bytes).expect("a TCP socket has this option");
        socket.connect(&address.into()).expect("the listener accepts");
        Client::over(Wire::Tcp(socket.into()))
    }

    /// Through a Unix socket.
    #[track_caller]
    pub fn connect_unix(path: &Path) -> Client {
        let stream = UnixStream::connect(path).expect("the listener accepts");
        stream.set_write_timeout(Some(SOON)).expect("a positive timeout is accepted");
        Client::over(Wire::Unix(stream))
    }

    /// In TLS, for a server of this name. The handshake takes place with the first byte that is sent or awaited.
    #[track_caller]
    pub fn connect_tls(address: SocketAddr, config: Arc<ClientConfig>, name: &str) -> Client {
        Client::connect(address).secure(config, name)
    }

    /// Begins TLS on this connection.
    #[track_caller]
    pub fn secure(self, config: Arc<ClientConfig>, name: &str) -> Client {
        let Wire::Tcp(stream) = self.stream else { panic!("TLS is over TCP here") };
        let name = ServerName::try_from(name.to_owned()).expect("a legal name");
        let session = ClientConnection::new(config, name).expect("a session can begin");
        Client::over(Wire::Tls(Box::new(StreamOwned::new(session, stream))))
    }

    fn over(stream: Wire) -> Client {
        Client { stream, buffer: Vec::new() }
    }

    /// The TLS session of this connection.
    #[track_caller]
    pub fn session(&self) -> &ClientConnection {
        let Wire::Tls(stream) = &self.stream else { panic!("this connection is plain") };
        &stream.conn
    }

    /// Cuts the connection below TLS off: no farewell is said.
    pub fn cut(&mut self) {
        let _ = self.stream.tcp().shutdown(Shutdown::Both);
    }

    /// Sends exactly these bytes.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the server takes what is sent");
    }

    /// Sends these bytes as far as the server takes them: it may have answered and closed already.
    pub fn send_if_open(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
    }

    /// Sends `GET path`, with nothing but a host.
    #[track_caller]
    pub fn get(&mut self, path: &str) {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    }

    /// Sends a request with a body of a declared length.
    #[track_caller]
    pub fn post(&mut self, path: &str, body: &[u8]) {
        self.send(format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len()));
        self.send(body);
    }

    /// Says that nothing more will be sent, while still reading.
    pub fn half_close(&mut self) {
        let _ = self.stream.shutdown_write();
    }

    /// A second handle on the connection, for sending from another thread.
    pub fn sender(&self) -> TcpStream {
        self.stream.tcp().try_clone().expect("descriptors are not exhausted")
    }

    /// The next response, whole.
    pub fn try_response(&mut self) -> Result<Response, ClientError> {
        self.try_response_to("GET")
    }

    /// The next response, whole, to a request with `method`: a HEAD gets no body.
    pub fn try_response_to(&mut self, method: &str) -> Result<Response, ClientError> {
        let head = self.try_head()?;
        let mut body = Vec::new();
        let trailers = self.try_body(&head, method, |bytes| body.extend_from_slice(bytes))?;
        Ok(Response { head, body, trailers })
    }

    #[track_caller]
    pub fn response(&mut self) -> Response {
        self.response_to("GET")
    }

    #[track_caller]
    pub fn response_to(&mut self, method: &str) -> Response {
        match self.try_response_to(method) {
            Ok(response) => response,
            Err(error) => panic!("no whole response: {error}"),
        }
    }

    /// The next response's head; its body is still to be read.
    pub fn try_head(&mut self) -> Result<Head, ClientError> {
        let end = self.fill_until(|buffer| find(buffer, b"\r\n\r\n"))?;
        let head = parse_head(&self.buffer[..end])?;
        self.buffer.drain(..end + 4);
        Ok(head)
    }

    /// Reads the body that follows `head`, handing on its bytes as they come, and returns the trailers.
    pub fn try_body(
        &mut self,
        head: &Head,
        method: &str,
        mut each: impl FnMut(&[u8]),
    ) -> Result<Vec<(String, String)>, ClientError> {
        match head.framing(method)? {
            Framing::None => Ok(Vec::new()),
            Framing::Length(length) => self.pass(length, &mut each).map(|()| Vec::new()),
            Framing::Chunked => self.chunked(&mut each),
            Framing::UntilClose => loop {
                each(&self.buffer);
                self.buffer.clear();
                if self.fill()? == 0 {
                    return Ok(Vec::new());
                }
            },
        }
    }

    /// Reads until at least `count` bytes of anything have come, and keeps them for the next reader.
    pub fn wait_for_bytes(&mut self, count: usize) -> Result<(), ClientError> {
        self.fill_until(|buffer| (buffer.len() >= count).then_some(0)).map(|_| ())
    }

    /// Takes at most `count` bytes of anything, in one read, and tells how many there were.
    pub fn sip(&mut self, count: usize) -> Result<usize, ClientError> {
        if self.buffer.is_empty() && self.fill_with(count)? == 0 {
            return Err(ClientError::Cut { received: Vec::new() });
        }
        Ok(self.buffer.drain(..count.min(self.buffer.len())).count())
    }

    /// Whether nothing has come so far: neither a byte nor the end.
    pub fn is_silent(&self) -> bool {
        let _ = self.stream.set_nonblocking(true);
        let silent = self.buffer.is_empty() && self.stream.tcp().peek(&mut [0]).is_err();
        let _ = self.stream.set_nonblocking(false);
        silent
    }

    /// Everything until the server closes, undecoded.
    pub fn rest(&mut self) -> Result<Vec<u8>, ClientError> {
        while self.fill()? > 0 {}
        Ok(std::mem::take(&mut self.buffer))
    }

    /// Fails unless the server closes the connection without sending anything more.
    #[track_caller]
    pub fn expect_close(&mut self) {
        match self.rest() {
            Ok(rest) => assert!(rest.is_empty(), "before the close came {:?}", String::from_utf8_lossy(&rest)),
            Err(ClientError::Reset) => {}
            Err(error) => panic!("the connection stays open: {error}"),
        }
    }

    fn chunked(&mut self, each: &mut impl FnMut(&[u8])) -> Result<Vec<(String, String)>, ClientError> {
        loop {
            let end = self.fill_until(|buffer| find(buffer, b"\r\n"))?;
            let line = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
            let size =
                u64::from_str_radix(&line, 16).map_err(|_| ClientError::Malformed(format!("chunk size {line:?}")))?;
            self.buffer.drain(..end + 2);
            if size == 0 {
                return self.trailers();
            }
            self.pass(size, each)?;
            self.fill_until(|buffer| (buffer.len() >= 2).then_some(0))?;
            if self.buffer.drain(..2).as_slice() != b"\r\n" {
                return Err(ClientError::Malformed("a chunk is not followed by a line end".to_owned()));
            }
        }
    }

    fn trailers(&mut self) -> Result<Vec<(String, String)>, ClientError> {
        let mut trailers = Vec::new();
        loop {
            let end = self.fill_until(|buffer| find(buffer, b"\r\n"))?;
            let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
            if end == 0 {
                return Ok(trailers);
            }
            trailers.push(parse_field(&line[..end])?);
        }
    }

    fn pass(&mut self, mut left: u64, each: &mut impl FnMut(&[u8])) -> Result<(), ClientError> {
        while left > 0 {
            if self.buffer.is_empty() && self.fill()? == 0 {
                return Err(ClientError::Cut { received: Vec::new() });
            }
            let take = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            each(&self.buffer[..take]);
            self.buffer.drain(..take);
            left -= take as u64;
        }
        Ok(())
    }

    fn fill_until(&mut self, find: impl Fn(&[u8]) -> Option<usize>) -> Result<usize, ClientError> {
        loop {
            if let Some(at) = find(&self.buffer) {
                return Ok(at);
            }
            if self.fill()? == 0 {
                return Err(ClientError::Cut { received: std::mem::take(&mut self.buffer) });
            }
        }
    }

    /// Reads once; 0 is the end.
    fn fill(&mut self) -> Result<usize, ClientError> {
        self.fill_with(READ_BYTES)
    }

    fn fill_with(&mut self, count: usize) -> Result<usize, ClientError> {
        let deadline = Deadline::after(SOON);
        let start = self.buffer.len();
        self.buffer.resize(start + count, 0);
        let outcome = loop {
            let Some(left) = deadline.left() else { break Err(ErrorKind::TimedOut.into()) };
            let _ = self.stream.set_read_timeout(Some(left));
            match self.stream.read(&mut self.buffer[start..]) {
                Ok(count) => break Ok(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        self.buffer.truncate(start + outcome.as_ref().copied().unwrap_or(0));
        outcome.map_err(|error| match error.kind() {
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => ClientError::Reset,
            ErrorKind::UnexpectedEof => ClientError::Truncated { received: std::mem::take(&mut self.buffer) },
            ErrorKind::InvalidData => ClientError::Tls(error.to_string()),
            _ => ClientError::TimedOut { received: std::mem::take(&mut self.buffer) },
        })
    }
}

impl Head {
    /// The value of the field `name` (lowercase), when there is exactly one.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(field, _)| field == name).map(|(_, value)| value.as_str());
        let value = values.next()?;
        values.next().is_none().then_some(value)
    }

    /// How the body of this response to `method` ends.
    pub fn framing(&self, method: &str) -> Result<Framing, ClientError> {
        let count = |name: &str| self.headers.iter().filter(|(field, _)| field == name).count();
        let (lengths, codings) = (count("content-length"), count("transfer-encoding"));
        if lengths + codings > 1 {
            return Err(ClientError::Malformed(format!("ambiguous framing: {:?}", self.headers)));
        }
        if method == "HEAD" || matches!(self.status, 100..=199 | 204 | 304) {
            return Ok(Framing::None);
        }
        if codings == 1 {
            return match self.header("transfer-encoding") {
                Some("chunked") => Ok(Framing::Chunked),
                other => Err(ClientError::Malformed(format!("transfer coding {other:?}"))),
            };
        }
        match self.header("content-length") {
            Some(length) => length
                .parse()
                .map(Framing::Length)
                .map_err(|_| ClientError::Malformed(format!("content-length {length:?}"))),
            None => Ok(Framing::UntilClose),
        }
    }
}

impl Response {
    pub fn status(&self) -> u16 {
        self.head.status
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// The body as text; bytes that are not UTF-8 are replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Fails unless status and body are these.
    #[track_caller]
    pub fn assert(&self, status: u16, body: &str) {
        assert_eq!((self.status(), self.text().as_str()), (status, body), "headers: {:?}", self.head.headers);
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Cut { received } => write!(f, "cut after {:?}", String::from_utf8_lossy(received)),
            ClientError::Reset => write!(f, "the connection was reset"),
            ClientError::Truncated { received } => {
                write!(f, "TLS was truncated after {:?}", String::from_utf8_lossy(received))
            }
            ClientError::Tls(what) => write!(f, "TLS: {what}"),
            ClientError::TimedOut { received } => {
                write!(f, "nothing came for {SOON:?} after {:?}", String::from_utf8_lossy(received))
            }
            ClientError::Malformed(what) => write!(f, "not HTTP/1.1: {what}"),
        }
    }
}

fn parse_head(bytes: &[u8]) -> Result<Head, ClientError> {
    let malformed = || ClientError::Malformed(format!("head {:?}", String::from_utf8_lossy(bytes)));
    let mut lines = bytes.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let status_line = std::str::from_utf8(lines.next().unwrap_or_default()).map_err(|_| malformed())?;
    let mut parts = status_line.splitn(3, ' ');
    let version = parts.next().filter(|version| version.starts_with("HTTP/1.")).ok_or_else(malformed)?;
    let status = parts.next().filter(|status| status.len() == 3).ok_or_else(malformed)?;
    let status = status.parse().map_err(|_| malformed())?;
    let headers = lines.map(parse_field).collect::<Result<_, _>>()?;
    Ok(Head { version: version.to_owned(), status, headers })
}

fn parse_field(line: &[u8]) -> Result<(String, String), ClientError> {
    let text = String::from_utf8_lossy(line);
    match text.split_once(':') {
        Some((name, value)) if !name.is_empty() && !name.contains(char::is_whitespace) => {
            Ok((name.to_ascii_lowercase(), value.trim().to_owned()))
        }
        _ => Err(ClientError::Malformed(format!("field line {text:?}"))),
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
