//! The command line.
use clap::{Args, Parser, Subcommand, ValueEnum};
use node::quantity::Span;
use std::{path::PathBuf, str::FromStr};
use types::{Jurisdiction, MeshClock, Secret};

pub mod audit;
pub mod backup;
pub mod beds;
pub mod blob;
pub mod commands;
pub mod dataset;
pub mod doctor;
pub mod enrol;
pub mod entry;
pub mod fl;
pub mod local;
pub mod pki;
mod place;
pub mod plans;
pub mod quarantine;
pub mod status;
pub mod twin;
pub mod view;
use pki::{PKI_EXAMPLES, PkiArgs};
use quarantine::{EDGE_QUARANTINE_EXAMPLES, GlobalArgs, QuarantineArgs, RegionalArgs};

/// A federated edge-regional-global data mesh for medical devices.
#[derive(Debug, Parser)]
#[command(name = "medmesh", version, arg_required_else_help = true, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  medmesh up                                  a mesh of three regions on this machine
  medmesh status                              how it is
  medmesh token --region us                   a bearer token for its FHIR API
  medmesh edge --config edge.toml             one node
  medmesh check-config edge.toml              what is wrong with a configuration

Exit codes: 0 done, 1 failed, 2 wrong usage, 64 wrong configuration";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs a whole mesh of three regions on this machine, with simulated devices.
    #[command(after_help = UP_EXAMPLES)]
    Up(UpArgs),
    /// Runs the edge node of a facility, or looks into one.
    #[command(
        after_help = "Examples:\n  medmesh edge --config edge.toml\n  medmesh edge crosswalk --config edge.toml --json\n  medmesh edge quarantine list --config edge.toml"
    )]
    Edge(EdgeArgs),
    /// Runs the node of a region, or looks into one.
    #[command(
        after_help = "Examples:\n  medmesh regional --config regional.toml\n  medmesh regional quarantine list --config regional.toml"
    )]
    Regional(RegionalArgs),
    /// Runs the global node, or looks into it.
    #[command(
        after_help = "Examples:\n  medmesh global --config global.toml\n  medmesh global quarantine list --config global.toml"
    )]
    Global(GlobalArgs),
    /// Says everything that is wrong with a configuration; exit code 64 when something is.
    #[command(
        after_help = "Examples:\n  medmesh check-config edge.toml\n  MEDMESH_STORE__MAX_SIZE=1GiB medmesh check-config --kind edge edge.toml"
    )]
    CheckConfig(CheckArgs),
    /// The certificate authority: invitations, certificates, rotation and revocation.
    #[command(after_help = PKI_EXAMPLES)]
    Pki(PkiArgs),
    /// The audit log of a node.
    #[command(
        after_help = "Examples:\n  medmesh audit verify --config edge.toml\n  medmesh audit list --config regional.toml --json | jq -r .decision | sort | uniq -c"
    )]
    Audit(audit::AuditArgs),
    /// Federated learning: studies, and what they spend.
    #[command(after_help = fl::FL_EXAMPLES)]
    Fl(fl::FlArgs),
    /// Devices of a region: lists them and gives them commands; and simulated devices.
    #[command(after_help = twin::DEVICE_EXAMPLES)]
    Device(DeviceArgs),
    /// What is desired of a device, and what it reports.
    #[command(after_help = twin::TWIN_EXAMPLES)]
    Twin(twin::TwinArgs),
    /// Files that are sent down to regions and facilities.
    #[command(after_help = blob::BLOB_EXAMPLES)]
    Blob(blob::BlobArgs),
    /// The processes of a mesh on this machine that Terraform keeps (`infra/terraform/environments/local`).
    #[command(
        hide = true,
        after_help = "Terraform says these; what a person says is `cargo xtask rollout local`, or `medmesh up`."
    )]
    Local(local::LocalArgs),
    /// Says how a mesh is, or one node of it: links, backlogs, quarantine, certificates' ends.
    #[command(after_help = status::STATUS_EXAMPLES)]
    Status(status::StatusArgs),
    /// What nodes did not take, anywhere in a mesh of this machine: looks at it, ships it again, gives it up.
    #[command(after_help = quarantine::MESH_QUARANTINE_EXAMPLES)]
    Quarantine(quarantine::MeshQuarantineArgs),
    /// Looks at all that a node rests on, and says what to do about each fault.
    #[command(after_help = doctor::DOCTOR_EXAMPLES)]
    Doctor(doctor::DoctorArgs),
    /// Takes an encrypted backup of a node beside it, and shows that it can be put back.
    #[command(after_help = backup::BACKUP_EXAMPLES)]
    Backup(backup::BackupArgs),
    /// Puts a node back to a backup.
    #[command(after_help = backup::RESTORE_EXAMPLES)]
    Restore(backup::RestoreArgs),
    /// Gets a bearer token of a mesh on this machine (SMART Backend Services), and prints it.
    #[command(after_help = TOKEN_EXAMPLES)]
    Token(TokenArgs),
}

const UP_EXAMPLES: &str = "\
Examples:
  medmesh up                                              simulated patients, real time
  medmesh up --replay set-a.tar.gz --stays 24 --speed 600x   real ICU stays, 48 hours in 5 minutes
  medmesh up --dir /tmp/mesh --facilities 1 --for 60s        a small mesh for a minute
  medmesh up --regions us --facilities 1 --beds 10           one region with one facility of ten beds
  medmesh up --postgres postgres://me@127.0.0.1:5432/postgres --scylla 127.0.0.1:9042
                                                          the engines of production
  medmesh up --postgres postgres://me@127.0.0.1:5432/postgres --pairs
                                                          two nodes for each region

A second `up` on the same folder goes on with the same identities, ports and data, and with what a facility's `edge.toml` says
under `learning`, `view`, `fhir`, `deid_profile`, `leases` and `policies`. Ctrl-C stops everything.";

/// Arguments of `up`.
#[derive(Debug, Args)]
pub struct UpArgs {
    /// Folder of the mesh: identities, configuration, data and logs.
    #[arg(long, default_value = ".medmesh")]
    pub dir: PathBuf,
    /// Facilities of each region.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=8))]
    pub facilities: u8,
    /// Beds of each facility: a monitor at each, the last one on a serial line.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub beds: u8,
    /// Regions, of those that there are.
    #[arg(long, value_delimiter = ',', default_value = "us,eu,apac", value_parser = parse_jurisdiction)]
    pub regions: Vec<Jurisdiction>,
    /// Real data to replay: PhysioNet 2012 `set-a.tar.gz`, or a MIMIC-III numerics `.csv`.
    #[arg(long)]
    pub replay: Option<PathBuf>,
    /// What became of each stay, emitted at its end: PhysioNet 2012 `Outcomes-a.txt`. Found beside `set-a.tar.gz`.
    #[arg(long, requires = "replay")]
    pub outcomes: Option<PathBuf>,
    /// How long facilities keep samples, by the mesh clock. A fast replay is over long after 30 days of it.
    #[arg(long, default_value = "30d", value_name = "TIME", value_parser = parse_retention)]
    pub retention: Span,
    /// Replay only the first N stays of the archive.
    #[arg(long, requires = "replay")]
    pub stays: Option<usize>,
    /// How fast the mesh's clock runs, such as `60x`.
    #[arg(long, default_value = "1x")]
    pub speed: Speed,
    /// Stop after this time (real), such as `90s`; for ever when left out.
    #[arg(long = "for")]
    pub duration: Option<Span>,
    /// Keep the regions' FHIR resources in this PostgreSQL, such as `postgres://me@127.0.0.1:5432/postgres`: each region
    /// gets a database of its own, which the role must be allowed to create.
    #[arg(long, value_name = "URL")]
    pub postgres: Option<Secret<String>>,
    /// Authorities of the server's certificate, PEM; needed with `sslmode=verify-full`.
    #[arg(long, value_name = "FILE", requires = "postgres")]
    pub postgres_ca: Option<PathBuf>,
    /// Two nodes for every region, of which one goes on when the other fails. Only on PostgreSQL.
    #[arg(long, requires = "postgres")]
    pub pairs: bool,
    /// Keep the global catalog in this ScyllaDB or Apache Cassandra, in a keyspace of the mesh's own.
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',')]
    pub scylla: Vec<String>,
    /// Send traces of readings to a collector on this machine, such as `http://127.0.0.1:4318/v1/traces` (OTLP, JSON).
    #[arg(long, value_name = "URL")]
    pub otlp: Option<String>,
    /// The share of samples and requests that is traced, 0 to 1.
    #[arg(long, requires = "otlp", value_name = "SHARE", default_value_t = 0.01)]
    pub trace_ratio: f64,
}

fn parse_jurisdiction(text: &str) -> Result<Jurisdiction, String> {
    let known = Jurisdiction::ALL.map(Jurisdiction::as_str).join(", ");
    text.parse().map_err(|_| format!("one of {known}"))
}

fn parse_retention(text: &str) -> Result<Span, String> {
    let least = edge::config::MIN_RETENTION;
    let span = text.parse::<Span>().map_err(|error| error.to_string())?;
    match span >= least {
        true => Ok(span),
        false => Err(format!("is {least} at least")),
    }
}

/// How fast the mesh clock runs: mesh seconds per real second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speed(pub f64);

impl FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_suffix('x').unwrap_or(text).parse::<f64>();
        match number {
            Ok(speed) if (1.0..=MeshClock::MAX_SPEED).contains(&speed) => Ok(Self(speed)),
            _ => Err(format!(
                "write a speed from 1x to {}x",
                MeshClock::MAX_SPEED
            )),
        }
    }
}

/// Arguments of `edge`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct EdgeArgs {
    /// Configuration of the node to run.
    #[arg(long, required = true)]
    pub config: Option<PathBuf>,
    /// What to look at instead.
    #[command(subcommand)]
    pub command: Option<EdgeCommand>,
}

/// What to look at in an edge node. These print identified data: they are for the facility's own staff.
#[derive(Debug, Subcommand)]
pub enum EdgeCommand {
    /// Joins the mesh as a facility, with the kit that its operator sent.
    #[command(after_help = enrol::ENROL_EXAMPLES)]
    Enrol(enrol::EnrolArgs),
    /// Draws a one-time code with which a device of the facility gets its certificate here.
    #[command(after_help = enrol::INVITE_EXAMPLES)]
    Invite(enrol::InviteArgs),
    /// Prints what this machine has booted, as its TPM says it, for a kit that is good on this machine alone.
    #[command(after_help = enrol::MEASURE_EXAMPLES)]
    Measure(enrol::MeasureArgs),
    /// Draws a new key and gets a certificate for it from the region. The running node does so by itself in time.
    #[command(after_help = enrol::RENEW_EXAMPLES)]
    Renew(enrol::RenewArgs),
    /// Prints which pseudonym and which date shift stand for which patient and device.
    Crosswalk(PrintArgs),
    /// Prints the readings that the facility has stored.
    Readings(PrintArgs),
    /// What the region did not take, and what devices sent that could not be understood.
    #[command(after_help = EDGE_QUARANTINE_EXAMPLES)]
    Quarantine(QuarantineArgs),
    /// Research tables of the facility, from which studies may learn here.
    #[command(subcommand, after_help = dataset::DATASET_EXAMPLES)]
    Dataset(dataset::DatasetCommand),
    /// Studies that came to the facility: what was decided of each, and by whom.
    #[command(subcommand, after_help = plans::PLANS_EXAMPLES)]
    Plans(plans::PlansCommand),
    /// Shows who lies where with their last values, and says who lies in which bed from when on, also afterwards.
    #[command(after_help = beds::BEDS_EXAMPLES)]
    Beds(beds::BedsArgs),
    /// Prints the readings of a bed, a patient or a device over a range of time.
    #[command(after_help = view::SERIES_EXAMPLES)]
    Series(view::SeriesArgs),
    /// Prints the alarms over a range of time.
    Alarms(view::AlarmsArgs),
    /// Prints every sample as it is stored.
    #[command(after_help = view::WATCH_EXAMPLES)]
    Watch(view::WatchArgs),
    /// Commands of the region to the facility's devices: lists them, holds them back, refuses them.
    #[command(subcommand, after_help = commands::COMMANDS_EXAMPLES)]
    Commands(commands::EdgeCommandsCommand),
    /// Lists the files that were sent down to the facility, and where they lie.
    Blobs(view::RunningArgs),
}

/// Arguments of what prints a node's data.
#[derive(Debug, Args)]
pub struct PrintArgs {
    /// Configuration of the node.
    #[arg(long)]
    pub config: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of a node.
#[derive(Debug, Args)]
pub struct NodeArgs {
    /// Configuration (TOML); every key can be overridden: `MEDMESH_LOG__FILTER=debug`.
    #[arg(long)]
    pub config: PathBuf,
}

/// Arguments of `check-config`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The configuration.
    pub file: PathBuf,
    /// What it configures; found out from its keys when left out.
    #[arg(long)]
    pub kind: Option<ConfigKind>,
}

/// What a configuration configures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ConfigKind {
    /// An edge node.
    Edge,
    /// A regional node.
    Regional,
    /// The global node.
    Global,
    /// Simulated devices.
    Device,
}

/// Arguments of `device`.
#[derive(Debug, Args)]
pub struct DeviceArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: DeviceCommand,
}

/// What to do with devices.
#[derive(Debug, Subcommand)]
pub enum DeviceCommand {
    /// Runs the simulated devices of a facility.
    Simulate(NodeArgs),
    /// Draws a device's key and gets its certificate from its own facility: `OUT.key` and `OUT.pem`.
    #[command(after_help = enrol::INVITE_EXAMPLES)]
    Enrol(enrol::DeviceEnrolArgs),
    /// Lists the devices of a region.
    List(twin::RegionArgs),
    /// Gives a device a command, and waits for its end.
    Command(twin::CommandArgs),
    /// Approves a command as a second person.
    Approve(twin::ApproveArgs),
}

const TOKEN_EXAMPLES: &str = "\
Example:
  curl --cacert .medmesh/pki/ca.pem -H \"Authorization: Bearer $(medmesh token --region us)\" \\
       \"$(jq -r .regions.us.fhir .medmesh/mesh.json)/Observation?_count=3\"";

/// Arguments of `token`.
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// Folder of the mesh.
    #[arg(long, default_value = ".medmesh")]
    pub dir: PathBuf,
    /// The client.
    #[arg(long, default_value = "fhir-reader")]
    pub client: String,
    /// The region, or `global`.
    #[arg(long)]
    pub region: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    /// The lines of a guide that begin with the program, up to a pipe or a comment.
    fn commands_of(guide: &str) -> Vec<Vec<&str>> {
        let mut inside = false;
        let mut found = Vec::new();
        for line in guide.lines().map(str::trim) {
            if line.starts_with("```") {
                inside = !inside && line == "```sh";
            } else if inside && line.starts_with("medmesh ") && !line.ends_with('|') {
                let end =
                    [" #", " | ", " > ", " \\"].map(|mark| line.find(mark).unwrap_or(line.len()));
                let end = end.into_iter().min().unwrap_or(line.len());
                found.push(line[..end].split_whitespace().collect());
            }
        }
        found
    }

    #[test]
    fn every_command_of_a_guide_is_one_of_the_program() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut count = 0;
        for guide in [
            "docs/alerts.md",
            "docs/operations.md",
            "infra/README.md",
            "README.md",
        ] {
            let text = std::fs::read_to_string(root.join(guide)).unwrap();
            for line in commands_of(&text) {
                if let Err(error) = Cli::try_parse_from(&line) {
                    panic!("{guide}: {line:?}: {error}");
                }
                count += 1;
            }
        }
        assert!(count > 20, "{count} commands");
    }

    #[test]
    fn every_command_says_what_it_does() {
        fn check(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{}", argument.get_id());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }

    #[test]
    fn a_speed_is_a_number_with_or_without_an_x() {
        assert_eq!("600x".parse(), Ok(Speed(600.0)));
        assert_eq!("1.5".parse(), Ok(Speed(1.5)));
        for text in ["", "x", "0x", "0.5x", "-1x", "NaN", "60001x", "fast"] {
            assert!(text.parse::<Speed>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_no_command_can_do_anything_with_is_refused_by_its_argument() {
        let refused = |line: &str| {
            let words = line.split(' ');
            Cli::try_parse_from(words).err().map(|it| it.to_string())
        };
        assert_eq!(refused("medmesh up --retention 1h"), None);
        let short = refused("medmesh up --retention 59m").unwrap();
        assert!(short.contains("is 1h at least"), "{short}");
        let revoke = "medmesh pki revoke --dir pki --node";
        assert_eq!(refused(&format!("{revoke} edge/us/us/us-f1")), None);
        let place = refused(&format!("{revoke} edge/us/us")).unwrap();
        assert!(
            place.contains("edge/JURISDICTION/REGION/FACILITY"),
            "{place}"
        );
        let nothing = refused("medmesh doctor").unwrap();
        assert!(nothing.contains("--dir"), "{nothing}");
        assert!(refused("medmesh doctor --dir a --config b").is_some());
        assert_eq!(refused("medmesh doctor --dir a"), None);
    }

    #[test]
    fn edge_runs_a_node_or_looks_into_one() {
        for (line, good) in [
            ("medmesh edge --config a", true),
            ("medmesh edge crosswalk --config a --json", true),
            ("medmesh edge", false),
            ("medmesh edge crosswalk", false),
            ("medmesh edge quarantine list --config a", true),
            ("medmesh edge quarantine show p1 --config a --json", true),
            ("medmesh edge quarantine discard --config a", false),
            ("medmesh edge quarantine release x --config a", false),
            ("medmesh regional --config a", true),
            ("medmesh regional quarantine list --config a", true),
            ("medmesh regional", false),
            ("medmesh quarantine list", true),
            ("medmesh quarantine list --config a --config b --json", true),
            ("medmesh quarantine list --dir a --config b", false),
            ("medmesh quarantine show us-f1/p1 --json", true),
            ("medmesh quarantine release edge/us/us/us-f1/p1", true),
            ("medmesh quarantine discard us-f1", false),
            ("medmesh quarantine discard /p1", false),
            ("medmesh quarantine", false),
            ("medmesh global --config a", true),
            ("medmesh global quarantine show n1 --config a", true),
            ("medmesh global", false),
            (
                "medmesh edge beds assign --config a --bed b --patient p --at t",
                true,
            ),
            ("medmesh edge beds assign --config a --bed b", false),
            (
                "medmesh edge beds discharge --config a --bed b --json",
                true,
            ),
            ("medmesh edge beds list --config a", true),
            ("medmesh edge beds", false),
            (
                "medmesh edge dataset import heart --csv h.csv --schema h.toml --config edge.toml",
                true,
            ),
            ("medmesh edge dataset import heart --csv h.csv", false),
            ("medmesh edge dataset list --config edge.toml --json", true),
            (
                "medmesh edge dataset describe heart --config edge.toml",
                true,
            ),
            ("medmesh edge dataset remove --config edge.toml", false),
        ] {
            let parsed = Cli::try_parse_from(line.split(' '));
            assert_eq!(parsed.is_ok(), good, "{line}");
        }
    }

    #[test]
    fn studies_are_checked_submitted_and_looked_at_and_a_ledger_is_of_a_facility() {
        for (line, good) in [
            ("medmesh fl check study.toml --json", true),
            ("medmesh fl check study.toml --dir d", true),
            ("medmesh fl submit study.toml --wait --json --dir d", true),
            ("medmesh fl submit study.toml --dir", false),
            ("medmesh fl show heart-1 --json", true),
            ("medmesh fl resume Heart", false),
            ("medmesh fl export heart-1", false),
            ("medmesh fl ledger --config edge.toml --json", true),
            ("medmesh fl ledger --dir d --facility us-f1 --signed", true),
            ("medmesh fl ledger --config edge.toml --dir d", false),
            (
                "medmesh edge plans approve heart-1 --config edge.toml",
                true,
            ),
            ("medmesh edge plans approve --config edge.toml", false),
            (
                "medmesh fl epsilon --sampling 0.01 --noise-multiplier 1 --steps 9 --delta 1e-5",
                true,
            ),
            (
                "medmesh fl epsilon --sampling 0.01 --noise-multiplier 1 --steps 9",
                false,
            ),
            ("medmesh fl", false),
        ] {
            let parsed = Cli::try_parse_from(line.split(' '));
            assert_eq!(parsed.is_ok(), good, "{line}");
        }
    }

    #[test]
    fn files_and_commands_are_sent_listed_and_taken_back() {
        for (line, good) in [
            ("medmesh edge commands list --config a", true),
            ("medmesh edge commands hold monitor-1 --config a", true),
            ("medmesh edge commands refuse --config a", false),
            ("medmesh edge blobs --config a --json", true),
            (
                "medmesh blob send f --class firmware --to us-f1 --to eu",
                true,
            ),
            ("medmesh blob send f --class phi --to us-f1", false),
            ("medmesh blob send f --class policy", false),
            ("medmesh blob list --json", true),
            ("medmesh blob withdraw", false),
        ] {
            let parsed = Cli::try_parse_from(line.split(' '));
            assert_eq!(parsed.is_ok(), good, "{line}");
        }
    }

    #[test]
    fn what_runs_is_looked_at_and_told_what_to_do() {
        for (line, good) in [
            ("medmesh edge beds --config a", true),
            (
                "medmesh edge series --config a --bed b1 --code 8867-4",
                true,
            ),
            ("medmesh edge series --config a", false),
            ("medmesh edge series --config a --bed b1 --device m1", false),
            ("medmesh edge alarms --config a --json", true),
            ("medmesh edge watch --config a --alarms", true),
            ("medmesh edge watch", false),
            ("medmesh twin get --region us d", true),
            ("medmesh twin set --region us d {} --version 3", true),
            ("medmesh twin set --region us d", false),
            ("medmesh device list --region us --json", true),
            ("medmesh device command --region us d identify", true),
            ("medmesh device approve --region us d c", true),
            ("medmesh device approve --region us d", false),
            ("medmesh up --stays 3", false),
            ("medmesh up --facilities 0", false),
            ("medmesh up --regions us,apac --beds 10", true),
            ("medmesh up --regions mars", false),
            ("medmesh up --beds 0", false),
        ] {
            let parsed = Cli::try_parse_from(line.split(' '));
            assert_eq!(parsed.is_ok(), good, "{line}");
        }
    }
}
