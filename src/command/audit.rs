//! `medmesh audit`: a node's log of what it let pass and what it refused, checked and printed beside the running node.
use super::{check_config::detect, node::read};
use crate::{
    cli::{AuditArgs, AuditCommand, AuditNodeArgs, ConfigKind},
    failure::Failure,
    out,
};
use anyhow::{Context, Result, anyhow};
use edge::config::EdgeConfig;
use federation::{
    audit::{Log, origin},
    identity::Identity,
};
use global::config::GlobalConfig;
use node::config::TlsFiles;
use regional::config::RegionalConfig;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde_json::{Value, json};
use std::path::Path;

/// Entries that are read at a time.
const PAGE: u32 = 1_000;
/// The audit log of a regional or the global node, in its data directory.
const LEDGER: &str = "ledger.db";

/// Runs the command.
pub fn run(args: &AuditArgs) -> Result<(), Failure> {
    let (show, args): (Show, _) = match &args.command {
        AuditCommand::Verify(args) => (verify, args),
        AuditCommand::List(args) => (list, args),
        AuditCommand::Checkpoint(args) => (checkpoint, args),
    };
    let (log, tls) = open(&args.config)?;
    Ok(show(&log, &tls, args)?)
}

type Show = fn(&Log, &TlsFiles, &AuditNodeArgs) -> Result<()>;

fn open(config: &Path) -> Result<(Log, TlsFiles), Failure> {
    let ledger = |dir: &Path| {
        let file = dir.join(LEDGER);
        Log::open(&file).with_context(|| file.display().to_string())
    };
    match detect(config) {
        ConfigKind::Edge => {
            let config: EdgeConfig = read(config)?;
            let log = edge::crosswalk::audit_log(&config).context("the facility's store")?;
            Ok((log, config.tls))
        }
        ConfigKind::Regional => {
            let config: RegionalConfig = read(config)?;
            Ok((ledger(&config.data_dir)?, config.tls))
        }
        ConfigKind::Global => {
            let config: GlobalConfig = read(config)?;
            Ok((ledger(&config.data_dir)?, config.tls))
        }
        ConfigKind::Device => Err(anyhow!("simulated devices have no audit log").into()),
    }
}

fn verify(log: &Log, tls: &TlsFiles, args: &AuditNodeArgs) -> Result<()> {
    let cert = &tls.cert;
    let der = CertificateDer::from_pem_file(cert)
        .map_err(|error| anyhow!("{}: {error}", cert.display()))?;
    let (identity, key) = Identity::from_cert(&der)?;
    let (place, key) = identity
        .place()
        .zip(key)
        .with_context(|| format!("{} is not the certificate of a node", cert.display()))?;
    let head = log.verify(&origin(place), &key, &[])?;
    let root: String = head.root.iter().map(|byte| format!("{byte:02x}")).collect();
    let text = if args.json {
        json!({"origin": head.origin, "size": head.size, "root": root}).to_string()
    } else {
        let (origin, size) = (head.origin, head.size);
        format!("{origin}: {size} entries, all as they were signed")
    };
    Ok(out::line(text)?)
}

fn list(log: &Log, _: &TlsFiles, args: &AuditNodeArgs) -> Result<()> {
    let mut start = 0;
    loop {
        let entries = log.list(start, PAGE)?;
        let Some((last, _)) = entries.last() else {
            return Ok(());
        };
        start = last + 1;
        for (index, entry) in &entries {
            let mut value: Value = serde_json::from_slice(&entry.encode()?)?;
            value["index"] = json!(index);
            out::line(if args.json {
                value.to_string()
            } else {
                line(&value)
            })?;
        }
    }
}

fn line(entry: &Value) -> String {
    let field = |key: &str| match &entry[key] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let names = [
        "index", "time", "decision", "reason", "class", "purpose", "from", "to", "count",
    ];
    names.map(field).join("  ")
}

fn checkpoint(log: &Log, _: &TlsFiles, args: &AuditNodeArgs) -> Result<()> {
    let note = log.checkpoint()?.context("the log is empty")?;
    if args.json {
        Ok(out::line(json!({"checkpoint": note}))?)
    } else {
        Ok(out::text(&note)?)
    }
}
