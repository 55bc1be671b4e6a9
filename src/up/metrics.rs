//! What the nodes' metrics say: Prometheus text in, the figures of the live table out.
use std::collections::BTreeMap;

/// Devices of a facility, by `state` (`live`, `stale`, `absent`).
const DEVICES: &str = "medmesh_devices";
/// Readings that an edge has stored.
const READINGS: &str = "medmesh_readings_stored_total";
/// Parcels that wait for a receipt, by `priority`.
const WAITING: &str = "medmesh_outbox_parcels";
/// Commands that have ended at an edge, by `state`.
const COMMANDS: &str = "medmesh_commands_total";
/// Commands that an edge has and that have not ended.
const OPEN_COMMANDS: &str = "medmesh_commands_open";
/// Devices of a facility as their twins say, by `connection` (`connected`, `gone`).
const TWINS: &str = "medmesh_twins";
/// From the arrival of a sample to the region's signed receipt: by then it is stored and can be queried.
const LATENCY: &str = "medmesh_device_to_receipt_seconds_bucket";

/// The metrics of one or more nodes at an instant, summed over nodes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot(BTreeMap<String, f64>);

impl Snapshot {
    /// Adds what a node says: `name{labels} value` a line.
    pub fn add(&mut self, text: &str) {
        let samples = text.lines().filter(|line| line.starts_with("medmesh_"));
        for (series, value) in samples.filter_map(|line| line.rsplit_once(' ')) {
            if let Ok(value) = value.parse::<f64>() {
                *self.0.entry(series.to_owned()).or_default() += value;
            }
        }
    }

    fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        let series = self
            .0
            .iter()
            .map(|(series, value)| (series.as_str(), *value));
        series.filter_map(move |(series, value)| {
            let labels = series.strip_prefix(name)?;
            (labels.is_empty() || labels.starts_with('{')).then_some((labels, value))
        })
    }

    /// The sum of a metric over the series with a label, such as `state="live"`; none when there is none.
    pub fn value(&self, name: &str, label: &str) -> Option<f64> {
        let mut with = self.of(name).filter(|(labels, _)| labels.contains(label));
        let (_, first) = with.next()?;
        Some(with.fold(first, |sum, (_, value)| sum + value))
    }

    /// The value of a label of a metric that has one series.
    pub fn label(&self, name: &str, label: &str) -> Option<String> {
        let (labels, _) = self.of(name).next()?;
        let (_, rest) = labels.split_once(&format!("{label}=\""))?;
        Some(rest.split_once('"')?.0.to_owned())
    }

    fn sum(&self, name: &str, label: &str) -> f64 {
        self.value(name, label).unwrap_or(0.0)
    }

    /// Cumulative counts by upper bound.
    fn buckets(&self) -> Vec<(f64, f64)> {
        let mut buckets: Vec<(f64, f64)> = self
            .of(LATENCY)
            .filter_map(|(labels, count)| Some((bound(labels)?, count)))
            .collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        buckets
    }
}

fn bound(labels: &str) -> Option<f64> {
    let (_, rest) = labels.split_once("le=\"")?;
    let (text, _) = rest.split_once('"')?;
    if text == "+Inf" {
        Some(f64::INFINITY)
    } else {
        text.parse().ok()
    }
}

/// The figures of a region.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// Devices with fresh values.
    pub live: u64,
    /// Devices without.
    pub stale: u64,
    /// Readings stored a second.
    pub rate: f64,
    /// Parcels that wait for the region.
    pub waiting: u64,
    /// Commands that devices have carried out since their edges began.
    pub done: u64,
    /// Commands that ended otherwise: refused, expired, failed.
    pub failed: u64,
    /// Commands that wait at edges or are with devices.
    pub open: u64,
    /// Devices whose twins say that they are connected.
    pub connected: u64,
    /// Median from device to FHIR, in seconds.
    pub p50: Option<f64>,
    /// 99th percentile from device to FHIR, in seconds.
    pub p99: Option<f64>,
}

impl Figures {
    /// What happened from `before` to `now`, `seconds` later.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts"
    )]
    pub fn between(before: &Snapshot, now: &Snapshot, seconds: f64) -> Self {
        let live = now.sum(DEVICES, "state=\"live\"");
        let readings = now.sum(READINGS, "") - before.sum(READINGS, "");
        let buckets = since(&before.buckets(), &now.buckets());
        let done = now.sum(COMMANDS, "state=\"acknowledged\"");
        Self {
            live: live as u64,
            stale: (now.sum(DEVICES, "") - live) as u64,
            // A counter that is smaller than before belongs to a process that was started again.
            rate: readings.max(0.0) / seconds.max(f64::MIN_POSITIVE),
            waiting: now.sum(WAITING, "") as u64,
            done: done as u64,
            failed: (now.sum(COMMANDS, "") - done) as u64,
            open: now.sum(OPEN_COMMANDS, "") as u64,
            connected: now.sum(TWINS, "connection=\"connected\"") as u64,
            p50: quantile(&buckets, 0.5),
            p99: quantile(&buckets, 0.99),
        }
    }
}

/// What was counted since `before`; all of it when a process was started again.
fn since(before: &[(f64, f64)], now: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let count = |bound: f64| {
        let same = before.iter().find(|(other, _)| *other == bound);
        same.map_or(0.0, |(_, count)| *count)
    };
    let restarted = now.iter().any(|(bound, value)| *value < count(*bound));
    now.iter()
        .map(|(bound, value)| {
            let before = if restarted { 0.0 } else { count(*bound) };
            (*bound, value - before)
        })
        .collect()
}

/// The quantile of a histogram of cumulative counts, linear within a bucket; none when nothing was counted.
pub fn quantile(buckets: &[(f64, f64)], q: f64) -> Option<f64> {
    let total = buckets
        .last()
        .map(|(_, count)| *count)
        .filter(|count| *count > 0.0)?;
    let rank = q * total;
    let (mut low, mut below) = (0.0, 0.0);
    for (high, count) in buckets {
        if *count >= rank {
            if high.is_infinite() {
                return Some(low);
            }
            let within = (rank - below) / (count - below);
            return Some(low + (high - low) * within.clamp(0.0, 1.0));
        }
        (low, below) = (*high, *count);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(texts: &[&str]) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for text in texts {
            snapshot.add(text);
        }
        snapshot
    }

    const A: &str = "\
# TYPE medmesh_readings_stored_total counter
medmesh_readings_stored_total 100
medmesh_readings_stored_total_other 7
medmesh_devices{state=\"live\"} 5
medmesh_devices{state=\"stale\"} 1
medmesh_devices{state=\"absent\"} 1
medmesh_outbox_parcels{priority=\"live\"} 3
medmesh_commands_total{state=\"acknowledged\"} 4
medmesh_commands_total{state=\"refused\"} 1
medmesh_commands_open 2
medmesh_twins{connection=\"connected\"} 6
medmesh_twins{connection=\"gone\"} 1
medmesh_device_to_receipt_seconds_bucket{le=\"0.01\"} 0
medmesh_device_to_receipt_seconds_bucket{le=\"0.02\"} 50
medmesh_device_to_receipt_seconds_bucket{le=\"0.04\"} 100
medmesh_device_to_receipt_seconds_bucket{le=\"+Inf\"} 100
";

    #[test]
    fn the_figures_of_a_region_are_the_sum_of_its_facilities() {
        let figures = Figures::between(&Snapshot::default(), &snapshot(&[A, A]), 10.0);
        assert_eq!((figures.live, figures.stale, figures.waiting), (10, 4, 6));
        assert_eq!((figures.done, figures.failed, figures.open), (8, 2, 4));
        assert_eq!(figures.connected, 12);
        assert_eq!(figures.rate, 20.0);
        assert_eq!(figures.p50, Some(0.02));
        assert!((figures.p99.unwrap() - 0.0396).abs() < 1e-9);
    }

    #[test]
    fn rates_and_quantiles_are_of_the_time_between() {
        let quiet = Figures::between(&snapshot(&[A]), &snapshot(&[A]), 10.0);
        assert_eq!((quiet.rate, quiet.p50, quiet.p99), (0.0, None, None));
    }

    #[test]
    fn a_process_that_was_started_again_gives_no_negative_rate() {
        let less = A.replace("100", "10").replace("50", "5");
        let figures = Figures::between(&snapshot(&[A]), &snapshot(&[&less]), 10.0);
        assert_eq!((figures.rate, figures.p50), (0.0, Some(0.02)));
    }

    #[test]
    fn a_quantile_beyond_the_last_bound_is_that_bound() {
        let buckets = [(1.0, 10.0), (f64::INFINITY, 100.0)];
        assert_eq!(quantile(&buckets, 0.99), Some(1.0));
        assert_eq!(quantile(&[], 0.5), None);
    }
}
