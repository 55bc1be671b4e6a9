//! The command line of `medmesh fl`.
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Examples of `fl`.
pub const FL_EXAMPLES: &str = "\
Examples:
  medmesh fl check study.toml                 what a study comes to, or everything that is wrong with it
  medmesh fl epsilon --sampling 0.01 --noise-multiplier 1.1 --steps 5000 --delta 1e-5
  medmesh fl submit study.toml --wait --json --dir .medmesh
  medmesh fl list --dir .medmesh
  medmesh fl show heart-1f2e3d4c --dir .medmesh
  medmesh fl watch heart-1f2e3d4c --mlflow http://127.0.0.1:5000
  medmesh fl open heart-1f2e3d4c              a link for a browser, good once
  medmesh fl resume heart-1f2e3d4c --dir .medmesh
  medmesh fl export heart-1f2e3d4c --to out --dir .medmesh
  medmesh fl list --server https://mesh.example:8443 --client-id data-scientist --key me.key --ca ca.pem
  medmesh fl ledger --config edge.toml --json what a facility has spent, across all studies
  medmesh fl ledger --dir .medmesh            the same of every facility of a mesh on this machine";

/// Arguments of `fl`.
#[derive(Debug, Args)]
pub struct FlArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: FlCommand,
}

/// What to do with studies.
#[derive(Debug, Subcommand)]
pub enum FlCommand {
    /// Says what a study comes to, or everything that is wrong with it; nothing is sent. Exit code 64 when something is.
    Check {
        /// The study (TOML).
        study: PathBuf,
        /// Folder of a mesh that is to run it: whether it has these regions, and facilities enough, is looked at too.
        #[arg(long)]
        dir: Option<PathBuf>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Prints the epsilon that a Gaussian on Poisson samples spends: never less than the true one.
    Epsilon(EpsilonArgs),
    /// Has the mesh run a study.
    Submit(SubmitArgs),
    /// Lists the studies, the newest first.
    List(MeshArgs),
    /// Shows a study: its rounds, who took part or why not, for whom it waits, what it spent, how good it is.
    Show(StudyArgs),
    /// Shows each round of a study as it ends, until the study has ended.
    Watch(WatchArgs),
    /// Ends a study.
    Cancel(StudyArgs),
    /// Goes on with a study that has ended without a result, in the round in which it did.
    Resume(StudyArgs),
    /// Prints a link that opens the pages of studies in a browser; it is good once, and for a minute.
    Open {
        /// The study to show; all of them when left out.
        id: Option<types::Name>,
        /// Where the mesh is.
        #[command(flatten)]
        mesh: MeshArgs,
    },
    /// Writes the model of a study (`model.safetensors`, `model.onnx`), its card, its curves as SVG, and `study.json`.
    Export {
        /// The study, and where the mesh is.
        #[command(flatten)]
        study: StudyArgs,
        /// Folder for the files.
        #[arg(long)]
        to: PathBuf,
    },
    /// Prints what a facility has spent: what an accountant of anybody's needs to compute it again.
    Ledger(LedgerArgs),
    /// Works on one round for an edge node, which gives it all that it needs.
    #[command(hide = true)]
    Worker,
}

/// Where the mesh is: its folder, or the address of its global node with the client's key.
#[derive(Clone, Debug, Args)]
pub struct MeshArgs {
    /// Folder of the mesh, with `mesh.json`.
    #[arg(long, default_value = ".medmesh")]
    pub dir: PathBuf,
    /// Address of the global node, such as `https://mesh.example:8443`, instead of a folder.
    #[arg(long, requires_all = ["key", "ca"], conflicts_with = "dir")]
    pub server: Option<String>,
    /// The client as which the node is asked.
    #[arg(long, default_value = "data-scientist")]
    pub client_id: String,
    /// The client's private key (PKCS#8 PEM, P-384).
    #[arg(long, requires = "server")]
    pub key: Option<PathBuf>,
    /// Id of that key; `CLIENT_ID-1` when left out.
    #[arg(long, requires = "server")]
    pub kid: Option<String>,
    /// The authority of the node's certificate (PEM).
    #[arg(long, requires = "server")]
    pub ca: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `fl submit`.
#[derive(Clone, Debug, Args)]
pub struct SubmitArgs {
    /// The study (TOML).
    pub study: PathBuf,
    /// Wait until it has ended, and fetch its model. Exit code 1 when it has ended without one.
    #[arg(long)]
    pub wait: bool,
    /// Folder for the model; `studies/ID` in the folder of the mesh when left out, and here where there is none.
    #[arg(long, requires = "wait")]
    pub to: Option<PathBuf>,
    /// Address of an MLflow tracking server that is told of each round as it ends, and of the model.
    #[arg(long, requires = "wait")]
    pub mlflow: Option<String>,
    /// Where the mesh is.
    #[command(flatten)]
    pub mesh: MeshArgs,
}

/// Arguments of `fl watch`.
#[derive(Clone, Debug, Args)]
pub struct WatchArgs {
    /// The study, and where the mesh is.
    #[command(flatten)]
    pub study: StudyArgs,
    /// Address of an MLflow tracking server that is told of each round as it ends, and of the model.
    #[arg(long)]
    pub mlflow: Option<String>,
}

/// A study of a mesh.
#[derive(Clone, Debug, Args)]
pub struct StudyArgs {
    /// The study's id.
    pub id: types::Name,
    /// Where the mesh is.
    #[command(flatten)]
    pub mesh: MeshArgs,
}

/// Arguments of `fl ledger`.
#[derive(Clone, Debug, Args)]
pub struct LedgerArgs {
    /// Configuration of the edge node.
    #[arg(long, conflicts_with_all = ["dir", "facility"])]
    pub config: Option<PathBuf>,
    /// Folder of a mesh on this machine, instead of a configuration.
    #[arg(long, default_value = ".medmesh")]
    pub dir: PathBuf,
    /// The facility of that mesh; each of them when left out.
    #[arg(long)]
    pub facility: Option<types::FacilityId>,
    /// Print JSON; of all facilities of a mesh a list, `ledgers`.
    #[arg(long)]
    pub json: bool,
    /// Print the ledger as a note that the facility signs (C2SP signed-note), for whoever is not at the facility.
    #[arg(long, conflicts_with = "json")]
    pub signed: bool,
}

/// Arguments of `fl epsilon`.
#[derive(Debug, Args)]
pub struct EpsilonArgs {
    /// Probability with which a record is in the sample of a step; 1 for all records.
    #[arg(long)]
    pub sampling: f64,
    /// Standard deviation of the noise, in units of the clip.
    #[arg(long)]
    pub noise_multiplier: f64,
    /// How many steps.
    #[arg(long)]
    pub steps: u64,
    /// Probability with which the promise may fail.
    #[arg(long)]
    pub delta: f64,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}
