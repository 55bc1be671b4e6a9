//! `medmesh edge quarantine` and `medmesh regional quarantine`: what a node holds because it was not taken, and what it
//! did not take, for a person to look at and to decide. It works beside the running node.
//!
//! An entry has a letter and a number: `p` a parcel that the next tier did not take (its content is here), `n` a note on
//! what this node did not take (its content is with the sender), `m` a message of a device that could not be understood.
use super::node::read;
use crate::{
    cli::quarantine::{QuarantineCommand, QuarantineEntryArgs, QuarantineListArgs},
    failure::Failure,
    out,
};
use anyhow::{Context, Result, anyhow, bail};
use edge::{config::EdgeConfig, quarantine::Quarantine as OfEdge};
use federation::{
    audit::Signer,
    envelope,
    ledger::notes::Note,
    outbox::{Decided, Held},
    pki::load_signing_key,
    quarantine::Quarantine as OfLedger,
    wire::{DeviceRecords, Parcel, Reading, ReadingBatch, reading},
};
use node::clock::Clock;
use regional::config::RegionalConfig;
use serde_json::{Value, json};
use std::{path::Path, str::FromStr};
use types::{Place, Timestamp};

/// Columns of a line of the list: what a terminal shows without a break.
const WIDTH: usize = 80;
/// Columns of its last field.
const WHAT: usize = WIDTH - 8 - 22 - 20;

/// Which entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryId {
    /// A parcel that the next tier did not take.
    Parcel(u64),
    /// A note on what this node did not take.
    Note(u64),
    /// A message that could not be understood.
    Message(u64),
}

impl FromStr for EntryId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "as `list` shows it: p12, n7 or m3".to_owned();
        let (kind, number) = text.split_at_checked(1).ok_or_else(wrong)?;
        let number = number.parse().map_err(|_| wrong())?;
        match kind {
            "p" => Ok(Self::Parcel(number)),
            "n" => Ok(Self::Note(number)),
            "m" => Ok(Self::Message(number)),
            _ => Err(wrong()),
        }
    }
}

impl std::fmt::Display for EntryId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Parcel(number) => write!(f, "p{number}"),
            Self::Note(number) => write!(f, "n{number}"),
            Self::Message(number) => write!(f, "m{number}"),
        }
    }
}

/// Runs the command on a facility's node.
pub fn edge(command: &QuarantineCommand) -> Result<(), Failure> {
    let open = |path: &Path| -> Result<(OfEdge, Timestamp), Failure> {
        let config: EdgeConfig = read(path)?;
        let quarantine = OfEdge::open(&config).map_err(anyhow::Error::from)?;
        Ok((quarantine, Clock::new(None).real()))
    };
    match command {
        QuarantineCommand::List(args) => Ok(list_edge(&open(&args.config)?.0, args)?),
        QuarantineCommand::Show(args) => Ok(show_edge(&open(&args.config)?.0, args)?),
        QuarantineCommand::Release(args) => {
            let (mut quarantine, now) = open(&args.config)?;
            match args.entry {
                EntryId::Parcel(number) => {
                    let decided = quarantine.release(number, now);
                    Ok(released(args, &decided.map_err(anyhow::Error::from)?)?)
                }
                _ => Err(cannot_release(args.entry).into()),
            }
        }
        QuarantineCommand::Discard(args) => {
            let (mut quarantine, now) = open(&args.config)?;
            let decided = match args.entry {
                EntryId::Parcel(number) => quarantine.discard(number, now),
                EntryId::Message(number) => quarantine.discard_message(number, now).map(done),
                EntryId::Note(_) => Ok(Decided::Missing),
            };
            Ok(discarded(args, &decided.map_err(anyhow::Error::from)?)?)
        }
    }
}

/// Runs the command on a region's node.
pub fn regional(command: &QuarantineCommand) -> Result<(), Failure> {
    let open = |path: &Path| -> Result<(OfLedger, Timestamp), Failure> {
        let config: RegionalConfig = read(path)?;
        let me = Place::Regional {
            jurisdiction: config.jurisdiction,
            region: config.region.clone(),
        };
        let key = load_signing_key(&config.tls.signing_key).map_err(anyhow::Error::from)?;
        let signer = Signer::new(&me, key);
        let file = config.data_dir.join("ledger.db");
        let quarantine =
            OfLedger::open(&file, me, signer).with_context(|| file.display().to_string())?;
        Ok((quarantine, Clock::new(None).real()))
    };
    match command {
        QuarantineCommand::List(args) => Ok(list_regional(&open(&args.config)?.0, args)?),
        QuarantineCommand::Show(args) => Ok(show_regional(&open(&args.config)?.0, args)?),
        QuarantineCommand::Release(args) => {
            let (mut quarantine, now) = open(&args.config)?;
            match args.entry {
                EntryId::Parcel(number) => {
                    let decided = quarantine.release(number, now);
                    Ok(released(args, &decided.map_err(anyhow::Error::from)?)?)
                }
                _ => Err(cannot_release(args.entry).into()),
            }
        }
        QuarantineCommand::Discard(args) => {
            let (mut quarantine, now) = open(&args.config)?;
            let decided = match args.entry {
                EntryId::Parcel(number) => quarantine.discard(number, now, |_, _, _| Ok(())),
                EntryId::Note(number) => quarantine.discard_note(number, now).map(done),
                EntryId::Message(_) => Ok(Decided::Missing),
            };
            Ok(discarded(args, &decided.map_err(anyhow::Error::from)?)?)
        }
    }
}

const fn done(deleted: bool) -> Decided {
    if deleted {
        Decided::Done(types::Priority::Live, 0)
    } else {
        Decided::Missing
    }
}

fn cannot_release(entry: EntryId) -> anyhow::Error {
    match entry {
        EntryId::Note(_) => {
            anyhow!("{entry} is a note: the content is with its sender; release it there")
        }
        _ => anyhow!("{entry} is no parcel: a message that cannot be understood cannot be sent"),
    }
}

fn released(args: &QuarantineEntryArgs, decided: &Decided) -> Result<()> {
    tell(
        args,
        decided,
        "released",
        "it is shipped again with the next step of the node",
    )
}

fn discarded(args: &QuarantineEntryArgs, decided: &Decided) -> Result<()> {
    tell(args, decided, "discarded", "it is deleted here")
}

fn tell(args: &QuarantineEntryArgs, decided: &Decided, what: &str, meaning: &str) -> Result<()> {
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

fn list_edge(quarantine: &OfEdge, args: &QuarantineListArgs) -> Result<()> {
    let mut list = List::new(args.json);
    quarantine.parcels(|held| list.parcel(&held))?;
    quarantine.messages(|message| {
        let id = EntryId::Message(message.number);
        let what = format!("{} bytes of {}", message.bytes, message.device);
        let json = json!({
            "id": id.to_string(), "time": message.at.to_rfc3339(), "reason": message.reason,
            "device": message.device, "bytes": message.bytes,
        });
        list.add(id, &message.at.to_rfc3339(), &message.reason, &what, json);
    })?;
    list.end()
}

fn list_regional(quarantine: &OfLedger, args: &QuarantineListArgs) -> Result<()> {
    let mut list = List::new(args.json);
    quarantine.parcels(|held| list.parcel(&held))?;
    quarantine.notes(|note| {
        let what = match note.position {
            Some(position) => format!("record {position} of {}", note.sender),
            None => note.sender.clone(),
        };
        let id = EntryId::Note(note.number);
        list.add(id, &note.time, &note.reason, &what, note_json(&note));
    })?;
    list.end()
}

/// A list under way: a table for people, a line of JSON for each entry for programs.
struct List {
    json: bool,
    lines: u64,
    result: std::io::Result<()>,
}

impl List {
    const fn new(json: bool) -> Self {
        Self {
            json,
            lines: 0,
            result: Ok(()),
        }
    }

    fn parcel(&mut self, held: &Held) {
        let (id, parcel) = (EntryId::Parcel(held.number), &held.parcel);
        let what = format!(
            "{} {}, {}",
            parcel.count,
            records(&parcel.kind),
            next_step(held)
        );
        self.add(id, &held.time, held.reason, &what, parcel_json(held));
    }

    fn add(&mut self, id: EntryId, time: &str, reason: &str, what: &str, json: Value) {
        if self.result.is_err() {
            return;
        }
        let line = if self.json {
            json.to_string()
        } else {
            line(&id.to_string(), &seconds(time), reason, what)
        };
        if self.lines == 0 && !self.json {
            self.result = out::line(line_of_titles());
        }
        self.lines += 1;
        if self.result.is_ok() {
            self.result = out::line(line);
        }
    }

    fn end(self) -> Result<()> {
        self.result?;
        if self.lines == 0 && !self.json {
            out::line("nothing is in quarantine")?;
        }
        Ok(())
    }
}

fn line_of_titles() -> String {
    line("id", "since", "reason", "what")
}

fn line(id: &str, time: &str, reason: &str, what: &str) -> String {
    let (reason, what) = (cut(reason, 18), cut(what, WHAT));
    format!("{id:<8}{time:<22}{reason:<20}{what}")
        .trim_end()
        .to_owned()
}

/// A text on the terminal: as much as there is room for, and no control characters.
fn cut(text: &str, columns: usize) -> String {
    let plain = || text.chars().map(|c| if c.is_control() { '?' } else { c });
    if plain().count() <= columns {
        return plain().collect();
    }
    let short: String = plain().take(columns.saturating_sub(1)).collect();
    format!("{short}…")
}

/// A time without its milliseconds.
fn seconds(time: &str) -> String {
    match time.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => time.to_owned(),
    }
}

fn records(kind: &str) -> &'static str {
    match kind {
        "ReadingBatch" => "readings",
        "DeviceRecords" => "devices",
        _ => "records",
    }
}

fn next_step(held: &Held) -> &'static str {
    match (held.under_way, held.due) {
        (true, _) => "under way",
        (false, Some(_)) => "will retry",
        (false, None) => "waits",
    }
}

fn parcel_json(held: &Held) -> Value {
    let parcel = &held.parcel;
    json!({
        "id": EntryId::Parcel(held.number).to_string(), "time": held.time, "reason": held.reason,
        "kind": parcel.kind, "class": parcel.data_class, "purpose": parcel.purpose, "to": parcel.to,
        "records": parcel.count, "bytes": parcel.body.len(), "digest": hex(&parcel.digest),
        "parcel": hex(&parcel.id), "first_priority": held.origin.0.as_str(), "first_seq": held.origin.1,
        "tries": held.tries, "under_way": held.under_way,
        "next_try": held.due.filter(|_| !held.under_way).map(Timestamp::to_rfc3339),
    })
}

fn note_json(note: &Note) -> Value {
    json!({
        "id": EntryId::Note(note.number).to_string(), "time": note.time, "reason": note.reason,
        "sender": note.sender, "parcel": hex(&note.parcel), "record": note.position,
        "digest": hex(&note.digest),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn show_edge(quarantine: &OfEdge, args: &QuarantineEntryArgs) -> Result<()> {
    let missing = || anyhow!("{} is not in quarantine", args.entry);
    let value = match args.entry {
        EntryId::Parcel(number) => {
            let held = quarantine.parcel(number)?.ok_or_else(missing)?;
            let mut value = parcel_json(&held);
            value["content"] = content(&held.parcel);
            value
        }
        EntryId::Message(number) => {
            let (message, bytes) = quarantine.message(number)?.ok_or_else(missing)?;
            json!({
                "id": args.entry.to_string(), "time": message.at.to_rfc3339(), "reason": message.reason,
                "device": message.device, "bytes": message.bytes,
                "content": String::from_utf8_lossy(&bytes),
            })
        }
        EntryId::Note(_) => return Err(missing()),
    };
    show(&value, args.json)
}

fn show_regional(quarantine: &OfLedger, args: &QuarantineEntryArgs) -> Result<()> {
    let missing = || anyhow!("{} is not in quarantine", args.entry);
    let value = match args.entry {
        EntryId::Parcel(number) => parcel_json(&quarantine.parcel(number)?.ok_or_else(missing)?),
        EntryId::Note(number) => note_json(&quarantine.note(number)?.ok_or_else(missing)?),
        EntryId::Message(_) => return Err(missing()),
    };
    show(&value, args.json)
}

fn show(value: &Value, json: bool) -> Result<()> {
    let text = if json {
        value.to_string()
    } else {
        serde_json::to_string_pretty(value)?
    };
    Ok(out::line(text)?)
}

/// What a parcel holds, as far as this program knows its kind.
fn content(parcel: &Parcel) -> Value {
    if let Ok(batch) = envelope::open::<ReadingBatch>(parcel) {
        return batch
            .readings
            .iter()
            .map(|it| reading_json(&batch, it))
            .collect();
    }
    match envelope::open::<DeviceRecords>(parcel) {
        Ok(records) => records
            .devices
            .iter()
            .map(|device| {
                json!({
                    "catalog_id": hex(&device.catalog_id), "kind": device.kind, "model": device.model,
                    "firmware": device.firmware, "status": device.status,
                })
            })
            .collect(),
        Err(error) => json!(error.to_string()),
    }
}

fn reading_json(batch: &ReadingBatch, it: &Reading) -> Value {
    let patient = usize::try_from(it.patient).unwrap_or(0).checked_sub(1);
    let patient = patient.and_then(|at| batch.patients.get(at));
    let device = batch
        .devices
        .get(usize::try_from(it.device).unwrap_or(usize::MAX));
    let (value, absent) = match &it.value {
        Some(reading::Value::Quantity(text)) => (Some(text), None),
        Some(reading::Value::Absent(text)) => (None, Some(text)),
        None => (None, None),
    };
    json!({
        "uid": hex(&it.uid), "code": it.code, "unit": it.unit, "value": value, "absent": absent,
        "effective": Timestamp(it.effective_ms).to_rfc3339(),
        "patient": patient.map(|one| hex(&one.pseudonym)),
        "device": device.map(|one| hex(&one.pseudonym)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_a_letter_and_a_number() {
        for text in ["p1", "n20", "m300"] {
            assert_eq!(text.parse::<EntryId>().unwrap().to_string(), text);
        }
        for text in ["", "p", "1", "x1", "p-1", "é1", "p1x"] {
            assert!(text.parse::<EntryId>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_line_fits_a_terminal_whatever_it_tells() {
        let long = "a-reason-or-a-name-that-nobody-would-choose-\u{1b}[31m-but-somebody-did";
        let line = line("p123456", &seconds("2000-01-01T00:00:00.000Z"), long, long);
        assert!(line.chars().count() <= WIDTH, "{line}");
        assert!(!line.contains('\u{1b}'));
        assert!(line_of_titles().len() <= WIDTH);
    }
}
