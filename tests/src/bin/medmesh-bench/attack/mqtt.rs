//! A facility's MQTT listener: publishes of a device on a kept connection.
use super::{ASKED, Figures, PAUSE, attack, end, resident, silent};
use crate::load::tls;
use anyhow::{Context, Result, anyhow};
use medmesh_tests::{
    mesh::{Mesh, facility_of},
    mqtt::Device,
};
use rustls::{ClientConfig, pki_types::ServerName};
use serde_json::{Value, json};
use std::{path::Path, sync::Arc, time::Instant};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

const FACILITY: &str = "eu-f1";
const NODE: &str = "edge:eu-f1";
/// Whose device has a good certificate and no business here.
const OTHER: &str = "eu-f2";
/// The first bytes of a CONNECT of MQTT 5 that does not go on (§3.1).
const PART: [u8; 9] = [0x10, 40, 0, 4, b'M', b'Q', b'T', b'T', 5];

pub(super) async fn run(mesh: &Mesh, figures: &mut Figures) -> Result<()> {
    let json = mesh.json()?;
    let to = text(&facility_of(&json, FACILITY)?["mqtt"])?;
    let (_, authority) = to.rsplit_once('/').unwrap_or(("", &to));
    let authority = authority.to_owned();
    let stranger = stranger(&json)?;
    let mut device = Device::external(&json, FACILITY).await?;
    let quiet = ask(mesh, &mut device, 0).await?;
    let before = resident(mesh, NODE)?;
    let hostile = attack(move |n| hold(stranger.clone(), authority.clone(), n % 4)).await;
    let attacked = ask(mesh, &mut device, ASKED).await?;
    figures.resident("MQTT of the edge", before, resident(mesh, NODE)?);
    end(hostile).await;
    figures.waited("MQTT: publish on a kept connection", &quiet, &attacked);
    Ok(())
}

fn text(value: &Value) -> Result<String> {
    Ok(value.as_str().context("missing in mesh.json")?.to_owned())
}

/// TLS with the certificate of another facility's device.
fn stranger(json: &Value) -> Result<Arc<ClientConfig>> {
    let devices = facility_of(json, OTHER)?["devices"].as_array();
    let mut devices = devices.into_iter().flatten();
    let device = devices.find(|device| device["cert"].is_string());
    let device = device.ok_or_else(|| anyhow!("{OTHER} has no device with a certificate"))?;
    let path = |value: &Value| text(value);
    let (ca, cert, key) = (
        path(&json["ca"])?,
        path(&device["cert"])?,
        path(&device["key"])?,
    );
    tls(Path::new(&ca), Path::new(&cert), Path::new(&key))
}

/// Milliseconds until each publish is acknowledged.
async fn ask(mesh: &Mesh, device: &mut Device, first: usize) -> Result<Vec<f64>> {
    let mut took = Vec::new();
    for seq in first..first + ASKED {
        tokio::time::sleep(PAUSE).await;
        let reading = json!({"code": "2951-2", "value": "140.0", "unit": "mmol/L"});
        let message = json!({
            "epoch": 1, "seq": seq, "time": mesh.time()?, "patient": "p", "readings": [reading],
        });
        let began = Instant::now();
        device.publish(&message).await?;
        took.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(took)
}

async fn hold(stranger: Arc<ClientConfig>, authority: String, kind: usize) -> Result<()> {
    if kind < 2 {
        return silent(authority, kind == 1).await;
    }
    let tcp = TcpStream::connect(authority).await?;
    let name = ServerName::try_from("localhost")?;
    let mut stream = TlsConnector::from(stranger).connect(name, tcp).await?;
    if kind == 3 {
        stream.write_all(&PART).await?;
    }
    while stream.read(&mut [0; 64]).await? > 0 {}
    Ok(())
}
