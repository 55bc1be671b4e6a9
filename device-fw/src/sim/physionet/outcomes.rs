//! What became of each stay: `Outcomes-a.txt`, a line for each record. What is emitted of it, at the end of the stay, is
//! whether the patient died in hospital; the other columns are scores and times that no device has. A file that is broken
//! is refused with the line and the reason, before anything is replayed.
use crate::sim::SimError;
use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

/// The first line.
const HEADER: &str = "RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death";
/// Fields of a line.
const FIELDS: usize = 6;
/// The largest file, in bytes: a hundred times that of set A.
const MAX_FILE: u64 = 8 << 20;

/// The code of what is emitted, in [`types::Code::MEDMESH`].
pub(in crate::sim) const CODE: &str = "in-hospital-death";

/// Of each record whether the patient died in hospital.
pub(super) type Outcomes = HashMap<u32, bool>;

/// The outcomes of an archive `set-X.tar.gz` that lie beside it as `Outcomes-X.txt`, if they do.
#[must_use]
pub fn beside(archive: &Path) -> Option<PathBuf> {
    let name = archive.file_name()?.to_str()?;
    let set = name.strip_prefix("set-")?.strip_suffix(".tar.gz")?;
    let path = archive.with_file_name(format!("Outcomes-{set}.txt"));
    path.is_file().then_some(path)
}

/// Reads a file of outcomes.
pub(super) fn read(path: &Path) -> Result<Outcomes, SimError> {
    let data = |problem: String| SimError::Data {
        path: path.into(),
        problem,
    };
    let failed = |error| SimError::io(path.display().to_string())(error);
    let size = fs::metadata(path).map_err(failed)?.len();
    if size > MAX_FILE {
        return Err(data(format!("larger than {MAX_FILE} bytes")));
    }
    let bytes = fs::read(path).map_err(failed)?;
    let text = String::from_utf8(bytes).map_err(|_| data("not UTF-8".into()))?;
    parse(&text).map_err(|(line, reason)| data(format!("line {line}: {reason}")))
}

fn parse(text: &str) -> Result<Outcomes, (usize, &'static str)> {
    let mut lines = (1..).zip(text.lines());
    match lines.next() {
        Some((_, header)) if header.trim_end() == HEADER => {}
        _ => return Err((1, "the header of a file of outcomes is missing")),
    }
    let mut outcomes = Outcomes::new();
    for (number, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
        let (record, died) = row(line).map_err(|reason| (number, reason))?;
        if outcomes.insert(record, died).is_some() {
            return Err((number, "the record was there before"));
        }
    }
    Ok(outcomes)
}

fn row(line: &str) -> Result<(u32, bool), &'static str> {
    let fields: Vec<&str> = line.trim_end_matches('\r').split(',').collect();
    let [record, scores @ .., died] = &fields[..] else {
        return Err("not six fields");
    };
    if fields.len() != FIELDS {
        return Err("not six fields");
    }
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let record = record.parse().ok().filter(|_| digits(record));
    let record = record.ok_or("the record is not a number")?;
    // -1 is unknown.
    if !scores.iter().all(|score| *score == "-1" || digits(score)) {
        return Err("a score or a time is not a whole number");
    }
    match *died {
        "0" => Ok((record, false)),
        "1" => Ok((record, true)),
        _ => Err("the death in hospital is 0 or 1"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_read_or_refused_with_line_and_reason() {
        let good = format!("{HEADER}\n132539,6,1,5,-1,0\r\n\n132551,19,8,6,5,1\n");
        assert_eq!(
            parse(&good),
            Ok(Outcomes::from([(132_539, false), (132_551, true)]))
        );
        for (rows, line, reason) in [
            ("1,6,1,5,-1", 2, "not six fields"),
            ("1,6,1,5,-1,0,0", 2, "not six fields"),
            (
                "1,6,1,5,-1,0\nx,6,1,5,-1,0",
                3,
                "the record is not a number",
            ),
            ("+1,6,1,5,-1,0", 2, "the record is not a number"),
            (
                "1,6,1,high,-1,0",
                2,
                "a score or a time is not a whole number",
            ),
            ("1,6,1,,-1,0", 2, "a score or a time is not a whole number"),
            ("1,6,1,5,-1,2", 2, "the death in hospital is 0 or 1"),
            ("1,6,1,5,-1,", 2, "the death in hospital is 0 or 1"),
            ("1,6,1,5,-1,-1", 2, "the death in hospital is 0 or 1"),
            (
                "1,6,1,5,-1,0\n1,6,1,5,-1,0",
                3,
                "the record was there before",
            ),
        ] {
            assert_eq!(
                parse(&format!("{HEADER}\n{rows}\n")),
                Err((line, reason)),
                "{rows}"
            );
        }
        assert_eq!(parse("1,6,1,5,-1,0\n").map_err(|(line, _)| line), Err(1));
        assert_eq!(parse("").map_err(|(line, _)| line), Err(1));
    }

    #[test]
    fn outcomes_are_found_beside_their_archive_and_an_error_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let archive = dir.path().join("set-q.tar.gz");
        assert_eq!(beside(&archive), None);
        let path = dir.path().join("Outcomes-q.txt");
        fs::write(&path, format!("{HEADER}\n7,6,1,5,-1,9\n")).unwrap();
        assert_eq!(beside(&archive).as_deref(), Some(path.as_path()));
        assert_eq!(beside(&dir.path().join("stays.tar.gz")), None);
        let said = read(&path).unwrap_err().to_string();
        assert!(
            said.contains("Outcomes-q.txt: line 2: the death in hospital is 0 or 1"),
            "{said}"
        );
        assert!(read(&archive).is_err());
    }
}
