//! The attacker of date shifts: who reads, after the fact, everything that the region shows to clients and operators.
//!
//! 1,000 patients stay one after the other at 20 monitors over some months; two cold chains measure all the while, and
//! the catalog knows the devices. What the facility sends is as its store sends it (each of its rules has a test
//! there): random names for each stay, dates moved by whole days, days in the catalog. Each attack guesses the shift
//! of every patient it can. By chance one guess in 730 is right, or somewhat more: everybody knows in which months a
//! region gathered its data, and that bounds a shift. So chance is what the same attack comes to on the same resources
//! in an order that was drawn. An attack that is right so often that chance does it once in 10,000 times has found a
//! leak. Each attack is also tried where the defence against it is taken out, and
//! succeeds there. The seed is fixed.
use crate::{
    api,
    decode::tests::batch,
    intake::{Intake, tests::intake},
    registry::{Filter, Registry},
};
use axum::{
    body::Body,
    http::{HeaderMap, Request},
};
use federation::{
    envelope::{self, Intact},
    ledger::Apply,
    port::Verdict,
    wire::Parcel,
};
use fhir::{
    rest::{
        Access, AccessLog, Authorize, Denied, FhirApi, Granted, Interaction, Reader, Refused,
        Unwritten, Vantages,
    },
    search::Seal,
    store::ResourceType,
};
use messages::{DeviceRecord, DeviceRecords, ReadingBatch};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};
use tempfile::TempDir;
use tower::ServiceExt;
use types::Timestamp;

const DAY: i64 = Timestamp::DAY_MS;
const MONITORS: usize = 20;
const STAYS: usize = 50;
/// The first instant of the world.
const BEGIN: i64 = 1_700_006_400_000;
/// How probable it may be that mere chance looks like a leak.
const ALPHA: f64 = 1e-4;
/// Orders that are drawn to see what an attack comes to by chance.
const DRAWS: usize = 12;
/// Guesses a shift for each patient, from a listing.
type Attack = fn(&[Value]) -> HashMap<String, i64>;
/// The shifts that a facility draws from: a year either way, never none.
const SHIFTS: f64 = 730.0;

/// What of the defence is in place.
#[derive(Clone, Copy)]
struct Defence {
    /// Instants and orders are logical.
    logical: bool,
    /// Times of a cold chain are moved too.
    cold_moved: bool,
    /// A device has a name for each stay, and the catalog learns days.
    named_anew: bool,
}

const ALL: Defence = Defence {
    logical: true,
    cold_moved: true,
    named_anew: true,
};

/// A reading on its way: true time, name of the patient, name of the device, what the region sees as its time.
struct Sent {
    at: i64,
    patient: Option<[u8; 16]>,
    device: [u8; 16],
    kind: &'static str,
    seen: i64,
}

struct World {
    sent: Vec<Sent>,
    records: Vec<DeviceRecord>,
    /// By pseudonym of the patient, in days.
    shifts: BTreeMap<String, i64>,
}

fn hex(bytes: [u8; 16]) -> String {
    types::PatientPseudonym::from_bytes(bytes).to_string()
}

fn draw_shift(rng: &mut StdRng) -> i64 {
    let days = rng.random_range(-365..365_i64);
    if days < 0 { days } else { days + 1 }
}

fn record(rng: &mut StdRng, kind: &str, taken_into_use: i64, defence: Defence) -> DeviceRecord {
    let day = taken_into_use.div_euclid(DAY) * DAY + rng.random_range(1..1_000);
    DeviceRecord {
        catalog_id: rng.random::<[u8; 16]>().to_vec().into(),
        kind: kind.into(),
        model: String::new(),
        firmware: String::new(),
        status: "active".into(),
        updated_ms: if defence.named_anew {
            day
        } else {
            taken_into_use
        },
    }
}

impl World {
    fn new(defence: Defence) -> Self {
        let mut rng = StdRng::seed_from_u64(14);
        let mut world = Self {
            sent: Vec::new(),
            records: Vec::new(),
            shifts: BTreeMap::new(),
        };
        for _ in 0..MONITORS {
            world.monitor(&mut rng, defence);
        }
        for _ in 0..2 {
            world.cold_chain(&mut rng, defence);
        }
        // The order of commits is that of time: the link is up.
        world.sent.sort_by_key(|sent| sent.at);
        world
    }

    fn monitor(&mut self, rng: &mut StdRng, defence: Defence) {
        let mut at = BEGIN + rng.random_range(0..3 * DAY);
        self.records
            .push(record(rng, "bedside-monitor", at, defence));
        let constant: [u8; 16] = rng.random();
        for _ in 0..STAYS {
            let patient: [u8; 16] = rng.random();
            let anew: [u8; 16] = rng.random();
            let shift = draw_shift(rng);
            self.shifts.insert(hex(patient), shift);
            let length = rng.random_range(DAY..5 * DAY);
            for part in 0..4 {
                self.sent.push(Sent {
                    at: at + length * part / 3,
                    patient: Some(patient),
                    device: if defence.named_anew { anew } else { constant },
                    kind: "bedside-monitor",
                    seen: at + length * part / 3 + shift * DAY,
                });
            }
            at += length + rng.random_range(3_600_000..DAY);
        }
    }

    fn cold_chain(&mut self, rng: &mut StdRng, defence: Defence) {
        self.records.push(record(rng, "cold-chain", BEGIN, defence));
        let device = rng.random();
        let shift = if defence.cold_moved {
            draw_shift(rng)
        } else {
            0
        };
        let end = self.sent.iter().map(|sent| sent.at).max().unwrap();
        let mut at = BEGIN;
        while at < end {
            self.sent.push(Sent {
                at,
                patient: None,
                device,
                kind: "cold-chain",
                seen: at + shift * DAY,
            });
            at += DAY / 3;
        }
    }

    /// A parcel for each reading.
    fn parcels(&self) -> Vec<Parcel> {
        let mut rng = StdRng::seed_from_u64(15);
        let template = batch();
        let one = |sent: &Sent| {
            let mut body = ReadingBatch {
                salt: rng.random::<[u8; 16]>().to_vec().into(),
                ..template.clone()
            };
            body.readings.truncate(1);
            body.devices[0].pseudonym = sent.device.to_vec().into();
            body.devices[0].kind = sent.kind.into();
            match sent.patient {
                Some(patient) => body.patients[0].pseudonym = patient.to_vec().into(),
                None => body.patients.clear(),
            }
            body.readings[0] = messages::Reading {
                uid: rng.random::<[u8; 16]>().to_vec().into(),
                device: 0,
                patient: u32::from(sent.patient.is_some()),
                effective_ms: sent.seen,
                ..body.readings[0].clone()
            };
            parcel(rng.random(), &body)
        };
        self.sent.iter().map(one).collect()
    }
}

fn parcel<T: messages::Body>(id: [u8; 16], body: &T) -> Parcel {
    let bytes = body.encode_to_vec();
    Parcel {
        id: id.to_vec().into(),
        kind: T::KIND.into(),
        count: body.count(),
        digest: envelope::digest(&bytes),
        body: bytes.into(),
        ..Parcel::default()
    }
}

/// The attacker has a token for everything.
struct Everyone;

impl Authorize for Everyone {
    fn authorize(
        &self,
        headers: &HeaderMap,
        _: ResourceType,
        _: Interaction,
    ) -> Result<Granted, Denied> {
        self.known(headers).map(Granted::everything)
    }

    fn known(&self, _: &HeaderMap) -> Result<Reader, Denied> {
        Ok(Reader("attacker".into()))
    }
}

/// What is read is written down where no client reads.
struct Elsewhere;

#[async_trait::async_trait]
impl AccessLog for Elsewhere {
    async fn given(&self, _: Access) -> Result<(), Unwritten> {
        Ok(())
    }

    fn refused(&self, _: Refused) {}
}

/// A region that has everything.
struct Region {
    _dir: TempDir,
    router: axum::Router,
    registry: Registry,
    shifts: BTreeMap<String, i64>,
}

impl Region {
    async fn of(defence: Defence) -> Self {
        let world = World::new(defence);
        let dir = tempfile::tempdir().unwrap();
        let limited = !defence.logical;
        let intake = Intake {
            true_times: Arc::new(move || limited),
            ..intake(&dir)
        };
        let from = "edge/eu/eu/eu-f1".parse().unwrap();
        let records = DeviceRecords {
            facility: "eu-f1".into(),
            region: "eu".into(),
            jurisdiction: "eu".into(),
            devices: world.records.clone(),
        };
        let mut all = vec![parcel([0; 16], &records)];
        all.extend(world.parcels());
        let all = Intact::all(all).unwrap();
        for some in all.chunks(500) {
            let verdicts = intake.handlers().apply(&from, some).await.unwrap();
            let taken = |verdict: &Verdict| matches!(verdict, Verdict::Accepted { .. });
            assert!(verdicts.iter().all(taken));
        }
        let api = FhirApi {
            vantages: Vantages::new(intake.store.clone()),
            store: intake.store,
            authorize: Arc::new(Everyone),
            access: Arc::new(Elsewhere),
            base: "https://region.example/fhir".into(),
            other_bases: Arc::default(),
            token_url: Some("https://region.example/auth/token".into()),
            now: Arc::new(|| Timestamp(BEGIN)),
            true_times: Arc::new(move || limited),
            seal: Seal::of_secret(b"secret"),
            holding: Arc::new(|| fhir::admit::Holding::Pseudonymous { year: 2026 }),
            draw: Arc::new(rand::random),
            bulk: None,
            subscriptions: None,
        };
        Self {
            _dir: dir,
            router: api.router(),
            registry: intake.registry,
            shifts: world.shifts,
        }
    }

    /// Every resource of a search, in its order.
    async fn every(&self, search: &str) -> Vec<Value> {
        let mut url = format!("/fhir/{search}&_count=1000");
        let mut found = Vec::new();
        loop {
            let request = Request::get(&url).body(Body::empty()).unwrap();
            let answer = self.router.clone().oneshot(request).await.unwrap();
            let bytes = axum::body::to_bytes(answer.into_body(), 1 << 26).await;
            let bundle: Value = serde_json::from_slice(&bytes.unwrap()).unwrap();
            let entries = bundle["entry"].as_array().cloned().unwrap_or_default();
            found.extend(entries.into_iter().map(|entry| entry["resource"].clone()));
            let links = bundle["link"].as_array().unwrap();
            match links.iter().find(|link| link["relation"] == "next") {
                Some(next) => {
                    let next = next["url"].as_str().unwrap();
                    url = next.strip_prefix("https://region.example").unwrap().into();
                }
                None => return found,
            }
        }
    }

    /// How many guesses there were, and how many were right.
    fn hits(&self, guesses: &HashMap<String, i64>) -> (u32, u32) {
        let right = |(patient, guess): &(&String, &i64)| self.shifts[*patient] == **guess;
        let count = |count: usize| u32::try_from(count).unwrap();
        (
            count(guesses.len()),
            count(guesses.iter().filter(right).count()),
        )
    }

    /// How often the guesses of an attack are right when the order of what it reads says nothing.
    fn by_chance(&self, observations: &[Value], attack: Attack) -> f64 {
        let mut rng = StdRng::seed_from_u64(16);
        let mut drawn = observations.to_vec();
        let (mut all, mut all_right) = (0, 0);
        for _ in 0..DRAWS {
            drawn.shuffle(&mut rng);
            let (guessed, right) = self.hits(&attack(&drawn));
            (all, all_right) = (all + guessed, all_right + right);
        }
        (f64::from(all_right) / f64::from(all.max(1))).max(1.0 / SHIFTS)
    }

    fn holds(&self, attack: &str, guesses: &HashMap<String, i64>, by_chance: f64) {
        let (guessed, right) = self.hits(guesses);
        assert!(guessed > 0, "{attack}: nothing was guessed");
        let chance = at_least(guessed, right, by_chance);
        assert!(
            chance > ALPHA,
            "{attack}: {right} of {guessed} shifts, by chance once in {:.0}",
            1.0 / chance
        );
    }

    fn leaks(&self, attack: &str, guesses: &HashMap<String, i64>) {
        let (guessed, right) = self.hits(guesses);
        let chance = at_least(guessed, right, 1.0 / SHIFTS);
        assert!(
            chance < ALPHA,
            "{attack} finds {right} of {guessed}: it could not fail"
        );
    }
}

/// How probable it is that of so many guesses at least so many are right, when each is with probability `p` (binomial).
fn at_least(guesses: u32, right: u32, p: f64) -> f64 {
    let n = f64::from(guesses);
    let mut term = (1.0 - p).powf(n);
    let mut below = 0.0;
    for k in 0..right {
        below += term;
        term *= (n - f64::from(k)) / (f64::from(k) + 1.0) * p / (1.0 - p);
    }
    (1.0 - below).max(0.0)
}

fn time(value: &Value) -> i64 {
    value.as_str().unwrap().parse::<Timestamp>().unwrap().0
}

fn days(ms: i64) -> i64 {
    (ms + DAY / 2).div_euclid(DAY)
}

fn patient_of(observation: &Value) -> Option<String> {
    let subject = observation["subject"]["reference"].as_str()?;
    subject.strip_prefix("Patient/").map(Into::into)
}

/// Of each patient the guess that most readings speak for.
fn vote(votes: impl Iterator<Item = (String, i64)>) -> HashMap<String, i64> {
    let mut counts: HashMap<String, BTreeMap<i64, usize>> = HashMap::new();
    for (patient, guess) in votes {
        *counts.entry(patient).or_default().entry(guess).or_default() += 1;
    }
    let most = |counts: BTreeMap<i64, usize>| {
        let most = counts.into_iter().max_by_key(|(_, count)| *count);
        most.map_or(0, |(guess, _)| guess)
    };
    counts
        .into_iter()
        .map(|(patient, all)| (patient, most(all)))
        .collect()
}

/// The instant at which the region stored a reading is nearly that at which it was measured.
fn by_instants(observations: &[Value]) -> HashMap<String, i64> {
    vote(observations.iter().filter_map(|one| {
        let stored = time(&one["meta"]["lastUpdated"]);
        let guess = days(time(&one["effectiveDateTime"]) - stored);
        Some((patient_of(one)?, guess))
    }))
}

/// What stands next to a reading of a cold chain in a listing was measured with it.
fn by_neighbours(observations: &[Value]) -> HashMap<String, i64> {
    let mut cold = None;
    vote(observations.iter().filter_map(|one| {
        let at = time(&one["effectiveDateTime"]);
        let Some(patient) = patient_of(one) else {
            cold = Some(at);
            return None;
        };
        Some((patient, days(at - cold?)))
    }))
}

/// What stands next to each other in a listing was measured together: so it tells by how much two shifts differ, and
/// all of them together must fit between a year back and a year on.
fn by_order(observations: &[Value]) -> HashMap<String, i64> {
    let mut relative: HashMap<String, i64> = HashMap::new();
    // The true time of the place that is looked at, but for a constant.
    let mut now: Option<i64> = None;
    for one in observations {
        let Some(patient) = patient_of(one) else {
            continue;
        };
        let at = time(&one["effectiveDateTime"]);
        let shift = *relative
            .entry(patient)
            .or_insert_with(|| days(at - now.unwrap_or(at)));
        now = Some(at - shift * DAY);
    }
    let (low, high) = (relative.values().min(), relative.values().max());
    let middle = (low.unwrap() + high.unwrap()).div_euclid(2);
    relative
        .into_iter()
        .map(|(patient, shift)| (patient, shift - middle))
        .collect()
}

/// The catalog tells when a device was taken into use: then its first patient was first measured, and the time of day
/// says who that was.
fn by_catalog(observations: &[Value], devices: &[Timestamp]) -> HashMap<String, i64> {
    let mut first: HashMap<String, (i64, String)> = HashMap::new();
    for one in observations {
        let (Some(patient), Some(device)) = (patient_of(one), one["device"]["reference"].as_str())
        else {
            continue;
        };
        let at = time(&one["effectiveDateTime"]);
        let known = first.entry(device.into()).or_insert((at, patient.clone()));
        if at < known.0 {
            *known = (at, patient);
        }
    }
    let mut guesses = HashMap::new();
    for taken in devices {
        let apart = |at: i64| {
            (at - taken.0)
                .rem_euclid(DAY)
                .min((taken.0 - at).rem_euclid(DAY))
        };
        let nearest = first.values().min_by_key(|(at, _)| apart(*at));
        let (at, patient) = nearest.unwrap();
        guesses.insert(patient.clone(), days(at - taken.0));
    }
    guesses
}

impl Region {
    /// The times that `/api/v1/devices` shows.
    async fn catalog(&self) -> Vec<Timestamp> {
        let devices = self
            .registry
            .devices(Filter::default(), None, 1_000)
            .await
            .unwrap();
        let shown = devices.iter().map(api::device_json);
        let shown = shown.filter(|device| device["kind"] == "bedside-monitor");
        let midnight = |device: Value| {
            let day = device["updated"].as_str().unwrap().to_owned();
            format!("{day}T00:00:00Z").parse().unwrap()
        };
        shown.map(midnight).collect()
    }
}

#[tokio::test]
async fn whoever_reads_everything_afterwards_guesses_a_shift_no_better_than_by_chance() {
    let region = Region::of(ALL).await;
    assert_eq!(region.shifts.len(), MONITORS * STAYS);
    let catalog = region.catalog().await;
    assert_eq!(catalog.len(), MONITORS);
    let attacks: [(&str, Attack); 2] = [("neighbours", by_neighbours), ("order", by_order)];
    for order in ["_lastUpdated", "-_lastUpdated", "_lastUpdated,_id", "_id"] {
        let observations = region.every(&format!("Observation?_sort={order}")).await;
        assert!(observations.len() > 4_000);
        for (name, attack) in attacks {
            let chance = region.by_chance(&observations, attack);
            region.holds(&format!("{name} {order}"), &attack(&observations), chance);
        }
        // Neither of these looks at the order, so a drawn one says nothing of chance.
        region.holds(order, &by_instants(&observations), 1.0 / SHIFTS);
        let guesses = by_catalog(&observations, &catalog);
        region.holds(order, &guesses, 1.0 / SHIFTS);
    }
    for kind in ["Patient", "Device"] {
        for one in region.every(&format!("{kind}?_sort=_lastUpdated")).await {
            let stored = time(&one["meta"]["lastUpdated"]);
            assert!(stored < DAY, "{one}: an instant of the calendar");
        }
    }
}

#[tokio::test]
async fn the_same_attacks_succeed_where_instants_and_order_are_shown() {
    let region = Region::of(Defence {
        logical: false,
        ..ALL
    })
    .await;
    let observations = region.every("Observation?_sort=_lastUpdated").await;
    region.leaks("order", &by_order(&observations));
    // As a region that bears the true instant in `lastUpdated` shows them.
    let world = World::new(ALL);
    let true_instants = world.sent.iter().filter_map(|sent| {
        Some(serde_json::json!({
            "subject": {"reference": format!("Patient/{}", hex(sent.patient?))},
            "effectiveDateTime": Timestamp(sent.seen).to_rfc3339(),
            "meta": {"lastUpdated": Timestamp(sent.at + 5).to_rfc3339()},
        }))
    });
    let true_instants: Vec<Value> = true_instants.collect();
    region.leaks("instants", &by_instants(&true_instants));
    let region = Region::of(Defence {
        logical: false,
        cold_moved: false,
        ..ALL
    })
    .await;
    let observations = region.every("Observation?_sort=_lastUpdated").await;
    region.leaks("neighbours", &by_neighbours(&observations));
}

#[tokio::test]
async fn the_same_attack_succeeds_where_the_catalog_is_told_instants_and_devices_keep_their_names()
{
    let region = Region::of(Defence {
        named_anew: false,
        ..ALL
    })
    .await;
    // What the catalog was told; the region would show the day of it alone.
    let devices = region
        .registry
        .devices(Filter::default(), None, 1_000)
        .await
        .unwrap();
    let monitors = devices
        .iter()
        .filter(|one| one.kind.as_str() == "bedside-monitor");
    let instants: Vec<Timestamp> = monitors.map(|one| one.updated).collect();
    let observations = region.every("Observation?_sort=_id").await;
    region.leaks("catalog", &by_catalog(&observations, &instants));
}
