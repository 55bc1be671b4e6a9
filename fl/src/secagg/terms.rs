//! How many take part, how many may be lost, how many may collude.
use serde::{Deserialize, Serialize};
use std::fmt;

/// The number of a member in a round, from 1 on, as the plan gives it; also where its shares are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Member(pub u16);

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why terms cannot be kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTerms {
    /// There are too few or too many members.
    #[error("from 2 to {max} members take part in secure aggregation, not {0}", max = Terms::MAX_MEMBERS)]
    Members(u16),
    /// More are needed than there are.
    #[error("a quorum of {quorum} is more than the {members} members")]
    Quorum {
        /// Members that are needed.
        quorum: u16,
        /// Members that there are.
        members: u16,
    },
    /// The sum would be that of one honest member.
    #[error(
        "with {colluders} colluders a quorum of {quorum} gives away one member: it is at least {least} (colluders + 2)"
    )]
    Exposed {
        /// Members that are needed.
        quorum: u16,
        /// Members that may work together with the region.
        colluders: u16,
        /// The least quorum.
        least: u16,
    },
    /// A region could get both halves of a member's secrets from two sets of members.
    #[error(
        "two sets of {quorum} of {members} members need not have an honest member in common: the quorum is at least {least} (more than half of members + colluders)"
    )]
    Divided {
        /// Members that are needed.
        quorum: u16,
        /// Members that there are.
        members: u16,
        /// The least quorum.
        least: u16,
    },
}

/// The terms of a round, fixed before it begins. The quorum is the threshold of every secret's shares, so nobody can
/// lower it afterwards: with fewer answers the masks do not come off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    members: u16,
    quorum: u16,
    colluders: u16,
}

impl Terms {
    /// The most members of a region's round: masks cost each of them as many passes over the vector.
    pub const MAX_MEMBERS: u16 = 1024;

    /// Terms of `members`, of which `quorum` have to stay to the end and `colluders` may work together with the region.
    ///
    /// # Errors
    /// [`InvalidTerms`] says which number is wrong, and which would be right.
    pub const fn new(members: u16, quorum: u16, colluders: u16) -> Result<Self, InvalidTerms> {
        if members < 2 || members > Self::MAX_MEMBERS {
            return Err(InvalidTerms::Members(members));
        }
        if quorum > members {
            return Err(InvalidTerms::Quorum { quorum, members });
        }
        let least = colluders.saturating_add(2);
        if quorum < least {
            return Err(InvalidTerms::Exposed {
                quorum,
                colluders,
                least,
            });
        }
        // 2·quorum > members + colluders (Bonawitz et al. 2017, §6.2, for a server that shows members other lists).
        let least = (members + colluders) / 2 + 1;
        if quorum < least {
            return Err(InvalidTerms::Divided {
                quorum,
                members,
                least,
            });
        }
        Ok(Self {
            members,
            quorum,
            colluders,
        })
    }

    /// How many are asked.
    #[must_use]
    pub const fn members(&self) -> u16 {
        self.members
    }

    /// How many have to stay to the end.
    #[must_use]
    pub const fn quorum(&self) -> u16 {
        self.quorum
    }

    /// How many may work together with the region.
    #[must_use]
    pub const fn colluders(&self) -> u16 {
        self.colluders
    }

    /// How many may be lost.
    #[must_use]
    pub const fn dropouts(&self) -> u16 {
        self.members - self.quorum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_that_would_give_a_member_away_are_refused_with_the_right_number() {
        assert_eq!(Terms::new(4, 3, 0).unwrap().dropouts(), 1);
        assert_eq!(Terms::new(1, 1, 0), Err(InvalidTerms::Members(1)));
        assert_eq!(Terms::new(1025, 1000, 0), Err(InvalidTerms::Members(1025)));
        assert!(matches!(
            Terms::new(4, 5, 0),
            Err(InvalidTerms::Quorum { .. })
        ));
        assert!(matches!(
            Terms::new(4, 3, 2),
            Err(InvalidTerms::Exposed { least: 4, .. })
        ));
        assert!(matches!(
            Terms::new(10, 5, 0),
            Err(InvalidTerms::Divided { least: 6, .. })
        ));
        assert!(matches!(
            Terms::new(10, 6, 2),
            Err(InvalidTerms::Divided { least: 7, .. })
        ));
        assert!(Terms::new(10, 7, 2).is_ok());
        assert!(matches!(
            Terms::new(2, 1, 0),
            Err(InvalidTerms::Exposed { least: 2, .. })
        ));
        assert!(Terms::new(2, 2, 0).is_ok());
        assert!(Terms::new(10, 10, u16::MAX).is_err());
    }
}
