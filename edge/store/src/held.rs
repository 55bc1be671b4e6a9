//! What the facility holds because the region did not take it, or because it could not be understood here: whether
//! there is any, and shipping again what may be cured.
use super::{Store, StoreError, apply::Apply, job::Job};
use federation::outbox;
use std::sync::atomic::Ordering;
use types::{Priority, Timestamp};

/// What is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// Parcels that the region did not take in whole.
    pub parcels: bool,
    /// Messages and samples of devices that could not be understood.
    pub messages: bool,
}

/// How much is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeldCounts {
    /// Parcels that the region did not take in whole.
    pub parcels: u64,
    /// Messages and samples of devices that could not be understood.
    pub messages: u64,
}

impl Store {
    /// How much is in quarantine; reads every entry of it.
    ///
    /// # Errors
    /// As any read.
    pub async fn held_counts(&self) -> Result<HeldCounts, StoreError> {
        self.read(|db| {
            let messages: i64 = db
                .prepare_cached("SELECT count(*) FROM unreadable")?
                .query_row([], |row| row.get(0))?;
            Ok(HeldCounts {
                parcels: outbox::held_count(db)?,
                messages: messages.unsigned_abs(),
            })
        })
        .await
    }

    /// When the oldest parcel was sealed that waits for the region (real time).
    ///
    /// # Errors
    /// As any read.
    pub async fn oldest(&self) -> Result<Option<Timestamp>, StoreError> {
        let region = self.region().clone();
        self.read(move |db| Ok(outbox::oldest(db, &region)?)).await
    }

    /// Whether anything is in quarantine. Cheap.
    ///
    /// # Errors
    /// As any read.
    pub async fn holding(&self) -> Result<Holding, StoreError> {
        self.read(|db| {
            let messages = db
                .prepare_cached("SELECT 1 FROM unreadable LIMIT 1")?
                .exists([])?;
            Ok(Holding {
                parcels: outbox::any_held(db)?,
                messages,
            })
        })
        .await
    }

    /// One bounded step of shipping again what the region did not take and may take now, if readings may leave: how
    /// many parcels.
    ///
    /// # Errors
    /// As any write.
    pub async fn ship_again(&self) -> Result<usize, StoreError> {
        let link_came_up = self.0.status.link_came_up.swap(false, Ordering::Relaxed);
        let (reply, answer) = tokio::sync::oneshot::channel();
        let job = Job::ShipAgain {
            link_came_up,
            reply,
        };
        self.ask(job, answer).await?
    }
}

impl Apply<'_> {
    /// Ships held parcels that are due. When the disk is full only while nothing else waits, as what is refused again
    /// comes back.
    pub(super) fn ship_again(&mut self, link_came_up: bool) -> Result<usize, StoreError> {
        if link_came_up {
            outbox::due_soon(self.tx())?;
        }
        if !self.may_ship() || !(self.has_routine_room() || self.nothing_waits()?) {
            return Ok(0);
        }
        // Readings of this commit were promised the sequences that these parcels would take.
        for priority in Priority::ALL {
            self.ship(priority)?;
        }
        let (tx, now) = (self.tx(), self.now);
        let shipped = self.parcels.ship_again(tx, &now)?;
        self.tally.parcels += shipped as u64;
        Ok(shipped)
    }
}
