//! What became of the data of a replay: said at the end of `up`, whose exit code is 1 when a row was left out.
use super::{
    Prepared,
    plan::{Device, Plan},
};
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
use types::DeviceKind;

/// What is in the data that every facility replays; nothing when nothing is replayed.
pub fn survey(plan: &Plan, sources: &[Source]) -> Result<Survey> {
    let mut all = Survey::default();
    for ((_, facility), source) in plan.facilities().zip(sources) {
        let is_monitor = |device: &&Device| device.kind == DeviceKind::BedsideMonitor;
        let monitors = facility.devices.iter().filter(is_monitor).count();
        all.add(&sim::survey(source, monitors as u64)?);
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
        "replay: {} rows read, {} values in them: {emitted} emitted so far, {} not yet emitted, {} of the patient, {} \
         unknown (-1), {} not measured, {} left out",
        survey.rows,
        survey.values(),
        survey.readings.saturating_sub(emitted),
        survey.descriptors,
        survey.unknown,
        survey.unmeasured,
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
            descriptors: 3,
            unknown: 1,
            unmeasured: 5,
            normalised: 1,
            left_out: [("no value", 2)].into(),
            named: vec![(900_001, 8, "no value")],
        };
        let text = text(&survey, 6);
        for part in [
            "10 rows read",
            "18 values in them",
            "6 emitted",
            "1 not yet emitted",
            "3 of the patient",
            "1 unknown",
            "5 not measured",
            "2 left out",
            "900001.txt line 8: no value",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }

    /// The numbers of a summary that are of values, and what they are said to be together.
    fn adds_up(text: &str) -> bool {
        let line = text.lines().next().unwrap_or_default();
        let number = |part: &str| part.trim().split(' ').next()?.parse::<u64>().ok();
        let (head, parts) = line.split_once(" values in them: ").unwrap();
        let all = number(head.rsplit(", ").next().unwrap());
        let parts: Option<Vec<u64>> = parts.split(", ").map(number).collect();
        all == parts.map(|parts| parts.iter().sum())
    }

    #[test]
    fn the_values_of_one_csv_at_several_beds_add_up_as_it_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let csv = dir.path().join("m.csv");
        std::fs::write(
            &csv,
            "minute,HR_raw,SpO2_raw\n0,628,975\n5,630,\n7,-32768,970\n",
        )
        .unwrap();
        let source = Source::Numerics { csv };
        for monitors in [1, 2, 5] {
            let survey = sim::survey(&source, monitors).unwrap();
            assert_eq!((survey.rows, survey.values()), (3 * monitors, 6 * monitors));
            for emitted in [0, 3, 5 * monitors] {
                let text = text(&survey, emitted);
                assert!(adds_up(&text), "{text}");
            }
            assert!(text(&survey, 5 * monitors).contains(", 0 not yet emitted"));
        }
    }
}
