//! The next certificates of facilities that have joined, over their links, and the region's own: by the authority beside
//! the region, where there is one, and otherwise by the one beside the global node.
use crate::config::RegionalConfig;
use ed25519_dalek::SigningKey;
use federation::{
    ledger::Ledger,
    link::{Door, authority::Authority, renew::Renewing},
    tls::{ReloadingTls, TimeSource},
};
use node::{
    clock::Clock,
    task::{Kind, Tasks},
};
use std::{convert::Infallible, future::Future, sync::Arc};
use types::Place;

/// Reads the certificates' files again when they change, and has those of facilities, the region's own and the
/// revocation list renewed in time.
pub(crate) fn keep_certificates(
    config: &RegionalConfig,
    (clock, ledger): (Clock, &Ledger),
    door: &mut Door,
    tasks: &mut Tasks,
) {
    let now: TimeSource = Arc::new(move || clock.real());
    let watching = door.tls.clone().watch(tasks.stop());
    tasks.spawn("certificates", Kind::Background, ends(watching));
    let Some(dir) = config.authority() else {
        let renewing = above(config, (&door.tls, &door.key));
        let keeping = renewing.keep(now, tasks.stop());
        tasks.spawn("renewal", Kind::Background, ends(keeping));
        return;
    };
    let authority = Authority::new(dir, config.place(), now, ledger.clone());
    authority.serve(&config.tls, door, tasks);
}

/// What the region's certificate is renewed with by the global node.
fn above(config: &RegionalConfig, (tls, signing): (&Arc<ReloadingTls>, &SigningKey)) -> Renewing {
    Renewing {
        urls: vec![config.uplink_url.clone()],
        there: Place::Global,
        tls: tls.clone(),
        cert: config.tls.cert.clone(),
        key: config.tls.key.clone(),
        signing: signing.clone(),
        turn: Arc::default(),
    }
}

async fn ends(task: impl Future<Output = ()>) -> Result<(), Infallible> {
    task.await;
    Ok(())
}
