//! Studies on the stores that the product has: the global node's and the regions' ledgers and the facilities' stores, killed after
//! every commit or two, come to the same bits as those that live, and a facility pays once. Workers are processes of the
//! product.
//!
//! A node is killed by its disk: after a drawn number of fsyncs nothing is written any more, whoever tries; then the node is
//! opened again on a copy of its files, and what was under way to it or from it is lost.
mod facility;

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use facility::Facility;
use federation::{
    audit::Signer,
    blobs::{Blobs, Bulk, CHUNK_BYTES, Files},
    ledger::{Handlers, Ledger},
    link::Door,
    port::Outbox,
};
use fl::{
    course::{Course, Evaluation, Standing},
    order::Ask,
};
use global::learning::{Studies, TakesReleases, Wished};
use medmesh_tests::sim::{
    disk::{Disk, folder},
    nodes::{Ground, door, key},
    wire::Wire,
};
use messages::{StudyAnswer, StudyEnd, StudyRelease, StudyRound};
use rand::{Rng, SeedableRng, rngs::StdRng};
use regional::learning::{Learning, TakesAnswers, TakesEnds, TakesRounds};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use tempfile::TempDir;
use types::{Place, Timestamp};

/// All of them live at this instant: no deadline passes.
const NOW: Timestamp = Timestamp(1_767_225_600_000);
const REGIONS: [&str; 2] = ["regional/us/us", "regional/eu/eu"];
const FACILITIES: [&str; 4] = [
    "edge/us/us/us-f1",
    "edge/us/us/us-f2",
    "edge/eu/eu/eu-f1",
    "edge/eu/eu/eu-f2",
];
/// A life of a node lasts for so many fsyncs at most: a commit has one, and two where the log begins anew.
const LIFE: i64 = 3;
/// Turns after which a study has stopped.
const MAX_TURNS: usize = 4_000;

fn text(model: &str) -> String {
    format!(
        r#"name = "small"
sites = 2
data = {{ table = "t", minimum_records = 20, features = [{{ name = "x", unit = "1", missing = "zero", scale = {{ centre = 0, width = 1 }} }}, {{ name = "y", unit = "1", missing = "zero", scale = {{ centre = 0, width = 1 }} }}], label = {{ kind = "binary", column = "l" }} }}
model = {model}
training = {{ rounds = 1, steps = 3, batch = 8, learning_rate = 0.5, strategy = {{ kind = "fed-avg" }} }}
aggregation = {{ secure = true, quorum = 2, bound = 8.0 }}
deadlines = {{ accept_seconds = 60, train_seconds = 60, exchange_seconds = 60 }}
"#
    )
}

const SMALL: &str = r#"{ kind = "logistic" }"#;
/// Of more than the 100,000 numbers that a parcel carries.
const LARGE: &str = r#"{ kind = "mlp", hidden = [400, 250] }"#;
/// With noise, which is another one each time, and a debit for it.
const PRIVATE: &str = r#"{ kind = "logistic" }
privacy = { unit = "record", epsilon = 8.0, delta = 1e-3, clip = 1.0 }"#;

/// What a node does with rounds.
#[async_trait]
trait Rounds: Sized + Send + Sync {
    async fn open(place: &Place, ledger: &Ledger, blobs: &Arc<Blobs<Ledger>>) -> Result<Self>;
    fn handlers(&self) -> Handlers;
}

#[async_trait]
impl Rounds for Studies {
    async fn open(place: &Place, ledger: &Ledger, blobs: &Arc<Blobs<Ledger>>) -> Result<Self> {
        Ok(Self::open(ledger.clone(), blobs.clone(), key(place)).await?)
    }

    fn handlers(&self) -> Handlers {
        Handlers::new().on::<StudyRelease>(TakesReleases(self.clone()))
    }
}

#[async_trait]
impl Rounds for Learning {
    async fn open(_: &Place, ledger: &Ledger, blobs: &Arc<Blobs<Ledger>>) -> Result<Self> {
        Ok(Self::open(ledger.clone(), blobs.clone()).await?)
    }

    fn handlers(&self) -> Handlers {
        Handlers::new()
            .on::<StudyRound>(TakesRounds(self.clone()))
            .on::<StudyEnd>(TakesEnds(self.clone()))
            .on::<StudyAnswer>(TakesAnswers(self.clone()))
    }
}

/// Who is at one end of a link.
trait Party {
    fn place(&self) -> &Place;
    fn outbox(&self) -> &dyn Outbox;
    fn door(&self) -> &Door;
    fn bulk(&self) -> &dyn Bulk;
}

impl<T> Party for Node<T> {
    fn place(&self) -> &Place {
        &self.place
    }

    fn outbox(&self) -> &dyn Outbox {
        &self.ledger
    }

    fn door(&self) -> &Door {
        &self.door
    }

    fn bulk(&self) -> &dyn Bulk {
        &*self.blobs
    }
}

/// A node, in one of its lives.
struct Node<T> {
    place: Place,
    disk: Disk,
    files: PathBuf,
    rounds: T,
    ledger: Ledger,
    blobs: Arc<Blobs<Ledger>>,
    door: Door,
}

impl<T: Rounds> Node<T> {
    async fn new(root: &Path, place: &str) -> Result<Self> {
        let empty = root.join("empty");
        std::fs::create_dir_all(&empty)?;
        let name = place.replace('/', "-");
        let disk = Disk::of(root.join(&name), &empty)?;
        Self::open(place.parse()?, disk, root.join(format!("{name}-blobs"))).await
    }

    async fn open(place: Place, disk: Disk, files: PathBuf) -> Result<Self> {
        disk.room.lose_after(i64::MAX);
        let ledger = Ledger::open(
            &disk.now.join("ledger.db"),
            place.clone(),
            Ground::get()?.rules.clone(),
            Signer::new(&place, key(&place)),
            Arc::new(|| NOW),
        )?;
        ledger.begin_log().await?;
        let blobs = Arc::new(Blobs::new(ledger.clone(), Arc::new(Files::open(&files)?)));
        let rounds = T::open(&place, &ledger, &blobs).await?;
        let door = door(&place, &ledger, rounds.handlers())?;
        Ok(Self {
            place,
            disk,
            files,
            rounds,
            ledger,
            blobs,
            door,
        })
    }

    /// Killed, if its time has come: it is opened again on what was written.
    async fn again(self) -> Result<(Self, bool)> {
        if !self.disk.room.is_lost() {
            return Ok((self, false));
        }
        let Self {
            place,
            mut disk,
            files,
            ..
        } = self;
        disk.cut()?;
        Ok((Self::open(place, disk, files).await?, true))
    }
}

/// What goes one way between two nodes that have met.
async fn go(wire: &mut Wire, from: &dyn Party, to: &dyn Party) {
    wire.send(from.outbox(), from.place(), to.door(), rand::random)
        .await;
    wire.deliver(from.place(), to.door(), 0).await;
    wire.answer(from.outbox(), to.door()).await;
    // Blobs follow their descriptors; what fails is asked for again.
    while let Ok(Some(missing)) = to.bulk().missing(from.place()).await {
        let Ok(Some(chunk)) = from.bulk().chunk(to.place(), missing, CHUNK_BYTES).await else {
            return;
        };
        if to.bulk().take(from.place(), missing, chunk).await.is_err() {
            return;
        }
    }
}

/// A region with its facilities, and the links of each with the tier above: up, and down.
struct Below {
    region: Node<Learning>,
    facilities: Vec<(Facility, [Wire; 2])>,
    wires: [Wire; 2],
}

struct World {
    global: Node<Studies>,
    below: Vec<Below>,
    /// Draws how long lives last; none where nobody is killed.
    lives: Option<StdRng>,
    /// How often a node above was killed, and a facility.
    kills: [usize; 2],
    _folder: TempDir,
}

impl World {
    async fn new(seed: Option<u64>) -> Result<Self> {
        let folder = folder()?;
        let root = folder.path();
        let mut below = Vec::new();
        for region in REGIONS {
            let mut facilities = Vec::new();
            let own = region.trim_start_matches("regional/");
            for facility in FACILITIES.iter().filter(|of| of.contains(own)) {
                facilities.push((Facility::new(root, facility).await?, Default::default()));
            }
            below.push(Below {
                region: Node::new(root, region).await?,
                facilities,
                wires: Default::default(),
            });
        }
        let mut world = Self {
            global: Node::new(root, "global").await?,
            below,
            lives: None,
            kills: [0; 2],
            _folder: folder,
        };
        // Everybody has met before the study begins, and is mortal from then on.
        world = world.turn().await?;
        world.lives = seed.map(StdRng::seed_from_u64);
        Ok(world)
    }

    /// Whatever is under way arrives, each node works, and whoever was killed is started again.
    async fn turn(mut self) -> Result<Self> {
        for below in &mut self.below {
            let region = &below.region;
            let [up, down] = &mut below.wires;
            go(down, &self.global, region).await;
            for (facility, [up, down]) in &mut below.facilities {
                go(down, region, facility).await;
                facility.work().await;
                go(up, facility, region).await;
            }
            let _later = region.rounds.step().await;
            go(up, region, &self.global).await;
        }
        let _later = self.global.rounds.step().await;
        self.start_again().await
    }

    async fn start_again(mut self) -> Result<Self> {
        let mut life = |room: &storage::fault::Room| {
            if let Some(random) = &mut self.lives {
                room.lose_after(random.random_range(1..=LIFE));
            }
        };
        let (global, died) = self.global.again().await?;
        self.global = global;
        for below in &mut self.below {
            if died {
                below.wires[0].lose(&below.region.ledger).await;
                below.wires[1].vanish();
            }
        }
        self.kills[0] += usize::from(died);
        life(&self.global.disk.room);
        let mut all = Vec::new();
        for mut below in self.below {
            let (region, died) = below.region.again().await?;
            below.region = region;
            self.kills[0] += usize::from(died);
            if died {
                below.wires[0].vanish();
                below.wires[1].lose(&self.global.ledger).await;
                for (facility, [up, down]) in &mut below.facilities {
                    up.lose(facility.outbox()).await;
                    down.vanish();
                }
            }
            life(&below.region.disk.room);
            let mut facilities = Vec::new();
            for (facility, [mut up, mut down]) in below.facilities {
                let (facility, died) = facility.again().await?;
                self.kills[1] += usize::from(died);
                if died {
                    up.vanish();
                    down.lose(&below.region.ledger).await;
                }
                life(&facility.disk.room);
                facilities.push((facility, [up, down]));
            }
            below.facilities = facilities;
            all.push(below);
        }
        self.below = all;
        Ok(self)
    }

    async fn submit(self, model: &str) -> Result<(Self, types::Name)> {
        let wished = self.global.rounds.submit(text(model), "test".into(), 7);
        let Wished::Done(found) = wished.await? else {
            anyhow::bail!("the study is not taken");
        };
        let id = found.0.id().clone();
        Ok((self, id))
    }

    async fn found(&self, id: &types::Name) -> Result<Course> {
        let found = self.global.rounds.find(id.clone()).await?;
        Ok(found.context("the study")?.0)
    }

    async fn until(mut self, is: impl AsyncFn(&Self) -> Result<bool>) -> Result<Self> {
        for _ in 0..MAX_TURNS {
            self = self.turn().await?;
            if is(&self).await? {
                return Ok(self);
            }
        }
        anyhow::bail!("it has stopped after {:?} kills", self.kills)
    }
}

/// What a study came to.
struct Ended {
    /// The bits of the model.
    bits: Vec<u32>,
    evaluation: Evaluation,
    kills: [usize; 2],
    /// How often each facility has paid.
    paid: Vec<usize>,
}

async fn ended(model: &str, seed: Option<u64>) -> Result<Ended> {
    let world = World::new(None).await?;
    let (mut world, id) = world.submit(model).await?;
    world.lives = seed.map(StdRng::seed_from_u64);
    let world = world
        .until(async |world| Ok(*world.found(&id).await?.standing() != Standing::Running))
        .await?;
    let course = world.found(&id).await?;
    ensure!(
        *course.standing() == Standing::Done,
        "{:?}",
        course.standing()
    );
    let facilities = world.below.iter().flat_map(|below| &below.facilities);
    let paid = facilities.map(|(facility, _)| facility.paid());
    Ok(Ended {
        bits: course.model().iter().map(|value| value.to_bits()).collect(),
        evaluation: course.evaluation().context("an evaluation")?.clone(),
        kills: world.kills,
        paid: paid.collect::<Result<_>>()?,
    })
}

#[tokio::test]
async fn a_round_ends_with_the_same_bits_when_every_node_is_killed_at_every_commit() {
    for (model, numbers) in [(SMALL, 3), (LARGE, 101_701)] {
        let calm = ended(model, None).await.unwrap();
        assert_eq!((calm.bits.len(), calm.kills), (numbers, [0; 2]));
        let killed = ended(model, Some(1)).await.unwrap();
        let [above, facilities] = killed.kills;
        assert!(above > 30 && facilities > 30, "{:?} kills", killed.kills);
        assert!(
            killed.bits == calm.bits,
            "after {:?} kills the model is another one",
            killed.kills
        );
        assert_eq!(killed.evaluation, calm.evaluation);
        assert_eq!(killed.paid, [0; 4], "nothing is promised, and nothing paid");
    }
}

#[tokio::test]
async fn a_facility_that_is_killed_at_every_commit_pays_once_for_a_round() {
    let killed = ended(PRIVATE, Some(2)).await.unwrap();
    assert!(killed.kills[1] > 30, "{:?} kills", killed.kills);
    assert_eq!(killed.paid, [1; 4]);
}

#[tokio::test]
async fn regions_and_facilities_are_told_when_a_study_is_cancelled() {
    let mut world = World::new(None).await.unwrap();
    // One says nothing, so that its region waits; the other region has released.
    world.below[1].facilities[0].0.mute = true;
    let (mut world, id) = world.submit(SMALL).await.unwrap();
    let us_has_released = async |world: &World| {
        let asked = world.below[0].facilities[0].0.asked.lock();
        Ok(*asked == Some(Ask::Over))
    };
    world = world.until(us_has_released).await.unwrap();
    let asked = |world: &World| {
        let facilities = world.below[1].facilities.iter();
        let all = facilities.map(|(facility, _)| facility.asked.lock().clone());
        all.collect::<Vec<_>>()
    };
    assert_eq!(asked(&world), [Some(Ask::Invite), Some(Ask::Invite)]);
    let Wished::Done(_) = world.global.rounds.cancel(id.clone()).await.unwrap() else {
        panic!("it is cancelled");
    };
    world.lives = Some(StdRng::seed_from_u64(3));
    let told = async |world: &World| Ok(asked(world) == [Some(Ask::Over), Some(Ask::Over)]);
    world = world.until(told).await.unwrap();
    let course = world.found(&id).await.unwrap();
    assert_eq!(*course.standing(), Standing::Cancelled);
    assert!(course.ends().is_empty(), "told once");
}
