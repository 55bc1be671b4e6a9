//! What a local mesh consists of, and where each part of it lies. Pure: nothing is read or written here.
use federation::{identity::Identity, models::AUTHORITY, signed_file::SignedFile};
use std::path::{Path, PathBuf};
use types::{DeviceId, DeviceKind, FacilityId, InvalidName, Jurisdiction, Place, RegionId};

/// What a mesh is to consist of.
#[derive(Clone, Debug)]
pub struct Extent {
    /// Its jurisdictions, each with a region of its own name.
    pub jurisdictions: Vec<Jurisdiction>,
    /// Facilities of each region.
    pub facilities: u8,
    /// Beds of each facility.
    pub beds: u8,
    /// Whether every region has two nodes.
    pub pairs: bool,
}

/// A client of the mesh.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// Its name, which is its client id.
    pub name: &'static str,
    /// What it may do.
    pub scope: &'static str,
    /// Whether the global node knows it; regional nodes know every client.
    pub global: bool,
}

/// The client that reads for research: nothing of patients who opted out is shown to it.
pub const RESEARCHER: &str = "fhir-researcher";

/// The clients of a local mesh.
pub const CLIENTS: [Client; 6] = [
    Client {
        name: "fhir-reader",
        scope: "system/*.rs",
        global: false,
    },
    Client {
        name: "fhir-writer",
        scope: "system/*.cruds mesh/import.c",
        global: false,
    },
    Client {
        name: RESEARCHER,
        scope: "system/*.rs",
        global: false,
    },
    Client {
        name: "operator",
        scope: "mesh/*.rs mesh/commands.c mesh/twins.u mesh/blobs.cd",
        global: true,
    },
    Client {
        name: "data-scientist",
        scope: "mesh/studies.crus",
        global: true,
    },
    Client {
        name: "clinical-approver",
        scope: "mesh/devices.rs mesh/commands.rs mesh/approvals.c",
        global: false,
    },
];

impl Client {
    /// The id of its key.
    pub fn kid(&self) -> String {
        format!("{}-1", self.name)
    }

    /// Its private key and its public key, below the folder of the clients.
    pub fn pair(&self, dir: &Path) -> (PathBuf, PathBuf) {
        let at = |end: &str| dir.join(format!("{}.{end}", self.name));
        (at("key"), at("pem"))
    }
}

/// A whole mesh in a folder.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The folder, absolute.
    pub dir: PathBuf,
    /// Its regions.
    pub regions: Vec<Region>,
    /// Whether each of them has two nodes.
    pub pairs: bool,
}

/// A region, with the name of its jurisdiction.
#[derive(Clone, Debug)]
pub struct Region {
    /// Whose law applies.
    pub jurisdiction: Jurisdiction,
    /// Its name.
    pub id: RegionId,
    /// Its facilities.
    pub facilities: Vec<Facility>,
}

/// A facility.
#[derive(Clone, Debug)]
pub struct Facility {
    /// Its name.
    pub id: FacilityId,
    /// Its beds.
    pub beds: Vec<String>,
    /// Its devices.
    pub devices: Vec<Device>,
}

/// A device.
#[derive(Clone, Debug)]
pub struct Device {
    /// Its name.
    pub id: DeviceId,
    /// What it is.
    pub kind: DeviceKind,
    /// The bed it stands at.
    pub bed: Option<String>,
    /// How it is connected.
    pub bus: Bus,
}

/// How a device is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bus {
    /// Modbus TCP.
    Tcp,
    /// Modbus RTU on a pseudo terminal.
    Rtu,
    /// MQTT.
    Mqtt,
}

impl Plan {
    /// A mesh of that extent in a folder.
    pub fn new(dir: PathBuf, extent: &Extent) -> Result<Self, InvalidName> {
        let regions: Result<_, _> = extent
            .jurisdictions
            .iter()
            .map(|jurisdiction| Region::new(*jurisdiction, extent))
            .collect();
        Ok(Self {
            dir,
            regions: regions?,
            pairs: extent.pairs,
        })
    }

    /// Every facility with its region.
    pub fn facilities(&self) -> impl Iterator<Item = (&Region, &Facility)> {
        let of = |region| move |facility| (region, facility);
        self.regions
            .iter()
            .flat_map(move |region| region.facilities.iter().map(of(region)))
    }

    /// The folder of a node.
    pub fn node_dir(&self, place: &Place) -> PathBuf {
        match place {
            Place::Edge { facility, .. } => self.dir.join("edge").join(facility.as_str()),
            Place::Regional { region, .. } => self.dir.join("regional").join(region.as_str()),
            Place::Global => self.dir.join("global"),
        }
    }

    /// The signed table of what the catalog may name.
    pub fn device_models(&self) -> SignedFile {
        let dir = self.pki_dir();
        SignedFile {
            note: dir.join("device-models.note"),
            authority: dir.join(format!("{AUTHORITY}.pem")),
        }
    }

    /// Certificate and key of a device, below the folder of its facility.
    pub fn device_pair(facility_dir: &Path, device: &DeviceId) -> (PathBuf, PathBuf) {
        let at = |end: &str| {
            facility_dir
                .join("devices")
                .join(format!("{}.{end}", device.as_str()))
        };
        (at("pem"), at("key"))
    }

    /// The folder of the certificate authority.
    pub fn pki_dir(&self) -> PathBuf {
        self.dir.join("pki")
    }

    /// The folder of the clients' keys.
    pub fn clients_dir(&self) -> PathBuf {
        self.dir.join("clients")
    }

    /// Every node, the global one first.
    pub fn places(&self) -> Vec<Place> {
        let regional = self.regions.iter().map(Region::place);
        let edges = self
            .facilities()
            .map(|(region, facility)| region.edge(facility));
        [Place::Global]
            .into_iter()
            .chain(regional)
            .chain(edges)
            .collect()
    }
}

impl Region {
    fn new(jurisdiction: Jurisdiction, extent: &Extent) -> Result<Self, InvalidName> {
        let name = jurisdiction.as_str();
        let facilities: Result<_, _> = (1..=extent.facilities)
            .map(|number| Facility::new(&format!("{name}-f{number}"), extent.beds))
            .collect();
        Ok(Self {
            jurisdiction,
            id: name.parse()?,
            facilities: facilities?,
        })
    }

    /// Where the regional node stands.
    pub fn place(&self) -> Place {
        Place::Regional {
            jurisdiction: self.jurisdiction,
            region: self.id.clone(),
        }
    }

    /// Where the node of one of its facilities stands.
    pub fn edge(&self, facility: &Facility) -> Place {
        Place::Edge {
            jurisdiction: self.jurisdiction,
            region: self.id.clone(),
            facility: facility.id.clone(),
        }
    }

    /// Who a device of one of its facilities is.
    pub fn device(&self, facility: &Facility, device: &Device) -> Identity {
        Identity::Device {
            jurisdiction: self.jurisdiction,
            region: self.id.clone(),
            facility: facility.id.clone(),
            device: device.id.clone(),
        }
    }
}

impl Facility {
    /// A monitor at every bed, the last one on a serial line; a probe in the cold store; an analyser; a device for
    /// outsiders.
    fn new(name: &str, beds: u8) -> Result<Self, InvalidName> {
        let beds: Vec<String> = (1..=beds).map(|number| format!("b{number}")).collect();
        let mut devices = Vec::new();
        for (index, bed) in beds.iter().enumerate() {
            let bus = if index + 1 == beds.len() {
                Bus::Rtu
            } else {
                Bus::Tcp
            };
            devices.push(Device {
                bed: Some(bed.clone()),
                ..Device::new(&format!("monitor-{bed}"), DeviceKind::BedsideMonitor, bus)?
            });
        }
        devices.push(Device::new(
            "cold-chain-1",
            DeviceKind::ColdChain,
            Bus::Tcp,
        )?);
        devices.push(Device::new("lab-1", DeviceKind::LabAnalyser, Bus::Mqtt)?);
        devices.push(Device::new("external-1", DeviceKind::External, Bus::Mqtt)?);
        Ok(Self {
            id: name.parse()?,
            beds,
            devices,
        })
    }
}

impl Device {
    fn new(id: &str, kind: DeviceKind, bus: Bus) -> Result<Self, InvalidName> {
        Ok(Self {
            id: id.parse()?,
            kind,
            bed: None,
            bus,
        })
    }

    /// The Modbus profile that describes its registers.
    pub fn profile(&self) -> Option<&'static str> {
        match self.kind {
            DeviceKind::BedsideMonitor => Some("medmesh-monitor"),
            DeviceKind::ColdChain => Some("xy-md02"),
            DeviceKind::LabAnalyser | DeviceKind::External => None,
        }
    }

    /// Certificate and key, below the folder of its facility.
    pub fn pair(&self, facility_dir: &Path) -> (PathBuf, PathBuf) {
        Plan::device_pair(facility_dir, &self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(facilities: u8, beds: u8) -> Extent {
        Extent {
            jurisdictions: Jurisdiction::ALL.to_vec(),
            facilities,
            beds,
            pairs: false,
        }
    }

    #[test]
    fn a_mesh_of_two_facilities_a_region_has_ten_nodes_and_42_devices() {
        let plan = Plan::new("/m".into(), &extent(2, 4)).unwrap();
        let places: Vec<String> = plan.places().iter().map(ToString::to_string).collect();
        assert_eq!(places.len(), 10);
        assert_eq!(
            (places[0].as_str(), places[1].as_str()),
            ("global", "regional/us/us")
        );
        assert!(
            places.contains(&"edge/apac/apac/apac-f2".to_owned()),
            "{places:?}"
        );
        assert_eq!(
            plan.facilities()
                .map(|(_, f)| f.devices.len())
                .sum::<usize>(),
            42
        );
    }

    #[test]
    fn every_facility_has_a_monitor_at_every_bed_and_one_on_a_serial_line() {
        let plan = Plan::new("/m".into(), &extent(1, 10)).unwrap();
        for (_, facility) in plan.facilities() {
            let beds: Vec<_> = facility
                .devices
                .iter()
                .filter_map(|d| d.bed.clone())
                .collect();
            assert_eq!(beds, facility.beds);
            let serial = facility
                .devices
                .iter()
                .filter(|d| d.bus == Bus::Rtu)
                .count();
            assert_eq!(serial, 1);
        }
    }
}
