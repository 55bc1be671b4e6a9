//! A region's PostgreSQL in a backup: taken with `pg_dump`, when that is there.
use anyhow::{Context, Result, bail};
use regional::config::FhirStore;
use std::{fs, path::Path, process::Command};
use types::Secret;

/// Writes a dump of the engine's database.
///
/// # Errors
/// There is no `pg_dump`, or it fails; what it says is part of the error.
pub fn dump(store: &FhirStore, to: &Path) -> Result<()> {
    let FhirStore::Postgres { url_file, ca } = store else {
        return Ok(());
    };
    let url = fs::read_to_string(url_file).with_context(|| url_file.display().to_string())?;
    let url = Secret::new(url);
    let (url, password) = without_password(url.reveal().trim());
    let mut command = Command::new("pg_dump");
    command
        .args(["--format=custom", "--no-password", "--file"])
        .arg(to);
    command.arg("--dbname").arg(url);
    if let Some(password) = password {
        command.env("PGPASSWORD", password.reveal());
    }
    if let Some(ca) = ca {
        command.env("PGSSLROOTCERT", ca);
    }
    let ran = match command.output() {
        Ok(ran) => ran,
        Err(error) => bail!(
            "pg_dump cannot be started ({error}): install postgresql-client, or say --files-only and back up the \
             database by your own means"
        ),
    };
    if !ran.status.success() {
        let said = String::from_utf8_lossy(&ran.stderr);
        bail!("pg_dump: {}", said.lines().next().unwrap_or("failed"));
    }
    Ok(())
}

/// A connection string without its password, which would be seen in the list of processes; and the password.
fn without_password(url: &str) -> (String, Option<Secret<String>>) {
    if let Some((scheme, rest)) = url.split_once("://") {
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, behind) = rest.split_at(end);
        let Some((user, host)) = authority.rsplit_once('@') else {
            return (url.to_owned(), None);
        };
        let Some((user, password)) = user.split_once(':') else {
            return (url.to_owned(), None);
        };
        return (
            format!("{scheme}://{user}@{host}{behind}"),
            Some(Secret::new(unescaped(password))),
        );
    }
    let is_password = |word: &&str| word.starts_with("password=");
    let password = url.split_whitespace().find(is_password);
    let rest: Vec<_> = url
        .split_whitespace()
        .filter(|word| !is_password(word))
        .collect();
    let password = password.and_then(|word| word.split_once('='));
    (
        rest.join(" "),
        password.map(|(_, text)| Secret::new(text.trim_matches('\'').to_owned())),
    )
}

/// Percent-decodes (RFC 3986 §2.1); what is no code stays.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let code = behind
            .get(..2)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let code = code.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (first, code) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            _ => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_an_argument() {
        for (url, expected, password) in [
            (
                "postgres://m:s%40c@h:1/x?sslmode=a",
                "postgres://m@h:1/x?sslmode=a",
                Some("s@c"),
            ),
            ("postgres://m@h/x", "postgres://m@h/x", None),
            ("postgres:///x", "postgres:///x", None),
            ("host=h password='abc' user=m", "host=h user=m", Some("abc")),
            ("host=h user=m", "host=h user=m", None),
        ] {
            let (without, found) = without_password(url);
            assert_eq!(without, expected);
            assert_eq!(found.as_ref().map(|it| &it.reveal()[..]), password, "{url}");
        }
    }
}
