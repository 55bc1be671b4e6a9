//! The nodes of a simulated mesh: the product's stores, ledgers, gates and intakes, opened on simulated disks as a start
//! of the node opens them. Only sockets and tasks are left out.
use super::{clock::Hand, orders, wire};
use anyhow::{Result, anyhow};
use async_trait::async_trait;
use ed25519_dalek::SigningKey;
use edge::config::BedAssignment;
use federation::models::DeviceModels;
use federation::{
    audit::Signer,
    envelope::{self, Intact},
    identity::Identity,
    ledger::{Apply, Ledger},
    link::Door,
    pki::{self, Ca, LOCAL_NAMES},
    policy::Rules,
    port::{PortError, PortErrorKind, Verdict},
    tls::{ReloadingTls, TlsPaths},
};
use fhir::{sqlite::SqliteStore, store::ResourceStore};
use global::catalog::{Catalog, sqlite::SqliteCatalog};
use messages::{DeviceRecords, ReadingBatch};
use node::quantity::{Size, Span};
use parking_lot::Mutex;
use rand::{SeedableRng, rngs::StdRng};
use regional::registry::Registry;
use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};
use store::{Bounds, DeviceFacts, Entropy, Handlers, Store, StoreOptions};
use types::{DeviceKind, Place, Secret, Timestamp};

/// Mesh time for which a facility keeps what was delivered, in ms.
pub const RETENTION_MS: u64 = 86_400_000;
/// The devices of each facility.
pub const DEVICES: [&str; 2] = ["m1", "m2"];

/// What is the same in every mesh of this process: made once, as it costs milliseconds.
pub struct Ground {
    /// The built-in policies.
    pub rules: Arc<Rules>,
    /// Policies in which care is missing by mistake.
    pub mistaken: Arc<Rules>,
    tls: Arc<ReloadingTls>,
}

impl Ground {
    /// The one of this process.
    ///
    /// # Errors
    /// It could not be made.
    pub fn get() -> Result<&'static Self> {
        static GROUND: OnceLock<Result<Ground, String>> = OnceLock::new();
        let made = GROUND.get_or_init(|| Self::make().map_err(|error| format!("{error:#}")));
        made.as_ref().map_err(|error| anyhow!("{error}"))
    }

    fn make() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let policies = dir.path().join("policies");
        std::fs::create_dir_all(&policies)?;
        std::fs::write(policies.join("common.cedar"), MISTAKEN)?;
        Ok(Self {
            rules: Arc::new(Rules::builtin()?),
            mistaken: Arc::new(Rules::load(Some(&policies))?),
            tls: tls(dir.path())?,
        })
    }
}

/// Whoever wrote it forgot the files of the jurisdictions.
const MISTAKEN: &str = r#"
@id("equipment")
permit (principal, action in [Action::"operations", Action::"audit"], resource)
when { context.class == Class::"device-metadata" || context.class == Class::"audit-checkpoint" };
"#;

/// A certificate, which a door must have; nothing is dialled here.
fn tls(dir: &Path) -> Result<Arc<ReloadingTls>> {
    let now = node::clock::Clock::new(None).real();
    let ca = Ca::init(&dir.join("ca"), now)?;
    let mut rng = StdRng::seed_from_u64(1);
    let identity = Identity::Node(Place::Global);
    let ttl = Duration::from_secs(60);
    let code = ca.invite(&identity, &LOCAL_NAMES, ttl, now, &mut rng)?;
    let new = pki::new_key_and_csr(&identity, Some(&key(&Place::Global)))?;
    let pem = ca.enrol(&code, &new.csr_pem, now, &mut rng)?;
    let paths = TlsPaths {
        ca: ca.ca_path(),
        cert: dir.join("node.pem"),
        key: dir.join("node.key"),
        crl: ca.crl_path(),
        received: None,
        issued: None,
    };
    pki::write_public(&paths.cert, &pem)?;
    pki::write_private(&paths.key, &new.key_pem)?;
    Ok(ReloadingTls::open(paths, true, Arc::new(move || now))?)
}

/// The signing key of a place.
#[must_use]
pub fn key(place: &Place) -> SigningKey {
    let mut seed = [7; 32];
    for (at, byte) in place.to_string().bytes().enumerate() {
        seed[at % 32] ^= byte;
    }
    SigningKey::from_bytes(&seed)
}

/// What a node is opened with.
pub struct Opening<'a> {
    /// Where it stands.
    pub place: &'a Place,
    /// The folder of its disk.
    pub dir: &'a Path,
    /// The policies that it starts with.
    pub rules: Arc<Rules>,
    /// Time.
    pub hand: &'static Hand,
    /// Randomness.
    pub entropy: Entropy,
}

impl Opening<'_> {
    /// A facility's store.
    ///
    /// # Errors
    /// It does not open.
    pub async fn edge(self, region: &Place) -> Result<(Store, Door)> {
        let devices = DEVICES.iter().zip(1..).map(|(id, bed)| {
            Ok(DeviceFacts {
                id: id.parse()?,
                kind: DeviceKind::BedsideMonitor,
                bed: Some(format!("bed-{bed}")),
                limits: DeviceFacts::DEFAULT_LIMITS,
                serial: None,
            })
        });
        let beds = (1..=DEVICES.len()).map(|bed| BedAssignment {
            bed: format!("bed-{bed}"),
            from: Timestamp(0).to_rfc3339(),
            patient: Some(format!("patient-{bed}")),
            gender: Some("female".into()),
            ..BedAssignment::default()
        });
        let store = Store::open(StoreOptions {
            dir: self.dir.into(),
            facility_key: Secret::new([7; 32]),
            place: self.place.clone(),
            region: region.clone(),
            bounds: Bounds {
                max: Size(1 << 30),
                alarm_reserve: Size(1 << 20),
            },
            retention: Span::ms(RETENTION_MS),
            devices: devices.collect::<Result<_>>()?,
            beds: beds.filter_map(|bed| bed.fact()).collect(),
            rules: self.rules,
            profile: None,
            signer: Signer::new(self.place, key(self.place)),
            time: Arc::new(self.hand),
            entropy: self.entropy,
            handlers: Handlers::new().on::<DeviceRecords>(Arc::new(orders::Keeps)),
        })?;
        store.begin_log().await?;
        let door = door_of_store(self.place, &store)?;
        Ok((store, door))
    }

    /// A region, or the global node.
    ///
    /// # Errors
    /// It does not open.
    pub async fn upper(self, watch: Arc<Watch>) -> Result<Upper> {
        let store = match self.place {
            Place::Global => None,
            _ => Some(SqliteStore::open(&self.dir.join("fhir.db"))?),
        };
        self.upper_on(
            watch,
            store.map(|store| Arc::new(store) as Arc<dyn ResourceStore>),
        )
        .await
    }

    /// The same on a region's clinical store; the global node without one.
    ///
    /// # Errors
    /// It does not open.
    pub async fn upper_on(
        self,
        watch: Arc<Watch>,
        store: Option<Arc<dyn ResourceStore>>,
    ) -> Result<Upper> {
        let at = |name: &str| self.dir.join(name);
        let signer = Signer::new(self.place, key(self.place));
        let hand = self.hand;
        let now = Arc::new(move || hand.now());
        let here = self.place.clone();
        let ledger = Ledger::open(&at("ledger.db"), here.clone(), self.rules, signer, now)?;
        ledger.begin_log().await?;
        orders::prepare(&ledger).await?;
        watch.mend();
        let (apply, above): (Arc<dyn Apply>, _) = match store {
            None => {
                let catalog: Arc<dyn Catalog> = Arc::new(SqliteCatalog::open(&at("catalog.db"))?);
                let intake = global::intake::Intake::new(
                    catalog.clone(),
                    DeviceModels::default(),
                    hand.clock(),
                );
                (Arc::new(intake.handlers(&ledger)), Above::Global(catalog))
            }
            Some(store) => {
                let registry = Registry::open(&at("region.db"))?;
                let intake = regional::intake::Intake {
                    store,
                    registry: registry.clone(),
                    ledger: ledger.clone(),
                    here: here.clone(),
                    clock: hand.clock(),
                    draw: self.hand.draws(),
                    models: DeviceModels::default(),
                    true_times: Arc::new(|| false),
                    numbering: regional::numbering::Numbering::open(self.dir)?,
                };
                // A store that is behind its ledger is noted; what it lacks is asked for when senders meet it.
                let _noted = intake.compare_store().await;
                (Arc::new(intake.handlers()), Above::Region(registry))
            }
        };
        let door = door(&here, &ledger, Watched { apply, watch })?;
        Ok(Upper {
            ledger,
            door,
            above,
        })
    }
}

/// Where a facility's parcels are judged and answered.
///
/// # Errors
/// No certificate can be made.
pub fn door_of_store(here: &Place, store: &Store) -> Result<Door> {
    Ok(Door {
        here: here.clone(),
        key: key(here),
        gate: Arc::new(store.clone()),
        inbox: Arc::new(store.clone()),
        tls: Ground::get()?.tls.clone(),
        outbox: None,
        bulk: None,
        authority: None,
        tap: None,
    })
}

/// Where a ledger's parcels are judged and answered.
///
/// # Errors
/// No certificate can be made.
pub fn door(here: &Place, ledger: &Ledger, apply: impl Apply) -> Result<Door> {
    Ok(Door {
        here: here.clone(),
        key: key(here),
        gate: Arc::new(ledger.clone()),
        inbox: Arc::new(ledger.inbox(apply)),
        tls: Ground::get()?.tls.clone(),
        outbox: None,
        bulk: None,
        authority: None,
        tap: None,
    })
}

/// What a node above the facilities keeps beside its ledger.
pub enum Above {
    /// A region: its registry of devices.
    Region(Registry),
    /// The global node: its catalog.
    Global(Arc<dyn Catalog>),
}

/// A region or the global node.
pub struct Upper {
    /// Audit log, answers, outbox.
    pub ledger: Ledger,
    /// Where parcels are judged and answered.
    pub door: Door,
    /// What it keeps.
    pub above: Above,
}

/// What a node was seen to apply, and whether it is to be torn from its work.
#[derive(Default)]
pub struct Watch {
    tear: Mutex<Tear>,
    /// With which priority each value came first, and the batches by sender.
    pub seen: Mutex<Seen>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Tear {
    #[default]
    No,
    Wanted,
    Torn,
}

/// What came, as the parcels said it.
#[derive(Default)]
pub struct Seen {
    /// By value: the priority of its parcel.
    pub priorities: HashMap<String, u32>,
    /// By sender: the last batch of which every reading was stored.
    pub batches: HashMap<String, ReadingBatch>,
}

impl Watch {
    /// The next step of work is lost between the commit of the records and that of the answer.
    pub fn tear(&self) {
        *self.tear.lock() = Tear::Wanted;
    }

    /// The node was put back: who sent what is not known there any more.
    pub fn forget(&self) {
        self.seen.lock().batches.clear();
    }

    /// The node starts again.
    fn mend(&self) {
        *self.tear.lock() = Tear::No;
    }

    /// Whether the node was torn from its work and must be started again.
    #[must_use]
    pub fn is_torn(&self) -> bool {
        *self.tear.lock() == Tear::Torn
    }
}

/// The product's intake, watched.
struct Watched {
    apply: Arc<dyn Apply>,
    watch: Arc<Watch>,
}

#[async_trait]
impl Apply for Watched {
    async fn mark(&self) -> Result<Option<u64>, PortError> {
        self.apply.mark().await
    }

    async fn apply(&self, from: &Place, parcels: &[Intact]) -> Result<Vec<Verdict>, PortError> {
        const OP: &str = "torn from its work";
        let lost = || PortError {
            kind: PortErrorKind::Unavailable,
            op: OP,
            source: None,
        };
        if self.watch.is_torn() {
            return Err(lost());
        }
        let verdicts = self.apply.apply(from, parcels).await?;
        let mut seen = self.watch.seen.lock();
        for (parcel, verdict) in parcels.iter().zip(&verdicts) {
            if let (Ok(batch), Verdict::Accepted { stored }) =
                (envelope::open::<ReadingBatch>(parcel), verdict)
            {
                for value in wire::values(&batch) {
                    let first = seen.priorities.entry(value.to_owned());
                    first.or_insert(parcel.priority);
                }
                if *stored > 0 {
                    seen.batches.insert(from.to_string(), batch);
                }
            }
        }
        drop(seen);
        let mut tear = self.watch.tear.lock();
        if *tear == Tear::Wanted {
            *tear = Tear::Torn;
            return Err(lost());
        }
        Ok(verdicts)
    }
}
