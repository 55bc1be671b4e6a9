//! Certificates and keys of a local mesh: every node and device is invited with a one-time code and enrols with a
//! request, as it would anywhere. What is there already stays, unless it ends soon.
use super::{
    files,
    plan::{Client, Plan},
};
use anyhow::{Context, Result};
use federation::{
    identity::{Identity, Peer},
    models::{AUTHORITY, DeviceModels},
    pki::{self, Ca},
};
use node::config::ClientConfig;
use rand::RngCore;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};
use types::{Place, Secret, Timestamp};

/// An invitation is used at once.
const INVITATION: Duration = Duration::from_secs(60);
/// A certificate that ends within this many days is replaced at start.
const RENEW_DAYS: i32 = 30;

/// Makes what is missing: the authority, the certificates of all nodes and devices, the facilities' keys.
/// `made` is called after every certificate.
pub fn prepare(plan: &Plan, now: Timestamp, made: impl Fn()) -> Result<()> {
    let dir = plan.pki_dir();
    let ca = if dir.join("ca.pem").exists() {
        Ca::open(&dir)?
    } else {
        Ca::init(&dir, now)?
    };
    ca.crl_pem(now)?;
    device_models(plan)?;
    for place in plan.places() {
        enrol_node(&ca, plan, &place, now)?;
        made();
    }
    let global = plan.node_dir(&Place::Global);
    pki::publish_signing_key(&signing_key_file(&global), &study_key_file(plan))?;
    for (region, facility) in plan.facilities() {
        let dir = plan.node_dir(&region.edge(facility));
        fs::create_dir_all(dir.join("devices"))?;
        facility_key(&dir)?;
        for device in &facility.devices {
            let (cert, key) = device.pair(&dir);
            enrol_device(&ca, cert, key, region.device(facility, device), now)?;
            made();
        }
    }
    Ok(())
}

/// Makes the folder of a node and what it is known by, unless both are there and hold for a while.
pub fn enrol_node(ca: &Ca, plan: &Plan, place: &Place, now: Timestamp) -> Result<()> {
    let dir = plan.node_dir(place);
    fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    Holder::node(&dir, place.clone()).enrol(ca, now)
}

/// Makes what a device is known by, unless it is there and holds for a while.
pub fn enrol_device(
    ca: &Ca,
    cert: PathBuf,
    key: PathBuf,
    identity: Identity,
    now: Timestamp,
) -> Result<()> {
    Holder::device(cert, key, identity).enrol(ca, now)
}

/// What the simulated devices are called in the catalog.
pub const SIMULATOR: &str = "medmesh-simulator";

/// Signs the table of what the catalog may name: the simulated devices and their version.
fn device_models(plan: &Plan) -> Result<()> {
    let (key, _) = pki::note_authority(&plan.pki_dir(), AUTHORITY, &mut rand::rng())?;
    let labels = |text: &str| text.parse().ok();
    let models = DeviceModels::new(labels(SIMULATOR), labels(env!("CARGO_PKG_VERSION")));
    files::replace(&plan.device_models().note, models.sign(&key).as_bytes())
}

/// Certificate of a node, in its folder.
pub fn node_cert(dir: &Path) -> PathBuf {
    dir.join("node.pem")
}

/// TLS key of a node, in its folder.
pub fn node_key(dir: &Path) -> PathBuf {
    dir.join("node.key")
}

/// The key of a facility that wraps its store's data key.
pub fn facility_key_file(dir: &Path) -> PathBuf {
    dir.join("facility.key")
}

/// The key with which a node signs receipts and audit checkpoints.
pub fn signing_key_file(dir: &Path) -> PathBuf {
    dir.join("data").join("signing.key")
}

/// The public key of the global node, with which facilities check orders of studies.
pub fn study_key_file(plan: &Plan) -> PathBuf {
    plan.pki_dir().join("studies.pem")
}

/// Draws the key of a facility, unless there is one.
pub fn facility_key(dir: &Path) -> Result<()> {
    let path = facility_key_file(dir);
    if path.exists() {
        return Ok(());
    }
    let mut key = Secret::new([0_u8; 32]);
    rand::rng().fill_bytes(key.reveal_mut());
    let digits = key.reveal().iter().map(|byte| format!("{byte:02x}"));
    let text: Secret<String> = Secret::new(digits.collect());
    files::replace_secret(&path, text.reveal().as_bytes())
}

/// Who gets a certificate, and where it lies.
struct Holder {
    identity: Identity,
    cert: PathBuf,
    key: PathBuf,
    signing: Option<PathBuf>,
}

impl Holder {
    fn node(dir: &Path, place: Place) -> Self {
        Self {
            identity: Identity::Node(place),
            cert: node_cert(dir),
            key: node_key(dir),
            signing: Some(signing_key_file(dir)),
        }
    }

    fn device(cert: PathBuf, key: PathBuf, identity: Identity) -> Self {
        Self {
            identity,
            cert,
            key,
            signing: None,
        }
    }

    fn enrol(&self, ca: &Ca, now: Timestamp) -> Result<()> {
        if self.key.exists() && ends(&self.cert).is_some_and(|end| end > now.plus_days(RENEW_DAYS))
        {
            return Ok(());
        }
        let names: &[&str] = if self.signing.is_some() {
            &pki::LOCAL_NAMES
        } else {
            &[]
        };
        let mut rng = rand::rng();
        let code = ca.invite(&self.identity, names, INVITATION, now, &mut rng)?;
        let signing = match &self.signing {
            Some(path) => {
                fs::create_dir_all(path.parent().unwrap_or(path))?;
                Some(pki::signing_key(path, &mut rng)?)
            }
            None => None,
        };
        let new = pki::new_key_and_csr(&self.identity, signing.as_ref())?;
        let cert = ca.enrol(&code, &new.csr_pem, now, &mut rng)?;
        pki::write_private(&self.key, &new.key_pem)?;
        pki::write_public(&self.cert, &cert)?;
        Ok(())
    }
}

/// The end of a certificate's validity; none when there is no certificate.
fn ends(cert: &Path) -> Option<Timestamp> {
    let der = CertificateDer::from_pem_file(cert).ok()?;
    Some(Peer::from_cert(&der).ok()?.not_after)
}

/// The key pair of a client, made when it does not exist, and what servers know of it.
pub fn client(plan: &Plan, client: Client) -> Result<ClientConfig> {
    let dir = plan.clients_dir();
    fs::create_dir_all(&dir)?;
    let (private, public) = client.pair(&dir);
    if !private.exists() || !public.exists() {
        let key = pki::new_client_key()?;
        pki::write_public(&public, &key.public_pem)?;
        pki::write_private(&private, &key.private_pem)?;
    }
    Ok(ClientConfig {
        client_id: client.name.to_owned(),
        kid: client.kid(),
        public_key: public,
        scope: client.scope.to_owned(),
    })
}
