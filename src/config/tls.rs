//! Owns `[serve.tls]`: which files hold certificates and keys, and what is asked of clients. `crate::tls` reads
//! the files, when a manifest is loaded from the disk.

use std::path::PathBuf;

use super::Surroundings;
use super::diagnostic::{Diagnostic, Diagnostics, Report, Span};
use super::document::{self, Key, Shape, Value, span};
use crate::tls::{Acceptor, Blame, CertificateFiles, ClientAuth, Concern, MinVersion, Spec};

/// Most certificates of one listener: they are searched in turn for the name that a client asks for.
pub const CERTIFICATES_MAX: usize = 64;

const SHAPE: Shape = Shape {
    name: "[serve.tls]",
    keys: &["cert", "key", "certificates", "min-version", "client-ca", "client-auth"],
    unsupported: &[],
};

const PAIR_SHAPE: Shape = Shape { name: "[[serve.tls.certificates]]", keys: &["cert", "key"], unsupported: &[] };

const VERSIONS: [&str; 2] = ["1.2", "1.3"];
const CLIENT_AUTH: [&str; 2] = ["required", "optional"];

/// How a listener speaks TLS.
#[derive(Clone, Debug)]
pub struct Tls {
    pub spec: Spec,
    /// Where the files are named: certificates and keys, and the one with the certificates for clients.
    places: Vec<(Option<Span>, Option<Span>)>,
    ca_place: Option<Span>,
    /// What was made of the files, once they have been read.
    pub acceptor: Option<Acceptor>,
}

impl Tls {
    /// Reads the files.
    pub(super) fn load(&mut self, diagnostics: &mut Diagnostics) {
        let place = |blame: Blame| match blame {
            Blame::Certificate(number) => self.places.get(number).and_then(|(cert, _)| *cert),
            Blame::Key(number) => self.places.get(number).and_then(|(_, key)| *key),
            Blame::ClientCa => self.ca_place,
        };
        match Acceptor::load(&self.spec) {
            Ok((acceptor, concerns)) => {
                for Concern::OpenKey(number) in concerns {
                    let place = place(Blame::Key(number));
                    let found = Diagnostic::warning(place, "everybody on this machine can read the private key");
                    diagnostics.push(found.hint("take the permission away: chmod o-r"));
                }
                self.acceptor = Some(acceptor);
            }
            Err(errors) => {
                for error in errors {
                    let found = Diagnostic::error(place(error.blame), error.to_string());
                    diagnostics.push(match error.cause.hint() {
                        Some(hint) => found.hint(hint),
                        None => found,
                    });
                }
            }
        }
    }
}

/// Reads the table; `false` is no TLS.
pub(super) fn read(key: &Key<'_>, value: &Value<'_>, around: &Surroundings<'_>, report: &mut Report) -> Option<Tls> {
    if value.get_ref().as_bool() == Some(false) {
        return None;
    }
    let (mut cert, mut private_key) = (None, None);
    let (mut ca, mut auth) = (None, None);
    let (mut pairs, mut min_version) = (Vec::new(), MinVersion::default());
    for (key, value) in document::entries(document::table(value, report)?) {
        match key.get_ref() as &str {
            "cert" => cert = path(value, around, report),
            "key" => private_key = path(value, around, report),
            "certificates" => pairs.extend(read_pairs(value, around, report)),
            "min-version" => {
                if document::word(value, &VERSIONS, report) == Some("1.3") {
                    min_version = MinVersion::Tls13;
                }
            }
            "client-ca" => ca = path(value, around, report),
            "client-auth" => auth = document::word(value, &CLIENT_AUTH, report).map(|word| (word, span(key))),
            _ => document::unknown_key(key, value, &SHAPE, report),
        }
    }
    let has_own = cert.is_some() || private_key.is_some();
    if let Some(pair) = pair(cert, private_key, report) {
        pairs.insert(0, pair);
    } else if pairs.is_empty() && !has_own {
        let found = Diagnostic::error(span(key), "the listener has no certificate").absence();
        report.push(found.hint("`cert` and `key` are paths of PEM files, relative to the manifest"));
    }
    if pairs.len() > CERTIFICATES_MAX {
        let message = format!("a listener has at most {CERTIFICATES_MAX} certificates");
        report.push(Diagnostic::error(span(key), message));
    }
    let ca_place = ca.as_ref().and_then(|(_, place)| *place);
    let client_auth = client_auth(ca, auth, report);
    let (certificates, places) = pairs.into_iter().unzip();
    Some(Tls { spec: Spec { certificates, min_version, client_auth, http2: true }, places, ca_place, acceptor: None })
}

fn client_auth(ca: Option<Place>, auth: Option<(&str, Option<Span>)>, report: &mut Report) -> Option<ClientAuth> {
    match (ca, auth) {
        (Some((ca, _)), auth) => Some(ClientAuth { ca, is_required: auth.is_none_or(|(word, _)| word == "required") }),
        (None, Some((_, place))) => {
            let found = Diagnostic::error(place, "nothing says whose certificates clients must have");
            report.push(found.hint("`client-ca` is the path of a PEM file with the certificates that sign theirs"));
            None
        }
        (None, None) => None,
    }
}

type Place = (PathBuf, Option<Span>);
type Pair = (CertificateFiles, (Option<Span>, Option<Span>));

fn path(value: &Value<'_>, around: &Surroundings<'_>, report: &mut Report) -> Option<Place> {
    document::file_path(value, report).map(|path| (around.directory.join(path), span(value)))
}

fn pair(cert: Option<Place>, key: Option<Place>, report: &mut Report) -> Option<Pair> {
    match (cert, key) {
        (Some((cert, of_cert)), Some((key, of_key))) => Some((CertificateFiles { cert, key }, (of_cert, of_key))),
        (Some((_, place)), None) => {
            report.push(Diagnostic::error(place, "the certificate has no `key`"));
            None
        }
        (None, Some((_, place))) => {
            report.push(Diagnostic::error(place, "the key has no `cert`"));
            None
        }
        (None, None) => None,
    }
}

fn read_pairs(value: &Value<'_>, around: &Surroundings<'_>, report: &mut Report) -> Vec<Pair> {
    let mut pairs = Vec::new();
    for item in document::array(value, report).unwrap_or_default() {
        let Some(table) = document::table(item, report) else { continue };
        let (mut cert, mut private_key) = (None, None);
        for (key, value) in document::entries(table) {
            match key.get_ref() as &str {
                "cert" => cert = path(value, around, report),
                "key" => private_key = path(value, around, report),
                _ => document::unknown_key(key, value, &PAIR_SHAPE, report),
            }
        }
        if table.is_empty() {
            report.push(Diagnostic::error(span(item), "a certificate has `cert` and `key`").absence());
        }
        pairs.extend(pair(cert, private_key, report));
    }
    pairs
}
