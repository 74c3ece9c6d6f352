//! A component of actions that traps when it is asked for them, and so can never be loaded.

use rusm_rs::__private::bindings;
use rusm_rs::__private::bindings::exports::rusm::http::handler::{Guest, Param, Request, Response};

struct Component;

bindings::__export_handlers!(Component with_types_in bindings);

impl Guest for Component {
    fn actions() -> Vec<String> {
        panic!("a deliberate panic while loading")
    }

    fn handle(_action: String, _params: Vec<Param>, _request: Request) -> Response {
        unreachable!("the component cannot be loaded")
    }
}
