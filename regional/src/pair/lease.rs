//! How a lease is kept by the node that has it: renewed, and given back. And how it is followed by the node that waits, look
//! by look, until it may be taken.
use crate::error::RegionalError;
use fhir::{
    postgres::{LEASE, Pages, Pair, Seen},
    store::StoreError,
};
use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// How often a lease is renewed.
pub(super) const RENEWED: Duration = Duration::from_millis(200);
/// How often it is looked at by the node that waits for it.
pub(super) const LOOKED: Duration = Duration::from_millis(100);
/// A lease that has lapsed is nobody's once it was not renewed for so long while PostgreSQL answers: after a time in which
/// that was away or stood still, its holder comes first.
const PATIENT: Duration = Duration::from_millis(600);
/// For how long it is tried to give a lease back.
const GIVEN_BACK: Duration = Duration::from_secs(1);
/// A node of two that cannot renew for so long ends, so that facilities and clients look for the other one.
const GIVEN_UP: Duration = Duration::from_secs(10);
/// A lease by its number.
pub(crate) type Lease = (Arc<Pair>, i64);

/// Gives the lease back, so that the other node need not wait until it lapses.
pub(crate) async fn give_back(lease: Option<Lease>) {
    let Some((pair, number)) = lease else {
        return;
    };
    let given = tokio::time::timeout(GIVEN_BACK, pair.release(number)).await;
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

/// Does what blocks, and renews a lease meanwhile: a whole copy that is flushed may take longer than the lease holds. Whether it
/// is still this node's is found by whoever keeps it afterwards.
///
/// # Errors
/// What the work says, or that it broke off.
pub(super) async fn renewing<T: Send + 'static>(
    (pair, number): (&Pair, i64),
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let mut working = tokio::task::spawn_blocking(work);
    loop {
        tokio::select! {
            done = &mut working => return done.map_err(io::Error::other)?,
            () = tokio::time::sleep(RENEWED) => {
                let _found_later = pair.renew(number).await;
            }
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

/// What a node that waits has seen of a lease.
#[derive(Default)]
pub(super) struct Looks(Option<Last>);

struct Last {
    /// By which connection, and of which lease.
    of: (u64, i64),
    until: String,
    /// Since when it is known to be not renewed.
    since: Instant,
    /// Whether its holder's connection was there, and the lease one of this version's length.
    has_lived: bool,
}

/// What may be done about a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum May {
    Wait,
    /// It is nobody's, or that of this node before it was started again.
    Take,
    /// It has lapsed.
    TakeLapsed,
    /// Its holder's connection has ended, and nothing else of PostgreSQL has: whoever has it is dead, or renews it soon.
    TakeOver,
}

impl Looks {
    /// What has become of all connections at once was seen by none of them: then the server has begun anew, or is another one.
    fn judge(&mut self, seen: &Seen, now: Instant) -> May {
        let of = (seen.connection, seen.number);
        let before = self.0.take().filter(|last| last.of == of);
        let is_same = before.as_ref().filter(|last| last.until == seen.until);
        let since = is_same.map_or(now, |last| last.since);
        let has_lived = match seen.lives {
            true => u128::try_from(seen.left_ms).is_ok_and(|left| left <= LEASE.as_millis()),
            false => before.is_some_and(|last| last.has_lived),
        };
        self.0 = Some(Last {
            of,
            until: seen.until.clone(),
            since,
            has_lived,
        });
        if seen.is_nobodys() || (seen.is_own && !seen.lives) {
            May::Take
        } else if seen.left_ms <= 0 && now.saturating_duration_since(since) >= PATIENT {
            May::TakeLapsed
        } else if has_lived && !seen.lives {
            May::TakeOver
        } else {
            May::Wait
        }
    }
}

/// Looks at the lease, and takes it where that may be: its number, and when it was asked for.
///
/// # Errors
/// By what the engine says.
pub(super) async fn look(
    pair: &Pair,
    (me, node): (&str, &str),
    looks: &mut Looks,
) -> Result<Option<(i64, Instant)>, StoreError> {
    let seen = pair.look(me).await?;
    let asked = Instant::now();
    let taken = match looks.judge(&seen, asked) {
        May::Wait => return Ok(None),
        May::Take => pair.take(me, node).await?,
        May::TakeLapsed => pair.take_seen((me, node), &seen, false).await?,
        May::TakeOver => pair.take_seen((me, node), &seen, true).await?,
    };
    Ok(taken.map(|number| (number, asked)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the lease number 3 of a holder whose connection is there, as the first connection sees it.
    fn seen(left_ms: i64) -> Seen {
        Seen {
            number: 3,
            until: "then".into(),
            left_ms,
            lives: true,
            is_own: false,
            connection: 1,
        }
    }

    fn gone(left_ms: i64) -> Seen {
        Seen {
            lives: false,
            ..seen(left_ms)
        }
    }

    #[test]
    fn a_holder_whose_connection_alone_has_ended_is_followed_before_its_lease_lapses() {
        let now = Instant::now();
        let mut looks = Looks::default();
        assert_eq!(looks.judge(&seen(1_900), now), May::Wait);
        assert_eq!(looks.judge(&gone(1_500), now), May::TakeOver);
        // Not where no connection has seen it alive: all of them have ended, so the server was away.
        let elsewhere = Seen {
            connection: 2,
            ..gone(1_500)
        };
        assert_eq!(looks.judge(&elsewhere, now), May::Wait);
        let next = Seen {
            number: 4,
            ..gone(1_500)
        };
        assert_eq!(looks.judge(&next, now), May::Wait);
        assert_eq!(Looks::default().judge(&gone(1_500), now), May::Wait);
        // Nor one of an earlier version, which reads for longer without asking.
        let mut looks = Looks::default();
        assert_eq!(looks.judge(&seen(4_900), now), May::Wait);
        assert_eq!(looks.judge(&gone(1_500), now), May::Wait);
        // One's own is taken at once, and what was given back.
        let own = Seen {
            is_own: true,
            ..gone(1_500)
        };
        assert_eq!(Looks::default().judge(&own, now), May::Take);
        let free = Seen {
            until: "-infinity".into(),
            ..seen(0)
        };
        assert_eq!(Looks::default().judge(&free, now), May::Take);
    }

    #[test]
    fn a_lease_that_lapsed_while_its_server_was_away_is_its_holders_first() {
        let now = Instant::now();
        let mut looks = Looks::default();
        assert_eq!(looks.judge(&seen(1_900), now), May::Wait);
        // The paused one is not asked for longer than its lease.
        assert_eq!(looks.judge(&seen(0), now + LEASE), May::TakeLapsed);
        let away = now + LEASE * 3;
        let first = Seen {
            connection: 2,
            ..gone(-9)
        };
        assert_eq!(looks.judge(&first, away), May::Wait);
        let later = away + PATIENT / 2;
        assert_eq!(looks.judge(&first, later), May::Wait);
        let renewed = Seen {
            until: "later".into(),
            ..first.clone()
        };
        assert_eq!(looks.judge(&renewed, later), May::Wait);
        assert_eq!(looks.judge(&renewed, away + PATIENT), May::Wait);
        assert_eq!(looks.judge(&renewed, later + PATIENT), May::TakeLapsed);
    }

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
