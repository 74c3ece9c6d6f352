use rusm_rs::http::{IntoResponse, Json, Request};

#[rusm_rs::json]
#[derive(Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
struct User {
    user_id: u64,
    #[serde(default)]
    name: Option<String>,
}

#[rusm_rs::json(Serialize)]
enum Answer<'a> {
    Text(&'a str),
}

fn main() {
    let user: User = Request::builder("POST", "/").body(r#"{"userId": 1}"#).build().json().unwrap();
    assert_eq!(user, User { user_id: 1, name: None });
    assert_eq!(Json(user).into_response().body(), br#"{"userId":1,"name":null}"#);
    assert_eq!(Json(Answer::Text("x")).into_response().body(), br#"{"Text":"x"}"#);
}
