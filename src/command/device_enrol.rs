//! `medmesh edge invite DEVICE` at a facility, and `medmesh device enrol` at the device: a device gets its certificate from
//! its own edge, with a one-time code.
use super::{local_api::LocalApi, node};
use crate::{
    cli::enrol::{DeviceEnrolArgs, InviteArgs},
    failure::Failure,
    https::Https,
    out,
};
use anyhow::{Context, Result, bail, ensure};
use edge::config::EdgeConfig;
use federation::{
    identity::{Identity, Peer},
    pki, tls,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
};
use types::Place;

/// Where an edge enrols its devices: as a region does its facilities.
const PATH: &str = regional::ENROLMENT_PATH;

/// Runs `edge invite`.
pub async fn invite(args: &InviteArgs) -> Result<(), Failure> {
    let config: EdgeConfig = node::read(&args.config)?;
    let body = json!({"device": args.device}).to_string();
    let invited = LocalApi::of(&config)?.post("devices/invite", &body).await?;
    if args.json {
        out::line(&invited)?;
        return Ok(());
    }
    let text = |key: &str| out::printable(invited[key].as_str().unwrap_or_default());
    out::line(format!("{}  until {}", text("code"), text("expires")))?;
    Ok(())
}

/// Runs `device enrol`. Nothing is written unless there is a certificate for the key.
pub async fn enrol(args: &DeviceEnrolArgs) -> Result<()> {
    storage::private::make_private();
    let Place::Edge {
        jurisdiction,
        region,
        facility,
    } = args.node.clone()
    else {
        bail!("--node: a device belongs to a facility: edge/JURISDICTION/REGION/FACILITY");
    };
    if let Some(problem) = ::node::config::url("--url", &args.url) {
        bail!("{problem}");
    }
    let identity = Identity::Device {
        jurisdiction,
        region,
        facility,
        device: args.device.clone(),
    };
    let paths = ensure_new(&args.out)?;
    let new = pki::new_key_and_csr(&identity, None)?;
    let https = Https::new(&args.ca).context("--ca")?;
    let body = json!({"code": args.code.reveal(), "csr": new.csr_pem}).to_string();
    let url = format!("{}{PATH}", args.url.trim_end_matches('/'));
    let headers = [("content-type", "application/json")];
    let (status, answer) = https.post(&url, &body, &headers).await?;
    let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
    if status != 200 {
        let why = answer["detail"].as_str().or(answer["error"].as_str());
        bail!(
            "{}: {status}: {}",
            args.url,
            why.unwrap_or("no reason given")
        );
    }
    let pem = answer["certificate"].as_str().unwrap_or_default();
    let is_ours = CertificateDer::from_pem_slice(pem.as_bytes()).is_ok_and(|der| {
        let peer = Peer::from_cert(&der);
        peer.is_ok_and(|peer| peer.identity == identity) && tls::is_pair(&der, &new.key_pem)
    });
    ensure!(
        is_ours,
        "{}: what came is not the certificate of {identity} for its key",
        args.url
    );
    let [key, cert] = paths;
    pki::write_private(&key, &new.key_pem)?;
    pki::write_public(&cert, pem)?;
    Ok(out::line(cert.display())?)
}

/// The files of key and certificate. What could not be written is said before the code is used up.
fn ensure_new(out: &Path) -> Result<[PathBuf; 2]> {
    let paths = ["key", "pem"].map(|end| {
        let mut path = out.as_os_str().to_owned();
        path.push(format!(".{end}"));
        PathBuf::from(path)
    });
    for path in &paths {
        ensure!(
            !fs::exists(path).with_context(|| format!("--out: {}", path.display()))?,
            "--out: {}: exists, and is not written over",
            path.display()
        );
    }
    let folder = match out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    ensure!(
        folder.is_dir(),
        "--out: {}: is no folder to write into",
        folder.display()
    );
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_written_is_refused_before_the_code_is_used_up() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("lab-1.v2");
        let [key, cert] = ensure_new(&out).unwrap();
        assert_eq!(key, dir.path().join("lab-1.v2.key"));
        assert_eq!(cert, dir.path().join("lab-1.v2.pem"));
        assert!(ensure_new(Path::new("lab-1-of-no-folder")).is_ok());
        for path in [key, cert] {
            fs::write(&path, "of another device").unwrap();
            let said = ensure_new(&out).unwrap_err().to_string();
            assert!(said.contains(&path.display().to_string()), "{said}");
            fs::remove_file(path).unwrap();
        }
        let nowhere = dir.path().join("none/lab-1");
        assert!(ensure_new(&nowhere).is_err());
    }
}
