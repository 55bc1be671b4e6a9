//! Every engine of the catalog against the one suite: `cargo test --workspace --test contract`.
//!
//! An engine that is not asked for is reported as ignored; one asked for and out of reach fails.
use async_trait::async_trait;
use global::catalog::{
    Catalog,
    adversary::Adversary,
    contract::{CASES, Store},
    scylla::ScyllaCatalog,
    sqlite::SqliteCatalog,
};
use libtest_mimic::{Arguments, Trial};
use medmesh_global as global;
use std::{
    env,
    process::{self, ExitCode},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};
use tempfile::TempDir;

fn main() -> ExitCode {
    let mut trials = Vec::new();
    suite(&mut trials, "sqlite", true, Sqlite::new);
    suite(&mut trials, "sqlite_and_adversary", true, || {
        Weakened(Sqlite::new())
    });
    let node = env::var("MEDMESH_TEST_CASSANDRA").ok();
    let asked = node.is_some();
    suite(&mut trials, "cassandra", asked, move || {
        Cassandra::new(node.clone().unwrap_or_default())
    });
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn suite<S: Store + 'static>(
    trials: &mut Vec<Trial>,
    engine: &str,
    asked_for: bool,
    fresh: impl Fn() -> S + Clone + Send + 'static,
) {
    for case in CASES {
        let fresh = fresh.clone();
        let trial = Trial::test(format!("catalog::{engine}::{}", case.name), move || {
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()?
                .block_on((case.run)(&fresh()));
            Ok(())
        });
        trials.push(trial.with_ignored_flag(!asked_for));
    }
}

struct Sqlite(TempDir);

impl Sqlite {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
}

#[async_trait]
impl Store for Sqlite {
    async fn open(&self) -> Arc<dyn Catalog> {
        Arc::new(SqliteCatalog::open(&self.0.path().join("catalog.db")).unwrap())
    }
}

struct Weakened(Sqlite);

#[async_trait]
impl Store for Weakened {
    async fn open(&self) -> Arc<dyn Catalog> {
        Arc::new(Adversary::new(self.0.open().await))
    }
}

/// A keyspace of its own for every case; the engine is thrown away with its data afterwards.
struct Cassandra {
    node: String,
    keyspace: String,
}

impl Cassandra {
    fn new(node: String) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self {
            node,
            keyspace: format!("case_{}_{number}", process::id()),
        }
    }
}

#[async_trait]
impl Store for Cassandra {
    async fn open(&self) -> Arc<dyn Catalog> {
        let nodes = [self.node.clone()];
        let catalog = ScyllaCatalog::open(&nodes, &self.keyspace, 1).await;
        Arc::new(catalog.expect("MEDMESH_TEST_CASSANDRA names a node that answers"))
    }
}
