//! Federated learning: the accountant, masks, sums, noise and training, each beside what others take for the same work.
//!
//! The peers of this bench compute in Python with numbers of NumPy and OpenSSL, and run on the same machine between our
//! own runs; of what is computed nothing is written to a disk, rounds of the mesh are.
mod noop;
mod peer;
mod sums;
mod training;

use crate::{
    Bed,
    report::{Aim, Figure, Report},
};
use anyhow::{Context, Result, ensure};
use fl::{
    privacy::{Delta, Event, epsilon},
    secagg::{Aggregator, Member, Participant, RoundId, RoundSecret, Shares, Terms},
};
use peer::Peer;
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::{collections::BTreeMap, hint::black_box, time::Instant};

const DURABILITY: &str = "nothing is written";
/// Parameters of the masked update.
const MASKED: usize = 1_000_000;
/// With how many others a masked update has masks in common.
const NEIGHBOURS: u16 = 100;
/// Regions of the round of a thousand facilities, and facilities of each: masks are shared within a region.
const REGIONS: usize = 10;
/// Parameters of a model in the round of a thousand facilities.
const SMALL: usize = 10_000;
/// Sampling probability, noise multiplier and steps of what the accountant is asked.
const EVENTS: [(f64, f64, u64); 6] = [
    (0.001, 1.0, 10_000),
    (0.01, 0.7, 1_000),
    (0.01, 1.1, 10_000),
    (0.1, 2.0, 1_000),
    (0.5, 4.0, 100),
    (1.0, 5.0, 10),
];
const DELTA: f64 = 1e-5;

/// Runs the benchmark.
pub async fn run(bed: &Bed, report: &mut Report) -> Result<()> {
    let peer = Peer::find()?;
    accountant(bed, &peer, report)?;
    sums::run(bed, &peer, report)?;
    masks(bed, &peer, report)?;
    sums::noise(bed, report)?;
    training::clipping(bed, report)?;
    training::throughput(bed, &peer, report)?;
    thousand(report)?;
    noop::run(bed, report).await
}

fn seconds(work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64())
}

fn random(length: usize, seed: u64) -> Vec<u32> {
    let mut random = StdRng::seed_from_u64(seed);
    (0..length).map(|_| random.random()).collect()
}

/// Time of ε for every event, beside the same of Google's dp-accounting by privacy loss distributions.
fn accountant(bed: &Bed, peer: &Peer, report: &mut Report) -> Result<()> {
    let delta = Delta::new(DELTA)?;
    let events = EVENTS
        .iter()
        .map(|(q, sigma, steps)| Event::new(*q, *sigma, *steps))
        .collect::<Result<Vec<_>, _>>()?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..bed.runs {
        theirs.push(peer.accountant(&EVENTS, DELTA)? * 1e3);
        let spent = seconds(|| {
            for event in &events {
                black_box(epsilon(std::slice::from_ref(event), delta));
            }
            Ok(())
        })?;
        ours.push(spent * 1e3);
    }
    report.add(
        Figure::new("epsilon of six mechanisms", "ms", DURABILITY, ours)
            .beside("dp-accounting (PLD)", &theirs)
            .aim(Aim::RatioAtMost(1.0 / 50.0)),
    );
    Ok(())
}

type Shared = BTreeMap<Member, Shares>;

/// A round whose members have shared their secrets.
fn shared(terms: Terms, length: usize) -> Result<(Aggregator, Vec<Participant>, Shared)> {
    let round = RoundId([7; 32]);
    let mut region = Aggregator::new(round, terms, length);
    let mut members = Vec::new();
    for member in 1..=terms.members() {
        let mut secret = [9; 32];
        secret[..2].copy_from_slice(&member.to_le_bytes());
        let member = Participant::new(round, terms, Member(member), RoundSecret::new(secret));
        region.advert(member.advertise())?;
        members.push(member);
    }
    let adverts = region.close_adverts()?.clone();
    for member in &mut members {
        region.shares(member.share(&adverts)?)?;
    }
    let shares = region.close_shares()?.clone();
    Ok((region, members, shares))
}

/// What masking costs a facility, beside the key stream of as many masks by OpenSSL.
fn masks(bed: &Bed, peer: &Peer, report: &mut Report) -> Result<()> {
    let terms = Terms::new(NEIGHBOURS + 1, NEIGHBOURS / 2 + 2, 0)?;
    let (_, members, shares) = shared(terms, MASKED)?;
    let member = members.first().context("a member")?;
    let mut update = random(MASKED, 2);
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for _ in 0..bed.runs {
        floor.push(peer.key_stream(usize::from(NEIGHBOURS) + 1, MASKED * 4)?);
        let mut member = member.clone();
        ours.push(seconds(|| Ok(member.mask(&shares, &mut update)?))?);
    }
    let what = "masking 1 M parameters for 100 neighbours";
    report.add(
        Figure::new(what, "s", DURABILITY, ours)
            .beside("AES-256-CTR of OpenSSL", &floor)
            .aim(Aim::RatioAtMost(3.0)),
    );
    Ok(())
}

/// One round of a thousand facilities in ten regions, all in this process: from keys to the sum, which is checked.
fn thousand(report: &mut Report) -> Result<()> {
    let members: u16 = 100;
    let before = crate::node::resident_mib(std::process::id())?;
    let mut most = before;
    let mut total = vec![0_i64; SMALL];
    let spent = seconds(|| {
        for _ in 0..REGIONS {
            let terms = Terms::new(members, members / 2 + 2, 1)?;
            let (mut region, mut participants, shares) = shared(terms, SMALL)?;
            for (number, participant) in (1..).zip(&mut participants) {
                let mut update = vec![u32::from(number); SMALL];
                participant.mask(&shares, &mut update)?;
                region.vector(Member(number), &update)?;
            }
            let senders = region.close_vectors()?;
            for participant in &mut participants {
                region.opened(participant.unmask(&senders)?)?;
            }
            most = most.max(crate::node::resident_mib(std::process::id())?);
            for (total, number) in total.iter_mut().zip(region.sum()?) {
                *total += i64::from(number);
            }
        }
        Ok(())
    })?;
    let one = i64::from(members) * i64::from(members + 1) / 2;
    ensure!(
        total.iter().all(|number| *number == one * REGIONS as i64),
        "the sum of a thousand facilities is another"
    );
    let note = format!(
        "members and regions took {:.0} MiB together, region after region",
        most - before
    );
    report.add(
        Figure::new(
            "round of 1,000 facilities in 10 regions, 10 k parameters",
            "s",
            DURABILITY,
            vec![spent],
        )
        .note(note),
    );
    Ok(())
}
