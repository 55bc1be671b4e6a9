//! `medmesh edge`: a facility's node, and what its own staff can read from its store.
use super::{beds, commands, dataset, node, noted::note, plans, quarantine, view};
use crate::{
    cli::{EdgeArgs, EdgeCommand, PrintArgs},
    failure::Failure,
    out,
};
use anyhow::Result;
use edge::crosswalk::{Crosswalk, DeviceRow, PatientRow, Read, ReadingRow, StayRow};
use serde_json::{Value, json};
use std::io::Write;

/// Runs the command.
pub async fn run(args: EdgeArgs) -> Result<(), Failure> {
    match (args.command, args.config) {
        (None, Some(config)) => node::edge(&config).await,
        (None, None) => Err(anyhow::anyhow!("--config is needed").into()),
        (Some(EdgeCommand::Enrol(args)), _) => super::enrol::enrol(&args).await,
        (Some(EdgeCommand::Invite(args)), _) => super::device_enrol::invite(&args).await,
        (Some(EdgeCommand::Measure(args)), _) => Ok(super::measure::run(&args)?),
        (Some(EdgeCommand::Renew(args)), _) => Ok(super::enrol::renew(&args).await?),
        (Some(EdgeCommand::Crosswalk(args)), _) => crosswalk(&args),
        (Some(EdgeCommand::Readings(args)), _) => readings(&args),
        (Some(EdgeCommand::Quarantine(args)), _) => quarantine::edge(&args.command),
        (Some(EdgeCommand::Dataset(command)), _) => dataset::run(&command),
        (Some(EdgeCommand::Beds(args)), _) => beds::run(args).await,
        (Some(EdgeCommand::Series(args)), _) => view::series(args).await,
        (Some(EdgeCommand::Alarms(args)), _) => view::alarms(args).await,
        (Some(EdgeCommand::Watch(args)), _) => view::watch(args).await,
        (Some(EdgeCommand::Commands(command)), _) => commands::run(command).await,
        (Some(EdgeCommand::Blobs(args)), _) => commands::blobs(&args).await,
        (Some(EdgeCommand::Plans(command)), _) => plans::run(&command),
    }
}

fn crosswalk(args: &PrintArgs) -> Result<(), Failure> {
    let config = node::read(&args.config)?;
    note(&config, Read::Crosswalk)?;
    let crosswalk = edge::crosswalk::export_crosswalk(&config).map_err(anyhow::Error::from)?;
    let text = if args.json {
        crosswalk_json(&crosswalk).to_string()
    } else {
        crosswalk_text(&crosswalk)
    };
    if text.is_empty() {
        out::none(true, "the facility knows no patient and no device yet");
        return Ok(());
    }
    Ok(out::line(text)?)
}

fn crosswalk_json(crosswalk: &Crosswalk) -> Value {
    let patient = |row: &PatientRow| {
        json!({
            "patient": row.id,
            "pseudonym": row.pseudonym.to_string(),
            "shift_days": row.shift_days,
            "birth_date": row.birth_date,
            "gender": row.gender,
            "height_cm": row.height_cm,
            "weight_kg": row.weight_kg,
            "care_unit": row.care_unit,
        })
    };
    // A row for each name that a device has had; one without a name for a device that has measured nothing yet.
    let device = |row: &DeviceRow| {
        let of = |stay: Option<&StayRow>| {
            json!({
                "device": row.id,
                "catalog_id": row.catalog_id.to_string(),
                "shift_days": row.shift_days,
                "pseudonym": stay.map(|stay| stay.pseudonym.to_string()),
                "patient": stay.and_then(|stay| stay.patient.clone()),
                "since": stay.and_then(|stay| stay.since_ms).map(since),
                "of_all": stay.is_some_and(|stay| stay.of_all),
            })
        };
        if row.stays.is_empty() {
            vec![of(None)]
        } else {
            row.stays.iter().map(|stay| of(Some(stay))).collect()
        }
    };
    json!({
        "patients": crosswalk.patients.iter().map(patient).collect::<Vec<_>>(),
        "devices": crosswalk.devices.iter().flat_map(device).collect::<Vec<_>>(),
    })
}

fn crosswalk_text(crosswalk: &Crosswalk) -> String {
    let patients = crosswalk.patients.iter().map(|row| {
        format!(
            "patient {}  {}  {:+} days{}",
            row.pseudonym,
            row.id,
            row.shift_days,
            known(row)
        )
    });
    let devices = crosswalk.devices.iter().flat_map(|row| {
        let device = format!(
            "device  {}  catalog {}  {:+} days",
            row.id, row.catalog_id, row.shift_days
        );
        std::iter::once(device).chain(row.stays.iter().map(stay_text))
    });
    patients.chain(devices).collect::<Vec<_>>().join("\n")
}

/// What else is known of a patient.
fn known(row: &PatientRow) -> String {
    let with = |before: &str, value: &Option<String>, after: &str| {
        value
            .as_ref()
            .map_or_else(String::new, |value| format!("  {before}{value}{after}"))
    };
    [
        with("", &row.gender, ""),
        with("born ", &row.birth_date, ""),
        with("", &row.height_cm, " cm"),
        with("", &row.weight_kg, " kg"),
        with("", &row.care_unit, ""),
    ]
    .concat()
}

fn stay_text(stay: &StayRow) -> String {
    let patient = match (&stay.patient, stay.of_all) {
        (Some(id), _) => id.as_str(),
        (None, true) => "every patient",
        (None, false) => "nobody",
    };
    let since = stay
        .since_ms
        .map_or_else(String::new, |ms| format!(" since {}", since(ms)));
    format!("  is {} for {patient}{since}", stay.pseudonym)
}

fn since(ms: i64) -> String {
    types::Timestamp(ms).to_rfc3339()
}

fn readings(args: &PrintArgs) -> Result<(), Failure> {
    let config = node::read(&args.config)?;
    note(&config, Read::Readings)?;
    let mut stdout = std::io::stdout().lock();
    let (mut written, mut is_empty) = (Ok(()), true);
    let each = |row: ReadingRow| {
        is_empty = false;
        let line = if args.json {
            serde_json::to_string(&row)
        } else {
            Ok(reading_text(&row))
        };
        let line = line.map_err(std::io::Error::from);
        if written.is_ok() {
            written = line.and_then(|line| writeln!(stdout, "{line}"));
        }
    };
    edge::crosswalk::export_readings(&config, each).map_err(anyhow::Error::from)?;
    out::none(is_empty && !args.json, "no reading was stored yet");
    Ok(written?)
}

fn reading_text(row: &ReadingRow) -> String {
    let value = match (&row.value, &row.absent) {
        (Some(value), _) => format!("{value} {}", row.unit),
        (None, absent) => format!("absent: {}", absent.as_deref().unwrap_or("unknown")),
    };
    format!(
        "{}  {} {}/{}/{}  {}  {value}",
        types::Timestamp(row.source_ms),
        row.device,
        row.epoch,
        row.seq,
        row.index,
        row.code,
    )
}
