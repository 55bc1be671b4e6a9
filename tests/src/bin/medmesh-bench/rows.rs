//! Rows per second of the edge's store, acknowledged after FULL sync: 64 callers with a window of 64 each, beside one
//! row a commit and beside batches of 10,000 rows, on the same tables through the same code.
use crate::{
    Bed,
    report::{Aim, Figure, Report},
};
use anyhow::Result;
use ed25519_dalek::SigningKey;
use ingest::{Journal, Sample, SampleReading, Urgency};
use node::{
    clock::Clock,
    quantity::{Size, Span},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use store::clockguard::ClockGuard;
use store::{Bounds, Handlers, Store, StoreOptions, system_entropy};
use tempfile::TempDir;
use tokio::task::JoinSet;
use types::{Decimal, Flags, Place, Secret, Timestamp, Value};

/// Concurrent callers.
const CALLERS: u64 = 64;
/// Appends of one caller that wait for their acknowledgement.
const WINDOW: u64 = 64;
/// How long callers append.
const MEASURED: Duration = Duration::from_secs(3);
/// Rows of a large batch.
const BATCH: u64 = 10_000;
/// Large batches of one run.
const BATCHES: u64 = 12;
/// Rows that are committed one by one in one run.
const NAIVE: u64 = 1_000;
const DURABILITY: &str = "fsync of every commit (SQLCipher, WAL, FULL)";

/// Runs the benchmark.
pub async fn run(bed: &Bed, report: &mut Report) -> Result<()> {
    let (mut ours, mut naive, mut batches) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bed.runs {
        naive.push(one_by_one().await?);
        ours.push(callers().await?);
        batches.push(large_batches().await?);
    }
    let what = "store, 64 callers x 64";
    let figure = |what: String| Figure::new(what, "rows/s", DURABILITY, ours.clone());
    report.add(
        figure(what.to_owned())
            .beside("one-row commits", &naive)
            .aim(Aim::RatioAtLeast(100.0))
            .bound("one-row commits are cheap where an fdatasync is: see the disk; the writer thread is at its limit"),
    );
    report.add(
        figure(format!("{what} (batches)"))
            .beside("10 000-row batches", &batches)
            .aim(Aim::RatioAtLeast(0.8))
            .bound("every row is answered by itself: a channel and a wake-up each, on the writer's thread"),
    );
    Ok(())
}

/// A store on an empty folder.
struct Bench {
    store: Store,
    _dir: TempDir,
}

impl Bench {
    fn new() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let place: Place = "edge/eu/eu/eu-f1".parse()?;
        let store = Store::open(StoreOptions {
            dir: dir.path().to_owned(),
            facility_key: Secret::new([7; 32]),
            region: "regional/eu/eu".parse()?,
            bounds: Bounds {
                max: Size(8 << 30),
                alarm_reserve: Size(1 << 20),
            },
            retention: Span::ms(86_400_000),
            devices: Vec::new(),
            beds: Vec::new(),
            rules: Arc::new(federation::policy::Rules::builtin()?),
            profile: None,
            signer: federation::audit::Signer::new(&place, SigningKey::from_bytes(&[9; 32])),
            place,
            time: Arc::new(ClockGuard::new(None, Timestamp(0), 0)),
            entropy: system_entropy,
            handlers: Handlers::new(),
        })?;
        Ok(Self { store, _dir: dir })
    }
}

fn per_second(rows: u64, since: Instant) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a count of rows")]
    let rows = rows as f64;
    rows / since.elapsed().as_secs_f64()
}

async fn callers() -> Result<f64> {
    let bench = Bench::new()?;
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for caller in 0..CALLERS {
        for slot in 0..WINDOW {
            let store = bench.store.clone();
            tasks.spawn(async move {
                let mut rows = 0;
                while began.elapsed() < MEASURED {
                    let stored = store.append(sample(caller, slot + WINDOW * rows)?).await;
                    stored?;
                    rows += 1;
                }
                anyhow::Ok(rows)
            });
        }
    }
    let mut rows = 0;
    while let Some(ended) = tasks.join_next().await {
        rows += ended??;
    }
    let rate = per_second(rows, began);
    bench.store.close().await;
    Ok(rate)
}

async fn one_by_one() -> Result<f64> {
    let bench = Bench::new()?;
    let began = Instant::now();
    for seq in 0..NAIVE {
        bench.store.append(sample(seq % CALLERS, seq)?).await?;
    }
    let rate = per_second(NAIVE, began);
    bench.store.close().await;
    Ok(rate)
}

async fn large_batches() -> Result<f64> {
    let bench = Bench::new()?;
    let began = Instant::now();
    for batch in 0..BATCHES {
        let rows = (0..BATCH).map(|row| sample(row % CALLERS, batch * BATCH + row));
        let rows: Vec<Sample> = rows.collect::<Result<_>>()?;
        for stored in bench.store.append_batch(rows).await {
            stored?;
        }
    }
    let rate = per_second(BATCH * BATCHES, began);
    bench.store.close().await;
    Ok(rate)
}

/// One reading of one of the callers' devices.
fn sample(caller: u64, seq: u64) -> Result<Sample> {
    Ok(Sample {
        device: format!("d{caller}").parse()?,
        epoch: 1,
        seq,
        source_time: Clock::new(None).real().plus_ms(-1),
        patient: None,
        urgency: Urgency::Routine,
        readings: vec![SampleReading {
            code: "8867-4".parse()?,
            unit: "/min".parse()?,
            value: Value::Quantity(Decimal::from_parts(seq.cast_signed() % 10_000, -2)),
            flags: Flags::NONE,
        }],
    })
}
