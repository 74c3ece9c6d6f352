//! The attributes of `rusm-rs`. Use them through that crate.
//!
//! Owns the way from tokens to tokens, and the words for each mistake of an author. It knows no type: what an action may take
//! and return is decided by traits of `rusm-rs`, whose messages are written there. rustc drives it.

mod handlers;
mod json;

use proc_macro::TokenStream;

/// Makes a component of a module: each `pub fn` in it is an action, which a route names behind `#`.
///
/// ```ignore
/// #[rusm_rs::handlers]
/// pub mod api {
///     use super::*;
///     // "GET /users/:id" = "api#show"
///     pub fn show(_req: Request, p: Params) -> Response {
///         Response::text(format!("user {}", p.get("id").unwrap_or("?")))
///     }
/// }
/// ```
///
/// - An action takes `()`, `(Request)`, `(Params)` or `(Request, Params)`, and returns anything that implements
///   `IntoResponse`: a `Response`, text, `Json(value)`, an `Option`, a `Result` of these, and more.
/// - A function that is not `pub` is a helper. So is a `pub(crate)` one.
/// - A component has one such module. Its name does not matter: the manifest names the component.
/// - There is no `async`: an instance handles one request, and nothing else runs in it meanwhile.
#[proc_macro_attribute]
pub fn handlers(arguments: TokenStream, item: TokenStream) -> TokenStream {
    handlers::expand(arguments.into(), item.into()).into()
}

/// Derives what a type needs to be read from and written as JSON: serde's `Serialize` and `Deserialize`.
///
/// `#[json(Serialize)]` or `#[json(Deserialize)]` derives just one of them. serde's own attributes work as usual.
///
/// ```ignore
/// #[rusm_rs::json]
/// struct User {
///     id: u64,
///     #[serde(default)]
///     name: String,
/// }
/// ```
#[proc_macro_attribute]
pub fn json(arguments: TokenStream, item: TokenStream) -> TokenStream {
    json::expand(arguments.into(), item.into()).into()
}
