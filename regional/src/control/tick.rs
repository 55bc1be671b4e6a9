//! What happens to commands of itself, looked at every second: the end of their time, what is desired and not yet brought
//! about, what a facility that was put back may lack, and what is forgotten.
use super::{Control, KEPT_MS, rows::Row, steps, wants};
use crate::deliveries;
use commands::{Reason, State};
use federation::{ledger::Commit, port::PortError};
use std::{sync::Arc, time::Duration};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use types::DeviceStatus;

/// How often it is looked (real time).
const EVERY: Duration = Duration::from_secs(1);
/// Rows of one kind in one commit: some milliseconds.
const BATCH: u16 = 128;

/// Looks until stopped. What fails is tried again with the next look.
pub async fn keep(control: Control, stop: CancellationToken) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut wanted = control.wanted();
    loop {
        if let Err(error) = control.look().await {
            tracing::warn!(%error, "commands are not looked after yet");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
            _ = wanted.changed() => {}
        }
    }
}

impl Control {
    /// One look.
    ///
    /// # Errors
    /// [`PortError`]: what was done until then stands.
    pub async fn look(&self) -> Result<(), PortError> {
        let rested = self.rest().await;
        let own = Arc::clone(&self.own);
        let step = move |commit: &mut Commit<'_>| {
            let now = commit.now();
            let mut changed = Vec::new();
            for mut row in Row::overdue(commit.tx(), now, BATCH)? {
                let reason = if row.needs_approval() {
                    Reason::Unapproved
                } else if row.history.state() == State::Delivered {
                    Reason::Unanswered
                } else {
                    Reason::Unreached
                };
                let by = own.here.to_string();
                steps::end(commit, &mut row, State::Expired, by, Some(reason))?;
                changed.push(row.id);
            }
            changed.extend(wants::bring_about(&own, commit, BATCH)?);
            Row::forget(commit.tx(), now.plus_ms(-KEPT_MS), BATCH)?;
            Ok(changed)
        };
        let changed = self.ledger.commit("look after commands", step).await?;
        self.changes.touched(changed);
        self.ship_again().await?;
        rested
    }

    /// Nothing is tried that is desired of a device which its facility has no more: it rests until the facility speaks of the
    /// device again.
    async fn rest(&self) -> Result<(), PortError> {
        let due = |commit: &mut Commit<'_>| wants::due_of(commit.tx(), commit.now(), BATCH);
        let due = self.ledger.commit("look for what is desired", due).await?;
        let mut retired = Vec::new();
        for id in due {
            let device = self.registry.device(id).await?;
            if device.is_some_and(|device| device.status == DeviceStatus::Retired) {
                retired.push(id);
            }
        }
        if retired.is_empty() {
            return Ok(());
        }
        let rest = move |commit: &mut Commit<'_>| {
            let mut retired = retired.into_iter();
            retired.try_for_each(|id| wants::rest(commit.tx(), id))
        };
        self.ledger.commit("let what is desired rest", rest).await
    }

    /// Ships open commands again to facilities that were put back and may lack them, and offers them their files anew. Their
    /// devices keep their own marks: what one has carried out is not carried out again. One that cannot be told now, as when as
    /// much waits for it as may, holds no other one up.
    async fn ship_again(&self) -> Result<(), PortError> {
        let mut outcome = Ok(());
        for place in self.ledger.lacking().await? {
            let Some(facility) = place.facility().cloned() else {
                continue;
            };
            let own = Arc::clone(&self.own);
            let step = move |commit: &mut Commit<'_>| {
                let mut shipped = Vec::new();
                for mut row in Row::open_of(commit.tx(), &facility)? {
                    steps::ship(&own, commit, &mut row)?;
                    shipped.push(row.id);
                }
                deliveries::lacked_by(commit, &facility)?;
                Ok(shipped)
            };
            match self.ledger.commit("ship commands again", step).await {
                Ok(shipped) => {
                    // One that the rules do not let go any more has ended.
                    self.changes.touched(shipped);
                    self.ledger.reshipped_to(&place).await?;
                }
                Err(error) => outcome = Err(error),
            }
        }
        outcome
    }
}
