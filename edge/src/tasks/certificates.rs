//! The certificates' files, read again when they change, and the node's next certificate, in time.
use crate::{
    context::{Shared, real_time},
    error::EdgeError,
};
use federation::{link::renew::Renewing, pki::load_signing_key, tls::ReloadingTls};
use std::{future::Future, sync::Arc};
use tokio_util::sync::CancellationToken;

/// The region's authority, as the node asks it.
pub(crate) fn region(shared: &Shared, tls: &Arc<ReloadingTls>) -> Result<Renewing, EdgeError> {
    let config = &shared.config;
    Ok(Renewing {
        urls: config.uplink.url.all(),
        there: config.above(),
        tls: tls.clone(),
        cert: config.tls.cert.clone(),
        key: config.tls.key.clone(),
        signing: load_signing_key(&config.tls.signing_key)?,
        turn: shared.turn.clone(),
    })
}

/// Looks at the files, and gets the next certificate from the region before this one ends, until stopped.
pub(crate) fn certificates(
    shared: &Shared,
    tls: &Arc<ReloadingTls>,
    stop: CancellationToken,
) -> Result<impl Future<Output = Result<(), EdgeError>> + Send + use<>, EdgeError> {
    let renewing = region(shared, tls)?;
    let (now, tls) = (real_time(&shared.guard), tls.clone());
    Ok(async move {
        tokio::join!(tls.watch(stop.clone()), renewing.keep(now, stop));
        Ok(())
    })
}
