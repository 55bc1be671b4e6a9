//! The engines that the suites need, real ones: PostgreSQL, Apache Cassandra, Mosquitto, swtpm, and a Python and modules for
//! Node.js with FHIR clients that are not ours. Each is installed when absent, started on a free port of 127.0.0.1 and ended.
mod cassandra;
mod certificates;
mod node;
mod packages;
mod postgres;
mod python;
mod user;

pub use packages::install;

use crate::{place::Places, run::Engine, run::on_path};
use anyhow::{Context, Result, anyhow};
use std::{
    io::Read,
    net::TcpListener,
    path::PathBuf,
    thread::{self, JoinHandle},
    time::Duration,
};

/// How often it is looked whether the databases of [`up`] still run.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// An engine and the variables by which tests find it.
struct Started {
    variables: Vec<(&'static str, String)>,
    engine: Option<Engine>,
}

/// The engines of one run; dropping this ends them.
pub struct Engines {
    coming: Vec<JoinHandle<Result<Started>>>,
    running: Vec<Engine>,
    variables: Vec<(&'static str, String)>,
    trouble: Option<String>,
}

impl Engines {
    /// Installs the packages that are missing, then brings the engines up in the background.
    ///
    /// # Errors
    /// When packages are missing and cannot be installed; the error has the one line to copy.
    pub fn start(places: &Places) -> Result<Self> {
        install()?;
        let cassandra_cache = places.cache.join("cassandra");
        let python_cache = places.cache.join("python");
        let node_cache = places.cache.join("node");
        let coming = vec![
            thread::spawn(|| postgres::start().context("PostgreSQL")),
            thread::spawn(|| postgres::start_unsafe().context("PostgreSQL without fsync")),
            thread::spawn(move || cassandra::start(&cassandra_cache).context("Apache Cassandra")),
            thread::spawn(move || python::environment(&python_cache).context("Python")),
            thread::spawn(move || node::modules(&node_cache).context("modules of npm")),
        ];
        let mosquitto = on_path("mosquitto").context("mosquitto was installed")?;
        let swtpm = on_path("swtpm").context("swtpm was installed")?;
        Ok(Self {
            coming,
            running: Vec::new(),
            variables: vec![
                ("MEDMESH_TEST_MOSQUITTO", text(mosquitto)),
                ("MEDMESH_TEST_SWTPM", text(swtpm)),
            ],
            trouble: None,
        })
    }

    /// Waits until every engine answers; the variables for the tests.
    ///
    /// # Errors
    /// When one of them did not come up: its last words.
    pub fn ready(&mut self) -> Result<&[(&'static str, String)]> {
        for coming in self.coming.drain(..) {
            match coming.join() {
                Ok(Ok(started)) => {
                    for (name, value) in &started.variables {
                        eprintln!("{name}={value}");
                    }
                    self.variables.extend(started.variables);
                    self.running.extend(started.engine);
                }
                Ok(Err(error)) => self.trouble = Some(format!("{error:#}")),
                Err(_) => self.trouble = Some("a starter panicked".into()),
            }
        }
        match &self.trouble {
            None => Ok(&self.variables),
            Some(trouble) => Err(anyhow!("{trouble}")),
        }
    }

    /// The variables by which programs find what runs.
    pub fn variables(&self) -> &[(&'static str, String)] {
        &self.variables
    }

    /// Prints the variables and waits for the end of the input, or Ctrl-C.
    pub fn hold(&mut self) -> Result<()> {
        println!("\nThe engines run until Ctrl-C:");
        for (name, value) in self.ready()? {
            println!("export {name}='{value}'");
        }
        std::io::stdin().read_to_end(&mut Vec::new())?;
        Ok(())
    }
}

impl Drop for Engines {
    fn drop(&mut self) {
        // Those that are still coming up end too.
        self.ready().ok();
    }
}

/// The Python of the peers, installed when absent.
///
/// # Errors
/// It cannot be installed.
pub fn python(places: &Places) -> Result<String> {
    let started = python::environment(&places.cache.join("python"))?;
    let python = started.variables.into_iter().next();
    Ok(python.context("an environment has a Python")?.1)
}

/// A PostgreSQL that runs until this is dropped.
///
/// # Errors
/// It does not come up.
pub fn postgres() -> Result<Engines> {
    let started = postgres::start().context("PostgreSQL")?;
    Ok(Engines {
        coming: Vec::new(),
        running: started.engine.into_iter().collect(),
        variables: started.variables,
        trouble: None,
    })
}

/// Runs the two databases for a mesh until Ctrl-C; comes back only when one of them ended.
///
/// # Errors
/// One of them cannot be installed, does not come up, or ended by itself: its last words.
pub fn up() -> Result<bool> {
    install()?;
    let cache = Places::find()?.cache.join("cassandra");
    let mut engines = Engines {
        coming: vec![
            thread::spawn(|| postgres::start().context("PostgreSQL")),
            thread::spawn(move || cassandra::start(&cache).context("Apache Cassandra")),
        ],
        running: Vec::new(),
        variables: Vec::new(),
        trouble: None,
    };
    println!("{}", directions(engines.ready()?)?);
    loop {
        thread::sleep(LOOK_EVERY);
        for engine in &mut engines.running {
            engine.runs()?;
        }
    }
}

/// How `medmesh up` takes the databases.
fn directions(variables: &[(&str, String)]) -> Result<String> {
    let of = |name: &str| {
        let found = variables.iter().find(|(known, _)| *known == name);
        found
            .map(|(_, value)| value)
            .with_context(|| name.to_owned())
    };
    let postgres = of("MEDMESH_TEST_POSTGRES_URL")?;
    let cassandra = of("MEDMESH_TEST_CASSANDRA")?;
    Ok(format!(
        "\nPostgreSQL   {postgres}\nCassandra    {cassandra}\n\nA mesh on them:\n  \
         cargo run --release -- up --postgres {postgres} --scylla {cassandra}\n\n\
         They run until Ctrl-C, and what they hold goes with them."
    ))
}

/// A port of 127.0.0.1 that was free just now.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("bind a free port")?;
    Ok(listener.local_addr()?.port())
}

fn text(path: PathBuf) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_for_a_mesh_names_both_databases() {
        let variables = [
            ("MEDMESH_TEST_POSTGRES_URL", "postgres://a@b:1/c".to_owned()),
            ("MEDMESH_TEST_CASSANDRA", "b:2".to_owned()),
        ];
        let said = directions(&variables).unwrap();
        assert!(said.contains("up --postgres postgres://a@b:1/c --scylla b:2\n"));
        assert!(directions(&variables[..1]).is_err());
    }
}
