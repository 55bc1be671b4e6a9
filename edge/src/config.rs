//! The configuration of an edge node, as TOML.
mod beds;

pub use beds::BedAssignment;
use beds::bed_problems;
use broker::Viewers;
use ed25519_dalek::{VerifyingKey, pkcs8::DecodePublicKey};
use federation::{
    models::DeviceModels, policy::Rules, profile::SignedProfile, signed_file::SignedFile,
    tls::mismatches,
};
use node::config::{
    ConfigError, HttpsConfig, LogConfig, Problem, TlsFiles, Urls, Validate, becomes_directory,
    different_ports, directory, file, mesh_clock, secret_file, within,
};
use node::quantity::{Size, Span};
use node::trace::export::TelemetryConfig;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::{Path, PathBuf},
};
use types::{DeviceId, DeviceKind, FacilityId, Jurisdiction, Label, MeshClock, Place, RegionId};

/// An edge node.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EdgeConfig {
    /// Whose law applies.
    pub jurisdiction: Jurisdiction,
    /// The region that the facility reports to.
    pub region: RegionId,
    /// The facility.
    pub facility: FacilityId,
    /// Where the node keeps its files. Everything in it is PHI.
    pub data_dir: PathBuf,
    /// File with the facility's 32-byte key, in hexadecimal, that wraps the store's data key.
    pub key_file: PathBuf,
    /// Certificates.
    pub tls: TlsFiles,
    /// Health and metrics.
    pub https: HttpsConfig,
    /// Log output.
    #[serde(default)]
    pub log: LogConfig,
    /// The mesh clock; real time when left out.
    #[serde(default)]
    pub clock: Option<MeshClock>,
    /// The embedded MQTT broker.
    pub mqtt: MqttConfig,
    /// Where readings go.
    pub uplink: UplinkConfig,
    /// Disk bound and retention.
    #[serde(default)]
    pub store: StoreConfig,
    /// Directory of device profiles (TOML).
    pub profiles: PathBuf,
    /// The devices of the facility.
    #[serde(default)]
    pub devices: Vec<DeviceConfig>,
    /// Which patient lies in which bed from when on: the beginning, taken in once at start.
    #[serde(default)]
    pub beds: Vec<BedAssignment>,
    /// Directory of Cedar policies that tighten the rules; built-in ones when left out.
    #[serde(default)]
    pub policies: Option<PathBuf>,
    /// What lets the node send anything; without it the certificate alone does.
    #[serde(default)]
    pub leases: Option<LeaseFiles>,
    /// A signed de-identification profile; dates are shifted when left out.
    #[serde(default)]
    pub deid_profile: Option<DeidProfile>,
    /// The signed table of models and firmware versions that the catalog may name; none is named when left out.
    #[serde(default)]
    pub device_models: Option<SignedFile>,
    /// Which of the facility's own programs hear what is stored, by MQTT; none when left out.
    #[serde(default)]
    pub view: Option<ViewConfig>,
    /// The facility's own FHIR.
    #[serde(default)]
    pub fhir: FhirConfig,
    /// What may be learnt from the facility's records; nothing when left out.
    #[serde(default)]
    pub learning: Option<LearningConfig>,
    /// Where traces go; nothing is traced when it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub telemetry: Option<TelemetryConfig>,
    /// True only in a mesh on one machine; what is dangerous elsewhere is refused without it.
    #[serde(default)]
    pub local_mesh: bool,
}

/// Which of the facility's own programs hear what is stored.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ViewConfig {
    /// Their file of rights ([`Viewers::read`](broker::Viewers::read)).
    pub acl: PathBuf,
}

/// The facility's own FHIR ([`crate::fhir`]). It is always served, to the facility's own tokens.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct FhirConfig {
    /// Size of its file above which its oldest readings go, which the store keeps for as long as its own retention says. A
    /// reading takes some ten times as much here as in the store.
    pub max_size: Size,
}

/// A trim takes off 4,000 readings, some 11 MiB with what they are found by: in less, next to none stays.
const MIN_FHIR_SIZE: Size = Size(16 << 20);

impl Default for FhirConfig {
    fn default() -> Self {
        Self {
            max_size: Size(4 << 30),
        }
    }
}

/// What may be learnt from the facility's records.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LearningConfig {
    /// Who lets the facility take part in a study.
    #[serde(default)]
    pub approval: Approval,
    /// The global node's public key (PEM), with which orders of studies have to be signed. Orders are taken from the region
    /// unchecked when it is left out.
    #[serde(default)]
    pub coordinator: Option<PathBuf>,
    /// What may be spent on all studies together.
    pub budget: fl::ledger::Budget,
    /// What a study may ask for.
    pub allow: fl::consent::Allowance,
}

/// Who lets the facility take part in a study.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Approval {
    /// A person, for each study (`medmesh edge plans approve`).
    #[default]
    Person,
    /// The configuration alone.
    Automatic,
}

/// Signed leases. They are read again every few seconds.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseFiles {
    /// Directory with `identity.lease` and `policy.lease`.
    pub dir: PathBuf,
    /// PEM of the public Ed25519 key of the authority that signs them.
    pub authority: PathBuf,
}

/// A signed de-identification profile.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DeidProfile {
    /// The signed note.
    pub note: PathBuf,
    /// PEM of the public Ed25519 key of the jurisdiction's data-protection officer.
    pub authority: PathBuf,
}

/// The embedded MQTT broker.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MqttConfig {
    /// Where it listens (TLS 1.3 with client certificates; MQTT 3.1.1 and 5 on the same port).
    pub listen: SocketAddr,
}

/// Where readings go.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct UplinkConfig {
    /// `https://host:port` of the regional node's gRPC service; a list where the region has more than one node.
    pub url: Urls,
}

/// What is receipted is kept for so long at least, mesh time: a region that was put back gets it again from here.
pub const MIN_RETENTION: Span = Span::ms(3_600_000);

/// Disk bound and retention.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// The store stops acknowledging routine samples above this size.
    pub max_size: Size,
    /// Kept free of routine samples, for alarms.
    pub alarm_reserve: Size,
    /// Receipted readings older than this (mesh time) are deleted.
    pub retention: Span,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            max_size: Size(4 << 30),
            alarm_reserve: Size(64 << 20),
            retention: Span::ms(30 * 86_400_000),
        }
    }
}

/// A device of the facility.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceConfig {
    /// Its name in certificates and topics.
    pub id: DeviceId,
    /// What it is.
    pub kind: DeviceKind,
    /// Maker's serial number: tied to a patient it is one of the 18 identifiers, and never leaves.
    #[serde(default)]
    pub serial: Option<String>,
    /// Maker and model, for the catalog.
    #[serde(default)]
    pub model: Option<Label>,
    /// Firmware version, for the catalog.
    #[serde(default)]
    pub firmware: Option<Label>,
    /// The bed it stands at.
    #[serde(default)]
    pub bed: Option<String>,
    /// Name of its Modbus profile; MQTT devices have none.
    #[serde(default)]
    pub profile: Option<String>,
    /// `tcp://plc-3:502`, `rtu:///dev/ttyUSB0?baud=9600` or `rtu+tcp://192.0.2.8:4001` ([`modbus::Address`]); MQTT
    /// devices have none.
    #[serde(default)]
    pub address: Option<String>,
    /// Modbus unit id: 0 to 255 on TCP, 1 to 247 on a serial line.
    #[serde(default = "default_unit_id")]
    pub unit_id: u8,
}

const fn default_unit_id() -> u8 {
    1
}

impl From<&DeviceConfig> for modbus::Device {
    fn from(device: &DeviceConfig) -> Self {
        Self {
            id: device.id.clone(),
            kind: device.kind,
            profile: device.profile.clone(),
            address: device.address.clone(),
            unit_id: device.unit_id,
        }
    }
}

impl Validate for EdgeConfig {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = within("tls", &self.tls);
        problems.extend(mismatches(&self.tls, &self.place()));
        problems.extend(becomes_directory("data_dir", &self.data_dir));
        problems.extend(within("log", &self.log));
        problems.extend(mesh_clock(self.clock.as_ref(), self.local_mesh));
        problems.extend(within("store", &self.store));
        problems.extend(within("fhir", &self.fhir));
        problems.extend(key_file_problem(&self.key_file));
        problems.extend(self.uplink.url.problems("uplink.url"));
        problems.extend(different_ports(&[
            ("https.listen", self.https.listen),
            ("mqtt.listen", self.mqtt.listen),
        ]));
        problems.extend(policy_problem(self.policies.as_deref()));
        if let Some(leases) = &self.leases {
            problems.extend(directory("leases.dir", &leases.dir));
            problems.extend(public_key_problem("leases.authority", &leases.authority));
        }
        if let Some(files) = &self.deid_profile {
            problems.extend(profile_note_problems(files, &self.place()));
        }
        let models = DeviceModels::load(self.device_models.as_ref()).err();
        problems.extend(models.map(|error| Problem::new("device_models", error.to_string())));
        problems.extend(device_problems(&self.devices, &self.profiles));
        problems.extend(bed_problems(&self.beds));
        problems.extend(self.view_problems());
        let telemetry = self.telemetry.iter();
        problems.extend(telemetry.flat_map(|it| it.problems(self.jurisdiction)));
        if let Some(Err(error)) = self
            .learning
            .as_ref()
            .map(|of| fl::ledger::Ledger::new(of.budget))
        {
            problems.push(Problem::new("learning.budget", error.to_string()));
        }
        let coordinator = self
            .learning
            .as_ref()
            .and_then(|of| of.coordinator.as_ref());
        problems
            .extend(coordinator.and_then(|path| public_key_problem("learning.coordinator", path)));
        problems
    }
}

impl EdgeConfig {
    /// The programs that hear what is stored.
    ///
    /// # Errors
    /// Everything that is wrong with their file of rights.
    pub fn viewers(&self) -> Result<Viewers, Vec<String>> {
        match &self.view {
            Some(view) => Viewers::read(&view.acl, &self.facility),
            None => Ok(Viewers::default()),
        }
    }

    /// What is wrong with the file of rights; nobody is a device and a viewer.
    fn view_problems(&self) -> Vec<Problem> {
        let both = |viewers: Viewers| {
            let is_device = |name: &&types::DeviceId| self.devices.iter().any(|it| it.id == **name);
            let both = viewers.names().filter(is_device);
            both.map(|name| format!("client {name} is a device too"))
                .collect()
        };
        let problems = self.viewers().map_or_else(|problems| problems, both);
        let problem = |text| Problem::new("view.acl", text);
        problems.into_iter().map(problem).collect()
    }

    /// Where the facility stands.
    #[must_use]
    pub fn place(&self) -> Place {
        Place::Edge {
            jurisdiction: self.jurisdiction,
            region: self.region.clone(),
            facility: self.facility.clone(),
        }
    }

    /// The region, where the facility delivers.
    #[must_use]
    pub fn above(&self) -> Place {
        Place::Regional {
            jurisdiction: self.jurisdiction,
            region: self.region.clone(),
        }
    }
}

/// The Ed25519 key of a PEM file, with which leases and profiles are checked; none when it is not one or cannot be read.
pub(crate) fn public_key(path: &Path) -> Option<VerifyingKey> {
    let pem = std::fs::read_to_string(path).ok()?;
    VerifyingKey::from_public_key_pem(&pem).ok()
}

fn public_key_problem(key: &str, path: &Path) -> Option<Problem> {
    let wrong = || {
        let path = path.display();
        Problem::new(
            key,
            format!("{path} is not the PEM of an Ed25519 public key"),
        )
    };
    file(key, path).or_else(|| public_key(path).is_none().then(wrong))
}

fn key_file_problem(path: &Path) -> Option<Problem> {
    let unusable = |_| Problem::new("key_file", "is not 32 bytes in hexadecimal");
    secret_file("key_file", path).or_else(|| store::read_facility_key(path).err().map(unusable))
}

fn policy_problem(dir: Option<&Path>) -> Option<Problem> {
    let dir = dir?;
    directory("policies", dir).or_else(|| {
        let error = Rules::load(Some(dir)).err()?;
        Some(Problem::new("policies", error.to_string()))
    })
}

/// A profile that has expired is no problem: the node keeps its readings until it is renewed.
fn profile_note_problems(files: &DeidProfile, here: &Place) -> Vec<Problem> {
    const NOTE: &str = "deid_profile.note";
    let mut problems: Vec<_> = public_key_problem("deid_profile.authority", &files.authority)
        .into_iter()
        .collect();
    match (
        std::fs::read_to_string(&files.note),
        public_key(&files.authority),
    ) {
        (Err(error), _) => {
            let path = files.note.display();
            problems.push(Problem::new(NOTE, format!("{path}: {error}")));
        }
        (Ok(note), Some(key)) => {
            let wrong = SignedProfile::open(&note, &key, here).err();
            problems.extend(wrong.map(|error| Problem::new(NOTE, error.to_string())));
        }
        (Ok(_), None) => {}
    }
    problems
}

impl Validate for FhirConfig {
    fn problems(&self) -> Vec<Problem> {
        let too_small = self.max_size < MIN_FHIR_SIZE;
        let says = || format!("is {MIN_FHIR_SIZE} at least: in less it keeps next to no reading");
        too_small
            .then(|| Problem::new("max_size", says()))
            .into_iter()
            .collect()
    }
}

impl Validate for StoreConfig {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.alarm_reserve >= self.max_size {
            problems.push(Problem::new(
                "alarm_reserve",
                "must be smaller than max_size",
            ));
        }
        if self.retention.as_ms() < MIN_RETENTION.as_ms() {
            problems.push(Problem::new("retention", "is an hour at least"));
        }
        problems
    }
}

/// What is wrong with the devices and with the profiles they name.
fn device_problems(devices: &[DeviceConfig], profiles: &Path) -> Vec<Problem> {
    let mut problems = doubled_ids(devices);
    problems.extend(text_problems(devices));
    match modbus::Profiles::load(profiles) {
        Ok(profiles) => {
            let devices: Vec<_> = devices.iter().map(Into::into).collect();
            problems.extend(modbus::problems(&devices, &profiles));
        }
        Err(errors) => problems.extend(errors.into_iter().flat_map(profile_problems)),
    }
    problems
}

fn profile_problems(error: ConfigError) -> impl Iterator<Item = Problem> {
    let ConfigError { path, problems } = error;
    let within = move |problem| Problem::new("profiles", format!("{}: {problem}", path.display()));
    problems.into_iter().map(within)
}

/// What no Device or Location of FHIR could say, and no table of staff could show.
fn text_problems(devices: &[DeviceConfig]) -> Vec<Problem> {
    /// As of an entry of [`store::check_bed`], in bytes.
    const MAX_BED: usize = 64;
    /// Of a maker's serial number, in bytes.
    const MAX_SERIAL: usize = 256;
    let mut problems = Vec::new();
    for (index, device) in devices.iter().enumerate() {
        for (key, text, max) in [
            ("bed", &device.bed, MAX_BED),
            ("serial", &device.serial, MAX_SERIAL),
        ] {
            let fits = |text: &str| {
                let is_seen = ingest::patient_id::is_seen;
                (1..=max).contains(&text.len()) && text.chars().all(is_seen)
            };
            if !text.as_deref().is_none_or(fits) {
                let message =
                    format!("is 1 to {max} bytes without control or invisible characters");
                problems.push(Problem::new(format!("devices[{index}].{key}"), message));
            }
        }
    }
    problems
}

fn doubled_ids(devices: &[DeviceConfig]) -> Vec<Problem> {
    let mut seen = BTreeSet::new();
    let doubled = devices
        .iter()
        .enumerate()
        .filter(|(_, device)| !seen.insert(&device.id));
    doubled
        .map(|(index, _)| {
            let key = format!("devices[{index}].id");
            Problem::new(key, "is the id of another device too")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_for_fhir_in_which_no_reading_stays_is_a_problem() {
        let paths = |size: &str| -> Vec<String> {
            let max_size = size.parse().unwrap();
            let problems = within("fhir", &FhirConfig { max_size }).into_iter();
            problems.map(|problem| problem.path).collect()
        };
        assert_eq!(paths("15MiB"), ["fhir.max_size"]);
        assert!(paths("16MiB").is_empty());
    }

    #[test]
    fn a_doubled_id_is_a_problem_of_the_second_device() {
        let device = |id: &str| -> DeviceConfig {
            toml::from_str(&format!("id = '{id}'\nkind = 'lab-analyser'")).unwrap()
        };
        let devices = [device("a"), device("b"), device("a")];
        let paths: Vec<_> = doubled_ids(&devices).into_iter().map(|p| p.path).collect();
        assert_eq!(paths, ["devices[2].id"]);
    }

    #[test]
    fn a_bed_or_a_serial_number_that_nothing_could_show_is_a_problem() {
        let device = |bed: &str, serial: &str| {
            let mut device: DeviceConfig =
                toml::from_str("id = 'a'\nkind = 'lab-analyser'").unwrap();
            (device.bed, device.serial) = (Some(bed.into()), Some(serial.into()));
            device
        };
        let devices = [
            device("b/1 +", "SN 7"),
            device("", &"7".repeat(256)),
            device(&"b".repeat(65), "SN\u{7}"),
            device("b1\u{200b}", ""),
        ];
        let found = text_problems(&devices).into_iter();
        let paths: Vec<_> = found.map(|problem| problem.path).collect();
        let expected = [
            "devices[1].bed",
            "devices[2].bed",
            "devices[2].serial",
            "devices[3].bed",
            "devices[3].serial",
        ];
        assert_eq!(paths, expected);
    }

    #[test]
    fn a_model_that_the_catalog_would_not_take_is_refused() {
        let device = |model: &str| {
            toml::from_str::<DeviceConfig>(&format!(
                "id = 'a'\nkind = 'lab-analyser'\nmodel = '{model}'"
            ))
        };
        assert!(device("XY-MD02").is_ok());
        assert!(device("XY MD02").is_err());
    }

    #[test]
    fn keys_notes_and_policies_that_end_the_node_are_problems_at_their_keys() {
        let dir = tempfile::tempdir().unwrap();
        let bad = dir.path().join("bad");
        std::fs::write(&bad, "nonsense").unwrap();
        let place: Place = "edge/eu/eu/eu-f1".parse().unwrap();
        let files = DeidProfile {
            note: dir.path().join("absent"),
            authority: bad.clone(),
        };
        let paths = |problems: Vec<Problem>| -> Vec<_> {
            problems.into_iter().map(|problem| problem.path).collect()
        };
        let found = profile_note_problems(&files, &place);
        assert_eq!(
            paths(found),
            ["deid_profile.authority", "deid_profile.note"]
        );
        let signing = ed25519_dalek::SigningKey::from_bytes(&[3; 32]);
        let pem = {
            use ed25519_dalek::pkcs8::{EncodePublicKey, spki::der::pem::LineEnding};
            let key = signing.verifying_key();
            key.to_public_key_pem(LineEnding::LF).unwrap()
        };
        let good = dir.path().join("good.pem");
        std::fs::write(&good, pem).unwrap();
        assert_eq!(public_key_problem("k", &good), None);
        let unsigned = DeidProfile {
            note: bad.clone(),
            authority: good,
        };
        let found = profile_note_problems(&unsigned, &place);
        assert_eq!(paths(found), ["deid_profile.note"]);
        let policies = dir.path().join("policies");
        std::fs::create_dir(&policies).unwrap();
        std::fs::write(policies.join("a.cedar"), "permit everything").unwrap();
        assert!(policy_problem(Some(&policies)).is_some());
        assert_eq!(policy_problem(None), None);
    }

    #[test]
    fn a_profile_that_cannot_be_used_is_a_problem_of_its_file() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("bad.toml"), "name = 1").unwrap();
        let problems = device_problems(&[], dir.path());
        assert!(problems.len() > 1, "{problems:?}");
        for problem in problems {
            assert_eq!(problem.path, "profiles");
            assert!(problem.message.contains("bad.toml: "), "{problem}");
        }
    }
}
