//! TLS of the clients: whom they trust. Every handshake is a whole one: nothing is resumed, so that the figures are those of new clients.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

/// What handshakes are made with.
#[derive(Clone)]
pub struct Trust {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Trust {
    /// For a server of this name, whose certificate is vouched for by those in the file, or by the system's.
    pub fn new(host: &str, authorities: Option<&Path>) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        match authorities {
            Some(file) => {
                let unreadable = || format!("cannot read certificates from {}", file.display());
                for certificate in CertificateDer::pem_file_iter(file).with_context(unreadable)? {
                    roots.add(certificate.with_context(unreadable)?).with_context(unreadable)?;
                }
                ensure!(!roots.is_empty(), "there is no certificate in {}", file.display());
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                ensure!(!roots.is_empty(), "the system has no certificate authorities: name a file with --ca");
            }
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("TLS has no usable version")?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::disabled();
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(bare).with_context(|| format!("`{host}` is no name for a certificate"))?;
        Ok(Self { config: Arc::new(config), name })
    }

    /// A handshake's beginning.
    pub fn begin(&self) -> std::io::Result<Box<ClientConnection>> {
        let mut session =
            ClientConnection::new(self.config.clone(), self.name.clone()).map_err(std::io::Error::other)?;
        // The bound of what may be unsent is the link's own.
        session.set_buffer_limit(None);
        Ok(Box::new(session))
    }
}
