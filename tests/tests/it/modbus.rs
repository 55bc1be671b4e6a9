//! A device on the facility's line that answers with rubbish: it is counted and left alone, nothing false is stored,
//! and the facility's other devices are polled as before.
use anyhow::{Context, Result, ensure};
use medmesh_tests::{
    binary,
    mesh::{self, Mesh},
    wait,
};
use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};
use serde_json::Value;
use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

const SEED: u64 = 20_261_123;
/// Bad answers that must have been given before the test looks: each kind, and each recorded frame, several times.
const ANSWERS: usize = 120;
const FACILITY: &str = "edge:us-f1";
/// The device that babbles, and one that does not.
const BAD: &str = "monitor-b1";
const GOOD: &str = "monitor-b2";
/// What the edge says itself of a device that is silent.
const STALE: &str = "temp-unknown";
/// Registers of the time of the shown sample, in ms since 1970, and what they say: of 2026, so that it is plausible.
const TIME: std::ops::Range<usize> = 16..20;
const SAID_MS: u64 = 1_795_341_600_000;
/// Last register of the sample's sequence number: another one each time, so that none is taken for a duplicate.
const SEQUENCE: usize = 14;
/// A Modbus TCP request of these devices: a header of 7 bytes, function, address, count.
const REQUEST: usize = 12;

#[test]
fn rubbish_on_the_line_is_counted_never_stored_and_harms_no_other_device() -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(rubbish())
}

async fn rubbish() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mesh = Mesh::up(dir.path(), &["--facilities", "1", "--speed", "20x"]).await?;
    let babbler = Babbler::start(recorded()?)?;
    let flows = || async { (!values(&mesh, BAD).ok()?.is_empty()).then_some(()) };
    wait::until("the device is polled", wait::PATIENCE, flows).await?;
    turn(&mesh, babbler.address)?;
    let begun = || async { (babbler.bad.load(Ordering::Relaxed) > 0).then_some(()) };
    wait::until("the edge polls the babbler", wait::PATIENCE, begun).await?;
    let (before, others) = (values(&mesh, BAD)?, values(&mesh, GOOD)?.len());
    let enough = || async { (babbler.bad.load(Ordering::Relaxed) >= ANSWERS).then_some(()) };
    wait::until("every kind of rubbish was given", wait::PATIENCE, enough).await?;
    let stored = values(&mesh, BAD)?;
    let more: Vec<_> = stored.iter().filter(|row| !before.contains(row)).collect();
    ensure!(
        stored == before,
        "something was stored of a device that said nothing true: {more:?}"
    );
    let after = values(&mesh, GOOD)?.len();
    ensure!(
        after > others,
        "{GOOD} was not polled meanwhile: {others} readings, then {after}"
    );
    let json = mesh.json()?;
    let metrics = mesh::facility_of(&json, "us-f1")?["metrics"]
        .as_str()
        .context("metrics")?;
    let counted = mesh
        .metric_where(metrics, "medmesh_modbus_notices_total", &["malformed"])
        .await?;
    ensure!(
        counted >= ANSWERS as f64 / 4.0,
        "{counted} malformed answers were counted"
    );
    let log = fs::read_to_string(mesh.folder(FACILITY).join("node.log"))?;
    ensure!(!log.contains("panicked"), "{log}");
    println!(
        "{} bad answers, {counted} of them malformed, {} readings of {GOOD} meanwhile",
        babbler.bad.load(Ordering::Relaxed),
        after - others
    );
    mesh.stop().await
}

/// Points the device's address at the babbler, which answers at once, and starts the edge again.
fn turn(mesh: &Mesh, to: SocketAddr) -> Result<()> {
    let config = mesh.config(FACILITY);
    let text = fs::read_to_string(&config)?;
    let edge: Value = serde_json::to_value(toml::from_str::<toml::Value>(&text)?)?;
    let profiles = Path::new(edge["profiles"].as_str().context("no profiles")?);
    let profile = profiles.join("medmesh-monitor.toml");
    let patient = fs::read_to_string(&profile)?;
    let hasty = patient.replace("timeout = \"400ms\"", "timeout = \"100ms\"");
    ensure!(patient != hasty, "the profile has another time-out");
    fs::write(&profile, hasty)?;
    let named = text
        .find(&format!("id = \"{BAD}\""))
        .context("no such device")?;
    // The table of the device, whatever the order of its keys.
    let from = text[..named].rfind("[[devices]]").context("no table")?;
    let at = from + text[from..].find("address = \"").context("no address")?;
    let end = at + text[at..].find('\n').context("no end")?;
    fs::write(
        &config,
        format!("{}address = \"tcp://{to}\"{}", &text[..at], &text[end..]),
    )?;
    mesh.signal(FACILITY, "KILL")
}

/// The readings that the facility stored of a device, without the alarms that it raises itself.
fn values(mesh: &Mesh, device: &str) -> Result<Vec<Value>> {
    let rows = mesh.listed(FACILITY, ["edge", "readings"])?;
    Ok(rows
        .into_iter()
        .filter(|row| row["device"] == device && row["absent"] != STALE)
        .collect())
}

/// What a real device answered in a recorded session: payloads from port 502 (pcap, Ethernet, IPv4).
fn recorded() -> Result<Vec<Vec<u8>>> {
    let pcap = fs::read(binary::data().join("modbus-mqtt-traces/modbusSmall.pcap"))?;
    let mut payloads = Vec::new();
    let mut at = 24;
    while let Some(head) = pcap.get(at..at + 16) {
        let length = u32::from_le_bytes([head[8], head[9], head[10], head[11]]) as usize;
        let ip = &pcap[at + 16 + 14..at + 16 + length];
        let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
        let tcp = &ip[usize::from(ip[0] & 15) * 4..total];
        let payload = &tcp[usize::from(tcp[12] >> 4) * 4..];
        if u16::from_be_bytes([tcp[0], tcp[1]]) == 502 && !payload.is_empty() {
            payloads.push(payload.to_vec());
        }
        at += 16 + length;
    }
    ensure!(!payloads.is_empty(), "the capture holds no answer");
    Ok(payloads)
}

/// A Modbus TCP server of which every second answer is wrong. In between it has nothing to say, so that it is asked
/// again soon.
struct Babbler {
    address: SocketAddr,
    bad: Arc<AtomicUsize>,
}

impl Babbler {
    fn start(recorded: Vec<Vec<u8>>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let bad = Arc::new(AtomicUsize::new(0));
        let count = bad.clone();
        std::thread::spawn(move || {
            let mut random = StdRng::seed_from_u64(SEED);
            for stream in listener.incoming().flatten() {
                // The edge gives a connection up after rubbish; after a foreign answer it asks again on it. Then the
                // next one comes.
                let _ = serve(stream, &recorded, &count, &mut random);
            }
        });
        Ok(Self { address, bad })
    }
}

fn serve(
    mut stream: TcpStream,
    recorded: &[Vec<u8>],
    bad: &AtomicUsize,
    random: &mut StdRng,
) -> std::io::Result<()> {
    let mut request = [0; REQUEST];
    stream.read_exact(&mut request)?;
    stream.write_all(&answer(&request, None))?;
    stream.read_exact(&mut request)?;
    let number = bad.load(Ordering::Relaxed);
    stream.write_all(&wrong(&request, number, recorded, random))?;
    bad.fetch_add(1, Ordering::Relaxed);
    // Until the edge gives it up: an end of the connection would be another fault.
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.read_exact(&mut [0])
}

/// The answer that fits a request for registers: of a device that shows no sample, or of one that does: then almost
/// every register is 1, which is one waiting sample of one instant, and its values are decimals.
fn answer(request: &[u8; REQUEST], sample: Option<u16>) -> Vec<u8> {
    let first = usize::from(u16::from_be_bytes([request[8], request[9]]));
    let count = usize::from(request[11]);
    let bytes = request[11].saturating_mul(2);
    let mut out = vec![
        request[0],
        request[1],
        0,
        0,
        0,
        bytes + 3,
        request[6],
        request[7],
        bytes,
    ];
    for register in first..first + count {
        let word = match sample {
            None => 0,
            Some(number) if register == SEQUENCE => number,
            Some(_) if TIME.contains(&register) => {
                (SAID_MS >> (16 * (TIME.end - 1 - register))) as u16
            }
            Some(_) => 1,
        };
        out.extend(word.to_be_bytes());
    }
    out
}

/// A wrong answer; those that are whole have registers that would make a sample.
fn wrong(
    request: &[u8; REQUEST],
    number: usize,
    recorded: &[Vec<u8>],
    random: &mut StdRng,
) -> Vec<u8> {
    let mut out = answer(request, u16::try_from(number).ok());
    match number % 10 {
        // Of another request, another protocol, another unit, another function.
        0 => out[0] ^= 0x40,
        1 => out[3] = 9,
        2 => out[6] ^= 0x0f,
        3 => out[7] = 0x2b,
        // Cut off, with an impossible length, with fewer registers than were asked for, with a length that lies.
        4 => out.truncate(random.random_range(1..out.len())),
        5 => (out[4], out[5]) = (0xff, 0xff),
        6 => {
            out.truncate(13);
            (out[5], out[8]) = (7, 4);
        }
        7 => out[8] = out[8].wrapping_add(7),
        8 => {
            out = vec![0; random.random_range(1..400)];
            random.fill_bytes(&mut out);
        }
        _ => out.clone_from(&recorded[number / 10 % recorded.len()]),
    }
    out
}
