//! A facility of the rounds: the product's store, consent, debits and answers, on a disk that is killed like the others', and its
//! worker as a process of its own. It learns from a table that it has imported.
use super::{NOW, Party, key};
use anyhow::{Context as _, Result, anyhow};
use ed25519_dalek::pkcs8::{EncodePrivateKey as _, spki::der::pem::LineEnding};
use edge::{
    config::EdgeConfig,
    dataset::{Datasets, Origin, digest},
    facility::{Changes, Facility as View},
    freshness::Monitor,
    learning::{Learner, Plans, TakesAsks},
};
use federation::{
    audit::Signer,
    blobs::{Blobs, Bulk, Files},
    envelope::{self, Intact},
    link::Door,
    pki,
    port::{Outbox, Verdict},
};
use fl::{
    order::Ask,
    table::{Schema, import},
    wire,
};
use medmesh_tests::{
    binary,
    sim::{
        disk::Disk,
        nodes::{Ground, door_of_store},
    },
};
use messages::StudyAsk;
use node::quantity::{Size, Span};
use parking_lot::Mutex;
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};
use store::{
    Bounds, Commit, Handler, Handlers, Store, StoreError, StoreOptions,
    clockguard::{Now, Time},
    system_entropy,
};
use types::{Place, Secret};

/// Records of a facility.
const RECORDS: usize = 90;
const SCHEMA: &str = r#"
columns = [
  { name = "x", unit = "1", min = -1, max = 1 },
  { name = "y", unit = "1", min = -1, max = 1 },
  { name = "l", unit = "1", categories = [0, 1] },
]
"#;
/// Steps of one turn: more than there can be asks.
const MAX_STEPS: usize = 100;

/// The instant at which everybody lives.
struct Still;

impl Time for Still {
    fn now(&self) -> Now {
        Now {
            real: NOW,
            mesh: NOW,
            trusted: true,
        }
    }
}

type Asked = Arc<Mutex<Option<Ask>>>;

/// Takes asks in as the product does, and remembers the last one.
struct Watched {
    takes: TakesAsks,
    asked: Asked,
}

impl Handler for Watched {
    fn apply(
        &self,
        commit: &mut Commit<'_, '_>,
        from: &Place,
        parcel: &Intact,
    ) -> Result<Verdict, StoreError> {
        let message = envelope::open::<StudyAsk>(parcel).ok();
        if let Some(asked) = message.and_then(|message| wire::read_ask(message).ok()) {
            *self.asked.lock() = Some(asked.ask);
        }
        self.takes.apply(commit, from, parcel)
    }

    fn committed(&self) {
        self.takes.committed();
    }
}

/// A facility, in one of its lives.
pub struct Facility {
    place: Place,
    pub disk: Disk,
    /// Where its keys and blobs are.
    beside: PathBuf,
    store: Store,
    blobs: Arc<Blobs<Store>>,
    door: Door,
    learner: Learner,
    config: EdgeConfig,
    /// The last ask that came, in any of its lives.
    pub asked: Asked,
    /// It answers nothing.
    pub mute: bool,
}

impl Party for Facility {
    fn place(&self) -> &Place {
        &self.place
    }

    fn outbox(&self) -> &dyn Outbox {
        &self.store
    }

    fn door(&self) -> &Door {
        &self.door
    }

    fn bulk(&self) -> &dyn Bulk {
        &*self.blobs
    }
}

impl Facility {
    /// One that has never lived, with its records.
    pub async fn new(root: &Path, place: &str) -> Result<Self> {
        let empty = root.join("empty");
        fs::create_dir_all(&empty)?;
        let name = place.replace('/', "-");
        let (disk, beside) = (
            Disk::of(root.join(&name), &empty)?,
            root.join(name + "-own"),
        );
        let place: Place = place.parse()?;
        fs::create_dir_all(&beside)?;
        fs::write(beside.join("facility.key"), "07".repeat(32))?;
        let signing = key(&place).to_pkcs8_pem(LineEnding::LF);
        let signing = signing.map_err(|error| anyhow!("{error}"))?.to_string();
        pki::write_private(&beside.join("signing.key"), &Secret::new(signing))?;
        let facility = Self::open(place, disk, beside, Arc::default()).await?;
        let csv = records(&facility.place)?;
        let schema: Schema = toml::from_str(SCHEMA)?;
        let table = import(&schema, &csv).map_err(|faults| anyhow!("{faults:?}"))?;
        let origin = Origin {
            by: "test",
            digest: digest(&csv),
            now: NOW,
        };
        Datasets::open(&facility.config)?.import(&"t".parse()?, &table, &origin)?;
        Ok(facility)
    }

    async fn open(place: Place, disk: Disk, beside: PathBuf, asked: Asked) -> Result<Self> {
        disk.room.lose_after(i64::MAX);
        let config = config(&place, &disk.now, &beside)?;
        let (
            Place::Edge {
                jurisdiction,
                region,
                ..
            },
            rules,
        ) = (&place, Ground::get()?)
        else {
            anyhow::bail!("{place} is no facility");
        };
        let takes = Watched {
            takes: TakesAsks::new(Arc::default()),
            asked: Arc::clone(&asked),
        };
        let store = Store::open(StoreOptions {
            dir: disk.now.clone(),
            facility_key: Secret::new([7; 32]),
            place: place.clone(),
            region: Place::Regional {
                jurisdiction: *jurisdiction,
                region: region.clone(),
            },
            bounds: Bounds {
                max: Size(1 << 30),
                alarm_reserve: Size(1 << 20),
            },
            retention: Span::ms(86_400_000),
            devices: Vec::new(),
            beds: Vec::new(),
            rules: rules.rules.clone(),
            profile: None,
            signer: Signer::new(&place, key(&place)),
            time: Arc::new(Still),
            entropy: system_entropy,
            handlers: Handlers::new().on::<StudyAsk>(Arc::new(takes)),
        })?;
        store.begin_log().await?;
        let files = Arc::new(Files::open(&beside.join("blobs"))?);
        let blobs = Arc::new(Blobs::new(store.clone(), files));
        let view = View {
            store: store.clone(),
            monitor: Arc::new(Mutex::new(Monitor::new([], 0))),
            changes: Changes::default(),
        };
        let worker = binary::medmesh();
        let learner = Learner::new(config.clone(), view, blobs.clone(), Arc::new(Still), worker);
        Ok(Self {
            door: door_of_store(&place, &store)?,
            place,
            disk,
            beside,
            store,
            blobs,
            learner,
            config,
            asked,
            mute: false,
        })
    }

    /// Answers what it was asked, as far as it comes.
    pub async fn work(&self) {
        for _ in 0..MAX_STEPS {
            if self.mute || !matches!(self.learner.step().await, Ok(true)) {
                return;
            }
        }
    }

    /// Killed, if its time has come: it is opened again on what was written.
    pub async fn again(self) -> Result<(Self, bool)> {
        if !self.disk.room.is_lost() {
            return Ok((self, false));
        }
        let Self {
            place,
            mut disk,
            beside,
            asked,
            mute,
            ..
        } = self;
        disk.cut()?;
        let next = Self::open(place, disk, beside, asked).await?;
        Ok((Self { mute, ..next }, true))
    }

    /// How often it has paid.
    pub fn paid(&self) -> Result<usize> {
        let ledger = Plans::open(&self.config)?.ledger(&self.config)?;
        Ok(ledger.context("a ledger")?.entries().len())
    }
}

fn config(place: &Place, data: &Path, beside: &Path) -> Result<EdgeConfig> {
    let Place::Edge {
        jurisdiction,
        region,
        facility,
    } = place
    else {
        anyhow::bail!("{place} is no facility");
    };
    let (data, beside) = (data.display(), beside.display());
    let text = format!(
        r#"
jurisdiction = "{jurisdiction}"
region = "{region}"
facility = "{facility}"
data_dir = "{data}"
key_file = "{beside}/facility.key"
profiles = "{beside}"
tls = {{ ca = "ca.pem", cert = "node.pem", key = "node.key", signing_key = "{beside}/signing.key", crl = "crl.pem" }}
https = {{ listen = "127.0.0.1:0" }}
mqtt = {{ listen = "127.0.0.1:0" }}
uplink = {{ url = "https://127.0.0.1:1" }}

[learning]
approval = "automatic"
budget = {{ epsilon = 8.0, delta = 1e-3 }}

[learning.allow]
data = ["t"]
jurisdictions = ["us", "eu"]
minimum_records = 20
minimum_participants = 2
single_updates = false
without_privacy = true
judging = true
"#
    );
    Ok(toml::from_str(&text)?)
}

/// A table whose label follows from its two columns, another one at each facility.
fn records(place: &Place) -> Result<String> {
    let own = place.to_string().bytes().map(u64::from).sum();
    let mut random = StdRng::seed_from_u64(own);
    let mut csv = "x,y,l\n".to_owned();
    for _ in 0..RECORDS {
        let pair: [f32; 2] = [
            random.random_range(-1.0..1.0),
            random.random_range(-1.0..1.0),
        ];
        let label = u8::from(pair[0] + 0.3 * pair[1] > 0.0);
        writeln!(csv, "{:.6},{:.6},{label}", pair[0], pair[1])?;
    }
    Ok(csv)
}
