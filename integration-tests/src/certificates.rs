//! Certificates for tests: an authority, a server's, a client's, as files.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};

/// Where they are.
#[derive(Debug, Clone)]
pub struct Certificates {
    pub ca: PathBuf,
    pub server: PathBuf,
    pub server_key: PathBuf,
    pub client: PathBuf,
    pub client_key: PathBuf,
}

impl Certificates {
    /// Makes them: the server is `localhost` and 127.0.0.1, the client `device-7`.
    pub fn make(folder: &Path) -> Certificates {
        Certificates::make_for(folder, &["localhost", "127.0.0.1"])
    }

    /// As [`Certificates::make`], with other names for the server.
    pub fn make_for(folder: &Path, names: &[&str]) -> Certificates {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(DnType::CommonName, "test authority");
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().expect("a key")).expect("an authority");
        let write = |name: &str, text: String| {
            let file = folder.join(name);
            std::fs::write(&file, text).expect("written");
            file
        };
        let issue = |name: &str, common_name: &str, names: &[&str], usage| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let mut parameters = CertificateParams::new(names).expect("names");
            parameters.distinguished_name.push(DnType::CommonName, common_name);
            parameters.extended_key_usages.push(usage);
            let key = KeyPair::generate().expect("a key");
            let certificate = parameters.signed_by(&key, &authority).expect("a certificate");
            (write(&format!("{name}.pem"), certificate.pem()), write(&format!("{name}.key"), key.serialize_pem()))
        };
        let (server, server_key) = issue("server", "localhost", names, ExtendedKeyUsagePurpose::ServerAuth);
        let (client, client_key) = issue("client", "device-7", &[], ExtendedKeyUsagePurpose::ClientAuth);
        Certificates { ca: write("ca.pem", authority.pem()), server, server_key, client, client_key }
    }

    /// The lines of a `[listeners.….tls]` table.
    pub fn toml(&self) -> String {
        format!("cert = \"{}\"\nkey = \"{}\"\n", self.server.display(), self.server_key.display())
    }
}
