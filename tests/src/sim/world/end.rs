//! The end of a line: everything is mended and comes to rest, and then what must be true is compared with what is.
use super::{Fault, Found, Listing, Run, World, holds};
use crate::sim::{
    nodes::{Above, DEVICES},
    orders,
};
use federation::port::Outbox as _;
use ingest::Urgency;
use regional::{registry::Filter, reship};
use std::{collections::BTreeSet, fmt::Write as _};
use store::Store;
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
            if let Some(down) = self.downs.get_mut(at) {
                down.up = true;
            }
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
        moved |= self.tell_catalogs().await;
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
            moved |= self.round_down(at, above).await;
            self.mend_torn(above).await?;
        }
        for at in 0..self.shape.facilities() {
            let resynced = self.store(at).is_some_and(Store::take_resynced);
            if resynced && self.listings[at] == Listing::Done {
                self.listings[at] = Listing::Wanted;
            }
        }
        Ok(moved)
    }

    /// Everything that waits for a facility goes down to it.
    async fn round_down(&mut self, at: usize, above: usize) -> bool {
        let (Some(Run::Edge(_, door)), Some(Run::Upper(upper))) =
            (&self.nodes[at].run, &self.nodes[above].run)
        else {
            return false;
        };
        let draw = self.hand.draws();
        let mut moved = orders::give_again(&upper.ledger, draw)
            .await
            .unwrap_or(false);
        let (from, Some(down)) = (&self.nodes[above].place, self.downs.get_mut(at)) else {
            return moved;
        };
        down.deliver_late(from, door).await;
        down.send(&upper.ledger, from, door, draw).await;
        down.deliver(from, door, 0).await;
        moved |= down.answer(&upper.ledger, door).await;
        moved
    }

    /// What waits to go down to a facility, in words.
    async fn waiting_down(&self, at: usize) -> Option<String> {
        let Some(Run::Upper(upper)) = &self.nodes[self.shape.parent(at)?].run else {
            return None;
        };
        let place = &self.nodes[at].place;
        let lacking = upper.ledger.lacking().await.ok()?.contains(place);
        let depths = upper.ledger.depths(place).await.ok()?;
        let waits = depths.0.iter().any(|waiting| *waiting > 0);
        (lacking || waits).then(|| format!("orders for {at}"))
    }

    /// Whether nothing waits; looks no further than to the first that does.
    async fn rests(&self) -> bool {
        if !self.waiting_in_hand().is_empty() {
            return false;
        }
        for at in 0..self.nodes.len() {
            if !self.waiting_at(at).await.is_empty() {
                return false;
            }
        }
        true
    }

    /// What waits, in words.
    async fn waiting(&self) -> String {
        let mut waiting = self.waiting_in_hand();
        for at in 0..self.nodes.len() {
            waiting.extend(self.waiting_at(at).await);
        }
        waiting.join(", ")
    }

    /// What waits that no store need be asked for.
    fn waiting_in_hand(&self) -> Vec<String> {
        let mut waiting = Vec::new();
        for (at, devices) in self.devices.iter().enumerate() {
            let count: usize = devices.iter().map(|device| device.unacknowledged()).sum();
            if count > 0 {
                waiting.push(format!("{count} at the devices of {at}"));
            }
            if self.store(at).is_some_and(|store| store.has_unshipped()) {
                waiting.push(format!("not shipped yet at {at}"));
            }
            if self.listings[at] == Listing::Wanted {
                waiting.push(format!("not listed again at {at}"));
            }
        }
        waiting
    }

    /// What waits at a node.
    async fn waiting_at(&self, at: usize) -> Vec<String> {
        let mut waiting = Vec::new();
        let Some(outbox) = self.outbox(at) else {
            return vec![format!("node {at} does not run")];
        };
        let above = self.shape.parent(at);
        // The last one has nobody to deliver to in this mesh.
        if let Some(above) = above.and_then(|above| self.shape.places()[above].parse().ok()) {
            match outbox.depths(&above).await {
                Ok(depths) => waiting.extend(
                    Priority::ALL
                        .into_iter()
                        .filter(|priority| depths.of(*priority) > 0)
                        .map(|priority| format!("{} {priority:?} at {at}", depths.of(priority))),
                ),
                Err(error) => waiting.push(format!("node {at}: {error}")),
            }
        }
        if at < self.shape.facilities() {
            waiting.extend(self.waiting_down(at).await);
        }
        let (held, wanted) = match &self.nodes[at].run {
            Some(Run::Edge(store, _)) => (holds(store).await, false),
            Some(Run::Upper(upper)) => (
                upper.ledger.any_held().await.unwrap_or(true),
                above.is_some() && upper.ledger.reship_wanted().await.unwrap_or(true),
            ),
            None => (false, false),
        };
        if wanted {
            waiting.push(format!("not shipped again at {at}"));
        }
        if held {
            waiting.push(format!("held at {at}"));
        }
        waiting
    }

    /// What is there in the end, as text: the same for the same line.
    ///
    /// # Errors
    /// A region cannot be read.
    pub async fn left(&self) -> Result<String, Found> {
        let mut left = format!("{} {:?}", self.hand.now(), self.told().await);
        for region in self.regions() {
            for one in self.observe(region)? {
                write!(left, " {}/{:?}", one.value, one.priority).unwrap_or_default();
            }
        }
        for at in 0..self.shape.facilities() {
            if let Some(store) = self.store(at) {
                write!(left, " {:?}", orders::came(store).await.ok()).unwrap_or_default();
            }
        }
        Ok(left)
    }

    /// Facilities of which it was said, there or at their region, that something is missing.
    pub async fn told(&self) -> BTreeSet<usize> {
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

    /// A facility lists its devices, and a region ships its registry, once more where the receiver was put back.
    async fn tell_catalogs(&mut self) -> bool {
        let mut told = false;
        for at in 0..self.shape.facilities() {
            if self.listings[at] == Listing::Wanted {
                self.list(at).await;
                told |= self.listings[at] == Listing::Done;
            }
        }
        for node in &self.nodes {
            if let Some(Run::Upper(upper)) = &node.run
                && let Above::Region(registry) = &upper.above
                && upper.ledger.reship_wanted().await.unwrap_or(false)
            {
                told |= reship::ship(&upper.ledger, registry, &node.place)
                    .await
                    .is_ok();
            }
        }
        told
    }

    /// Every device that a facility told the catalog of is in its region's registry and at the global node.
    async fn judge_catalogs(&self) -> Result<(), Found> {
        for at in 0..self.shape.facilities() {
            let mut above = self.shape.parent(at);
            if self.listings[at] != Listing::Done {
                continue;
            }
            while let Some(here) = above {
                for id in DEVICES {
                    if !self.catalog_knows(at, here, id).await {
                        let how = format!("device {id} of facility {at} is not listed at {here}");
                        return Err(Found::new(Fault::Lost, how));
                    }
                }
                above = self.shape.parent(here);
            }
        }
        Ok(())
    }

    async fn catalog_knows(&self, facility: usize, here: usize, device: &str) -> bool {
        let (Some(store), Ok(id)) = (self.store(facility), device.parse()) else {
            return false;
        };
        let (Ok(entry), Some(Run::Upper(upper))) = (store.device(&id).await, &self.nodes[here].run)
        else {
            return false;
        };
        match &upper.above {
            Above::Region(registry) => {
                let all = registry
                    .devices(Filter::default(), None, 100)
                    .await
                    .unwrap_or_default();
                all.iter().any(|device| device.id == entry.catalog_id)
            }
            Above::Global(catalog) => matches!(catalog.device(entry.catalog_id).await, Ok(Some(_))),
        }
    }

    /// Every order that a region has given, by its own account, came to its facility, as often and in the order as it may.
    async fn judge_orders(&mut self, at: usize) -> Result<(), Found> {
        let (Some(above), Some(store)) = (self.shape.parent(at), self.store(at)) else {
            return Ok(());
        };
        let Some(Run::Upper(upper)) = &self.nodes[above].run else {
            return Ok(());
        };
        let failed = |how: String| Found::new(Fault::Stuck, how);
        let given = orders::given(&upper.ledger, &self.nodes[at].place).await;
        let given = given.map_err(|error| failed(error.to_string()))?;
        let came = orders::came(store).await;
        let came = came.map_err(|error| failed(error.to_string()))?;
        let mut known = self.orders[at].clone();
        known.detained |= self.downs[at].has_detained;
        known.judge(&given, &came)
    }

    async fn judge(&mut self) -> Result<(), Found> {
        for wire in &self.wires {
            self.model.kept_back(wire.detained.iter());
        }
        self.judge_catalogs().await?;
        for at in 0..self.shape.facilities() {
            self.judge_orders(at).await?;
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
