#[rusm_rs::handlers]
pub mod users {
    pub fn show() -> &'static str {
        "user"
    }
}

#[rusm_rs::handlers]
pub mod orders {
    pub fn show() -> &'static str {
        "order"
    }
}

fn main() {}
