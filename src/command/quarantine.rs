//! `medmesh edge|regional|global quarantine`, and `medmesh quarantine` for all nodes of a mesh: what a node holds because it was not taken, and what it did not take, for a
//! person to look at and to decide. It works beside the running node.
//!
//! An entry has a letter and a number: `p` a parcel that the next tier did not take (its content is here), `n` a note on
//! what this node did not take (its content is with the sender), `m` a message of a device that could not be understood.
mod mesh;
mod print;

pub use mesh::mesh;

use super::{audit::LEDGER, node::read, noted::note};
use crate::{
    cli::{
        entry::EntryId,
        quarantine::{QuarantineCommand, QuarantineEntryArgs},
    },
    failure::Failure,
    out,
};
use anyhow::{Context, Result, bail};
use edge::{config::EdgeConfig, crosswalk::Read, quarantine::Quarantine as OfFacility};
use federation::{
    audit::Signer, outbox::Decided, pki::load_signing_key, quarantine::Quarantine as OfLedger,
};
use global::config::GlobalConfig;
use node::{clock::Clock, config::TlsFiles};
use print::{List, content, note_json, parcel_json, show};
use regional::config::RegionalConfig;
use serde_json::{Value, json};
use std::path::Path;
use types::{Place, Priority, Timestamp};

/// Runs the command on a facility's node. Who sees what is held there is written down before it is shown.
pub fn edge(command: &QuarantineCommand) -> Result<(), Failure> {
    if let QuarantineCommand::Show(args) = command {
        note(&read(&args.config)?, Read::Quarantine)?;
    }
    run(command, Node::of_edge)
}

/// Runs the command on a region's node.
pub fn regional(command: &QuarantineCommand) -> Result<(), Failure> {
    run(command, Node::of_region)
}

/// Runs the command on the global node.
pub fn global(command: &QuarantineCommand) -> Result<(), Failure> {
    run(command, Node::of_global)
}

fn run(
    command: &QuarantineCommand,
    open: impl Fn(&Path) -> Result<Node, Failure>,
) -> Result<(), Failure> {
    let now = Clock::new(None).real();
    let done = match command {
        QuarantineCommand::List(args) => {
            let mut list = List::new(args.json);
            open(&args.config)?.list(&mut list)?;
            list.end()
        }
        QuarantineCommand::Show(args) => open(&args.config)?
            .one(args.entry)
            .and_then(|value| show(&value, args.json)),
        QuarantineCommand::Release(args) => open(&args.config)?
            .release(args.entry, now)
            .and_then(|decided| tell(args, &decided, RELEASED)),
        QuarantineCommand::Discard(args) => open(&args.config)?
            .discard(args.entry, now)
            .and_then(|decided| tell(args, &decided, DISCARDED)),
    };
    Ok(done?)
}

/// The quarantine of a node: parcels, and beside them what was not taken from below.
enum Node {
    /// Messages of devices, with their content.
    Facility(OfFacility),
    /// Notes; the content is with the sender.
    Above(OfLedger),
}

fn above(data_dir: &Path, tls: &TlsFiles, me: Place) -> Result<Node> {
    let signer = Signer::new(&me, load_signing_key(&tls.signing_key)?);
    let file = data_dir.join(LEDGER);
    let quarantine =
        OfLedger::open(&file, me, signer).with_context(|| file.display().to_string())?;
    Ok(Node::Above(quarantine))
}

impl Node {
    fn of_edge(path: &Path) -> Result<Self, Failure> {
        let config: EdgeConfig = read(path)?;
        let quarantine = OfFacility::open(&config).map_err(anyhow::Error::from)?;
        Ok(Self::Facility(quarantine))
    }

    fn of_region(path: &Path) -> Result<Self, Failure> {
        let config: RegionalConfig = read(path)?;
        Ok(above(&config.data_dir, &config.tls, config.place())?)
    }

    fn of_global(path: &Path) -> Result<Self, Failure> {
        let config: GlobalConfig = read(path)?;
        Ok(above(&config.data_dir, &config.tls, Place::Global)?)
    }

    fn list(&self, list: &mut List) -> Result<()> {
        match self {
            Self::Facility(node) => {
                node.parcels(|held| list.parcel(&held))?;
                node.messages(|message| list.message(&message))?;
            }
            Self::Above(node) => {
                node.parcels(|held| list.parcel(&held))?;
                node.notes(|note| list.note(&note))?;
            }
        }
        Ok(())
    }

    /// Everything that this node has of an entry; the content of a parcel is shown at a facility alone.
    fn one(&self, entry: EntryId) -> Result<Value> {
        let found = match (self, entry) {
            (Self::Facility(node), EntryId::Parcel(number)) => node.parcel(number)?.map(|held| {
                let mut value = parcel_json(&held);
                value["content"] = content(&held.parcel);
                value
            }),
            (Self::Facility(node), EntryId::Message(number)) => {
                node.message(number)?.map(|(message, bytes)| {
                    let mut value = print::message_json(&message);
                    value["content"] = json!(String::from_utf8_lossy(&bytes));
                    value
                })
            }
            (Self::Above(node), EntryId::Parcel(number)) => {
                node.parcel(number)?.as_ref().map(parcel_json)
            }
            (Self::Above(node), EntryId::Note(number)) => {
                node.note(number)?.as_ref().map(note_json)
            }
            (Self::Facility(_), EntryId::Note(_)) | (Self::Above(_), EntryId::Message(_)) => None,
        };
        found.with_context(|| format!("{entry} is not in quarantine"))
    }

    fn release(&mut self, entry: EntryId, now: Timestamp) -> Result<Decided> {
        match (self, entry) {
            (Self::Facility(node), EntryId::Parcel(number)) => Ok(node.release(number, now)?),
            (Self::Above(node), EntryId::Parcel(number)) => Ok(node.release(number, now)?),
            (_, EntryId::Note(_)) => {
                bail!("{entry} is a note: the content is with its sender; release it there")
            }
            (_, EntryId::Message(_)) => {
                bail!("{entry} is no parcel: a message that cannot be understood cannot be sent")
            }
        }
    }

    fn discard(&mut self, entry: EntryId, now: Timestamp) -> Result<Decided> {
        let is_deleted = match (self, entry) {
            (Self::Facility(node), EntryId::Parcel(number)) => {
                return Ok(node.discard(number, now)?);
            }
            (Self::Above(node), EntryId::Parcel(number)) => {
                return Ok(node.discard(number, now, |_, _, _| Ok(()))?);
            }
            (Self::Facility(node), EntryId::Message(number)) => {
                node.discard_message(number, now)?
            }
            (Self::Above(node), EntryId::Note(number)) => node.discard_note(number, now)?,
            (Self::Facility(_), EntryId::Note(_)) | (Self::Above(_), EntryId::Message(_)) => false,
        };
        Ok(if is_deleted {
            Decided::Done(Priority::Live, 0)
        } else {
            Decided::Missing
        })
    }
}

/// The word of a decision, and what follows from it.
const RELEASED: (&str, &str) = (
    "released",
    "it is shipped again with the next step of the node",
);
const DISCARDED: (&str, &str) = ("discarded", "it is deleted here");

fn tell(
    args: &QuarantineEntryArgs,
    decided: &Decided,
    (what, meaning): (&str, &str),
) -> Result<()> {
    let entry = args.entry;
    match decided {
        Decided::Done(..) if args.json => Ok(out::line(
            json!({"id": entry.to_string(), "decision": what}),
        )?),
        Decided::Done(..) => Ok(out::line(format!("{entry} {what}: {meaning}"))?),
        Decided::Missing => bail!("{entry} is not in quarantine"),
        Decided::UnderWay => {
            bail!("{entry} is being shipped again right now; look at the list in a moment")
        }
    }
}
