//! The physical floor under everything durable: what one write and fdatasync costs on the disk of this run.
use crate::{
    Bed,
    report::{Figure, Report, quantile},
};
use anyhow::Result;
use std::{
    fs::File,
    io::{Seek, SeekFrom, Write},
    time::Instant,
};

/// Writes of one run: enough for a 99th percentile.
const WRITES: usize = 1_000;
/// Bytes of one write: a page of the database.
const BYTES: usize = 4_096;
/// A log is overwritten from its start after this many pages, as SQLite's is.
const PAGES: usize = 256;

const DURABILITY: &str = "fdatasync alone";

/// Milliseconds of each write and fdatasync, one after another.
pub fn fdatasyncs() -> Result<Vec<f64>> {
    let dir = tempfile::tempdir()?;
    let mut file = File::create(dir.path().join("log"))?;
    let page = vec![0x5a; BYTES];
    for _ in 0..PAGES {
        file.write_all(&page)?;
    }
    file.sync_all()?;
    let mut took = Vec::with_capacity(WRITES);
    for write in 0..WRITES {
        if write % PAGES == 0 {
            file.seek(SeekFrom::Start(0))?;
        }
        let began = Instant::now();
        file.write_all(&page)?;
        file.sync_data()?;
        took.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(took)
}

/// Runs the benchmark.
pub fn run(bed: &Bed, report: &mut Report) -> Result<()> {
    let (mut p50, mut p99) = (Vec::new(), Vec::new());
    for _ in 0..bed.runs {
        let took = fdatasyncs()?;
        p50.push(quantile(&took, 0.5));
        p99.push(quantile(&took, 0.99));
    }
    report.add(Figure::new(
        "fdatasync of 4 KiB, p50",
        "ms",
        DURABILITY,
        p50,
    ));
    report.add(Figure::new(
        "fdatasync of 4 KiB, p99",
        "ms",
        DURABILITY,
        p99,
    ));
    Ok(())
}
