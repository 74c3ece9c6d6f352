//! Which certificate a client gets: one with the name that it asks for (RFC 6066, section 3) and a signature that it understands.

use std::sync::Arc;

use rustls::client::verify_server_name;
use rustls::pki_types::ServerName;
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// The certificates of one listener, in the order of the manifest.
#[derive(Debug)]
pub(super) struct Certificates(Vec<Arc<CertifiedKey>>);

impl Certificates {
    pub(super) fn new(keys: Vec<Arc<CertifiedKey>>) -> Certificates {
        Certificates(keys)
    }
}

impl ResolvesServerCert for Certificates {
    /// Of those with the name, else of all, the first that the client can verify: there may be one of each kind of key for one name. A client that
    /// asks for an unknown name gets what one gets that asks for none; it decides itself whether that will do.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let [first, _, ..] = &self.0[..] else { return self.0.first().cloned() };
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let understood = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        let named = || self.0.iter().filter(|key| name.as_ref().is_some_and(|name| has_name(key, name)));
        let chosen = named().find(understood).or_else(|| named().next());
        Some(chosen.or_else(|| self.0.iter().find(understood)).unwrap_or(first).clone())
    }
}

/// By the rules that a client verifies by, wildcards included (RFC 9525, section 6.3).
fn has_name(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let parsed = key.end_entity_cert().and_then(ParsedCertificate::try_from);
    parsed.is_ok_and(|certificate| verify_server_name(&certificate, name).is_ok())
}
