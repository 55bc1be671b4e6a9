//! The store as the uplink sees it: parcels leased on the reading connection, receipts settled by the writer.
use super::{Store, StoreError, inbox::senseless, job::Job};
use async_trait::async_trait;
use federation::{
    identity::Identity,
    meet, outbox,
    port::{Depths, LeaseLimits, Outbox, PeerAudit, PortError},
    wire::{Hello, Parcel, Receipt, Welcome},
};
use messages::DeviceRecords;
use std::{sync::atomic::Ordering, time::Instant};
use tokio::sync::oneshot;
use types::{Place, Priority};

#[async_trait]
impl Outbox for Store {
    async fn hello(&self, to: &Place) -> Result<Hello, PortError> {
        let to = to.clone();
        self.read(move |db| Ok(outbox::hello(db, &to)?))
            .await
            .map_err(PortError::of("hello"))
    }

    async fn resync(
        &self,
        _: &Place,
        welcome: &Welcome,
        fresh: [u8; 16],
    ) -> Result<Option<Hello>, PortError> {
        // What makes no sense is the region's fault, and must not be taken for one of the store.
        if meet::received(welcome).is_none() {
            return Err(senseless("resync"));
        }
        let (reply, answer) = oneshot::channel();
        let welcome = Box::new(welcome.clone());
        let held = welcome.held.clone();
        let job = Job::Resync {
            welcome,
            fresh,
            reply,
        };
        let said = match self.ask(job, answer).await {
            Ok(said) => said,
            Err(error) => Err(error),
        };
        let said = said.map_err(PortError::of("resync"))?;
        self.keep_witness(held)
            .await
            .map_err(PortError::of("resync"))?;
        if said.is_none() {
            self.0.status.has_met.store(true, Ordering::Relaxed);
        }
        Ok(said)
    }

    async fn lease(
        &self,
        to: &Place,
        priority: Priority,
        limits: LeaseLimits,
    ) -> Result<Vec<Parcel>, PortError> {
        let (shared, to) = (self.0.clone(), to.clone());
        self.read(move |db| {
            // Under the lock of the connection, so that two leases never take the same parcels.
            let after = shared.leases.lock().after(&to, priority);
            let parcels = outbox::lease_from(db, &to, priority, after, limits)?;
            shared.leases.lock().take(&to, priority, &parcels);
            Ok(parcels)
        })
        .await
        .map_err(PortError::of("lease"))
    }

    async fn settle(&self, to: &Place, receipts: Vec<Receipt>) -> Result<(), PortError> {
        self.measure(&receipts);
        let settled = receipts.clone();
        self.ask_step(|reply| Job::Settle { receipts, reply })
            .await
            .map_err(PortError::of("settle"))?;
        self.0.leases.lock().settle(to, &settled);
        Ok(())
    }

    async fn release(&self, to: &Place) -> Result<(), PortError> {
        self.0.leases.lock().release(to);
        self.0.status.transit.lock().clear();
        Ok(())
    }

    async fn depths(&self, to: &Place) -> Result<Depths, PortError> {
        let to = to.clone();
        self.read(move |db| Ok(outbox::depths(db, &to)?))
            .await
            .map_err(PortError::of("depths"))
    }

    async fn added(&self, _: &Place) {
        self.0.status.added.notified().await;
    }
}

#[async_trait]
impl PeerAudit for Store {
    async fn turned_away(&self, peer: &Identity, reason: &'static str) -> Result<(), PortError> {
        let peer = Box::new(peer.clone());
        self.ask_step(|reply| Job::TurnedAway {
            peer,
            reason,
            reply,
        })
        .await
        .map_err(PortError::of("turned_away"))
    }
}

impl Store {
    /// Who receives what is shipped.
    #[must_use]
    pub fn region(&self) -> &Place {
        &self.0.region
    }

    /// Whether the region has been met since the store was opened: if the store was put back to an older state, it knows that
    /// from then on ([`federation::gap`]).
    #[must_use]
    pub fn has_met(&self) -> bool {
        self.0.status.has_met.load(Ordering::Relaxed)
    }

    /// Tells the metrics how long each parcel took.
    fn measure(&self, receipts: &[Receipt]) {
        let now = Instant::now();
        let mut transit = self.0.status.transit.lock();
        for receipt in receipts {
            if let Some(took) = transit.receipted(receipt.priority, receipt.seq, now) {
                metrics::histogram!("medmesh_device_to_receipt_seconds").record(took);
            }
        }
    }

    /// Ships what the catalog is to know of the facility's devices. A refusal of the rules is audited, not an error.
    ///
    /// # Errors
    /// As any write.
    pub async fn ship_devices(&self, records: DeviceRecords) -> Result<(), StoreError> {
        self.ask_step(|reply| Job::Devices { records, reply }).await
    }
}
