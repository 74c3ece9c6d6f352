//! The request that an action is given.
//!
//! Owns its parts, and reads the query and the cookies out of them when asked. `guest` makes it of what the server sent, and
//! [`RequestBuilder`] in a test.

use std::cell::OnceCell;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use serde::de::DeserializeOwned;

use crate::http::{BodyError, Error, Headers, encoding};

/// A request. The server has parsed and bounded it, and routed it to the action.
///
/// ```
/// use rusm_rs::http::Request;
///
/// let request = Request::builder("GET", "/search?q=web+assembly&page=2").header("Accept", "text/html").build();
/// assert_eq!(request.method(), "GET");
/// assert_eq!(request.path(), "/search");
/// assert_eq!(request.query("q"), Some("web assembly"));
/// assert_eq!(request.header("accept"), Some("text/html"));
/// ```
#[derive(Clone, Debug)]
pub struct Request {
    parts: RequestParts,
    query: OnceCell<Vec<(String, String)>>,
}

/// What the server says of a request; the WIT of the world describes each.
#[derive(Clone, Debug, Default)]
pub(crate) struct RequestParts {
    pub(crate) id: String,
    pub(crate) method: String,
    pub(crate) scheme: String,
    pub(crate) authority: String,
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    pub(crate) headers: Headers,
    pub(crate) body: Vec<u8>,
    pub(crate) peer: Option<String>,
}

impl Request {
    /// Starts a request for a test: a method, and a path with its query if it has one.
    pub fn builder(method: &str, target: &str) -> RequestBuilder {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (target, None),
        };
        RequestBuilder(RequestParts {
            id: "test".to_owned(),
            method: method.to_owned(),
            scheme: "http".to_owned(),
            authority: "localhost".to_owned(),
            path: path.to_owned(),
            query,
            ..RequestParts::default()
        })
    }

    pub(crate) fn from_parts(parts: RequestParts) -> Request {
        Request { parts, query: OnceCell::new() }
    }

    /// The identifier of this request in the server's logs; its client has it as `X-Request-Id` of the response.
    pub fn id(&self) -> &str {
        &self.parts.id
    }

    /// The method as sent, for example `GET` (RFC 9110, section 9).
    pub fn method(&self) -> &str {
        &self.parts.method
    }

    /// The path, normalised but still percent-encoded. [`Params`](crate::http::Params) has the decoded parts of it that
    /// the route names.
    pub fn path(&self) -> &str {
        &self.parts.path
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &str {
        &self.parts.scheme
    }

    /// The host and the optional port that the client asked for (RFC 3986, section 3.2).
    pub fn authority(&self) -> &str {
        &self.parts.authority
    }

    /// The client's address: that of the connection, or of whoever is behind the proxies that the manifest trusts; then the port may be
    /// unknown, and is 0. None for a client of a Unix socket.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.parts.peer.as_deref()?.parse().ok()
    }

    /// The first value of a name in the query, decoded: `?q=web+assembly` has `web assembly` for `q`.
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query_pairs().find(|(have, _)| *have == name).map(|(_, value)| value)
    }

    /// The first value of a name in the query as a number or anything else that a string can be parsed into; `None` when the
    /// name is not there.
    ///
    /// ```
    /// use rusm_rs::http::{Request, Result};
    ///
    /// fn page(req: &Request) -> Result<u32> {
    ///     Ok(req.parse_query("page")?.unwrap_or(1))
    /// }
    /// assert_eq!(page(&Request::builder("GET", "/?page=3").build()).unwrap(), 3);
    /// assert_eq!(page(&Request::builder("GET", "/").build()).unwrap(), 1);
    /// assert_eq!(page(&Request::builder("GET", "/?page=x").build()).unwrap_err().status(), 400);
    /// ```
    ///
    /// # Errors
    ///
    /// A value that cannot be parsed is answered with 400.
    pub fn parse_query<T: FromStr<Err: fmt::Display>>(&self, name: &str) -> Result<Option<T>, Error> {
        let parse = |value: &str| value.parse().map_err(|error| Error::new(400, format!("{name}: {error}")));
        self.query(name).map(parse).transpose()
    }

    /// All names and values of the query, decoded, in order; names may repeat.
    pub fn query_pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.query
            .get_or_init(|| encoding::pairs(self.raw_query().unwrap_or_default().as_bytes()))
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// What follows the first `?` of the target, as it was sent.
    pub fn raw_query(&self) -> Option<&str> {
        self.parts.query.as_deref()
    }

    /// The first value of a header field, if it is there and is text; the case of the name does not matter.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.parts.headers.get(name)
    }

    /// All header fields.
    pub fn headers(&self) -> &Headers {
        &self.parts.headers
    }

    /// The value of a cookie (RFC 6265, section 4.2).
    ///
    /// ```
    /// use rusm_rs::http::Request;
    ///
    /// let request = Request::builder("GET", "/").header("cookie", "theme=dark; session=abc").build();
    /// assert_eq!(request.cookie("session").as_deref(), Some("abc"));
    /// ```
    pub fn cookie(&self, name: &str) -> Option<String> {
        self.cookies().find(|(have, _)| have == name).map(|(_, value)| value)
    }

    /// The names and values of all cookies, in order.
    pub fn cookies(&self) -> impl Iterator<Item = (String, String)> {
        self.parts.headers.get_all("cookie").flat_map(|line| {
            line.split(';')
                .filter_map(|pair| pair.split_once('='))
                .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
                .collect::<Vec<_>>()
        })
    }

    /// The whole body.
    pub fn body(&self) -> &[u8] {
        &self.parts.body
    }

    /// The whole body, without a copy.
    pub fn into_body(self) -> Vec<u8> {
        self.parts.body
    }

    /// The body as text.
    ///
    /// # Errors
    ///
    /// [`BodyError::NotText`], which becomes a 400, when it is not UTF-8.
    pub fn text(&self) -> Result<&str, BodyError> {
        std::str::from_utf8(self.body()).map_err(BodyError::NotText)
    }

    /// The body as JSON.
    ///
    /// # Errors
    ///
    /// [`BodyError::NotJson`], which becomes a 400, when it is not JSON or not of the shape of `T`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, BodyError> {
        serde_json::from_slice(self.body()).map_err(BodyError::NotJson)
    }

    /// The body as the names and values of an HTML form, decoded, in order.
    ///
    /// ```
    /// use rusm_rs::http::Request;
    ///
    /// let request = Request::builder("POST", "/").body("name=J%C3%BCrgen&age=40").build();
    /// assert_eq!(request.form()[0], ("name".to_string(), "J\u{fc}rgen".to_string()));
    /// ```
    pub fn form(&self) -> Vec<(String, String)> {
        encoding::pairs(self.body())
    }
}

/// Makes a [`Request`] for a test.
#[derive(Clone, Debug)]
pub struct RequestBuilder(RequestParts);

impl RequestBuilder {
    /// Adds a header field.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> RequestBuilder {
        self.0.headers.append(name, value);
        self
    }

    /// Gives it a body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> RequestBuilder {
        self.0.body = body.into();
        self
    }

    /// Gives it a body of JSON, with its media type.
    ///
    /// # Panics
    ///
    /// If the value cannot be written as JSON: a mistake of the test.
    #[must_use]
    pub fn json(self, value: impl serde::Serialize) -> RequestBuilder {
        match serde_json::to_vec(&value) {
            Ok(body) => self.header("content-type", super::body::JSON).body(body),
            Err(error) => panic!("the value cannot be written as JSON: {error}"),
        }
    }

    /// Says which client sent it.
    #[must_use]
    pub fn peer(mut self, peer: SocketAddr) -> RequestBuilder {
        self.0.peer = Some(peer.to_string());
        self
    }

    /// The request.
    pub fn build(self) -> Request {
        Request::from_parts(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_gives_the_first_value_of_a_name_and_all_pairs_in_order() {
        let request = Request::builder("GET", "/?a=1&b=2&a=3").build();
        assert_eq!(request.query("a"), Some("1"));
        assert_eq!(request.query("c"), None);
        assert_eq!(request.query_pairs().collect::<Vec<_>>(), [("a", "1"), ("b", "2"), ("a", "3")]);
    }

    #[test]
    fn a_target_without_a_query_has_no_pairs() {
        let request = Request::builder("GET", "/path").build();
        assert_eq!(request.raw_query(), None);
        assert_eq!(request.query_pairs().count(), 0);
        assert_eq!(Request::builder("GET", "/path?").build().raw_query(), Some(""));
    }

    #[test]
    fn cookies_are_read_from_every_cookie_line() {
        let request =
            Request::builder("GET", "/").header("cookie", "a=1; b=x=y").header("Cookie", " c=3 ;broken; d=").build();
        let cookies: Vec<_> = request.cookies().collect();
        let expected = [("a", "1"), ("b", "x=y"), ("c", "3"), ("d", "")];
        assert_eq!(cookies, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(request.cookie("broken"), None);
    }

    #[test]
    fn a_body_is_bytes_text_or_json() {
        let request = Request::builder("POST", "/").body("[1,2]").build();
        assert_eq!(request.body(), b"[1,2]");
        assert_eq!(request.text().ok(), Some("[1,2]"));
        assert_eq!(request.json::<Vec<u8>>().ok(), Some(vec![1, 2]));
        assert_eq!(request.into_body(), b"[1,2]");
    }

    #[test]
    fn a_body_of_another_kind_is_an_error_that_names_what_was_expected() {
        let request = Request::builder("POST", "/").body([0xff]).build();
        assert!(matches!(request.text(), Err(BodyError::NotText(_))));
        assert!(matches!(request.json::<u8>(), Err(BodyError::NotJson(_))));
    }

    #[test]
    fn a_peer_is_an_address() {
        let peer: SocketAddr = ([127, 0, 0, 1], 4000).into();
        assert_eq!(Request::builder("GET", "/").peer(peer).build().peer(), Some(peer));
        assert_eq!(Request::builder("GET", "/").build().peer(), None);
    }
}
