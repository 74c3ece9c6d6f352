use rusm_rs::http::{Request, Response};

#[rusm_rs::handlers]
pub fn show(_req: Request) -> Response {
    Response::text("alone")
}

fn main() {}
