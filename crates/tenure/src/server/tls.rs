//! The files and the settings of TLS connections to a server.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::url::Url;
use crate::model::error::{Error, ErrorKind, Result};

/// The contents of the files that `ca=`, `cert=` and `key=` name.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) roots: Vec<CertificateDer<'static>>,
    /// The client's certificate with its chain, and the text of its key.
    pub(super) own: Option<(Vec<CertificateDer<'static>>, Vec<u8>)>,
}

/// Reads the files of a target; `None` where it names no `ca=` and so uses no TLS.
pub(super) fn read(url: &Url) -> Result<Option<Identity>> {
    let Some(ca) = &url.tls.ca else { return Ok(None) };
    let roots = certificates(url, ca)?;
    let own = match &url.tls.certificate {
        Some((certificate, key)) => Some((certificates(url, certificate)?, bytes(url, key)?)),
        None => None,
    };
    Ok(Some(Identity { roots, own }))
}

/// Returns the settings of TLS for these files.
pub(super) fn config(url: &Url, identity: &Identity) -> Result<ClientConfig> {
    let unusable = |what: &str, error: rustls::Error| {
        Error::new(ErrorKind::InvalidTarget, &url.target, format!("{what} cannot be used: {error}"))
    };
    let mut roots = RootCertStore::empty();
    for root in &identity.roots {
        roots.add(root.clone()).map_err(|error| unusable("the certificate of ca=", error))?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable("TLS", error))?
        .with_root_certificates(roots);
    match &identity.own {
        None => Ok(config.with_no_client_auth()),
        Some((chain, key)) => {
            let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| no_key(url))?;
            let config = config.with_client_auth_cert(chain.clone(), key);
            config.map_err(|error| unusable("the certificate of cert= with the key of key=", error))
        }
    }
}

fn certificates(url: &Url, path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let bytes = bytes(url, path)?;
    let found: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(bad(url, path, "no certificate")),
    }
}

fn bytes(url: &Url, path: &Path) -> Result<Vec<u8>> {
    crate::sys::read_file(path)
        .map_err(|error| Error::io(&url.target, format!("{} cannot be read", crate::util::text::path(path)), error))
}

/// Returns advice for an error of the TLS library, in plain words.
pub(super) fn hint(error: &str) -> Option<&'static str> {
    if error.contains("Too many open files") {
        Some("this process has as many files open as it may: `ulimit -n`")
    } else if error.contains("CaUsedAsEndEntity") {
        Some(
            "the server's certificate is an authority's: as the server's own it needs `basicConstraints=CA:FALSE` and a \
             `subjectAltName`, or one that an authority has signed",
        )
    } else if error.contains("UnsupportedCertVersion") {
        Some("the server's certificate is of version 1: `openssl x509 -req` makes version 3 with `-extfile`")
    } else if error.contains("NotValidForName") {
        Some("the server's certificate needs the host of the target in its `subjectAltName`")
    } else if error.contains("UnknownIssuer") {
        Some("the server's certificate is signed by another authority than that of `ca=`")
    } else if error.contains("Expired") {
        Some("the server's certificate has run out")
    } else {
        None
    }
}

/// Returns the error of a key file without a key.
fn no_key(url: &Url) -> Error {
    let path = url.tls.certificate.as_ref().map_or(Path::new(""), |(_, key)| key);
    bad(url, path, "no private key")
}

fn bad(url: &Url, path: &Path, what: &str) -> Error {
    Error::new(
        ErrorKind::InvalidTarget,
        &url.target,
        format!("there is {what} in {} (PEM)", crate::util::text::path(path)),
    )
}

#[cfg(test)]
mod tests {
    use super::hint;

    #[test]
    fn the_library_s_words_are_put_into_plain_ones() {
        let said = "error performing TLS handshake: invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))";
        assert!(hint(said).unwrap().contains("CA:FALSE"));
        assert!(hint("invalid peer certificate: UnsupportedCertVersion").unwrap().contains("version 3"));
        assert!(hint("http://a: io: Too many open files (os error 24)").unwrap().contains("ulimit"));
        assert_eq!(hint("connection refused"), None);
    }
}
