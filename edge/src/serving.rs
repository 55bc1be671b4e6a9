//! What the node serves over HTTPS: its health, and the local API with the facility's own FHIR.
use crate::{
    beds, context::Shared, control, deliveries, error::EdgeError, facility::Facility, fhir,
    view_api,
};
use federation::tls::ReloadingTls;
use node::{
    https, listeners, problem,
    task::{Kind, Tasks},
};
use std::{net::SocketAddr, sync::Arc};
use tokio_util::sync::CancellationToken;

/// HTTPS with the node's health and the local API of beds and view, and its FHIR: where it listens.
pub(crate) async fn serve_https(
    tasks: &mut Tasks,
    shared: &Arc<Shared>,
    tls: &ReloadingTls,
    stop: CancellationToken,
) -> Result<SocketAddr, EdgeError> {
    let listen = shared.config.https.listen;
    let bound = |source| EdgeError::Listen(listen, source);
    let listener = listeners::bind(listen).await.map_err(bound)?;
    let https = listener.local_addr().map_err(bound)?;
    let token = beds::token(&shared.config.data_dir, store::system_entropy)?;
    let facility = Facility {
        store: shared.store.clone(),
        monitor: shared.monitor.clone(),
        changes: shared.changes.clone(),
    };
    let more = control::api::router(shared.store.clone(), shared.control.clone());
    let more = more.merge(deliveries::router(
        shared.store.clone(),
        shared.blobs.clone(),
    ));
    let (guard, here) = (shared.guard.clone(), shared.here.clone());
    let api = beds::router(facility, guard, here, &token, (view_api::routes(), more));
    let fhir = fhir::start(tasks, shared, https, token.reveal()).await?;
    let app = shared.health.router().merge(problem::worded(api));
    let app = app.merge(fhir).fallback(problem::no_such_path);
    let server = tls.server_https()?;
    let serve = https::serve(listener, server, app, None, stop);
    tasks.spawn("https", Kind::Critical, serve);
    Ok(https)
}
