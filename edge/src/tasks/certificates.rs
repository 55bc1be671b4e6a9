//! The certificates' files, read again when they change.
use crate::error::EdgeError;
use federation::tls::ReloadingTls;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Looks at the files until stopped.
pub(crate) async fn certificates(
    tls: Arc<ReloadingTls>,
    stop: CancellationToken,
) -> Result<(), EdgeError> {
    tls.watch(stop).await;
    Ok(())
}
