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
use storage::file::{PRIVATE, PUBLIC, create};
use types::{Place, Secret};

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

/// Runs `device enrol`. Nothing stays unless there is a certificate for the key.
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
    let https = Https::new(&args.ca).context("--ca")?;
    let new = pki::new_key_and_csr(&identity, None)?;
    let files = Files::make(&args.out, &new.key_pem)?;
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
    let cert = files.keep(pem)?;
    Ok(out::line(cert.display())?)
}

/// The key's file, and an empty one for its certificate: what could not be written is said before the code is used up. They
/// are gone again unless a certificate came.
struct Files {
    cert: PathBuf,
    made: Vec<PathBuf>,
}

impl Files {
    fn make(out: &Path, key: &Secret<String>) -> Result<Self> {
        let path = |end: &str| {
            let mut path = out.as_os_str().to_owned();
            path.push(end);
            PathBuf::from(path)
        };
        let mut files = Self {
            cert: path(".pem"),
            made: Vec::new(),
        };
        files.make_one(path(".key"), key.reveal(), PRIVATE)?;
        files.make_one(files.cert.clone(), "", PUBLIC)?;
        Ok(files)
    }

    fn make_one(&mut self, path: PathBuf, text: &str, mode: u32) -> Result<()> {
        let made = create(&path, text.as_bytes(), mode);
        ensure!(
            made.with_context(|| format!("--out: {}: cannot be written", path.display()))?,
            "--out: {}: exists, and is not written over",
            path.display()
        );
        self.made.push(path);
        Ok(())
    }

    /// With the certificate: its file.
    fn keep(mut self, pem: &str) -> Result<PathBuf> {
        pki::write_public(&self.cert, pem)?;
        self.made.clear();
        Ok(self.cert.clone())
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        for path in &self.made {
            let _stays_if_the_folder_is_gone = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn key() -> Secret<String> {
        Secret::new("a key".to_owned())
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
        let mut names: Vec<_> = entries
            .map(|entry| name(entry).into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn what_cannot_be_written_is_refused_before_the_code_is_used_up_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("lab-1.v2");
        for there in ["lab-1.v2.key", "lab-1.v2.pem"] {
            let path = dir.path().join(there);
            fs::write(&path, "of another device").unwrap();
            let said = Files::make(&out, &key()).err().unwrap().to_string();
            assert!(said.contains(&path.display().to_string()), "{said}");
            assert_eq!(names(dir.path()), [there]);
            assert_eq!(fs::read_to_string(&path).unwrap(), "of another device");
            fs::remove_file(path).unwrap();
        }
        let nowhere = Files::make(&dir.path().join("none/lab-1"), &key());
        let said = nowhere.err().unwrap().to_string();
        assert!(
            said.contains("--out: ") && said.contains("none/lab-1.key"),
            "{said}"
        );
    }

    #[test]
    fn the_key_is_there_before_the_region_is_asked_and_stays_with_its_certificate_alone() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("lab-1");
        let read = |end: &str| {
            let path = dir.path().join(end);
            let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            (fs::read_to_string(&path).unwrap(), mode)
        };
        let files = Files::make(&out, &key()).unwrap();
        assert_eq!(read("lab-1.key"), ("a key".to_owned(), PRIVATE));
        assert!(Files::make(&out, &key()).is_err(), "another one at once");
        assert_eq!(names(dir.path()), ["lab-1.key", "lab-1.pem"]);
        drop(files);
        assert!(names(dir.path()).is_empty());
        let files = Files::make(&out, &key()).unwrap();
        let cert = files.keep("a certificate").unwrap();
        assert_eq!(cert, dir.path().join("lab-1.pem"));
        assert_eq!(read("lab-1.key"), ("a key".to_owned(), PRIVATE));
        assert_eq!(read("lab-1.pem").0, "a certificate");
    }
}
