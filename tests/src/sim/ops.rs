//! What can happen in a simulated mesh, as one line of text: `small a00 .00 c10 u10` names the shape of the mesh and
//! then, in order, what happens: a letter, the node (or the link that goes up from it), and an argument.
//!
//! Every operation has an effect or none whatever came before it, so that any part of a line is a line: a failing one
//! can be made shorter by leaving operations out.
use anyhow::{Context, Result, ensure};
use std::{fmt, str::FromStr};
use types::Place;

/// How many nodes a mesh has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A facility (0) and its region (1).
    Small,
    /// Two facilities (0, 1) of one region (2) below the global node (3).
    Ward,
    /// Facilities of two jurisdictions (0, 1), their regions (2, 3) and the global node (4).
    Mesh,
}

impl Shape {
    /// Every shape and its name.
    const ALL: [(Self, &str); 3] = [
        (Self::Small, "small"),
        (Self::Ward, "ward"),
        (Self::Mesh, "mesh"),
    ];

    /// The places of its nodes, facilities first, then regions, then the global node.
    #[must_use]
    pub const fn places(self) -> &'static [&'static str] {
        match self {
            Self::Small => &["edge/eu/eu/eu-f1", "regional/eu/eu"],
            Self::Ward => &[
                "edge/eu/eu/eu-f1",
                "edge/eu/eu/eu-f2",
                "regional/eu/eu",
                "global",
            ],
            Self::Mesh => &[
                "edge/eu/eu/eu-f1",
                "edge/us/us/us-f1",
                "regional/eu/eu",
                "regional/us/us",
                "global",
            ],
        }
    }

    /// How many of its nodes are facilities.
    #[must_use]
    pub const fn facilities(self) -> usize {
        match self {
            Self::Small => 1,
            Self::Ward | Self::Mesh => 2,
        }
    }

    /// The node that a node delivers to.
    #[must_use]
    pub fn parent(self, node: usize) -> Option<usize> {
        let places: Vec<Place> = self.places().iter().flat_map(|it| it.parse()).collect();
        let above = |above: &Place| match places.get(node) {
            Some(Place::Edge { .. }) => {
                matches!(above, Place::Regional { .. })
                    && above.jurisdiction() == places[node].jurisdiction()
            }
            Some(Place::Regional { .. }) => *above == Place::Global,
            _ => false,
        };
        places.iter().position(above)
    }
}

/// One kind of happening.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum What {
    /// Device `arg` of a facility measures once.
    Sample,
    /// It raises an alarm.
    Alarm,
    /// It measures four times, and all of it comes in one batch.
    Burst,
    /// It sends its last acknowledged sample again: the acknowledgement was lost.
    Again,
    /// Its counter restarts within its epoch.
    Restart,
    /// It begins an epoch, as an honest device does after a restart.
    Epoch,
    /// The facility tells the catalog of its devices.
    List,
    /// The region of a facility gives it an order: urgent (0) or not (1).
    Order,
    /// The link sends, everything arrives, and every receipt comes back.
    Pump,
    /// The sender of the link leases and sends what it may.
    Send,
    /// `arg` of the parcels under way arrive (all of them: 0), and their receipts are on their way.
    Deliver,
    /// The receipts arrive.
    Answer,
    /// The connection breaks: receipts are lost, and parcels under way may still arrive later.
    Cut,
    /// What a broken connection had under way arrives; nobody hears the answer.
    Late,
    /// What is under way changes its order.
    Reverse,
    /// The first parcel under way is there twice.
    Twice,
    /// The link breaks and does not come back.
    Part,
    /// The link comes back.
    Heal,
    /// The node is killed and starts again.
    Crash,
    /// The node is killed when it next has made parcels durable and not recorded the answer.
    Tear,
    /// A copy of the node's disk is made.
    Copy,
    /// A copy of every node's disk is made.
    CopyAll,
    /// The node is put back to copy `arg`.
    Restore,
    /// The node and the one above it are put back to copy `arg` of each.
    RestoreBoth,
    /// Of a region the clinical store alone is put back to copy `arg`, as by a standby that is promoted with a loss.
    Promote,
    /// The node's disk is full.
    Full,
    /// It has room again.
    Room,
    /// By mistake the node's policy forbids care.
    Forbid,
    /// The mistake is mended.
    Permit,
    /// The node is of an older version than what is sent to it.
    Older,
    /// It is upgraded.
    Newer,
    /// Time passes: seconds (0), minutes (1), or more than the retention (2).
    Time,
    /// Another facility of the region writes into what is this facility's.
    Rogue,
}

/// The letter of each.
const LETTERS: [(char, What); 33] = [
    ('a', What::Sample),
    ('A', What::Alarm),
    ('b', What::Burst),
    ('g', What::Again),
    ('n', What::Restart),
    ('e', What::Epoch),
    ('l', What::List),
    ('o', What::Order),
    ('.', What::Pump),
    ('s', What::Send),
    ('d', What::Deliver),
    ('r', What::Answer),
    ('k', What::Cut),
    ('L', What::Late),
    ('v', What::Reverse),
    ('w', What::Twice),
    ('p', What::Part),
    ('h', What::Heal),
    ('x', What::Crash),
    ('X', What::Tear),
    ('c', What::Copy),
    ('C', What::CopyAll),
    ('u', What::Restore),
    ('B', What::RestoreBoth),
    ('U', What::Promote),
    ('f', What::Full),
    ('F', What::Room),
    ('m', What::Forbid),
    ('M', What::Permit),
    ('q', What::Older),
    ('Q', What::Newer),
    ('t', What::Time),
    ('z', What::Rogue),
];

impl What {
    /// The happening of a letter.
    #[must_use]
    pub fn of(letter: char) -> Option<Self> {
        let found = LETTERS.iter().find(|(known, _)| *known == letter);
        found.map(|(_, what)| *what)
    }
}

/// One happening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Op {
    /// What happens.
    pub what: What,
    /// To which node, or to the link that goes up from it.
    pub node: u8,
    /// Device, copy or number; 0 where there is none.
    pub arg: u8,
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = LETTERS.iter().find(|(_, what)| *what == self.what);
        let letter = letter.map_or('?', |(letter, _)| *letter);
        write!(f, "{letter}{}{}", self.node, self.arg)
    }
}

impl FromStr for Op {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut chars = text.chars();
        let (letter, node, arg) = (chars.next(), chars.next(), chars.next());
        let what = letter.and_then(What::of);
        let digit = |digit: Option<char>| digit.and_then(|it| it.to_digit(10));
        let (node, arg) = (digit(node), digit(arg));
        let wrong = || format!("'{text}': an operation is a letter and two digits");
        ensure!(chars.next().is_none(), wrong());
        Ok(Self {
            what: what.with_context(wrong)?,
            node: u8::try_from(node.with_context(wrong)?)?,
            arg: u8::try_from(arg.with_context(wrong)?)?,
        })
    }
}

/// A mesh and what happens in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its nodes.
    pub shape: Shape,
    /// What happens, in order.
    pub ops: Vec<Op>,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Shape::ALL.iter().find(|(shape, _)| *shape == self.shape);
        f.write_str(name.map_or("?", |(_, name)| *name))?;
        self.ops.iter().try_for_each(|op| write!(f, " {op}"))
    }
}

impl FromStr for Line {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut words = text.split_whitespace();
        let first = words.next().context("an empty line")?;
        let shape = Shape::ALL.iter().find(|(_, name)| *name == first);
        let shape = shape.with_context(|| format!("'{first}' is small, ward or mesh"))?;
        Ok(Self {
            shape: shape.0,
            ops: words.map(str::parse).collect::<Result<_>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let ops = LETTERS.map(|(_, what)| Op {
            what,
            node: 3,
            arg: 7,
        });
        for (shape, _) in Shape::ALL {
            let line = Line {
                shape,
                ops: ops.to_vec(),
            };
            assert_eq!(line.to_string().parse::<Line>().unwrap(), line);
        }
        for wrong in ["", "small a0", "small a000", "small ?00", "large a00"] {
            assert!(wrong.parse::<Line>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn facilities_deliver_to_their_region_and_regions_to_the_global_node() {
        let parents = |shape: Shape| {
            let nodes = 0..shape.places().len();
            nodes.map(|node| shape.parent(node)).collect::<Vec<_>>()
        };
        assert_eq!(parents(Shape::Small), [Some(1), None]);
        assert_eq!(parents(Shape::Ward), [Some(2), Some(2), Some(3), None]);
        let mesh = [Some(2), Some(3), Some(4), Some(4), None];
        assert_eq!(parents(Shape::Mesh), mesh);
    }
}
