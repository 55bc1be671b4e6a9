//! Studies on the stores that the product has: the global node's and the regions' ledgers, killed after every commit or
//! two, come to the same bits as ledgers that live. The facilities compute as the product's do, in memory.
//!
//! A node is killed by its disk: after a drawn number of fsyncs nothing is written any more, whoever tries; then the node is
//! opened again on a copy of its files, and what was under way to it or from it is lost.
use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use federation::{
    audit::Signer,
    blobs::{self, Blobs, Bulk as _, Descriptor, Digest, Files},
    envelope,
    ledger::{Commit, Handler, Handlers, Ledger},
    link::Door,
    port::{PortError, Verdict},
    reason,
    wire::Parcel,
};
use fl::{
    course::{Course, Evaluation, Standing},
    large::{Vector, to_bytes},
    member::MemberRound,
    order::{Aim, Answer, Ask, RoundKey},
    site,
    train::Records,
    wire,
};
use global::learning::{Studies, TakesReleases, Wished};
use medmesh_tests::sim::{
    disk::{Disk, folder},
    nodes::{Ground, door, key},
    wire::Wire,
};
use messages::{StudyAnswer, StudyAsk, StudyEnd, StudyRelease, StudyRound};
use parking_lot::Mutex;
use rand::{Rng, SeedableRng, rngs::StdRng};
use regional::learning::{Learning, TakesAnswers, TakesEnds, TakesRounds};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use tempfile::TempDir;
use types::{EnvelopeId, Place, Priority, Purpose, Timestamp};

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
data = {{ table = "t", minimum_records = 20, features = [{{ name = "x", unit = "1", missing = "zero" }}, {{ name = "y", unit = "1", missing = "zero" }}], label = {{ kind = "binary", column = "l" }} }}
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

fn records(place: &Place, count: usize) -> Records {
    let own = place.to_string().bytes().map(u64::from).sum();
    let mut random = StdRng::seed_from_u64(own);
    let (mut values, mut labels) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let pair: [f32; 2] = [
            random.random_range(-1.0..1.0),
            random.random_range(-1.0..1.0),
        ];
        values.extend(pair);
        labels.push(pair[0] + 0.3 * pair[1] > 0.0);
    }
    Records::new(2, values, labels).unwrap()
}

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

/// What a facility has of a round.
#[derive(Default)]
struct Held {
    round: Option<MemberRound>,
    /// The last ask that it took.
    asked: Option<Ask>,
    /// It says nothing.
    mute: bool,
}

/// A facility's part in rounds.
#[derive(Clone)]
struct Trains {
    place: Place,
    ledger: Ledger,
    blobs: Arc<Blobs<Ledger>>,
    held: Arc<Mutex<Held>>,
}

const STORED: Verdict = Verdict::Accepted { stored: 1 };

#[async_trait]
impl Rounds for Trains {
    async fn open(place: &Place, ledger: &Ledger, blobs: &Arc<Blobs<Ledger>>) -> Result<Self> {
        Ok(Self {
            place: place.clone(),
            ledger: ledger.clone(),
            blobs: blobs.clone(),
            held: Arc::default(),
        })
    }

    fn handlers(&self) -> Handlers {
        Handlers::new().on::<StudyAsk>(self.clone())
    }
}

fn name(key: &RoundKey) -> String {
    format!("study/{}/{}", key.study, key.round)
}

fn descriptor(vector: Vector) -> Descriptor {
    Descriptor {
        digest: Digest::from_bytes(vector.sha256),
        size: vector.bytes,
    }
}

impl Trains {
    /// What it answers; the model of a large round is not all here yet where that is none.
    fn answer(&self, region: &Place, asked: &wire::Asked) -> Option<Option<Answer>> {
        let mut held = self.held.lock();
        held.asked = Some(asked.ask.clone());
        match (&asked.ask, &asked.order) {
            (Ask::Over, _) => {
                held.round = None;
                return Some(None);
            }
            (Ask::Invite, Some(order)) => {
                let last = self.place.to_string().bytes().last();
                let secret = [last.unwrap(); 32];
                let begun = MemberRound::begin(order.clone(), region, asked.member, secret);
                held.round = Some(begun.unwrap());
                return Some((!held.mute).then_some(Answer::Accepted));
            }
            _ => {}
        }
        let round = held.round.as_mut()?;
        let made = match &asked.ask {
            Ask::Train(_) => Some(self.made(round)?),
            _ => None,
        };
        Some(round.answer(&asked.ask, made))
    }

    fn made(&self, round: &MemberRound) -> Option<(Vec<u32>, fl::order::Told)> {
        let order = match round.order().large {
            None => round.order().clone(),
            Some(model) => {
                let path = self.blobs.files().path(descriptor(model).digest).unwrap()?;
                let bytes = std::fs::read(path).unwrap();
                round.order().with_model(&bytes).unwrap()
            }
        };
        let (study, _) = order.read().unwrap();
        let facility = self.place.facility().unwrap();
        let seed = round.seed(&study, facility).unwrap_or([3; 32]);
        let own = (&records(&self.place, 60), &records(&self.place, 30));
        let made = site::work(&order, own, None, &mut StdRng::from_seed(seed)).unwrap();
        Some((made.numbers, made.told))
    }

    /// Wants what an ask needs, and sends the answer.
    async fn send(
        &self,
        region: &Place,
        asked: &wire::Asked,
        answer: Option<Answer>,
    ) -> Result<(), PortError> {
        let key = asked.key.clone();
        let model = asked.order.as_ref().and_then(|order| order.large);
        let is_large =
            |round: &MemberRound| round.order().large.is_some() && round.order().aim == Aim::Train;
        let is_large = self.held.lock().round.as_ref().is_some_and(is_large);
        let (mut answer, mut update) = (answer, None);
        if let (true, Some(Answer::Update { numbers, .. })) = (is_large, &answer) {
            let put = self.blobs.files().put_in(&to_bytes(numbers)[..]).unwrap();
            let vector = Vector {
                sha256: *put.descriptor.digest.as_bytes(),
                bytes: put.descriptor.size,
            };
            (answer, update) = (answer.map(|answer| answer.with_large(vector)), Some(put));
        }
        let (region, step) = (region.clone(), asked.ask.step());
        let kept = update.as_ref().map(|put| put.descriptor);
        let send = move |commit: &mut Commit<'_>| {
            if let Some(model) = model {
                blobs::want(commit.tx(), descriptor(model), &region, &name(&key))?;
            }
            let Some(answer) = answer else { return Ok(()) };
            let mut id = [0; 16];
            let text = format!("{}/{step:?}", key.round);
            id.iter_mut()
                .zip(text.bytes())
                .for_each(|(to, byte)| *to = byte);
            let (body, id) = (wire::answer(&key, answer, None), EnvelopeId::from_bytes(id));
            match kept {
                Some(update) => {
                    blobs::keep(commit.tx(), update, &name(&key))?;
                    let how = (Purpose::Research, id);
                    commit.offer::<StudyAnswer>(&region, how, body, update.digest)?;
                }
                None => {
                    let how = (Purpose::Research, Priority::Backlog);
                    commit.ship::<StudyAnswer>(&region, how, id, body)?;
                }
            }
            Ok(())
        };
        self.ledger.commit("answer", send).await
    }
}

#[async_trait]
impl Handler for Trains {
    async fn apply(&self, from: &Place, parcels: &[Parcel]) -> Result<Vec<Verdict>, PortError> {
        let mut verdicts = Vec::new();
        for parcel in parcels {
            let asked = wire::read_ask(envelope::open(parcel).unwrap()).unwrap();
            verdicts.push(match self.answer(from, &asked) {
                Some(answer) => {
                    self.send(from, &asked, answer).await?;
                    STORED
                }
                None => Verdict::Deferred {
                    reason: reason::NO_SPACE,
                },
            });
        }
        Ok(verdicts)
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
async fn go<A: Rounds, B: Rounds>(wire: &mut Wire, from: &Node<A>, to: &Node<B>) {
    wire.send(&from.ledger, &from.place, &to.door, rand::random)
        .await;
    wire.deliver(&from.place, &to.door, 0).await;
    wire.answer(&from.ledger, &to.door).await;
    // Blobs follow their descriptors; what fails is asked for again.
    while let Ok(Some(missing)) = to.blobs.missing(&from.place).await {
        let Ok(Some(chunk)) = from.blobs.chunk(&to.place, missing).await else {
            return;
        };
        if to.blobs.take(&from.place, missing, chunk).await.is_err() {
            return;
        }
    }
}

/// A region with its facilities, and the links of each with the tier above: up, and down.
struct Below {
    region: Node<Learning>,
    facilities: Vec<(Node<Trains>, [Wire; 2])>,
    wires: [Wire; 2],
}

struct World {
    global: Node<Studies>,
    below: Vec<Below>,
    /// Draws how long lives last; none where nobody is killed.
    lives: Option<StdRng>,
    kills: usize,
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
                facilities.push((Node::new(root, facility).await?, Default::default()));
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
            kills: 0,
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
        self.kills += usize::from(died);
        life(&self.global.disk.room);
        let mut all = Vec::new();
        for mut below in self.below {
            let (region, died) = below.region.again().await?;
            below.region = region;
            self.kills += usize::from(died);
            if died {
                below.wires[0].vanish();
                below.wires[1].lose(&self.global.ledger).await;
                for (facility, [up, down]) in &mut below.facilities {
                    up.lose(&facility.ledger).await;
                    down.vanish();
                }
            }
            life(&below.region.disk.room);
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
        anyhow::bail!("it has stopped after {} kills", self.kills)
    }
}

/// The bits of the model, what it is worth, and how often a node was killed.
async fn ended(model: &str, seed: Option<u64>) -> Result<(Vec<u32>, Evaluation, usize)> {
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
    let bits = course.model().iter().map(|value| value.to_bits()).collect();
    let found = course.evaluation().context("an evaluation")?.clone();
    Ok((bits, found, world.kills))
}

#[tokio::test]
async fn a_round_ends_with_the_same_bits_when_global_node_and_regions_are_killed_at_every_commit() {
    for (model, numbers) in [(SMALL, 3), (LARGE, 101_701)] {
        let (bits, found, kills) = ended(model, None).await.unwrap();
        assert_eq!((bits.len(), kills), (numbers, 0));
        let (again, found_again, kills) = ended(model, Some(1)).await.unwrap();
        assert!(kills > 30, "{kills} kills");
        assert!(
            again == bits,
            "after {kills} kills the model is another one"
        );
        assert_eq!(found_again, found);
    }
}

#[tokio::test]
async fn regions_and_facilities_are_told_when_a_study_is_cancelled() {
    let world = World::new(None).await.unwrap();
    // One says nothing, so that its region waits; the other region has released.
    world.below[1].facilities[0].0.rounds.held.lock().mute = true;
    let (mut world, id) = world.submit(SMALL).await.unwrap();
    let us_has_released = async |world: &World| {
        let held = world.below[0].facilities[0].0.rounds.held.lock();
        Ok(held.asked == Some(Ask::Over))
    };
    world = world.until(us_has_released).await.unwrap();
    let asked = |world: &World| {
        let facilities = world.below[1].facilities.iter();
        let all = facilities.map(|(facility, _)| facility.rounds.held.lock().asked.clone());
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
