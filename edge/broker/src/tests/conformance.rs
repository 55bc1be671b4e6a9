//! The normative statements of MQTT 3.1.1 and MQTT 5.0 that concern a server, each with a case: packets that are sent to
//! the real front end over TLS, and what must come back, byte for byte.
//!
//! A row names its statements as `4:…` (3.1.1) and `5:…` (5.0), and is run once for each version that it names. The
//! tables in [`statements`] list every statement; one that needs no row says why. A case that fails does not hide the
//! others: all that failed are named at the end.
mod connecting;
mod delivering;
mod publishing;
mod sessions;
mod shapes;
mod statements;
mod subscribing;

use super::journal::MemoryJournal;
use super::wire::{Connect, PATIENCE, Raw, V4, V5, got, packet};
use super::world::{COMMAND, LAB, World, until};
use crate::BrokerLimits;
use bytes::Bytes;
use futures_util::FutureExt;
use ingest::Journal;
use std::{any::Any, collections::BTreeSet, panic::AssertUnwindSafe, sync::Arc, time::Duration};

/// One row: statements, what it shows, and the steps for a version.
pub(super) type Row = (&'static [&'static str], &'static str, fn(u8) -> Vec<Step>);

/// One step of a case. A case begins on a connection of `lab-1` with a new session.
pub(super) enum Step {
    /// Connects anew; the CONNACK must let it in, with this session present. The old connection stays open.
    Join(Connect, bool),
    /// Connects anew and says this first.
    Open(Vec<u8>),
    /// CONNACK that refuses, by return code and reason, and the end.
    Refused(u8, u8),
    /// The end without a packet in 3.1.1; in 5 a CONNACK with this reason and the end.
    NotLetIn(u8),
    Send(Vec<u8>),
    /// Exactly this packet comes next.
    Get(Vec<u8>),
    /// A PUBLISH comes next: flags, topic, payload.
    Message(u8, &'static str, &'static str),
    /// The same with properties (v5).
    Carrying(u8, &'static str, &'static str, Vec<u8>),
    /// Sends an acknowledgement of the last PUBLISH that came: its first byte.
    Answer(u8),
    /// An acknowledgement of the last PUBLISH that came: its first byte.
    Answered(u8),
    /// The connection ends: in 5 with a DISCONNECT of this reason.
    End(u8),
    /// The connection before this one ends: in 5 with a DISCONNECT of this reason.
    OldEnd(u8),
    /// A CONNACK that lets in.
    Welcome,
    /// No retained message is left that has not lapsed, at the latest soon.
    Lapsed,
    /// The server closes without a word.
    Shut,
    /// PINGREQ is answered, and nothing came before the answer.
    Alive,
    /// Leaves with DISCONNECT.
    Leave,
    /// Breaks the connection.
    Break,
    /// The node publishes a command at QoS 1.
    Command(&'static str),
    /// The journal keeps this retained message (`None`: nothing) of a topic, at the latest soon.
    Retained(&'static str, Option<&'static str>),
    /// The journal holds samples with these sequence numbers.
    Stored(&'static [u64]),
}

pub(super) fn ack(first: u8, pkid: u16) -> Vec<u8> {
    packet(first, &pkid.to_be_bytes())
}

/// Properties that begin with a Message Expiry Interval, without it.
fn without_expiry(properties: &[u8]) -> &[u8] {
    assert_eq!(properties[0], 0x02);
    &properties[5..]
}

fn expiry(properties: &[u8]) -> u32 {
    u32::from_be_bytes(properties[1..5].try_into().unwrap())
}

struct Run<'w> {
    world: &'w World,
    level: u8,
    raw: Raw,
    /// Connections that were left open.
    old: Vec<Raw>,
    pkid: u16,
}

impl Run<'_> {
    async fn message(&mut self, flags: u8, topic: &str, payload: &str) -> Vec<u8> {
        let packet = self.raw.next().await.expect("closed instead of PUBLISH");
        let message = got(self.level, &packet);
        let came = (
            message.flags,
            message.topic.as_str(),
            message.payload.as_str(),
        );
        assert_eq!(came, (flags, topic, payload));
        assert_eq!(
            message.pkid == 0,
            flags & 6 == 0,
            "a packet id at QoS 0, or none"
        );
        self.pkid = message.pkid;
        message.properties
    }

    fn replace(&mut self, raw: Raw) {
        self.old.push(std::mem::replace(&mut self.raw, raw));
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Join(connect, present) => {
                let (raw, came) = self.world.join(connect).await;
                assert_eq!(came, present, "session present");
                self.replace(raw);
            }
            Step::Open(first) => {
                let mut raw = self.world.dial(LAB).await;
                raw.send(&first).await;
                self.replace(raw);
            }
            Step::Refused(code, reason) => {
                match self.level {
                    V4 => self.raw.expect(&[0x20, 2, 0, code]).await,
                    _ => self.raw.expect(&[0x20, 3, 0, reason, 0]).await,
                }
                self.raw.closed().await;
            }
            Step::NotLetIn(reason) => {
                if self.level == V5 {
                    self.raw.expect(&[0x20, 3, 0, reason, 0]).await;
                }
                self.raw.closed().await;
            }
            Step::Send(bytes) => self.raw.send(&bytes).await,
            Step::Get(bytes) => self.raw.expect(&bytes).await,
            Step::Message(flags, topic, payload) => {
                let properties = self.message(flags, topic, payload).await;
                assert_eq!(properties, [0_u8; 0]);
            }
            Step::Carrying(flags, topic, payload, expected) => {
                let came = self.message(flags, topic, payload).await;
                assert_eq!(without_expiry(&came), without_expiry(&expected));
                // What is left may be less by the time that the test took.
                let (left, most) = (expiry(&came), expiry(&expected));
                assert!(left <= most && left + 60 > most, "{left} s left of {most}");
            }
            Step::Answer(first) => self.raw.send(&ack(first, self.pkid)).await,
            Step::Answered(first) => self.raw.expect(&ack(first, self.pkid)).await,
            Step::End(reason) => {
                if self.level == V5 {
                    self.raw.expect(&[0xe0, 2, reason, 0]).await;
                }
                self.raw.closed().await;
            }
            Step::OldEnd(reason) => {
                let mut old = self.old.pop().expect("an older connection");
                if self.level == V5 {
                    old.expect(&[0xe0, 2, reason, 0]).await;
                }
                old.closed().await;
            }
            Step::Welcome => {
                let connack = self.raw.next().await.expect("closed instead of CONNACK");
                assert_eq!((connack[0], connack[2], connack[3]), (0x20, 0, 0));
            }
            Step::Shut => self.raw.closed().await,
            Step::Alive => {
                self.raw.send(&[0xc0, 0]).await;
                self.raw.expect(&[0xd0, 0]).await;
            }
            other => self.outside(other).await,
        }
    }

    /// Steps that are not only bytes.
    async fn outside(&mut self, step: Step) {
        match step {
            Step::Leave => {
                self.raw.send(&[0xe0, 0]).await;
                self.raw.closed().await;
            }
            Step::Break => self.raw.cut().await,
            Step::Command(payload) => {
                let payload = Bytes::from_static(payload.as_bytes());
                self.world.broker.publish(COMMAND, payload);
            }
            Step::Retained(topic, expected) => {
                let journal = Arc::clone(&self.world.journal);
                let what = format!("{expected:?} retained");
                until(&what, || {
                    let kept = journal.kept.lock();
                    kept.retained.get(topic).map(|kept| &kept[..]) == expected.map(str::as_bytes)
                })
                .await;
            }
            Step::Lapsed => {
                let deadline = tokio::time::Instant::now() + PATIENCE;
                while !self.world.journal.retained("").await.unwrap().is_empty() {
                    assert!(tokio::time::Instant::now() < deadline, "it never lapsed");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            Step::Stored(sequences) => assert_eq!(self.world.journal.sequences(), sequences),
            _ => unreachable!("a step of bytes"),
        }
    }
}

/// What a panic said.
fn said(panic: &(dyn Any + Send)) -> String {
    let owned = panic.downcast_ref::<String>().cloned();
    let fixed = || panic.downcast_ref::<&str>().map(ToString::to_string);
    owned.or_else(fixed).unwrap_or_default()
}

async fn run(world: &World, level: u8, steps: Vec<Step>) {
    world.journal.clear();
    let raw = world.lab(level).await;
    let mut run = Run {
        world,
        level,
        raw,
        old: Vec::new(),
        pkid: 0,
    };
    for (at, step) in steps.into_iter().enumerate() {
        let done = AssertUnwindSafe(run.step(step)).catch_unwind().await;
        if let Err(panic) = done {
            panic!("step {at}: {}", said(panic.as_ref()));
        }
    }
}

fn rows() -> Vec<Row> {
    [
        connecting::ROWS,
        shapes::ROWS,
        publishing::ROWS,
        subscribing::ROWS,
        delivering::ROWS,
        sessions::ROWS,
    ]
    .concat()
}

async fn run_rows(world: &World, rows: &[Row]) {
    let mut failed = Vec::new();
    for (statements, what, steps) in rows {
        for level in [V4, V5] {
            let prefix = format!("{level}:");
            if !statements.iter().any(|id| id.starts_with(&prefix)) {
                continue;
            }
            let done = AssertUnwindSafe(run(world, level, steps(level))).catch_unwind();
            if let Err(panic) = done.await {
                let said = said(panic.as_ref());
                failed.push(format!("{statements:?} (level {level}) {what}: {said}"));
            }
        }
    }
    assert!(
        failed.is_empty(),
        "{} failed:\n{}",
        failed.len(),
        failed.join("\n")
    );
}

async fn conforms(rows: &[Row]) {
    let journal: Arc<MemoryJournal> = Arc::default();
    let authority = World::shared_authority();
    let world = World::of(authority, journal, BrokerLimits::default()).await;
    run_rows(&world, rows).await;
}

#[tokio::test]
async fn connect_and_connack_are_as_the_standard_says() {
    conforms(connecting::ROWS).await;
}

#[tokio::test]
async fn packets_of_a_wrong_shape_end_the_connection_as_the_standard_says() {
    conforms(shapes::ROWS).await;
}

#[tokio::test]
async fn publish_is_as_the_standard_says() {
    conforms(publishing::ROWS).await;
}

#[tokio::test]
async fn subscribe_and_unsubscribe_are_as_the_standard_says() {
    conforms(subscribing::ROWS).await;
}

#[tokio::test]
async fn delivery_to_subscribers_is_as_the_standard_says() {
    conforms(delivering::ROWS).await;
}

#[tokio::test]
async fn sessions_and_wills_are_as_the_standard_says() {
    conforms(sessions::ROWS).await;
}

#[test]
fn every_statement_that_concerns_a_server_has_a_case() {
    let shown: BTreeSet<&str> = rows().iter().flat_map(|row| row.0).copied().collect();
    let listed = statements::all();
    let owed: BTreeSet<&str> = listed
        .iter()
        .filter_map(|(id, without)| without.is_none().then_some(id.as_str()))
        .collect();
    let missing: Vec<_> = owed.difference(&shown).collect();
    assert!(missing.is_empty(), "without a case: {missing:?}");
    let unknown: Vec<_> = shown
        .iter()
        .filter(|id| !listed.iter().any(|(listed, _)| listed == *id))
        .collect();
    assert!(unknown.is_empty(), "not a statement: {unknown:?}");
}
