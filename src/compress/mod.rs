//! Compression of responses while they pass (RFC 9110, section 8.4): what a client accepts, what is worth it, and the encoding itself.
//!
//! Owns the decision and the encoders. Knows nothing of connections, workers or time; the reactor lends it each response's head and body.
//! It is off unless a `[[serve]]` names codings: it is work for the one thread that all clients share, and a secret beside something that
//! a stranger chooses can be guessed from the length of both together (the BREACH attack).

mod accept;
mod encoder;
mod head;
#[cfg(test)]
mod tests;

pub use encoder::{Encoder, Room};
pub use head::{Contradiction, Plan, promised, rewritten, weakened};

/// A content coding (RFC 9110, section 8.4.1; RFC 7932; RFC 8878).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Coding {
    Zstd,
    Brotli,
    Gzip,
}

impl Coding {
    pub const ALL: [Coding; 3] = [Coding::Zstd, Coding::Brotli, Coding::Gzip];

    /// Its registered name.
    pub const fn name(self) -> &'static str {
        match self {
            Coding::Zstd => "zstd",
            Coding::Brotli => "br",
            Coding::Gzip => "gzip",
        }
    }
}

/// What a listener compresses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    /// In the order of preference, where the client has none. None are offered when it is empty.
    pub codings: Vec<Coding>,
    /// A body that is known to be shorter is sent as it is.
    pub min_bytes: u64,
    /// Media types, in lowercase: `type/subtype`, or `type/*`.
    pub types: Vec<String>,
}

/// Media types that are text, or shrink as text does. `text/event-stream` is not one of them: its events are small and must not wait.
const TYPES: [&str; 18] = [
    "application/atom+xml",
    "application/javascript",
    "application/json",
    "application/ld+json",
    "application/manifest+json",
    "application/problem+json",
    "application/rss+xml",
    "application/wasm",
    "application/xhtml+xml",
    "application/xml",
    "image/svg+xml",
    "text/css",
    "text/csv",
    "text/html",
    "text/javascript",
    "text/markdown",
    "text/plain",
    "text/xml",
];

/// Below that the few bytes that are saved fit into the same packet anyway.
const MIN_BYTES: u64 = 1024;

impl Default for Policy {
    fn default() -> Policy {
        Policy { codings: Vec::new(), min_bytes: MIN_BYTES, types: TYPES.map(str::to_owned).to_vec() }
    }
}

impl Policy {
    /// Whether anything is ever compressed.
    pub fn is_on(&self) -> bool {
        !self.codings.is_empty()
    }

    /// Whether bodies of this `content-type` are worth it. Its parameters do not count.
    fn covers(&self, content_type: &[u8]) -> bool {
        let essence = content_type.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
        self.types.iter().any(|wanted| match wanted.strip_suffix("/*") {
            Some(family) => {
                essence.len() > family.len()
                    && essence[family.len()] == b'/'
                    && essence[..family.len()].eq_ignore_ascii_case(family.as_bytes())
            }
            None => essence.eq_ignore_ascii_case(wanted.as_bytes()),
        })
    }
}
