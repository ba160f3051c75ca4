//! TLS before a server that speaks none, and the certificates for that.
//!
//! Called by tests. It takes TLS off and hands bytes on; it must not know what they mean.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A private CA that nobody knows.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate in PEM.
    pub certificate: String,
}

/// A certificate for servers and clients.
#[derive(Clone)]
pub struct Certificate {
    /// The certificate in PEM.
    pub certificate: String,
    /// Its key in PEM.
    pub key: String,
}

impl Authority {
    /// A new one.
    ///
    /// # Errors
    ///
    /// When no key can be made.
    pub fn new() -> anyhow::Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self {
            issuer: Issuer::new(params, key),
            certificate,
        })
    }

    /// Issues a certificate for `localhost` and 127.0.0.1.
    ///
    /// # Errors
    ///
    /// When no key can be made.
    pub fn issue(&self) -> anyhow::Result<Certificate> {
        self.issue_for(&["localhost", "127.0.0.1"])
    }

    /// Issues a certificate for these names.
    ///
    /// # Errors
    ///
    /// When no key can be made, or one of them can be no name.
    pub fn issue_for(&self, names: &[&str]) -> anyhow::Result<Certificate> {
        let key = KeyPair::generate()?;
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = CertificateParams::new(names)?.signed_by(&key, &self.issuer)?;
        Ok(Certificate {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

/// A listener with TLS. Dropping it closes it and its connections.
pub struct TlsFront {
    address: SocketAddr,
    _accepting: JoinSet<()>,
}

impl TlsFront {
    /// Listens on a free port of 127.0.0.1 for what is to go to `target`.
    ///
    /// # Errors
    ///
    /// When the certificate cannot be used, or there is no free port.
    pub async fn start(certificate: &Certificate, target: SocketAddr) -> anyhow::Result<Self> {
        let chain = CertificateDer::from_pem_slice(certificate.certificate.as_bytes()).context("no certificate")?;
        let key = PrivateKeyDer::from_pem_slice(certificate.key.as_bytes()).context("no key")?;
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![chain], key)?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(hand_on(acceptor.clone(), stream, target));
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self {
            address,
            _accepting: accepting,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port of [`address`](Self::address).
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }
}

/// How a connection ends is the business of those who talk.
async fn hand_on(acceptor: TlsAcceptor, stream: TcpStream, target: SocketAddr) {
    let (Ok(mut stream), Ok(mut target)) = (acceptor.accept(stream).await, TcpStream::connect(target).await) else {
        return;
    };
    let _ = copy_bidirectional(&mut stream, &mut target).await;
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Certificate").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for TlsFront {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "TlsFront({})", self.address)
    }
}
