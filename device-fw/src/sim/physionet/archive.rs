//! The archive of stays, read strictly: what is broken is refused with the entry, the line and the reason, before
//! anything of it is replayed.
use crate::sim::SimError;
use flate2::bufread::MultiGzDecoder;
use std::{
    collections::HashSet,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

/// The largest file of a stay, in bytes: 25 times the largest of set A.
const MAX_FILE: u64 = 1 << 20;
/// Bytes of what a library says is wrong: a line of a terminal.
const MAX_WORDS: usize = 80;
/// The first line of every stay.
const HEADER: &str = "Time,Parameter,Value";

/// One stay's file.
pub(in crate::sim) struct Entry<'a> {
    name: String,
    record: u32,
    file: &'a mut dyn Read,
    size: u64,
}

impl Entry<'_> {
    /// Its text, which begins with the header and is of the record that its name says; why not, otherwise.
    pub(in crate::sim) fn text(&mut self) -> Result<String, String> {
        let name = &self.name;
        if self.size > MAX_FILE {
            return Err(format!("{name}: larger than {MAX_FILE} bytes"));
        }
        let mut bytes = Vec::new();
        self.file
            .read_to_end(&mut bytes)
            .map_err(|error| format!("{name}: {error}"))?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let good = error.utf8_error().valid_up_to();
            let before = error.as_bytes().get(..good).unwrap_or_default();
            let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
            format!("{name}: line {line}: not UTF-8")
        })?;
        let header = text.lines().next().unwrap_or_default();
        if header.trim_end() != HEADER {
            return Err(format!("{name}: line 1: the header {HEADER} is missing"));
        }
        for (line, row) in super::rows(&text) {
            if let Ok(row) = row
                && row.parameter == "RecordID"
                && row.value.parse() != Ok(self.record)
            {
                return Err(format!(
                    "{name}: line {line}: of another record than its name"
                ));
            }
        }
        Ok(text)
    }
}

/// Calls `take` with the record number and the file of each stay, in the archive's order, until it says to stop.
pub(super) fn scan(
    archive: &Path,
    take: impl FnMut(u32, &mut Entry<'_>) -> Result<bool, String>,
) -> Result<(), SimError> {
    let file = File::open(archive).map_err(SimError::io(archive.display().to_string()))?;
    scan_bytes(BufReader::new(file), take).map_err(|problem| SimError::Data {
        path: archive.into(),
        problem,
    })
}

/// The same for an archive that is open.
pub(in crate::sim) fn scan_bytes(
    archive: impl BufRead,
    mut take: impl FnMut(u32, &mut Entry<'_>) -> Result<bool, String>,
) -> Result<(), String> {
    let mut tar = tar::Archive::new(MultiGzDecoder::new(archive));
    for entry in tar.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let path = entry.path().map_err(broken)?.into_owned();
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            continue;
        }
        // Escaped: the name is shown on a terminal.
        let name = path.display().to_string().escape_default().to_string();
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        let record = stem.and_then(|stem| stem.parse().ok());
        let ends_in_txt = path.extension().is_some_and(|end| end == "txt");
        if !ends_in_txt && record.is_none() {
            // A note beside the stays.
            continue;
        }
        let record = record.filter(|_| ends_in_txt).ok_or_else(|| {
            format!("{name}: a stay is named by the number of its record and .txt")
        })?;
        if !kind.is_file() && !kind.is_contiguous() {
            return Err(format!("{name}: a link or a device, not a file"));
        }
        let size = entry.size();
        let mut stay = Entry {
            name,
            record,
            file: &mut entry,
            size,
        };
        if !take(record, &mut stay)? {
            return Ok(());
        }
    }
    only_zeros(tar.into_inner())
}

/// Reads to the very end, where the checksum is. Behind its end mark an archive has nothing but zeros: what else stood
/// there, such as another archive, would be passed over in silence.
fn only_zeros(mut rest: impl Read) -> Result<(), String> {
    let mut buffer = [0; 4_096];
    loop {
        match rest.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) if buffer[..length].iter().all(|byte| *byte == 0) => {}
            Ok(_) => return Err("something stands behind the end of the archive".into()),
            Err(error) => return Err(broken(error)),
        }
    }
}

/// Why the bytes are no archive. The library's words quote what it read, so that they may be long and of no use.
fn broken(error: io::Error) -> String {
    let words: String = error.to_string().escape_default().collect();
    let words = words
        .get(..MAX_WORDS)
        .map_or(words.clone(), |cut| format!("{cut}…"));
    format!("not a gzipped tar archive: {words}")
}

/// The records of the archive in its order, after it was read from end to end and every stay in it was looked at.
pub(in crate::sim) fn records(archive: &Path) -> Result<Vec<u32>, SimError> {
    let mut records = Vec::new();
    let mut seen = HashSet::new();
    scan(archive, |record, entry| {
        entry.text()?;
        if !seen.insert(record) {
            return Err(format!("{}: stay {record} is there twice", entry.name));
        }
        records.push(record);
        Ok(true)
    })?;
    if records.is_empty() {
        return Err(SimError::Data {
            path: archive.into(),
            problem: "no stay is in it (files such as 132539.txt)".into(),
        });
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::{fs, io::Write as _};

    const GOOD: &str = "Time,Parameter,Value\n00:00,RecordID,1\n00:01,HR,80\n";

    /// An archive of entries, gzipped.
    fn packed(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (name, bytes) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, *bytes).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap()
    }

    fn read(bytes: &[u8]) -> Result<Vec<u32>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stays.tar.gz");
        fs::write(&path, bytes).unwrap();
        records(&path).map_err(|error| match error {
            SimError::Data { problem, .. } => problem,
            other => other.to_string(),
        })
    }

    #[test]
    fn a_good_archive_has_its_records_in_order() {
        let two = GOOD.replace("RecordID,1", "RecordID,2");
        let archive = packed(&[
            ("s/2.txt", two.as_bytes()),
            ("s/1.txt", GOOD.as_bytes()),
            ("s/README.md", b"no stay"),
        ]);
        assert_eq!(read(&archive), Ok(vec![2, 1]));
    }

    #[test]
    fn a_broken_archive_is_refused_with_entry_line_and_reason() {
        let large = format!("{GOOD}{}", "00:02,HR,123\n".repeat(100_000));
        let good = GOOD.as_bytes();
        for (archive, problem) in [
            (packed(&[]), "no stay is in it"),
            (
                packed(&[("s/1.txt", b"00:00,HR,77\n")]),
                "s/1.txt: line 1: the header",
            ),
            (packed(&[("s/1.txt", b"")]), "s/1.txt: line 1: the header"),
            (
                packed(&[("s/1.txt", large.as_bytes())]),
                "s/1.txt: larger than",
            ),
            (
                packed(&[("s/1.txt", good), ("t/1.txt", good)]),
                "t/1.txt: stay 1 is there twice",
            ),
            (
                packed(&[("s/patient-a.txt", good)]),
                "s/patient-a.txt: a stay is named by",
            ),
            (
                packed(&[("s/2.txt", good)]),
                "s/2.txt: line 2: of another record",
            ),
            (
                packed(&[("s/1.txt", b"Time,Parameter,Value\n00:01,HR,\xff\n")]),
                "s/1.txt: line 2: not UTF-8",
            ),
            (packed(&[("s/1.TXT", good)]), "s/1.TXT: a stay is named by"),
            (packed(&[("s/1.csv", good)]), "s/1.csv: a stay is named by"),
            (good.to_vec(), "not a gzipped tar archive"),
        ] {
            let error = read(&archive).unwrap_err();
            assert!(error.starts_with(problem), "{error}");
        }
    }

    #[test]
    fn a_stay_that_is_a_link_is_refused() {
        for kind in [
            tar::EntryType::Link,
            tar::EntryType::Symlink,
            tar::EntryType::Fifo,
        ] {
            let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(0);
            header.set_link_name("1.txt").unwrap();
            tar.append_data(&mut header, "s/2.txt", &b""[..]).unwrap();
            let error = read(&tar.into_inner().unwrap().finish().unwrap()).unwrap_err();
            assert_eq!(error, "s/2.txt: a link or a device, not a file");
        }
    }

    #[test]
    fn what_stands_behind_the_end_of_the_archive_is_refused() {
        let two = GOOD.replace("RecordID,1", "RecordID,2");
        let first = packed(&[("s/1.txt", GOOD.as_bytes())]);
        let second = packed(&[("s/2.txt", two.as_bytes())]);
        let error = read(&[&first[..], &second].concat()).unwrap_err();
        assert_eq!(error, "something stands behind the end of the archive");
        let mut zeros = GzEncoder::new(Vec::new(), Compression::fast());
        zeros.write_all(&[0; 512]).unwrap();
        let padded = [&first[..], &zeros.finish().unwrap()].concat();
        assert_eq!(read(&padded), Ok(vec![1]));
        assert!(read(&[&first[..], b"rubbish"].concat()).is_err());
    }

    #[test]
    fn a_wrong_checksum_or_a_cut_archive_is_refused() {
        let good = packed(&[("s/1.txt", GOOD.as_bytes())]);
        assert!(read(&good).is_ok());
        let mut wrong = good.clone();
        let at = wrong.len() - 8;
        wrong[at] ^= 1;
        let cut = &good[..good.len() - 4];
        let mut no_tar = GzEncoder::new(Vec::new(), Compression::fast());
        no_tar.write_all(GOOD.as_bytes()).unwrap();
        for bad in [&wrong[..], cut, &no_tar.finish().unwrap()] {
            let error = read(bad).unwrap_err();
            assert!(error.starts_with("not a gzipped tar archive"), "{error}");
            assert!(error.is_ascii() || error.ends_with('…'), "{error}");
            assert!(error.len() < 120, "{error}");
        }
    }
}
