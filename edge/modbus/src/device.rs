//! A device of the facility, as the Modbus side knows it.
use types::{DeviceId, DeviceKind};

/// What the configuration says of a device, as far as it concerns Modbus.
#[derive(Clone, Debug)]
pub struct Device {
    /// Its name in certificates and topics.
    pub id: DeviceId,
    /// What it is.
    pub kind: DeviceKind,
    /// Name of its profile; none: it is no Modbus device.
    pub profile: Option<String>,
    /// Where it is reached ([`crate::Address`]); none: it is no Modbus device.
    pub address: Option<String>,
    /// Unit id: 0 to 255 on TCP, 1 to 247 on a serial line.
    pub unit_id: u8,
}
