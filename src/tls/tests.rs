//! Files of certificates: what will do, what will not, and whose fault it is.

use rcgen::{CertificateParams, KeyPair};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::*;
use crate::testing::Scratch;

/// A certificate that has signed itself, and its key.
fn pair(name: &str) -> (String, String) {
    let key = KeyPair::generate().expect("there is randomness");
    let params = CertificateParams::new(vec![name.to_owned()]).expect("a legal name");
    (params.self_signed(&key).expect("it can be signed").pem(), key.serialize_pem())
}

fn write(directory: &Path, name: &str, contents: &[u8], mode: u32) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, contents).expect("the directory is writable");
    fs::set_permissions(&path, Permissions::from_mode(mode)).expect("the file is ours");
    path
}

fn spec(cert: PathBuf, key: PathBuf) -> Spec {
    let certificates = vec![CertificateFiles { cert, key }];
    Spec { certificates, min_version: MinVersion::Tls12, client_auth: None, http2: true }
}

#[test]
fn a_key_that_everybody_can_read_is_told_of() {
    let scratch = Scratch::new();
    let (cert, key) = pair("localhost");
    let cert = write(scratch.path(), "cert", cert.as_bytes(), 0o644);
    for (mode, concerns) in [(0o600, vec![]), (0o640, vec![]), (0o644, vec![Concern::OpenKey(0)])] {
        let key = write(scratch.path(), "key", key.as_bytes(), mode);
        assert_eq!(Acceptor::load(&spec(cert.clone(), key)).expect("a pair").1, concerns, "{mode:o}");
    }
}

#[test]
fn each_fault_is_told_with_the_file_that_has_it() {
    let scratch = Scratch::new();
    let ((cert, key), (_, other_key)) = (pair("a"), pair("b"));
    let file = |name: &str, contents: &[u8]| write(scratch.path(), name, contents, 0o600);
    let (good_cert, good_key) = (file("cert", cert.as_bytes()), file("key", key.as_bytes()));
    let garbage = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let large = vec![b'\n'; usize::try_from(files::FILE_BYTES_MAX).expect("it is small") + 1];
    let (of_cert, of_key) = (Blame::Certificate(0), Blame::Key(0));
    let table = [
        (scratch.path().join("gone"), good_key.clone(), of_cert, "cannot read the file"),
        (scratch.path().to_owned(), good_key.clone(), of_cert, "cannot read the file"),
        (good_key.clone(), good_key.clone(), of_cert, "the file has no certificate"),
        (file("garbage", garbage), good_key.clone(), of_cert, "this cannot be used"),
        (file("large", &large), good_key.clone(), of_cert, "the file has more than 1048576 bytes"),
        (good_cert.clone(), good_cert.clone(), of_key, "the file has no private key"),
        (good_cert.clone(), file("other", other_key.as_bytes()), of_key, "the key is not that of the certificate"),
        (good_cert.clone(), file("empty", b""), of_key, "the file has no private key"),
    ];
    for (cert, key, blame, message) in table {
        let errors = Acceptor::load(&spec(cert, key)).expect_err("a refusal");
        assert!(errors.len() == 1 && errors[0].blame == blame, "{errors:?}");
        assert!(errors[0].to_string().starts_with(message), "{}", errors[0]);
    }
    // A file of just the limit is read.
    let at_limit = [cert.as_bytes(), &vec![b'\n'; large.len() - 1 - cert.len()]].concat();
    assert!(Acceptor::load(&spec(file("at-limit", &at_limit), good_key)).is_ok());
}

#[test]
fn sessions_are_kept_unless_clients_have_to_show_something_else() {
    let scratch = Scratch::new();
    let (cert, key) = pair("localhost");
    let (cert, key) =
        (write(scratch.path(), "cert", cert.as_bytes(), 0o600), write(scratch.path(), "key", key.as_bytes(), 0o600));
    let plain = spec(cert.clone(), key);
    let load = |spec: &Spec| Acceptor::load(spec).expect("a pair").0;
    let keeps = |old: &Acceptor, new: Acceptor| {
        Arc::ptr_eq(&new.succeeding(old).config.session_storage, &old.config.session_storage)
    };
    let old = load(&plain);
    assert!(keeps(&old, load(&plain)));
    let strict = Spec { min_version: MinVersion::Tls13, ..plain.clone() };
    assert!(!keeps(&old, load(&strict)));
    let asking =
        |is_required| Spec { client_auth: Some(ClientAuth { ca: cert.clone(), is_required }), ..plain.clone() };
    assert!(!keeps(&old, load(&asking(true))));
    assert!(!keeps(&load(&asking(false)), load(&asking(true))));
    assert!(keeps(&load(&asking(true)), load(&asking(true))));
}
