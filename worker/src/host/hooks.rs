//! Outgoing HTTP requests of guests: refused, allowed to the hosts that were granted, or allowed.
//!
//! wasmtime-wasi-http asks here before it connects anywhere, for both versions of `wasi:http`.

use std::sync::Arc;

use rusmd_proto::limits::BODY_CHUNK_BYTES_MAX;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

/// Where a component may connect to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reach {
    Nowhere,
    /// Hosts in lowercase, as `name` for the scheme's own port or `name:port`.
    Hosts(Arc<[String]>),
    Anywhere,
}

impl Reach {
    /// Whether a request to `uri` may be sent.
    fn allows(&self, uri: &http::Uri) -> bool {
        match self {
            Reach::Nowhere => false,
            Reach::Anywhere => true,
            Reach::Hosts(hosts) => {
                let Some(authority) = uri.authority() else { return false };
                let own_port = if uri.scheme_str() == Some("https") { 443 } else { 80 };
                let host = authority.host().to_ascii_lowercase();
                let port = authority.port_u16().unwrap_or(own_port);
                // `user@` before the host and a port that is no number never match.
                authority.as_str().len() == host.len() + authority.port().map_or(0, |port| port.as_str().len() + 1)
                    && hosts.iter().any(|allowed| match allowed.rsplit_once(':') {
                        Some((name, number)) if !number.ends_with(']') => name == host && number == port.to_string(),
                        Some(_) | None => *allowed == host && port == own_port,
                    })
            }
        }
    }
}

type Sent = Result<(http::Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>), Error>;

/// The hooks of one instance.
#[derive(Debug)]
pub struct Hooks {
    pub reach: Reach,
}

/// Writes of the guest that may wait to be sent, each of one chunk at most. Standard libraries write 4 KiB at a time.
const WAITING_CHUNKS_MAX: usize = 8;

impl WasiHttpHooks for Hooks {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        if !self.reach.allows(request.uri()) {
            return Box::new(std::future::ready(Err(Error::HttpRequestDenied)));
        }
        Box::new(async move {
            use http_body_util::BodyExt;
            let (response, io) = wasmtime_wasi_http::default_send_request(request, options).await?;
            let io: Box<dyn Future<Output = Result<(), Error>> + Send> = Box::new(io);
            Ok((response.map(BodyExt::boxed_unsync), io))
        })
    }

    fn p2_outgoing_body_buffer_chunks(&mut self) -> usize {
        WAITING_CHUNKS_MAX
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_CHUNK_BYTES_MAX
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_CHUNK_BYTES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_granted_hosts_are_reached() {
        let hosts = Reach::Hosts(["api.example", "db.example:8080", "[::1]:90"].map(str::to_owned).into());
        for (uri, allowed) in [
            ("http://api.example/", true),
            ("https://API.example/x", true),
            ("http://api.example:80/", true),
            ("http://api.example:81/", false),
            ("http://db.example:8080/", true),
            ("http://db.example/", false),
            ("http://[::1]:90/", true),
            ("http://user@api.example/", false),
            ("http://other.api.example/", false),
            ("/relative", false),
        ] {
            let uri: http::Uri = uri.parse().expect("a valid URI");
            assert_eq!(hosts.allows(&uri), allowed, "{uri}");
            assert!(Reach::Anywhere.allows(&uri) && !Reach::Nowhere.allows(&uri));
        }
    }
}
