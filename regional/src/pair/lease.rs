//! How a lease is kept by the node that has it: renewed, and given back.
use crate::error::RegionalError;
use fhir::postgres::{Pages, Pair};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// How often a lease is renewed, and looked at by the node that waits for it.
pub(super) const RENEWED: Duration = Duration::from_secs(1);
/// A node of two that cannot renew for so long ends, so that facilities and clients look for the other one.
const GIVEN_UP: Duration = Duration::from_secs(10);
/// A lease by its number.
pub(crate) type Lease = (Arc<Pair>, i64);

/// Gives the lease back, so that the other node need not wait until it lapses.
pub(crate) async fn give_back(lease: Option<Lease>) {
    let Some((pair, number)) = lease else {
        return;
    };
    let given = tokio::time::timeout(RENEWED, pair.release(number)).await;
    if !matches!(given, Ok(Ok(()))) {
        tracing::warn!("the lease is not given back: it lapses");
    }
}

/// Renews a lease until the stop.
///
/// # Errors
/// [`RegionalError::NotItsTurn`]: another node has taken it, or may have.
pub(super) async fn renew(
    (pair, number): (&Pair, i64),
    pages: Option<Arc<Pages>>,
    stop: &CancellationToken,
) -> Result<(), RegionalError> {
    let (mut said, mut renewed) = (false, Instant::now());
    let mut fenced = pages.as_ref().map(|pages| pages.fenced());
    loop {
        let told = async {
            match fenced.as_mut() {
                Some(fenced) => drop(fenced.changed().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(RENEWED) => {}
            () = told => {}
        }
        let asked = Instant::now();
        match pair.renew(number).await {
            Ok(true) => {
                (said, renewed) = (false, asked);
                if let Some(pages) = &pages {
                    pages.renewed(asked);
                }
            }
            Ok(false) => {
                let by = pair.holder().await.unwrap_or_default();
                return Err(RegionalError::NotItsTurn(format!(
                    "another node of this region ({by}) has taken its lease: this one may write nothing any more"
                )));
            }
            Err(error) if is_given_up(renewed, pages.as_deref(), Instant::now()) => {
                return Err(RegionalError::NotItsTurn(format!(
                    "the lease of this region could not be renewed for {GIVEN_UP:?} ({error}): the other node may have it"
                )));
            }
            Err(error) if !said => {
                tracing::warn!(%error, "the lease cannot be renewed now");
                said = true;
            }
            Err(_) => {}
        }
    }
}

/// Whether a node of two that cannot renew ends: its lease was neither renewed nor seen to be held for so long.
fn is_given_up(renewed: Instant, pages: Option<&Pages>, now: Instant) -> bool {
    pages.is_some_and(|pages| is_too_long(renewed, pages.held(), now))
}

/// While a whole file is put the lease cannot be renewed: it is held for as long as that goes on.
fn is_too_long(renewed: Instant, held: Option<Instant>, now: Instant) -> bool {
    let last = held.map_or(renewed, |held| held.max(renewed));
    now.saturating_duration_since(last) > GIVEN_UP
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renewal_that_failed_is_none_and_a_file_that_is_put_holds_the_lease_as_long_as_it_goes_on()
    {
        let began = Instant::now();
        let after = |part: u32| began + GIVEN_UP / 4 * part;
        for (now, held, ends) in [
            (4, None, false),
            (5, None, true),
            // A file was put, and went on last at that time.
            (5, Some(1), false),
            (6, Some(1), true),
            (9, Some(6), false),
        ] {
            let found = is_too_long(began, held.map(after), after(now));
            assert_eq!(found, ends, "{now} quarters, {held:?}");
        }
        assert!(!is_too_long(after(8), Some(after(1)), after(9)));
    }
}
