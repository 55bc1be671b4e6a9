//! Which argument of a command an error is about.
use anyhow::anyhow;
use federation::pki::PkiError;

/// An invitation that is refused, with the argument that is the reason.
pub(super) fn by_argument(error: PkiError) -> anyhow::Error {
    match &error {
        PkiError::InvitationTime => anyhow!("--ttl: {error}"),
        PkiError::HostName(_) => anyhow!("--name: {error}"),
        _ => error.into(),
    }
}
