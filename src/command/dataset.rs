//! `medmesh edge dataset`: research tables of a facility, imported from files by its own staff.
use super::{node, noted::who};
use crate::{
    cli::{
        PrintArgs,
        dataset::{DatasetArgs, DatasetCommand, ImportArgs},
    },
    failure::Failure,
    out,
};
use ::node::{
    clock::Clock,
    config::{self, Problem, Validate},
};
use anyhow::{Context, Result, anyhow, bail};
use edge::{
    config::EdgeConfig,
    dataset::{Dataset, Datasets, Origin},
};
use fl::table::{Column, Fault, MAX_FAULTS, Schema, Summary, Table, import as read_table};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{fs::File, io::Read as _, path::Path};

/// Bytes of a file: a million records of 30 columns.
const MAX_CSV_BYTES: u64 = 256 << 20;

/// A schema in a file; overrides of a node's configuration do not apply to it.
#[derive(Deserialize)]
#[serde(transparent)]
struct SchemaFile(Schema);

impl Validate for SchemaFile {
    fn problems(&self) -> Vec<Problem> {
        let of = |problem: fl::study::Problem| Problem::new(problem.path, problem.message);
        self.0.problems().into_iter().map(of).collect()
    }
}

/// Runs the command.
pub fn run(command: &DatasetCommand) -> Result<(), Failure> {
    match command {
        DatasetCommand::Import(args) => import(args),
        DatasetCommand::List(args) => list(args),
        DatasetCommand::Describe(args) => describe(args),
        DatasetCommand::Remove(args) => remove(args),
    }
}

fn open(config: &Path) -> Result<Datasets, Failure> {
    let config: EdgeConfig = node::read(config)?;
    let opened = Datasets::open(&config);
    Ok(opened.context("has the node run, and may you read its store?")?)
}

fn import(args: &ImportArgs) -> Result<(), Failure> {
    let schema = config::load::<SchemaFile>(&args.schema, [])?.0;
    let text = text(&args.csv)?;
    let table = read_table(&schema, &text).map_err(|faults| refused(&args.csv, &faults))?;
    let mut datasets = open(&args.dataset.config)?;
    let by = who();
    let origin = Origin {
        by: &by,
        digest: edge::dataset::digest(&text),
        now: Clock::new(None).real(),
    };
    let imported = datasets.import(&args.dataset.name, &table, &origin);
    let imported = imported.context("nothing was imported")?;
    if args.dataset.json {
        return Ok(out::line(listed_json(&imported))?);
    }
    Ok(out::line(format!("imported {}", listed(&imported)))?)
}

/// The text of a file.
fn text(path: &Path) -> Result<String> {
    let shown = || path.display().to_string();
    let file = File::open(path).with_context(shown)?;
    let mut bytes = Vec::new();
    file.take(MAX_CSV_BYTES + 1)
        .read_to_end(&mut bytes)
        .with_context(shown)?;
    if bytes.len() as u64 > MAX_CSV_BYTES {
        bail!(
            "{}: has more than {MAX_CSV_BYTES} bytes; nothing was imported",
            path.display()
        );
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let before = error.as_bytes().iter().take(good);
        let line = 1 + before.filter(|byte| **byte == b'\n').count();
        anyhow!(
            "{}:{line}: is not UTF-8; nothing was imported",
            path.display()
        )
    })
}

/// Everything that is wrong with a file, each with its place.
fn refused(path: &Path, faults: &[Fault]) -> anyhow::Error {
    let mut text = String::from("nothing was imported:");
    for fault in faults {
        text += &format!("\n  {}:{fault}", path.display());
    }
    if faults.len() >= MAX_FAULTS {
        text += "\n  and there may be more";
    }
    anyhow!(text)
}

fn list(args: &PrintArgs) -> Result<(), Failure> {
    let datasets = open(&args.config)?.list().map_err(anyhow::Error::from)?;
    if args.json {
        let rows: Vec<_> = datasets.iter().map(listed_json).collect();
        return Ok(out::line(json!({ "datasets": rows }))?);
    }
    out::none(datasets.is_empty(), "no dataset was imported");
    for dataset in &datasets {
        out::line(listed(dataset))?;
    }
    Ok(())
}

fn listed(dataset: &Dataset) -> String {
    format!(
        "{}  {} records  {} columns  imported {} by {}",
        dataset.name,
        dataset.records,
        dataset.columns.len(),
        dataset.imported,
        dataset.by
    )
}

fn listed_json(dataset: &Dataset) -> Value {
    json!({
        "name": dataset.name.as_str(),
        "records": dataset.records,
        "columns": dataset.columns.iter().map(|column| &column.name).collect::<Vec<_>>(),
        "imported": dataset.imported.to_rfc3339(),
        "by": dataset.by,
        "sha256": dataset.sha256(),
    })
}

fn describe(args: &DatasetArgs) -> Result<(), Failure> {
    let mut datasets = open(&args.config)?;
    let found = datasets.table(&args.name, &who(), Clock::new(None).real());
    let (dataset, table): (Dataset, Table) = found.map_err(anyhow::Error::from)?;
    let summaries = table.summaries();
    let columns = dataset.columns.iter().zip(&summaries);
    if args.json {
        let mut text = listed_json(&dataset);
        text["columns"] = columns.map(column_json).collect();
        return Ok(out::line(text)?);
    }
    out::line(listed(&dataset))?;
    for (column, summary) in columns {
        out::line(column_text(column, summary))?;
    }
    Ok(())
}

fn column_json((column, summary): (&Column, &Summary)) -> Value {
    json!({
        "name": column.name,
        "unit": column.unit,
        "categories": column.categories,
        "codes": column.codes,
        "present": summary.present,
        "missing": summary.missing,
        "min": summary.least,
        "max": summary.largest,
        "mean": summary.mean,
    })
}

fn column_text(column: &Column, summary: &Summary) -> String {
    let mut text = format!("  {} [{}]", column.name, column.unit);
    if let (Some(least), Some(largest), Some(mean)) = (summary.least, summary.largest, summary.mean)
    {
        text += &format!("  from {least} to {largest}, mean {mean:.4}");
    }
    if summary.missing > 0 {
        text += &format!("  {} missing", summary.missing);
    }
    text
}

fn remove(args: &DatasetArgs) -> Result<(), Failure> {
    let mut datasets = open(&args.config)?;
    let removed = datasets.remove(&args.name, &who(), Clock::new(None).real());
    removed.context("nothing was removed")?;
    if args.json {
        return Ok(out::line(json!({ "removed": args.name.as_str() }))?);
    }
    Ok(out::line(format!("removed {}", args.name))?)
}
