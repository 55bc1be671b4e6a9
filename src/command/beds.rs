//! `medmesh edge beds`: who lies where from when on, said to the running node and read from its store.
use super::{argument, local_api::LocalApi, node, view};
use crate::{
    cli::{
        PrintArgs,
        beds::{AssignArgs, BedsArgs, BedsCommand, DischargeArgs},
    },
    failure::Failure,
    out,
};
use anyhow::{Context, Result, bail};
use edge::{beds::Listing, config::EdgeConfig, crosswalk::Read};
use serde_json::{Map, Value};
use std::path::Path;

/// Runs the command.
pub async fn run(args: BedsArgs) -> Result<(), Failure> {
    match (args.command, args.now) {
        (Some(BedsCommand::Assign(args)), _) => assign(args).await,
        (Some(BedsCommand::Discharge(args)), _) => discharge(args).await,
        (Some(BedsCommand::List(args)), _) => list(&args),
        (None, Some(now)) => view::beds(&now).await,
        (None, None) => Err(anyhow::anyhow!("--config is needed").into()),
    }
}

async fn assign(args: AssignArgs) -> Result<(), Failure> {
    let config: EdgeConfig = node::read(&args.bed.config)?;
    let mut entry = match &args.details {
        Some(path) => details(path)?,
        None => Map::new(),
    };
    entry.insert("patient".into(), args.patient.into());
    entry.insert("new".into(), args.new.into());
    enter(&config, "assign", entry, args.bed).await
}

async fn discharge(args: DischargeArgs) -> Result<(), Failure> {
    let config: EdgeConfig = node::read(&args.bed.config)?;
    enter(&config, "discharge", Map::new(), args.bed).await
}

/// What the facility knows of the patient: a JSON object, from a file or from standard input, since the arguments of a
/// process can be read by everybody on the machine.
fn details(path: &Path) -> Result<Map<String, Value>> {
    let text = match path == Path::new("-") {
        true => argument::text(std::io::stdin()).context("-")?,
        false => argument::text_of(path)?,
    };
    // The error of the parser could quote the patient.
    match serde_json::from_str(&text) {
        Ok(Value::Object(details)) => Ok(details),
        _ => bail!("{}: not a JSON object", path.display()),
    }
}

async fn enter(
    config: &EdgeConfig,
    what: &str,
    mut entry: Map<String, Value>,
    args: crate::cli::beds::BedArgs,
) -> Result<(), Failure> {
    entry.insert("bed".into(), args.bed.into());
    entry.insert("by".into(), args.by.into());
    if let Some(at) = args.at {
        entry.insert("from".into(), at.into());
    }
    let api = LocalApi::of(config)?;
    let path = format!("beds/{what}");
    let answer = api.post(&path, &Value::Object(entry).to_string()).await?;
    let text = match (
        args.json,
        answer["changed"].as_bool(),
        answer["corrects"].as_bool(),
    ) {
        (true, ..) => answer.to_string(),
        (false, Some(false), _) if answer["described"] == true => {
            "entered: what is known of the patient".into()
        }
        (false, Some(false), _) => "nothing new: that is what holds already".into(),
        (false, _, Some(true)) => {
            "entered; readings that were given to another patient are being corrected".into()
        }
        _ => "entered".into(),
    };
    Ok(out::line(text)?)
}

fn list(args: &PrintArgs) -> Result<(), Failure> {
    let config: EdgeConfig = node::read(&args.config)?;
    super::noted::note(&config, Read::Beds)?;
    let listing = edge::beds::export(&config).map_err(anyhow::Error::from)?;
    let text = if args.json {
        serde_json::to_string(&listing).map_err(anyhow::Error::from)?
    } else {
        text(&listing)
    };
    if text.is_empty() {
        out::none(true, "no bed has a patient, and none had");
        return Ok(());
    }
    Ok(out::line(text)?)
}

fn text(listing: &Listing) -> String {
    let rows = listing.beds.iter().map(|row| {
        let patient = row.patient.as_deref().unwrap_or("nobody");
        let state = if row.holds { "" } else { "  (replaced)" };
        format!(
            "{}  from {}  {patient}  entered {} by {}{state}",
            row.bed, row.from, row.entered, row.by
        )
    });
    let rest = format!("{} devices are still being corrected", listing.correcting);
    let rest = (listing.correcting > 0).then_some(rest);
    rows.chain(rest).collect::<Vec<_>>().join("\n")
}
