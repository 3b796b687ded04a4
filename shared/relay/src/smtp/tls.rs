//! The certificate of a listener, which can be replaced while it serves.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// Why a certificate and its key are not usable.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file of certificates.
    #[error("the certificates are not PEM")]
    Certificates(#[source] rustls::pki_types::pem::Error),
    /// No certificate in the file.
    #[error("there is no certificate in the file")]
    NoCertificate,
    /// The file of the key.
    #[error("the private key is not PEM")]
    Key(#[source] rustls::pki_types::pem::Error),
    /// Both were read, and do not fit.
    #[error("the certificate and the private key are not usable")]
    Unusable(#[from] rustls::Error),
}

/// A certificate with its key. New connections get the one that was set last, so a renewed certificate needs no restart.
#[derive(Debug)]
pub struct Certificate {
    current: RwLock<Arc<CertifiedKey>>,
}

impl Certificate {
    /// Reads a chain of certificates, the own one first, and its key.
    ///
    /// # Errors
    /// [`TlsError`] for text that is not PEM, and for a key that does not fit the certificate.
    pub fn from_pem(certificates: &[u8], key: &[u8]) -> Result<Arc<Self>, TlsError> {
        Ok(Arc::new(Self { current: RwLock::new(read(certificates, key)?) }))
    }

    /// Reads another, and uses it from now on.
    ///
    /// # Errors
    /// [`TlsError`] as above; then the one before stays.
    pub fn replace(&self, certificates: &[u8], key: &[u8]) -> Result<(), TlsError> {
        let new = read(certificates, key)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// The TLS of a listener with this certificate: TLS 1.2 and 1.3, without client certificates.
    ///
    /// # Errors
    /// [`TlsError::Unusable`] if rustls has been built without these versions.
    pub fn server_config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, TlsError> {
        // Named, because a program may have two providers of cryptography, and then rustls picks none.
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// The TLS of a listener whose certificate is never replaced.
///
/// # Errors
/// [`TlsError`] as [`Certificate::from_pem`] has it.
pub fn tls_from_pem(certificates: &[u8], key: &[u8]) -> Result<Arc<ServerConfig>, TlsError> {
    Certificate::from_pem(certificates, key)?.server_config()
}

fn read(certificates: &[u8], key: &[u8]) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(certificates).collect::<Result<_, _>>().map_err(TlsError::Certificates)?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate);
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(TlsError::Key)?;
    // Fails if the key does not fit.
    Ok(Arc::new(CertifiedKey::from_der(chain, key, &default_provider())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn a_certificate_and_a_key_are_read_and_others_are_named() {
        let ((certificate, key), (_, other)) = (made(), made());
        let problem = |certificate: &str, key: &str| {
            tls_from_pem(certificate.as_bytes(), key.as_bytes()).err().map(|error| error.to_string())
        };
        assert_eq!(problem(&certificate, &key), None);
        assert_eq!(problem("", &key).unwrap(), "there is no certificate in the file");
        assert_eq!(problem("-----BEGIN CERTIFICATE-----\n!", &key).unwrap(), "the certificates are not PEM");
        assert_eq!(problem(&certificate, "").unwrap(), "the private key is not PEM");
        assert_eq!(problem(&certificate, &other).unwrap(), "the certificate and the private key are not usable");
    }

    #[test]
    fn a_certificate_is_replaced_by_one_that_is_usable_and_by_no_other() {
        let ((first, key), (second, second_key)) = (made(), made());
        let certificate = Certificate::from_pem(first.as_bytes(), key.as_bytes()).unwrap();
        let current = || certificate.current.read().unwrap().end_entity_cert().unwrap().to_vec();
        let before = current();
        certificate.replace(second.as_bytes(), key.as_bytes()).unwrap_err();
        assert_eq!(current(), before);
        certificate.replace(second.as_bytes(), second_key.as_bytes()).unwrap();
        assert_eq!(current(), *CertificateDer::from_pem_slice(second.as_bytes()).unwrap());
    }
}
