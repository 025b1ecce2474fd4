//! A cluster's certificates: its own CA, the server's certificate, and client certificates.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose,
};

/// A CA whose files lie in one folder.
pub struct Pki {
    dir: PathBuf,
    ca: CertifiedIssuer<'static, KeyPair>,
}

/// A client certificate with its key, PEM.
#[derive(Debug, Clone)]
pub struct ClientCert {
    /// Certificate.
    pub cert: String,
    /// Private key.
    pub key: String,
}

impl Pki {
    /// Makes a CA named after the cluster, the server's certificate for 127.0.0.1 and the usual names, and the key that signs
    /// service account tokens.
    ///
    /// # Errors
    /// When a key cannot be made or a file cannot be written.
    pub fn create(dir: &Path, cluster: &str) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let mut params = CertificateParams::default();
        params.distinguished_name = name(&format!("{cluster}-ca"), None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?).context("cannot make a CA")?;
        let pki = Self { dir: dir.to_path_buf(), ca };
        pki.write("ca.crt", &pki.ca.pem())?;
        pki.server_certificate()?;
        let signer = KeyPair::generate()?;
        pki.write("service-account.key", &signer.serialize_pem())?;
        pki.write("service-account.pub", &signer.public_key_pem())?;
        Ok(pki)
    }

    fn server_certificate(&self) -> Result<()> {
        let names: Vec<String> = [
            "127.0.0.1",
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        ]
        .map(str::to_owned)
        .into();
        let mut params = CertificateParams::new(names).context("cannot name the server")?;
        params.distinguished_name = name("kube-apiserver", None);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &self.ca).context("cannot sign the server's certificate")?;
        self.write("server.crt", &cert.pem())?;
        self.write("server.key", &key.serialize_pem())
    }

    /// A certificate for the Kubernetes user `user` in the given group.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn client(&self, user: &str, group: Option<&str>) -> Result<ClientCert> {
        let mut params = CertificateParams::default();
        params.distinguished_name = name(user, group);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let cert = params
            .signed_by(&key, &self.ca)
            .with_context(|| format!("cannot sign a certificate for {user}"))?;
        Ok(ClientCert { cert: cert.pem(), key: key.serialize_pem() })
    }

    /// The CA's certificate, PEM.
    pub fn ca_pem(&self) -> String {
        self.ca.pem()
    }

    /// The path of one of its files: `ca.crt`, `server.crt`, `server.key`, `service-account.key`, `service-account.pub`.
    pub fn file(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    fn write(&self, file: &str, text: &str) -> Result<()> {
        let path = self.dir.join(file);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

fn name(common: &str, organization: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    if let Some(organization) = organization {
        name.push(DnType::OrganizationName, organization);
    }
    name
}
