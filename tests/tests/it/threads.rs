//! A thread that a node cannot do without ends by itself: the node ends too, and says so by its exit code.
use anyhow::{Result, ensure};
use medmesh_tests::{binary, mesh::Mesh};
use std::process::{Command, Stdio};

#[test]
fn a_node_whose_writer_has_ended_ends_with_exit_code_1() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let started = Mesh::up(dir.path(), &["--regions", "us", "--facilities", "1"]);
    let config = tokio::runtime::Runtime::new()?.block_on(async {
        let mesh = started.await?;
        let config = mesh.config("regional:us");
        mesh.stop().await?;
        anyhow::Ok(config)
    })?;
    let output = Command::new(binary::medmesh())
        .args(["regional", "--config"])
        .arg(config)
        .env("MEDMESH_TEST_END_THREAD", "fhir-writer")
        .stdin(Stdio::null())
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(1) && said.contains("fhir writer ended"),
        "{output:?}"
    );
    Ok(())
}
