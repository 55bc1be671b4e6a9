//! The configuration files of a local mesh: what a node reads here it would read anywhere.
mod standing;

use super::{
    addresses::{Addresses, second},
    engines::Engines,
    files,
    identity::{
        SIMULATOR, facility_key_file, node_cert, node_key, signing_key_file, study_key_file,
    },
    plan::{Bus, CLIENTS, Client, Device, Facility, Plan, RESEARCHER, Region},
};
use anyhow::{Context, Result, bail, ensure};
use device_fw::sim::{
    self,
    config::{Commanded, SimConfig, SimDevice, Source},
};
use edge::config::{
    Approval, BedAssignment, DeviceConfig, EdgeConfig, FhirConfig, LearningConfig, MqttConfig,
    UplinkConfig,
};
use federation::pki::load_signing_key;
use fl::{consent::Allowance, ledger::Budget, privacy::Delta};
use global::config::GlobalConfig;
use node::config::{ClientConfig, HttpsConfig, LogConfig, TlsFiles, Urls};
use node::quantity::Span;
use node::trace::export::TelemetryConfig;
use regional::config::{
    EnrolmentConfig, MetricsConfig, OtherConfig, PairConfig, RegionalConfig, SubscriptionsConfig,
};
use std::{
    fs,
    path::{Path, PathBuf},
};
use types::{Jurisdiction, MeshClock, Place};

/// Rate of the serial lines, in baud; a pseudo terminal does not care.
const BAUD: u32 = 115_200;

/// Everything that configuration files are made of.
pub struct Configs<'a> {
    /// The mesh.
    pub plan: &'a Plan,
    /// Its listeners.
    pub addresses: &'a Addresses,
    /// Its clock.
    pub clock: MeshClock,
    /// What the devices of each facility emit, in the order of [`Plan::facilities`].
    pub sources: Vec<Source>,
    /// What servers know of each client, in the order of [`CLIENTS`].
    pub clients: Vec<ClientConfig>,
    /// What holds the stores of regions and of the catalog.
    pub engines: &'a Engines,
    /// How long facilities keep samples.
    pub retention: Span,
    /// URL of the collector of traces, and the share of samples that is traced.
    pub traces: Option<(String, f64)>,
}

/// The configuration file of a node, in its folder.
pub fn node_file(dir: &Path, place: &Place) -> PathBuf {
    dir.join(format!("{}.toml", place.tier()))
}

/// The configuration file of the second node of a region of two, in the folder of the first.
pub fn second_file(dir: &Path) -> PathBuf {
    dir.join("regional-b.toml")
}

/// The configuration file of a facility's simulated devices.
pub fn devices_file(dir: &Path) -> PathBuf {
    dir.join("devices.toml")
}

/// Exists once the replay of a facility is over.
pub fn done_file(dir: &Path) -> PathBuf {
    dir.join("replay.done")
}

impl Configs<'_> {
    /// Writes every file.
    pub fn write(&self) -> Result<()> {
        self.write_node(&Place::Global, self.global()?)?;
        for region in &self.plan.regions {
            self.write_node(&region.place(), self.regional(region)?)?;
            if self.plan.pairs {
                let file = second_file(&self.plan.node_dir(&region.place()));
                standing::write(&file, self.second(region)?)?;
            }
        }
        for ((region, facility), source) in self.plan.facilities().zip(&self.sources) {
            let place = region.edge(facility);
            let dir = self.plan.node_dir(&place);
            write_profiles(&dir.join("profiles"), source)?;
            let mut edge = self.edge(region, facility, source)?;
            if matches!(source, Source::Physiology) {
                standing::since_before(&node_file(&dir, &place), &mut edge.beds)?;
            }
            self.write_node(&place, edge)?;
            let devices = toml::to_string(&self.devices(region, facility, source)?)?;
            files::replace(&devices_file(&dir), devices.as_bytes())?;
        }
        Ok(())
    }

    fn write_node(&self, place: &Place, config: impl standing::Standing) -> Result<()> {
        standing::write(&node_file(&self.plan.node_dir(place), place), config)
    }

    fn global(&self) -> Result<GlobalConfig> {
        let place = Place::Global;
        let dir = self.plan.node_dir(&place);
        Ok(GlobalConfig {
            data_dir: dir.join("data"),
            tls: self.tls(&dir),
            authority: Some(self.plan.pki_dir()),
            https: self.https(&place)?,
            grpc_listen: self.addresses.of(&place, "grpc")?,
            store: self.engines.catalog_store(),
            log: LogConfig::default(),
            clock: Some(self.clock),
            clients: self.clients_of(|client| client.global),
            policies: None,
            device_models: Some(self.plan.device_models()),
            telemetry: self.telemetry(Jurisdiction::Us)?,
            local_mesh: true,
        })
    }

    fn regional(&self, region: &Region) -> Result<RegionalConfig> {
        let place = region.place();
        let dir = self.plan.node_dir(&place);
        Ok(RegionalConfig {
            jurisdiction: region.jurisdiction,
            region: region.id.clone(),
            data_dir: dir.join("data"),
            tls: self.tls(&dir),
            https: self.https(&place)?,
            grpc_listen: self.addresses.of(&place, "grpc")?,
            uplink_url: self.grpc_url(&Place::Global)?,
            store: self.engines.fhir_store(self.plan, region),
            pair: self.pair(region, ("a", &second))?,
            log: LogConfig::default(),
            clock: Some(self.clock),
            clients: self.clients_of(|_| true),
            research_clients: vec![RESEARCHER.to_owned()],
            policies: None,
            deid_profile: None,
            device_models: Some(self.plan.device_models()),
            metrics: Some(MetricsConfig {
                listen: self.addresses.of(&place, "metrics")?,
            }),
            enrolment: Some(EnrolmentConfig {
                authority: self.plan.pki_dir(),
            }),
            subscriptions: SubscriptionsConfig::default(),
            audit_events: regional::config::AuditEventsConfig::default(),
            rate: None,
            telemetry: self.telemetry(region.jurisdiction)?,
            local_mesh: true,
        })
    }

    /// The second node of a region: the same but for its addresses and its data.
    fn second(&self, region: &Region) -> Result<RegionalConfig> {
        let place = region.place();
        let at = |kind: &str| self.addresses.of(&place, &second(kind));
        Ok(RegionalConfig {
            data_dir: self.plan.node_dir(&place).join("data-b"),
            https: HttpsConfig::at(at("https")?),
            grpc_listen: at("grpc")?,
            pair: self.pair(region, ("b", &str::to_owned))?,
            metrics: Some(MetricsConfig {
                listen: at("metrics")?,
            }),
            ..self.regional(region)?
        })
    }

    /// What a node of a region of two knows of the other one, by the names of its listeners.
    fn pair(
        &self,
        region: &Region,
        (node, other): (&str, &dyn Fn(&str) -> String),
    ) -> Result<Option<PairConfig>> {
        if !self.plan.pairs {
            return Ok(None);
        }
        let at = |kind: &str| self.addresses.of(&region.place(), &other(kind));
        Ok(Some(PairConfig {
            node: format!("{}-{node}", region.id.as_str()),
            // It listens where it is reached.
            https: None,
            other: Some(OtherConfig {
                https: format!("https://{}", at("https")?),
                links: format!("https://{}", at("grpc")?),
            }),
        }))
    }

    /// Where a facility delivers to its region: at either node of two.
    fn uplink(&self, region: &Region) -> Result<Urls> {
        let first = self.grpc_url(&region.place())?;
        if !self.plan.pairs {
            return Ok(first.into());
        }
        let other = self.addresses.of(&region.place(), &second("grpc"))?;
        Ok(Urls::Several(vec![first, format!("https://{other}")]))
    }

    fn edge(&self, region: &Region, facility: &Facility, source: &Source) -> Result<EdgeConfig> {
        let place = region.edge(facility);
        let dir = self.plan.node_dir(&place);
        let devices: Result<_> = facility
            .devices
            .iter()
            .map(|device| self.device(&place, &dir, device))
            .collect();
        Ok(EdgeConfig {
            jurisdiction: region.jurisdiction,
            region: region.id.clone(),
            facility: facility.id.clone(),
            data_dir: dir.join("data"),
            key_file: facility_key_file(&dir),
            tls: self.tls(&dir),
            https: self.https(&place)?,
            log: LogConfig::default(),
            clock: Some(self.clock),
            mqtt: MqttConfig {
                listen: self.addresses.of(&place, "mqtt")?,
            },
            uplink: UplinkConfig {
                url: self.uplink(region)?,
            },
            store: edge::config::StoreConfig {
                retention: self.retention,
                ..edge::config::StoreConfig::default()
            },
            profiles: dir.join("profiles"),
            devices: devices?,
            beds: self.beds(facility, source)?,
            deid_profile: None,
            leases: None,
            policies: None,
            device_models: Some(self.plan.device_models()),
            view: None,
            fhir: FhirConfig::default(),
            learning: Some(learning(study_key_file(self.plan))?),
            telemetry: self.telemetry(region.jurisdiction)?,
            local_mesh: true,
        })
    }

    /// On one machine the collector is where every node is.
    fn telemetry(&self, jurisdiction: Jurisdiction) -> Result<Option<TelemetryConfig>> {
        let Some((otlp, ratio)) = self.traces.clone() else {
            return Ok(None);
        };
        let config = TelemetryConfig {
            otlp,
            jurisdiction,
            ratio,
            ca: None,
        };
        let problem = config.problems(jurisdiction).into_iter().next();
        problem.map_or(Ok(Some(config)), |problem| bail!("--otlp: {problem}"))
    }

    fn device(&self, place: &Place, dir: &Path, device: &Device) -> Result<DeviceConfig> {
        let address = match device.bus {
            Bus::Tcp => {
                let address = self.addresses.of(place, device.id.as_str())?;
                Some(format!("tcp://{address}"))
            }
            Bus::Rtu => Some(format!("rtu://{}?baud={BAUD}", pty(dir, device).display())),
            Bus::Mqtt => None,
        };
        Ok(DeviceConfig {
            id: device.id.clone(),
            kind: device.kind,
            serial: Some(format!(
                "SN-{}-{}",
                place.facility().map_or("", |f| f.as_str()),
                device.id.as_str()
            )),
            model: SIMULATOR.parse().ok(),
            firmware: env!("CARGO_PKG_VERSION").parse().ok(),
            bed: device.bed.clone(),
            profile: device.profile().map(str::to_owned),
            address,
            unit_id: 1,
        })
    }

    fn beds(&self, facility: &Facility, source: &Source) -> Result<Vec<BedAssignment>> {
        let origin = self.clock.mesh_origin;
        let assigned = sim::bed_assignments(source, origin, &facility.beds)?;
        let assignment = |assigned: sim::Assignment| BedAssignment {
            bed: assigned.bed,
            from: assigned.from.to_rfc3339(),
            patient: assigned.patient,
            name: None,
            mrn: None,
            birth_date: assigned.birth_year.map(|year| format!("{year:04}")),
            gender: assigned.gender.map(str::to_owned),
            height_cm: assigned.height_cm,
            weight_kg: assigned.weight_kg,
            care_unit: assigned.care_unit.map(|unit| unit.as_str().to_owned()),
        };
        Ok(assigned.into_iter().map(assignment).collect())
    }

    fn devices(&self, region: &Region, facility: &Facility, source: &Source) -> Result<SimConfig> {
        let place = region.edge(facility);
        let dir = self.plan.node_dir(&place);
        let device = |device: &Device| -> Result<SimDevice> {
            let (cert, key) = device.pair(&dir);
            let mqtt = device.bus == Bus::Mqtt;
            Ok(SimDevice {
                id: device.id.clone(),
                kind: device.kind,
                bed: device.bed.clone(),
                listen: match device.bus {
                    Bus::Tcp => Some(self.addresses.of(&place, device.id.as_str())?),
                    Bus::Rtu | Bus::Mqtt => None,
                },
                pty: (device.bus == Bus::Rtu).then(|| pty(&dir, device)),
                unit_id: 1,
                cert: mqtt.then_some(cert),
                key: mqtt.then_some(key),
            })
        };
        let devices: Result<_> = facility.devices.iter().map(device).collect();
        Ok(SimConfig {
            region: region.id.clone(),
            facility: facility.id.clone(),
            sent: dir.join("sent.ndjson"),
            done: done_file(&dir),
            clock: self.clock,
            mqtt: self.addresses.of(&place, "mqtt")?,
            ca: self.plan.pki_dir().join("ca.pem"),
            source: source.clone(),
            seed: seed(facility.id.as_str()),
            sample_every_ms: SAMPLE_EVERY_MS,
            control: None,
            commanded: Some(self.commanded(region, &place)?),
            devices: devices?,
        })
    }

    /// Who tells the facility's MQTT devices what to do.
    fn commanded(&self, region: &Region, place: &Place) -> Result<Commanded> {
        let key = signing_key_file(&self.plan.node_dir(&region.place()));
        let key = load_signing_key(&key)?;
        Ok(Commanded {
            facility: place.to_string(),
            region_key: key.verifying_key().to_bytes(),
            state: self.plan.node_dir(place).join("devices"),
        })
    }

    fn clients_of(&self, known: impl Fn(&Client) -> bool) -> Vec<ClientConfig> {
        let all = CLIENTS.iter().zip(&self.clients);
        all.filter(|(client, _)| known(client))
            .map(|(_, config)| config.clone())
            .collect()
    }

    fn tls(&self, dir: &Path) -> TlsFiles {
        let pki = self.plan.pki_dir();
        TlsFiles {
            ca: pki.join("ca.pem"),
            cert: node_cert(dir),
            key: node_key(dir),
            signing_key: signing_key_file(dir),
            crl: pki.join("crl.pem"),
        }
    }

    fn https(&self, place: &Place) -> Result<HttpsConfig> {
        Ok(HttpsConfig::at(self.addresses.of(place, "https")?))
    }

    fn grpc_url(&self, place: &Place) -> Result<String> {
        Ok(format!("https://{}", self.addresses.of(place, "grpc")?))
    }
}

/// Mesh milliseconds between two samples of simulated patients.
const SAMPLE_EVERY_MS: i64 = 1_000;

/// What the facilities of a local mesh let be learnt: everything that a hospital would decide by itself, so that studies
/// can be tried.
fn learning(coordinator: PathBuf) -> Result<LearningConfig> {
    Ok(LearningConfig {
        approval: Approval::Automatic,
        coordinator: Some(coordinator),
        budget: Budget {
            epsilon: LOCAL_EPSILON,
            delta: Delta::new(LOCAL_DELTA)?,
        },
        allow: Allowance {
            data: vec!["*".into(), Allowance::READINGS.into()],
            jurisdictions: Jurisdiction::ALL.to_vec(),
            minimum_records: 20,
            minimum_participants: 2,
            single_updates: true,
            without_privacy: true,
            judging: true,
            models: Allowance::every_model(),
            code: Vec::new(),
        },
    })
}

/// The budget of a facility of a local mesh, at [`LOCAL_DELTA`].
const LOCAL_EPSILON: f64 = 10.0;
const LOCAL_DELTA: f64 = 1e-5;

/// The link to the pseudo terminal of a device.
fn pty(dir: &Path, device: &Device) -> PathBuf {
    dir.join(format!("tty-{}", device.id.as_str()))
}

/// A seed of its own for every facility, the same in every run (FNV-1a, 32 bits: TOML integers are signed).
fn seed(name: &str) -> u64 {
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    u64::from(hash)
}

/// Charted stays have a value an hour and then no more: that is not a monitor that went silent.
const CHARTED_STALE_AFTER: &str = "stale_after = \"366d\"";

/// Writes the built-in device profiles as they fit what the devices emit.
pub fn write_profiles(dir: &Path, source: &Source) -> Result<()> {
    storage::file::private_dir(dir).with_context(|| dir.display().to_string())?;
    let charted = matches!(source, Source::Physionet { .. });
    for (name, text) in modbus::BUILT_IN {
        let line = |line: &str| match line.split_once('=') {
            Some((key, _)) if charted && key.trim() == "stale_after" => {
                CHARTED_STALE_AFTER.to_owned()
            }
            _ => line.to_owned(),
        };
        let text = text.lines().map(line).collect::<Vec<_>>().join("\n");
        files::replace(&dir.join(name), text.as_bytes())?;
    }
    Ok(())
}

/// Files of real data that devices replay.
pub struct Replay {
    /// An archive of stays, or the recording of a monitor.
    pub path: PathBuf,
    /// What became of the stays of an archive, if that is told.
    pub outcomes: Option<PathBuf>,
}

impl Replay {
    /// The files of a replay: outcomes lie beside their archive, or where it is said.
    ///
    /// # Errors
    /// When a file is not there.
    pub fn of(path: &Path, outcomes: Option<&Path>) -> Result<Self> {
        let real = |path: &Path| fs::canonicalize(path).with_context(|| path.display().to_string());
        let path = real(path)?;
        let outcomes = match outcomes {
            Some(told) => Some(real(told)?),
            None => sim::outcomes_beside(&path),
        };
        Ok(Self { path, outcomes })
    }
}

/// What every facility's devices emit.
pub fn sources(plan: &Plan, replay: Option<&Replay>, stays: Option<usize>) -> Result<Vec<Source>> {
    let count = plan.facilities().count();
    let Some(Replay { path, outcomes }) = replay else {
        return Ok(vec![Source::Physiology; count]);
    };
    if path.extension().is_some_and(|end| end == "csv") {
        ensure!(
            outcomes.is_none(),
            "--outcomes: are of an archive of stays, and a recording of a monitor is replayed"
        );
        return Ok(vec![Source::Numerics { csv: path.clone() }; count]);
    }
    let beds: Vec<Vec<String>> = plan.facilities().map(|(_, f)| f.beds.clone()).collect();
    let source = |beds| Source::Physionet {
        archive: path.clone(),
        outcomes: outcomes.clone(),
        beds,
    };
    Ok(sim::plan(path, &beds, stays)?
        .into_iter()
        .map(source)
        .collect())
}
