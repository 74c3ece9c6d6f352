//! The response that an action returns.
//!
//! Owns a status, header fields and a body. It frames nothing: the server writes `content-length` and refuses what must
//! not go out.

use serde::Serialize;

use crate::http::{Body, Headers, StatusCode, body};

/// A response, made by one of the constructors and refined in a chain.
///
/// ```
/// use rusm_rs::http::Response;
///
/// let response = Response::html("<h1>hello</h1>").with_status(201).header("cache-control", "no-store");
/// assert_eq!(response.status(), 201);
/// assert_eq!(response.headers().get("content-type"), Some("text/html; charset=utf-8"));
/// assert_eq!(response.body(), b"<h1>hello</h1>");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a response is sent only if the action returns it"]
pub struct Response {
    status: StatusCode,
    headers: Headers,
    body: Vec<u8>,
}

pub(crate) struct ResponseParts {
    pub(crate) status: u16,
    pub(crate) headers: Headers,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// A response with this status and body: text, bytes, or `()` for none.
    ///
    /// The server answers 502 in the place of a response whose status is not 200 to 599.
    ///
    /// ```
    /// use rusm_rs::http::{Response, StatusCode};
    ///
    /// let response = Response::new(400, "the name is missing");
    /// assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    /// ```
    pub fn new(status: impl Into<StatusCode>, body: impl Into<Body>) -> Response {
        let Body { bytes, media_type } = body.into();
        let mut headers = Headers::default();
        if let Some(media_type) = media_type.filter(|_| !bytes.is_empty()) {
            headers.append("content-type", media_type);
        }
        Response { status: status.into(), headers, body: bytes }
    }

    /// 200 with text.
    pub fn text(text: impl Into<String>) -> Response {
        Response::typed(body::TEXT, text.into().into_bytes())
    }

    /// 200 with HTML. It is sent as it is: escape what a client sent before you put it in.
    pub fn html(html: impl Into<String>) -> Response {
        Response::typed(body::HTML, html.into().into_bytes())
    }

    /// 200 with a value as JSON. A value that cannot be written as JSON (a map whose keys are no strings) gives a 500, with
    /// the reason in the server's log.
    ///
    /// ```
    /// use rusm_rs::http::Response;
    /// use rusm_rs::serde_json::json;
    ///
    /// assert_eq!(Response::json(json!({ "id": 1 })).body(), br#"{"id":1}"#);
    /// ```
    pub fn json(value: impl Serialize) -> Response {
        match serde_json::to_vec(&value) {
            Ok(json) => Response::typed(body::JSON, json),
            Err(error) => {
                log::error!("a response could not be written as JSON: {error}");
                Response::from(StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }

    /// 200 with bytes, `application/octet-stream` unless [`header`](Response::header) says what they are.
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Response {
        Response::typed(body::BYTES, bytes.into())
    }

    /// A response without a body, for example 204.
    pub fn empty(status: impl Into<StatusCode>) -> Response {
        Response::new(status, ())
    }

    /// 302 to another place; [`with_status`](Response::with_status) makes it 301, 303, 307 or 308.
    ///
    /// ```
    /// use rusm_rs::http::Response;
    ///
    /// let response = Response::redirect("/login").with_status(303);
    /// assert_eq!(response.headers().get("location"), Some("/login"));
    /// ```
    pub fn redirect(location: impl AsRef<str>) -> Response {
        Response::empty(StatusCode::FOUND).header("location", location.as_ref())
    }

    /// With this header field in the place of one of the same name; a `set-cookie` is added to those that are there.
    ///
    /// The server answers 502 in the place of a response with a field that HTTP does not allow (a line break, for
    /// example).
    pub fn header(mut self, name: impl AsRef<str>, value: impl Into<Vec<u8>>) -> Response {
        if name.as_ref().eq_ignore_ascii_case("set-cookie") {
            self.headers.append(name, value);
        } else {
            self.headers.set(name, value);
        }
        self
    }

    /// With one more line of a header field that may be repeated.
    pub fn append_header(mut self, name: impl AsRef<str>, value: impl Into<Vec<u8>>) -> Response {
        self.headers.append(name, value);
        self
    }

    /// With another status.
    pub fn with_status(mut self, status: impl Into<StatusCode>) -> Response {
        self.status = status.into();
        self
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The header fields.
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// The header fields, to change them.
    pub fn headers_mut(&mut self) -> &mut Headers {
        &mut self.headers
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    pub(crate) fn into_parts(self) -> ResponseParts {
        ResponseParts { status: self.status.as_u16(), headers: self.headers, body: self.body }
    }

    fn typed(media_type: &'static str, body: Vec<u8>) -> Response {
        let mut headers = Headers::default();
        headers.append("content-type", media_type);
        Response { status: StatusCode::OK, headers, body }
    }
}

/// A bare status. An error says itself in a line of text; anything else has no body.
impl From<StatusCode> for Response {
    fn from(status: StatusCode) -> Response {
        if status.is_client_error() || status.is_server_error() {
            Response::new(status, format!("{status}\n"))
        } else {
            Response::empty(status)
        }
    }
}

/// HTML to return from an action: `Html("<p>hello</p>")`. It is sent as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Html<T>(pub T);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_number_is_a_status() {
        assert_eq!(Response::new(400, "bad").status(), 400);
        assert_eq!(Response::new(StatusCode::GONE, "gone").status(), 410);
    }

    #[test]
    fn text_and_bytes_have_the_media_type_of_their_kind_and_nothing_has_none() {
        let media_type = |response: &Response| response.headers().get("content-type").map(str::to_owned);
        assert_eq!(media_type(&Response::new(200, "x")).as_deref(), Some("text/plain; charset=utf-8"));
        assert_eq!(media_type(&Response::new(200, vec![1u8])).as_deref(), Some("application/octet-stream"));
        assert_eq!(media_type(&Response::new(200, b"x")).as_deref(), Some("application/octet-stream"));
        assert_eq!(media_type(&Response::new(204, "")), None);
        assert_eq!(media_type(&Response::empty(204)), None);
    }

    #[test]
    fn header_replaces_and_a_cookie_is_added() {
        let response = Response::text("x")
            .header("Content-Type", "text/css")
            .header("Set-Cookie", "a=1")
            .header("set-cookie", "b=2")
            .append_header("vary", "accept")
            .append_header("vary", "cookie");
        let lines: Vec<_> = response.headers().iter().collect();
        assert_eq!(
            lines,
            [
                ("content-type", b"text/css".as_slice()),
                ("set-cookie", b"a=1"),
                ("set-cookie", b"b=2"),
                ("vary", b"accept"),
                ("vary", b"cookie"),
            ]
        );
    }

    #[test]
    fn json_that_cannot_be_written_is_a_500_without_detail() {
        let keys_are_no_strings = std::collections::BTreeMap::from([([1, 2], 3)]);
        let response = Response::json(keys_are_no_strings);
        assert_eq!(response.status(), 500);
        assert_eq!(response.body(), b"500 Internal Server Error\n");
    }
}
