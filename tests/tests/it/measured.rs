//! A machine with a TPM, of which a kit says what it boots: the kit is good there and nowhere else, and only while the
//! machine has booted that. The TPM is `swtpm` of Debian, which runs the reference code of TPM 2.0.
use super::joining::{enrol, free, made};
use anyhow::{Context, Result, ensure};
use medmesh_tests::{binary, mesh::Mesh, node::Node, wait};
use serde_json::{Value, json};
use std::{
    env, fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

const VARIABLE: &str = "MEDMESH_TEST_SWTPM";
const PLACE: &str = "edge/us/us/us-f8";
/// The registers that have to stay the same.
const REGISTERS: [u8; 4] = [0, 2, 4, 7];
/// What a machine measures into each: so many of that byte.
const IMAGE: u8 = 0x11;

#[test]
#[cfg_attr(
    not(asked_for_swtpm),
    ignore = "MEDMESH_TEST_SWTPM is not set: cargo xtask test sets it"
)]
fn a_kit_of_a_measured_machine_is_good_there_alone_and_while_it_boots_the_same() -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(measured())
}

async fn measured() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mesh = Mesh::up(dir.path(), &["--regions", "us", "--facilities", "1"]).await?;
    let machines = tempfile::tempdir()?;
    let at = |name: &str| machines.path().join(name);
    let first = Machine::starts(&at("first")).await?;
    says_nothing(&first, "register 0 ")?;
    first.measures(REGISTERS[0], IMAGE)?;
    says_nothing(&first, "register 2 ")?;
    for register in &REGISTERS[1..] {
        first.measures(*register, IMAGE)?;
    }
    let (measured, kit) = (at("us-f8.measured"), at("us-f8.kit"));
    fs::write(&measured, measure(&first)?)?;
    let measured = measured.to_string_lossy();
    fs::write(&kit, made(&mesh, PLACE, &["--measured", &measured])?)?;
    refuses(&kit, &at("none"), &at("no-tpm"), "No such file")?;
    let second = Machine::boots(&at("second")).await?;
    refuses(&kit, &at("other"), &second.socket, "another machine")?;
    first.measures(7, 0x5a)?;
    refuses(&kit, &at("changed"), &first.socket, "booted something else")?;
    drop(first);
    let first = Machine::boots(&at("first")).await?;
    ensure!(
        measure(&first)? == fs::read(at("us-f8.measured"))?,
        "a machine that boots the same is measured otherwise"
    );
    let node = at("node");
    let tpm = first.socket.to_string_lossy();
    let (https, mqtt) = (free()?, free()?);
    let listens = ["--https", &https, "--mqtt", &mqtt];
    let in_tpm = ["--tpm", &tpm, "--key-in-tpm"];
    let joined = enrol(&kit, &node, &[&listens[..], &in_tpm].concat())?;
    ensure!(joined.status.success(), "{joined:?}");
    let said = String::from_utf8_lossy(&joined.stdout);
    ensure!(said.contains("takes the certificate"), "{said}");
    let running = Node::by("edge", &node.join("edge.toml"))?;
    its_key_is_in_the_tpm(&node).await?;
    running.kill()?;
    refuses(&kit, &at("again"), &first.socket, "used before")?;
    let rows = mesh.listed("regional:us", ["audit", "list"])?;
    let found: Vec<_> = rows
        .iter()
        .filter(|row| row["decision"] == "enrolled" || row["decision"] == "enrolment-refused")
        .map(|row| (&row["from"], &row["reason"]))
        .collect();
    let who = json!(format!("spiffe://medmesh/{PLACE}"));
    let [none, not_shown, renewed, used] =
        ["", "attestation", "renewed", "used"].map(|text| json!(text));
    let (refused, joined) = ((&none, &not_shown), [(&who, &none), (&who, &renewed)]);
    ensure!(
        found == [&[refused, refused], &joined[..], &[(&none, &used)]].concat(),
        "{found:?}"
    );
    mesh.stop().await
}

/// The node shows its certificate to whoever looks at it, and gets the next one, and no file of it holds a key for TLS.
async fn its_key_is_in_the_tpm(node: &Path) -> Result<()> {
    let config = node.join("edge.toml");
    let medmesh = |args: &[&str]| -> Result<Output> {
        let mut command = Command::new(binary::medmesh());
        Ok(command.args(args).arg("--config").arg(&config).output()?)
    };
    let seen = || async {
        let seen = medmesh(&["status", "--json"]).ok()?;
        let seen: Value = serde_json::from_slice(&seen.stdout).ok()?;
        (seen["places"][0]["state"] != "down").then_some(())
    };
    wait::until("the node answers by HTTPS", wait::PATIENCE, seen).await?;
    let key = || fs::read_to_string(node.join("node.key"));
    let before = key()?;
    let renewed = medmesh(&["edge", "renew"])?;
    ensure!(renewed.status.success(), "{renewed:?}");
    let after = key()?;
    ensure!(before != after, "the key is the former one");
    for text in [before, after] {
        ensure!(
            text.starts_with("medmesh-tpm-key/1") && !text.contains("PRIVATE"),
            "the file of the key holds one"
        );
    }
    // Who looks takes the certificate of the file alone, the next one by now.
    wait::until("the node shows its next one", wait::PATIENCE, seen).await
}

/// The kit is not good with that TPM, and nothing is left of the attempt.
fn refuses(kit: &Path, dir: &Path, tpm: &Path, says: &str) -> Result<()> {
    let refused = enrol(kit, dir, &["--tpm", &tpm.to_string_lossy()])?;
    let why = String::from_utf8_lossy(&refused.stderr);
    ensure!(
        refused.status.code() == Some(1) && why.contains(says),
        "{says}: {refused:?}"
    );
    ensure!(!dir.exists(), "what was refused left something behind");
    Ok(())
}

/// `medmesh edge measure` on a machine.
fn asked(machine: &Machine) -> Result<Output> {
    let mut command = Command::new(binary::medmesh());
    let registers = REGISTERS.map(|it| it.to_string()).join(",");
    command.args(["edge", "measure", "--pcrs", &registers, "--tpm"]);
    Ok(command.arg(&machine.socket).output()?)
}

/// A kit would pin nothing by a register into which nothing was measured, which is named.
fn says_nothing(machine: &Machine, named: &str) -> Result<()> {
    let refused = asked(machine)?;
    let why = String::from_utf8_lossy(&refused.stderr);
    let is_refused = refused.status.code() == Some(1) && refused.stdout.is_empty();
    ensure!(is_refused && why.contains(named), "{named}: {refused:?}");
    Ok(())
}

fn measure(machine: &Machine) -> Result<Vec<u8>> {
    let measured = asked(machine)?;
    ensure!(measured.status.success(), "{measured:?}");
    Ok(measured.stdout)
}

/// The TPM of a machine, whose seeds stay in its folder from one boot to the next.
struct Machine {
    swtpm: Child,
    socket: PathBuf,
}

impl Machine {
    async fn boots(dir: &Path) -> Result<Self> {
        let machine = Self::starts(dir).await?;
        for register in REGISTERS {
            machine.measures(register, IMAGE)?;
        }
        Ok(machine)
    }

    /// Before it measures anything.
    async fn starts(dir: &Path) -> Result<Self> {
        let program = env::var_os(VARIABLE).with_context(|| format!("{VARIABLE} is not set"))?;
        fs::create_dir_all(dir)?;
        let socket = dir.join("tpm.sock");
        fs::remove_file(&socket).ok();
        let swtpm = Command::new(program)
            .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
            .arg("--tpmstate")
            .arg(format!("dir={}", dir.display()))
            .arg("--server")
            .arg(format!("type=unixio,path={}", socket.display()))
            .stdin(Stdio::null())
            .spawn()
            .context("swtpm")?;
        let machine = Self { swtpm, socket };
        let answers = || async { UnixStream::connect(&machine.socket).ok().map(drop) };
        wait::until("swtpm listens", wait::PATIENCE, answers).await?;
        Ok(machine)
    }

    /// `TPM2_PCR_Extend` of a register with a digest of SHA-256 (TPM 2.0 Library, Part 3 §22.2), each byte the same.
    fn measures(&self, register: u8, byte: u8) -> Result<()> {
        let mut command = vec![0x80, 0x02, 0, 0, 0, 65, 0, 0, 1, 0x82, 0, 0, 0, register];
        // Authorized by the empty password.
        command.extend([0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0]);
        command.extend([0, 0, 0, 1, 0, 0x0b]);
        command.extend([byte; 32]);
        ensure!(command.len() == 65, "{}", command.len());
        let mut socket = UnixStream::connect(&self.socket)?;
        socket.write_all(&command)?;
        let mut head = [0; 10];
        socket.read_exact(&mut head)?;
        ensure!(head[6..] == [0; 4], "{head:?}");
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.swtpm.kill().ok();
        self.swtpm.wait().ok();
    }
}
