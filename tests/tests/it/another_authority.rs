//! Another authority takes the place of the first one while a region and its facility run, step by step as
//! docs/operations.md says: no link ends, and who has a certificate of either is taken until the former one is trusted no more.
use crate::joining::{enrol, free};
use anyhow::{Context, Result, anyhow, ensure};
use federation::identity::Peer;
use medmesh_tests::{binary, node::Node, wait};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

const FORMER: &str = "pki";
const NEW: &str = "pki-2";
/// Each node by the name of its folder.
const REGION: (&str, &str) = ("region", "regional/us/us");
const FACILITY: (&str, &str) = ("facility", "edge/us/us/us-f1");
/// What the log of a node says of its link.
const UP: &str = "link up";
const DOWN: &str = "link down";

#[test]
fn another_authority_takes_the_place_of_the_first_one_and_no_link_ends() -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(rolled())
}

async fn rolled() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let folders = Folders {
        dir: dir.path().to_owned(),
        listens: [free()?, free()?],
    };
    let region = folders.region().await?;
    let facility = folders.facility().await?;
    let begun = Instant::now();
    medmesh(&["pki", "init", "--dir", text(&folders.at(NEW))])?;
    folders.trust(&[REGION.0, FACILITY.0], &[FORMER, NEW])?;
    let serial = folders.certify(NEW, REGION)?;
    said(&region, &serial).await?;
    ensure!(!facility.log().contains(DOWN), "{}", facility.log());
    // Who has a certificate of the former one dials who has one of the new one.
    region.kill()?;
    let region = linked(&facility, || folders.start_region(FORMER)).await?;
    let serial = folders.certify(NEW, FACILITY)?;
    said(&facility, &serial).await?;
    region.kill()?;
    let region = linked(&facility, || folders.start_region(NEW)).await?;
    let config = folders.at(FACILITY.0).join("edge.toml");
    medmesh(&["edge", "renew", "--config", text(&config)])?;
    println!(
        "both nodes are the new authority's: {:.2?}",
        begun.elapsed()
    );
    folders.trust(&[REGION.0, FACILITY.0], &[NEW])?;
    region.kill()?;
    facility.kill()?;
    let region = folders.start_region(NEW)?;
    let before = ups(&config.with_extension("log"));
    let facility = Node::by("edge", &config)?;
    let again = || async { (ups(&config.with_extension("log")) > before).then_some(()) };
    wait::until("a link by the new one alone", wait::PATIENCE, again).await?;
    println!("the former one is trusted no more: {:.2?}", begun.elapsed());
    facility.kill()?;
    region.kill()
}

struct Folders {
    dir: PathBuf,
    /// Of the region: where links arrive, and HTTPS.
    listens: [String; 2],
}

impl Folders {
    fn at(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A region with the former authority beside it.
    async fn region(&self) -> Result<Node> {
        medmesh(&["pki", "init", "--dir", text(&self.at(FORMER))])?;
        self.certify(FORMER, REGION)?;
        self.trust(&[REGION.0], &[FORMER])?;
        let region = self.start_region(FORMER)?;
        said(&region, "regional node serves").await?;
        Ok(region)
    }

    fn start_region(&self, authority: &str) -> Result<Node> {
        let (dir, config) = (self.at(REGION.0), self.at("regional.toml"));
        let (dir, authority) = (dir.display(), self.at(authority));
        let [links, https] = &self.listens;
        let text = format!(
            "jurisdiction = \"us\"\nregion = \"us\"\ndata_dir = \"{dir}/data\"\ngrpc_listen = \"{links}\"\n\
             uplink_url = \"https://127.0.0.1:1\"\n[tls]\nca = \"{dir}/ca.pem\"\ncert = \"{dir}/node.pem\"\n\
             key = \"{dir}/node.key\"\nsigning_key = \"{dir}/data/signing.key\"\ncrl = \"{dir}/crl.pem\"\n\
             [https]\nlisten = \"{https}\"\n[store]\nengine = \"sqlite\"\n[enrolment]\nauthority = \"{}\"\n",
            authority.display()
        );
        fs::write(&config, text)?;
        Node::by("regional", &config)
    }

    /// A facility that has joined with a kit, and its link.
    async fn facility(&self) -> Result<Node> {
        let [links, https] = self.listens.each_ref().map(|at| format!("https://{at}"));
        let (kit, dir) = (self.at("kit"), self.at(FACILITY.0));
        let pki = self.at(FORMER);
        let made = ["pki", "kit", "--dir", text(&pki), "--node", FACILITY.1];
        let at = ["--name", "127.0.0.1", "--enrol", &https, "--uplink", &links];
        fs::write(&kit, medmesh(&[&made[..], &at].concat())?)?;
        let (https, mqtt) = (free()?, free()?);
        let joined = enrol(&kit, &dir, &["--https", &https, "--mqtt", &mqtt])?;
        ensure!(joined.status.success(), "{joined:?}");
        let facility = Node::by("edge", &dir.join("edge.toml"))?;
        said(&facility, UP).await?;
        Ok(facility)
    }

    /// The certificates and the lists of authorities, for nodes: first those, then these.
    fn trust(&self, nodes: &[&str], authorities: &[&str]) -> Result<()> {
        for file in ["ca.pem", "crl.pem"] {
            let read = |of: &&str| fs::read_to_string(self.at(of).join(file));
            let all = authorities
                .iter()
                .map(read)
                .collect::<Result<String, _>>()?;
            for node in nodes {
                fs::write(self.at(node).join(file), &all)?;
            }
        }
        Ok(())
    }

    /// The next certificate of a node, as a person gets it from an authority: its number.
    fn certify(&self, authority: &str, (node, place): (&str, &str)) -> Result<String> {
        let (pki, dir, out) = (self.at(authority), self.at(node), self.at("next"));
        let key = dir.join("data/signing.key");
        let request = ["pki", "request", "--node", place, "--node-key", text(&key)];
        medmesh(&[&request[..], &["--out", text(&out)]].concat())?;
        let invite = ["pki", "invite", "--dir", text(&pki), "--node", place];
        let code = medmesh(&[&invite[..], &["--name", "127.0.0.1"]].concat())?;
        let csr = out.with_extension("csr");
        let sign = ["pki", "sign", "--dir", text(&pki), "--code", code.trim()];
        let pem = medmesh(&[&sign[..], &["--csr", text(&csr)]].concat())?;
        fs::copy(out.with_extension("key"), dir.join("node.key"))?;
        fs::remove_file(out.with_extension("key"))?;
        fs::write(dir.join("node.pem"), &pem)?;
        let der = CertificateDer::from_pem_slice(pem.as_bytes());
        let der = der.map_err(|_| anyhow!("no certificate"))?;
        Ok(Peer::from_cert(&der)?.serial.to_string())
    }
}

/// Waits until a node's log says something.
async fn said(node: &Node, what: &str) -> Result<()> {
    let says = || async { node.log().contains(what).then_some(()) };
    wait::until(what, wait::PATIENCE, says).await
}

/// Starts a region, and waits until the running facility has another link.
async fn linked(facility: &Node, start: impl FnOnce() -> Result<Node>) -> Result<Node> {
    let before = facility.log().matches(UP).count();
    let region = start()?;
    let again = || async { (facility.log().matches(UP).count() > before).then_some(()) };
    wait::until("another link", wait::PATIENCE, again).await?;
    Ok(region)
}

fn ups(log: &Path) -> usize {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.matches(UP).count()
}

/// Runs `medmesh ARGS` and gives what it prints.
fn medmesh(args: &[&str]) -> Result<String> {
    let output = Command::new(binary::medmesh()).args(args).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "medmesh {args:?}: {said}");
    String::from_utf8(output.stdout).context("text")
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}
