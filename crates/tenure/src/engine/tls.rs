//! The files that make a connection to a server secret.

use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::url::Url;
use crate::error::{Error, Kind, Result};

/// What `ca=`, `cert=` and `key=` name, read.
pub(super) struct Identity {
    pub(super) roots: Vec<CertificateDer<'static>>,
    /// Our own certificate, with those that vouch for it, and the text of its key.
    pub(super) own: Option<(Vec<CertificateDer<'static>>, Vec<u8>)>,
}

/// `None` where the target names no `ca=`: no TLS then.
pub(super) fn read(url: &Url) -> Result<Option<Identity>> {
    let Some(ca) = &url.tls.ca else { return Ok(None) };
    let roots = certificates(url, ca)?;
    let own = match &url.tls.certificate {
        Some((certificate, key)) => Some((certificates(url, certificate)?, bytes(url, key)?)),
        None => None,
    };
    Ok(Some(Identity { roots, own }))
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
        .map_err(|error| Error::io(&url.target, format!("{} cannot be read", crate::escape::path(path)), error))
}

/// The file of the key holds none.
pub(super) fn no_key(url: &Url) -> Error {
    let path = url.tls.certificate.as_ref().map_or(Path::new(""), |(_, key)| key);
    bad(url, path, "no private key")
}

fn bad(url: &Url, path: &Path, what: &str) -> Error {
    Error::new(Kind::InvalidTarget, &url.target, format!("there is {what} in {} (PEM)", crate::escape::path(path)))
}
