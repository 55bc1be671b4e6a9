//! The engines of a local mesh. Unless others are named, every store is a file; with `--postgres` each region has a
//! database of its own on that server, and with `--scylla` the catalog a keyspace of its own.
//!
//! The names carry eight hexadecimal digits of the mesh's authority, so that meshes may share a server. What a mesh was
//! begun with it keeps: with another engine it would come up empty behind its own ledgers.
use super::{
    files,
    plan::{Plan, Region},
};
use crate::cli::UpArgs;
use anyhow::{Context, Result, bail};
use federation::envelope::digest;
use global::config::CatalogStore;
use regional::{config::FhirStore, create_database};
use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};
use types::Secret;

/// Bytes of the digest in a name.
const NAME_BYTES: usize = 4;
/// Copies of each row of a catalog on a developer's machine.
const ONE_COPY: u8 = 1;

/// Which engines hold what.
#[derive(Debug)]
pub struct Engines {
    /// `medmesh_` and the mesh's own digits.
    name: String,
    /// The connection string of a PostgreSQL server, and the authority of its certificate.
    postgres: Option<(Secret<String>, Option<PathBuf>)>,
    /// `host:port` of nodes of a ScyllaDB or Apache Cassandra.
    scylla: Vec<String>,
    /// Whether every region has two nodes.
    pairs: bool,
}

impl Engines {
    /// What is asked for, once the mesh has its authority.
    ///
    /// # Errors
    /// The mesh was begun with other engines.
    pub fn new(plan: &Plan, args: &UpArgs) -> Result<Self> {
        let authority = plan.pki_dir().join("ca.pem");
        let authority = fs::read(&authority).with_context(|| authority.display().to_string())?;
        let own: String = digest(&authority)
            .iter()
            .take(NAME_BYTES)
            .fold("medmesh_".to_owned(), |name, byte| {
                name + &format!("{byte:02x}")
            });
        let engines = Self {
            name: own,
            postgres: args
                .postgres
                .clone()
                .map(|url| (url, args.postgres_ca.clone())),
            scylla: args.scylla.clone(),
            pairs: args.pairs,
        };
        engines.same_as_before(&memory(plan))?;
        Ok(engines)
    }

    /// What is remembered of this choice.
    fn words(&self) -> String {
        let word = |asked: bool, engine: &'static str| if asked { engine } else { "files" };
        // What a mesh has remembered that was begun before there could be two nodes says nothing of them.
        let nodes = if self.pairs {
            ", two nodes a region (--pairs)"
        } else {
            ""
        };
        format!(
            "FHIR in {}, catalog in {}{nodes}\n",
            word(self.postgres.is_some(), "PostgreSQL (--postgres)"),
            word(!self.scylla.is_empty(), "ScyllaDB (--scylla)"),
        )
    }

    /// Compares with what the mesh was begun with.
    fn same_as_before(&self, file: &Path) -> Result<()> {
        match fs::read_to_string(file) {
            Ok(before) if before != self.words() => bail!(
                "this mesh was begun with {}; give the same options, or another --dir",
                before.trim()
            ),
            Ok(_) => Ok(()),
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| file.display().to_string())
            }
            // A mesh that ran before there was a choice has its stores in files.
            Err(_) if !self.is_files() && file.with_file_name("global/data/ledger.db").exists() => {
                bail!("this mesh was begun with files; give another --dir")
            }
            Err(_) => Ok(()),
        }
    }

    fn is_files(&self) -> bool {
        self.postgres.is_none() && self.scylla.is_empty()
    }

    /// Makes the databases that are missing, and the files with their connection strings; then the choice is remembered:
    /// what could not be reached binds nobody.
    ///
    /// # Errors
    /// The server cannot be reached, or refuses.
    pub async fn prepare(&self, plan: &Plan) -> Result<()> {
        self.databases(plan).await?;
        files::replace(&memory(plan), self.words().as_bytes())
    }

    async fn databases(&self, plan: &Plan) -> Result<()> {
        let Some((url, authority)) = &self.postgres else {
            return Ok(());
        };
        let authority = authority.as_ref().map(fs::read).transpose();
        let authority = authority.context("--postgres-ca")?;
        for region in &plan.regions {
            let name = self.database(region);
            let own = create_database(url.reveal(), authority.as_deref(), &name).await;
            let own = own.with_context(|| format!("--postgres: database {name}"))?;
            let own = Secret::new(own);
            files::replace_secret(&url_file(plan, region), own.reveal().as_bytes())?;
        }
        Ok(())
    }

    fn database(&self, region: &Region) -> String {
        format!("{}_{}", self.name, region.id.as_str().replace('-', "_"))
    }

    /// Where a region keeps its resources.
    pub fn fhir_store(&self, plan: &Plan, region: &Region) -> FhirStore {
        match &self.postgres {
            None => FhirStore::Sqlite,
            Some((_, ca)) => FhirStore::Postgres {
                url_file: url_file(plan, region),
                ca: ca.clone(),
            },
        }
    }

    /// Where the global node keeps its catalog.
    pub fn catalog_store(&self) -> CatalogStore {
        if self.scylla.is_empty() {
            return CatalogStore::Sqlite;
        }
        CatalogStore::Scylla {
            nodes: self.scylla.clone(),
            keyspace: self.name.clone(),
            replication: ONE_COPY,
        }
    }
}

/// Where the choice is remembered.
fn memory(plan: &Plan) -> PathBuf {
    plan.dir.join("engines")
}

/// The connection string, which may hold a password.
fn url_file(plan: &Plan, region: &Region) -> PathBuf {
    plan.node_dir(&region.place()).join("postgres.url")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engines(postgres: bool, scylla: bool) -> Engines {
        Engines {
            name: "medmesh_00c0ffee".into(),
            postgres: postgres.then(|| (Secret::new("postgres://m@h/x".into()), None)),
            scylla: scylla.then(|| "h:9042".into()).into_iter().collect(),
            pairs: false,
        }
    }

    #[test]
    fn a_mesh_keeps_the_engines_it_was_begun_with() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("engines");
        engines(true, false).same_as_before(&file).unwrap();
        // Nothing was prepared: another choice is free.
        engines(false, true).same_as_before(&file).unwrap();
        fs::write(&file, engines(true, false).words()).unwrap();
        engines(true, false).same_as_before(&file).unwrap();
        for (postgres, scylla) in [(false, false), (true, true)] {
            let other = engines(postgres, scylla).same_as_before(&file);
            let said = other.unwrap_err().to_string();
            assert!(
                said.contains("FHIR in PostgreSQL (--postgres), catalog in files"),
                "{said}"
            );
        }
        // One node of each region has begun, and its ledger is there alone.
        let two = Engines {
            pairs: true,
            ..engines(true, false)
        };
        assert!(two.same_as_before(&file).is_err());
        fs::write(&file, two.words()).unwrap();
        two.same_as_before(&file).unwrap();
        let said = engines(true, false).same_as_before(&file).unwrap_err();
        assert!(said.to_string().contains("(--pairs)"), "{said}");
    }

    #[test]
    fn a_mesh_from_before_there_was_a_choice_is_in_files() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("global/data")).unwrap();
        fs::write(dir.path().join("global/data/ledger.db"), "").unwrap();
        let file = dir.path().join("engines");
        assert!(engines(true, false).same_as_before(&file).is_err());
        engines(false, false).same_as_before(&file).unwrap();
    }
}
