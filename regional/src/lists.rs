//! The revocation list of the region's own authority: issued anew before it ends, so that nobody has to think of it.
use crate::config::RegionalConfig;
use federation::pki::Ca;
use node::{
    clock::Clock,
    task::{Kind, Tasks},
};
use std::{convert::Infallible, path::PathBuf, time::Duration};
use tokio_util::sync::CancellationToken;

/// How often the region looks whether its authority's revocation list is to be renewed.
const LIST_LOOK: Duration = Duration::from_secs(3_600);

/// Renews the revocation list of the region's authority in time; where it has none there is nothing to do.
pub(crate) fn keep(config: &RegionalConfig, clock: Clock, tasks: &mut Tasks) {
    if let Some(authority) = config.authority() {
        let keeping = renew_list(authority, clock, tasks.stop());
        tasks.spawn("revocation list", Kind::Background, keeping);
    }
}

async fn renew_list(
    authority: PathBuf,
    clock: Clock,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    loop {
        let (at, now) = (authority.clone(), clock.real());
        let renewed = tokio::task::spawn_blocking(move || Ca::open(&at)?.renew_list(now)).await;
        match renewed {
            Ok(Ok(true)) => tracing::info!("the authority's revocation list is renewed"),
            Ok(Ok(false)) | Err(_) => {}
            Ok(Err(error)) => tracing::error!(%error, "the revocation list cannot be renewed"),
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(LIST_LOOK) => {}
        }
    }
}
