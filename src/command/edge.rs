//! `medmesh edge`: a facility's node, and what its own staff can read from its store.
use super::{node, quarantine};
use crate::{
    cli::{EdgeArgs, EdgeCommand, PrintArgs},
    failure::Failure,
    out,
};
use anyhow::Result;
use edge::crosswalk::{Crosswalk, DeviceRow, PatientRow, ReadingRow};
use serde_json::{Value, json};
use std::io::Write;

/// Runs the command.
pub async fn run(args: EdgeArgs) -> Result<(), Failure> {
    match (args.command, args.config) {
        (None, Some(config)) => node::edge(&config).await,
        (None, None) => Err(anyhow::anyhow!("--config is needed").into()),
        (Some(EdgeCommand::Crosswalk(args)), _) => crosswalk(&args),
        (Some(EdgeCommand::Readings(args)), _) => readings(&args),
        (Some(EdgeCommand::Quarantine(args)), _) => quarantine::edge(&args.command),
    }
}

fn crosswalk(args: &PrintArgs) -> Result<(), Failure> {
    let config = node::read(&args.config)?;
    let crosswalk = edge::crosswalk::export_crosswalk(&config).map_err(anyhow::Error::from)?;
    let text = if args.json {
        crosswalk_json(&crosswalk).to_string()
    } else {
        crosswalk_text(&crosswalk)
    };
    Ok(out::line(text)?)
}

fn crosswalk_json(crosswalk: &Crosswalk) -> Value {
    let patient = |row: &PatientRow| {
        json!({
            "patient": row.id,
            "pseudonym": row.pseudonym.to_string(),
            "shift_days": row.shift_days,
        })
    };
    let device = |row: &DeviceRow| {
        json!({
            "device": row.id,
            "pseudonym": row.pseudonym.to_string(),
            "catalog_id": row.catalog_id.to_string(),
            "shift_days": row.shift_days,
        })
    };
    json!({
        "patients": crosswalk.patients.iter().map(patient).collect::<Vec<_>>(),
        "devices": crosswalk.devices.iter().map(device).collect::<Vec<_>>(),
    })
}

fn crosswalk_text(crosswalk: &Crosswalk) -> String {
    let patients = crosswalk.patients.iter().map(|row| {
        format!(
            "patient {}  {}  {:+} days",
            row.pseudonym, row.id, row.shift_days
        )
    });
    let devices = crosswalk.devices.iter().map(|row| {
        format!(
            "device  {}  {}  catalog {}  {:+} days",
            row.pseudonym, row.id, row.catalog_id, row.shift_days
        )
    });
    patients.chain(devices).collect::<Vec<_>>().join("\n")
}

fn readings(args: &PrintArgs) -> Result<(), Failure> {
    let config = node::read(&args.config)?;
    let mut out = std::io::stdout().lock();
    let mut written = Ok(());
    let each = |row: ReadingRow| {
        let line = if args.json {
            serde_json::to_string(&row)
        } else {
            Ok(reading_text(&row))
        };
        let line = line.map_err(std::io::Error::from);
        if written.is_ok() {
            written = line.and_then(|line| writeln!(out, "{line}"));
        }
    };
    edge::crosswalk::export_readings(&config, each).map_err(anyhow::Error::from)?;
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
