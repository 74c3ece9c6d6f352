//! Responses that a test dictates in the query of its request, so that nothing between the test and the supervisor makes them better.
//!
//! Owns the notation: `status=N`, `length=N` for a body of known length, `field=NAME:VALUE`, `body=TEXT`, `trailer=NAME:VALUE`, in this
//! order and percent-encoded. `main` sends what is read here.

/// A response as it was dictated.
#[derive(Default)]
pub struct Dictation {
    pub status: u16,
    pub body_bytes: Option<u64>,
    pub fields: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, Vec<u8>)>,
}

impl Dictation {
    pub fn read(query: &str) -> Dictation {
        let mut dictation = Dictation { status: 200, ..Dictation::default() };
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            match key {
                "status" => dictation.status = value.parse().expect("a number"),
                "length" => dictation.body_bytes = Some(value.parse().expect("a number")),
                "field" => dictation.fields.push(field(value)),
                "body" => dictation.body = decoded(value),
                "trailer" => dictation.trailers.push(field(value)),
                other => panic!("nobody knows how to write {other}"),
            }
        }
        dictation
    }
}

/// Fields as the wire takes them.
pub fn lent(fields: &[(String, Vec<u8>)]) -> Vec<(&str, &[u8])> {
    fields.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect()
}

fn field(text: &str) -> (String, Vec<u8>) {
    let (name, value) = text.split_once(':').unwrap_or((text, ""));
    (String::from_utf8(decoded(name)).expect("the wire has names of UTF-8"), decoded(value))
}

fn decoded(text: &str) -> Vec<u8> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at(2);
        bytes.push(u8::from_str_radix(digits, 16).expect("two hexadecimal digits"));
        bytes.extend_from_slice(rest.as_bytes());
    }
    bytes
}
