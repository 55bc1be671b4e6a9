//! The region's FHIR on PostgreSQL, as a process of `medmesh up`, by TLS and with a token: creates, transactions, reads and
//! searches while data grows, beside what they cannot be faster than, and beside any other FHIR server that is named.
//!
//! The floors are measured in the same run, on the same server of PostgreSQL: COPY of the same rows into the same tables
//! with the same indexes, `pgbench` reading the same bodies, and the node's own HTTPS stack answering the same bytes from
//! memory. Every client has one connection and one request under way.
mod flat;
mod floor;
mod judged;
mod target;

use crate::{
    Bed,
    report::{Aim, Figure, Report, median, quantile},
};
use anyhow::{Context, Result, ensure};
use fhir::{contract::fixture, postgres::PostgresStore, store::ResourceStore};
use global::chart::{Axis, Chart, Drawn, Series};
use medmesh_tests::{engine, mesh::Mesh, postgres::Server, wait};
use serde_json::{Value, json};
use std::{
    fs,
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};
use target::{Asked, Target};
use types::Timestamp;

const REGION: &str = "us";
/// Clients that write or read at once, where the figure does not say otherwise.
const CLIENTS: usize = 32;
/// Clients of the curve of creates.
const CURVE: [usize; 5] = [1, 4, 16, 32, 64];
/// Resources of a transaction.
const BUNDLE: usize = 100;
/// Clients that send transactions.
const SENDERS: usize = 4;
/// Data while searches are timed: so many times the first.
const GROWTH: [usize; 4] = [1, 4, 16, 64];
/// Readings of one delivery of the mesh's own door.
const DELIVERY: u32 = 1_000;
const DURABLE: &str = "fsync of the audit log and of PostgreSQL before every answer";
const READ: &str = "fsync of the audit log before every answer";
const POSTGRES: &str = "fsync of PostgreSQL before every answer";
const BOUND: &str = "each request has its row in the audit log, which is durable before the answer, TLS, a token, and two \
     or more statements";

/// How much is done.
struct Size {
    creates: usize,
    bundles: usize,
    reads: usize,
    /// Resources at first, while searches are timed.
    first: usize,
    searches: usize,
    judged: usize,
    deliveries: u32,
}

const FULL: Size = Size {
    creates: 8_000,
    bundles: 200,
    reads: 20_000,
    first: 1_000,
    searches: 300,
    judged: 20_000,
    deliveries: 50,
};
const SMALL: Size = Size {
    creates: 320,
    bundles: 8,
    reads: 640,
    first: 50,
    searches: 30,
    judged: 400,
    deliveries: 2,
};

/// Runs the benchmark.
pub async fn run(bed: &Bed, report: &mut Report) -> Result<()> {
    let size = if bed.small { &SMALL } else { &FULL };
    judged::run(bed, size.judged, report)?;
    door(bed, size, report).await?;
    let dir = tempfile::tempdir()?;
    let postgres = engine::postgres()?;
    let args = [
        "--regions",
        REGION,
        "--facilities",
        "1",
        "--postgres",
        &postgres,
    ];
    let mesh = Mesh::up(dir.path(), &args).await?;
    let arrived = || async {
        let patients = mesh.search(REGION, "Patient?_count=1").await.ok()?;
        (!patients.is_empty()).then_some(())
    };
    wait::until("the region has a patient", wait::PATIENCE, arrived).await?;
    mesh.silence()?;
    let url = fs::read_to_string(
        dir.path()
            .join("regional")
            .join(REGION)
            .join("postgres.url"),
    )?;
    let database = Server::at(url.trim());
    let mut ours = Target::of_mesh(&mesh, REGION).await?;
    rates(bed, size, &mut ours, (&mesh, &database), report).await?;
    let mut peers = Vec::new();
    for (name, url) in &bed.fhir_peers {
        peers.push(Target::of_peer(name, url).await?);
    }
    for peer in &mut peers {
        beside(bed, size, peer, report).await?;
    }
    growth(bed, size, (&mut ours, &mut peers), report).await?;
    flat::run(bed, size, &mut ours, &mesh, report).await?;
    mesh.stop().await
}

#[expect(clippy::cast_precision_loss, reason = "a count of resources")]
fn per_second(count: usize, since: Instant) -> f64 {
    count as f64 / since.elapsed().as_secs_f64()
}

/// What is created: it has an identifier that nothing else has, and a code that some others have.
fn condition(patient: &str, number: usize) -> Value {
    json!({
        "resourceType": "Condition",
        "identifier": [{"system": "urn:ietf:rfc:3986", "value": identifier(number)}],
        "clinicalStatus": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/condition-clinical",
            "code": "active"}]},
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": code(number)}]},
        "subject": {"reference": patient},
        "recordedDate": format!("{}", 1_950 + number % 70),
    })
}

fn identifier(number: usize) -> String {
    format!("urn:uuid:00000000-0000-4000-8000-{number:012x}")
}

fn code(number: usize) -> String {
    format!("{}", 38_341_000 + number % 50)
}

fn bundle(patient: &str, from: usize) -> String {
    let entry = |number| json!({"resource": condition(patient, number), "request": {"method": "POST", "url": "Condition"}});
    let entries: Vec<Value> = (from..from + BUNDLE).map(entry).collect();
    json!({"resourceType": "Bundle", "type": "transaction", "entry": entries}).to_string()
}

/// Numbers of resources, each given once.
static NUMBER: AtomicUsize = AtomicUsize::new(0);

fn numbers(count: usize) -> usize {
    NUMBER.fetch_add(count, Ordering::Relaxed)
}

/// Creates a second, each by itself; and the ids.
async fn creates(target: &mut Target, clients: usize, count: usize) -> Result<(f64, Vec<String>)> {
    target.renew().await?;
    let (first, patient) = (numbers(count), target.patient.clone());
    let began = Instant::now();
    let asked =
        move |at: usize| Asked::post("/Condition", condition(&patient, first + at).to_string());
    let answers = target.each(clients, count, asked).await?;
    let rate = per_second(count, began);
    let id = |answer: target::Told| -> Result<String> {
        ensure!(
            answer.status == 201,
            "a create is answered {}: {}",
            answer.status,
            answer.text()
        );
        // Where the representation is not given, the URL is.
        let made: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let of_location = || {
            answer
                .location
                .split("/Condition/")
                .nth(1)?
                .split('/')
                .next()
        };
        let id = made["id"].as_str().or_else(of_location);
        Ok(id.context("a create without an id")?.to_owned())
    };
    let ids: Result<Vec<String>> = answers.into_iter().map(id).collect();
    Ok((rate, ids?))
}

/// Resources a second in transactions.
async fn transactions(target: &mut Target, count: usize) -> Result<f64> {
    target.renew().await?;
    let (first, patient) = (numbers(count * BUNDLE), target.patient.clone());
    let bodies: Vec<String> = (0..count)
        .map(|at| bundle(&patient, first + at * BUNDLE))
        .collect();
    let began = Instant::now();
    let asked = move |at: usize| Asked::post("", bodies[at].clone());
    for answer in target.each(SENDERS, count, asked).await? {
        ensure!(
            answer.status == 200,
            "a transaction is answered {}: {}",
            answer.status,
            answer.text()
        );
    }
    Ok(per_second(count * BUNDLE, began))
}

/// Reads a second, by id; and what one was answered.
async fn reads(target: &mut Target, ids: &[String], count: usize) -> Result<(f64, Vec<u8>)> {
    target.renew().await?;
    let ids = ids.to_vec();
    let began = Instant::now();
    let asked = move |at: usize| Asked::get(format!("/Condition/{}", ids[at * 31 % ids.len()]));
    let answers = target.each(CLIENTS, count, asked).await?;
    let rate = per_second(count, began);
    let wrong = answers.iter().find(|answer| answer.status != 200);
    ensure!(
        wrong.is_none(),
        "a read is answered {}",
        wrong.map_or(0, |one| one.status)
    );
    let body = answers.into_iter().next_back().context("no read")?.body;
    Ok((rate, body))
}

/// Creates, transactions and reads of the region, beside their floors.
async fn rates(
    bed: &Bed,
    size: &Size,
    ours: &mut Target,
    (mesh, database): (&Mesh, &Server),
    report: &mut Report,
) -> Result<()> {
    let (mut single, mut bundled, mut read) = (Vec::new(), Vec::new(), Vec::new());
    let (mut copied, mut echoed, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    let mut curve: Vec<Vec<f64>> = vec![Vec::new(); CURVE.len()];
    for _ in 0..bed.runs {
        for (at, clients) in CURVE.into_iter().enumerate() {
            let count = size.creates * clients / 64;
            curve[at].push(creates(ours, clients, count.max(clients)).await?.0);
        }
        let (rate, ids) = creates(ours, CLIENTS, size.creates).await?;
        single.push(rate);
        bundled.push(transactions(ours, size.bundles).await?);
        copied.push(floor::copy(database).await?);
        let (rate, body) = reads(ours, &ids, size.reads).await?;
        read.push(rate);
        bare.push(floor::pgbench(database, CLIENTS)?);
        let mut echo = floor::Echo::start(mesh, REGION, body).await?;
        echoed.push(reads(&mut echo.target, &ids, size.reads).await?.0);
        echo.stop().await?;
    }
    let one = |what: &str, durable| Figure::new(what, "/s", durable, Vec::new());
    report.add(
        of(one("FHIR single creates, 32 clients", DURABLE), &single)
            .beside("COPY, same indexes", &copied)
            .aim(Aim::RatioAtLeast(0.5))
            .bound(BOUND),
    );
    report.add(
        of(one("FHIR transactions of 100", DURABLE), &bundled)
            .beside("COPY, same indexes", &copied)
            .aim(Aim::RatioAtLeast(0.5))
            .bound(
                "each resource is judged, admitted and indexed, and has its row in the audit log",
            ),
    );
    let what = "FHIR reads by id, 32 clients";
    report.add(
        of(one(what, READ), &read)
            .beside("echo, same bytes and stack", &echoed)
            .aim(Aim::RatioAtLeast(0.5))
            .bound(BOUND),
    );
    report.add(of(one(what, READ), &read).beside("pgbench, same bodies", &bare));
    plot_creates(bed, &curve, median(&copied))
}

/// Creates by the number of clients, in the order of [`CURVE`], beside a floor: all a second.
fn plot_creates(bed: &Bed, curve: &[Vec<f64>], floor: f64) -> Result<()> {
    let points = CURVE
        .iter()
        .zip(curve)
        .map(|(clients, runs)| (*clients as f64, median(runs)));
    let line = |name: &str, points, drawn| Series {
        name: name.into(),
        points,
        bars: Vec::new(),
        drawn,
    };
    let ours: Vec<(f64, f64)> = points.collect();
    let most = ours.iter().map(|point| point.1).fold(floor, f64::max);
    plot(
        bed,
        "fhir-creates.svg",
        Chart {
            title: "Durable single creates, PostgreSQL".into(),
            x: Axis {
                name: "clients",
                ends: (0.0, 64.0),
            },
            y: Axis {
                name: "creates/s",
                ends: (0.0, most * 1.05),
            },
            series: vec![
                line("region", ours, Drawn::Thick),
                line(
                    "COPY, same indexes",
                    vec![(0.0, floor), (64.0, floor)],
                    Drawn::Thin,
                ),
            ],
            diagonal: false,
        },
    )
}

fn of(figure: Figure, runs: &[f64]) -> Figure {
    Figure {
        ours: median(runs),
        runs: runs.to_vec(),
        ..figure
    }
}

/// The same of another server.
async fn beside(bed: &Bed, size: &Size, peer: &mut Target, report: &mut Report) -> Result<()> {
    let (mut single, mut bundled, mut read) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bed.runs {
        let (rate, ids) = creates(peer, CLIENTS, size.creates).await?;
        single.push(rate);
        bundled.push(transactions(peer, size.bundles).await?);
        read.push(reads(peer, &ids, size.reads).await?.0);
    }
    for (what, runs) in [
        ("creates", single),
        ("transactions of 100", bundled),
        ("reads", read),
    ] {
        let what = format!("  {}: {what}", peer.name);
        report.add(Figure::new(what, "/s", "what that server promises", runs));
    }
    Ok(())
}

/// The median time of a search while data grows, of the region and of its peers.
async fn growth(
    bed: &Bed,
    size: &Size,
    (ours, peers): (&mut Target, &mut [Target]),
    report: &mut Report,
) -> Result<()> {
    let mut lines = Vec::new();
    for target in std::iter::once(ours).chain(peers.iter_mut()) {
        let (first, mut points) = (NUMBER.load(Ordering::Relaxed), Vec::new());
        let mut there = 0;
        for times in GROWTH {
            let wanted = size.first * times;
            let more = (wanted - there).div_ceil(BUNDLE);
            transactions(target, more).await?;
            there += more * BUNDLE;
            target.settle().await?;
            let mut took = Vec::new();
            for _ in 0..bed.runs {
                took.push(searches(target, size.searches, (first, there)).await?);
            }
            points.push((times as f64, median(&took)));
        }
        let name = if target.is_peer {
            format!("  {}: search p50", target.name)
        } else {
            "FHIR search p50".into()
        };
        let (small, large) = (points[0].1, points[points.len() - 1].1);
        let figure = Figure::new(format!("{name}, data x 64"), "ms", READ, vec![large])
            .beside("data x 1", &[small]);
        report.add(match target.is_peer {
            true => figure,
            false => figure.aim(Aim::RatioAtMost(1.3)).note(format!(
                "by identifier, by code newest first, and the latest of a code; {there} resources beside what was there"
            )),
        });
        lines.push((target.name.clone(), points));
    }
    let most = lines
        .iter()
        .flat_map(|(_, points)| points)
        .map(|point| point.1)
        .fold(0.0, f64::max);
    let each = lines.into_iter().map(|(name, points)| Series {
        name,
        points,
        bars: Vec::new(),
        drawn: Drawn::Thick,
    });
    plot(
        bed,
        "fhir-search.svg",
        Chart {
            title: "Median time of a search while data grows".into(),
            x: Axis {
                name: "data, times the first",
                ends: (0.0, 64.0),
            },
            y: Axis {
                name: "ms",
                ends: (0.0, most * 1.1),
            },
            series: each.collect(),
            diagonal: false,
        },
    )
}

/// The median of searches by one client, in ms. None may fail, and none may find nothing.
async fn searches(
    target: &mut Target,
    count: usize,
    (first, there): (usize, usize),
) -> Result<f64> {
    target.renew().await?;
    let mut took = Vec::with_capacity(count);
    let mut line = target.line().await?;
    for at in 0..count {
        let number = first + at * 7_919 % there;
        let path = match at % 3 {
            0 => format!(
                "/Condition?identifier=urn:ietf:rfc:3986%7C{}",
                identifier(number)
            ),
            1 => format!(
                "/Condition?code={}&_sort=-_lastUpdated&_count=10",
                code(number)
            ),
            _ => format!("/Condition?code={}&_count=10", code(number)),
        };
        let began = Instant::now();
        let answer = line.ask(&Asked::get(path)).await?;
        took.push(began.elapsed().as_secs_f64() * 1e3);
        ensure!(
            answer.status == 200,
            "a search is answered {}: {}",
            answer.status,
            answer.text()
        );
        let found: Value = serde_json::from_slice(&answer.body)?;
        ensure!(found["entry"].is_array(), "a search finds nothing: {found}");
    }
    Ok(quantile(&took, 0.5))
}

/// Readings a second that facilities deliver, into the store alone.
async fn door(bed: &Bed, size: &Size, report: &mut Report) -> Result<()> {
    let (mut ours, mut copied) = (Vec::new(), Vec::new());
    for _ in 0..bed.runs {
        let scratch = floor::Scratch::new("medmesh_bench_door").await?;
        let store = PostgresStore::open(&scratch.url, None).await?;
        let began = Instant::now();
        for number in 0..size.deliveries {
            let delivery = fixture::delivery(number, number * DELIVERY..(number + 1) * DELIVERY);
            let applied = store.apply(vec![delivery], Timestamp(0)).await?;
            ensure!(
                applied.iter().all(|one| one.foreign.is_empty()),
                "a delivery is refused"
            );
        }
        ours.push(per_second((size.deliveries * DELIVERY) as usize, began));
        drop(store);
        copied.push(floor::copy(&Server::at(&scratch.url)).await?);
    }
    report.add(
        Figure::new("readings of the mesh's own door", "/s", POSTGRES, ours)
            .beside("COPY, same indexes", &copied)
            .note("the store alone, made and judged in the same time; `path` and `backlog` have the whole way")
            .bound("readings are judged and serialised in the same time"),
    );
    Ok(())
}

fn plot(bed: &Bed, name: &str, chart: Chart) -> Result<()> {
    if let Some(folder) = &bed.plots {
        fs::create_dir_all(folder)?;
        fs::write(folder.join(name), chart.file())?;
    }
    Ok(())
}
