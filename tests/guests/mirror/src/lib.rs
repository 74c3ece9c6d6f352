//! A `wasi:http` 0.2 component that answers with the request as it was given it, whole: what a guest sees is what tests compare.
//!
//! The answer is the line `METHOD path?query`, a line `field NAME: VALUE` for each header field, a line `trailer NAME: VALUE` for each
//! trailer field, an empty line, and the body.

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingBody, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use wasip2::io::streams::StreamError;

/// What one write to an output stream may hold at most.
const WRITE_BYTES: usize = 4096;

struct Mirror;

wasip2::http::proxy::export!(Mirror);

impl Guest for Mirror {
    fn handle(request: IncomingRequest, responder: ResponseOutparam) {
        let incoming = request.consume().unwrap();
        let body = read(&incoming);
        let trailers = IncomingBody::finish(incoming);
        trailers.subscribe().block();
        let trailers = trailers.get().unwrap().unwrap().expect("a whole body has whole trailers");

        let method = name(&request.method());
        let mut text = format!("{method} {}\n", request.path_with_query().unwrap_or_default()).into_bytes();
        list(&mut text, "field", &request.headers());
        if let Some(trailers) = trailers {
            list(&mut text, "trailer", &trailers);
        }
        text.push(b'\n');
        text.extend_from_slice(&body);
        answer(responder, &text);
    }
}

fn read(incoming: &IncomingBody) -> Vec<u8> {
    let input = incoming.stream().unwrap();
    let mut body = Vec::new();
    loop {
        match input.blocking_read(16 * WRITE_BYTES as u64) {
            Ok(piece) => body.extend_from_slice(&piece),
            Err(StreamError::Closed) => return body,
            Err(StreamError::LastOperationFailed(error)) => panic!("the body broke: {}", error.to_debug_string()),
        }
    }
}

fn name(method: &Method) -> String {
    match method {
        Method::Other(name) => name.clone(),
        known => format!("{known:?}").trim_start_matches("Method::").to_ascii_uppercase(),
    }
}

fn list(text: &mut Vec<u8>, kind: &str, fields: &Fields) {
    for (name, value) in fields.entries() {
        text.extend_from_slice(format!("{kind} {name}: ").as_bytes());
        text.extend_from_slice(&value);
        text.push(b'\n');
    }
}

fn answer(responder: ResponseOutparam, text: &[u8]) {
    let length = text.len().to_string().into_bytes();
    let response = OutgoingResponse::new(Fields::from_list(&[("content-length".to_owned(), length)]).unwrap());
    let body = response.body().unwrap();
    ResponseOutparam::set(responder, Ok(response));
    let out = body.write().unwrap();
    for piece in text.chunks(WRITE_BYTES) {
        out.blocking_write_and_flush(piece).unwrap();
    }
    drop(out);
    OutgoingBody::finish(body, None).unwrap();
}
