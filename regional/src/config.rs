//! The configuration of a regional node, as TOML.
pub use crate::hooks::{SubscriptionsConfig, TargetConfig};
pub use crate::rates::RateConfig;
use federation::{
    models::DeviceModels,
    profile::SignedProfile,
    signed_file::SignedFile,
    tls::{mismatches, untrusted},
};
use fhir::postgres::{UrlProblem, check_url, count_servers};
use node::config::{
    ClientConfig, HttpsConfig, LogConfig, Problem, TlsFiles, Validate, becomes_directory,
    client_problems, different_ports, directory, file, mesh_clock, secret_file, url, within,
};
use node::trace::export::TelemetryConfig;
use serde::{Deserialize, Serialize};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};
use types::{Jurisdiction, MeshClock, Place, RegionId, Secret};

/// A regional node.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RegionalConfig {
    /// Whose law applies.
    pub jurisdiction: Jurisdiction,
    /// The region.
    pub region: RegionId,
    /// Where the node keeps its files.
    pub data_dir: PathBuf,
    /// Certificates.
    pub tls: TlsFiles,
    /// FHIR, API, health and metrics.
    pub https: HttpsConfig,
    /// Where edges deliver (gRPC over mTLS).
    pub grpc_listen: SocketAddr,
    /// `https://host:port` of the global node's gRPC service.
    pub uplink_url: String,
    /// FHIR store.
    #[serde(default)]
    pub store: FhirStore,
    /// Lets the region have a second node with the same configuration but for its addresses and folders: one of them
    /// writes, the other takes over when it fails. Needs the PostgreSQL store. Alone when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pair: Option<PairConfig>,
    /// Log output.
    #[serde(default)]
    pub log: LogConfig,
    /// The mesh clock; real time when left out.
    #[serde(default)]
    pub clock: Option<MeshClock>,
    /// Clients of the FHIR API.
    #[serde(default)]
    pub clients: Vec<ClientConfig>,
    /// The clients that read for research: nothing of patients who opted out of it at their facility is shown to them.
    #[serde(default)]
    pub research_clients: Vec<String>,
    /// Directory of Cedar policies that tighten the rules; built-in ones when left out.
    #[serde(default)]
    pub policies: Option<PathBuf>,
    /// A signed de-identification profile of the region: with `limited` it says when it stored what it shows. Logical
    /// instants when left out.
    #[serde(default)]
    pub deid_profile: Option<SignedFile>,
    /// The signed table of models and firmware versions that the catalog may name; none is named when left out.
    #[serde(default)]
    pub device_models: Option<SignedFile>,
    /// An address of its own for health and metrics, without a token: for a network that only the operator reaches.
    /// Otherwise metrics are served beside FHIR, to tokens with the scope `mesh/metrics.r`.
    #[serde(default)]
    pub metrics: Option<MetricsConfig>,
    /// Lets facilities of the region join by themselves, each with a one-time code (`medmesh pki kit`). Where it is left
    /// out, a person carries requests and certificates.
    #[serde(default)]
    pub enrolment: Option<EnrolmentConfig>,
    /// Where notifications of FHIR subscriptions may go.
    #[serde(default)]
    pub subscriptions: SubscriptionsConfig,
    /// Of how much of the audit log there are AuditEvents.
    #[serde(default)]
    pub audit_events: AuditEventsConfig,
    /// How often each client may ask for FHIR; as often as it likes when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<RateConfig>,
    /// Where traces go; nothing is traced when it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub telemetry: Option<TelemetryConfig>,
    /// True only in a mesh on one machine; what is dangerous elsewhere is refused without it.
    #[serde(default)]
    pub local_mesh: bool,
}

/// Of how much of the audit log there are AuditEvents.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuditEventsConfig {
    /// Of so many of its last rows, of whatever kind; each AuditEvent takes some 4 KiB in the store. The log keeps all rows.
    pub keep_rows: u64,
}

/// Fewest rows: some minutes of a busy region.
const LEAST_KEPT_ROWS: u64 = 1_000;
/// Most rows, whose AuditEvents take some 400 GiB.
const MOST_KEPT_ROWS: u64 = 100_000_000;

impl Default for AuditEventsConfig {
    /// Some 8 GiB at most.
    fn default() -> Self {
        Self {
            keep_rows: 2_000_000,
        }
    }
}

impl AuditEventsConfig {
    fn problem(self) -> Option<Problem> {
        let fits = (LEAST_KEPT_ROWS..=MOST_KEPT_ROWS).contains(&self.keep_rows);
        let says =
            format!("is a number of rows of the audit log, {LEAST_KEPT_ROWS} to {MOST_KEPT_ROWS}");
        (!fits).then(|| Problem::new("audit_events.keep_rows", says))
    }
}

/// What facilities join by.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolmentConfig {
    /// Folder of the authority that signs; the node's user must be able to write it.
    pub authority: PathBuf,
}

/// A region of two nodes.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PairConfig {
    /// The name of this one of them, for people: small letters, digits and `-`.
    pub node: String,
    /// `https://host:port` by which the other one, and clients that come to this one alone, reach this one's `https.listen`:
    /// what the other one has in `pair.other.https`. Needed where that is a name, or where this one listens at every address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub https: Option<String>,
    /// Where this one reaches the other one: what it cannot do while it waits, it hands on there. Refused to clients and
    /// facilities when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other: Option<OtherConfig>,
}

/// The other node of a pair.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OtherConfig {
    /// `https://host:port` of its `https.listen`.
    pub https: String,
    /// `https://host:port` of its `grpc_listen`.
    pub links: String,
}

impl OtherConfig {
    fn problems(&self, own: &[(&str, SocketAddr)]) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (key, text) in [
            ("pair.other.https", &self.https),
            ("pair.other.links", &self.links),
        ] {
            problems.extend(url(key, text));
            let same = |(_, address): &&(&str, SocketAddr)| *text == format!("https://{address}");
            if let Some((listener, _)) = own.iter().find(same) {
                let says = format!("is {listener} of this node; it is the other one's");
                problems.push(Problem::new(key, says));
            }
        }
        if self.https == self.links {
            problems.push(Problem::new("pair.other.links", "is pair.other.https too"));
        }
        problems
    }
}

impl PairConfig {
    fn problems(&self, store: &FhirStore, own: &[(&str, SocketAddr)]) -> Vec<Problem> {
        let mut problems = Vec::new();
        let other = self.other.iter();
        problems.extend(other.flat_map(|other| other.problems(own)));
        problems.extend(self.https.iter().filter_map(|text| url("pair.https", text)));
        if let (Some(own), Some(other)) = (&self.https, &self.other)
            && *own == other.https
        {
            problems.push(Problem::new("pair.https", "is pair.other.https too"));
        }
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if !(1..=MAX_NODE_NAME).contains(&self.node.len()) || !self.node.bytes().all(plain) {
            let says = format!("is 1 to {MAX_NODE_NAME} small letters, digits and `-`");
            problems.push(Problem::new("pair.node", says));
        }
        if matches!(store, FhirStore::Sqlite) {
            let says = "needs the PostgreSQL store: on SQLite a region is one node";
            problems.push(Problem::new("pair", says));
        }
        problems
    }
}

/// What is to be known of the connection string of two nodes.
fn note(url: &str) -> Option<String> {
    (count_servers(url) == 1).then(|| ONE_SERVER.to_owned())
}

/// What is said of two nodes on a PostgreSQL that nothing takes over from.
const ONE_SERVER: &str = "store.url_file names one server: both nodes stand while it is away. Name its standby too \
     (postgresql://a,b/…), unless the name is that of a service which leads it to another server by itself";
/// Longest name of a node of a pair, in bytes.
const MAX_NODE_NAME: usize = 32;

/// Where metrics are served apart.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MetricsConfig {
    /// Address and port (TLS 1.3).
    pub listen: SocketAddr,
}

/// The engine of the FHIR store.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, tag = "engine", rename_all = "lowercase")]
pub enum FhirStore {
    /// A file below the data directory.
    #[default]
    Sqlite,
    /// PostgreSQL.
    Postgres {
        /// File with the connection string. A server on another machine is reached by TLS alone (`sslmode=verify-full`).
        url_file: PathBuf,
        /// PEM of the authorities that the server's certificate may be by; needed for TLS.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ca: Option<PathBuf>,
    },
}

impl Validate for RegionalConfig {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = within("tls", &self.tls);
        problems.extend(mismatches(&self.tls, &self.place()));
        problems.extend(becomes_directory("data_dir", &self.data_dir));
        problems.extend(within("log", &self.log));
        problems.extend(mesh_clock(self.clock.as_ref(), self.local_mesh));
        problems.extend(within("https", &self.https));
        for (index, name) in self.research_clients.iter().enumerate() {
            if self.clients.iter().all(|client| client.client_id != *name) {
                let key = format!("research_clients[{index}]");
                problems.push(Problem::new(key, "is no client of the configuration"));
            }
        }
        problems.extend(client_problems(&self.clients));
        problems.extend(url("uplink_url", &self.uplink_url));
        let mut listeners = vec![
            ("https.listen", self.https.listen),
            ("grpc_listen", self.grpc_listen),
        ];
        listeners.extend(
            self.metrics
                .iter()
                .map(|own| ("metrics.listen", own.listen)),
        );
        problems.extend(different_ports(&listeners));
        let models = DeviceModels::load(self.device_models.as_ref()).err();
        problems.extend(models.map(|error| Problem::new("device_models", error.to_string())));
        problems.extend(
            self.policies
                .iter()
                .filter_map(|path| directory("policies", path)),
        );
        problems.extend(
            self.enrolment
                .iter()
                .filter_map(|it| directory("enrolment.authority", &it.authority)),
        );
        problems.extend(
            self.enrolment
                .iter()
                .filter_map(|it| untrusted("enrolment.authority", &it.authority, &self.tls)),
        );
        problems.extend(self.subscriptions.problems());
        problems.extend(self.audit_events.problem());
        problems.extend(self.rate.iter().flat_map(RateConfig::problems));
        let pair = self.pair.iter();
        problems.extend(pair.flat_map(|pair| pair.problems(&self.store, &listeners)));
        let telemetry = self.telemetry.iter();
        problems.extend(telemetry.flat_map(|it| it.problems(self.jurisdiction)));
        if let Err(error) = self.signed_profile() {
            problems.push(Problem::new("deid_profile", error));
        }
        if let FhirStore::Postgres { url_file, ca } = &self.store {
            problems.extend(postgres(url_file, ca.as_deref()));
        }
        problems
    }
}

/// What is wrong with the files of a PostgreSQL store, and with the connection string in them.
fn postgres(url_file: &Path, ca: Option<&Path>) -> Vec<Problem> {
    let mut problems: Vec<_> = secret_file("store.url_file", url_file)
        .into_iter()
        .collect();
    problems.extend(ca.and_then(|ca| file("store.ca", ca)));
    if !problems.is_empty() {
        return problems;
    }
    let authority = ca.map(std::fs::read).transpose();
    match (std::fs::read_to_string(url_file), authority) {
        (Ok(url), Ok(authority)) => {
            let checked = check_url(&url, authority.as_deref());
            let problem = |problem: UrlProblem| match problem {
                UrlProblem::Authority => Problem::new("store.ca", problem.to_string()),
                _ => Problem::new("store.url_file", problem.to_string()),
            };
            problems.extend(checked.err().map(problem));
        }
        (Err(_), _) => problems.push(Problem::new("store.url_file", "cannot be read as text")),
        (_, Err(_)) => problems.push(Problem::new("store.ca", "cannot be read")),
    }
    problems
}

impl RegionalConfig {
    /// The region.
    #[must_use]
    pub fn place(&self) -> Place {
        Place::Regional {
            jurisdiction: self.jurisdiction,
            region: self.region.clone(),
        }
    }

    /// What a person should know of a configuration that a node can use.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let (Some(_), FhirStore::Postgres { url_file, .. }) = (&self.pair, &self.store) else {
            return Vec::new();
        };
        let url = Secret::new(std::fs::read_to_string(url_file).unwrap_or_default());
        note(url.reveal()).into_iter().collect()
    }

    /// The authority by which facilities join here, if they do.
    pub(crate) fn authority(&self) -> Option<PathBuf> {
        self.enrolment.as_ref().map(|it| it.authority.clone())
    }

    /// The signed profile, if one is named. That it has ended is no error: then instants are logical.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn signed_profile(&self) -> Result<Option<SignedProfile>, String> {
        let Some(file) = &self.deid_profile else {
            return Ok(None);
        };
        let (note, key) = file.read().map_err(|error| error.to_string())?;
        let opened = SignedProfile::open(&note, &key, &self.place());
        opened.map(Some).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_refused_on_sqlite_and_by_a_name_that_is_none() {
        let postgres = FhirStore::Postgres {
            url_file: "url".into(),
            ca: None,
        };
        let keys = |node: &str, store: &FhirStore| {
            let pair = PairConfig {
                node: node.to_owned(),
                https: None,
                other: None,
            };
            let problems = pair.problems(store, &[]).into_iter();
            problems.map(|problem| problem.path).collect::<Vec<_>>()
        };
        assert!(keys("us-a1", &postgres).is_empty());
        assert_eq!(keys("us-a1", &FhirStore::Sqlite), ["pair"]);
        for wrong in ["", "A", "a b", &"a".repeat(MAX_NODE_NAME + 1)] {
            assert_eq!(keys(wrong, &postgres), ["pair.node"], "{wrong:?}");
        }
    }

    #[test]
    fn two_nodes_on_one_server_are_worth_a_word_and_on_a_primary_and_its_standby_none() {
        assert!(note("postgres://m@db/x").is_some_and(|note| note.contains("standby")));
        let read_write = "postgres://m@a,b/x?target_session_attrs=read-write";
        for url in [read_write, "host=a,b user=m", "no string"] {
            assert_eq!(note(url), None, "{url}");
        }
    }

    #[test]
    fn the_other_node_is_at_two_addresses_that_are_not_this_ones() {
        let own = [
            ("https.listen", "10.0.0.1:8443".parse().unwrap()),
            ("grpc_listen", "10.0.0.1:7443".parse().unwrap()),
        ];
        for (https, links, wrong) in [
            ("https://b:8443", "https://b:7443", &[][..]),
            ("https://[::1]:8443", "https://10.0.0.2:7443", &[]),
            ("https://b", "https://b:7443", &["pair.other.https"]),
            ("https://b:8443", "http://b:7443", &["pair.other.links"]),
            ("https://b:8443", "https://b:7443/x", &["pair.other.links"]),
            (
                "https://10.0.0.1:8443",
                "https://10.0.0.1:7443",
                &["pair.other.https", "pair.other.links"],
            ),
            ("https://b:8443", "https://b:8443", &["pair.other.links"]),
        ] {
            let other = OtherConfig {
                https: https.into(),
                links: links.into(),
            };
            let problems = other.problems(&own).into_iter();
            let found: Vec<_> = problems.map(|problem| problem.path).collect();
            assert_eq!(found, wrong, "{https} {links}");
        }
    }

    #[test]
    fn audit_events_are_kept_of_a_number_of_rows_within_bounds() {
        for (text, rows, problem) in [
            ("", Some(2_000_000), false),
            ("keep_rows = 1_000", Some(1_000), false),
            ("keep_rows = 999", Some(999), true),
            ("keep_rows = 100_000_000", Some(100_000_000), false),
            ("keep_rows = 100_000_001", Some(100_000_001), true),
            ("keep_rows = -1", None, false),
            ("keep_days = 30", None, false),
        ] {
            let config = toml::from_str::<AuditEventsConfig>(text).ok();
            assert_eq!(config.map(|config| config.keep_rows), rows, "{text}");
            let problem_of = config.and_then(AuditEventsConfig::problem);
            assert_eq!(problem_of.is_some(), problem, "{text}");
        }
    }

    #[test]
    fn a_node_of_a_pair_is_called_by_an_address_that_is_not_the_other_ones() {
        let postgres = FhirStore::Postgres {
            url_file: "url".into(),
            ca: None,
        };
        for (https, wrong) in [
            ("https://a.example.org:8443", &[][..]),
            ("https://a.example.org", &["pair.https"]),
            ("a.example.org:8443", &["pair.https"]),
            ("https://b.example.org:8443", &["pair.https"]),
        ] {
            let pair = PairConfig {
                node: "a".into(),
                https: Some(https.into()),
                other: Some(OtherConfig {
                    https: "https://b.example.org:8443".into(),
                    links: "https://b.example.org:7443".into(),
                }),
            };
            let problems = pair.problems(&postgres, &[]).into_iter();
            let found: Vec<_> = problems.map(|problem| problem.path).collect();
            assert_eq!(found, wrong, "{https}");
        }
    }
}
