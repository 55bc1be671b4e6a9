//! The configuration of a facility's simulated devices, as TOML: one process drives them all.
use serde::{Deserialize, Serialize};
use std::{net::SocketAddr, path::PathBuf};
use types::{DeviceId, DeviceKind, FacilityId, MeshClock, RegionId};

/// The simulated devices of one facility.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SimConfig {
    /// The region, as in topics.
    pub region: RegionId,
    /// The facility, as in topics.
    pub facility: FacilityId,
    /// Every emitted reading is appended here, one JSON object a line.
    pub sent: PathBuf,
    /// Written (atomically) when every device has emitted the last value of its replay and all were acknowledged.
    pub done: PathBuf,
    /// The mesh clock.
    pub clock: MeshClock,
    /// Where the broker is, for MQTT devices.
    pub mqtt: SocketAddr,
    /// PEM of the mesh's certificate authority.
    pub ca: PathBuf,
    /// What the devices emit.
    pub source: Source,
    /// Seed of everything that is drawn.
    pub seed: u64,
    /// Mesh milliseconds between two samples of the physiological simulator.
    #[serde(default = "default_sample_every_ms")]
    pub sample_every_ms: i64,
    /// A TOML file of faults, `device-id = "silent"` a line, read again when it changes; see [`super::fault::Fault`].
    #[serde(default)]
    pub control: Option<PathBuf>,
    /// Who tells MQTT devices what to do; without it they take no commands, and monitors keep their settings in memory alone.
    #[serde(default)]
    pub commanded: Option<Commanded>,
    /// The devices.
    pub devices: Vec<SimDevice>,
}

/// By whom MQTT devices are told what to do.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Commanded {
    /// The facility: `edge/JURISDICTION/REGION/FACILITY`.
    pub facility: String,
    /// The region's public key (Ed25519), in hexadecimal.
    #[serde(with = "key_hex")]
    pub region_key: [u8; 32],
    /// Folder of what the devices keep, monitors too.
    pub state: PathBuf,
}

/// A key as 64 hexadecimal digits.
mod key_hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(key: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
        let digits = key.iter().map(|byte| format!("{byte:02x}"));
        serializer.serialize_str(&digits.collect::<String>())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
        let text = String::deserialize(deserializer)?;
        let byte = |at: usize| u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok();
        let bytes: Option<Vec<u8>> = (0..32).map(byte).collect();
        let bytes = bytes.filter(|_| text.len() == 64);
        let key = bytes.and_then(|bytes| bytes.try_into().ok());
        key.ok_or_else(|| D::Error::custom("64 hexadecimal digits"))
    }
}

const fn default_sample_every_ms() -> i64 {
    5_000
}

const fn default_unit_id() -> u8 {
    1
}

/// What the devices emit.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, tag = "kind", rename_all = "kebab-case")]
pub enum Source {
    /// A physiological simulator.
    Physiology,
    /// ICU stays of the PhysioNet/CinC Challenge 2012: one bed per stay, the next stay when one ends.
    Physionet {
        /// `set-a.tar.gz`.
        archive: PathBuf,
        /// `Outcomes-a.txt`: what became of each stay is emitted at its end. Nothing is without it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        outcomes: Option<PathBuf>,
        /// For each bed of the facility, the stays (positions in the archive) that it replays one after another.
        beds: Vec<BedStays>,
    },
    /// Raw register values of a bedside monitor, one row a minute.
    Numerics {
        /// `s00001-first16h.csv`.
        csv: PathBuf,
    },
}

/// The stays of one bed.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BedStays {
    /// The bed.
    pub bed: String,
    /// `RecordID`s in order; the stay's patient id in the facility is `p-` and the RecordID.
    pub stays: Vec<u32>,
}

/// One simulated device.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SimDevice {
    /// Its name in certificates and topics.
    pub id: DeviceId,
    /// What it is.
    pub kind: DeviceKind,
    /// The bed it stands at (a monitor); an analyser serves every bed.
    #[serde(default)]
    pub bed: Option<String>,
    /// Modbus TCP address to serve on.
    #[serde(default)]
    pub listen: Option<SocketAddr>,
    /// Path of the pty's symbolic link to serve Modbus RTU on; devices that name the same path share the bus.
    #[serde(default)]
    pub pty: Option<PathBuf>,
    /// Modbus unit id.
    #[serde(default = "default_unit_id")]
    pub unit_id: u8,
    /// Client certificate (PEM) of an MQTT device.
    #[serde(default)]
    pub cert: Option<PathBuf>,
    /// Client key (PKCS#8 PEM) of an MQTT device.
    #[serde(default)]
    pub key: Option<PathBuf>,
}
