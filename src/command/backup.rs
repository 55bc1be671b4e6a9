//! `medmesh backup` and `medmesh restore`: what is said of them to a person.
use super::nodes;
use crate::{
    backup::{
        manifest::Engine,
        put::{self, Put},
        seal::Passphrase,
        take::{self, Order, Taken},
    },
    cli::backup::{BackupArgs, RestoreArgs},
    failure::Failure,
    out,
};
use anyhow::{Context, Result};
use node::clock::Clock;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Runs `backup`.
pub fn backup(args: &BackupArgs) -> Result<(), Failure> {
    storage::private::make_private();
    let passphrase = Passphrase::read(&args.passphrase_file)?;
    for (config, to) in orders(args)? {
        let order = Order {
            config: &config,
            to: &to,
            passphrase: &passphrase,
            files_only: args.files_only,
        };
        let taken = take::take(&order, Clock::new(None).real());
        let taken = taken.with_context(|| format!("no backup of {}", config.display()))?;
        say_taken(&taken, &to, args.json)?;
    }
    Ok(())
}

/// The configurations of the nodes, and where the backup of each goes.
fn orders(args: &BackupArgs) -> Result<Vec<(PathBuf, PathBuf)>> {
    let Some(dir) = &args.dir else {
        let config = args.config.clone().context("--config or --dir")?;
        return Ok(vec![(config, args.to.clone())]);
    };
    let configs = nodes::of_mesh(dir)?;
    let named = configs.into_iter().map(|config| {
        let node = nodes::checked(&config)?;
        let tier = node.here.tier().as_str();
        let name = match node.name() {
            name if name == tier => format!("{name}.backup"),
            name => format!("{tier}-{name}.backup"),
        };
        Ok((config, args.to.join(name)))
    });
    let named = named.collect::<Result<Vec<_>>>()?;
    // Made once something is to go into it.
    storage::file::private_dir(&args.to).with_context(|| args.to.display().to_string())?;
    Ok(named)
}

fn say_taken(taken: &Taken, to: &Path, json: bool) -> Result<()> {
    let Taken {
        manifest,
        files,
        bytes,
    } = taken;
    if json {
        return Ok(out::line(json!({
            "backup": to, "place": manifest.place, "time": manifest.time.to_rfc3339(), "files": files,
            "bytes": bytes, "engine": manifest.engine,
        }))?);
    }
    let engine = match manifest.engine {
        Engine::Files => "",
        Engine::Dumped => ", with a dump of its PostgreSQL",
        Engine::LeftOut => ", WITHOUT what its engine holds",
    };
    out::line(format!(
        "{}: {} as of {}, {files} files, {} MiB{engine}; put back once for a test and found whole",
        to.display(),
        manifest.place,
        manifest.time.to_rfc3339(),
        bytes.div_ceil(1 << 20),
    ))?;
    Ok(())
}

/// Runs `restore`.
pub fn restore(args: &RestoreArgs) -> Result<(), Failure> {
    storage::private::make_private();
    let passphrase = Passphrase::read(&args.passphrase_file)?;
    let now = Clock::new(None).real();
    let put = match (&args.to, &args.config) {
        (Some(to), _) => put::into_folder(&args.file, &passphrase, to, now),
        (None, Some(config)) => put::into_place(&args.file, &passphrase, config, now),
        (None, None) => Err(anyhow::anyhow!("--to or --config")),
    };
    let put = put.context("nothing was put back")?;
    Ok(say_put(&put, args.json)?)
}

fn say_put(put: &Put, json: bool) -> Result<()> {
    let Put {
        manifest,
        config,
        dump,
    } = put;
    if json {
        return Ok(out::line(json!({
            "place": manifest.place, "time": manifest.time.to_rfc3339(), "config": config, "dump": dump,
            "engine": manifest.engine,
        }))?);
    }
    let tier = manifest.place.split('/').next().unwrap_or_default();
    out::line(format!(
        "{} is put back as of {}; its log says so",
        manifest.place,
        manifest.time.to_rfc3339()
    ))?;
    if let Some(dump) = dump {
        out::line(format!(
            "first, into an empty database: pg_restore --dbname=URL {}",
            dump.display()
        ))?;
    }
    if manifest.engine == Engine::LeftOut {
        out::line("what its engine held is not part of the backup")?;
    }
    out::line(format!(
        "next: medmesh {tier} --config {}",
        config.display()
    ))?;
    out::line(format!(
        "then: medmesh audit gaps --config {0}, and medmesh audit acknowledge --config {0}",
        config.display()
    ))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_folder_is_made_for_backups_of_a_mesh_that_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let args = BackupArgs {
            config: None,
            dir: Some(dir.path().join("mesh")),
            to: dir.path().join("backups"),
            passphrase_file: dir.path().join("secret"),
            files_only: false,
            json: false,
        };
        let error = orders(&args).unwrap_err().to_string();
        assert!(error.contains("holds no configuration"), "{error}");
        assert!(!args.to.exists());
    }
}
