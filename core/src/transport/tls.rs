//! TLS of a listener: certificates by name, client certificates, and new files without a restart.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use hookline_schemas::Certificate;
use hookline_schemas::config::{ClientAuth, Tls, TlsVersion};
use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// The TLS of a listener.
#[derive(Debug)]
pub struct TlsServer {
    settings: Tls,
    /// What is offered above TLS.
    alpn: &'static [&'static [u8]],
    config: ArcSwap<ServerConfig>,
    /// When the files were changed last, as far as is known.
    changed: Mutex<Vec<Option<SystemTime>>>,
}

impl TlsServer {
    /// Reads the files.
    ///
    /// # Errors
    /// The key of the configuration that is at fault, and why.
    pub fn open(settings: &Tls, alpn: &'static [&'static [u8]]) -> Result<TlsServer, String> {
        let config = build(settings, alpn)?;
        let changed = Mutex::new(change_times(settings));
        Ok(TlsServer { settings: settings.clone(), alpn, config: ArcSwap::from_pointee(config), changed })
    }

    /// What new connections use.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.config.load_full()
    }

    /// Reads the files again where they have changed; `None`: they have not. What cannot be used changes nothing.
    /// Has to be called now and then.
    ///
    /// # Errors
    /// The key of the configuration that is at fault, and why.
    pub fn reload(&self) -> Option<Result<(), String>> {
        let now = change_times(&self.settings);
        {
            let mut changed = self.changed.lock();
            if *changed == now {
                return None;
            }
            *changed = now;
        }
        Some(build(&self.settings, self.alpn).map(|config| self.config.store(Arc::new(config))))
    }
}

fn files(settings: &Tls) -> impl Iterator<Item = &PathBuf> {
    let more = settings.more.iter().flat_map(|files| [&files.cert, &files.key]);
    [&settings.cert, &settings.key].into_iter().chain(more).chain(&settings.client_ca)
}

fn change_times(settings: &Tls) -> Vec<Option<SystemTime>> {
    files(settings).map(|file| std::fs::metadata(file).and_then(|metadata| metadata.modified()).ok()).collect()
}

fn build(settings: &Tls, alpn: &[&[u8]]) -> Result<ServerConfig, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut certificates = vec![Identity::read(&settings.cert, &settings.key).map_err(|problem| format!("tls.{problem}"))?];
    for (index, files) in settings.more.iter().enumerate() {
        certificates.push(Identity::read(&files.cert, &files.key).map_err(|problem| format!("tls.more[{index}].{problem}"))?);
    }
    let versions: &[&rustls::SupportedProtocolVersion] = match settings.version_min {
        TlsVersion::V12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::V13 => &[&rustls::version::TLS13],
    };
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions).map_err(|e| format!("tls: {e}"))?;
    let builder = match settings.client_auth {
        ClientAuth::None => builder.with_no_client_auth(),
        asked => {
            let Some(file) = &settings.client_ca else { return Err("tls.client_ca: missing; client_auth needs it".into()) };
            let roots = roots(file).map_err(|problem| format!("tls.client_ca: {problem}"))?;
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = if asked == ClientAuth::Optional { verifier.allow_unauthenticated() } else { verifier };
            builder.with_client_cert_verifier(verifier.build().map_err(|error| format!("tls.client_ca: {error}"))?)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(Certificates(certificates)));
    // Sessions are resumed by tickets, which the clients keep: nothing is kept here.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().map_err(|error| format!("tls: {error}"))?;
    config.send_tls13_tickets = 1;
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

fn roots(file: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(file)? {
        roots.add(certificate).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(roots)
}

fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let describe = |error: rustls::pki_types::pem::Error| format!("cannot read {}: {error}", file.display());
    let certificates = CertificateDer::pem_file_iter(file).map_err(describe)?.collect::<Result<Vec<_>, _>>().map_err(describe)?;
    if certificates.is_empty() { Err(format!("{} holds no certificate in PEM", file.display())) } else { Ok(certificates) }
}

/// A certificate, its key, and the names it is for.
#[derive(Debug)]
struct Identity {
    key: Arc<CertifiedKey>,
    names: Vec<String>,
}

impl Identity {
    fn read(cert: &Path, key: &Path) -> Result<Identity, String> {
        if cert.as_os_str().is_empty() {
            return Err("cert: missing; it names the file of the server's certificate".into());
        }
        let chain = read_certificates(cert).map_err(|problem| format!("cert: {problem}"))?;
        let names = check(&chain[0]).map_err(|problem| format!("cert: {}: {problem}", cert.display()))?;
        let private = PrivateKeyDer::from_pem_file(key).map_err(|error| format!("key: cannot read {}: {error}", key.display()))?;
        let signing =
            rustls::crypto::aws_lc_rs::sign::any_supported_type(&private).map_err(|error| format!("key: {}: {error}", key.display()))?;
        let certified = CertifiedKey::new(chain, signing);
        match certified.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
            Err(_) => return Err(format!("key: {} is not the key of {}", key.display(), cert.display())),
        }
        Ok(Identity { key: Arc::new(certified), names })
    }
}

/// The names of a certificate that is valid today.
fn check(der: &[u8]) -> Result<Vec<String>, String> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
    let validity = certificate.validity();
    if validity.not_after.timestamp() < now {
        return Err(format!("the certificate has expired on {}", validity.not_after));
    }
    if validity.not_before.timestamp() > now {
        return Err(format!("the certificate is not valid before {}", validity.not_before));
    }
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.into_iter().flat_map(|extension| &extension.value.general_names);
    Ok(names.filter_map(|name| if let GeneralName::DNSName(name) = name { Some(name.to_ascii_lowercase()) } else { None }).collect())
}

/// A file with certificates, and when the first of them ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateEnd {
    pub file: PathBuf,
    /// Seconds since the Unix epoch.
    pub ends_at_secs: i64,
}

/// Reads what a listener's TLS names, as its start does: when the certificates end.
///
/// # Errors
/// The key of the configuration that is at fault, and why.
pub fn certificate_ends(settings: &Tls) -> Result<Vec<CertificateEnd>, String> {
    build(settings, &[])?;
    let certificates = [&settings.cert].into_iter().chain(settings.more.iter().map(|files| &files.cert)).chain(&settings.client_ca);
    let end = |file: &PathBuf| {
        let ends = read_certificates(file)?.iter().map(|der| end_of(der)).collect::<Result<Vec<_>, _>>();
        let ends_at_secs = ends.map_err(|problem| format!("{}: {problem}", file.display()))?.into_iter().min().unwrap_or(i64::MAX);
        Ok(CertificateEnd { file: file.clone(), ends_at_secs })
    };
    certificates.map(end).collect()
}

fn end_of(der: &[u8]) -> Result<i64, String> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
    Ok(certificate.validity().not_after.timestamp())
}

/// Chooses by the name that the client asks for.
#[derive(Debug)]
struct Certificates(Vec<Identity>);

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asked = hello.server_name().map(str::to_ascii_lowercase);
        let fitting = asked.and_then(|asked| self.0.iter().find(|certificate| certificate.names.iter().any(|name| fits(name, &asked))));
        fitting.or(self.0.first()).map(|certificate| Arc::clone(&certificate.key))
    }
}

/// Whether a name of a certificate, perhaps `*.example.com`, is for `asked` (RFC 6125, section 6.4).
fn fits(name: &str, asked: &str) -> bool {
    match name.strip_prefix("*.") {
        Some(parent) => asked.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest == parent),
        None => name == asked,
    }
}

/// What the certificate of a client says.
pub(crate) fn peer_certificate(der: &[u8]) -> Option<Certificate> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let subject = certificate.subject();
    let common_name = subject.iter_common_name().next().and_then(|name| name.as_str().ok()).map(str::to_owned);
    let names = certificate.subject_alternative_name().ok().flatten();
    let alt_name = names.iter().flat_map(|names| &names.value.general_names).find_map(|name| match name {
        GeneralName::DNSName(name) | GeneralName::URI(name) | GeneralName::RFC822Name(name) => Some((*name).to_owned()),
        _ => None,
    });
    Some(Certificate { common_name, subject: subject.to_string(), alt_name })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, name: &str, days: i64) -> (PathBuf, PathBuf) {
        let mut parameters = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let day = std::time::Duration::from_secs(86_400);
        let end = if days < 0 { SystemTime::now() - day } else { SystemTime::now() + day };
        parameters.not_before = (SystemTime::now() - 3 * day).into();
        parameters.not_after = end.into();
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = parameters.self_signed(&key).expect("a certificate");
        let (cert, private) = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
        std::fs::write(&cert, certificate.pem()).expect("written");
        std::fs::write(&private, key.serialize_pem()).expect("written");
        (cert, private)
    }

    #[test]
    fn broken_files_are_named_and_change_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let (cert, key) = write(folder.path(), "a.example", 1);
        let (_, other_key) = write(folder.path(), "b.example", 1);
        let settings = Tls { cert: cert.clone(), key: key.clone(), ..Tls::default() };
        let server = TlsServer::open(&settings, &[]).expect("valid");
        assert!(server.reload().is_none(), "nothing has changed");
        let before = Arc::as_ptr(&server.config());
        std::fs::write(&cert, "-----BEGIN CERTIFICATE-----\nhalf").expect("written");
        let touched = std::fs::File::options().write(true).open(&cert).expect("opens");
        touched.set_modified(SystemTime::now() + std::time::Duration::from_secs(5)).expect("touched");
        assert!(server.reload().expect("changed").expect_err("broken").starts_with("tls.cert: "));
        assert_eq!(Arc::as_ptr(&server.config()), before);
        let problem = |settings: Tls| TlsServer::open(&settings, &[]).expect_err("wrong");
        let (expired, expired_key) = write(folder.path(), "old.example", -1);
        assert!(problem(Tls { cert: expired, key: expired_key, ..Tls::default() }).contains("has expired on"));
        let (cert, _) = write(folder.path(), "a.example", 1);
        assert!(problem(Tls { cert: cert.clone(), key: other_key, ..Tls::default() }).contains("is not the key of"));
        assert!(problem(Tls::default()).contains("tls.cert: missing"));
        assert!(problem(Tls { cert, key: folder.path().join("none"), ..Tls::default() }).contains("tls.key: cannot read"));
    }

    #[test]
    fn names_fit_as_certificates_say() {
        assert!(fits("mqtt.example.com", "mqtt.example.com") && fits("*.example.com", "a.example.com"));
        assert!(
            !fits("*.example.com", "example.com") && !fits("*.example.com", "a.b.example.com") && !fits("a.example.com", "b.example.com")
        );
    }
}
