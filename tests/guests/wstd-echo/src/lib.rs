//! A `wasi:http` component as people write it with `wstd`, async: `/echo` streams the body back, `/hello` says so, `/panic` panics.

use wstd::http::{Body, Error, Request, Response, StatusCode};

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    match request.uri().path() {
        "/echo" => Ok(Response::new(request.into_body())),
        "/hello" => Ok(Response::new("hello world\n".into())),
        "/panic" => panic!("a deliberate panic"),
        _ => Ok(Response::builder().status(StatusCode::NOT_FOUND).body("no such path\n".into())?),
    }
}
