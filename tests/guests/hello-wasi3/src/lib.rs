//! A `wasi:http` 0.3 component: `/echo` hands the request's body on as the response's, `/pump` does so through its own
//! memory, `/panic` panics, and anything else is answered with `hello world`.

use wasip3::http::types::{ErrorCode, Fields, Request, Response, Trailers};
use wasip3::wit_bindgen::{self, FutureReader, StreamReader, StreamResult};
use wasip3::{wit_future, wit_stream};

const PIECE_BYTES: usize = 64 * 1024;

struct Component;

wasip3::http::service::export!(Component);

impl wasip3::exports::http::handler::Guest for Component {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let path = request.get_path_with_query().unwrap_or_default();
        match path.split('?').next().unwrap_or_default() {
            "/echo" => {
                let (body, trailers) = consume(request);
                Ok(Response::new(Fields::new(), Some(body), trailers).0)
            }
            "/pump" => Ok(pump(request)),
            "/panic" => panic!("a deliberate panic"),
            _ => Ok(hello()),
        }
    }
}

fn hello() -> Response {
    let (mut writer, body) = wit_stream::new();
    wit_bindgen::spawn_local(async move {
        writer.write_all(b"hello world\n".to_vec()).await;
    });
    let headers = Fields::from_list(&[("content-type".to_owned(), b"text/plain".to_vec())]).unwrap();
    Response::new(headers, Some(body), no_trailers()).0
}

fn pump(request: Request) -> Response {
    let (mut body, _) = consume(request);
    let (mut writer, out) = wit_stream::new();
    wit_bindgen::spawn_local(async move {
        let mut buffer = Vec::with_capacity(PIECE_BYTES);
        loop {
            let (result, mut piece) = body.read(buffer).await;
            if !piece.is_empty() {
                piece = writer.write_all(piece).await;
            }
            if !matches!(result, StreamResult::Complete(_)) || !piece.is_empty() {
                return;
            }
            buffer = Vec::with_capacity(PIECE_BYTES);
        }
    });
    Response::new(Fields::new(), Some(out), no_trailers()).0
}

type Body = (StreamReader<u8>, FutureReader<Result<Option<Trailers>, ErrorCode>>);

fn consume(request: Request) -> Body {
    let (_, received) = wit_future::new(|| Ok(()));
    Request::consume_body(request, received)
}

fn no_trailers() -> FutureReader<Result<Option<Trailers>, ErrorCode>> {
    wit_future::new(|| Ok(None)).1
}
