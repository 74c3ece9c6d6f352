//! The smallest `wasi:http` 0.2 component, for the benchmark: it answers `hello world` to everything.

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

struct Hello;

wasip2::http::proxy::export!(Hello);

impl Guest for Hello {
    fn handle(_request: IncomingRequest, responder: ResponseOutparam) {
        let headers = Fields::from_list(&[("content-type".to_owned(), b"text/plain".to_vec())]).unwrap();
        let response = OutgoingResponse::new(headers);
        let body = response.body().unwrap();
        ResponseOutparam::set(responder, Ok(response));
        body.write().unwrap().blocking_write_and_flush(b"hello world\n").unwrap();
        OutgoingBody::finish(body, None).unwrap();
    }
}
