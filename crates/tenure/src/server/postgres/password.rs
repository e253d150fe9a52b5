//! Finds the password: in `PGPASSWORD`, or else in a password file, as every PostgreSQL client does.
//!
//! A line of `~/.pgpass` is `host:port:database:user:password`. `*` stands for anything, `\:` and `\\` for `:` and `\`,
//! the first line that matches counts. A file that other users may read is ignored, as by libpq. On Windows the file is
//! `%APPDATA%\postgresql\pgpass.conf`, whose rights are not checked, as by libpq.

use std::path::PathBuf;

use crate::sys;

/// The server, database and user of a connection.
pub(super) struct Whereto<'a> {
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) database: &'a str,
    pub(super) user: &'a str,
}

/// Returns the password for a connection, if there is one.
pub(super) fn find(whereto: &Whereto<'_>) -> Option<String> {
    if let Some(password) = std::env::var("PGPASSWORD").ok().filter(|password| !password.is_empty()) {
        return Some(password);
    }
    let file = match std::env::var_os("PGPASSFILE") {
        Some(file) => PathBuf::from(file),
        None => PathBuf::from(std::env::var_os(sys::SETTINGS_VARIABLE)?).join(sys::PASSWORD_FILE),
    };
    if sys::others_may_read(&file).ok()? {
        return None;
    }
    let text = String::from_utf8(sys::read_file(&file).ok()?).ok()?;
    text.lines().find_map(|line| of_line(line, whereto))
}

fn of_line(line: &str, whereto: &Whereto<'_>) -> Option<String> {
    if line.starts_with('#') {
        return None;
    }
    let port = whereto.port.to_string();
    let mut rest = line;
    for wanted in [whereto.host, &port, whereto.database, whereto.user] {
        let (field, after) = field(rest)?;
        if field != wanted && &rest[..rest.len() - after.len() - 1] != "*" {
            return None;
        }
        rest = after;
    }
    // The password is the rest of the line with its colons, but without its escapes.
    Some(unescape(rest))
}

/// Returns the first field without its escapes, and the rest after the colon.
fn field(line: &str) -> Option<(String, &str)> {
    let mut escaped = false;
    let end = line.find(|c| {
        let ends = c == ':' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    })?;
    Some((unescape(&line[..end]), &line[end + 1..]))
}

fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.push(if c == '\\' { chars.next().unwrap_or(c) } else { c });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find_in(text: &str) -> Option<String> {
        let whereto = Whereto { host: "db", port: 5432, database: "pr:od", user: "app" };
        text.lines().find_map(|line| of_line(line, &whereto))
    }

    #[test]
    fn the_first_line_that_fits_counts() {
        assert_eq!(find_in("db:5432:pr\\:od:app:one\n*:*:*:*:two").as_deref(), Some("one"));
        assert_eq!(find_in("other:5432:pr\\:od:app:one\n*:*:*:*:two").as_deref(), Some("two"));
        assert_eq!(find_in("#db:5432:pr\\:od:app:one"), None);
        assert_eq!(find_in("db:5433:*:*:one\ndb:*:*:other:two\n"), None);
        assert_eq!(find_in("db:5432\n\n:::"), None);
    }

    #[test]
    fn escapes_and_colons() {
        assert_eq!(find_in("*:*:*:*:a\\:b\\\\c").as_deref(), Some("a:b\\c"));
        assert_eq!(find_in("*:*:*:*:a:b").as_deref(), Some("a:b"));
        assert_eq!(find_in("\\*:*:*:*:a"), None, "an escaped star is a name");
    }
}
