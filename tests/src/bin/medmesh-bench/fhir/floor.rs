//! What nothing can be faster than: COPY of the same rows, `pgbench` reading the same bodies, and the node's own HTTPS stack
//! answering the same bytes.
use super::target::{Target, Way};
use anyhow::{Context, Result, ensure};
use axum::Router;
use fhir::postgres::{PostgresStore, create_database};
use medmesh_tests::{engine, mesh::Mesh, postgres::Server};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Instant,
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// How long `pgbench` reads.
const MEASURED_S: &str = "3";

/// A database that goes when this is dropped.
pub struct Scratch {
    name: String,
    pub url: String,
}

impl Scratch {
    /// Makes it, empty.
    pub async fn new(name: &str) -> Result<Self> {
        let server = Server::asked_for()?;
        server.run(&[&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")])?;
        let url = create_database(&engine::postgres()?, None, name).await?;
        Ok(Self {
            name: name.to_owned(),
            url,
        })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let drop_it = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        let _left = Server::asked_for().and_then(|server| server.run(&[&drop_it]));
    }
}

/// Tables that hold something of each resource.
const OF_RESOURCES: &str = "SELECT table_name FROM information_schema.columns WHERE table_schema = 'public' \
     AND column_name IN ('type', 'id') GROUP BY table_name HAVING count(*) = 2 AND table_name <> 'event' \
     ORDER BY table_name = 'resource' DESC, table_name";

/// Resources a second of COPY of everything that a database has, into the same tables with the same indexes, in one durable
/// commit.
pub async fn copy(of: &Server) -> Result<f64> {
    let dir = tempfile::tempdir()?;
    let tables = of.run(&[OF_RESOURCES])?;
    let (mut out, mut back) = (String::new(), "BEGIN;\n".to_owned());
    for table in tables.lines() {
        let file = dir.path().join(table);
        writeln!(out, "\\copy {table} TO '{}'", file.display())?;
        writeln!(back, "\\copy {table} FROM '{}'", file.display())?;
    }
    back.push_str("COMMIT;\n");
    let count: f64 = of.run(&["SELECT count(*) FROM resource"])?.parse()?;
    psql(of.url(), dir.path(), &out)?;
    let scratch = Scratch::new("medmesh_bench_copy").await?;
    drop(PostgresStore::open(&scratch.url, None).await?);
    let began = Instant::now();
    psql(&scratch.url, dir.path(), &back)?;
    Ok(count / began.elapsed().as_secs_f64())
}

fn psql(url: &str, dir: &Path, script: &str) -> Result<()> {
    let file = dir.join("script.sql");
    std::fs::write(&file, script)?;
    let mut psql = Command::new("psql");
    psql.args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-d", url, "-f"])
        .arg(file);
    let out = psql.output().context("psql")?;
    ensure!(
        out.status.success(),
        "psql: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    Ok(())
}

/// Reads of bodies a second by `pgbench`, with prepared statements and as many connections.
pub fn pgbench(of: &Server, clients: usize) -> Result<f64> {
    let dir = tempfile::tempdir()?;
    let last = of.run(&["SELECT max(seq) FROM resource"])?;
    let script = format!("\\set n random(1, {last})\nSELECT body FROM resource WHERE seq = :n;\n");
    let file = dir.path().join("read.sql");
    std::fs::write(&file, script)?;
    let mut pgbench = Command::new(of.binary("pgbench")?);
    pgbench.args([
        "-n",
        "-M",
        "prepared",
        "-T",
        MEASURED_S,
        "-c",
        &clients.to_string(),
        "-f",
    ]);
    let out = pgbench
        .arg(&file)
        .arg(of.url())
        .output()
        .context("pgbench")?;
    let said = String::from_utf8_lossy(&out.stdout);
    let line = said.lines().find_map(|line| line.strip_prefix("tps = "));
    let rate = line.and_then(|rest| rest.split(' ').next()?.parse().ok());
    rate.with_context(|| format!("pgbench: {said}{}", String::from_utf8_lossy(&out.stderr)))
}

/// A server that answers every request with the same bytes, by the node's own stack and with its certificate.
pub struct Echo {
    pub target: Target,
    stop: CancellationToken,
    served: JoinHandle<std::io::Result<()>>,
}

impl Echo {
    /// Starts it.
    pub async fn start(mesh: &Mesh, region: &str, body: Vec<u8>) -> Result<Self> {
        let text = std::fs::read_to_string(mesh.config(&format!("regional:{region}")))?;
        let config: toml::Table = text.parse()?;
        let file = |name: &str| config["tls"][name].as_str().map(PathBuf::from);
        let (cert, key) = (
            file("cert").context("tls.cert")?,
            file("key").context("tls.key")?,
        );
        let read = |error| anyhow::anyhow!("the node's certificate: {error:?}");
        let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(cert).map_err(read)?.collect();
        let key = PrivateKeyDer::from_pem_file(key).map_err(read)?;
        let tls = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(chain.map_err(read)?, key)?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let at = listener.local_addr()?;
        let body = bytes::Bytes::from(body);
        let answer = move || async move { ([("content-type", "application/fhir+json")], body) };
        let router = Router::new().fallback(answer);
        let stop = CancellationToken::new();
        let served = tokio::spawn(::node::https::serve(
            listener,
            Arc::new(tls),
            router,
            None,
            stop.clone(),
        ));
        let way = Target::of_mesh(mesh, region).await?.way;
        let way = Way {
            authority: format!("localhost:{}", at.port()),
            token: Some("x".repeat(600)),
            ..way
        };
        Ok(Self {
            target: Target::of_echo(way),
            stop,
            served,
        })
    }

    /// Ends it.
    pub async fn stop(self) -> Result<()> {
        self.stop.cancel();
        Ok(self.served.await??)
    }
}
