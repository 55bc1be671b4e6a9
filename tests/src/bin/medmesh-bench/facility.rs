//! A facility's edge node to measure, as a process of its own: an authority, certificates of its devices and a
//! configuration such as `medmesh up` writes. No region listens, so that the edge alone is measured; outbox and audit
//! rows are written all the same.
use crate::node::Node;
use ::node::{
    clock::Clock,
    config::{HttpsConfig, LogConfig, TlsFiles},
};
use anyhow::Result;
use edge::config::{
    BedAssignment, DeviceConfig, EdgeConfig, MqttConfig, StoreConfig, UplinkConfig,
};
use federation::{
    identity::Identity,
    pki::{self, Ca},
};
use medmesh_tests::{binary, https::Https};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use tempfile::TempDir;
use types::{DeviceId, DeviceKind, Secret};

/// An invitation is used at once.
const INVITATION: Duration = Duration::from_secs(60);

/// A facility in a folder of its own.
pub struct Facility {
    dir: TempDir,
    ca: Ca,
    /// Where its broker listens.
    pub mqtt: SocketAddr,
    https: SocketAddr,
    config: EdgeConfig,
}

/// A running edge node.
pub struct Running {
    /// The process.
    pub node: Node,
    metrics: String,
    client: Https,
}

impl Facility {
    /// Prepares a facility with MQTT devices named `d1`, `d2`, ….
    pub fn new(mqtt_devices: usize) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let now = Clock::new(None).real();
        let ca = Ca::init(&dir.path().join("pki"), now)?;
        ca.crl_pem(now)?;
        let [mqtt, https, nobody] = free_addresses()?;
        let at = |name: &str| dir.path().join(name);
        pki::write_private(&at("facility.key"), &Secret::new("5a".repeat(32)))?;
        fs::create_dir(at("profiles"))?;
        for (name, text) in ::modbus::BUILT_IN {
            fs::write(at("profiles").join(name), text)?;
        }
        let devices = (1..=mqtt_devices).map(|number| device(&format!("d{number}")));
        let config = EdgeConfig {
            jurisdiction: "eu".parse()?,
            region: "eu".parse()?,
            facility: "eu-f1".parse()?,
            data_dir: at("data"),
            key_file: at("facility.key"),
            tls: TlsFiles {
                ca: ca.ca_path(),
                cert: at("node.pem"),
                key: at("node.key"),
                signing_key: at("signing.key"),
                crl: ca.crl_path(),
            },
            https: HttpsConfig::at(https),
            log: LogConfig::default(),
            clock: None,
            mqtt: MqttConfig { listen: mqtt },
            uplink: UplinkConfig {
                url: format!("https://{nobody}").into(),
            },
            store: StoreConfig::default(),
            profiles: at("profiles"),
            devices: devices.collect::<Result<_>>()?,
            beds: Vec::<BedAssignment>::new(),
            policies: None,
            leases: None,
            deid_profile: None,
            device_models: None,
            view: None,
            fhir: Default::default(),
            learning: None,
            telemetry: None,
            local_mesh: true,
        };
        let facility = Self {
            dir,
            ca,
            mqtt,
            https,
            config,
        };
        facility.enrol("node", "spiffe://medmesh/edge/eu/eu/eu-f1", true)?;
        for number in 1..=mqtt_devices {
            let id = format!("d{number}");
            facility.enrol(
                &id,
                &format!("spiffe://medmesh/device/eu/eu/eu-f1/{id}"),
                false,
            )?;
        }
        Ok(facility)
    }

    /// Its configuration, to be changed before the start.
    pub fn config(&mut self) -> &mut EdgeConfig {
        &mut self.config
    }

    /// A file of its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// PEM of its authority.
    pub fn ca(&self) -> PathBuf {
        self.ca.ca_path()
    }

    /// Certificate and key of a device, or of `node`.
    pub fn pair(&self, name: &str) -> (PathBuf, PathBuf) {
        let at = |end: &str| self.path(&format!("{name}.{end}"));
        (at("pem"), at("key"))
    }

    fn enrol(&self, name: &str, identity: &str, node: bool) -> Result<()> {
        let identity: Identity = identity.parse()?;
        let (now, mut rng) = (Clock::new(None).real(), rand::rng());
        let names: &[&str] = if node { &pki::LOCAL_NAMES } else { &[] };
        let signing = match node {
            true => Some(pki::signing_key(&self.config.tls.signing_key, &mut rng)?),
            false => None,
        };
        let code = self
            .ca
            .invite(&identity, names, INVITATION, now, &mut rng)?;
        let new = pki::new_key_and_csr(&identity, signing.as_ref())?;
        let cert = self.ca.enrol(&code, &new.csr_pem, now, &mut rng)?;
        let (cert_path, key_path) = self.pair(name);
        pki::write_private(&key_path, &new.key_pem)?;
        pki::write_public(&cert_path, &cert)?;
        Ok(())
    }

    /// Starts `medmesh edge` on an empty store and waits until its broker listens.
    pub async fn start(&self) -> Result<Running> {
        let data = &self.config.data_dir;
        if data.exists() {
            fs::remove_dir_all(data)?;
        }
        fs::create_dir(data)?;
        let (file, log) = (self.path("edge.toml"), self.path("edge.log"));
        pki::write_private(&file, &Secret::new(toml::to_string(&self.config)?))?;
        let mut command = Command::new(binary::medmesh());
        command.args(["edge", "--config"]).arg(&file);
        let mut node = Node::start(&mut command, &log)?;
        node.listening(self.mqtt, &log).await?;
        node.listening(self.https, &log).await?;
        Ok(Running {
            node,
            metrics: format!("https://{}/metrics", self.https),
            client: Https::new(&self.ca())?,
        })
    }
}

impl Running {
    /// Sum of a metric over its labels.
    pub async fn metric(&self, name: &str) -> Result<f64> {
        self.client.metric(&self.metrics, name, &[]).await
    }
}

fn device(id: &str) -> Result<DeviceConfig> {
    Ok(DeviceConfig {
        id: id.parse::<DeviceId>()?,
        kind: DeviceKind::External,
        serial: None,
        model: None,
        firmware: None,
        bed: None,
        profile: None,
        address: None,
        unit_id: 1,
    })
}

/// Addresses of 127.0.0.1 that were free just now, all different.
pub fn free_addresses<const N: usize>() -> Result<[SocketAddr; N]> {
    let mut held = Vec::with_capacity(N);
    let mut addresses = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); N];
    for address in &mut addresses {
        let listener = TcpListener::bind(*address)?;
        *address = listener.local_addr()?;
        held.push(listener);
    }
    Ok(addresses)
}

/// A folder's file as text for a configuration.
pub fn text(path: &Path) -> String {
    path.display().to_string()
}
