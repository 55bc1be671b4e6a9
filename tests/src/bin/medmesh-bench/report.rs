//! Figures, their medians and the table in which they are printed.
use anyhow::Result;
use serde::Serialize;

/// A figure with what it is compared with.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// What is measured.
    pub what: String,
    /// Median of the runs.
    pub ours: f64,
    /// Its unit.
    pub unit: &'static str,
    /// The peer or floor of the same run, and its median in the same unit.
    pub beside: Option<(String, f64)>,
    /// What is aimed at.
    pub aim: Option<Aim>,
    /// What was durable when it was acknowledged.
    pub durability: &'static str,
    /// Every run, in order.
    pub runs: Vec<f64>,
    /// What else a reader must know.
    pub note: Option<String>,
    /// What bounds it, said where the aim is missed.
    pub bound: Option<&'static str>,
}

/// What is aimed at.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Aim {
    /// Ours over the peer's is at least this.
    RatioAtLeast(f64),
    /// Ours over the floor is at most this.
    RatioAtMost(f64),
    /// Ours is at most this.
    AtMost(f64),
    /// Ours is at least this.
    AtLeast(f64),
}

impl Figure {
    /// A figure of several runs.
    pub fn new(
        what: impl Into<String>,
        unit: &'static str,
        durability: &'static str,
        runs: Vec<f64>,
    ) -> Self {
        Self {
            what: what.into(),
            ours: median(&runs),
            unit,
            beside: None,
            aim: None,
            durability,
            runs,
            note: None,
            bound: None,
        }
    }

    /// Beside the median of a peer's or floor's runs.
    #[must_use]
    pub fn beside(mut self, name: impl Into<String>, runs: &[f64]) -> Self {
        self.beside = Some((name.into(), median(runs)));
        self
    }

    /// With an aim.
    #[must_use]
    pub fn aim(mut self, aim: Aim) -> Self {
        self.aim = Some(aim);
        self
    }

    /// With a note.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    /// With what bounds it.
    #[must_use]
    pub fn bound(mut self, bound: &'static str) -> Self {
        self.bound = Some(bound);
        self
    }

    fn ratio(&self) -> Option<f64> {
        self.beside.as_ref().map(|(_, peer)| self.ours / peer)
    }

    fn reached(&self) -> Option<bool> {
        Some(match self.aim? {
            Aim::RatioAtLeast(aim) => self.ratio()? >= aim,
            Aim::RatioAtMost(aim) => self.ratio()? <= aim,
            Aim::AtMost(aim) => self.ours <= aim,
            Aim::AtLeast(aim) => self.ours >= aim,
        })
    }

    fn aim_text(&self) -> String {
        let Some(aim) = self.aim else {
            return String::new();
        };
        let text = match aim {
            Aim::RatioAtLeast(aim) => format!(">= {aim} x"),
            Aim::RatioAtMost(aim) => format!("<= {aim} x"),
            Aim::AtMost(aim) => format!("<= {}", short(aim)),
            Aim::AtLeast(aim) => format!(">= {}", short(aim)),
        };
        match self.reached() {
            Some(true) => format!("{text} ok"),
            _ => format!("{text} MISSED"),
        }
    }
}

/// The middle of the runs; of two in the middle their mean.
pub fn median(runs: &[f64]) -> f64 {
    let mut sorted = runs.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// The value below which this share of the samples lies (nearest rank).
pub fn quantile(samples: &[f64], share: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a rank within a vector"
    )]
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted
        .get(rank.clamp(1, sorted.len().max(1)) - 1)
        .copied()
        .unwrap_or(f64::NAN)
}

/// The figures of a run.
#[derive(Default)]
pub struct Report(Vec<Figure>);

impl Report {
    /// Adds a figure and says it, so that a long run shows progress.
    pub fn add(&mut self, figure: Figure) {
        eprintln!("{}", line(&figure));
        self.0.push(figure);
    }

    /// Every figure as JSON.
    pub fn json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(&self.0)?)
    }

    /// Every level of durability, each once, in order.
    fn levels(&self) -> Vec<&'static str> {
        let mut levels = Vec::new();
        for figure in &self.0 {
            if !levels.contains(&figure.durability) {
                levels.push(figure.durability);
            }
        }
        levels
    }

    /// Prints the table.
    pub fn print(&self) {
        println!("\nMedians; `x` is ours over what stands beside it in the same run.\n");
        println!(
            "{:<44} {:>16}  {:<27} {:>7}  aim",
            "figure", "ours", "beside", "x"
        );
        for figure in &self.0 {
            println!("{}", line(figure));
        }
        println!("\nDurable when acknowledged:");
        for level in self.levels() {
            let of = self.0.iter().filter(|figure| figure.durability == level);
            let of: Vec<&str> = of.map(|figure| figure.what.as_str()).collect();
            println!("  {level}\n      {}", of.join("; "));
        }
        println!("\nNotes:");
        for figure in &self.0 {
            if let Some(note) = &figure.note {
                println!("  {}: {note}", figure.what);
            }
            if let (Some(false), Some(bound)) = (figure.reached(), figure.bound) {
                println!("  {} misses its aim: {bound}", figure.what);
            }
        }
    }
}

fn line(figure: &Figure) -> String {
    let ours = format!("{} {}", short(figure.ours), figure.unit);
    let (beside, ratio) = match (&figure.beside, figure.ratio()) {
        (Some((name, value)), Some(ratio)) => {
            (format!("{name} {}", short(*value)), format!("{ratio:.2}"))
        }
        _ => (String::new(), String::new()),
    };
    format!(
        "{:<44} {ours:>16}  {beside:<27} {ratio:>7}  {}",
        figure.what,
        figure.aim_text()
    )
}

/// Three significant digits, thousands apart.
fn short(value: f64) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    if value.abs() >= 1_000.0 {
        let digits = format!("{value:.0}");
        let mut out = String::new();
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                out.push(' ');
            }
            out.push(digit);
        }
        return out;
    }
    let places = match value.abs() {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.places$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_and_a_quantile_a_sample() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
        let samples: Vec<f64> = (1..=100).map(f64::from).collect();
        for (share, value) in [(0.5, 50.0), (0.99, 99.0), (1.0, 100.0), (0.0, 1.0)] {
            assert!((quantile(&samples, share) - value).abs() < f64::EPSILON);
        }
    }

    #[test]
    fn an_aim_that_is_missed_says_so() {
        let figure = |runs| {
            Figure::new("f", "/s", "-", runs)
                .beside("peer", &[100.0])
                .aim(Aim::RatioAtLeast(2.0))
        };
        assert_eq!(figure(vec![200.0]).aim_text(), ">= 2 x ok");
        assert_eq!(figure(vec![199.0]).aim_text(), ">= 2 x MISSED");
        assert_eq!(short(1_234_567.8), "1 234 568");
        assert_eq!((short(0.123), short(12.34)), ("0.12".into(), "12.3".into()));
    }
}
