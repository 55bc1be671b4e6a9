//! What the node serves over HTTPS: its health, and the local API with the facility's own FHIR.
use crate::{
    beds,
    context::{Shared, real_time},
    control, deliveries,
    enrolment::{Enrolment, Parts},
    error::EdgeError,
    facility::Facility,
    fhir, tasks, view_api,
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
    running: &mut Tasks,
    shared: &Arc<Shared>,
    tls: &Arc<ReloadingTls>,
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
    let devices = shared.config.devices.iter().map(|it| it.id.clone());
    let parts = Parts {
        here: shared.here.clone(),
        store: shared.store.clone(),
        ca: shared.config.tls.ca.clone(),
        region: tasks::region(shared, tls)?,
        now: real_time(&shared.guard),
        entropy: store::system_entropy,
    };
    let enrolment = Enrolment::new(parts, devices);
    let more = more.merge(enrolment.inviting());
    let (guard, here) = (shared.guard.clone(), shared.here.clone());
    let api = beds::router(facility, guard, here, &token, (view_api::routes(), more));
    let fhir = fhir::start(running, shared, https, token.reveal()).await?;
    let app = shared.health.router().merge(problem::worded(api));
    let app = app.merge(fhir).merge(enrolment.door());
    let app = fhir::worded(app.fallback(problem::no_such_path));
    let server = tls.server_https()?;
    let serve = https::serve(listener, server, app, None, stop);
    running.spawn("https", Kind::Critical, serve);
    Ok(https)
}
