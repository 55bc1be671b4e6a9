//! The end of a line: everything is mended and comes to rest, and then what must be true is compared with what is.
use super::{Fault, Found, Run, World, holds};
use crate::sim::nodes::DEVICES;
use edge::ingest::Urgency;
use std::collections::BTreeSet;
use types::Priority;

/// Rounds in which everything must come to rest once every node runs and every link is up. A round carries everything
/// one tier up, and a deferred parcel costs one more.
const ROUNDS: usize = 60;
/// Rounds without any movement after which there will be none.
const STILL: usize = 8;
/// Time that a round takes, in ms: what was not taken is tried again within five minutes.
const ROUND_MS: i64 = 60_000;

impl World {
    /// Mends everything, waits for rest, compares; then lets every device measure once more and compares again.
    ///
    /// # Errors
    /// A broken promise.
    pub async fn end(&mut self) -> Result<(), Found> {
        self.mend().await?;
        self.settle().await?;
        self.judge().await?;
        for at in 0..self.shape.facilities() {
            for device in 0..DEVICES.len() {
                self.measure(at, device, Urgency::Routine, 1).await?;
                self.measure(at, device, Urgency::Alarm, 1).await?;
            }
        }
        let flows = match self.settle().await {
            Ok(()) => self.judge().await,
            stuck => stuck,
        };
        flows.map_err(|found| Found::new(Fault::NewDataStuck, found.to_string()))
    }

    /// Every node runs with room and the right policy, and every link is up.
    async fn mend(&mut self) -> Result<(), Found> {
        for at in 0..self.nodes.len() {
            self.give_room(at).await?;
            self.set_policy(at, false).await?;
            self.set_older(at, false);
            self.wires[at].up = true;
            if let Some(store) = self.store(at) {
                store.set_link(true);
            }
        }
        Ok(())
    }

    async fn settle(&mut self) -> Result<(), Found> {
        let mut still = 0;
        for _ in 0..ROUNDS {
            let moved = self.round().await?;
            if self.rests().await {
                return Ok(());
            }
            still = if moved { 0 } else { still + 1 };
            if still >= STILL {
                break;
            }
        }
        Err(Found::new(Fault::Stuck, self.waiting().await))
    }

    /// Whether anything moved.
    async fn round(&mut self) -> Result<bool, Found> {
        self.hand.forward(ROUND_MS);
        let mut moved = self.ship_again().await;
        for at in 0..self.shape.facilities() {
            moved |= self.ship_late(at).await;
            for device in 0..DEVICES.len() {
                if self.devices[at][device].unacknowledged() > 0 {
                    moved |= self.offer(at, device).await;
                }
            }
        }
        for at in 0..self.nodes.len() {
            let (Some(above), Some(outbox)) = (self.shape.parent(at), self.outbox(at)) else {
                continue;
            };
            let from = &self.nodes[at].place;
            let Some(Run::Upper(upper)) = &self.nodes[above].run else {
                continue;
            };
            let (door, wire) = (&upper.door, &mut self.wires[at]);
            wire.deliver_late(from, door).await;
            let draw = self.hand.draws();
            wire.send(outbox.as_ref(), from, door, draw).await;
            wire.deliver(from, door, 0).await;
            moved |= wire.answer(outbox.as_ref(), door).await;
            self.mend_torn(above).await?;
        }
        Ok(moved)
    }

    /// Whether nothing waits.
    async fn rests(&self) -> bool {
        self.waiting().await.is_empty()
    }

    /// What waits, in words.
    async fn waiting(&self) -> String {
        let mut waiting = Vec::new();
        for at in 0..self.nodes.len() {
            let Some(outbox) = self.outbox(at) else {
                waiting.push(format!("node {at} does not run"));
                continue;
            };
            if self.shape.parent(at).is_none() {
                // It has nobody to deliver to in this mesh.
                continue;
            }
            match outbox.depths().await {
                Ok(depths) => waiting.extend(
                    Priority::ALL
                        .into_iter()
                        .filter(|priority| depths.of(*priority) > 0)
                        .map(|priority| format!("{} {priority:?} at {at}", depths.of(priority))),
                ),
                Err(error) => waiting.push(format!("node {at}: {error}")),
            }
        }
        for at in 0..self.shape.facilities() {
            if self.store(at).is_some_and(|store| store.has_unshipped()) {
                waiting.push(format!("not shipped yet at {at}"));
            }
        }
        for (at, node) in self.nodes.iter().enumerate() {
            let held = match &node.run {
                Some(Run::Edge(store)) => holds(store).await,
                Some(Run::Upper(upper)) => upper.ledger.any_held().await.unwrap_or(true),
                None => false,
            };
            if held {
                waiting.push(format!("held at {at}"));
            }
        }
        for (at, devices) in self.devices.iter().enumerate() {
            let count: usize = devices.iter().map(|device| device.unacknowledged()).sum();
            if count > 0 {
                waiting.push(format!("{count} at the devices of {at}"));
            }
        }
        waiting.join(", ")
    }

    /// Facilities of which it was said, there or at their region, that something is missing.
    async fn told(&self) -> BTreeSet<usize> {
        let mut told = BTreeSet::new();
        for at in 0..self.shape.facilities() {
            let place = self.nodes[at].place.to_string();
            let here = match self.store(at) {
                Some(store) => store.gaps().await.is_ok_and(|gaps| !gaps.is_empty()),
                None => false,
            };
            let region = self.shape.parent(at).map(|region| &self.nodes[region].run);
            let there = match region {
                Some(Some(Run::Upper(upper))) => {
                    let gaps = upper.ledger.gaps().await.unwrap_or_default();
                    gaps.iter().any(|gap| gap.peer == place)
                }
                _ => false,
            };
            if here || there {
                told.insert(at);
            }
        }
        told
    }

    async fn judge(&mut self) -> Result<(), Found> {
        for wire in &self.wires {
            self.model.kept_back(wire.detained.iter());
        }
        let told = self.told().await;
        for region in self.regions() {
            let there = self.observe(region)?;
            self.model
                .judge(&self.facilities_of(region), &there, &told)?;
        }
        Ok(())
    }
}
