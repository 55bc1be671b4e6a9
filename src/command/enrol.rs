//! `medmesh pki kit` at the authority's side and `medmesh edge enrol KIT` at the facility's: how a facility joins.
//!
//! The kit is one file: who the facility is, a one-time code, where its region is, and the authority by which it knows
//! that it is the region. The facility draws its keys on its own machine, and writes its whole folder or nothing.
use super::{argument::text_of, measure, nodes};
use crate::{
    cli::enrol::{EnrolArgs, KitArgs, RenewArgs},
    failure::Failure,
    https::Https,
    out,
    scratch::Scratch,
    up::{config::write_profiles, identity},
};
use anyhow::{Context, Result, anyhow, bail, ensure};
use device_fw::sim::config::Source;
use edge::config::{EdgeConfig, FhirConfig, MqttConfig, StoreConfig, UplinkConfig};
use federation::{
    identity::Identity,
    link::{look, renew::Renewing},
    pki::{self, Ca},
    tls::{ReloadingTls, paths},
    tpm::quote::Measured,
};
use node::{
    clock::Clock,
    config::{HttpsConfig, LogConfig, TlsFiles, different_ports},
};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};
use std::{
    fs,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};
use storage::file::{self, PRIVATE, private_dir};
use types::{Place, Secret, Timestamp};

/// The layout of a kit that this program writes and reads.
const FORMAT: u32 = 1;
/// Where a region enrols.
const PATH: &str = regional::ENROLMENT_PATH;
/// The longest kit: an authority's certificate and some lines.
const MAX_KIT_BYTES: u64 = 64 << 10;
/// The configuration in the folder.
const CONFIG: &str = "edge.toml";
/// What is kept free for the certificate and the revocation list, until these are there.
const ROOM_BYTES: usize = 256 << 10;
/// What is said when it failed after the region had signed.
const USED: &str = "the code of the kit is used up: ask for another kit";
/// The status of a region that wants to know what the machine has booted (RFC 6585 §3).
const TO_BE_ATTESTED: u16 = 428;

/// What a facility is given to join.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Kit {
    /// The layout.
    format: u32,
    /// Who the facility is.
    place: String,
    /// The one-time code.
    #[serde(serialize_with = "written")]
    code: Secret<String>,
    /// Until when it is good (RFC 3339).
    expires: String,
    /// `https://host:port` of its region, where it enrols.
    enrol: String,
    /// `https://host:port` of its region, where it delivers.
    uplink: String,
    /// The authority (PEM), by which the region is known.
    ca: String,
}

/// The kit is what a code is written into.
fn written<S: Serializer>(code: &Secret<String>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(code.reveal())
}

/// Runs `pki kit`.
pub fn kit(args: &KitArgs) -> Result<()> {
    let now = Clock::new(None).real();
    ensure!(
        matches!(args.node, Place::Edge { .. }),
        "--node: a kit is for a facility: edge/JURISDICTION/REGION/FACILITY"
    );
    for (key, url) in [("--enrol", &args.enrol), ("--uplink", &args.uplink)] {
        if let Some(problem) = node::config::url(key, url) {
            bail!("{problem}");
        }
    }
    let ca = Ca::open(&args.dir)?;
    let names: Vec<&str> = args.names.iter().map(String::as_str).collect();
    let identity = Identity::Node(args.node.clone());
    let measured = args.measured.as_deref().map(measured).transpose()?;
    let (ttl, rng) = (args.ttl.0, &mut rand::rng());
    let invited = ca.invite_measured(&identity, &names, ttl, measured, now, rng);
    let code = invited.map_err(super::argument::by_argument)?;
    let ttl_ms = i64::try_from(args.ttl.0.as_millis()).unwrap_or(i64::MAX);
    let kit = Kit {
        format: FORMAT,
        place: args.node.to_string(),
        code,
        expires: now.plus_ms(ttl_ms).to_rfc3339(),
        enrol: args.enrol.clone(),
        uplink: args.uplink.clone(),
        ca: ca.ca_pem().to_owned(),
    };
    Ok(out::line(serde_json::to_string_pretty(&kit)?)?)
}

/// What was measured of the facility's machine.
fn measured(path: &Path) -> Result<Measured> {
    let at = || format!("--measured: {}", path.display());
    let text = text_of(path).context("--measured")?;
    serde_json::from_str(&text)
        .context("it is not what `medmesh edge measure` prints")
        .with_context(at)
}

/// Runs `edge enrol`.
pub async fn enrol(args: &EnrolArgs) -> Result<(), Failure> {
    storage::private::make_private();
    let now = Clock::new(None).real();
    let (kit, place) = read(&args.kit, now)?;
    ensure_new(&args.dir)?;
    let dir = resolved(&args.dir)?;
    ensure_ports(args)?;
    say(&format!(
        "the kit is of {}, good until {}",
        kit.place, kit.expires
    ))?;
    let stage = Stage::beside(&dir)?;
    let joined = async {
        join(&kit, &place, args, stage.path()).await?;
        settle(&kit, &place, args, (stage.path(), &dir)).context(USED)
    };
    let ended = tokio::signal::ctrl_c();
    let done = tokio::select! {
        done = joined => done,
        _ = ended => Err(anyhow!("it was stopped; if the region had signed by then, {USED}")),
    };
    done.context("nothing was changed here")?;
    let config = args.dir.join("edge.toml");
    let node = nodes::checked(&config)?;
    say(&format!("{} is written and checked", config.display()))?;
    greet(&kit, &place, &node.tls).await?;
    say(&format!(
        "next: add devices to it, then medmesh edge --config {}",
        config.display()
    ))?;
    Ok(())
}

fn say(text: &str) -> Result<()> {
    Ok(out::line(text)?)
}

fn ensure_new(dir: &Path) -> Result<()> {
    let at = dir.display();
    match fs::read_dir(dir) {
        Ok(mut entries) => ensure!(
            entries.next().is_none(),
            "--dir: {at}: is not empty, and nothing in it is written over"
        ),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => bail!("--dir: {at}: is no folder to write into: {error}"),
    }
    Ok(())
}

/// The folder itself, where a link leads to it, and what it would have to be moved over for is said before the code is used up.
fn resolved(dir: &Path) -> Result<PathBuf> {
    let at = || format!("--dir: {}", dir.display());
    if !dir.exists() {
        let is_link = fs::symlink_metadata(dir).is_ok();
        ensure!(!is_link, "{}: is a link that leads nowhere", at());
        return Ok(std::path::absolute(dir)?);
    }
    let dir = dir.canonicalize().with_context(at)?;
    let device = |path: &Path| fs::metadata(path).map(|about| about.dev());
    let above = dir.parent().map(device).transpose().with_context(at)?;
    ensure!(
        above == Some(device(&dir).with_context(at)?),
        "{}: is a disk of its own: name a folder in it",
        at()
    );
    Ok(dir)
}

/// What the configuration would be refused for is said before the code is used up.
fn ensure_ports(args: &EnrolArgs) -> Result<()> {
    let wrong = different_ports(&[("--https", args.https), ("--mqtt", args.mqtt)]);
    match wrong.first() {
        Some(problem) => bail!("{problem}"),
        None => Ok(()),
    }
}

/// Reads a kit, and says what of it is wrong.
fn read(path: &Path, now: Timestamp) -> Result<(Kit, Place)> {
    let at = path.display();
    let mut bytes = Vec::new();
    let file = fs::File::open(path).with_context(|| at.to_string())?;
    let read = file.take(MAX_KIT_BYTES + 1).read_to_end(&mut bytes);
    let length = read.with_context(|| at.to_string())? as u64;
    ensure!(
        length <= MAX_KIT_BYTES,
        "{at}: is no kit: larger than 64 KiB"
    );
    String::from_utf8(bytes)
        .context("it is not JSON")
        .and_then(|text| parse(&text, now))
        .with_context(|| format!("{at}: is no kit that can be used"))
}

fn parse(text: &str, now: Timestamp) -> Result<(Kit, Place)> {
    let value: Value = serde_json::from_str(text).context("it is not JSON")?;
    for key in ["place", "code", "expires", "enrol", "uplink", "ca"] {
        ensure!(!value[key].is_null(), "{key}: is missing");
        ensure!(value[key].is_string(), "{key}: is no text");
    }
    ensure!(
        value["format"] == FORMAT,
        "format: is {}, this program knows {FORMAT}",
        value["format"]
    );
    let kit: Kit = serde_json::from_value(value).context("it has keys of another version")?;
    let place = kit.place.parse::<Place>().ok();
    let place = place.filter(|place| matches!(place, Place::Edge { .. }));
    let place = place.context("place: is no facility: edge/JURISDICTION/REGION/FACILITY")?;
    let expires = kit.expires.parse::<Timestamp>();
    let expires = expires.map_err(|error| anyhow!("expires: {error}"))?;
    let code = kit.code.reveal();
    let is_code = code.len() == 32 && code.bytes().all(|byte| byte.is_ascii_hexdigit());
    ensure!(is_code, "code: is 32 hexadecimal digits");
    for (key, url) in [("enrol", &kit.enrol), ("uplink", &kit.uplink)] {
        ensure!(
            node::config::url(key, url).is_none(),
            "{key}: is written https://host:port"
        );
    }
    let mut roots = RootCertStore::empty();
    let added = CertificateDer::from_pem_slice(kit.ca.as_bytes()).map(|der| roots.add(der));
    ensure!(matches!(added, Ok(Ok(()))), "ca: is no PEM certificate");
    ensure!(
        now < expires,
        "expires: it ended at {expires}; it is {now} here. Ask for a new one, or set this machine's clock"
    );
    Ok((kit, place))
}

/// Draws the keys, asks the region for the certificate, and lays the folder out at `dir`. Everything but what the region
/// answers is written first, and room is kept for that: a code is not used up by a disk that is full.
async fn join(kit: &Kit, place: &Place, args: &EnrolArgs, dir: &Path) -> Result<()> {
    private_dir(&dir.join("data"))?;
    write(&dir.join("ca.pem"), kit.ca.as_bytes(), file::PUBLIC)?;
    let https = Https::new(&dir.join("ca.pem")).context("ca")?;
    let signing = pki::signing_key(&identity::signing_key_file(dir), &mut rand::rng())?;
    let (me, tpm) = (Identity::Node(place.clone()), args.key_in_tpm);
    let tpm = tpm.then_some(args.tpm.as_path());
    let new = pki::new_key_in(tpm, &me, Some(&signing), &mut rand::rng())?;
    identity::facility_key(dir)?;
    pki::write_private(&identity::node_key(dir), &new.key_pem)?;
    write_profiles(&dir.join("profiles"), &Source::Physiology)?;
    write_config(kit, place, args, dir, &dir.join(CONFIG))?;
    let room = dir.join("room");
    write(&room, &[0; ROOM_BYTES], PRIVATE)?;
    say("keys are drawn; they stay on this machine")?;
    let answer = certified(kit, &https, &new.csr_pem, &args.tpm).await?;
    keep(&answer, dir, &room).context(USED)?;
    say("the region has signed the certificate")
}

/// Writes what the region has answered.
fn keep(answer: &Value, dir: &Path, room: &Path) -> Result<()> {
    let text = |key: &str| {
        answer[key]
            .as_str()
            .with_context(|| format!("the answer lacks {key}"))
    };
    fs::remove_file(room).with_context(|| room.display().to_string())?;
    pki::write_public(&identity::node_cert(dir), text("certificate")?)?;
    write(&dir.join("crl.pem"), text("crl")?.as_bytes(), file::PUBLIC)
}

/// Puts the folder in its place. Keys, chain and place belong together, or nothing is; what lies in it names where it will be.
fn settle(kit: &Kit, place: &Place, args: &EnrolArgs, (stage, dir): (&Path, &Path)) -> Result<()> {
    let config = stage.join(CONFIG);
    nodes::checked(&config)?;
    write_config(kit, place, args, dir, &config)?;
    // All of it is whoever owns the folder whose place it takes, once nothing more is written into it.
    let like = match dir.exists() {
        true => dir,
        false => dir.parent().unwrap_or(dir),
    };
    file::hand_over(stage, like)?;
    file::rename(stage, dir).with_context(|| dir.display().to_string())
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let written = file::replace(path, bytes, mode);
    written
        .map(drop)
        .with_context(|| path.display().to_string())
}

/// What the region answers to a request that it has granted.
async fn certified(kit: &Kit, https: &Https, csr_pem: &str, tpm: &Path) -> Result<Value> {
    let mut body = json!({"code": kit.code.reveal(), "csr": csr_pem});
    let (mut status, mut answer) = asked(kit, https, &body).await?;
    if status == TO_BE_ATTESTED {
        body["attestation"] = serde_json::to_value(measure::shown(tpm, &answer, csr_pem)?)?;
        say("the TPM has quoted what this machine has booted")?;
        (status, answer) = asked(kit, https, &body).await?;
    }
    if status != 200 {
        let why = answer["detail"].as_str().or(answer["error"].as_str());
        bail!(
            "{}: {status}: {}",
            kit.enrol,
            why.unwrap_or("no reason given")
        );
    }
    Ok(answer)
}

/// The status and the answer of the region.
async fn asked(kit: &Kit, https: &Https, body: &Value) -> Result<(u16, Value)> {
    let url = format!("{}{PATH}", kit.enrol);
    let headers = [("content-type", "application/json")];
    let sent = https.post(&url, &body.to_string(), &headers).await;
    let (status, answer) = sent.with_context(|| {
        format!(
            "{} does not answer as the region of the kit: address, network, certificate or a clock",
            kit.enrol
        )
    })?;
    Ok((status, serde_json::from_str(&answer).unwrap_or_default()))
}

fn write_config(kit: &Kit, place: &Place, args: &EnrolArgs, dir: &Path, to: &Path) -> Result<()> {
    let Place::Edge {
        jurisdiction,
        region,
        facility,
    } = place
    else {
        bail!("place: {place} is no facility");
    };
    let dir = std::path::absolute(dir)?;
    let config = EdgeConfig {
        jurisdiction: *jurisdiction,
        region: region.clone(),
        facility: facility.clone(),
        data_dir: dir.join("data"),
        key_file: identity::facility_key_file(&dir),
        tls: TlsFiles {
            ca: dir.join("ca.pem"),
            cert: identity::node_cert(&dir),
            key: identity::node_key(&dir),
            signing_key: identity::signing_key_file(&dir),
            crl: dir.join("crl.pem"),
        },
        https: HttpsConfig::at(args.https),
        log: LogConfig::default(),
        clock: None,
        mqtt: MqttConfig { listen: args.mqtt },
        uplink: UplinkConfig {
            url: kit.uplink.clone().into(),
        },
        store: StoreConfig::default(),
        profiles: dir.join("profiles"),
        devices: Vec::new(),
        beds: Vec::new(),
        policies: None,
        leases: None,
        deid_profile: None,
        device_models: None,
        view: None,
        fhir: FhirConfig::default(),
        learning: None,
        telemetry: None,
        local_mesh: false,
    };
    let mut table = toml::Table::try_from(&config)?;
    // Lists that are empty are written by whoever adds to them, one table for each entry.
    table.retain(|_, value| value.as_array().is_none_or(|all| !all.is_empty()));
    write(to, toml::to_string(&table)?.as_bytes(), PRIVATE)
}

/// Shows that the region takes the certificate where parcels go. That it does not answer there is no reason to enrol again.
async fn greet(kit: &Kit, place: &Place, tls: &TlsFiles) -> Result<()> {
    let Place::Edge {
        jurisdiction,
        region,
        ..
    } = place
    else {
        return Ok(());
    };
    let there = Place::Regional {
        jurisdiction: *jurisdiction,
        region: region.clone(),
    };
    let time = Arc::new(|| Clock::new(None).real());
    let tls = ReloadingTls::open(paths(tls), false, time)?;
    match look(&kit.uplink, &there, &tls).await {
        Ok(_) => say(&format!(
            "{there} answers at {} and takes the certificate",
            kit.uplink
        )),
        Err(error) => say(&format!(
            "{there} does not answer at {} yet: {error}",
            kit.uplink
        )),
    }
}

/// Runs `edge renew`.
pub async fn renew(args: &RenewArgs) -> Result<()> {
    storage::private::make_private();
    let node = nodes::checked(&args.config)?;
    let (urls, there) = node.uplink.context("the configuration is of no facility")?;
    let time = Arc::new(|| Clock::new(None).real());
    let renewing = Renewing {
        urls,
        there,
        tls: ReloadingTls::open(paths(&node.tls).keeping(&node.data_dir), false, time)?,
        cert: node.tls.cert,
        key: node.tls.key,
        signing: pki::load_signing_key(&node.tls.signing_key)?,
        turn: Arc::default(),
    };
    let until = renewing.renew().await?;
    say(&format!("the new certificate holds until {until}"))
}

/// A folder beside another one, that goes away with this unless it took that one's place, and folders above it that were not
/// there before.
struct Stage {
    scratch: Option<Scratch>,
    /// From the innermost on.
    above: Vec<PathBuf>,
}

impl Stage {
    fn beside(dir: &Path) -> Result<Self> {
        let name = dir.file_name().context("--dir names no folder")?;
        let folder = dir.parent().context("--dir names no folder")?;
        let missing = folder.ancestors().take_while(|at| !at.exists());
        let mut stage = Self {
            scratch: None,
            above: missing.map(Path::to_owned).collect(),
        };
        private_dir(folder).with_context(|| folder.display().to_string())?;
        let kind = format!(".{}.", name.to_string_lossy());
        stage.scratch = Some(Scratch::folder(folder, (&kind, ".enrolling"))?);
        Ok(stage)
    }

    fn path(&self) -> &Path {
        self.scratch.as_ref().map_or(Path::new(""), Scratch::path)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.scratch = None;
        for folder in &self.above {
            // One that holds something stays.
            let _holds_something = fs::remove_dir(folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority() -> String {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::init(&dir.path().join("pki"), Timestamp(1_000)).unwrap();
        ca.ca_pem().to_owned()
    }

    fn args(dir: &Path, https: &str, mqtt: &str) -> EnrolArgs {
        EnrolArgs {
            kit: dir.join("kit"),
            dir: dir.join("node"),
            https: https.parse().unwrap(),
            tpm: "/dev/null".into(),
            key_in_tpm: false,
            mqtt: mqtt.parse().unwrap(),
        }
    }

    #[test]
    fn what_would_be_refused_after_the_code_was_used_up_is_refused_before() {
        let dir = tempfile::tempdir().unwrap();
        let [one, other] = ["0.0.0.0:8443", "0.0.0.0:8883"];
        assert!(ensure_ports(&args(dir.path(), one, other)).is_ok());
        let same = ensure_ports(&args(dir.path(), one, one)).unwrap_err();
        assert!(same.to_string().contains("--mqtt"), "{same}");
        let node = dir.path().join("node");
        assert!(ensure_new(&node).is_ok());
        fs::write(&node, "a file").unwrap();
        assert!(ensure_new(&node).is_err(), "a file is no folder");
        fs::remove_file(&node).unwrap();
        fs::create_dir(&node).unwrap();
        assert!(ensure_new(&node).is_ok());
        fs::write(node.join("edge.toml"), "").unwrap();
        assert!(ensure_new(&node).is_err());
    }

    #[test]
    fn a_folder_is_found_behind_a_link_and_a_disk_is_none_that_anything_can_take_the_place_of() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let (real, link, nowhere) = (root.join("real"), root.join("link"), root.join("nowhere"));
        fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        std::os::unix::fs::symlink(root.join("gone"), &nowhere).unwrap();
        assert_eq!(resolved(&link).unwrap(), real);
        assert_eq!(resolved(&root.join("new")).unwrap(), root.join("new"));
        assert!(resolved(&nowhere).is_err());
        let disk = resolved(Path::new("/proc")).unwrap_err().to_string();
        assert!(disk.starts_with("--dir: /proc: is a disk"), "{disk}");
    }

    #[test]
    fn nothing_is_left_of_a_facility_that_did_not_join_and_all_of_one_that_did() {
        let dir = tempfile::tempdir().unwrap();
        let node = dir.path().join("a/b/node");
        drop(Stage::beside(&node).unwrap());
        assert!(!dir.path().join("a").exists());
        let stage = Stage::beside(&node).unwrap();
        fs::write(stage.path().join(CONFIG), "x").unwrap();
        file::rename(stage.path(), &node).unwrap();
        drop(stage);
        assert_eq!(fs::read_to_string(node.join(CONFIG)).unwrap(), "x");
        assert_eq!(fs::read_dir(dir.path().join("a/b")).unwrap().count(), 1);
    }

    #[test]
    fn a_kit_is_not_read_beyond_its_longest() {
        let endless = format!(
            "{:#}",
            read(Path::new("/dev/zero"), Timestamp(0)).err().unwrap()
        );
        assert!(endless.contains("larger than 64 KiB"), "{endless}");
    }

    #[test]
    fn what_is_wrong_with_a_kit_is_named_by_its_key() {
        let good = json!({
            "format": 1, "place": "edge/us/us/us-f9", "code": "0".repeat(32), "expires": Timestamp(2_000).to_rfc3339(),
            "enrol": "https://r.example.org:8443", "uplink": "https://r.example.org:7443",
            "ca": authority(),
        });
        assert!(parse(&good.to_string(), Timestamp(1_000)).is_ok());
        let says = |key: &str, value: Value| {
            let mut kit = good.clone();
            kit[key] = value;
            format!(
                "{:#}",
                parse(&kit.to_string(), Timestamp(1_000)).unwrap_err()
            )
        };
        for (key, value) in [
            ("format", json!(2)),
            ("place", json!("edge/us")),
            ("place", json!("global")),
            ("code", json!("xyz")),
            ("code", Value::Null),
            ("expires", json!("soon")),
            ("expires", json!(Timestamp(999).to_rfc3339())),
            ("expires", json!(Timestamp(1_000).to_rfc3339())),
            ("enrol", json!("http://r.example.org")),
            ("uplink", json!("r.example.org:7443")),
            ("ca", json!("no certificate")),
            ("ca", json!("-----BEGIN CERTIFICATE-----")),
            (
                "ca",
                json!("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            ),
            ("place", json!(5)),
            ("code", json!(7)),
            ("expires", json!([])),
            ("ca", json!({})),
        ] {
            let said = says(key, value.clone());
            assert!(said.contains(&format!("{key}:")), "{key} {value}: {said}");
        }
        assert!(says("more", json!(1)).contains("another version"));
        assert!(parse("{", Timestamp(0)).is_err());
    }
}
