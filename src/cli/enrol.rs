//! The arguments of `medmesh pki kit` and `medmesh edge enrol`.
use clap::Args;
use node::quantity::Span;
use std::{net::SocketAddr, path::PathBuf};
use types::Place;

/// What `medmesh pki kit --help` ends with.
pub const KIT_EXAMPLES: &str = "\
Example:
  medmesh pki kit --dir pki --node edge/us/us/us-f9 --name edge.example.org \\
     --enrol https://region.example.org:8443 --uplink https://region.example.org:7443 > us-f9.kit

The region must have [enrolment] with this authority. Whoever has the kit can join as that facility, once: give it only
to the facility.";

/// What `medmesh edge enrol --help` ends with.
pub const ENROL_EXAMPLES: &str = "\
Example:
  medmesh edge enrol us-f9.kit --dir /var/lib/medmesh-edge
  medmesh edge --config /var/lib/medmesh-edge/edge.toml

Draws the facility's keys on this machine, asks the region of the kit for the certificate, and writes a whole folder:
keys, certificate, profiles and a configuration without devices. When anything fails, nothing is there. A code is good once.";

/// Arguments of `pki kit`.
#[derive(Debug, Args)]
pub struct KitArgs {
    /// Folder of the authority.
    #[arg(long)]
    pub dir: PathBuf,
    /// The place of the facility: `edge/us/us/us-f9`.
    #[arg(long)]
    pub node: Place,
    /// DNS name or IP address under which the facility is reached; may be given several times.
    #[arg(long = "name")]
    pub names: Vec<String>,
    /// `https://host:port` of the region's HTTPS listener, where the facility enrols.
    #[arg(long)]
    pub enrol: String,
    /// `https://host:port` of the region's gRPC listener, where it delivers.
    #[arg(long)]
    pub uplink: String,
    /// How long the kit is good for.
    #[arg(long, default_value = "7d")]
    pub ttl: Span,
}

/// Arguments of `edge enrol`.
#[derive(Debug, Args)]
pub struct EnrolArgs {
    /// The kit.
    pub kit: PathBuf,
    /// Folder of the node, which must be empty or not exist.
    #[arg(long)]
    pub dir: PathBuf,
    /// Where it serves HTTPS.
    #[arg(long, default_value = "0.0.0.0:8443")]
    pub https: SocketAddr,
    /// Where devices connect by MQTT.
    #[arg(long, default_value = "0.0.0.0:8883")]
    pub mqtt: SocketAddr,
}

/// What `medmesh edge renew --help` ends with.
pub const RENEW_EXAMPLES: &str = "\
Example:
  medmesh edge renew --config /var/lib/medmesh-edge/edge.toml

A running node uses the new certificate within a second; sessions that are open stay. A node whose certificate has ended
joins anew, with a kit.";

/// Arguments of `edge renew`.
#[derive(Debug, Args)]
pub struct RenewArgs {
    /// Configuration of the node.
    #[arg(long)]
    pub config: PathBuf,
}
