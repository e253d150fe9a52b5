//! Reads the files for TLS connections to a server.

use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

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
pub(super) fn no_key(url: &Url) -> Error {
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
