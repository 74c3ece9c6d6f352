#![forbid(unsafe_code)]
#![deny(warnings)]

#[rusm_rs::handlers]
mod everything {
    use rusm_rs::http::*;
    use rusm_rs::serde_json::{Value, json};

    pub type Alias = rusm_rs::http::Request;

    pub fn nothing() {}
    pub fn request_only(_req: Request) -> &'static str {
        "text"
    }
    pub fn params_only(p: Params) -> Result<String> {
        Ok(p.parse::<u8>("id")?.to_string())
    }
    pub fn aliased(_: Alias, _: Params) -> Option<Json<Vec<u8>>> {
        None
    }
    pub fn r#type() -> (u16, Html<String>) {
        (201, Html(helper(1u8).to_owned()))
    }
    pub fn never(_req: Request) -> ! {
        panic!("never")
    }
    pub fn opaque() -> impl IntoResponse {
        StatusCode::NO_CONTENT
    }
    pub fn value() -> Value {
        json!({ "a": [1, 2] })
    }
    pub fn failure(req: Request) -> std::result::Result<Response, (StatusCode, &'static str)> {
        req.text().map(Response::text).map_err(|_| (StatusCode::BAD_REQUEST, "text, please"))
    }
    #[cfg(any())]
    pub fn not_here() -> NoSuchType {}
    #[deprecated]
    pub fn old(#[allow(unused)] mut req: Request) -> Vec<u8> {
        req.body().to_vec()
    }

    fn helper<T: Into<u64>>(_number: T) -> &'static str {
        with_request(None)
    }
    fn with_request(_req: Option<Request>) -> &'static str {
        "helped"
    }
    pub(crate) fn looks_like_an_action_but_is_shared(_req: &Request) -> Response {
        Response::empty(204)
    }
}

fn main() {
    use rusm_rs::__private::bindings::exports::rusm::http::handler::Guest;
    fn actions<T: Guest>(_: T) -> Vec<String> {
        T::actions()
    }
    let _ = everything::looks_like_an_action_but_is_shared;
    let _ = actions::<Probe>;
    struct Probe;
    impl rusm_rs::__private::Handlers for Probe {
        const ACTIONS: &'static [&'static str] = &["probe"];
        fn run(_: &str, _: rusm_rs::__private::Arguments) -> rusm_rs::http::Response {
            rusm_rs::http::Response::empty(204)
        }
    }
    assert_eq!(actions(Probe), ["probe"]);
}
