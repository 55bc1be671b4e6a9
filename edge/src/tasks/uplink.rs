//! The link to the region, while the leases hold.
use crate::{
    context::Shared,
    error::EdgeError,
    lease::{Lease, Subject},
};
use federation::link::{LinkState, Uplink, UplinkParts};
use std::{sync::Arc, time::Duration};
use store::clockguard::Time;
use tokio_util::sync::CancellationToken;

/// How often leases are looked at (real time).
const LEASE_LOOK: Duration = Duration::from_secs(5);

/// Keeps the link up while the leases hold, and tells the store whether it is.
pub(crate) async fn uplink(
    shared: Arc<Shared>,
    parts: impl Fn() -> UplinkParts + Send + Sync,
    stop: CancellationToken,
) -> Result<(), EdgeError> {
    let mut said = None;
    while !stop.is_cancelled() {
        let reason = lapsed(&shared);
        if reason != said {
            match reason {
                Some(reason) => tracing::warn!(
                    reason,
                    "nothing is sent without a lease; readings are stored"
                ),
                None => tracing::info!("the leases hold"),
            }
            said = reason;
        }
        shared.standing.lease(reason);
        metrics::gauge!("medmesh_uplink_allowed").set(f64::from(u8::from(reason.is_none())));
        if reason.is_some() {
            shared.standing.link(false);
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(LEASE_LOOK) => continue,
            }
        }
        let uplink = Uplink::new(parts())?;
        let ended = stop.child_token();
        let (state, stuck) = (uplink.state(), uplink.stuck());
        tokio::join!(
            uplink.run(ended.clone()),
            follow(&shared, state, ended.clone()),
            follow_order(&shared, stuck, ended.clone()),
            cancel_when_lapsed(&shared, ended.clone()),
            cancel_to_meet(&shared, ended),
        );
        shared.store.set_link(false);
    }
    Ok(())
}

/// Why nothing may be sent, if so. Without lease files the certificate alone is the lease of the identity.
fn lapsed(shared: &Shared) -> Option<&'static str> {
    let (dir, key) = shared.leases.as_ref()?;
    let now = shared.guard.now().real;
    Subject::ALL.into_iter().find_map(|subject| {
        let lease = Lease::read(dir, key, subject, &shared.here);
        let held = lease.and_then(|lease| lease.holds_at(now));
        held.err().map(|error| error.reason())
    })
}

async fn cancel_when_lapsed(shared: &Shared, ended: CancellationToken) {
    loop {
        tokio::select! {
            () = ended.cancelled() => return,
            () = tokio::time::sleep(LEASE_LOOK) => {}
        }
        if lapsed(shared).is_some() {
            ended.cancel();
        }
    }
}

/// A new connection begins with both ends saying where they stand.
async fn cancel_to_meet(shared: &Shared, ended: CancellationToken) {
    tokio::select! {
        () = ended.cancelled() => {}
        () = shared.store.meets_again() => ended.cancel(),
    }
}

async fn follow(
    shared: &Shared,
    mut state: tokio::sync::watch::Receiver<LinkState>,
    ended: CancellationToken,
) {
    loop {
        let up = matches!(*state.borrow_and_update(), LinkState::Up { .. });
        shared.store.set_link(up);
        shared.standing.link(up);
        tokio::select! {
            () = ended.cancelled() => return,
            changed = state.changed() => if changed.is_err() { return },
        }
    }
}

async fn follow_order(
    shared: &Shared,
    mut stuck: tokio::sync::watch::Receiver<bool>,
    ended: CancellationToken,
) {
    loop {
        shared.standing.stuck(*stuck.borrow_and_update());
        tokio::select! {
            () = ended.cancelled() => break,
            changed = stuck.changed() => if changed.is_err() { break },
        }
    }
    shared.standing.stuck(false);
}
