//! Live readings while the backlog drains: the facility's external device publishes one after another.
use super::{FACILITY, REGION};
use anyhow::{Context, Result};
use medmesh_tests::{checker::Crosswalk, mesh::Mesh, mqtt::Device, region_file::RegionFile, wait};
use serde_json::{Value, json};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

/// Between an acknowledgement and the next reading.
const EVERY: Duration = Duration::from_millis(100);
/// How many readings come between two that are waited for by FHIR.
const ASK_EVERY: u64 = 20;
pub const PATIENT: &str = "week-live";

/// A live reading that was acknowledged.
pub struct Live {
    /// Its value with its unit: unique.
    pub value: String,
    /// The region's last commit when it was acknowledged.
    pub head: i64,
}

/// A message whose value is its number.
pub fn message(mesh: &Mesh, seq: u64, patient: &str) -> Result<Value> {
    Ok(json!({
        "epoch": 1, "seq": seq, "time": mesh.time()?, "patient": patient,
        "readings": [{"code": "2951-2", "value": format!("{seq}.50"), "unit": "mmol/L"}],
    }))
}

/// Publishes until told to stop. Number 1 was published in the outage.
pub async fn publish(mesh: &Mesh, over: &AtomicBool) -> Result<Vec<Live>> {
    let mut device = Device::external(&mesh.json()?, FACILITY).await?;
    let file = RegionFile::open(mesh, REGION)?;
    let crosswalk = Crosswalk::read(mesh, FACILITY)?;
    let patient = crosswalk.patient(PATIENT).context("the live patient")?;
    let mut fhir = Fhir::new(mesh, patient).await?;
    let mut sent = Vec::new();
    let mut seq = 1;
    while !over.load(Ordering::Relaxed) {
        seq += 1;
        let published = Instant::now();
        device.publish(&message(mesh, seq, PATIENT)?).await?;
        let value = format!("{seq}.50 mmol/L");
        sent.push(Live {
            value: value.clone(),
            head: file.head()?,
        });
        if seq.is_multiple_of(ASK_EVERY) {
            fhir.wait_for(mesh, &value, published).await?;
        }
        tokio::time::sleep(EVERY).await;
    }
    fhir.waits.sort_unstable();
    println!(
        "live readings were found by FHIR after {:?} at the median, {:?} at most ({} of {seq})",
        fhir.waits
            .get(fhir.waits.len() / 2)
            .unwrap_or(&Duration::ZERO),
        fhir.waits.last().unwrap_or(&Duration::ZERO),
        fhir.waits.len(),
    );
    Ok(sent)
}

/// A reader of the live patient's readings.
struct Fhir {
    query: String,
    token: String,
    waits: Vec<Duration>,
}

impl Fhir {
    async fn new(mesh: &Mesh, patient: &str) -> Result<Self> {
        let json = mesh.json()?;
        let base = json["regions"][REGION]["fhir"].as_str().context("fhir")?;
        Ok(Self {
            query: format!("{base}/Observation?patient={patient}&_sort=-_lastUpdated&_count=1"),
            token: mesh.token("fhir-reader", REGION).await?,
            waits: Vec::new(),
        })
    }

    /// Waits until the newest reading is that one.
    async fn wait_for(&mut self, mesh: &Mesh, value: &str, published: Instant) -> Result<()> {
        let there = || async {
            let answer = mesh.https.get(&self.query, Some(&self.token)).await.ok()?;
            let bundle = answer.json().ok()?;
            let quantity = &bundle["entry"][0]["resource"]["valueQuantity"];
            let found = format!("{} {}", quantity["value"], quantity["code"].as_str()?);
            (found == value).then(|| published.elapsed())
        };
        let wait = wait::until("a live reading is found by FHIR", wait::PATIENCE, there).await?;
        self.waits.push(wait);
        Ok(())
    }
}
