//! A line for every seed: most of small meshes, a share of larger ones.
use super::ops::{Line, Op, Shape, What};
use rand::{Rng, SeedableRng, rngs::StdRng};

/// Operations of one line.
const LENGTH: std::ops::RangeInclusive<usize> = 4..=20;

/// How often each happening is drawn, beside the others.
const WEIGHTS: [(What, u32); 33] = [
    (What::Sample, 14),
    (What::Alarm, 5),
    (What::Burst, 4),
    (What::Again, 3),
    (What::Restart, 1),
    (What::Epoch, 1),
    (What::List, 3),
    (What::Order, 7),
    (What::Pump, 14),
    (What::Send, 7),
    (What::Deliver, 7),
    (What::Answer, 5),
    (What::Cut, 4),
    (What::Late, 3),
    (What::Reverse, 2),
    (What::Twice, 2),
    (What::Part, 2),
    (What::Heal, 3),
    (What::Crash, 4),
    (What::Tear, 3),
    (What::Copy, 4),
    (What::CopyAll, 2),
    (What::Restore, 3),
    (What::RestoreBoth, 1),
    (What::Promote, 1),
    (What::Full, 2),
    (What::Room, 2),
    (What::Forbid, 2),
    (What::Permit, 2),
    (What::Older, 1),
    (What::Newer, 1),
    (What::Time, 3),
    (What::Rogue, 2),
];

/// The line of a seed, without what is in `skipped`.
#[must_use]
pub fn line(seed: u64, skipped: &[What]) -> Line {
    let mut rng = StdRng::seed_from_u64(seed);
    let shape = match rng.random_range(0..10) {
        0..8 => Shape::Small,
        8 => Shape::Ward,
        _ => Shape::Mesh,
    };
    let length = rng.random_range(LENGTH);
    let weights = WEIGHTS.iter().filter(|(what, _)| !skipped.contains(what));
    let weights: Vec<_> = weights.copied().collect();
    let ops = (0..length).map(|_| op(&mut rng, shape, &weights)).collect();
    Line { shape, ops }
}

fn op(rng: &mut StdRng, shape: Shape, weights: &[(What, u32)]) -> Op {
    let sum: u32 = weights.iter().map(|(_, weight)| weight).sum();
    let mut at = rng.random_range(0..sum);
    let mut what = What::Pump;
    for (drawn, weight) in weights {
        what = *drawn;
        match at.checked_sub(*weight) {
            Some(rest) => at = rest,
            None => break,
        }
    }
    let nodes = shape.places().len();
    let node = match what {
        What::Sample | What::Alarm | What::Burst | What::Again | What::Restart | What::Epoch => {
            rng.random_range(0..shape.facilities())
        }
        What::List | What::Order | What::Rogue => rng.random_range(0..shape.facilities()),
        What::Promote => rng.random_range(shape.facilities()..nodes),
        What::Pump
        | What::Send
        | What::Deliver
        | What::Answer
        | What::Cut
        | What::Late
        | What::Reverse
        | What::Twice
        | What::Part
        | What::Heal => rng.random_range(0..(nodes - 1).max(1)),
        _ => rng.random_range(0..nodes),
    };
    let arg = match what {
        What::Sample
        | What::Alarm
        | What::Burst
        | What::Again
        | What::Restart
        | What::Epoch
        | What::Order => rng.random_range(0..2),
        What::Deliver | What::Time => rng.random_range(0..3),
        What::Restore | What::RestoreBoth | What::Promote => rng.random_range(0..4),
        _ => 0,
    };
    Op {
        what,
        node: u8::try_from(node).unwrap_or(0),
        arg,
    }
}
