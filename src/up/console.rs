//! What a person sees: progress while the mesh starts, then a live table; plain lines where there is no terminal.
use super::metrics::Figures;
use crate::out;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use types::Timestamp;

/// The table's head.
const HEAD: &str = "region   devices live/stale   readings/s   backlog   device→FHIR p50      p99   twins connected   commands done/failed/open";

/// Standard output.
pub struct Console {
    screen: Option<MultiProgress>,
    lines: Vec<ProgressBar>,
    start: ProgressBar,
}

/// A region's row.
pub struct Row {
    /// The region.
    pub region: String,
    /// Its figures.
    pub figures: Figures,
}

impl Console {
    /// Shows the progress of a start of `steps` steps.
    pub fn new(steps: usize) -> Self {
        let screen = std::io::stdout()
            .is_terminal()
            .then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stdout()));
        let start = ProgressBar::new(steps as u64).with_style(
            ProgressStyle::with_template("starting  {bar:40} {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        let start = match &screen {
            Some(screen) => screen.add(start),
            None => ProgressBar::hidden(),
        };
        Self {
            screen,
            lines: Vec::new(),
            start,
        }
    }

    /// Whether a person watches.
    pub const fn is_terminal(&self) -> bool {
        self.screen.is_some()
    }

    /// One step of the start is done.
    pub fn step(&self) {
        self.start.inc(1);
    }

    /// What the start does now.
    pub fn stage(&self, what: &str) {
        self.start.set_message(what.to_owned());
        if !self.is_terminal() {
            plain_line(what);
        }
    }

    /// What the start does now, on a terminal only.
    pub fn stage_quietly(&self, what: &str) {
        self.start.set_message(what.to_owned());
    }

    /// The start is over.
    pub fn started(&self) {
        self.start.finish_and_clear();
    }

    /// Says a line, above the table.
    pub fn say(&self, line: &str) {
        match &self.screen {
            Some(screen) => drop(screen.println(line)),
            None => plain_line(line),
        }
    }

    /// Shows the table anew.
    pub fn table(&mut self, rows: &[Row], mesh_time: Timestamp) {
        let Some(screen) = &self.screen else {
            plain_line(&plain(rows));
            return;
        };
        let mut lines = vec![String::new(), HEAD.to_owned()];
        lines.extend(rows.iter().map(line));
        lines.push(format!("mesh time {mesh_time}   Ctrl-C stops everything"));
        while self.lines.len() < lines.len() {
            let style = ProgressStyle::with_template("{msg}");
            let bar = ProgressBar::new(1)
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            self.lines.push(screen.add(bar));
        }
        for (bar, text) in self.lines.iter().zip(lines) {
            bar.set_message(text);
        }
    }

    /// Takes the table away.
    pub fn clear(&mut self) {
        for bar in self.lines.drain(..) {
            bar.finish_and_clear();
        }
    }
}

/// Nobody may be reading any longer; the mesh goes on.
fn plain_line(text: &str) {
    let _nobody_reads = out::line(text);
}

fn line(row: &Row) -> String {
    let Figures {
        live,
        stale,
        rate,
        waiting,
        done,
        failed,
        open,
        connected,
        p50,
        p99,
    } = row.figures;
    format!(
        "{:<8} {:>18} {rate:>12.1} {waiting:>9} {:>17} {:>8} {connected:>17} {:>27}",
        row.region,
        format!("{live}/{stale}"),
        ms(p50),
        ms(p99),
        format!("{done}/{failed}/{open}"),
    )
}

fn plain(rows: &[Row]) -> String {
    let row = |row: &Row| {
        let figures = &row.figures;
        format!(
            "{} {} live {} stale {:.1} readings/s backlog {} p50 {} p99 {} twins {} connected commands {} done {} failed {} open",
            row.region,
            figures.live,
            figures.stale,
            figures.rate,
            figures.waiting,
            ms(figures.p50),
            ms(figures.p99),
            figures.connected,
            figures.done,
            figures.failed,
            figures.open,
        )
    };
    rows.iter().map(row).collect::<Vec<_>>().join(" | ")
}

fn ms(seconds: Option<f64>) -> String {
    seconds.map_or_else(
        || "–".to_owned(),
        |seconds| format!("{:.1} ms", seconds * 1_000.0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_stands_under_its_head() {
        let row = Row {
            region: "apac".into(),
            figures: Figures {
                live: 14,
                stale: 0,
                rate: 70.25,
                waiting: 3,
                done: 12,
                failed: 1,
                open: 0,
                connected: 13,
                p50: Some(0.0071),
                p99: None,
            },
        };
        let text = line(&row);
        assert_eq!(text.chars().count(), HEAD.chars().count(), "{text}");
        assert_eq!(
            plain(&[row]),
            "apac 14 live 0 stale 70.2 readings/s backlog 3 p50 7.1 ms p99 – twins 13 connected commands 12 done 1 failed 0 open"
        );
    }
}
