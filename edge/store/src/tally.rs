//! What a commit did, told to the metrics once it stands.
use federation::outbox::Settled;
use std::time::Duration;

/// What a commit has counted, for the metrics.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub stored: u64,
    pub readings: u64,
    pub duplicates: u64,
    pub conflicts: u64,
    pub full: u64,
    pub parcels: u64,
    pub uncleared: u64,
    pub unreadable_refused: u64,
    pub restarts: u64,
    pub corrected: u64,
    pub settled: Settled,
    /// Whether samples wait for older ones that were never shipped.
    pub left: bool,
    /// Bytes in use at the end.
    pub used: u64,
}

impl Tally {
    /// Tells the metrics, once the commit stands.
    pub(super) fn count(&self, jobs: usize, took: Duration) {
        let add = |name: &'static str, count: u64| {
            if count > 0 {
                metrics::counter!(name).increment(count);
            }
        };
        add("medmesh_readings_stored_total", self.readings);
        add("medmesh_samples_stored_total", self.stored);
        add("medmesh_samples_duplicate_total", self.duplicates);
        add("medmesh_parcels_shipped_total", self.parcels);
        add("medmesh_parcels_settled_total", self.settled.accepted);
        self.settled.tell();
        add("medmesh_parcels_uncleared_total", self.uncleared);
        add("medmesh_unreadable_refused_total", self.unreadable_refused);
        add("medmesh_counter_restarts_total", self.restarts);
        add("medmesh_readings_corrected_total", self.corrected);
        for (reason, count) in [("conflict", self.conflicts), ("full", self.full)] {
            if count > 0 {
                metrics::counter!("medmesh_samples_refused_total", "reason" => reason)
                    .increment(count);
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "gauges are floating point")]
        metrics::gauge!("medmesh_store_bytes").set(self.used as f64);
        #[expect(clippy::cast_precision_loss, reason = "at most a batch")]
        metrics::histogram!("medmesh_commit_jobs_count").record(jobs as f64);
        metrics::histogram!("medmesh_commit_seconds").record(took.as_secs_f64());
    }
}
