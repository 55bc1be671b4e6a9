//! Files of stays as a fuzz target takes them: whatever the bytes are, each reader returns.
use super::{
    numerics,
    physionet::{self, archive},
    survey::Survey,
};

/// Reads the bytes as the text of a stay, as a recording of a monitor, and as an archive of stays.
pub fn stays(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut survey = Survey::default();
    physionet::read(&text, &mut survey);
    let (rows, left_out) = (survey.rows, survey.left_out_rows());
    assert_eq!(survey.values(), rows, "every row is told of once");
    assert!(left_out <= rows, "{left_out} of {rows} rows left out");
    let _refused = numerics::parse(&text);
    let _refused = archive::scan_bytes(bytes, |_, entry| {
        physionet::read(&entry.text()?, &mut Survey::default());
        Ok(true)
    });
}
