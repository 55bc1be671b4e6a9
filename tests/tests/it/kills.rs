//! kill -9 of every kind of node while readings flow.
use anyhow::Result;
use medmesh_tests::kills;

/// Kills in one test run; `cargo xtask bench` has more.
const KILLS: usize = 40;
/// Devices emit some 500 readings a second at three facilities: enough for every kill to hit some under way, and what a
/// debug build on a slow machine stores.
const SPEED: &str = "5x";

#[test]
fn nothing_acknowledged_is_lost_applied_twice_or_out_of_order_through_forty_kills() -> Result<()> {
    let survive = kills::survive(KILLS, SPEED);
    tokio::runtime::Runtime::new()?.block_on(survive)?;
    Ok(())
}
