//! The engine of a region's FHIR store, as an operator asks after it.
use crate::config::FhirStore;
pub use fhir::postgres::Report;
use std::{error::Error as _, fs, path::Path};

/// What a PostgreSQL says of itself; none for a file.
///
/// # Errors
/// Why it cannot be asked, without the connection string.
pub async fn examine(store: &FhirStore) -> Result<Option<Report>, String> {
    let FhirStore::Postgres { url_file, ca } = store else {
        return Ok(None);
    };
    let failed = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    let url = fs::read_to_string(url_file).map_err(|error| failed(url_file, error))?;
    let authority = match ca {
        Some(ca) => Some(fs::read(ca).map_err(|error| failed(ca, error))?),
        None => None,
    };
    let report = fhir::postgres::examine(url.trim(), authority.as_deref()).await;
    report.map(Some).map_err(|error| {
        let cause = error.source().map(ToString::to_string);
        format!(
            "{error}: {}",
            cause.unwrap_or_else(|| "no answer".to_owned())
        )
    })
}
