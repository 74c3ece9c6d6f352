use rusm_rs::http::{Params, Request, Response};

#[rusm_rs::handlers]
pub mod api {
    use super::*;
    // routed from `[serve.routes]`:  "GET /users/:id" = "api#show"
    pub fn show(_req: Request, p: Params) -> Response {
        Response::text(format!("user {}", p.get("id").unwrap_or("?")))
    }
}

fn main() {
    let shown = api::show(Request::builder("GET", "/users/1").build(), Params::from([("id", "1")]));
    assert_eq!(shown.body(), b"user 1");
}
