//! `medmesh audit`: a node's log of what it let pass and what it refused, checked and printed beside the running node.
use super::{check_config::detect, node::read};
use crate::{
    cli::{
        ConfigKind,
        audit::{
            AuditArgs, AuditCommand, AuditExportArgs, AuditListArgs, AuditNodeArgs, AuditVerifyArgs,
        },
    },
    failure::Failure,
    out,
};
use anyhow::{Context, Result, anyhow};
use edge::config::EdgeConfig;
use federation::{
    audit::{
        self, Entry, Log, Signer, about, restore,
        witness::{self, Witness},
    },
    gap::Gap,
    identity::Identity,
    pki::load_signing_key,
};
use global::config::GlobalConfig;
use node::{clock::Clock, config::TlsFiles};
use regional::config::RegionalConfig;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use types::{Place, Timestamp};

/// Entries that are read at a time.
const PAGE: u32 = 1_000;
/// The audit log of a regional or the global node, in its data directory.
pub(crate) const LEDGER: &str = "ledger.db";

/// Runs the command.
pub fn run(args: &AuditArgs) -> Result<(), Failure> {
    let (show, args): (Show, _) = match &args.command {
        AuditCommand::Verify(args) => return verify(args),
        AuditCommand::List(args) => return Ok(list(&open(&args.node.config)?.log, args)?),
        AuditCommand::Export(args) => return export(args),
        AuditCommand::Checkpoint(args) => (checkpoint, args),
        AuditCommand::Heads(args) => (heads, args),
        AuditCommand::Gaps(args) => (gaps, args),
        AuditCommand::Acknowledge(args) => return acknowledge(args),
    };
    Ok(show(&open(&args.config)?.log, args)?)
}

type Show = fn(&Log, &AuditNodeArgs) -> Result<()>;

/// A node's log, and what its configuration says of it.
struct Opened {
    log: Log,
    tls: TlsFiles,
    /// The file that the log is in.
    database: PathBuf,
}

fn open(config: &Path) -> Result<Opened, Failure> {
    let ledger = |dir: &Path, tls: TlsFiles| -> Result<Opened> {
        let database = dir.join(LEDGER);
        let log = Log::open(&database).with_context(|| database.display().to_string())?;
        Ok(Opened { log, tls, database })
    };
    match detect(config) {
        ConfigKind::Edge => {
            let config: EdgeConfig = read(config)?;
            let log = edge::crosswalk::audit_log(&config).context("the facility's store")?;
            let database = config.data_dir.join(store::Store::FILE);
            let tls = config.tls;
            Ok(Opened { log, tls, database })
        }
        ConfigKind::Regional => {
            let config: RegionalConfig = read(config)?;
            Ok(ledger(&config.data_dir, config.tls)?)
        }
        ConfigKind::Global => {
            let config: GlobalConfig = read(config)?;
            Ok(ledger(&config.data_dir, config.tls)?)
        }
        ConfigKind::Device => Err(anyhow!("simulated devices have no audit log").into()),
    }
}

impl Opened {
    /// The node as its certificate says, and the file of heads that peers said they hold of its log.
    fn node(&self) -> Result<(Place, Witness)> {
        let cert = &self.tls.cert;
        let der = CertificateDer::from_pem_file(cert)
            .map_err(|error| anyhow!("{}: {error}", cert.display()))?;
        let (identity, key) = Identity::from_cert(&der)?;
        let (place, key) = identity
            .place()
            .cloned()
            .zip(key)
            .with_context(|| format!("{} is not the certificate of a node", cert.display()))?;
        let witness = Witness::beside(&self.database, &place, key);
        Ok((place, witness))
    }
}

/// Each log is checked by itself, against what its peers said they hold, against the heads from outside, and against
/// what the other nodes that are named hold of it.
fn verify(args: &AuditVerifyArgs) -> Result<(), Failure> {
    let nodes = args.config.iter().map(|config| open(config));
    let nodes: Vec<Opened> = nodes.collect::<Result<_, _>>()?;
    let mut held = heads_from_outside(&args.head, &nodes)?;
    for node in &nodes {
        held.extend(node.log.heads().map_err(anyhow::Error::from)?);
    }
    let mut failed = None;
    for node in &nodes {
        let verified = verify_one(node, &held, args.json);
        if let Err(error) = verified {
            let (_, witness) = node.node()?;
            eprintln!("medmesh: {}: {error:#}", witness.origin());
            failed = Some(error);
        }
    }
    failed.map_or(Ok(()), |error| Err(error.into()))
}

/// The heads in files from outside. A file without a head that one of these nodes signed proves nothing of their logs:
/// whoever named it believes that it does.
fn heads_from_outside(files: &[PathBuf], nodes: &[Opened]) -> Result<Vec<String>> {
    let logs = nodes.iter().map(|node| Ok(node.node()?.1));
    let logs: Vec<Witness> = logs.collect::<Result<_>>()?;
    let mut held = Vec::new();
    for file in files {
        let at = || format!("--head: {}", file.display());
        // What is not there holds no head for a node, and is a mistake of a person.
        std::fs::metadata(file).with_context(at)?;
        let heads = witness::read(file).with_context(at)?;
        let is_of_these = |note: &String| logs.iter().any(|log| log.open(note).is_some());
        if !heads.iter().any(is_of_these) {
            let origins: Vec<&str> = logs.iter().map(Witness::origin).collect();
            let (file, origins) = (file.display(), origins.join(", "));
            return Err(anyhow!("{file}: holds no signed head of {origins}"));
        }
        held.extend(heads);
    }
    Ok(held)
}

fn verify_one(node: &Opened, held: &[String], json: bool) -> Result<()> {
    let (_, witness) = node.node()?;
    let origin = witness.origin();
    let ours = |note: &&String| note.lines().next() == Some(origin);
    let outside: Vec<String> = held.iter().filter(ours).cloned().collect();
    let (head, others) = node.log.verify_beside(&witness, &outside)?;
    if head.size == 0 {
        // A node writes its first entry when it first starts.
        return Err(anyhow!(
            "the log is empty and has no signed head, though its node has run"
        ));
    }
    let size = head.size;
    let root: String = head.root.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(out::line(if json {
        json!({"origin": origin, "size": size, "root": root, "witnessed": others}).to_string()
    } else {
        format!(
            "{origin}: {size} entries, all as they were signed; {others} heads that others hold are of this log"
        )
    })?)
}

fn export(args: &AuditExportArgs) -> Result<(), Failure> {
    let opened = open(&args.node.config)?;
    let (_, witness) = opened.node()?;
    let (origin, to) = (witness.origin(), &args.to);
    let size = audit::export(&opened.log, origin, &witness.key(), to);
    let size = size.map_err(anyhow::Error::from)?;
    Ok(out::line(if args.node.json {
        json!({"origin": origin, "size": size}).to_string()
    } else {
        format!("{size} entries of {origin} are in {}", to.display())
    })?)
}

fn heads(log: &Log, args: &AuditNodeArgs) -> Result<()> {
    let heads = log.heads()?;
    out::none(
        heads.is_empty() && !args.json,
        "the node holds no head of another node's log",
    );
    if args.json {
        Ok(out::line(json!(heads).to_string())?)
    } else {
        Ok(out::text(&witness::written(&heads))?)
    }
}

fn gaps(log: &Log, args: &AuditNodeArgs) -> Result<()> {
    let gaps = log.gaps()?;
    out::none(gaps.is_empty() && !args.json, "no gap is open");
    for gap in gaps {
        out::line(if args.json {
            json!({
                "number": gap.number, "time": gap.time, "cause": gap.cause, "peer": gap.peer,
                "parcels": gap.parcels, "records": gap.records, "from_ms": gap.from_ms, "to_ms": gap.to_ms,
            })
            .to_string()
        } else {
            gap_text(&gap)
        })?;
    }
    Ok(())
}

fn gap_text(gap: &Gap) -> String {
    let records = match gap.records {
        0 => "nobody can tell how many readings".to_owned(),
        records => format!("{records} readings"),
    };
    let span = match gap.from_ms {
        0 => "made at a time that nobody can tell".to_owned(),
        from => format!("made from {} to {}", Timestamp(from), Timestamp(gap.to_ms)),
    };
    let (number, time, cause) = (gap.number, &gap.time, &gap.cause);
    let (peer, parcels) = (&gap.peer, gap.parcels);
    format!("{number}  {time}  {cause}  with {peer}: {parcels} parcels, {records}, {span}")
}

/// Writes beside the running node, as one more commit of its log.
fn acknowledge(args: &AuditNodeArgs) -> Result<(), Failure> {
    // The file of heads is written anew beside the log, and is the node's alone as it was.
    storage::private::make_private();
    let opened = open(&args.config)?;
    let (place, witness) = opened.node()?;
    let key = load_signing_key(&opened.tls.signing_key).map_err(anyhow::Error::from)?;
    let node = restore::Node {
        place: &place,
        signer: &Signer::new(&place, key),
        witness: &witness,
        now: Clock::new(None).real(),
    };
    let mut connection = match detect(&args.config) {
        ConfigKind::Edge => {
            let config: EdgeConfig = read(&args.config)?;
            edge::crosswalk::open_to_note(&config).map_err(anyhow::Error::from)?
        }
        _ => federation::db::open(&opened.database).map_err(anyhow::Error::from)?,
    };
    let done = restore::acknowledge(&mut connection, &node).map_err(anyhow::Error::from)?;
    let (gaps, heads, begun) = (done.gaps, done.heads, done.begun);
    Ok(out::line(if args.json {
        json!({"gaps": gaps, "heads": heads, "begun": begun}).to_string()
    } else {
        let begun = if begun {
            ", the file of heads beside the log begins anew"
        } else {
            ""
        };
        format!(
            "{gaps} gaps acknowledged, {heads} heads that the log does not hold set aside{begun}"
        )
    })?)
}

fn list(log: &Log, args: &AuditListArgs) -> Result<()> {
    let about = args.about.as_deref().map(about);
    let (mut start, mut is_empty) = (0, true);
    loop {
        let entries = log.list(start, PAGE)?;
        let Some((last, _)) = entries.last() else {
            out::none(is_empty && !args.node.json, "the log has no such entry");
            return Ok(());
        };
        start = last + 1;
        let wanted = |entry: &Entry| about.as_ref().is_none_or(|about| entry.id() == about);
        for (index, entry) in entries.iter().filter(|(_, entry)| wanted(entry)) {
            is_empty = false;
            let mut value: Value = serde_json::from_slice(&entry.encode()?)?;
            value["index"] = json!(index);
            out::line(if args.node.json {
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
        "index", "time", "decision", "reason", "class", "purpose", "from", "to", "kind", "count",
    ];
    names.map(field).join("  ")
}

fn checkpoint(log: &Log, args: &AuditNodeArgs) -> Result<()> {
    let note = log.checkpoint()?.context("the log is empty")?;
    if args.json {
        Ok(out::line(json!({"checkpoint": note}))?)
    } else {
        Ok(out::text(&note)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_heads_that_is_not_there_is_named_as_that() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("heads.txt");
        let error = heads_from_outside(std::slice::from_ref(&file), &[]).unwrap_err();
        let expected = format!("--head: {}", file.display());
        assert_eq!(error.to_string(), expected);
        assert!(format!("{error:#}").contains("No such file"), "{error:#}");
    }
}
