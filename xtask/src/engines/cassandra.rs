//! A single-node Apache Cassandra of this run, as a stand-in for ScyllaDB: both speak the same CQL.
//! Its jars come from Maven Central by Maven, once; its data lies in a temporary directory.
use super::{Started, free_port};
use crate::run::{Engine, step, temp_dir};
use anyhow::{Context, Result, ensure};
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

const VERSION: &str = "5.0.6";

/// The start takes about 10 s on an idle core; beside a build it is given time.
const READY_WITHIN: Duration = Duration::from_mins(4);

/// How long one probe of the port may take.
const PROBE_WITHIN: Duration = Duration::from_secs(2);

/// What Cassandra 5.0 asks of Java 17 to export to it (its conf/jvm17-server.options).
const EXPORTS: &[&str] = &[
    "java.base/java.lang.ref",
    "java.base/jdk.internal.misc",
    "java.management.rmi/com.sun.jmx.remote.internal.rmi",
    "java.rmi/sun.rmi.registry",
    "java.rmi/sun.rmi.server",
    "java.sql/java.sql",
    "jdk.unsupported/sun.misc",
];

/// What Cassandra 5.0 asks of Java 17 to open to it (its conf/jvm17-server.options).
const OPENS: &[&str] = &[
    "java.base/java.io",
    "java.base/java.lang",
    "java.base/java.lang.module",
    "java.base/java.lang.reflect",
    "java.base/java.nio",
    "java.base/java.util",
    "java.base/java.util.concurrent",
    "java.base/java.util.concurrent.atomic",
    "java.base/jdk.internal.loader",
    "java.base/jdk.internal.math",
    "java.base/jdk.internal.module",
    "java.base/jdk.internal.ref",
    "java.base/jdk.internal.reflect",
    "java.base/jdk.internal.util.jar",
    "java.base/sun.nio.ch",
    "jdk.management/com.sun.management.internal",
];

/// A small heap and a compiler that starts fast: it holds a few thousand rows for a minute.
const TUNING: &[&str] = &[
    "-Xms512M",
    "-Xmx512M",
    "-Xss512k",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djdk.attach.allowAttachSelf=true",
    "-Dcassandra-foreground=yes",
    "-Dcassandra.skip_wait_for_gossip_to_settle=0",
    "-Dcassandra.ring_delay_ms=100",
    "-Dcassandra.superuser_setup_delay_ms=0",
];

/// Runs a command and starts it again whenever it was killed, which tests do: 137 is the shell's word for that.
const AGAIN: &str = r#"
trap 'over=1; kill -s TERM $engine' TERM
while :; do
  "$@" &
  engine=$!
  wait $engine
  status=$?
  if [ -n "$over" ]; then wait $engine; exit; fi
  [ $status -eq 137 ] || exit $status
done
"#;

const LOGBACK: &str = r#"<configuration>
  <appender name="OUT" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%d %-5level %logger{0} %msg%n</pattern></encoder>
  </appender>
  <root level="WARN"><appender-ref ref="OUT"/></root>
</configuration>
"#;

/// Fetches Cassandra unless the cache has it, and starts it.
pub fn start(cache: &Path) -> Result<Started> {
    let jars = fetch(&cache.join(VERSION))?;
    let dir = temp_dir("cassandra")?;
    let server = serve(&jars, &dir);
    if server.is_err() {
        fs::remove_dir_all(&dir).ok();
    }
    server
}

/// The folder of jars. It gets its name once it is complete.
fn fetch(cache: &Path) -> Result<PathBuf> {
    let jars = cache.join("lib");
    if jars.is_dir() {
        return Ok(jars);
    }
    fs::create_dir_all(cache)?;
    let partial = cache.join(format!("partial-{}", std::process::id()));
    fs::write(cache.join("pom.xml"), pom())?;
    eprintln!("fetching Apache Cassandra {VERSION}");
    step(
        Command::new("mvn")
            .args(["--batch-mode", "--quiet", "dependency:copy-dependencies"])
            .args(["-Dstyle.color=never", "-DincludeScope=runtime"])
            .arg(format!("-DoutputDirectory={}", partial.display()))
            .current_dir(cache),
    )?;
    match fs::rename(&partial, &jars) {
        Err(error) if !jars.is_dir() => Err(error).context("keep the jars"),
        _ => Ok(jars),
    }
}

fn pom() -> String {
    format!(
        "<project><modelVersion>4.0.0</modelVersion>\
         <groupId>medmesh</groupId><artifactId>cassandra-for-tests</artifactId><version>1</version>\
         <packaging>pom</packaging><dependencies><dependency>\
         <groupId>org.apache.cassandra</groupId><artifactId>cassandra-all</artifactId>\
         <version>{VERSION}</version></dependency></dependencies></project>\n"
    )
}

fn serve(jars: &Path, dir: &Path) -> Result<Started> {
    let (storage, native) = (free_port()?, free_port()?);
    ensure!(storage != native, "the same free port twice");
    fs::write(dir.join("cassandra.yaml"), yaml(dir, storage, native))?;
    fs::write(dir.join("logback.xml"), LOGBACK)?;
    let mut java = Command::new("sh");
    java.args(["-c", AGAIN, "cassandra", "java"])
        .current_dir(dir);
    for (option, packages) in [("--add-exports", EXPORTS), ("--add-opens", OPENS)] {
        for package in packages {
            java.arg(format!("{option}={package}=ALL-UNNAMED"));
        }
    }
    java.arg(format!("-javaagent:{}", jamm(jars)?.display()))
        .args(TUNING)
        .arg(format!(
            "-Dcassandra.config=file://{}/cassandra.yaml",
            dir.display()
        ))
        .arg(format!("-Dcassandra.storagedir={}/data", dir.display()))
        .arg(format!(
            "-Dlogback.configurationFile={}/logback.xml",
            dir.display()
        ))
        .arg("-cp")
        .arg(format!("{}:{}/*", dir.display(), jars.display()))
        .arg("org.apache.cassandra.service.CassandraDaemon");
    let mut engine = Engine::start(&mut java, "TERM", dir.to_path_buf())?;
    engine.wait(READY_WITHIN, || speaks_cql(native))?;
    Ok(Started {
        variables: vec![("MEDMESH_TEST_CASSANDRA", format!("127.0.0.1:{native}"))],
        engine: Some(engine),
    })
}

/// The agent by which Cassandra measures objects.
fn jamm(jars: &Path) -> Result<PathBuf> {
    fs::read_dir(jars)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|jar| {
            let name = jar.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with("jamm-"))
        })
        .context("the jars hold no jamm")
}

fn yaml(dir: &Path, storage: u16, native: u16) -> String {
    let data = dir.join("data");
    let data = data.display();
    format!(
        "cluster_name: medmesh-tests
num_tokens: 1
allocate_tokens_for_local_replication_factor: 1
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
endpoint_snitch: SimpleSnitch
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters:
      - seeds: 127.0.0.1:{storage}
listen_address: 127.0.0.1
rpc_address: 127.0.0.1
storage_port: {storage}
native_transport_port: {native}
commitlog_sync: periodic
commitlog_sync_period: 10000ms
commitlog_segment_size: 4MiB
commitlog_total_space: 64MiB
data_file_directories: ['{data}/tables']
commitlog_directory: '{data}/commitlog'
saved_caches_directory: '{data}/caches'
hints_directory: '{data}/hints'
cdc_raw_directory: '{data}/cdc'
auto_snapshot: false
"
    )
}

/// Whether the server answers OPTIONS with SUPPORTED (CQL binary protocol v4, sections 2 and 4.1.3).
fn speaks_cql(port: u16) -> bool {
    const OPTIONS: [u8; 9] = [0x04, 0, 0, 0, 0x05, 0, 0, 0, 0];
    const SUPPORTED: u8 = 0x06;
    let ask = || -> std::io::Result<u8> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(PROBE_WITHIN))?;
        stream.write_all(&OPTIONS)?;
        let mut header = [0; 9];
        stream.read_exact(&mut header)?;
        Ok(header[4])
    };
    ask().is_ok_and(|opcode| opcode == SUPPORTED)
}
