//! Logs (structured, to standard error) and metrics (Prometheus text), one recorder for the process.
//!
//! Neither ever holds PHI: messages are constants, labels come from closed sets.
use crate::{clock::Clock, config::LogConfig};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use std::{io, sync::OnceLock, time::Duration};
use tracing_subscriber::EnvFilter;

/// Upper bounds of the buckets of every `…_seconds` histogram: fine where the mesh promises milliseconds.
const SECONDS: &[f64] = &[
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002, 0.003, 0.005, 0.007, 0.01, 0.015, 0.02, 0.025, 0.03,
    0.04, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 600.0, 3_600.0,
];
/// Upper bounds of the buckets of every `…_count` histogram, such as records in one commit.
const COUNTS: &[f64] = &[
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_024.0, 4_096.0, 16_384.0,
];
/// Observations are folded into buckets this often, whether or not anybody reads them.
const UPKEEP: Duration = Duration::from_secs(5);
/// `/proc/self/statm` counts in pages.
const PAGE_BYTES: f64 = 4096.0;

static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();

/// Starts logging. A second call in one process changes nothing.
///
/// # Errors
/// When the filter cannot be read.
pub fn init_logs(config: &LogConfig) -> io::Result<()> {
    let filter = EnvFilter::try_new(&config.filter).map_err(io::Error::other)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    let _already = if config.json {
        builder.json().try_init()
    } else {
        builder.with_ansi(false).try_init()
    };
    Ok(())
}

/// Starts recording metrics. Call it before the first metric is used; a second call changes nothing.
pub fn init_metrics() {
    recorder();
}

/// Every metric, in Prometheus' text format.
#[must_use]
pub fn render_metrics() -> String {
    let handle = recorder();
    if let Some(bytes) = resident_bytes() {
        metrics::gauge!("process_resident_memory_bytes").set(bytes);
    }
    handle.render()
}

fn recorder() -> &'static PrometheusHandle {
    RECORDER.get_or_init(|| {
        let recorder = builder().build_recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("another metrics recorder is installed; /metrics stays empty");
        }
        metrics::gauge!("process_start_time_seconds").set(now_seconds());
        metrics::gauge!("medmesh_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        keep_up(handle.clone());
        handle
    })
}

fn builder() -> PrometheusBuilder {
    let suffix = |text: &str| Matcher::Suffix(text.to_owned());
    let with = |builder: PrometheusBuilder, name: &str, bounds: &[f64]| {
        builder
            .set_buckets_for_metric(suffix(name), bounds)
            .unwrap_or_default()
    };
    let builder = with(PrometheusBuilder::new(), "_seconds", SECONDS);
    with(builder, "_count", COUNTS)
}

fn keep_up(handle: PrometheusHandle) {
    let upkeep = move || {
        loop {
            std::thread::sleep(UPKEEP);
            handle.run_upkeep();
        }
    };
    let named = std::thread::Builder::new().name("metrics-upkeep".to_owned());
    if let Err(error) = named.spawn(upkeep) {
        tracing::error!(%error, "metrics upkeep cannot run");
    }
}

#[expect(clippy::cast_precision_loss, reason = "ms since 1970 are exact in f64")]
fn now_seconds() -> f64 {
    Clock::new(None).real().0 as f64 / 1_000.0
}

/// Resident memory of this process (proc(5), `statm`, second field).
#[must_use]
pub fn resident_bytes() -> Option<f64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: f64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * PAGE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_become_histograms_with_buckets() {
        init_metrics();
        metrics::histogram!("medmesh_test_seconds").record(0.004);
        let text = render_metrics();
        assert!(text.contains(r#"medmesh_test_seconds_bucket{le="0.005"} 1"#));
        assert!(text.contains(r#"medmesh_test_seconds_bucket{le="0.003"} 0"#));
    }

    #[test]
    fn a_process_knows_its_memory_and_its_start() {
        assert!(resident_bytes().unwrap() > 1_000_000.0);
        assert!(render_metrics().contains("process_start_time_seconds"));
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_an_error() {
        let config = LogConfig {
            filter: "info,=,".into(),
            json: false,
        };
        assert!(init_logs(&config).is_err());
    }
}
