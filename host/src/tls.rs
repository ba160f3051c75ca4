//! How TLS connections are made: which certificates are trusted, and by which library.
//!
//! Used by everything that connects to a server: the clients of the Keptn API and of the identity provider, the API
//! proxy, delivery, NATS. It knows none of them. Root certificates are read at the first handshake, because most
//! sidecars never make one and need not carry them in memory.

use std::error::Error as StdError;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme};
use tokio::time::Instant;

/// Root certificates are read again this long after they were read, when one of them is missing: the file may have been
/// replaced.
const ROOTS_ARE_NEW_FOR: Duration = Duration::from_secs(10);

/// Whether servers have to prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// By a certificate of an authority that the system knows (`SSL_CERT_FILE` and `SSL_CERT_DIR` name others).
    System,
    /// They need not.
    Anybody,
}

/// Why a server is not trusted.
#[derive(Debug, thiserror::Error)]
enum Distrust {
    #[error(
        "no root certificates were found to verify the server's with{0}; the image needs a CA bundle, or SSL_CERT_FILE \
         the name of one"
    )]
    NoRoots(String),
    #[error(
        "the issuer of the server's certificate is unknown; SSL_CERT_FILE can name a file with the certificate of a \
         private CA, and over HTTP HTTP_SSL_VERIFY=false trusts anybody"
    )]
    UnknownIssuer,
}

impl Trust {
    /// What `HTTP_SSL_VERIFY` means.
    pub fn verifying(verify_certificates: bool) -> Self {
        if verify_certificates {
            Self::System
        } else {
            Self::Anybody
        }
    }
}

/// Settings of a client that shows no certificate of its own.
///
/// # Panics
/// Never: the provider has what the versions need.
pub fn client_config(trust: Trust) -> ClientConfig {
    builder(trust).with_no_client_auth()
}

/// Settings of a client that shows a certificate of its own where it is asked for one.
///
/// # Panics
/// Never: as [`client_config`].
pub fn client_config_showing(certificate: ClientCertificate, trust: Trust) -> ClientConfig {
    builder(trust).with_client_cert_resolver(Arc::new(certificate))
}

/// Files with the certificate of a client and its key. They are read for each handshake, so that they may be replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// A chain in PEM.
    pub certificate: PathBuf,
    /// A key in PEM.
    pub key: PathBuf,
}

impl ClientCertificate {
    /// Reads both.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn read(&self) -> Result<CertifiedKey, String> {
        let (certificate, key) = (&self.certificate, &self.key);
        let of_certificate = |error| format!("cannot read {}: {error}", certificate.display());
        let chain = CertificateDer::pem_file_iter(certificate).map_err(of_certificate)?;
        let chain: Vec<_> = chain.collect::<Result<_, _>>().map_err(of_certificate)?;
        let private =
            PrivateKeyDer::from_pem_file(key).map_err(|error| format!("cannot read {}: {error}", key.display()))?;
        CertifiedKey::from_der(chain, private, &ring::default_provider())
            .map_err(|error| format!("{} and {}: {error}", certificate.display(), key.display()))
    }
}

impl ResolvesClientCert for ClientCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        match self.read() {
            Ok(certified) => Some(Arc::new(certified)),
            Err(error) => {
                tracing::warn!(error, "there is no client certificate to show");
                None
            }
        }
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Puts TLS onto the connections to `https`, and none onto those to `http`.
pub fn connector<C>(connector: C, trust: Trust) -> HttpsConnector<C> {
    HttpsConnectorBuilder::new()
        .with_tls_config(client_config(trust))
        .https_or_http()
        .enable_http1()
        .wrap_connector(connector)
}

fn builder(trust: Trust) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    let provider = Arc::new(ring::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match trust {
        Trust::System => Arc::new(SystemRoots {
            provider: Arc::clone(&provider),
            read: Mutex::default(),
        }),
        Trust::Anybody => Arc::new(NoRoots(Arc::clone(&provider))),
    };
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has the cipher suites of TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
}

/// Trusts who has a certificate of the system's authorities.
#[derive(Debug)]
struct SystemRoots {
    provider: Arc<CryptoProvider>,
    read: Mutex<Option<Read>>,
}

#[derive(Debug, Clone)]
struct Read {
    verifier: Arc<WebPkiServerVerifier>,
    at: Instant,
}

impl SystemRoots {
    fn read(&self) -> Result<Read, Distrust> {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        // One that cannot be parsed is no reason to trust nobody.
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let error = found.errors.first().map(|error| format!(" ({error})"));
            return Err(Distrust::NoRoots(error.unwrap_or_default()));
        }
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
            .build()
            .map_err(|error| Distrust::NoRoots(format!(" ({error})")))?;
        Ok(Read {
            verifier,
            at: Instant::now(),
        })
    }

    /// What was read before, or else now; what is older than `max_age` is read again.
    fn roots(&self, max_age: Duration) -> Result<Arc<WebPkiServerVerifier>, Distrust> {
        let mut last = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(read) = last.as_ref().filter(|read| read.at.elapsed() <= max_age) {
            return Ok(Arc::clone(&read.verifier));
        }
        let read = self.read()?;
        Ok(Arc::clone(&last.insert(read).verifier))
    }
}

impl ServerCertVerifier for SystemRoots {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verify = |max_age| {
            let roots = self.roots(max_age).map_err(refused)?;
            roots.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        };
        match verify(Duration::MAX) {
            Err(error) if is_issuer_unknown(&error) => verify(ROOTS_ARE_NEW_FOR).map_err(|error| {
                if is_issuer_unknown(&error) {
                    refused(Distrust::UnknownIssuer)
                } else {
                    error
                }
            }),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn refused(why: Distrust) -> rustls::Error {
    let why: Arc<dyn StdError + Send + Sync> = Arc::new(why);
    rustls::Error::Other(OtherError(why))
}

/// Nobody known has signed it; or one who is known by another key.
fn is_issuer_unknown(error: &rustls::Error) -> bool {
    matches!(
        error,
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)
    )
}

/// Takes whatever a server shows: `HTTP_SSL_VERIFY=false`.
#[derive(Debug)]
struct NoRoots(Arc<CryptoProvider>);

impl ServerCertVerifier for NoRoots {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
