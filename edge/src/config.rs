//! The configuration of an edge node, as TOML.
use node::config::{HttpsConfig, LogConfig, TlsFiles};
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
    /// True only in a mesh on one machine; what is dangerous elsewhere is refused without it.
    #[serde(default)]
    pub local_mesh: bool,
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
