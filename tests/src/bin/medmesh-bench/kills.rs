//! Hundreds of kill -9, then everything acknowledged or emitted is compared with what the regions have.
use crate::{
    Bed,
    report::{Figure, Report},
};
use anyhow::Result;
use medmesh_tests::kills::{self, Trial};

/// Kills of one run.
const KILLS: usize = 200;
/// Speed of the mesh clock: a sample of every monitor five times a second.
const SPEED: &str = "5x";
const TRIAL: Trial<'_> = Trial {
    regions: &["us", "eu", "apac"],
    kills: KILLS,
    speed: SPEED,
    args: &[],
    engines: &[],
    then: |_| Ok(()),
};
const DURABILITY: &str = "fsync before every acknowledgement";

/// Runs the benchmark: it fails when one reading is lost, doubled or out of order.
pub async fn run(bed: &Bed, report: &mut Report) -> Result<()> {
    let (mut compared, mut kills) = (Vec::new(), 0);
    for _ in 0..bed.runs {
        let survived = kills::survive(TRIAL).await?;
        kills += KILLS;
        #[expect(clippy::cast_precision_loss, reason = "a count of readings")]
        compared.push((survived.acknowledged + survived.emitted) as f64);
    }
    let note = format!("{kills} kills in all; lost 0, doubled 0, out of order 0");
    let what = format!("readings compared after {KILLS} kill -9");
    report.add(Figure::new(what, "readings", DURABILITY, compared).note(note));
    Ok(())
}
