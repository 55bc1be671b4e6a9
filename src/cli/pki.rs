//! The command line of `medmesh pki`.
use clap::{Args, Subcommand};
use node::quantity::Span;
use std::path::PathBuf;
use types::{DeviceId, Label, Place, Secret};

pub(super) const PKI_EXAMPLES: &str = "\
Examples:
  medmesh pki init --dir pki
  medmesh pki invite --dir pki --node edge/us/us/us-f1 --name edge.example.org
  medmesh pki request --node edge/us/us/us-f1 --node-key node.signing.key --out node
  medmesh pki sign --dir pki --code CODE --csr node.csr > node.pem
  medmesh pki enrol --dir pki --node edge/us/us/us-f1 --code CODE --node-key node.signing.key --out node
  medmesh pki revoke --dir pki 4f2a… --reason key-compromise
  medmesh pki revoke --dir pki --node edge/us/us/us-f1   a facility: its node, its devices, its open invitations
  medmesh pki lease --dir pki --node edge/us/us/us-f1 --ttl 30d --out node/leases
  medmesh pki list --dir pki --json";

/// Arguments of `pki`.
#[derive(Debug, Args)]
pub struct PkiArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: PkiCommand,
}

/// What to do with the certificate authority.
#[derive(Debug, Subcommand)]
pub enum PkiCommand {
    /// Makes an authority in an empty folder.
    Init {
        /// Folder of the authority.
        #[arg(long)]
        dir: PathBuf,
    },
    /// Prints a one-time code with which a node or a device can enrol.
    Invite(InviteArgs),
    /// Prints the kit with which a facility joins by itself (`medmesh edge enrol`).
    #[command(after_help = super::enrol::KIT_EXAMPLES)]
    Kit(super::enrol::KitArgs),
    /// Draws a key, asks for a certificate with a one-time code, and writes `OUT.key` and `OUT.pem`.
    Enrol(EnrolArgs),
    /// Draws a key on the machine that will hold it: writes `OUT.key` and the request `OUT.csr`.
    Request(RequestArgs),
    /// Signs a request with the one-time code of its holder's invitation, and prints the certificate (PEM).
    Sign(SignArgs),
    /// Replaces the key and certificate of a holder before they end: `OUT.key` and `OUT.pem`.
    Rotate(RotateArgs),
    /// Revokes a certificate, or all of a node's and its devices', and issues the revocation list anew.
    Revoke(RevokeArgs),
    /// Issues what lets a facility send while it has nobody to ask: `OUT/identity.lease` and `OUT/policy.lease`.
    #[command(after_help = LEASE_EXAMPLES)]
    Lease(LeaseArgs),
    /// Signs the table of models and firmware versions that the catalog may name.
    #[command(after_help = MODELS_EXAMPLES)]
    Models(ModelsArgs),
    /// Prints every certificate that was issued.
    List {
        /// Folder of the authority.
        #[arg(long)]
        dir: PathBuf,
        /// Print one JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Issues the revocation list anew and prints it (PEM).
    Crl {
        /// Folder of the authority.
        #[arg(long)]
        dir: PathBuf,
    },
}

/// Arguments of `pki invite`.
#[derive(Debug, Args)]
pub struct InviteArgs {
    /// Folder of the authority.
    #[arg(long)]
    pub dir: PathBuf,
    /// The place of a node: `edge/us/us/us-f1`, `regional/eu/eu` or `global`; with `--device`, its facility.
    #[arg(long, value_parser = super::place::place)]
    pub node: Place,
    /// A device of that facility.
    #[arg(long)]
    pub device: Option<DeviceId>,
    /// DNS name or IP address under which a node is reached; may be given several times.
    #[arg(long = "name")]
    pub names: Vec<String>,
    /// How long the code is good for.
    #[arg(long, default_value = "1d")]
    pub ttl: Span,
}

/// Arguments of `pki enrol`.
#[derive(Debug, Args)]
pub struct EnrolArgs {
    /// Folder of the authority.
    #[arg(long)]
    pub dir: PathBuf,
    /// The place of the node, as in its invitation; with `--device`, its facility.
    #[arg(long, value_parser = super::place::place)]
    pub node: Place,
    /// The device of that facility, as in its invitation.
    #[arg(long)]
    pub device: Option<DeviceId>,
    /// The one-time code.
    #[arg(long, env = "MEDMESH_CODE", hide_env_values = true)]
    pub code: Secret<String>,
    /// The node's signing key (Ed25519, PKCS#8 PEM), made when it does not exist; devices have none.
    #[arg(long)]
    pub node_key: Option<PathBuf>,
    /// Where to write: `OUT.key`, which must not exist, and `OUT.pem`.
    #[arg(long)]
    pub out: PathBuf,
}

/// Arguments of `pki request`.
#[derive(Debug, Args)]
pub struct RequestArgs {
    /// The place of the node, as in its invitation; with `--device`, its facility.
    #[arg(long, value_parser = super::place::place)]
    pub node: Place,
    /// The device of that facility, as in its invitation.
    #[arg(long)]
    pub device: Option<DeviceId>,
    /// The node's signing key (Ed25519, PKCS#8 PEM), made when it does not exist; devices have none.
    #[arg(long)]
    pub node_key: Option<PathBuf>,
    /// Where to write: `OUT.key`, which must not exist, and `OUT.csr`.
    #[arg(long)]
    pub out: PathBuf,
}

/// Arguments of `pki sign`.
#[derive(Debug, Args)]
pub struct SignArgs {
    /// Folder of the authority.
    #[arg(long)]
    pub dir: PathBuf,
    /// The one-time code.
    #[arg(long, env = "MEDMESH_CODE", hide_env_values = true)]
    pub code: Secret<String>,
    /// The request (PEM).
    #[arg(long)]
    pub csr: PathBuf,
}

/// Arguments of `pki rotate`.
#[derive(Debug, Args)]
pub struct RotateArgs {
    /// Folder of the authority.
    #[arg(long)]
    pub dir: PathBuf,
    /// The current certificate (PEM).
    #[arg(long)]
    pub cert: PathBuf,
    /// The current key (PKCS#8 PEM).
    #[arg(long)]
    pub key: PathBuf,
    /// The node's signing key (Ed25519, PKCS#8 PEM); devices have none.
    #[arg(long)]
    pub node_key: Option<PathBuf>,
    /// Where to write: `OUT.key` and `OUT.pem`.
    #[arg(long)]
    pub out: PathBuf,
}

/// Arguments of `pki revoke`.
#[derive(Debug, Args)]
pub struct RevokeArgs {
    /// Folder of the authority.
    #[arg(long)]
    pub dir: PathBuf,
    /// Serial number of the certificate, in hexadecimal.
    #[arg(required_unless_present = "node")]
    pub serial: Option<String>,
    /// All of a node's certificates, and of a facility those of its devices; prints their numbers.
    #[arg(long, conflicts_with = "serial", value_parser = super::place::place)]
    pub node: Option<Place>,
    /// Why: unspecified, key-compromise, superseded or cessation-of-operation.
    #[arg(long, default_value = "unspecified")]
    pub reason: String,
}

const LEASE_EXAMPLES: &str = "\
Example:
  medmesh pki lease --dir pki --node edge/us/us/us-f1 --ttl 30d --out node/leases

The facility's configuration names the folder, and the key that leases are signed with (made by the first one):
  [leases]
  dir = \"node/leases\"
  authority = \"pki/lease.pem\"";

const MODELS_EXAMPLES: &str = "\
Example:
  medmesh pki models --dir pki --model XY-MD02 --model LA-7 --firmware 1.4.2 --out device-models.note

Every node's configuration names the table, and the key that it is signed with (made by the first one):
  [device_models]
  note = \"device-models.note\"
  authority = \"policy.pem\"";

/// Arguments of `pki models`.
#[derive(Debug, Args)]
pub struct ModelsArgs {
    /// Folder of the authority.
    #[arg(long)]
    pub dir: PathBuf,
    /// A model; may be given several times.
    #[arg(long = "model")]
    pub models: Vec<Label>,
    /// A firmware version; may be given several times.
    #[arg(long)]
    pub firmware: Vec<Label>,
    /// File to write to.
    #[arg(long)]
    pub out: PathBuf,
}

/// Arguments of `pki lease`.
#[derive(Debug, Args)]
pub struct LeaseArgs {
    /// Folder of the authority.
    #[arg(long)]
    pub dir: PathBuf,
    /// The place of the facility's node.
    #[arg(long, value_parser = super::place::place)]
    pub node: Place,
    /// How long they hold from now on.
    #[arg(long, default_value = "30d")]
    pub ttl: Span,
    /// Folder to write to, made when it does not exist; the node reads it again every few seconds.
    #[arg(long)]
    pub out: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}
