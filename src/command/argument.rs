//! What arguments of commands name, and which of them an error is about.
use anyhow::{Context, Result, anyhow, ensure};
use federation::pki::PkiError;
use std::{fs::File, io::Read, path::Path};

/// More than a certificate, a request or a record of a patient has.
const MOST_BYTES: usize = 1 << 20;

/// The text of a file, or of a pipe, that a person names. Of a device, which has no end, no more is read than one may have.
pub(super) fn text_of(path: &Path) -> Result<String> {
    let at = || path.display().to_string();
    text(File::open(path).with_context(at)?).with_context(at)
}

/// As [`text_of`], of what is open.
pub(super) fn text(from: impl Read) -> Result<String> {
    let mut text = String::new();
    from.take(MOST_BYTES as u64 + 1).read_to_string(&mut text)?;
    ensure!(text.len() <= MOST_BYTES, "is larger than 1 MiB");
    Ok(text)
}

/// An invitation that is refused, with the argument that is the reason.
pub(super) fn by_argument(error: PkiError) -> anyhow::Error {
    match &error {
        PkiError::InvitationTime => anyhow!("--ttl: {error}"),
        PkiError::HostName(_) => anyhow!("--name: {error}"),
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_read_than_a_text_may_have() {
        let most = "x".repeat(MOST_BYTES);
        assert_eq!(text(most.as_bytes()).unwrap(), most);
        let error = text_of(Path::new("/dev/zero")).unwrap_err();
        assert_eq!(format!("{error:#}"), "/dev/zero: is larger than 1 MiB");
    }
}
