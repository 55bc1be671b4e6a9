//! Arguments of `medmesh blob`, and of `medmesh edge blobs`.
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

pub(super) const BLOB_EXAMPLES: &str = "\
Examples:
  medmesh blob send image-2.4.bin --class firmware --to us-f1 --to eu-f1 --wait
  medmesh blob send model.safetensors --class model-release --purpose care --to us
  medmesh blob list
  medmesh blob show 0f3c…                 where it is, place by place
  medmesh blob withdraw 0f3c…             whoever has it deletes it

The file goes to the global node, from there to each region once, and to each facility once; its descriptor goes first, by
the rules of its class. What was interrupted goes on where it stopped. Nothing of a patient may be a file: files are not
encrypted. A facility's staff sees what came with `medmesh edge blobs`.";

/// Arguments of `blob`.
#[derive(Debug, Args)]
pub struct BlobArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: BlobCommand,
}

/// Files that are sent down.
#[derive(Debug, Subcommand)]
pub enum BlobCommand {
    /// Sends a file to regions or facilities.
    Send(SendArgs),
    /// Lists the newest files that were sent.
    List(BlobMeshArgs),
    /// Shows where a file is.
    Show(OneBlob),
    /// Takes a file back everywhere.
    Withdraw(OneBlob),
}

/// Which mesh is asked, and as whom.
#[derive(Clone, Debug, Args)]
pub struct BlobMeshArgs {
    /// Folder of the mesh.
    #[arg(long, default_value = ".medmesh")]
    pub dir: PathBuf,
    /// The client of `mesh.json` as which the global node is asked.
    #[arg(long, default_value = "operator")]
    pub client: String,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// A delivery.
#[derive(Debug, Args)]
pub struct OneBlob {
    /// The mesh.
    #[command(flatten)]
    pub mesh: BlobMeshArgs,
    /// The delivery's id.
    pub id: String,
}

/// Arguments of `blob send`.
#[derive(Debug, Args)]
pub struct SendArgs {
    /// The mesh.
    #[command(flatten)]
    pub mesh: BlobMeshArgs,
    /// The file.
    pub file: PathBuf,
    /// Where it goes: a region, or a facility as `us-f1` or `us/us-f1`. May be said several times.
    #[arg(long, required = true)]
    pub to: Vec<String>,
    /// What it is; the rules of the class decide where it may go.
    #[arg(long)]
    pub class: FileClass,
    /// What it is sent for: `operations`, `audit`, and for a model also `care` or `research`.
    #[arg(long, default_value = "operations")]
    pub purpose: String,
    /// The name under which it is kept; that of the file when left out.
    #[arg(long)]
    pub name: Option<String>,
    /// Wait until it has come to an end at every place.
    #[arg(long)]
    pub wait: bool,
}

/// The classes of data that may be a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FileClass {
    /// Device software and its signatures.
    Firmware,
    /// Rules, leases and approvals.
    Policy,
    /// An aggregated model with its privacy spend.
    ModelRelease,
}

impl FileClass {
    /// The name of the class.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Firmware => "firmware",
            Self::Policy => "policy",
            Self::ModelRelease => "model-release",
        }
    }
}
