//! The facility's own FHIR R4 server: the API of the crate `fhir` over the facility's identified data, for its own
//! programs, online or not.
//!
//! It stands on a copy of the store: a second file beside it, encrypted as the store is, which a task keeps up from the
//! store's feed ([`project`]). What comes in never waits for it. What programs write is in that file alone. It is no
//! source of anything that leaves: parcels are made of the store, by types that hold no resource, so that nothing of it
//! crosses (INV-66).
//!
//! A Consent that a program writes has the patient's choice about research in force before it is answered ([`consented`]).
//! Whoever asks shows a token of the facility ([`rights`]), and every access is written down before it is answered
//! ([`log`]).
mod consented;
mod log;
mod project;
mod resources;
mod rights;

use crate::{context::Shared, error::EdgeError};
use axum::Router;
use fhir::{
    admit::Holding,
    rest::{Authorize as _, FHIR_JSON, FhirApi, MAX_BUNDLE_BYTES, Vantages, may_be_long, unread},
    search::Seal,
    sqlite::SqliteStore,
    store::{ResourceStore, StoreError},
};
use log::InLog;
use node::{
    https,
    task::{Kind, Tasks},
};
use rights::Bearer;
use std::{convert::Infallible, net::SocketAddr, sync::Arc};
use store::clockguard::Time;
use store::{Store, system_entropy};

/// The name of the copy's file, beside the store.
pub const FILE: &str = "fhir.db";

const _: () = assert!(
    MAX_BUNDLE_BYTES <= https::MAX_LONG_BODY_BYTES,
    "the listener lets a Bundle through"
);

/// A request that no route sees is answered as FHIR answers every error.
pub(crate) fn worded(router: Router) -> https::App {
    https::App {
        router,
        unread: Some(https::Unread {
            content_type: FHIR_JSON,
            body: unread,
        }),
        long: may_be_long,
    }
}

/// Who is known by a token of the facility: the node's own, or that of a program of the file of rights.
pub(crate) fn clients(shared: &Shared, token: &str) -> https::Clients {
    let bearer = Bearer::new(token, shared.config.viewers().unwrap_or_default());
    https::Clients::new(move |headers| Some(bearer.known(headers).ok()?.0.into()))
}

/// Opens the copy of a store.
pub(crate) fn open(store: &Store) -> Result<SqliteStore, StoreError> {
    let (path, first) = store.copy_file(FILE);
    SqliteStore::open_after(&path, first)
}

/// Starts what keeps the copy up, and gives the routes. `https` is where the node listens, `token` that of its local API.
pub(crate) async fn start(
    tasks: &mut Tasks,
    shared: &Arc<Shared>,
    https: SocketAddr,
    token: &str,
) -> Result<Router, EdgeError> {
    let check = shared.health.optional("fhir");
    let log = Arc::new(InLog::of(shared));
    // A copy that is damaged stops no device of the facility: its choices are in the store.
    let (copy, mut projecting) = match begin(shared, &log).await {
        Ok(begun) => begun,
        Err(EdgeError::Fhir(error)) => {
            tracing::error!(%error, "the facility's own FHIR cannot be opened, and is not served");
            check.fail("not-opened");
            return Ok(Router::new());
        }
        Err(error) => return Err(error),
    };
    projecting.check = Some(check);
    let consented = projecting.consented();
    // Before any study asks for anything; what fails is tried again.
    if let Err(error) = consented.settle().await {
        tracing::warn!(%error, "choices about research are not kept yet");
    }
    let (ending, background) = (copy.clone(), Kind::Background);
    tasks.watch("fhir writer", async move { ending.ended().await });
    tasks.spawn("fhir", background, projecting.run(tasks.stop()));
    let base = format!("{}/fhir", shared.config.https.origin(https));
    reindex(tasks, (copy, base.clone()));
    let bearer = Bearer::new(token, shared.config.viewers().unwrap_or_default());
    let now = shared.guard.clone();
    Ok(api(&shared.store, consented, log, (base, bearer, now)).router())
}

/// Makes what the copy is searched by anew where a newer program has other rules for it.
fn reindex(tasks: &mut Tasks, (copy, base): (Arc<SqliteStore>, String)) {
    let stop = tasks.stop();
    let reindexing = async move {
        fhir::reindex::run(copy, base, stop.cancelled()).await;
        Ok::<(), Infallible>(())
    };
    tasks.spawn("fhir index", Kind::Background, reindexing);
}

/// The copy, and what keeps it up.
async fn begin(
    shared: &Shared,
    log: &Arc<InLog>,
) -> Result<(Arc<SqliteStore>, project::Projecting), EdgeError> {
    let copy = open(&shared.store).map_err(EdgeError::Fhir)?;
    let copy = Arc::new(copy);
    let projecting = project::Projecting::new(shared, copy.clone(), log.clone()).await?;
    // A region may have lost what it was told.
    shared.store.tell_choices_again().await?;
    Ok((copy, projecting))
}

fn api(
    store: &Store,
    copy: Arc<dyn ResourceStore>,
    log: Arc<InLog>,
    (base, bearer, now): (String, Bearer, Arc<dyn Time>),
) -> FhirApi {
    let draw = || {
        let mut bytes = [0; 16];
        system_entropy(&mut bytes);
        bytes
    };
    FhirApi {
        vantages: Vantages::new(copy.clone()),
        store: copy,
        authorize: Arc::new(bearer),
        access: log,
        base,
        other_bases: Arc::default(),
        token_url: None,
        now: Arc::new(move || now.now().real),
        // The facility's own data, as it is.
        true_times: Arc::new(|| true),
        seal: Seal::of_secret(store.secret(b"medmesh fhir pages, version 1").reveal()),
        holding: Arc::new(|| Holding::Identified),
        draw: Arc::new(draw),
        bulk: None,
        subscriptions: None,
    }
}

#[cfg(test)]
#[path = "fhir/tests.rs"]
mod tests;
