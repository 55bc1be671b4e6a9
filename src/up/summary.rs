//! What became of the data of a replay: said at the end of `up`, whose exit code is 1 when a row was left out.
use super::{Prepared, plan::Plan};
use anyhow::{Context, Result, ensure};
use device_fw::sim::{
    self, Survey,
    config::{SimConfig, Source},
};
use std::{
    fmt::Write as _,
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

/// What is in the data that every facility replays; nothing when nothing is replayed.
pub fn survey(sources: &[Source]) -> Result<Survey> {
    let mut all = Survey::default();
    for source in sources {
        all.add(&sim::survey(source)?);
    }
    Ok(all)
}

/// Says what was read, emitted and left out.
///
/// # Errors
/// When a row was left out.
pub fn say(mesh: &Prepared, say: impl Fn(&str)) -> Result<()> {
    if mesh.replay.is_none() {
        return Ok(());
    }
    let emitted = emitted(&mesh.plan)?;
    say(&text(&mesh.survey, emitted));
    let rows = mesh.survey.left_out_rows();
    ensure!(rows == 0, "{rows} rows of the replay were left out");
    Ok(())
}

fn text(survey: &Survey, emitted: u64) -> String {
    let mut text = format!(
        "replay: {} rows read, {} readings in them, {emitted} emitted so far, {} unknown (-1), {} left out",
        survey.rows,
        survey.readings,
        survey.unknown,
        survey.left_out_rows()
    );
    if survey.normalised > 0 {
        let _infallible = write!(
            text,
            "; {} written another way than FHIR's",
            survey.normalised
        );
    }
    for (reason, rows) in &survey.left_out {
        let _infallible = write!(text, "\n  {rows:>6}  {reason}");
    }
    for (record, line, reason) in &survey.named {
        let _infallible = write!(text, "\n  {record}.txt line {line}: {reason}");
    }
    text
}

/// Readings that the devices of every facility have emitted in this folder: the lines of their logs.
fn emitted(plan: &Plan) -> Result<u64> {
    let mut lines = 0;
    for (region, facility) in plan.facilities() {
        let dir = plan.node_dir(&region.edge(facility));
        let config = super::config::devices_file(&dir);
        let config: SimConfig = toml::from_str(&std::fs::read_to_string(config)?)?;
        lines += count_lines(&config.sent)?;
    }
    Ok(lines)
}

fn count_lines(path: &Path) -> Result<u64> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    };
    let (mut reader, mut line, mut lines) = (BufReader::new(file), Vec::new(), 0);
    while reader.read_until(b'\n', &mut line)? > 0 {
        lines += u64::from(line.ends_with(b"\n"));
        line.clear();
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_says_what_was_left_out_and_why() {
        let survey = Survey {
            rows: 10,
            readings: 7,
            unknown: 1,
            normalised: 1,
            left_out: [("no value", 2)].into(),
            named: vec![(900_001, 8, "no value")],
        };
        let text = text(&survey, 6);
        for part in [
            "10 rows read",
            "7 readings in them",
            "6 emitted",
            "1 unknown",
            "2 left out",
            "900001.txt line 8: no value",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
}
