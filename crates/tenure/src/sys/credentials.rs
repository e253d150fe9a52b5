//! Files with a server's credentials: certificates, keys, a password file.

use std::io;
use std::path::Path;

/// The variable with the user's name, where the target names none.
#[cfg(feature = "postgres")]
pub(crate) const USER_VARIABLE: &str = if cfg!(windows) { "USERNAME" } else { "USER" };

/// The variable with the folder of [`PASSWORD_FILE`].
#[cfg(feature = "postgres")]
pub(crate) const SETTINGS_VARIABLE: &str = if cfg!(windows) { "APPDATA" } else { "HOME" };

/// PostgreSQL's password file, in the folder where its own clients look for it.
#[cfg(feature = "postgres")]
pub(crate) const PASSWORD_FILE: &str = if cfg!(windows) { "postgresql/pgpass.conf" } else { ".pgpass" };

/// Reads a whole file, following links, because the caller named it (`open(2)`, `read(2)`).
pub(crate) fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    std::fs::read(path)
}

/// Returns whether other users than the owner have rights to the file (`stat(2)`).
#[cfg(all(unix, feature = "postgres"))]
pub(crate) fn others_may_read(path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::PermissionsExt;
    Ok(std::fs::metadata(path)?.permissions().mode() & 0o077 != 0)
}

/// Returns `false` for a file that exists. Rights are not checked where they are no mode, such as on Windows, as by libpq.
#[cfg(all(not(unix), feature = "postgres"))]
pub(crate) fn others_may_read(path: &Path) -> io::Result<bool> {
    std::fs::metadata(path).map(|_| false)
}
