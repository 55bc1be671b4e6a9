//! The configuration of an edge node, as TOML.
use node::config::{
    HttpsConfig, LogConfig, Problem, TlsFiles, Validate, different_ports, directory, file,
    secret_file, url, within,
};
use node::quantity::{Size, Span};
use serde::{Deserialize, Serialize};
use std::{net::SocketAddr, path::PathBuf};
use types::{DeviceId, DeviceKind, FacilityId, Jurisdiction, MeshClock, RegionId};

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
    /// Which patient lies in which bed from when on (append-only), read at start.
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
    /// True only in a mesh on one machine; what is dangerous elsewhere is refused without it.
    #[serde(default)]
    pub local_mesh: bool,
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
    /// `https://host:port` of the regional node's gRPC service.
    pub url: String,
}

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
    pub model: Option<String>,
    /// Firmware version, for the catalog.
    #[serde(default)]
    pub firmware: Option<String>,
    /// The bed it stands at.
    #[serde(default)]
    pub bed: Option<String>,
    /// Name of its Modbus profile; MQTT devices have none.
    #[serde(default)]
    pub profile: Option<String>,
    /// `tcp://127.0.0.1:502` or `rtu:///dev/ttyUSB0?baud=9600`; MQTT devices have none.
    #[serde(default)]
    pub address: Option<String>,
    /// Modbus unit id.
    #[serde(default = "default_unit_id")]
    pub unit_id: u8,
}

const fn default_unit_id() -> u8 {
    1
}

/// A patient lies in a bed from an instant on, until the bed's next assignment.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BedAssignment {
    /// The bed.
    pub bed: String,
    /// From when on (RFC 3339, mesh time).
    pub from: String,
    /// The facility's own patient id; left out: nobody.
    #[serde(default)]
    pub patient: Option<String>,
    /// Name, kept in the facility.
    #[serde(default)]
    pub name: Option<String>,
    /// Medical record number, kept in the facility.
    #[serde(default)]
    pub mrn: Option<String>,
    /// Date of birth (YYYY-MM-DD), kept in the facility.
    #[serde(default)]
    pub birth_date: Option<String>,
    /// FHIR AdministrativeGender.
    #[serde(default)]
    pub gender: Option<String>,
}

impl Validate for EdgeConfig {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = within("tls", &self.tls);
        problems.extend(within("log", &self.log));
        problems.extend(within("store", &self.store));
        problems.extend(secret_file("key_file", &self.key_file));
        problems.extend(url("uplink.url", &self.uplink.url));
        problems.extend(different_ports(&[
            ("https.listen", self.https.listen),
            ("mqtt.listen", self.mqtt.listen),
        ]));
        problems.extend(directory("profiles", &self.profiles));
        problems.extend(
            self.policies
                .iter()
                .filter_map(|path| directory("policies", path)),
        );
        if let Some(leases) = &self.leases {
            problems.extend(directory("leases.dir", &leases.dir));
            problems.extend(file("leases.authority", &leases.authority));
        }
        if let Some(profile) = &self.deid_profile {
            problems.extend(file("deid_profile.note", &profile.note));
            problems.extend(file("deid_profile.authority", &profile.authority));
        }
        problems.extend(device_problems(&self.devices));
        problems.extend(bed_problems(&self.beds));
        problems
    }
}

impl Validate for StoreConfig {
    fn problems(&self) -> Vec<Problem> {
        let enough = self.alarm_reserve < self.max_size;
        (!enough)
            .then(|| Problem::new("alarm_reserve", "must be smaller than max_size"))
            .into_iter()
            .collect()
    }
}

fn device_problems(devices: &[DeviceConfig]) -> Vec<Problem> {
    let mut seen = std::collections::BTreeSet::new();
    let mut problems = Vec::new();
    for (index, device) in devices.iter().enumerate() {
        let mut add = |key: &str, message: &str| {
            problems.push(Problem::new(format!("devices[{index}].{key}"), message));
        };
        if !seen.insert(&device.id) {
            add("id", "is the id of another device too");
        }
        match (&device.profile, &device.address) {
            (Some(_), None) => add(
                "address",
                "is missing: a device with a profile is polled by Modbus",
            ),
            (None, Some(_)) => add(
                "profile",
                "is missing: it says which registers the device has",
            ),
            (Some(_), Some(address))
                if !address.starts_with("tcp://") && !address.starts_with("rtu://") =>
            {
                add(
                    "address",
                    "is written tcp://host:port or rtu:///dev/ttyUSB0?baud=9600",
                );
            }
            _ => {}
        }
    }
    problems
}

fn bed_problems(beds: &[BedAssignment]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (index, bed) in beds.iter().enumerate() {
        if bed.from.parse::<types::Timestamp>().is_err() {
            let key = format!("beds[{index}].from");
            problems.push(Problem::new(
                key,
                "a time is written like 2026-11-22T10:00:00Z",
            ));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(text: &str) -> DeviceConfig {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_device_that_cannot_be_polled_and_a_doubled_id_are_problems() {
        let devices = [
            device(
                "id = 'a'\nkind = 'bedside-monitor'\nprofile = 'p'\naddress = 'tcp://127.0.0.1:502'",
            ),
            device("id = 'a'\nkind = 'bedside-monitor'\nprofile = 'p'"),
            device("id = 'b'\nkind = 'bedside-monitor'\naddress = 'tcp://127.0.0.1:502'"),
            device("id = 'c'\nkind = 'cold-chain'\nprofile = 'p'\naddress = '127.0.0.1:502'"),
            device("id = 'd'\nkind = 'lab-analyser'"),
        ];
        let paths: Vec<_> = device_problems(&devices)
            .into_iter()
            .map(|p| p.path)
            .collect();
        assert_eq!(
            paths,
            [
                "devices[1].id",
                "devices[1].address",
                "devices[2].profile",
                "devices[3].address"
            ]
        );
    }
}
