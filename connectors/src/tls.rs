//! TLS towards a server: what the settings of a connector say about it, read from the files.

use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::kind::{CONNECTOR, SettingsError};

/// TLS towards the server. An empty table turns it on. The files are read at the start.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tls {
    /// The authorities that the server's certificate may come from, PEM. Without it: the public ones (Mozilla's list).
    pub(crate) ca: Option<PathBuf>,
    /// The certificate to show to the server, and those between it and the root, PEM.
    pub(crate) cert: Option<PathBuf>,
    /// The private key of the certificate, PEM.
    pub(crate) key: Option<PathBuf>,
}

/// What was in the files.
pub(crate) struct Pem {
    pub(crate) ca: Option<Vec<u8>>,
    pub(crate) identity: Option<Identity>,
}

/// A certificate and its key.
pub(crate) struct Identity {
    pub(crate) cert: Vec<u8>,
    pub(crate) key: Vec<u8>,
}

impl Tls {
    /// Reads the files.
    pub(crate) fn read(&self) -> Result<Pem, Vec<SettingsError>> {
        // The clients take what the process has. An error means that it is there already.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let ca = self.ca.as_deref().map(|file| read("ca", file, "CERTIFICATE")).transpose()?;
        let identity = match (&self.cert, &self.key) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some(Identity { cert: read("cert", cert, "CERTIFICATE")?, key: read("key", key, "PRIVATE KEY")? }),
            (Some(_), None) => return Err(wrong("key", "missing; `cert` needs it")),
            (None, Some(_)) => return Err(wrong("cert", "missing; `key` needs it")),
        };
        Ok(Pem { ca, identity })
    }
}

impl Tls {
    /// A client's configuration.
    pub(crate) fn client(&self) -> Result<rustls::ClientConfig, Vec<SettingsError>> {
        let Pem { ca, identity } = self.read()?;
        let mut roots = RootCertStore::empty();
        match ca {
            Some(pem) => {
                for certificate in CertificateDer::pem_slice_iter(&pem) {
                    let certificate = certificate.map_err(|error| wrong("ca", &error.to_string()))?;
                    roots.add(certificate).map_err(|error| wrong("ca", &error.to_string()))?;
                }
            }
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        }
        let builder = rustls::ClientConfig::builder().with_root_certificates(roots);
        let Some(identity) = identity else { return Ok(builder.with_no_client_auth()) };
        let chain = CertificateDer::pem_slice_iter(&identity.cert).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| wrong("cert", &error.to_string()))?;
        let key = PrivateKeyDer::from_pem_slice(&identity.key).map_err(|error| wrong("key", &error.to_string()))?;
        builder.with_client_auth_cert(chain, key).map_err(|error| wrong("key", &error.to_string()))
    }
}

fn read(name: &str, file: &Path, what: &str) -> Result<Vec<u8>, Vec<SettingsError>> {
    let text = std::fs::read(file).map_err(|error| wrong(name, &format!("cannot read {}: {error}", file.display())))?;
    // As in "BEGIN RSA PRIVATE KEY".
    let (begin, end) = ("-----BEGIN ", format!("{what}-----"));
    let has = String::from_utf8_lossy(&text).lines().any(|line| line.starts_with(begin) && line.trim_end().ends_with(&end));
    if has { Ok(text) } else { Err(wrong(name, &format!("there is no {what} in {}", file.display()))) }
}

fn wrong(name: &str, problem: &str) -> Vec<SettingsError> {
    vec![SettingsError { path: format!("{CONNECTOR}.tls.{name}"), problem: problem.to_owned() }]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_the_files_is_told_with_the_key() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str, text: &str| {
            let file = folder.path().join(name);
            std::fs::write(&file, text).expect("written");
            Some(file)
        };
        let cert = file("cert", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n");
        let key = file("key", "-----BEGIN RSA PRIVATE KEY-----\n-----END RSA PRIVATE KEY-----\n");
        let path = |tls: Tls| tls.read().err().map(|errors| errors[0].path.clone());
        assert_eq!(path(Tls::default()), None);
        assert_eq!(path(Tls { ca: cert.clone(), cert: cert.clone(), key: key.clone() }), None);
        assert_eq!(path(Tls { ca: key.clone(), ..Tls::default() }).as_deref(), Some("connector.tls.ca"));
        assert_eq!(path(Tls { ca: Some(folder.path().join("none")), ..Tls::default() }).as_deref(), Some("connector.tls.ca"));
        assert_eq!(path(Tls { cert, ..Tls::default() }).as_deref(), Some("connector.tls.key"));
        assert_eq!(path(Tls { key, ..Tls::default() }).as_deref(), Some("connector.tls.cert"));
    }
}
