//! The arguments of `medmesh pki kit`, `medmesh edge enrol` and `medmesh edge measure`.
use clap::Args;
use federation::tpm::{DEVICE, quote::Pcrs};
use node::quantity::Span;
use std::{net::SocketAddr, path::PathBuf};
use types::{DeviceId, Place, Secret};

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
  medmesh edge enrol us-f9.kit --dir /var/lib/medmesh
  medmesh edge --config /var/lib/medmesh/edge.toml

Draws the facility's keys on this machine, asks the region of the kit for the certificate, and writes a whole folder:
keys, certificate, profiles and a configuration without devices. When anything fails, nothing is there. A code is good once.";

/// Arguments of `pki kit`.
#[derive(Debug, Args)]
pub struct KitArgs {
    /// Folder of the authority.
    #[arg(long)]
    pub dir: PathBuf,
    /// The place of the facility: `edge/us/us/us-f9`.
    #[arg(long, value_parser = super::place::place)]
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
    /// What `medmesh edge measure` printed on the facility's machine: the kit then needs a quote of that machine's TPM, of
    /// the same boot.
    #[arg(long)]
    pub measured: Option<PathBuf>,
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
    /// The TPM, for a kit of a machine that was measured: a device, or the socket of a simulator.
    #[arg(long, default_value = DEVICE)]
    pub tpm: PathBuf,
    /// Makes the node's TLS key in the TPM, from where nobody can copy it.
    #[arg(long)]
    pub key_in_tpm: bool,
    /// Where devices connect by MQTT.
    #[arg(long, default_value = "0.0.0.0:8883")]
    pub mqtt: SocketAddr,
}

/// What `medmesh edge measure --help` ends with.
pub const MEASURE_EXAMPLES: &str = "\
Example, on the machine, while what it has booted is trusted:
  medmesh edge measure > us-f9.measured
and at the authority's side:
  medmesh pki kit --dir pki --node edge/us/us/us-f9 --name edge.example.org --measured us-f9.measured \\
     --enrol https://region.example.org:8443 --uplink https://region.example.org:7443 > us-f9.kit

Registers of the PC Client platform: 0 firmware, 2 its extensions, 4 boot loader, 7 Secure Boot. Where a boot loader such as
GRUB loads the kernel, these say nothing of the kernel or of medmesh. An update of what is in one changes it: measure again
before the machine joins anew.";

/// Arguments of `edge measure`.
#[derive(Debug, Args)]
pub struct MeasureArgs {
    /// The TPM: a device, or the socket of a simulator.
    #[arg(long, default_value = DEVICE)]
    pub tpm: PathBuf,
    /// The registers (PCR, of the bank of SHA-256) that have to stay the same. 16 and 23 are refused, which a program may reset,
    /// and so is one into which this machine measures nothing.
    #[arg(long, default_value = "0,2,4,7")]
    pub pcrs: Pcrs,
}

/// What `medmesh edge invite --help` and `medmesh device enrol --help` end with.
pub const INVITE_EXAMPLES: &str = "\
Example, at the running facility, whose configuration has the device, and then where the device's key is to be:
  medmesh edge invite lab-1 --config /var/lib/medmesh/edge.toml
  medmesh device enrol --url https://edge.example.org:8443 --ca ca.pem --node edge/us/us/us-f9 --device lab-1 \\
     --code CODE --out lab-1

A code is good once and for an hour; another one for the same device takes its place. A device of another maker sends
POST /api/v1/enrolment {\"code\": \"…\", \"csr\": \"PEM of a PKCS#10 request\"} itself.";

/// Arguments of `edge invite`.
#[derive(Debug, Args)]
pub struct InviteArgs {
    /// The device, as the configuration calls it.
    pub device: DeviceId,
    /// Configuration of the node, which must be running.
    #[arg(long)]
    pub config: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `device enrol`.
#[derive(Debug, Args)]
pub struct DeviceEnrolArgs {
    /// `https://host:port` of the facility's HTTPS listener.
    #[arg(long)]
    pub url: String,
    /// The mesh's authority (PEM), by which the facility is known.
    #[arg(long)]
    pub ca: PathBuf,
    /// The place of the facility: `edge/us/us/us-f9`.
    #[arg(long, value_parser = super::place::place)]
    pub node: Place,
    /// The device, as the facility calls it.
    #[arg(long)]
    pub device: DeviceId,
    /// The one-time code.
    #[arg(long, env = "MEDMESH_CODE", hide_env_values = true)]
    pub code: Secret<String>,
    /// Where to write: `OUT.key` and `OUT.pem`.
    #[arg(long)]
    pub out: PathBuf,
}

/// What `medmesh edge renew --help` ends with.
pub const RENEW_EXAMPLES: &str = "\
Example:
  medmesh edge renew --config /var/lib/medmesh/edge.toml

A running node uses the new certificate within a second; sessions that are open stay. A node whose certificate has ended
joins anew, with a kit.";

/// Arguments of `edge renew`.
#[derive(Debug, Args)]
pub struct RenewArgs {
    /// Configuration of the node.
    #[arg(long)]
    pub config: PathBuf,
}
