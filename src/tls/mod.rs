//! TLS by rustls: certificates and keys from files, and what accepts connections with them.
//!
//! Owns what is told of files that will not do, which certificate a client gets, and how sessions are resumed. Reads files when a manifest is
//! loaded and at no other time; touches no socket: `transport` drives the sessions that are begun here. Cipher suites, key exchange and
//! signatures are rustls's own choice: only such with forward secrecy and authenticated encryption.

mod certificates;
mod files;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::CertificateDer;
use rustls::server::{ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion, version};

use certificates::Certificates;

/// Sessions of TLS 1.2 that are remembered for clients that take no tickets.
const SESSIONS_MAX: usize = 1024;

/// Most bytes of plaintext, and of records, that a session holds for its client.
pub const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// What is spoken inside, in this order (RFC 7301). A client that names protocols and none of these is told so, and turned away. The first is left
/// out where HTTP/2 is not wanted; all cipher suites that there are may be used with it (RFC 9113, section 9.2.2).
const PROTOCOLS: [&[u8]; 3] = [b"h2", b"http/1.1", b"http/1.0"];

/// What a listener is to accept TLS with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spec {
    /// At least one. The first is for clients that ask for no name, or for one that none of them has.
    pub certificates: Vec<CertificateFiles>,
    pub min_version: MinVersion,
    pub client_auth: Option<ClientAuth>,
    pub http2: bool,
}

/// A certificate with those that it is signed by, and its private key, in PEM.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CertificateFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum MinVersion {
    #[default]
    Tls12,
    Tls13,
}

/// What clients show who they are by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientAuth {
    /// The certificates that those of clients have to be signed by.
    pub ca: PathBuf,
    /// A client without one is turned away.
    pub is_required: bool,
}

/// Accepts TLS connections. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Acceptor {
    config: Arc<ServerConfig>,
    /// Whom clients have to be vouched for by: sessions are not resumed across a change of it.
    trust: Arc<Trust>,
}

#[derive(PartialEq, Eq, Debug)]
struct Trust {
    roots: Vec<CertificateDer<'static>>,
    is_required: bool,
    min_version: MinVersion,
}

/// Which file something is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Blame {
    /// The certificate with this number.
    Certificate(usize),
    Key(usize),
    ClientCa,
}

/// Why there is no accepting.
#[derive(Debug)]
pub struct TlsError {
    pub blame: Blame,
    pub cause: TlsErrorCause,
}

#[derive(Debug)]
pub enum TlsErrorCause {
    Unreadable(io::Error),
    TooLarge,
    NotPem(rustls::pki_types::pem::Error),
    NoCertificate,
    NoKey,
    /// As the library says it.
    Unusable(rustls::Error),
    KeyOfAnother,
    NoRoot(String),
}

/// What is worth telling of files that will do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Concern {
    /// Everybody on this machine can read the key with this number.
    OpenKey(usize),
}

impl Acceptor {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with them.
    pub fn load(spec: &Spec) -> Result<(Acceptor, Vec<Concern>), Vec<TlsError>> {
        let provider = Arc::new(ring::default_provider());
        let (mut keys, mut concerns, mut errors) = (Vec::new(), Vec::new(), Vec::new());
        for (number, files) in spec.certificates.iter().enumerate() {
            match files::certified_key(number, files, &provider) {
                Ok((key, is_open)) => {
                    keys.push(Arc::new(key));
                    concerns.extend(is_open.then_some(Concern::OpenKey(number)));
                }
                Err(error) => errors.push(error),
            }
        }
        let roots = spec.client_auth.as_ref().map(|auth| files::certificates(Blame::ClientCa, &auth.ca)).transpose();
        let roots = roots.map_err(|error| errors.push(error)).unwrap_or_default().unwrap_or_default();
        if !errors.is_empty() {
            return Err(errors);
        }
        let trust = Trust {
            roots,
            is_required: spec.client_auth.as_ref().is_some_and(|auth| auth.is_required),
            min_version: spec.min_version,
        };
        match build(keys, trust, spec.http2, provider) {
            Ok(acceptor) => Ok((acceptor, concerns)),
            Err(cause) => Err(vec![TlsError { blame: Blame::ClientCa, cause }]),
        }
    }

    /// Resumes the sessions that `former` has begun, unless clients would have been asked for other certificates.
    pub fn succeeding(mut self, former: &Acceptor) -> Acceptor {
        if self.asks_as(former) {
            let mut config = ServerConfig::clone(&self.config);
            config.ticketer = former.config.ticketer.clone();
            config.session_storage = former.config.session_storage.clone();
            self.config = Arc::new(config);
        }
        self
    }

    /// Whether who passes the one passes the other.
    pub fn asks_as(&self, other: &Acceptor) -> bool {
        self.trust == other.trust
    }

    /// Begins a session.
    ///
    /// # Errors
    ///
    /// There is no randomness.
    pub fn begin(&self) -> Result<ServerConnection, rustls::Error> {
        let mut session = ServerConnection::new(self.config.clone())?;
        session.set_buffer_limit(Some(BUFFER_BYTES_MAX));
        Ok(session)
    }
}

fn build(
    keys: Vec<Arc<rustls::sign::CertifiedKey>>,
    trust: Trust,
    http2: bool,
    provider: Arc<CryptoProvider>,
) -> Result<Acceptor, TlsErrorCause> {
    const TLS13: [&SupportedProtocolVersion; 1] = [&version::TLS13];
    const BOTH: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];
    let versions: &[&SupportedProtocolVersion] = match trust.min_version {
        MinVersion::Tls12 => &BOTH,
        MinVersion::Tls13 => &TLS13,
    };
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .map_err(TlsErrorCause::Unusable)?;
    let builder = if trust.roots.is_empty() {
        builder.with_no_client_auth()
    } else {
        let mut store = RootCertStore::empty();
        for root in &trust.roots {
            store.add(root.clone()).map_err(TlsErrorCause::Unusable)?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider);
        let verifier = if trust.is_required { verifier } else { verifier.allow_unauthenticated() };
        builder.with_client_cert_verifier(verifier.build().map_err(|error| TlsErrorCause::NoRoot(error.to_string()))?)
    };
    let mut config = builder.with_cert_resolver(Arc::new(Certificates::new(keys)));
    config.alpn_protocols = PROTOCOLS.iter().skip(usize::from(!http2)).map(|protocol| protocol.to_vec()).collect();
    // A client that cannot be trusted to know the better of two suites is one more way to the worse: ours are in order.
    config.ignore_client_order = true;
    // Their keys are replaced every some hours, and never written down (RFC 8446, appendix C.4; RFC 5077, section 5.5).
    config.ticketer = ring::Ticketer::new().map_err(TlsErrorCause::Unusable)?;
    config.session_storage = ServerSessionMemoryCache::new(SESSIONS_MAX);
    Ok(Acceptor { config: Arc::new(config), trust: Arc::new(trust) })
}

impl std::fmt::Display for TlsErrorCause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TlsErrorCause::Unreadable(error) => write!(f, "cannot read the file: {error}"),
            TlsErrorCause::TooLarge => write!(f, "the file has more than {} bytes", files::FILE_BYTES_MAX),
            TlsErrorCause::NotPem(error) => write!(f, "the file is not PEM: {error}"),
            TlsErrorCause::NoCertificate => f.write_str("the file has no certificate"),
            TlsErrorCause::NoKey => f.write_str("the file has no private key"),
            TlsErrorCause::Unusable(error) => write!(f, "this cannot be used: {error}"),
            TlsErrorCause::KeyOfAnother => f.write_str("the key is not that of the certificate"),
            TlsErrorCause::NoRoot(reason) => write!(f, "no client could be verified by this: {reason}"),
        }
    }
}

impl std::fmt::Display for TlsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.cause.fmt(f)
    }
}

impl std::error::Error for TlsError {}

impl TlsErrorCause {
    /// The next step.
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            TlsErrorCause::NoCertificate => Some("PEM has `-----BEGIN CERTIFICATE-----`, the server's own first"),
            TlsErrorCause::NoKey => {
                Some("PEM has `-----BEGIN PRIVATE KEY-----`; one with a passphrase has to be decrypted first")
            }
            TlsErrorCause::KeyOfAnother => Some("was only one of the two files renewed?"),
            TlsErrorCause::Unreadable(_)
            | TlsErrorCause::TooLarge
            | TlsErrorCause::NotPem(_)
            | TlsErrorCause::Unusable(_)
            | TlsErrorCause::NoRoot(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
