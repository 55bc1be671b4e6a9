//! The arguments of `medmesh backup` and `medmesh restore`.
use clap::{ArgGroup, Args};
use std::path::PathBuf;

/// What `medmesh backup --help` ends with.
pub const BACKUP_EXAMPLES: &str = "\
Examples:
  medmesh backup --config /etc/medmesh/edge.toml --to us-f1.backup --passphrase-file secret
  medmesh backup --dir .medmesh --to backups --passphrase-file secret
                                     every node of a mesh on this machine, a file for each
  head -c 24 /dev/urandom | base64 > secret; chmod 600 secret
                                     a passphrase; without it nobody reads the backup

Taken beside the running node: its databases as they were at one instant, its keys, its configuration and the files
that this names. A region's PostgreSQL is dumped with pg_dump, which must be installed; a catalog in Cassandra is not
taken (--files-only says that you know). The backup is encrypted (AES-256-GCM), and is there once it was restored into
an empty folder, where every database and the audit log were found whole. Nothing is ever written over.";

/// What `medmesh restore --help` ends with.
pub const RESTORE_EXAMPLES: &str = "\
Examples:
  medmesh restore us-f1.backup --to /tmp/us-f1 --passphrase-file secret
                                     all of it below a new folder, the configuration changed to fit
  medmesh restore us-f1.backup --config /etc/medmesh/edge.toml --passphrase-file secret
                                     the data directory of a configuration, which must be gone, and files that are missing

The node must not run. What comes back says in its audit log that it was put back, and doubts whoever delivers to it:
when they meet, what either end still has is shipped again once, and what nobody has is a gap at both ends
(medmesh audit gaps). A dump of PostgreSQL is put beside, with the line that loads it.";

/// Arguments of `backup`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).args(["config", "dir"]))]
pub struct BackupArgs {
    /// Configuration of the node.
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Folder of a mesh on this machine: each of its nodes.
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// The backup, which must not exist; with --dir a folder, which is made.
    #[arg(long)]
    pub to: PathBuf,
    /// File with the passphrase, at least 12 characters, which its owner alone may read.
    #[arg(long)]
    pub passphrase_file: PathBuf,
    /// Leave out what PostgreSQL or Cassandra holds.
    #[arg(long)]
    pub files_only: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `restore`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("where").required(true).args(["to", "config"]))]
pub struct RestoreArgs {
    /// The backup.
    pub file: PathBuf,
    /// A folder, which must not exist.
    #[arg(long)]
    pub to: Option<PathBuf>,
    /// The configuration whose data directory is put back.
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// File with the passphrase.
    #[arg(long)]
    pub passphrase_file: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}
