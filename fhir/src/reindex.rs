//! The task that makes an index anew after the parameters, or what makes rows of them, have changed: a chunk at a time,
//! with pauses in which others write. Each chunk keeps how far it is with what it has made, so that it goes on there after
//! a kill, or at the other node of a pair.
use crate::store::ResourceStore;
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep};

/// Between two chunks there is a pause as long as the one before took, so that live writes have the store for half of the
/// time at least; no shorter than this.
const MIN_PAUSE: Duration = Duration::from_millis(2);
/// And no longer.
const MAX_PAUSE: Duration = Duration::from_millis(500);
/// After a step that failed.
const AGAIN: Duration = Duration::from_secs(5);
/// How often it is looked for a job while there is none: a store may be put back to a time when there was one.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Runs until `stop`. `base` is the URL of this server, with which its own absolute references begin. What fails is tried
/// again.
pub async fn run(store: Arc<dyn ResourceStore>, base: String, stop: impl Future<Output = ()>) {
    let work = async {
        let (mut runs, mut said) = (false, false);
        loop {
            let begun = Instant::now();
            let pause = match store.reindex(&base).await {
                Ok(Some(left)) => {
                    told(left, runs);
                    (runs, said) = (left > 0, false);
                    begun.elapsed().clamp(MIN_PAUSE, MAX_PAUSE)
                }
                Ok(None) => {
                    metrics::gauge!("medmesh_fhir_reindex_left").set(0.0);
                    (runs, said) = (false, false);
                    LOOK_EVERY
                }
                Err(error) => {
                    if !said {
                        tracing::error!(%error, "the index of FHIR cannot be made anew now");
                    }
                    said = true;
                    AGAIN
                }
            };
            sleep(pause).await;
        }
    };
    tokio::select! {
        () = stop => {}
        () = work => {}
    }
}

fn told(left: u64, runs: bool) {
    if !runs {
        tracing::info!(left, "the index of FHIR is made anew");
    }
    if left == 0 {
        tracing::info!("the index of FHIR was made anew");
    }
    #[expect(clippy::cast_precision_loss, reason = "a metric")]
    metrics::gauge!("medmesh_fhir_reindex_left").set(left as f64);
}
