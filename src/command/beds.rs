//! `medmesh edge beds`: who lies where from when on, said to the running node and read from its store.
use super::node;
use crate::{
    cli::{
        PrintArgs,
        beds::{AssignArgs, BedsCommand, DischargeArgs},
    },
    failure::Failure,
    https::Https,
    out,
};
use anyhow::{Context, Result, bail};
use edge::{
    beds::{Listing, TOKEN_FILE},
    config::EdgeConfig,
    crosswalk::Read,
};
use serde_json::{Map, Value, json};
use std::{io::Read as _, net::IpAddr, path::Path};

/// Runs the command.
pub async fn run(command: BedsCommand) -> Result<(), Failure> {
    match command {
        BedsCommand::Assign(args) => assign(args).await,
        BedsCommand::Discharge(args) => discharge(args).await,
        BedsCommand::List(args) => list(&args),
    }
}

async fn assign(args: AssignArgs) -> Result<(), Failure> {
    let config: EdgeConfig = node::read(&args.bed.config)?;
    let mut entry = match &args.details {
        Some(path) => details(path)?,
        None => Map::new(),
    };
    entry.insert("patient".into(), args.patient.into());
    enter(&config, "assign", entry, args.bed).await
}

async fn discharge(args: DischargeArgs) -> Result<(), Failure> {
    let config: EdgeConfig = node::read(&args.bed.config)?;
    enter(&config, "discharge", Map::new(), args.bed).await
}

/// What the facility knows of the patient: a JSON object, from a file or from standard input, since the arguments of a
/// process can be read by everybody on the machine.
fn details(path: &Path) -> Result<Map<String, Value>> {
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin().read_to_string(&mut text)?;
    } else {
        text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    }
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
    let answer = post(config, what, &Value::Object(entry).to_string()).await?;
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

async fn post(config: &EdgeConfig, what: &str, body: &str) -> Result<Value> {
    let listen = config.https.listen;
    if listen.port() == 0 {
        bail!("https.listen: the node chose its port itself; name one in the configuration");
    }
    let mut address = listen;
    if listen.ip().is_unspecified() {
        address.set_ip(match listen.ip() {
            IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    let path = config.data_dir.join(TOKEN_FILE);
    let token = std::fs::read_to_string(&path)
        .with_context(|| format!("{}: has the node run, and may you read it?", path.display()))?;
    let url = format!("https://{address}/api/v1/beds/{what}");
    let https = Https::of_node(&config.tls.cert)?;
    let (status, answer) = https
        .post_json(&url, &token, body)
        .await
        .context("is the node running?")?;
    let answer: Value = serde_json::from_str(&answer).unwrap_or_else(|_| json!({}));
    if status == 200 {
        return Ok(answer);
    }
    bail!(
        "{status}: {}",
        answer["error"].as_str().unwrap_or("no reason given")
    )
}

fn list(args: &PrintArgs) -> Result<(), Failure> {
    let config: EdgeConfig = node::read(&args.config)?;
    super::edge::note(&config, Read::Beds)?;
    let listing = edge::beds::export(&config).map_err(anyhow::Error::from)?;
    let text = if args.json {
        serde_json::to_string(&listing).map_err(anyhow::Error::from)?
    } else {
        text(&listing)
    };
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
