//! `medmesh pki`: the certificate authority in a folder.
mod lease;
mod models;

use super::argument::{by_argument, text_of};
use crate::{
    cli::pki::{
        EnrolArgs, InviteArgs, PkiArgs, PkiCommand, RequestArgs, RevokeArgs, RotateArgs, SignArgs,
    },
    failure::Failure,
    out,
    scratch::Scratch,
};
use anyhow::{Context, Result, anyhow, ensure};
use federation::{
    identity::{Identity, Serial},
    pki::{self, Ca, Issued, NewKey, Reason},
};
use node::clock::Clock;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde_json::json;
use std::{
    io::Write as _,
    path::{Path, PathBuf},
};
use types::{DeviceId, Place, Secret, Timestamp};

/// More than a key and a certificate have.
const ROOM_BYTES: usize = 64 << 10;

/// Runs the command.
pub fn run(args: PkiArgs) -> Result<(), Failure> {
    let now = Clock::new(None).real();
    let done = match args.command {
        PkiCommand::Init { dir } => init(&dir, now),
        PkiCommand::Invite(args) => invite(args, now),
        PkiCommand::Kit(args) => super::enrol::kit(&args),
        PkiCommand::Enrol(args) => enrol(&args, now),
        PkiCommand::Request(args) => request(args),
        PkiCommand::Sign(args) => sign(&args, now),
        PkiCommand::Rotate(args) => rotate(&args, now),
        PkiCommand::Revoke(args) => revoke(&args, now),
        PkiCommand::Lease(args) => lease::issue(&args, now),
        PkiCommand::Models(args) => models::issue(&args),
        PkiCommand::List { dir, json } => list(&dir, json),
        PkiCommand::Crl { dir } => crl(&dir, now),
    };
    Ok(done?)
}

fn init(dir: &Path, now: Timestamp) -> Result<()> {
    let ca = Ca::init(dir, now)?;
    Ok(out::line(ca.ca_path().display())?)
}

fn invite(args: InviteArgs, now: Timestamp) -> Result<()> {
    if args.device.is_some() && !args.names.is_empty() {
        return Err(anyhow!(
            "--name: nobody reaches a device by its certificate: it has no names"
        ));
    }
    let identity = identity_of(args.node, args.device)?;
    let names: Vec<&str> = args.names.iter().map(String::as_str).collect();
    let ca = Ca::open(&args.dir)?;
    let invited = ca.invite(&identity, &names, args.ttl.0, now, &mut rand::rng());
    let code = invited.map_err(by_argument)?;
    Ok(out::line(code.reveal())?)
}

fn identity_of(node: Place, device: Option<DeviceId>) -> Result<Identity> {
    match (node, device) {
        (place, None) => Ok(Identity::Node(place)),
        (
            Place::Edge {
                jurisdiction,
                region,
                facility,
            },
            Some(device),
        ) => Ok(Identity::Device {
            jurisdiction,
            region,
            facility,
            device,
        }),
        _ => Err(anyhow!("a device belongs to a facility: --node edge/…")),
    }
}

fn enrol(args: &EnrolArgs, now: Timestamp) -> Result<()> {
    let ca = Ca::open(&args.dir)?;
    let identity = identity_of(args.node.clone(), args.device.clone())?;
    no_key_there(&args.out)?;
    let room = room(&args.out)?;
    let new = new_key(&identity, args.node_key.as_deref(), None)?;
    let cert = ca.enrol(&args.code, &new.csr_pem, now, &mut rand::rng())?;
    drop(room);
    write_pair(&args.out, &new, &cert)
}

/// A key that is there may be the one of a running node's certificate: only [`rotate`] and a renewal put another in its place.
fn no_key_there(out: &Path) -> Result<()> {
    let key = with_end(out, ".key");
    ensure!(
        key.symlink_metadata().is_err(),
        "--out: {}: exists, and no key is written over: name another --out, or move it away",
        key.display()
    );
    Ok(())
}

/// Room for a key and a certificate beside `out`: that there is none is said before a code is used up, or a certificate
/// given that nobody has.
fn room(out: &Path) -> Result<Scratch> {
    let made = || {
        let name = out.file_name().context("it names no file")?;
        let folder = out.parent().filter(|it| !it.as_os_str().is_empty());
        let kind = format!(".{}.", name.to_string_lossy());
        let room = Scratch::file(folder.unwrap_or(Path::new(".")), (&kind, ".tmp"))?;
        room.writer()?.write_all(&[0; ROOM_BYTES])?;
        Ok::<_, anyhow::Error>(room)
    };
    made().with_context(|| format!("--out: {}: cannot be written", out.display()))
}

fn request(args: RequestArgs) -> Result<()> {
    let identity = identity_of(args.node, args.device)?;
    no_key_there(&args.out)?;
    let new = new_key(&identity, args.node_key.as_deref(), None)?;
    pki::write_private(&with_end(&args.out, ".key"), &new.key_pem)?;
    pki::write_public(&with_end(&args.out, ".csr"), &new.csr_pem)?;
    Ok(out::line(with_end(&args.out, ".csr").display())?)
}

fn sign(args: &SignArgs, now: Timestamp) -> Result<()> {
    let csr = text_of(&args.csr)?;
    let ca = Ca::open(&args.dir)?;
    let cert = ca.enrol(&args.code, &csr, now, &mut rand::rng())?;
    Ok(out::text(&cert)?)
}

fn rotate(args: &RotateArgs, now: Timestamp) -> Result<()> {
    let (cert, key) = (text_of(&args.cert)?, Secret::new(text_of(&args.key)?));
    let ca = Ca::open(&args.dir)?;
    let der = CertificateDer::from_pem_slice(cert.as_bytes())
        .map_err(|_| anyhow!("{} is not a certificate", args.cert.display()))?;
    let (identity, _) = Identity::from_cert(&der)?;
    let room = room(&args.out)?;
    let new = new_key(&identity, args.node_key.as_deref(), pki::tpm_of(&key))?;
    let proof = pki::rotation_proof(&key, &new.csr_pem)?;
    let cert = ca.rotate(&cert, &new.csr_pem, &proof, now, &mut rand::rng())?;
    drop(room);
    write_pair(&args.out, &new, &cert)
}

fn new_key(identity: &Identity, node_key: Option<&Path>, tpm: Option<PathBuf>) -> Result<NewKey> {
    let drawn = |path: &Path| -> Result<_> {
        // The data directory of a node that has not run yet.
        let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
        if let Some(folder) = folder {
            let made = storage::file::private_dir(folder);
            made.with_context(|| folder.display().to_string())?;
        }
        Ok(pki::signing_key(path, &mut rand::rng())?)
    };
    let signing = node_key.map(drawn).transpose()?;
    let rng = &mut rand::rng();
    Ok(pki::new_key_in(
        tpm.as_deref(),
        identity,
        signing.as_ref(),
        rng,
    )?)
}

fn write_pair(out: &Path, new: &NewKey, cert: &str) -> Result<()> {
    pki::write_private(&with_end(out, ".key"), &new.key_pem)?;
    pki::write_public(&with_end(out, ".pem"), cert)?;
    Ok(out::line(with_end(out, ".pem").display())?)
}

fn with_end(out: &Path, end: &str) -> PathBuf {
    let mut path = out.as_os_str().to_owned();
    path.push(end);
    PathBuf::from(path)
}

fn revoke(args: &RevokeArgs, now: Timestamp) -> Result<()> {
    let reason: Reason = args.reason.parse()?;
    if let Some(serial) = &args.serial {
        let serial: Serial = serial.parse()?;
        return Ok(Ca::open(&args.dir)?.revoke(&serial, reason, now)?);
    }
    let place = args.node.as_ref().context("say a serial, or --node")?;
    let revoked = Ca::open(&args.dir)?.revoke_place(place, reason, now)?;
    for issued in revoked {
        out::line(as_line(&issued))?;
    }
    Ok(())
}

fn list(dir: &Path, json: bool) -> Result<()> {
    let all = Ca::open(dir)?.list()?;
    out::none(all.is_empty() && !json, "no certificate was issued");
    for issued in all {
        out::line(if json {
            as_json(&issued)
        } else {
            as_line(&issued)
        })?;
    }
    Ok(())
}

fn as_json(issued: &Issued) -> String {
    let revoked = issued
        .revoked
        .as_ref()
        .map(|revoked| json!({"at": revoked.at.to_string(), "reason": revoked.reason.as_str()}));
    json!({
        "serial": issued.serial.to_string(),
        "identity": issued.identity.to_uri(),
        "names": issued.names,
        "not_before": issued.not_before.to_string(),
        "not_after": issued.not_after.to_string(),
        "revoked": revoked,
    })
    .to_string()
}

fn as_line(issued: &Issued) -> String {
    let state = issued.revoked.as_ref().map_or_else(
        || format!("until {}", issued.not_after),
        |revoked| format!("revoked {} ({})", revoked.at, revoked.reason),
    );
    format!("{}  {}  {state}", issued.serial, issued.identity)
}

fn crl(dir: &Path, now: Timestamp) -> Result<()> {
    Ok(out::text(&Ca::open(dir)?.crl_pem(now)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, time::Duration};

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    #[test]
    fn a_device_is_invited_without_the_names_that_only_a_node_has() {
        let dir = tempfile::tempdir().unwrap();
        let pki = dir.path().join("pki");
        Ca::init(&pki, NOW).unwrap();
        let invited = |device: Option<&str>, names: &[&str]| {
            let args = InviteArgs {
                dir: pki.clone(),
                node: "edge/us/us/us-f1".parse().unwrap(),
                device: device.map(|id| id.parse().unwrap()),
                names: names.iter().map(|name| (*name).to_owned()).collect(),
                ttl: "1d".parse().unwrap(),
            };
            invite(args, NOW).map_err(|error| error.to_string())
        };
        let error = invited(Some("lab-1"), &["lab.example.org"]).unwrap_err();
        assert!(error.starts_with("--name: "), "{error}");
        assert!(invited(Some("lab-1"), &[]).is_ok());
        assert!(invited(None, &["edge.example.org"]).is_ok());
    }

    #[test]
    fn a_code_is_good_as_long_as_there_is_nowhere_to_write_the_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let ca = Ca::init(&at("pki"), NOW).unwrap();
        let node: Place = "edge/us/us/us-f1".parse().unwrap();
        let identity = Identity::Node(node.clone());
        let day = Duration::from_secs(86_400);
        let code = ca.invite(&identity, &[], day, NOW, &mut rand::rng());
        let mut args = EnrolArgs {
            dir: at("pki"),
            node,
            device: None,
            code: code.unwrap(),
            node_key: Some(at("signing.key")),
            out: at("nowhere/node"),
        };
        let error = enrol(&args, NOW).unwrap_err();
        assert!(format!("{error:#}").starts_with("--out: "), "{error:#}");
        assert!(ca.list().unwrap().is_empty(), "nothing is given");
        assert!(!at("signing.key").exists(), "nothing is drawn");
        args.out = at("node");
        enrol(&args, NOW).unwrap();
        assert_eq!(ca.list().unwrap().len(), 1);
        let mut files: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|it| it.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        assert_eq!(files, ["node.key", "node.pem", "pki", "signing.key"]);
    }

    #[test]
    fn a_key_that_is_there_is_not_written_over_and_the_code_stays_good() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let ca = Ca::init(&at("pki"), NOW).unwrap();
        let node: Place = "edge/us/us/us-f1".parse().unwrap();
        let ask = || {
            request(RequestArgs {
                node: node.clone(),
                device: None,
                node_key: Some(at("signing.key")),
                out: at("node"),
            })
        };
        ask().unwrap();
        let (key, csr) = (fs::read(at("node.key")).unwrap(), at("node.csr"));
        fs::remove_file(&csr).unwrap();
        let error = ask().unwrap_err().to_string();
        assert!(error.contains("node.key: exists"), "{error}");
        assert!(!csr.exists(), "nothing is asked for");
        let day = Duration::from_secs(86_400);
        let identity = Identity::Node(node.clone());
        let mut args = EnrolArgs {
            dir: at("pki"),
            node: node.clone(),
            device: None,
            code: ca
                .invite(&identity, &[], day, NOW, &mut rand::rng())
                .unwrap(),
            node_key: Some(at("signing.key")),
            out: at("node"),
        };
        let error = enrol(&args, NOW).unwrap_err().to_string();
        assert!(error.contains("node.key: exists"), "{error}");
        assert_eq!(fs::read(at("node.key")).unwrap(), key);
        args.out = at("another");
        enrol(&args, NOW).unwrap();
    }
}
