//! TLS on the service port: the certificate, read anew when its file changes, and what a handshake is done with. Knows no connection.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;

/// How often the files are looked at: a certificate that was renewed is in use soon after, without a restart.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// A certificate chain and its key, in PEM.
#[derive(Debug, Clone)]
pub struct Files {
    /// The chain, the server's own first.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

#[derive(Debug)]
struct Current(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// What the service port does handshakes with. Looks at the files again every ten seconds, on the runtime that this is called on; files that
/// are no good leave the old certificate in use, and a warning.
///
/// # Errors
/// The files cannot be read, or do not fit each other.
pub fn acceptor(files: Files) -> anyhow::Result<TlsAcceptor> {
    let current = Arc::new(Current(ArcSwap::from_pointee(load(&files)?)));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("TLS has no usable version")?
        .with_no_client_auth()
        .with_cert_resolver(current.clone());
    // The first that the client offers, too: browsers, which offer both, stay with what sessions speak, and gRPC offers HTTP/2 alone.
    config.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
    // A fleet that comes back resumes its sessions without a signature each, and nothing is kept for those that do not.
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().context("TLS has no tickets")?;
    config.send_tls13_tickets = 1;
    tokio::spawn(keep_current(files, current));
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn keep_current(files: Files, current: Arc<Current>) {
    let mut seen = changed(&files);
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = changed(&files);
        if now == seen {
            continue;
        }
        seen = now;
        match load(&files) {
            Ok(key) => {
                current.0.store(Arc::new(key));
                tracing::info!(certificate = %files.certificate.display(), "the certificate was renewed");
            }
            Err(error) => tracing::warn!("the certificate stays as it was: {error:#}"),
        }
    }
}

/// When either file changed last.
fn changed(files: &Files) -> [Option<SystemTime>; 2] {
    let changed = |path: &Path| path.metadata().ok()?.modified().ok();
    [changed(&files.certificate), changed(&files.key)]
}

fn load(files: &Files) -> anyhow::Result<CertifiedKey> {
    let Files { certificate, key } = files;
    let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|error| anyhow::anyhow!("TLS_CERT_FILE: {}: {error}", certificate.display()))?;
    anyhow::ensure!(!chain.is_empty(), "TLS_CERT_FILE: {} holds no certificate", certificate.display());
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| anyhow::anyhow!("TLS_KEY_FILE: {}: {error}", key.display()))?;
    CertifiedKey::from_der(chain, private, &rustls::crypto::aws_lc_rs::default_provider())
        .with_context(|| format!("TLS_KEY_FILE: {} does not fit {}", key.display(), certificate.display()))
}
