//! kill -9 of every kind of node, and of engines, while readings flow up and commands go down; and clients of FHIR on
//! PostgreSQL afterwards.
use anyhow::Result;
use medmesh_tests::{
    clients, engine,
    kills::{self, Trial},
};

/// Kills in one test run; `cargo xtask bench` has more.
const KILLS: usize = 40;
/// Kills beside engines, which take longer to come back.
const KILLS_WITH_ENGINES: usize = 16;
/// Devices emit some 500 readings a second at three facilities: enough for every kill to hit some under way, and what a
/// debug build on a slow machine stores.
const SPEED: &str = "5x";

#[test]
fn nothing_acknowledged_is_lost_applied_twice_or_out_of_order_through_forty_kills() -> Result<()> {
    let trial = Trial {
        regions: &["us", "eu", "apac"],
        kills: KILLS,
        speed: SPEED,
        args: &[],
        engines: &[],
        then: |_| Ok(()),
    };
    tokio::runtime::Runtime::new()?.block_on(kills::survive(trial))?;
    Ok(())
}

#[test]
#[cfg_attr(
    not(all(asked_for_engines, asked_for_python)),
    ignore = "MEDMESH_TEST_POSTGRES_URL, MEDMESH_TEST_CASSANDRA or MEDMESH_TEST_PYTHON is not set: cargo xtask test sets them"
)]
fn nothing_acknowledged_is_lost_or_applied_twice_when_nodes_and_their_engines_are_killed()
-> Result<()> {
    let (postgres, cassandra) = (engine::postgres()?, engine::cassandra()?);
    let trial = Trial {
        regions: &["us", "eu"],
        kills: KILLS_WITH_ENGINES,
        speed: "1x",
        args: &["--postgres", &postgres, "--scylla", &cassandra],
        engines: &[engine::kill_postgres, engine::kill_cassandra],
        // What the killed engines hold is what clients of FHIR work on.
        then: |mesh| clients::flows(mesh, "us"),
    };
    tokio::runtime::Runtime::new()?.block_on(kills::survive(trial))?;
    Ok(())
}
