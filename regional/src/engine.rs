//! The engine of a region's FHIR store, as an operator asks after it.
use crate::{config::FhirStore, error::RegionalError};
pub use fhir::postgres::{Replication, Report, TIMELINE_FILE, Worked};
use fhir::{postgres::Newest, store::StoreError};
use std::{error::Error as _, fs, path::Path};
use types::Secret;

/// How a server is reached: the connection string, and the authority's certificates (PEM).
type Reached = (Secret<String>, Option<Vec<u8>>);

/// How the server of a store is reached; none for a file.
pub(crate) fn connection(store: &FhirStore) -> Result<Option<Reached>, RegionalError> {
    let FhirStore::Postgres { url_file, ca } = store else {
        return Ok(None);
    };
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| RegionalError::UrlFile { path, source }
    };
    let text = fs::read_to_string(url_file).map_err(failed(url_file))?;
    let text = Secret::new(text);
    let url = Secret::new(text.reveal().trim().to_owned());
    let authority = ca.as_deref().map(|ca| fs::read(ca).map_err(failed(ca)));
    Ok(Some((url, authority.transpose()?)))
}

/// A server's host and port, and what it says of itself, or why it cannot be asked.
pub type Examined = (String, Result<Report, String>);

/// What the servers of a PostgreSQL say of themselves; none for a file.
///
/// # Errors
/// Why they cannot be asked, without the connection string.
pub async fn examine(store: &FhirStore) -> Result<Vec<Examined>, String> {
    let Some((url, authority)) = connection(store).map_err(|error| error.to_string())? else {
        return Ok(Vec::new());
    };
    let asked = fhir::postgres::examine(url.reveal(), authority.as_deref()).await;
    let all = asked.map_err(|error| said(&error))?.into_iter();
    Ok(all
        .map(|one| (one.server, one.answer.map_err(|error| said(&error))))
        .collect())
}

/// The newest timeline on which the node of a data directory has worked with its PostgreSQL, if it has with one of several.
///
/// # Errors
/// Why its file cannot be read.
pub fn worked(data_dir: &Path) -> Result<Option<Worked>, String> {
    let newest = Newest::of(data_dir).map_err(|error| said(&error))?;
    Ok(newest.worked())
}

fn said(error: &StoreError) -> String {
    let cause = error.source().map(ToString::to_string);
    let cause = cause.unwrap_or_else(|| "no answer".to_owned());
    format!("{error}: {cause}")
}
