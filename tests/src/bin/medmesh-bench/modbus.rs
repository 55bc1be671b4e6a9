//! Modbus points per second and core, through decode, durable commit and publish: an edge node of its own process
//! polls simulated TCP slaves as fast as its profile allows, and its processor time is read from the kernel.
//!
//! Published for Neuron 2.x on one core: 27,000 tags a second. Nothing of that is durable.
use crate::{
    Bed,
    facility::{Facility, Running},
    node::cpu_seconds,
    report::{Aim, Figure, Report},
};
use anyhow::{Context, Result, ensure};
use edge::config::DeviceConfig;
use std::{
    fmt::Write as _,
    fs,
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use types::DeviceKind;

/// Slaves, each on a connection of its own.
const SLAVES: usize = 16;
/// Points of one slave: one merged read of 100 of the 125 registers that a read may have.
const POINTS: u16 = 100;
/// Before the measurement.
const WARM_UP: Duration = Duration::from_secs(2);
/// The measurement.
const MEASURED: Duration = Duration::from_secs(5);
/// Points a second and core that the makers of Neuron publish.
const NEURON: f64 = 27_000.0;
const DURABILITY: &str = "fsync (SQLCipher, WAL, FULL) of every point; Neuron: memory";

/// Runs the benchmark.
pub async fn run(bed: &Bed, report: &mut Report) -> Result<()> {
    let (mut per_core, mut rates) = (Vec::new(), Vec::new());
    for _ in 0..bed.runs {
        let (rate, cores) = points().await?;
        rates.push(rate);
        per_core.push(rate / cores);
    }
    let what = "Modbus points, decode + durable + publish";
    report.add(
        Figure::new(format!("{what}, per core"), "/s", DURABILITY, per_core)
            .beside("Neuron, published", &[NEURON])
            .aim(Aim::RatioAtLeast(1.0)),
    );
    let note = format!("{SLAVES} slaves of {POINTS} registers");
    report.add(Figure::new(what, "/s", DURABILITY, rates).note(note));
    Ok(())
}

/// Points a second, and cores that the edge used for them.
async fn points() -> Result<(f64, f64)> {
    let mut slaves = JoinSet::new();
    let mut facility = Facility::new(0)?;
    fs::write(facility.path("profiles").join("bench.toml"), profile()?)?;
    for number in 0..SLAVES {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let device = device(number, listener.local_addr()?)?;
        facility.config().devices.push(device);
        slaves.spawn(serve(listener));
    }
    let node = facility.start().await?;
    tokio::time::sleep(WARM_UP).await;
    let (before, began) = (reading(&node).await?, Instant::now());
    tokio::time::sleep(MEASURED).await;
    let (after, took) = (reading(&node).await?, began.elapsed().as_secs_f64());
    ensure!(after.0 > before.0, "no point was stored");
    Ok(((after.0 - before.0) / took, (after.1 - before.1) / took))
}

/// Points stored and processor seconds used so far.
async fn reading(node: &Running) -> Result<(f64, f64)> {
    let points = node.metric("medmesh_modbus_points_total").await?;
    Ok((points, cpu_seconds(node.node.pid())?))
}

fn device(number: usize, at: SocketAddr) -> Result<DeviceConfig> {
    Ok(DeviceConfig {
        id: format!("slave-{number}").parse()?,
        kind: DeviceKind::BedsideMonitor,
        serial: None,
        model: None,
        firmware: None,
        bed: None,
        profile: Some("bench".to_owned()),
        address: Some(format!("tcp://{at}")),
        unit_id: 1,
    })
}

/// A device of as many heart rates as fit one read.
fn profile() -> Result<String> {
    let mut text = String::from(
        "name = \"bench\"\nmodel = \"bench\"\ninterval = \"20ms\"\ntimeout = \"1s\"\nstale_after = \"1m\"\n\
         late_after = \"1m\"\n[limits]\nmax_read = 125\nmax_gap = 0\n",
    );
    for address in 0..POINTS {
        write!(
            text,
            "[[points]]\ncode = \"8867-4\"\nunit = \"/min\"\naddress = {address}\ntype = \"u16\"\nscale = \"0.1\"\n"
        )?;
    }
    Ok(text)
}

/// Answers reads of input registers with values that differ each time (Modbus Messaging on TCP/IP 1.0b §3.1).
async fn serve(listener: TcpListener) -> Result<()> {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        connections.spawn(answer(stream));
    }
}

async fn answer(mut stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let (mut request, mut value) = ([0; 12], 600_u16);
    loop {
        stream.read_exact(&mut request).await?;
        let registers = u16::from_be_bytes([request[10], request[11]]);
        let bytes = u8::try_from(registers * 2).context("at most 125 registers")?;
        let mut reply = Vec::with_capacity(9 + usize::from(bytes));
        reply.extend_from_slice(&request[..4]);
        reply.extend_from_slice(&(3 + u16::from(bytes)).to_be_bytes());
        reply.extend_from_slice(&[request[6], request[7], bytes]);
        for _ in 0..registers {
            value = 600 + (value + 7) % 900;
            reply.extend_from_slice(&value.to_be_bytes());
        }
        stream.write_all(&reply).await?;
    }
}
