//! What a node's metrics say of it that a person is shown. Pure.
use crate::up::metrics::Snapshot;
use types::Timestamp;

/// What is said to end soon: certificates of nodes last 90 days and are renewed 30 days before.
const CERTIFICATE_SOON_S: i64 = 14 * 86_400;
/// Revocation lists last 30 days.
const LIST_SOON_S: i64 = 5 * 86_400;
/// Authorities last ten years, and to roll one takes a while.
const AUTHORITY_SOON_S: i64 = 90 * 86_400;

/// What a node's metrics say. Numbers that it does not give are none: it is of an older version, or has just begun.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// The version of its program.
    pub version: Option<String>,
    /// Whether its link to the tier above is up; none at the global node, which has none.
    pub link_up: Option<bool>,
    /// Seconds since the tier above answered last.
    pub heard_s: Option<i64>,
    /// Parcels that wait for another node.
    pub waiting: u64,
    /// For how long the oldest of them has, in seconds.
    pub oldest_s: f64,
    /// Alarms among them.
    pub alarms: u64,
    /// What is in quarantine: parcels, messages, records that were not taken.
    pub held: u64,
    /// Gaps that nobody has acknowledged.
    pub gaps: u64,
    /// Seconds until the certificate ends.
    pub certificate_s: Option<i64>,
    /// Seconds until the revocation list must have been replaced.
    pub list_s: Option<i64>,
    /// Seconds until the authority's certificate ends.
    pub authority_s: Option<i64>,
}

impl Figures {
    /// What a node said in Prometheus' text format at `now` (real time).
    pub fn read(text: &str, now: Timestamp) -> Self {
        let mut said = Snapshot::default();
        said.add(text);
        let seconds = |name| said.value(name, "").map(whole);
        let count = |name, label| {
            said.value(name, label)
                .map_or(0, |it| whole(it).unsigned_abs())
        };
        let heard = ["peer=\"regional\"", "peer=\"global\""]
            .into_iter()
            .find_map(|peer| said.value("medmesh_link_heard_timestamp_seconds", peer));
        Self {
            version: said.label("medmesh_build_info", "version"),
            link_up: said.value("medmesh_link_up", "").map(|up| up > 0.0),
            heard_s: heard.map(|at| (now.0 / 1_000 - whole(at)).max(0)),
            waiting: count("medmesh_outbox_parcels", "")
                + count("medmesh_outbox_below_parcels", ""),
            oldest_s: said
                .value("medmesh_outbox_oldest_seconds", "")
                .unwrap_or(0.0),
            alarms: count("medmesh_outbox_parcels", "priority=\"alarm\""),
            held: count("medmesh_held_parcels", "")
                + count("medmesh_held_messages", "")
                + count("medmesh_quarantine_notes", ""),
            gaps: count("medmesh_gaps_open", ""),
            certificate_s: seconds("medmesh_tls_certificate_left_seconds"),
            list_s: seconds("medmesh_tls_crl_left_seconds"),
            authority_s: seconds("medmesh_tls_authority_left_seconds"),
        }
    }

    /// What ends soon, or has ended: what, and in how many seconds.
    pub fn ending(&self) -> Vec<(&'static str, i64)> {
        let ends = [
            ("the certificate", self.certificate_s, CERTIFICATE_SOON_S),
            ("the revocation list", self.list_s, LIST_SOON_S),
            ("the authority", self.authority_s, AUTHORITY_SOON_S),
        ];
        let soon = ends.into_iter().filter_map(|(what, left, soon)| {
            let left = left?;
            (left < soon).then_some((what, left))
        });
        soon.collect()
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "counts and seconds; it saturates"
)]
fn whole(value: f64) -> i64 {
    value as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "\
medmesh_build_info{version=\"1.2.3\"} 1
medmesh_link_up 1
medmesh_link_heard_timestamp_seconds{peer=\"regional\"} 990
medmesh_outbox_parcels{priority=\"alarm\"} 2
medmesh_outbox_parcels{priority=\"live\"} 3
medmesh_outbox_below_parcels 4
medmesh_outbox_oldest_seconds 7.5
medmesh_held_parcels 1
medmesh_held_messages 2
medmesh_gaps_open 1
medmesh_tls_certificate_left_seconds 86400
medmesh_tls_crl_left_seconds 2500000
";

    #[test]
    fn what_a_node_says_becomes_what_a_person_is_shown() {
        let figures = Figures::read(SAID, Timestamp(1_000_000));
        let expected = Figures {
            version: Some("1.2.3".into()),
            link_up: Some(true),
            heard_s: Some(10),
            waiting: 9,
            oldest_s: 7.5,
            alarms: 2,
            held: 3,
            gaps: 1,
            certificate_s: Some(86_400),
            list_s: Some(2_500_000),
            authority_s: None,
        };
        assert_eq!(figures, expected);
        assert_eq!(figures.ending(), [("the certificate", 86_400)]);
        assert_eq!(Figures::read("", Timestamp(0)), Figures::default());
    }
}
