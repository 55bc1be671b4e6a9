//! The brokers that ingest is compared with. Neither writes anything to disk before it acknowledges: what they show is
//! what a broker costs that may lose everything.
use crate::{
    facility::{Facility, free_addresses, text},
    node::Node,
};
use anyhow::{Context, Result};
use std::{env, fs, net::SocketAddr, path::PathBuf, process::Command};

/// Variable with the path of `mosquitto`, set by `cargo xtask bench`.
pub const MOSQUITTO: &str = "MEDMESH_TEST_MOSQUITTO";
/// Variable with the path of `rumqttd`, set by `cargo xtask bench`.
pub const RUMQTTD: &str = "MEDMESH_TEST_RUMQTTD";

/// A running peer.
pub struct Peer {
    /// Where it listens.
    pub at: SocketAddr,
    _node: Node,
}

/// Mosquitto with the facility's own certificates, and without delay of small packets.
pub async fn mosquitto(facility: &Facility) -> Result<Peer> {
    let [at] = free_addresses()?;
    let (cert, key) = facility.pair("node");
    let config = format!(
        "listener {} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\npersistence false\nlog_type error\n\
         cafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\ntls_version tlsv1.3\nuser root\n",
        at.port(),
        text(&facility.ca()),
        text(&cert),
        text(&key)
    );
    start(facility, MOSQUITTO, "-c", "mosquitto.conf", &config, at).await
}

/// rumqttd with the facility's own certificates.
pub async fn rumqttd(facility: &Facility) -> Result<Peer> {
    let [at, console] = free_addresses()?;
    let (cert, key) = facility.pair("node");
    let config = format!(
        "id = 0\n[router]\nid = 0\nmax_connections = 1000\nmax_outgoing_packet_count = 200\n\
         max_segment_size = 104857600\nmax_segment_count = 10\n\
         [v4.1]\nname = \"v4\"\nlisten = \"{at}\"\nnext_connection_delay_ms = 1\n\
         [v4.1.tls]\ncapath = \"{}\"\ncertpath = \"{}\"\nkeypath = \"{}\"\n\
         [v4.1.connections]\nconnection_timeout_ms = 60000\nmax_payload_size = 20480\nmax_inflight_count = 1000\n\
         dynamic_filters = true\n[console]\nlisten = \"{console}\"\n",
        text(&facility.ca()),
        text(&cert),
        text(&key)
    );
    start(facility, RUMQTTD, "-c", "rumqttd.toml", &config, at).await
}

async fn start(
    facility: &Facility,
    variable: &str,
    flag: &str,
    name: &str,
    config: &str,
    at: SocketAddr,
) -> Result<Peer> {
    let program = env::var_os(variable)
        .map(PathBuf::from)
        .with_context(|| format!("{variable} is not set: run `cargo xtask bench`"))?;
    let (file, log) = (facility.path(name), facility.path(&format!("{name}.log")));
    fs::write(&file, config)?;
    let mut command = Command::new(program);
    command.arg(flag).arg(&file);
    let mut node = Node::start(&mut command, &log)?;
    node.listening(at, &log).await?;
    Ok(Peer { at, _node: node })
}
