//! Certificates that must not be taken, shown to a running region and to a running broker: each is refused with a
//! clear word and counted, and whoever is in order goes on.
use anyhow::{Context, Result, ensure};
use federation::{
    identity::{Identity, Peer},
    pki::{self, Ca, LOCAL_NAMES},
    wire::Parcel,
};
use medmesh_tests::{
    mesh::{self, Mesh},
    mqtt::Device,
    rogue::{self, Rogue},
    wait,
};
use node::clock::Clock;
use rcgen::{CertificateParams, Issuer, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde_json::{Value, json};
use std::{fs, path::PathBuf};
use types::{Secret, Timestamp};

/// For a loaded machine; a revocation takes effect within a second.
/// Longer ago than any certificate is valid.
const LONG_AGO_DAYS: i32 = -400;

#[test]
fn expired_revoked_and_foreign_certificates_are_refused_and_counted_and_others_are_served()
-> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(certificates())
}

async fn certificates() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mesh = Mesh::up(dir.path(), &["--facilities", "1", "--speed", "20x"]).await?;
    let office = Office::of(&mesh)?;
    at_the_region(&mesh, &office).await?;
    at_the_broker(&mesh, &office).await?;
    others_are_served(&mesh).await?;
    mesh.stop().await
}

/// A certificate and its key.
struct Pair(PathBuf, PathBuf);

/// Where certificates for the test come from: the mesh's own authority.
struct Office {
    pki: PathBuf,
    out: PathBuf,
}

impl Office {
    fn of(mesh: &Mesh) -> Result<Self> {
        let (pki, out) = (mesh.dir.join("pki"), mesh.dir.join("odd"));
        fs::create_dir_all(&out)?;
        Ok(Self { pki, out })
    }

    fn write(&self, name: &str, cert: &str, key: &Secret<String>) -> Result<Pair> {
        let [cert_file, key_file] =
            ["pem", "key"].map(|end| self.out.join(format!("{name}.{end}")));
        pki::write_public(&cert_file, cert)?;
        pki::write_private(&key_file, key)?;
        Ok(Pair(cert_file, key_file))
    }

    /// As the authority would have issued it at another time.
    fn issue(&self, name: &str, uri: &str, at: Timestamp) -> Result<Pair> {
        Self::issue_by(&Ca::open(&self.pki)?, uri, at)
            .and_then(|(cert, key)| self.write(name, &cert, &key))
    }

    fn issue_by(ca: &Ca, uri: &str, at: Timestamp) -> Result<(String, Secret<String>)> {
        let identity: Identity = uri.parse()?;
        let mut rng = rand::rng();
        let key = tempfile::tempdir()?;
        let signing = pki::signing_key(&key.path().join("signing.key"), &mut rng)?;
        let (names, signing) = match identity {
            Identity::Node(_) => (&LOCAL_NAMES[..], Some(&signing)),
            Identity::Device { .. } => (&[][..], None),
        };
        let code = ca.invite(&identity, names, wait::PATIENCE, at, &mut rng)?;
        let new = pki::new_key_and_csr(&identity, signing)?;
        Ok((ca.enrol(&code, &new.csr_pem, at, &mut rng)?, new.key_pem))
    }

    /// Signed by the authority's key, with a name that it would never certify.
    fn foreign_name(&self, name: &str, uri: &str) -> Result<Pair> {
        let read = |file: &str| fs::read_to_string(self.pki.join(file));
        let issuer =
            Issuer::from_ca_cert_pem(&read("ca.pem")?, KeyPair::from_pem(&read("ca.key")?)?)?;
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(uri.try_into()?)];
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        self.write(
            name,
            &params.signed_by(&key, &issuer)?.pem(),
            &Secret::new(key.serialize_pem()),
        )
    }

    /// Signed by another authority for the name of one of ours.
    fn other_authority(&self, name: &str, uri: &str) -> Result<Pair> {
        let other = Ca::init(&self.out.join(format!("{name}-ca")), now())?;
        let (cert, key) = Self::issue_by(&other, uri, now())?;
        self.write(name, &cert, &key)
    }

    fn revoke(&self, mesh: &Mesh, Pair(cert, _): &Pair) -> Result<()> {
        let der =
            CertificateDer::from_pem_file(cert).map_err(|_| anyhow::anyhow!("no certificate"))?;
        let serial = Peer::from_cert(&der)?.serial.to_string();
        let pki = self.pki.to_string_lossy();
        mesh.medmesh_lines(&[
            "pki",
            "revoke",
            "--dir",
            &pki,
            &serial,
            "--reason",
            "key-compromise",
        ])?;
        Ok(())
    }
}

fn now() -> Timestamp {
    Clock::new(None).real()
}

fn long_ago() -> Timestamp {
    now().plus_days(LONG_AGO_DAYS)
}

/// Waits until a node has counted a refusal with this label.
async fn counted(mesh: &Mesh, url: &str, metric: &str, label: &str) -> Result<()> {
    let look =
        || async { (mesh.metric_where(url, metric, &[label]).await.ok()? >= 1.0).then_some(()) };
    wait::until(&format!("{metric} {label}"), wait::PATIENCE, look).await
}

/// A certificate that must not be taken, why, and the alert that says so (RFC 8446 §6.2).
struct Odd {
    reason: &'static str,
    alert: &'static str,
    pair: Pair,
}

impl Office {
    /// What may not pass for `own`: its certificate of long ago, one of a name that is none of the mesh's, one of
    /// another kind of holder, and one of another authority.
    fn odd(&self, own: &str, other_kind: &str) -> Result<[Odd; 4]> {
        let kind = own.split('/').nth(3).unwrap_or_default();
        let name = |what: &str| format!("{kind}-{what}");
        let odd = |reason, alert, pair| Odd {
            reason,
            alert,
            pair,
        };
        let foreign = own.replace("//medmesh/", "//other/");
        let (unknown, stranger) = (
            "CertificateUnknown",
            self.other_authority(&name("stranger"), own)?,
        );
        Ok([
            odd(
                "expired",
                "CertificateExpired",
                self.issue(&name("expired"), own, long_ago())?,
            ),
            odd(
                "identity",
                unknown,
                self.foreign_name(&name("foreign"), &foreign)?,
            ),
            odd(
                "identity",
                unknown,
                self.issue(&name("kind"), other_kind, now())?,
            ),
            // Which alert it is depends on what is wrong with the signature.
            odd("unknown-authority", "lert", stranger),
        ])
    }
}

/// A listener of a running node.
struct Listener<'a> {
    mesh: &'a Mesh,
    /// Its name in the metric.
    name: &'static str,
    metrics: &'a str,
}

impl Listener<'_> {
    /// Shows it odd certificates, and one that is revoked while it runs. `dial` says why it was not let in.
    async fn refuses(
        &self,
        office: &Office,
        (own, other_kind): (&str, &str),
        dial: impl AsyncFn(&Pair) -> Option<String>,
    ) -> Result<()> {
        for Odd {
            reason,
            alert,
            pair,
        } in office.odd(own, other_kind)?
        {
            let before = self.count(reason).await?;
            let refused = dial(&pair)
                .await
                .with_context(|| format!("{reason} was let in"))?;
            ensure!(refused.contains(alert), "{reason}: {refused}");
            let counted = || async { (self.count(reason).await.ok()? > before).then_some(()) };
            wait::until("the refusal is counted", wait::PATIENCE, counted).await?;
        }
        let revoked = office.issue(&format!("{}-revoked", self.name), own, now())?;
        ensure!(
            dial(&revoked).await.is_none(),
            "a good certificate was refused"
        );
        office.revoke(self.mesh, &revoked)?;
        let refused = || async {
            dial(&revoked)
                .await
                .filter(|it| it.contains("CertificateRevoked"))
        };
        wait::until(
            "the revoked certificate is refused",
            wait::PATIENCE,
            refused,
        )
        .await?;
        let counted = || async { (self.count("revoked").await.ok()? > 0.0).then_some(()) };
        wait::until(
            "the revoked certificate is counted",
            wait::PATIENCE,
            counted,
        )
        .await
    }

    async fn count(&self, reason: &str) -> Result<f64> {
        let labels = [
            format!("listener=\"{}\"", self.name),
            format!("reason=\"{reason}\""),
        ];
        let labels = [labels[0].as_str(), labels[1].as_str()];
        let metric = "medmesh_tls_refused_total";
        self.mesh.metric_where(self.metrics, metric, &labels).await
    }
}

async fn at_the_region(mesh: &Mesh, office: &Office) -> Result<()> {
    let json = mesh.json()?;
    let region = &json["regions"]["us"];
    let address = rogue::address(region["grpc"].as_str().context("grpc")?)?;
    let metrics = region["metrics"].as_str().context("metrics")?;
    let own = "spiffe://medmesh/edge/us/us/us-f7";
    let device = "spiffe://medmesh/device/us/us/us-f1/external-1";
    let dial = async |Pair(cert, key): &Pair| match Rogue::new(cert, key) {
        Ok(rogue) => rogue
            .dial(address)
            .await
            .err()
            .map(|error| format!("{error:?}")),
        Err(error) => Some(format!("{error:?}")),
    };
    let name = "link";
    let listener = Listener {
        mesh,
        name,
        metrics,
    };
    listener.refuses(office, (own, device), dial).await?;
    let other = "spiffe://medmesh/edge/us/us-two/us-f8";
    let Pair(cert, key) = office.issue("other-region", other, now())?;
    let ended = Rogue::new(&cert, &key)?
        .deliver(address, Parcel::default())
        .await?;
    ensure!(ended.code() == tonic::Code::PermissionDenied, "{ended:?}");
    counted(
        mesh,
        metrics,
        "medmesh_link_turned_away_total",
        "reason=\"other-region\"",
    )
    .await
}

async fn at_the_broker(mesh: &Mesh, office: &Office) -> Result<()> {
    let json = mesh.json()?;
    let facility = mesh::facility_of(&json, "us-f1")?;
    let metrics = facility["metrics"].as_str().context("metrics")?;
    let own = "spiffe://medmesh/device/us/us/us-f1/external-1";
    let node = "spiffe://medmesh/edge/us/us/us-f1";
    let dial = async |Pair(cert, key): &Pair| {
        let device = json!({"id": "external-1", "cert": cert, "key": key});
        let refused = Device::connect(&json, facility, &device).await.err();
        refused.map(|error| format!("{error:?}"))
    };
    let name = "mqtt";
    let listener = Listener {
        mesh,
        name,
        metrics,
    };
    listener.refuses(office, (own, node), dial).await?;
    let other = "spiffe://medmesh/device/eu/eu/eu-f1/external-1";
    let other = office.issue("other-facility", other, now())?;
    let refused = dial(&other)
        .await
        .context("a device of another region was let in")?;
    ensure!(refused.contains("NotAuthorized"), "{refused}");
    counted(
        mesh,
        metrics,
        "medmesh_mqtt_refused_total",
        "reason=\"identity\"",
    )
    .await
}

/// The broker and the region of all this go on.
async fn others_are_served(mesh: &Mesh) -> Result<()> {
    let json = mesh.json()?;
    let facility = mesh::facility_of(&json, "us-f1")?;
    let all = facility["devices"].as_array().context("devices")?;
    let external = all
        .iter()
        .find(|it| it["kind"] == "external")
        .context("external")?;
    let mut device = Device::connect(&json, facility, external).await?;
    let message: Value = json!({
        "epoch": 1, "seq": 1, "time": mesh.time()?, "patient": "in-order",
        "readings": [{"code": "2951-2", "value": "141.5", "unit": "mmol/L"}],
    });
    device.publish(&message).await?;
    let arrived = || async {
        let crosswalk = medmesh_tests::checker::Crosswalk::read(mesh, "us-f1").ok()?;
        let patient = crosswalk.patient("in-order")?;
        let query = format!("Observation?patient={patient}");
        (!mesh.search("us", &query).await.ok()?.is_empty()).then_some(())
    };
    wait::until("a device in order is served", wait::PATIENCE, arrived).await
}
