//! What happens on links, and what a neighbour tries.
use super::{Fault, Found, Run, World};
use crate::sim::{nodes::DEVICES, ops::What};
use regional::registry::Filter;
use types::Place;

impl World {
    /// One step of the link that goes up from a node.
    pub(super) async fn carry(&mut self, what: What, at: usize, arg: usize) -> Result<(), Found> {
        let (Some(above), Some(outbox)) = (self.shape.parent(at), self.outbox(at)) else {
            return Ok(());
        };
        let outbox = outbox.as_ref();
        let from = &self.nodes[at].place;
        let Some(Run::Upper(upper)) = &self.nodes[above].run else {
            return Ok(());
        };
        let (door, wire) = (&upper.door, &mut self.wires[at]);
        let draw = self.hand.draws();
        match what {
            What::Pump => {
                wire.send(outbox, from, door, draw).await;
                wire.deliver(from, door, 0).await;
                wire.answer(outbox, door).await;
            }
            What::Send => wire.send(outbox, from, door, draw).await,
            What::Deliver => wire.deliver(from, door, arg).await,
            What::Answer => {
                wire.answer(outbox, door).await;
            }
            What::Cut => wire.cut(outbox).await,
            What::Late => wire.deliver_late(from, door).await,
            What::Reverse => wire.going.reverse(),
            What::Twice => {
                let first = wire.going.first().cloned();
                wire.going.extend(first);
            }
            What::Part => {
                wire.up = false;
                wire.cut(outbox).await;
            }
            What::Heal => wire.up = true,
            _ => {}
        }
        self.carry_down(what, (at, above), arg).await;
        if let Some(store) = self.store(at) {
            store.set_link(self.wires[at].up);
        }
        self.mend_torn(above).await
    }

    /// The same step of what goes down to a facility on the same connection.
    async fn carry_down(&mut self, what: What, (at, above): (usize, usize), arg: usize) {
        let (Some(Run::Edge(_, door)), Some(outbox)) = (&self.nodes[at].run, self.outbox(above))
        else {
            return;
        };
        let (outbox, from) = (outbox.as_ref(), &self.nodes[above].place);
        let draw = self.hand.draws();
        let Some(down) = self.downs.get_mut(at) else {
            return;
        };
        match what {
            What::Pump => {
                down.send(outbox, from, door, draw).await;
                down.deliver(from, door, 0).await;
                down.answer(outbox, door).await;
            }
            What::Send => down.send(outbox, from, door, draw).await,
            What::Deliver => down.deliver(from, door, arg).await,
            What::Answer => {
                down.answer(outbox, door).await;
            }
            What::Cut => down.cut(outbox).await,
            What::Late => down.deliver_late(from, door).await,
            What::Reverse => down.going.reverse(),
            What::Twice => {
                let first = down.going.first().cloned();
                down.going.extend(first);
            }
            What::Part => {
                down.up = false;
                down.cut(outbox).await;
            }
            What::Heal => down.up = true,
            _ => {}
        }
    }

    /// A node that was torn from its work starts again.
    pub(super) async fn mend_torn(&mut self, at: usize) -> Result<(), Found> {
        if self.nodes[at].watch.is_torn() {
            self.crash(at).await?;
        }
        Ok(())
    }

    /// A neighbour writes into what is the facility's, one of another jurisdiction writes to its region, and its region
    /// to the global node.
    pub(super) async fn attack(&mut self, at: usize) -> Result<(), Found> {
        let Some(region) = self.shape.parent(at).filter(|_| at < self.rogues.len()) else {
            return Ok(());
        };
        let catalog_id = self.known_to_catalog(at, region).await;
        let owner = self.nodes[at].place.clone();
        let here = self.nodes[region].place.clone();
        let Some(Run::Upper(upper)) = &self.nodes[region].run else {
            return Ok(());
        };
        let (rogue, watch) = (&mut self.rogues[at], &self.nodes[region].watch);
        if let Some(taken) = rogue.claim(&owner, &upper.door, watch, catalog_id).await {
            return Err(Found::new(Fault::Owner, taken));
        }
        let trespass = |to: &Place| Found::new(Fault::Residency, format!("taken at {to}"));
        let foreign = Place::Edge {
            jurisdiction: types::Jurisdiction::Apac,
            region: parsed("apac")?,
            facility: parsed("apac-f1")?,
        };
        if rogue.trespass(&foreign, &upper.door).await {
            return Err(trespass(&here));
        }
        if let Some(top) = self.shape.parent(region)
            && let Some(Run::Upper(global)) = &self.nodes[top].run
            && rogue.trespass(&here, &global.door).await
        {
            return Err(trespass(&Place::Global));
        }
        self.mend_torn(region).await
    }

    /// The catalog id of the facility's first device, if its region knows whose it is.
    async fn known_to_catalog(&self, at: usize, region: usize) -> Option<Vec<u8>> {
        let entry = self
            .store(at)?
            .device(&DEVICES[0].parse().ok()?)
            .await
            .ok()?;
        let Some(Run::Upper(upper)) = &self.nodes[region].run else {
            return None;
        };
        let crate::sim::nodes::Above::Region(registry) = &upper.above else {
            return None;
        };
        let filter = Filter {
            facility: self.nodes[at].place.facility().cloned(),
            ..Filter::default()
        };
        let known = registry.devices(filter, None, 100).await.ok()?;
        let id = entry.catalog_id;
        let known = known.iter().any(|device| device.id == id);
        known.then(|| id.as_bytes().to_vec())
    }
}

fn parsed<T: std::str::FromStr>(text: &str) -> Result<T, Found> {
    let parsed = text.parse();
    parsed.map_err(|_| Found::new(Fault::NoStart, format!("'{text}' is no name")))
}
