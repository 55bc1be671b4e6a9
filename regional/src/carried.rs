//! What a region has in files that are no tables, and what is carried by them.
use crate::{
    config::RegionalConfig, deliveries::Deliveries, error::RegionalError, learning::Learning,
    served,
};
use federation::{blobs::Blobs, ledger::Ledger};
use fhir::rest::Bulk;
use std::{io, sync::Arc};
use storage::chunks::Chunks;

/// The blobs beside the ledger, and the files of bulk data; in chunks elsewhere too, where two nodes are.
///
/// # Errors
/// Their folders cannot be used, or what is kept elsewhere cannot be read or written.
pub(crate) async fn open_files(
    config: &RegionalConfig,
    ledger: &Ledger,
    chunks: Option<Arc<dyn Chunks>>,
) -> Result<(Arc<Blobs<Ledger>>, Arc<Bulk>), RegionalError> {
    let (ledger, dir) = (ledger.clone(), config.data_dir.clone());
    let opening = tokio::task::spawn_blocking(move || {
        let blobs = ledger.blobs_kept(&dir, chunks.clone())?;
        Ok((blobs, served::open_bulk(&dir, chunks)?))
    });
    let opened = opening
        .await
        .unwrap_or_else(|panic| Err(io::Error::other(panic)));
    opened.map_err(RegionalError::DataDir)
}

/// What goes by blobs: files on their way down, and studies.
///
/// # Errors
/// By what the ledger says.
pub(crate) async fn open_carried(
    ledger: &Ledger,
    blobs: &Arc<Blobs<Ledger>>,
) -> Result<(Deliveries, Learning), RegionalError> {
    let deliveries = Deliveries::open(ledger.clone(), blobs.clone(), rand::random).await?;
    let learning = Learning::open(ledger.clone(), blobs.clone()).await?;
    Ok((deliveries, learning))
}
