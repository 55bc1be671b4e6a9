//! What was handed to a link and has no receipt yet.
use crate::wire::{Outcome, Parcel, Receipt};
use std::collections::BTreeMap;
use types::{Place, Priority};

/// The leases of this process: by receiver, the highest sequence leased, by priority. They die with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leases(BTreeMap<Place, [u64; 3]>);

impl Leases {
    /// The next lease of a receiver's parcels begins after this sequence.
    #[must_use]
    pub fn after(&self, to: &Place, priority: Priority) -> u64 {
        let slots = self.0.get(to).copied().unwrap_or_default();
        *priority.of(&slots)
    }

    /// These parcels are leased now.
    pub fn take(&mut self, to: &Place, priority: Priority, parcels: &[Parcel]) {
        let slots = self.0.entry(to.clone()).or_default();
        let slot = priority.of_mut(slots);
        *slot = parcels
            .iter()
            .map(|parcel| parcel.seq)
            .fold(*slot, u64::max);
    }

    /// Receipts came in: what was deferred, and all behind it, is leased again.
    pub fn settle(&mut self, to: &Place, receipts: &[Receipt]) {
        let Some(slots) = self.0.get_mut(to) else {
            return;
        };
        for receipt in receipts {
            let again = matches!(receipt.outcome(), Outcome::Deferred | Outcome::Unspecified);
            if let (true, Some(slot)) = (again, slots.get_mut(receipt.priority as usize)) {
                *slot = (*slot).min(receipt.seq.saturating_sub(1));
            }
        }
    }

    /// The link to a receiver broke: everything for it is leased again.
    pub fn release(&mut self, to: &Place) {
        self.0.remove(to);
    }
}
