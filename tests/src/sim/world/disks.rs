//! What happens to nodes and their disks: killed, copied, put back, started with other policies.
use super::{Found, Run, World, no_start};
use crate::sim::{
    disk::Templates,
    nodes::{Ground, Opening},
    ops::Shape,
    orders,
};
use anyhow::{Result, ensure};
use rusqlite::Connection;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};
use store::Entropy;
use types::Place;

impl World {
    /// The node is killed and starts again.
    pub(super) async fn crash(&mut self, at: usize) -> Result<(), Found> {
        self.disconnect(at).await;
        self.nodes[at]
            .disk
            .cut()
            .map_err(|error| no_start(&error))?;
        self.nodes[at].run = None;
        self.start_if_there_is_room(at).await
    }

    /// The disk has room again; a node that could not start without it starts.
    pub(super) async fn give_room(&mut self, at: usize) -> Result<(), Found> {
        self.nodes[at].disk.room.set_full(false);
        if self.nodes[at].run.is_none() {
            self.start_if_there_is_room(at).await?;
        }
        Ok(())
    }

    /// A node must start on its own disk, unless that is full.
    async fn start_if_there_is_room(&mut self, at: usize) -> Result<(), Found> {
        match self.start(at).await {
            Err(_) if self.nodes[at].disk.room.is_full() => Ok(()),
            started => started.map_err(|error| no_start(&error)),
        }
    }

    /// A copy of its disk is made.
    pub(super) fn copy(&mut self, at: usize) -> Result<(), Found> {
        self.nodes[at]
            .disk
            .copy()
            .map_err(|error| no_start(&error))?;
        if at < self.shape.facilities() {
            self.model.copied(at);
        }
        Ok(())
    }

    /// The node is killed and starts on a copy; of a region perhaps the clinical store alone is the copy's.
    pub(super) async fn restore(
        &mut self,
        at: usize,
        back: usize,
        prefix: &str,
    ) -> Result<(), Found> {
        let is_facility = at < self.shape.facilities();
        if is_facility && !prefix.is_empty() || self.nodes[at].disk.copies.len() <= back {
            return Ok(());
        }
        let region = if is_facility {
            self.shape.parent(at)
        } else {
            None
        };
        let there = match region {
            Some(region) => self.observe(region)?,
            None => Vec::new(),
        };
        self.disconnect(at).await;
        let restored = self.nodes[at].disk.restore(back, prefix);
        restored.map_err(|error| no_start(&error))?;
        self.nodes[at].run = None;
        self.start_if_there_is_room(at).await?;
        self.nodes[at].watch.forget();
        for below in 0..self.orders.len() {
            self.orders[below].put_back |= below == at || self.shape.parent(below) == Some(at);
        }
        if is_facility {
            self.model.facility_put_back(at, back, &there);
        } else if matches!(self.nodes[at].place, Place::Regional { .. }) {
            let there = self.observe(at)?;
            self.model.region_put_back(&self.facilities_of(at), &there);
        }
        Ok(())
    }

    /// Every connection of a node breaks; what was under way to it is gone.
    async fn disconnect(&mut self, at: usize) {
        if let Some(outbox) = self.outbox(at) {
            self.wires[at].cut(outbox.as_ref()).await;
        }
        let above = self.shape.parent(at).and_then(|above| self.outbox(above));
        match (above, self.downs.get_mut(at)) {
            (Some(outbox), Some(down)) => down.lose(outbox.as_ref()).await,
            (None, Some(down)) => down.vanish(),
            (_, None) => {}
        }
        for below in 0..self.nodes.len() {
            if self.shape.parent(below) == Some(at)
                && let Some(outbox) = self.outbox(below)
            {
                self.wires[below].lose(outbox.as_ref()).await;
            }
            if self.shape.parent(below) == Some(at)
                && let Some(outbox) = self.outbox(at)
                && let Some(down) = self.downs.get_mut(below)
            {
                down.cut(outbox.as_ref()).await;
            }
        }
    }

    pub(super) fn outbox(&self, at: usize) -> Option<Arc<dyn federation::port::Outbox>> {
        match self.nodes[at].run.as_ref()? {
            Run::Edge(store, _) => Some(Arc::new(store.clone())),
            Run::Upper(upper) => Some(Arc::new(upper.ledger.clone())),
        }
    }
}

/// The disk of a node that was set up and never used.
pub(super) async fn template(
    templates: &Templates,
    shape: Shape,
    at: usize,
    (hand, entropy): (&'static crate::sim::clock::Hand, Entropy),
) -> Result<PathBuf> {
    let text = shape.places()[at];
    let place: Place = text.parse()?;
    let set_up = async |dir: &Path| {
        hand.draw_from(text.bytes().fold(1, |hash: u32, byte| {
            hash.wrapping_mul(31).wrapping_add(byte.into())
        }));
        let opening = Opening {
            place: &place,
            dir,
            rules: Ground::get()?.rules.clone(),
            hand,
            entropy,
        };
        if at >= shape.facilities() {
            drop(opening.upper(Arc::default()).await?);
            return closed(dir);
        }
        let region = shape.parent(at).map(|at| shape.places()[at].parse());
        let (store, _) = opening
            .edge(&region.transpose()?.unwrap_or(Place::Global))
            .await?;
        // As a table that is made later would have every statement prepared anew.
        orders::came(&store).await?;
        // Writes everything into the database.
        store.close().await;
        Ok(())
    };
    templates.of(text, set_up).await
}

/// How long a store may take to write its log into its database and close.
const CLOSING: Duration = Duration::from_secs(30);

/// Waits until nobody has a database of a folder open, and every log is written into its database.
fn closed(dir: &Path) -> Result<()> {
    let deadline = Instant::now() + CLOSING;
    loop {
        let mut open = false;
        for entry in std::fs::read_dir(dir)?.flatten() {
            let name = entry.file_name();
            open |= name.to_string_lossy().ends_with("-wal");
            if name.to_string_lossy().ends_with(".db") {
                // The last one to close a database takes its log away.
                let database = Connection::open(entry.path())?;
                database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
            }
        }
        if !open {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{}: still open", dir.display());
        std::thread::sleep(Duration::from_millis(1));
    }
}
