//! What a cleared, audited, queued and signed parcel costs, without the fsync of the commit that holds it.
//! `cargo run --release -p medmesh-federation --example outbox_cost`
use ed25519_dalek::SigningKey;
use medmesh_federation::envelope::{Envelope, clear};
use medmesh_federation::policy::Rules;
use medmesh_federation::{audit, db, outbox};
use messages::{Reading, ReadingBatch, reading};
use std::time::{Duration, Instant};
use types::{EnvelopeId, Place, Priority, Purpose, Timestamp};

const PARCELS: u32 = 2_000;
const READINGS: usize = 64;

fn batch() -> ReadingBatch {
    let reading = Reading {
        uid: vec![1; 16].into(),
        code: "8867-4".into(),
        unit: "/min".into(),
        value: Some(reading::Value::Quantity("72.5".into())),
        effective_ms: 1_800_000_000_000,
        ..Reading::default()
    };
    ReadingBatch {
        readings: vec![reading; READINGS],
        ..ReadingBatch::default()
    }
}

fn envelope(me: &Place) -> Envelope<ReadingBatch> {
    Envelope {
        from: me.clone(),
        to: "regional/us/us".parse().unwrap_or(Place::Global),
        purpose: Purpose::Care,
        body: batch(),
    }
}

/// The time that `step` takes, each, over [`PARCELS`] calls.
fn each(
    mut step: impl FnMut(u32) -> Result<(), Box<dyn std::error::Error>>,
) -> Result<Duration, Box<dyn std::error::Error>> {
    let start = Instant::now();
    for n in 0..PARCELS {
        step(n)?;
    }
    Ok(start.elapsed() / PARCELS)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let me: Place = "edge/us/us/us-f1".parse()?;
    let rules = Rules::builtin()?;
    let signer = audit::Signer::new(&me, SigningKey::from_bytes(&[1; 32]));
    let file = tempfile::NamedTempFile::new()?;
    let mut conn = db::open(file.path())?;
    audit::schema(&conn)?;
    outbox::schema(&conn)?;
    let id = |n: u32| {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&n.to_le_bytes());
        EnvelopeId::from_bytes(bytes)
    };
    let build = each(|_| {
        std::hint::black_box(envelope(&me));
        Ok(())
    })?;
    let cleared = each(|_| {
        std::hint::black_box(clear(&rules, envelope(&me))?);
        Ok(())
    })?;
    let tx = conn.transaction()?;
    let shipped = each(|n| {
        outbox::ship(
            &tx,
            &rules,
            envelope(&me),
            Priority::Live,
            id(n),
            Timestamp(0),
        )??;
        Ok(())
    })?;
    let signed = each(|_| Ok(audit::sign_head(&tx, &signer)?))?;
    tx.commit()?;
    let committed = each(|n| {
        let tx = conn.transaction()?;
        outbox::ship(
            &tx,
            &rules,
            envelope(&me),
            Priority::Live,
            id(PARCELS + n),
            Timestamp(0),
        )??;
        audit::sign_head(&tx, &signer)?;
        tx.commit()?;
        Ok(())
    })?;
    println!("parcels of {READINGS} readings, {PARCELS} each");
    println!(
        "clear                         {:?}",
        cleared.saturating_sub(build)
    );
    println!(
        "ship (clear, audit, queue)    {:?}",
        shipped.saturating_sub(build)
    );
    println!("sign the head                 {signed:?}");
    println!("ship, sign, commit (fsync)    {committed:?}");
    Ok(())
}
