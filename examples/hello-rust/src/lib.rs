//! A small application for rusmd: an action for each route.
//!
//! Owns what its answers say, and nothing that outlives a request. `../rusm.toml` names the actions.

use rusm_rs::http::{Error, Html, IntoResponse, Json, Params, Request, Response, Result};

/// What `POST /users` is sent, and what it answers with.
#[rusm_rs::json]
pub struct User {
    #[serde(default)]
    id: u64,
    name: String,
}

#[rusm_rs::handlers]
pub mod api {
    use super::*;

    // routed from `[serve.routes]`:  "GET /users/:id" = "api#show"
    pub fn show(_req: Request, p: Params) -> Response {
        Response::text(format!("user {}", p.get("id").unwrap_or("?")))
    }

    /// "GET /" = "api#index"
    pub fn index() -> impl IntoResponse {
        Html("<!doctype html><title>rusmd</title><h1>It works</h1><p>Try <a href=/users/42>/users/42</a>.</p>")
    }

    /// "POST /users" = "api#create"
    ///
    /// A body that is not the JSON of a user is answered with 400 by the `?`, with the reason in it.
    pub fn create(req: Request) -> Result {
        let mut user: User = req.json()?;
        if user.name.is_empty() {
            return Err(Error::new(422, "a user has a name\n"));
        }
        user.id = 43;
        rusm_rs::log::info!("created user {} for {:?}", user.id, req.peer());
        Ok(Response::json(&user).with_status(201).header("location", format!("/users/{}", user.id)))
    }

    /// "GET /search" = "api#search"
    pub fn search(req: Request) -> Json<Vec<String>> {
        let wanted = req.query("q").unwrap_or_default();
        let names = ["ada", "grace", "margaret", "radia"];
        Json(names.into_iter().filter(|name| name.contains(wanted)).map(str::to_owned).collect())
    }

    /// "POST /echo" = "api#echo"
    pub fn echo(req: Request) -> Response {
        let media_type = req.header("content-type").unwrap_or("application/octet-stream").to_owned();
        Response::bytes(req.into_body()).header("content-type", media_type)
    }

    /// "GET /square/:number" = "api#square"
    ///
    /// A parameter that is not a number is answered with 404 by the `?`.
    pub fn square(p: Params) -> Result<String> {
        let number: i64 = p.parse("number")?;
        Ok(format!("{}\n", square_of(number).ok_or_else(|| Error::new(400, "too large\n"))?))
    }

    /// "GET /old" = "api#old"
    pub fn old() -> Response {
        Response::redirect("/").with_status(308)
    }

    /// "GET /teapot" = "api#teapot"
    pub fn teapot() -> (u16, &'static str) {
        (418, "short and stout\n")
    }

    /// "GET /panic" = "api#panic"
    ///
    /// The client gets 502, and the log this message with its place. The next request knows nothing of it.
    pub fn panic() -> Response {
        panic!("this action always panics")
    }

    // Not `pub`: a helper, which no route can name.
    fn square_of(number: i64) -> Option<i64> {
        number.checked_mul(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_shown_by_its_id() {
        let response = api::show(Request::builder("GET", "/users/42").build(), Params::from([("id", "42")]));
        assert_eq!((response.status().as_u16(), response.body()), (200, b"user 42".as_slice()));
    }

    #[test]
    fn a_user_is_created_from_json() {
        let request = Request::builder("POST", "/users").body(r#"{"name": "ada"}"#).build();
        let response = api::create(request).into_response();
        assert_eq!((response.status().as_u16(), response.body()), (201, br#"{"id":43,"name":"ada"}"#.as_slice()));
    }

    #[test]
    fn a_user_without_a_name_is_refused() {
        let refused = |body: &str| api::create(Request::builder("POST", "/users").body(body).build()).into_response();
        assert_eq!(refused(r#"{"name": ""}"#).status(), 422);
        assert_eq!(refused(r#"{"nam": "ada"}"#).status(), 400);
    }
}
