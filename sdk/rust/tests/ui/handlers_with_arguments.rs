#[rusm_rs::handlers("/users")]
pub mod api {
    pub fn show() -> &'static str {
        "routed"
    }
}

fn main() {}
