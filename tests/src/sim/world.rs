//! A simulated mesh: nodes on disks, links between them, devices, and the model that watches. One operation after the
//! other; nothing runs beside it.
mod disks;
mod end;
mod links;

use super::{
    clock::{self, Hand},
    device::{Answer, Device},
    disk::{self, Disk, Templates},
    model::{Fault, Found, Model},
    nodes::{DEVICES, Ground, Opening, RETENTION_MS, Upper, Watch},
    observe::{self, Observed},
    ops::{Op, Shape, What},
    orders::{self, Known, Order},
    rogue::Rogue,
    wire::Wire,
};
use anyhow::Result;
use federation::link::Door;
use ingest::Urgency;
use messages::{DeviceRecord, DeviceRecords};
use std::sync::Arc;
use store::{Entropy, Store};
use tempfile::TempDir;
use types::Place;

/// A step of time after each operation, in ms: no two samples of a device are of the same instant.
const STEP_MS: i64 = 250;
/// What [`What::Time`] means, in ms.
const TIMES_MS: [i64; 3] = [5_000, 600_000, 26 * 3_600_000];

/// What runs on a node.
enum Run {
    Edge(Store, Box<Door>),
    Upper(Box<Upper>),
}

/// A node.
struct Node {
    place: Place,
    disk: Disk,
    /// None when it did not start.
    run: Option<Run>,
    /// Whether its policy is mistaken.
    mistaken: bool,
    /// What it was seen to apply, over all its starts.
    watch: Arc<Watch>,
}

/// Whether the catalog knows a facility's devices.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Listing {
    /// It was never told.
    #[default]
    Never,
    /// It is to be told, perhaps again.
    Wanted,
    /// It was told.
    Done,
}

/// See the head of this file.
pub struct World {
    shape: Shape,
    nodes: Vec<Node>,
    wires: Vec<Wire>,
    /// What goes down to each facility, on the same connection.
    downs: Vec<Wire>,
    orders: Vec<Known>,
    ordered: i64,
    devices: Vec<Vec<Device>>,
    rogues: Vec<Rogue>,
    listings: Vec<Listing>,
    model: Model,
    hand: &'static Hand,
    entropy: Entropy,
    _folder: TempDir,
}

impl World {
    /// A mesh that has just been set up, on thread `worker` of the simulation.
    ///
    /// # Errors
    /// It cannot be set up.
    pub async fn new(shape: Shape, worker: usize, templates: &Templates) -> Result<Self> {
        let folder = disk::folder()?;
        let (hand, entropy) = clock::begin(worker);
        let mut nodes = Vec::new();
        for (at, place) in shape.places().iter().enumerate() {
            let root = folder.path().join(at.to_string());
            nodes.push(Node {
                place: place.parse()?,
                disk: Disk::of(
                    root,
                    &disks::template(templates, shape, at, (hand, entropy)).await?,
                )?,
                run: None,
                mistaken: false,
                watch: Arc::default(),
            });
        }
        let devices = |_| DEVICES.iter().map(|id| Device::new(id)).collect();
        let facilities = 0..shape.facilities();
        // Making a template may have drawn.
        let (hand, entropy) = clock::begin(worker);
        let mut world = Self {
            shape,
            wires: nodes.iter().map(|_| Wire::default()).collect(),
            downs: facilities.clone().map(|_| Wire::default()).collect(),
            orders: vec![Known::default(); shape.facilities()],
            ordered: 0,
            devices: facilities.clone().map(devices).collect::<Result<_>>()?,
            rogues: facilities.map(|_| Rogue::default()).collect(),
            listings: vec![Listing::default(); shape.facilities()],
            model: Model::new(shape.facilities()),
            nodes,
            hand,
            entropy,
            _folder: folder,
        };
        for node in 0..world.nodes.len() {
            world.start(node).await?;
        }
        Ok(world)
    }

    async fn start(&mut self, at: usize) -> Result<()> {
        let ground = Ground::get()?;
        let region = self.shape.parent(at).map(|it| self.nodes[it].place.clone());
        let node = &mut self.nodes[at];
        let rules = if node.mistaken {
            &ground.mistaken
        } else {
            &ground.rules
        };
        let opening = Opening {
            place: &node.place,
            dir: &node.disk.now,
            rules: rules.clone(),
            hand: self.hand,
            entropy: self.entropy,
        };
        node.run = Some(match region {
            Some(region) if at < self.shape.facilities() => {
                let (store, door) = opening.edge(&region).await?;
                store.set_link(self.wires[at].up);
                // As every start of a facility does.
                if self.listings[at] == Listing::Done {
                    self.listings[at] = Listing::Wanted;
                }
                Run::Edge(store, Box::new(door))
            }
            _ => Run::Upper(Box::new(opening.upper(node.watch.clone()).await?)),
        });
        Ok(())
    }

    fn store(&self, at: usize) -> Option<&Store> {
        match &self.nodes.get(at)?.run {
            Some(Run::Edge(store, _)) => Some(store),
            _ => None,
        }
    }

    fn facilities_of(&self, region: usize) -> Vec<usize> {
        let below = |at: &usize| self.shape.parent(*at) == Some(region);
        (0..self.shape.facilities()).filter(below).collect()
    }

    fn regions(&self) -> Vec<usize> {
        let is_region = |at: &usize| matches!(self.nodes[*at].place, Place::Regional { .. });
        (0..self.nodes.len()).filter(is_region).collect()
    }

    fn observe(&self, region: usize) -> Result<Vec<Observed>, Found> {
        let node = &self.nodes[region];
        let seen = node.watch.seen.lock();
        observe::region(&node.disk.now, &seen).map_err(|error| no_start(&error))
    }

    /// What happens.
    ///
    /// # Errors
    /// A promise that is seen to be broken at once.
    pub async fn step(&mut self, op: Op) -> Result<(), Found> {
        self.hand.forward(STEP_MS);
        let (at, arg) = (usize::from(op.node), usize::from(op.arg));
        if at >= self.nodes.len() {
            return Ok(());
        }
        match op.what {
            What::Sample => self.measure(at, arg, Urgency::Routine, 1).await?,
            What::Alarm => self.measure(at, arg, Urgency::Alarm, 1).await?,
            What::Burst => self.measure(at, arg, Urgency::Routine, 4).await?,
            What::Again => self.again(at, arg).await?,
            What::Restart => self.restart_counter(at, arg, false),
            What::Epoch => self.restart_counter(at, arg, true),
            What::List => self.list(at).await,
            What::Order => self.order(at, arg).await,
            What::Crash => self.crash(at).await?,
            What::Tear => self.nodes[at].watch.tear(),
            What::Copy => self.copy(at)?,
            What::CopyAll => (0..self.nodes.len()).try_for_each(|at| self.copy(at))?,
            What::RestoreBoth => {
                self.restore(at, arg, "").await?;
                if let Some(above) = self.shape.parent(at) {
                    self.restore(above, arg, "").await?;
                }
            }
            What::Restore => self.restore(at, arg, "").await?,
            What::Promote => self.restore(at, arg, "fhir.db").await?,
            What::Full => self.nodes[at].disk.room.set_full(true),
            What::Room => self.give_room(at).await?,
            What::Forbid | What::Permit => self.set_policy(at, op.what == What::Forbid).await?,
            What::Older | What::Newer => self.set_older(at, op.what == What::Older),
            What::Time => self.pass(TIMES_MS[arg % TIMES_MS.len()]).await,
            What::Rogue => self.attack(at).await?,
            What::Pump
            | What::Send
            | What::Deliver
            | What::Answer
            | What::Cut
            | What::Late
            | What::Reverse
            | What::Twice
            | What::Part
            | What::Heal => self.carry(op.what, at, arg).await?,
        }
        Ok(())
    }

    async fn measure(
        &mut self,
        at: usize,
        device: usize,
        urgency: Urgency,
        count: usize,
    ) -> Result<(), Found> {
        if at >= self.devices.len() || device >= DEVICES.len() {
            return Ok(());
        }
        for _ in 0..count {
            let (number, text) = self.model.measure(at, device);
            let now = self.hand.now();
            let measured = self.devices[at][device].measure(number, &text, urgency, now);
            measured.map_err(|error| Found::new(Fault::Refused, format!("{error:#}")))?;
            self.hand.forward(1);
        }
        self.offer(at, device).await;
        Ok(())
    }

    /// The device offers what is not acknowledged.
    async fn offer(&mut self, at: usize, device: usize) -> bool {
        let Some(Run::Edge(store, _)) = &self.nodes[at].run else {
            return false;
        };
        let answers = self.devices[at][device].offer(store).await;
        for (number, answer) in &answers {
            match answer {
                Answer::Stored | Answer::Known => self.model.acknowledged(*number),
                Answer::Refused => self.model.refused(*number),
            }
        }
        !answers.is_empty()
    }

    async fn again(&mut self, at: usize, device: usize) -> Result<(), Found> {
        let (Some(Run::Edge(store, _)), Some(devices)) =
            (&self.nodes[at].run, self.devices.get(at))
        else {
            return Ok(());
        };
        let Some(device) = devices.get(device) else {
            return Ok(());
        };
        match device.again(store).await {
            Some((number, Answer::Refused)) => {
                let how = format!("sample {number}, which was acknowledged");
                Err(Found::new(Fault::Refused, how))
            }
            Some((number, _)) => {
                self.model.acknowledged(number);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn restart_counter(&mut self, at: usize, device: usize, new_epoch: bool) {
        let devices = self.devices.get_mut(at);
        if let Some(device) = devices.and_then(|devices| devices.get_mut(device)) {
            device.restart(new_epoch);
        }
    }

    /// Tells the catalog of the facility's devices. A node that does not run, or has no room, does it when it can.
    async fn list(&mut self, at: usize) {
        if let Some(listing) = self.listings.get_mut(at) {
            *listing = Listing::Wanted;
            if self.list_devices(at).await {
                self.listings[at] = Listing::Done;
            }
        }
    }

    async fn list_devices(&self, at: usize) -> bool {
        let Some(store) = self.store(at) else {
            return false;
        };
        let mut devices = Vec::new();
        for id in DEVICES {
            let Ok(id) = id.parse() else { continue };
            if let Ok(entry) = store.device(&id).await {
                devices.push(DeviceRecord {
                    catalog_id: entry.catalog_id.as_bytes().to_vec().into(),
                    kind: entry.facts.kind.as_str().into(),
                    model: String::new(),
                    firmware: String::new(),
                    status: "active".into(),
                    updated_ms: self.hand.now().0,
                });
            }
        }
        let place = &self.nodes[at].place;
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let records = DeviceRecords {
            facility: text(place.facility().map(|it| it.as_str())),
            region: text(place.region().map(|it| it.as_str())),
            jurisdiction: text(place.jurisdiction().map(|it| it.as_str())),
            devices,
        };
        store.ship_devices(records).await.is_ok()
    }

    /// Time passes, and every facility looks after what is old and what was kept back.
    async fn pass(&mut self, ms: i64) {
        self.hand.forward(ms);
        if ms > i64::try_from(RETENTION_MS).unwrap_or(i64::MAX) {
            self.model.aged();
        }
        for at in 0..self.shape.facilities() {
            if let Some(store) = self.store(at) {
                let _swept = store.housekeep().await;
                self.ship_late(at).await;
            }
        }
        self.ship_again().await;
    }

    /// Every node ships again what was not taken and may be taken now; says whether anything was shipped.
    async fn ship_again(&self) -> bool {
        let mut shipped = 0;
        for node in &self.nodes {
            shipped += match &node.run {
                Some(Run::Edge(store, _)) if holds(store).await => {
                    store.ship_again().await.unwrap_or(0)
                }
                Some(Run::Upper(upper)) if upper.ledger.any_held().await.unwrap_or(false) => {
                    upper.ledger.ship_again().await.unwrap_or(0)
                }
                _ => 0,
            };
        }
        shipped > 0
    }

    async fn ship_late(&self, at: usize) -> bool {
        match self.store(at) {
            Some(store) if store.has_unshipped() => {
                store.ship_late().await.is_ok_and(|late| late.shipped > 0)
            }
            _ => false,
        }
    }

    async fn set_policy(&mut self, at: usize, mistaken: bool) -> Result<(), Found> {
        if self.nodes[at].mistaken == mistaken {
            return Ok(());
        }
        self.nodes[at].mistaken = mistaken;
        self.crash(at).await
    }

    /// The region of a facility gives it an order, if it can.
    async fn order(&mut self, at: usize, arg: usize) {
        let (Some(region), Some(known)) = (self.shape.parent(at), self.orders.get_mut(at)) else {
            return;
        };
        let Some(Run::Upper(upper)) = &self.nodes[region].run else {
            return;
        };
        self.ordered += 1;
        let order = Order {
            number: self.ordered,
            priority: if arg == 0 {
                types::Priority::Alarm
            } else {
                types::Priority::Live
            },
        };
        // One that was not given durably may come or not; another never has its number.
        known.given.insert(order.number);
        let id = self.hand.draws()();
        let _given = orders::give(&upper.ledger, &self.nodes[at].place, order, id).await;
    }

    fn set_older(&mut self, at: usize, older: bool) {
        if let Some(down) = self.downs.get_mut(at) {
            down.older = older;
        }
        for below in 0..self.wires.len() {
            if self.shape.parent(below) == Some(at) {
                self.wires[below].older = older;
            }
        }
    }
}

async fn holds(store: &Store) -> bool {
    store.holding().await.is_ok_and(|holding| holding.parcels)
}

fn no_start(error: &(impl std::fmt::Debug + ?Sized)) -> Found {
    Found::new(Fault::NoStart, format!("{error:?}"))
}
