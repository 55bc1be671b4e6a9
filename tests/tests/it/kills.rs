//! kill -9 of every kind of node while readings flow.
use anyhow::Result;
use medmesh_tests::kills;

/// Kills in one test run; `cargo xtask bench` has more.
const KILLS: usize = 40;

#[test]
fn nothing_acknowledged_is_lost_applied_twice_or_out_of_order_through_forty_kills() -> Result<()> {
    let survive = kills::survive(KILLS, "20x");
    tokio::runtime::Runtime::new()?.block_on(survive)?;
    Ok(())
}
