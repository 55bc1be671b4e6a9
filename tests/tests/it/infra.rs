//! The guide of `infra/` holds: its commands, carried out in a folder, make what its configurations ask for, and
//! systemd finds nothing wrong with its unit.
use anyhow::{Context, Result, ensure};
use medmesh_tests::binary;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

const INFRA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../infra");
/// With what a node signs receipts, below `/var/lib/medmesh`.
const SIGNING: &str = "data/signing.key";
const TIERS: [(&str, &str); 3] = [
    ("edge", "edge/us/us/us-f1"),
    ("regional", "regional/us/us"),
    ("global", "global"),
];

#[test]
fn a_node_enrols_by_request_and_code_and_its_example_configuration_has_no_problem() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let pki = dir.path().join("pki");
    medmesh(&["pki", "init", "--dir", text(&pki)])?;
    for (tier, place) in TIERS {
        let machine = Machine::new(dir.path().join(tier))?;
        machine.enrol(&pki, place)?;
        let file = machine.configure(tier)?;
        medmesh(&["check-config", "--kind", tier, text(&file)])?;
        machine.is_refused_with_files_of_another(&pki, tier, place, &file)?;
    }
    Ok(())
}

/// What a cloud's machines and a facility are given: the same templates as those of a mesh on one machine.
#[test]
#[cfg_attr(not(has_terraform), ignore = "terraform is not installed")]
fn the_configurations_that_terraform_makes_have_no_problem() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let pki = dir.path().join("pki");
    medmesh(&["pki", "init", "--dir", text(&pki)])?;
    let note = pki.join("device-models.note");
    medmesh(&["pki", "models", "--dir", text(&pki), "--out", text(&note)])?;
    for (tier, place) in TIERS {
        let machine = Machine::new(dir.path().join(tier))?;
        machine.enrol(&pki, place)?;
        machine.configure(tier)?;
        machine.publish(&pki)?;
        let rendered = rendered(tier, &dir.path().join("rendered").join(tier))?;
        let nodes = if tier == "regional" { 2 } else { 1 };
        ensure!(rendered.len() == nodes, "{tier}: {:?}", rendered.keys());
        for (node, config) in rendered {
            let file = machine.write(&format!("rendered-{tier}-{node}.toml"), &config)?;
            medmesh(&["check-config", "--kind", tier, text(&file)])?;
        }
    }
    Ok(())
}

/// What a tier's nodes read, by node: those of a region by `modules/region-nodes`, others by `modules/node-config`.
fn rendered(tier: &str, root: &Path) -> Result<BTreeMap<String, String>> {
    let source = Path::new(INFRA).join("terraform/modules");
    for part in ["node-config", "node-config/templates", "region-nodes"] {
        let to = root.join(part);
        fs::create_dir_all(&to)?;
        for file in fs::read_dir(source.join(part))? {
            let file = file?;
            if file.file_type()?.is_file() {
                fs::copy(file.path(), to.join(file.file_name()))?;
            }
        }
    }
    let (module, configs) = match tier {
        "regional" => (region_nodes(), json!("${module.it.configs}")),
        _ => (node_config(tier), json!({"one": "${module.it.toml}"})),
    };
    let root_module = json!({"module": {"it": module}, "output": {"configs": {"value": configs}}});
    fs::write(root.join("main.tf.json"), root_module.to_string())?;
    for arguments in [&["init"][..], &["apply", "-auto-approve"]] {
        terraform(root, arguments)?;
    }
    let configs = terraform(root, &["output", "-json", "configs"])?;
    serde_json::from_str(&configs).context("the configurations")
}

/// The two nodes of a region, as `modules/region` asks for them.
fn region_nodes() -> Value {
    json!({
        "source": "./region-nodes", "region": "us", "jurisdiction": "us", "domain": "us.example.org",
        "uplink_url": "https://global.example.org:7443", "enrolment": "/var/lib/medmesh/pki",
        "clients": [{"client_id": "fhir-reader", "kid": "fhir-reader-1", "public_key": "/var/lib/medmesh/fhir-reader.pem", "scope": "system/*.rs"}],
    })
}

/// A facility's node as `modules/edge-fleet`, the global one as `modules/global-node` asks for it.
fn node_config(tier: &str) -> Value {
    let facility = json!([
        {"id": "monitor-b1", "kind": "bedside-monitor", "bed": "b1", "profile": "medmesh-monitor", "address": "tcp://192.0.2.11:502"},
        {"id": "lab-1", "kind": "lab-analyser"},
    ]);
    let client = json!([{"client_id": "operator", "kid": "operator-1", "public_key": "/var/lib/medmesh/operator.pem", "scope": "mesh/*.rs"}]);
    let mut module = match tier {
        "edge" => json!({
            "place": {"jurisdiction": "us", "region": "us", "facility": "us-f1"}, "devices": facility,
            "uplink_url": "https://region.example.org:7443", "listen": {"https": "0.0.0.0:8443", "mqtt": "0.0.0.0:8883"},
            "dirs": {"config": "/var/lib/medmesh", "data": "/var/lib/medmesh/data", "authority": "/etc/medmesh"},
        }),
        _ => json!({
            "place": {}, "clients": client, "listen": {"https": "0.0.0.0:8443", "grpc": "0.0.0.0:7443"},
            "dirs": {"config": "/var/lib/medmesh", "data": "/var/lib/medmesh/data", "authority": "/var/lib/medmesh/published"},
        }),
    };
    module["source"] = json!("./node-config");
    module["tier"] = json!(tier);
    module["public_url"] = json!("https://node.example.org:8443");
    module
}

fn terraform(root: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new("terraform")
        .args(arguments)
        .current_dir(root)
        .env("TF_CLI_CONFIG_FILE", "/dev/null")
        .env("TF_INPUT", "0")
        .env("CHECKPOINT_DISABLE", "1")
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "terraform {arguments:?}: {said}");
    String::from_utf8(output.stdout).context("text")
}

/// The script of `modules/machine`, whose connection stays open as a balancer's does, with a curl that always succeeds and
/// with one that never does.
#[test]
fn a_balancer_is_told_in_the_clear_whether_the_node_can_serve() -> Result<()> {
    let script = Path::new(INFRA).join("terraform/modules/machine/templates/ready.sh");
    let path = std::env::var("PATH")?;
    for (curl, code) in [("/bin/true", "200"), ("/bin/false", "503")] {
        let dir = tempfile::tempdir()?;
        symlink(curl, dir.path().join("curl"))?;
        let mut child = Command::new("sh")
            .arg(&script)
            .env("PATH", format!("{}:{path}", dir.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut asked = child.stdin.take().context("a pipe")?;
        asked.write_all(b"GET /ready HTTP/1.1\r\nHost: balancer\r\n\r\n")?;
        let said = child.wait_with_output()?;
        let said = String::from_utf8(said.stdout)?;
        let head = format!("HTTP/1.1 {code} MedMesh\r\n");
        ensure!(said.starts_with(&head), "{curl}: {said:?}");
        ensure!(said.ends_with("\r\nConnection: close\r\n\r\n"), "{said:?}");
        drop(asked);
    }
    Ok(())
}

#[test]
fn a_code_signs_the_request_of_its_own_holder_once() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let pki = dir.path().join("pki");
    medmesh(&["pki", "init", "--dir", text(&pki)])?;
    let code = invite(&pki, "regional/us/us")?;
    let csr = |place: &str, out: &str| -> Result<PathBuf> {
        let out = dir.path().join(out);
        let key = out.with_extension("signing");
        request(place, &key, &out)?;
        Ok(out.with_extension("csr"))
    };
    let sign = |csr: &Path| sign(&pki, &code, csr);
    let another = csr("regional/eu/eu", "another")?;
    ensure!(sign(&another).is_err(), "a code signed another's request");
    let own = csr("regional/us/us", "own")?;
    ensure!(sign(&own)?.contains("BEGIN CERTIFICATE"), "no certificate");
    ensure!(sign(&own).is_err(), "a code was used twice");
    Ok(())
}

#[test]
#[cfg_attr(not(has_systemd), ignore = "systemd-analyze is not installed")]
fn systemd_finds_nothing_wrong_with_the_unit() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let unit = fs::read_to_string(Path::new(INFRA).join("systemd/medmesh@.service"))?;
    let binary = binary::medmesh();
    let unit = unit.replace("/usr/local/bin/medmesh", text(&binary));
    let file = dir.path().join("medmesh@edge.service");
    fs::write(&file, unit)?;
    let output = Command::new("systemd-analyze")
        .args(["verify", "--man=no", "--recursive-errors=no"])
        .arg(&file)
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success() && said.is_empty(), "{said}");
    Ok(())
}

/// A folder that stands for a node's machine.
struct Machine {
    etc: PathBuf,
    var: PathBuf,
}

impl Machine {
    fn new(root: PathBuf) -> Result<Self> {
        let (etc, var) = (root.join("etc"), root.join("var"));
        for folder in [&etc, &var] {
            fs::create_dir_all(folder.join("profiles"))?;
        }
        Ok(Self { etc, var })
    }

    fn enrol(&self, pki: &Path, place: &str) -> Result<()> {
        let (key, out) = (self.var.join(SIGNING), self.var.join("node"));
        request(place, &key, &out)?;
        let (code, csr) = (invite(pki, place)?, self.var.join("node.csr"));
        let cert = sign(pki, &code, &csr)?;
        fs::write(self.var.join("node.pem"), cert)?;
        fs::copy(pki.join("ca.pem"), self.etc.join("ca.pem"))?;
        let list = medmesh(&["pki", "crl", "--dir", text(pki)])?;
        fs::write(self.etc.join("crl.pem"), list)?;
        Ok(())
    }

    /// What a person brings to a machine in a cloud lies on its disk, and at a facility in `/etc/medmesh`.
    fn publish(&self, pki: &Path) -> Result<()> {
        let published = self.var.join("published");
        for folder in [&published, &self.var.join("pki")] {
            fs::create_dir_all(folder)?;
        }
        for file in ["device-models.note", "policy.pem"] {
            for folder in [&self.etc, &published] {
                fs::copy(pki.join(file), folder.join(file))?;
            }
        }
        for file in ["ca.pem", "crl.pem"] {
            fs::copy(self.etc.join(file), published.join(file))?;
        }
        for client in ["fhir-reader.pem", "operator.pem"] {
            fs::copy(self.etc.join(client), self.var.join(client))?;
        }
        fs::copy(pki.join("ca.pem"), self.var.join("postgres-ca.pem"))?;
        let url = self.var.join("postgres.url");
        let server = "host=db.example.org sslmode=require dbname=medmesh user=medmesh password=x";
        fs::write(&url, server)?;
        fs::set_permissions(&url, fs::Permissions::from_mode(0o600))?;
        Ok(())
    }

    /// Says what does not fit, with exit code 64, before anything starts: both when it is asked and when the node is
    /// started.
    fn is_refused_with_files_of_another(
        &self,
        pki: &Path,
        tier: &str,
        place: &str,
        file: &Path,
    ) -> Result<()> {
        let refused = |args: &[&str], key: &str| -> Result<()> {
            let output = Command::new(binary::medmesh()).args(args).output()?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(
                output.status.code() == Some(64) && said.contains(&format!("\n  {key}: ")),
                "{tier} without {key}: {:?} {said}",
                output.status
            );
            Ok(())
        };
        let both = |key: &str| -> Result<()> {
            refused(&["check-config", "--kind", tier, text(file)], key)?;
            refused(&[tier, "--config", text(file)], key)
        };
        let twin = Self::new(self.etc.with_file_name("twin"))?;
        twin.enrol(pki, place)?;
        let elsewhere = Self::new(self.etc.with_file_name("elsewhere"))?;
        elsewhere.enrol(pki, "regional/eu/eu")?;
        for (key, name, other) in [
            ("tls.key", "node.key", twin.var.join("node.key")),
            ("tls.cert", "node.pem", elsewhere.var.join("node.pem")),
        ] {
            let own = self.var.join(name);
            let kept = fs::read(&own)?;
            fs::write(&own, fs::read(other)?)?;
            both(key)?;
            fs::write(&own, kept)?;
        }
        let own = self.var.join(SIGNING);
        let kept = fs::read(&own)?;
        fs::write(&own, fs::read(twin.var.join(SIGNING))?)?;
        both("tls.signing_key")?;
        fs::write(&own, kept)?;
        medmesh(&["check-config", "--kind", tier, text(file)]).map(drop)
    }

    /// Writes what the configuration names beside the certificates, and the configuration.
    fn configure(&self, tier: &str) -> Result<PathBuf> {
        let profiles = Path::new(env!("CARGO_MANIFEST_DIR")).join("../edge/profiles");
        for profile in fs::read_dir(profiles)? {
            let profile = profile?;
            for folder in [&self.etc, &self.var] {
                fs::copy(
                    profile.path(),
                    folder.join("profiles").join(profile.file_name()),
                )?;
            }
        }
        let key = "5a".repeat(32);
        let url = "host=/run/postgresql dbname=medmesh user=medmesh";
        for (path, text) in [
            (self.var.join("facility.key"), key.as_str()),
            (self.etc.join("postgres.url"), url),
        ] {
            fs::write(&path, text)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        }
        for client in ["fhir-reader.pem", "operator.pem"] {
            let key = federation::pki::new_client_key()?.public_pem;
            fs::write(self.etc.join(client), key)?;
        }
        let name = format!("{tier}.toml");
        let example = fs::read_to_string(Path::new(INFRA).join("config").join(&name))?;
        self.write(&name, &example)
    }

    /// Writes a configuration, of which every path is of this machine.
    fn write(&self, name: &str, config: &str) -> Result<PathBuf> {
        let config = config
            .replace("/etc/medmesh", text(&self.etc))
            .replace("/var/lib/medmesh", text(&self.var));
        let file = self.etc.join(name);
        fs::write(&file, config)?;
        Ok(file)
    }
}

fn invite(pki: &Path, place: &str) -> Result<String> {
    let name = ["--name", "node.example.org"];
    let args = ["pki", "invite", "--dir", text(pki), "--node", place];
    Ok(medmesh(&[&args[..], &name].concat())?.trim().to_owned())
}

/// Draws keys: `OUT.key` and the request `OUT.csr`.
fn request(place: &str, key: &Path, out: &Path) -> Result<()> {
    let args = ["pki", "request", "--node", place, "--node-key", text(key)];
    medmesh(&[&args[..], &["--out", text(out)]].concat())?;
    Ok(())
}

/// The certificate that the authority gives for a code and a request.
fn sign(pki: &Path, code: &str, csr: &Path) -> Result<String> {
    let args = ["pki", "sign", "--dir", text(pki), "--code", code];
    medmesh(&[&args[..], &["--csr", text(csr)]].concat())
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
