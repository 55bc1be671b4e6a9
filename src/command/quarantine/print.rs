//! What is in quarantine, on the terminal: a table for people, lines of JSON for programs.
use crate::{
    cli::entry::EntryId,
    out::{self, WIDTH},
};
use anyhow::Result;
use edge::quarantine::Message;
use federation::{
    envelope::{self, Intact},
    ledger::notes::Note,
    outbox::Held,
    wire::Parcel,
};
use messages::{DeviceRecords, Reading, ReadingBatch, reading};
use serde_json::{Value, json};
use types::{Place, Timestamp};

/// Columns of its last field.
const WHAT: usize = WIDTH - 8 - 22 - 20;

/// A list under way: a table for people, a line of JSON for each entry for programs.
pub struct List {
    json: bool,
    /// The node whose entries follow, where there are several.
    place: Option<Place>,
    /// Whether the table of that node has begun.
    begun: bool,
    lines: u64,
    result: std::io::Result<()>,
}

impl List {
    pub const fn new(json: bool) -> Self {
        Self {
            json,
            place: None,
            begun: false,
            lines: 0,
            result: Ok(()),
        }
    }

    /// What follows is of this node.
    pub fn of(&mut self, place: Place) {
        self.place = Some(place);
        self.begun = false;
    }

    pub fn parcel(&mut self, held: &Held) {
        let (id, parcel) = (EntryId::Parcel(held.number), &held.parcel);
        let what = format!(
            "{} {}, {}",
            parcel.count,
            records(&parcel.kind),
            next_step(held)
        );
        self.add(id, &held.time, held.reason, &what, parcel_json(held));
    }

    pub fn message(&mut self, message: &Message) {
        let id = EntryId::Message(message.number);
        let what = format!("{} bytes of {}", message.bytes, message.device);
        let json = message_json(message);
        self.add(id, &message.at.to_rfc3339(), &message.reason, &what, json);
    }

    pub fn note(&mut self, note: &Note) {
        let what = match note.position {
            Some(position) => format!("record {position} of {}", note.sender),
            None => note.sender.clone(),
        };
        let id = EntryId::Note(note.number);
        self.add(id, &note.time, &note.reason, &what, note_json(note));
    }

    fn add(&mut self, id: EntryId, time: &str, reason: &str, what: &str, mut json: Value) {
        if self.result.is_err() {
            return;
        }
        let line = if self.json {
            if let Some(place) = &self.place {
                json["place"] = json!(place.to_string());
            }
            json.to_string()
        } else {
            line(&id.to_string(), &seconds(time), reason, what)
        };
        self.result = self.begin().and_then(|()| out::line(line));
        self.lines += 1;
    }

    /// The head of a table for people, once.
    fn begin(&mut self) -> std::io::Result<()> {
        if self.begun || self.json {
            return Ok(());
        }
        self.begun = true;
        if let Some(place) = &self.place {
            let gap = if self.lines > 0 { "\n" } else { "" };
            out::line(format!("{gap}{place}"))?;
        }
        out::line(line_of_titles())
    }

    /// Ends a list that lacks something, so that nobody is told that there is nothing.
    pub fn cut_short(self) -> Result<()> {
        Ok(self.result?)
    }

    pub fn end(self) -> Result<()> {
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

pub fn parcel_json(held: &Held) -> Value {
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

pub fn message_json(message: &Message) -> Value {
    json!({
        "id": EntryId::Message(message.number).to_string(), "time": message.at.to_rfc3339(),
        "reason": message.reason, "device": message.device, "bytes": message.bytes,
    })
}

pub fn note_json(note: &Note) -> Value {
    json!({
        "id": EntryId::Note(note.number).to_string(), "time": note.time, "reason": note.reason,
        "sender": note.sender, "parcel": hex(&note.parcel), "record": note.position,
        "digest": hex(&note.digest),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn show(value: &Value, json: bool) -> Result<()> {
    let text = if json {
        value.to_string()
    } else {
        serde_json::to_string_pretty(value)?
    };
    Ok(out::line(text)?)
}

/// What a parcel holds, as far as this program knows its kind.
pub fn content(parcel: &Parcel) -> Value {
    let Some(parcel) = Intact::new(parcel.clone()) else {
        return json!("the body does not have the parcel's digest");
    };
    if let Ok(batch) = envelope::open::<ReadingBatch>(&parcel) {
        return batch
            .readings
            .iter()
            .map(|it| reading_json(&batch, it))
            .collect();
    }
    match envelope::open::<DeviceRecords>(&parcel) {
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
    fn a_line_fits_a_terminal_whatever_it_tells() {
        let long = "a-reason-or-a-name-that-nobody-would-choose-\u{1b}[31m-but-somebody-did";
        let line = line("p123456", &seconds("2000-01-01T00:00:00.000Z"), long, long);
        assert!(line.chars().count() <= WIDTH, "{line}");
        assert!(!line.contains('\u{1b}'));
        assert!(line_of_titles().len() <= WIDTH);
    }
}
