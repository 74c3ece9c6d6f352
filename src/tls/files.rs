//! Reads certificates and private keys, and finds out whether they belong together. Bounded: a path may lead anywhere.

use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};

use super::{Blame, CertificateFiles, TlsError, TlsErrorCause};
use crate::sys;

/// Most bytes of a file of certificates or of a key.
pub(super) const FILE_BYTES_MAX: u64 = 1 << 20;

/// The bit by which everybody else may read a file.
const OTHERS_READ: u32 = 0o004;

/// The certificate with this number and its key, and whether everybody can read the key.
pub(super) fn certified_key(
    number: usize,
    files: &CertificateFiles,
    provider: &CryptoProvider,
) -> Result<(CertifiedKey, bool), TlsError> {
    let (of_cert, of_key) = (Blame::Certificate(number), Blame::Key(number));
    let chain = certificates(of_cert, &files.cert)?;
    if let Some(own) = chain.first() {
        ParsedCertificate::try_from(own).map_err(|error| blame(of_cert)(TlsErrorCause::Unusable(error)))?;
    }
    let (bytes, mode) = read(&files.key).map_err(blame(of_key))?;
    let key = PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
        pem::Error::NoItemsFound => TlsErrorCause::NoKey,
        error => TlsErrorCause::NotPem(error),
    });
    let pair = key.and_then(|key| {
        CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => TlsErrorCause::KeyOfAnother,
            error => TlsErrorCause::Unusable(error),
        })
    });
    Ok((pair.map_err(blame(of_key))?, mode & OTHERS_READ != 0))
}

/// At least one certificate.
pub(super) fn certificates(about: Blame, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let (bytes, _) = read(path).map_err(blame(about))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|error| blame(about)(TlsErrorCause::NotPem(error)))?;
    if found.is_empty() { Err(blame(about)(TlsErrorCause::NoCertificate)) } else { Ok(found) }
}

fn blame(blame: Blame) -> impl Fn(TlsErrorCause) -> TlsError {
    move |cause| TlsError { blame, cause }
}

/// The bytes of a file, and its permissions.
fn read(path: &Path) -> Result<(Vec<u8>, u32), TlsErrorCause> {
    let file = sys::open_regular(path).map_err(TlsErrorCause::Unreadable)?;
    let mode = file.metadata().map_err(TlsErrorCause::Unreadable)?.mode();
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(TlsErrorCause::Unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX { Err(TlsErrorCause::TooLarge) } else { Ok((bytes, mode)) }
}
