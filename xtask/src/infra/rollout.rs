//! `cargo xtask rollout local`: builds the program and applies `environments/local`, a new version region by region.
//!
//! Which version runs where is a file that terraform reads by itself, so that a plain `terraform apply` afterwards
//! changes nothing. Every version is kept beside it: a later build changes nothing that runs.
use super::terraform::Terraform;
use crate::{
    place::Places,
    run::{cargo, step},
};
use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};
use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

/// Which version runs where.
const VERSIONS: &str = "versions.auto.tfvars.json";
/// What a rollout leaves in the folder of the environment beside the mesh: programs, and what terraform keeps.
const LEFT: [&str; 7] = [
    ".programs",
    ".terraform",
    ".terraform.lock.hcl",
    ".terraform.tfstate.lock.info",
    "terraform.tfstate",
    "terraform.tfstate.backup",
    "versions.auto.tfvars.half",
];
/// What every command is given: the source of truth, from the folder of the environment.
const REGIONS: &str = "-var-file=../../regions.tfvars.json";

/// Where a mesh is brought up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Environment {
    /// On this machine.
    Local,
}

/// Arguments of `rollout`.
#[derive(Args)]
pub struct RolloutArgs {
    /// Where.
    environment: Environment,
    /// These jurisdictions alone (us, eu, apac); all of them when left out. A later run with more of them grows the mesh.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// A program that is built already.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Folder of the mesh; `.mesh` in the environment's folder when left out.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Added to every port, for a second mesh on this machine.
    #[arg(long, default_value_t = 0)]
    port_shift: u16,
    /// A copy of infra/terraform to work in, instead of the clone's own.
    #[arg(long)]
    source: Option<PathBuf>,
    /// End the mesh and remove its folder.
    #[arg(long)]
    destroy: bool,
}

/// Runs the command.
pub fn rollout(args: &RolloutArgs) -> Result<bool> {
    let Environment::Local = args.environment;
    let places = Places::find()?;
    let Some(terraform) = Terraform::find(&places.target)? else {
        bail!(
            "terraform is not on the PATH: install version 1.11 or newer, or run `cargo run --release -- up`"
        );
    };
    let source = args
        .source
        .clone()
        .unwrap_or_else(|| places.root.join(super::SOURCE));
    let mesh = Mesh {
        root: source.join("environments/local"),
        terraform,
        variables: variables(args)?,
    };
    let ready = mesh
        .terraform
        .run(&mesh.root, &["init", "-input=false", "-no-color"])?;
    ensure!(ready.ok, "{}", ready.text);
    if args.destroy {
        mesh.destroy(args)?;
        return Ok(true);
    }
    let built = match &args.binary {
        Some(binary) => binary.clone(),
        None => build(&places)?,
    };
    let program = mesh.keep(&built)?;
    match mesh.running()? {
        Some(running) if running != program => mesh.region_by_region(&running, &program)?,
        _ => mesh.apply(&program, &Map::new())?,
    }
    mesh.say(&program)?;
    Ok(true)
}

fn build(places: &Places) -> Result<PathBuf> {
    step(&mut cargo(
        places,
        &["build", "--release", "--bin", "medmesh"],
    ))?;
    Ok(places.target.join("release/medmesh"))
}

fn variables(args: &RolloutArgs) -> Result<Vec<String>> {
    let mut variables = vec![
        REGIONS.to_owned(),
        format!("-var=port_shift={}", args.port_shift),
        format!("-var=only_jurisdictions={}", json!(args.only)),
    ];
    if let Some(dir) = &args.dir {
        let dir = std::path::absolute(dir)?;
        variables.push(format!("-var=dir={}", dir.display()));
    }
    Ok(variables)
}

/// The mesh of an environment.
struct Mesh {
    root: PathBuf,
    terraform: Terraform,
    variables: Vec<String>,
}

impl Mesh {
    /// Keeps a version of the program under a name of its own.
    fn keep(&self, built: &Path) -> Result<PathBuf> {
        let at = || built.display().to_string();
        let bytes = fs::read(built).with_context(at)?;
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        let dir = self.root.join(".programs");
        fs::create_dir_all(&dir)?;
        let path = dir
            .canonicalize()?
            .join(format!("medmesh-{:016x}", hasher.finish()));
        if !path.exists() {
            let half = path.with_extension("half");
            fs::write(&half, bytes)?;
            fs::set_permissions(&half, fs::Permissions::from_mode(0o755))?;
            fs::rename(&half, &path)?;
        }
        Ok(path)
    }

    fn versions(&self) -> PathBuf {
        self.root.join(VERSIONS)
    }

    /// Terraform writes its state every 20 s: of a rollout that was killed before, it knows nothing. What that began is
    /// found by the program itself.
    fn destroy(&self, args: &RolloutArgs) -> Result<()> {
        if self.versions().exists() {
            let mut arguments = vec!["destroy", "-auto-approve", "-input=false", "-no-color"];
            arguments.extend(self.variables.iter().map(String::as_str));
            let said = self.terraform.run(&self.root, &arguments)?;
            eprint!("{}", said.text);
            ensure!(
                said.ok || !said.text.contains("acquiring the state lock"),
                "terraform is at work on this mesh: wait until it is done, or end it, and say it again"
            );
            if !said.ok {
                eprintln!("rollout: terraform does not end it: the program does");
            }
        }
        let dir = match &args.dir {
            Some(dir) => std::path::absolute(dir)?,
            None => std::path::absolute(self.root.join(".mesh"))?,
        };
        if dir.exists() {
            self.sweep(&dir, args.binary.as_deref())?;
        }
        fs::remove_file(self.versions()).ok();
        for name in LEFT {
            let path = self.root.join(name);
            let removed = match path.is_dir() {
                true => fs::remove_dir_all(&path),
                false => fs::remove_file(&path),
            };
            removed.ok();
        }
        Ok(())
    }

    /// By the first program that can: the mesh's own, the one given, or one that was kept.
    fn sweep(&self, dir: &Path, given: Option<&Path>) -> Result<()> {
        let inside = |dir: PathBuf| fs::read_dir(dir).into_iter().flatten().flatten();
        let own = inside(dir.join("bin")).map(|entry| entry.path());
        let kept = inside(self.root.join(".programs")).map(|entry| entry.path());
        let order = json!({ "dir": dir }).to_string();
        let mut swept = Err(anyhow!("no program can end it: give one with --binary"));
        for program in own.chain(given.map(Path::to_path_buf)).chain(kept) {
            swept = step(Command::new(program).args(["local", "sweep", &order]));
            if swept.is_ok() {
                break;
            }
        }
        swept.with_context(|| format!("{} is still there", dir.display()))
    }

    /// The version that everything runs; none before the first rollout.
    fn running(&self) -> Result<Option<PathBuf>> {
        let Ok(text) = fs::read_to_string(self.versions()) else {
            return Ok(None);
        };
        let Ok(versions) = serde_json::from_str::<Value>(&text) else {
            eprintln!("rollout: {VERSIONS} is none: it is written anew");
            return Ok(None);
        };
        let binary = versions["binary"].as_str().map(PathBuf::from);
        Ok(binary.filter(|binary| binary.exists()))
    }

    /// Applies with one version for all, and others for some regions.
    fn apply(&self, all: &Path, some: &Map<String, Value>) -> Result<()> {
        let versions = json!({ "binary": all, "binaries": some });
        // Whole or not at all: a rollout may be killed at any step.
        let half = self.versions().with_extension("half");
        fs::write(&half, serde_json::to_vec_pretty(&versions)?)?;
        fs::rename(&half, self.versions())?;
        self.run(&["apply", "-auto-approve"])
    }

    /// A region is done when all of its processes answer and nothing in the mesh is dead.
    fn region_by_region(&self, former: &Path, new: &Path) -> Result<()> {
        let mut some = self.done(new);
        for place in self.order()? {
            if some.contains_key(&place) {
                continue;
            }
            eprintln!("rollout: {place}");
            let before = some.clone();
            some.insert(place.clone(), json!(new));
            if let Err(error) = self.apply(former, &some).and_then(|()| self.is_well()) {
                eprintln!("rollout: {place} gets its former version back");
                let back = self.apply(former, &before);
                let done: Vec<&String> = before.keys().collect();
                let error = error.context(format!(
                    "{place} did not come up with the new version; the rollout stopped there, after {done:?}"
                ));
                return match back {
                    Ok(()) => Err(error),
                    Err(worse) => Err(error.context(format!("nor with its former one: {worse:#}"))),
                };
            }
        }
        self.apply(new, &Map::new())
    }

    /// Places that a rollout of this version which was stopped has brought it to: they keep it.
    fn done(&self, new: &Path) -> Map<String, Value> {
        let text = fs::read(self.versions()).unwrap_or_default();
        let versions = serde_json::from_slice::<Value>(&text).unwrap_or_default();
        let mut done = versions["binaries"]
            .as_object()
            .cloned()
            .unwrap_or_default();
        done.retain(|_, version| *version == json!(new));
        done
    }

    /// The canaries, the other regions, the global node.
    fn order(&self) -> Result<Vec<String>> {
        let said = self
            .terraform
            .run(&self.root, &["output", "-json", "rollout"])?;
        ensure!(said.ok, "{}", said.text);
        let mut order: Vec<String> = serde_json::from_str(&said.text).context("output rollout")?;
        order.push("global".to_owned());
        Ok(order)
    }

    /// A plan that finds nothing to do: every process lives, with the configuration that it shall have.
    fn is_well(&self) -> Result<()> {
        let mut arguments = vec!["plan", "-input=false", "-no-color", "-detailed-exitcode"];
        arguments.extend(self.variables.iter().map(String::as_str));
        let said = self.terraform.run(&self.root, &arguments)?;
        ensure!(said.ok, "a process died:\n{}", said.text);
        Ok(())
    }

    fn run(&self, command: &[&str]) -> Result<()> {
        let mut arguments = command.to_vec();
        arguments.extend(["-input=false", "-compact-warnings"]);
        arguments.extend(self.variables.iter().map(String::as_str));
        step(&mut self.terraform.command(&self.root, &arguments))
    }

    /// Where to look, and with which program.
    fn say(&self, program: &Path) -> Result<()> {
        let said = self.terraform.run(&self.root, &["output", "-json"])?;
        ensure!(said.ok, "{}", said.text);
        let outputs: Value = serde_json::from_str(&said.text).context("outputs")?;
        let mesh = outputs["mesh"]["value"].as_str().unwrap_or_default();
        println!("\nThe mesh runs until `cargo xtask rollout local --destroy`.");
        for (region, url) in outputs["fhir"]["value"].as_object().into_iter().flatten() {
            println!("  {region:<16} {}", url.as_str().unwrap_or_default());
        }
        println!(
            "  {:<16} {}",
            "global",
            outputs["catalog"]["value"].as_str().unwrap_or_default()
        );
        println!("  everything else: {mesh}/mesh.json; logs: {mesh}/*/*/node.log");
        let program = program.display();
        println!("  a token:         {program} token --dir {mesh} --region REGION");
        Ok(())
    }
}
