//! Secure aggregation: the region learns the sum of the members' vectors and of none alone (Bonawitz et al. 2017,
//! "Practical secure aggregation for privacy-preserving machine learning", CCS 2017, figure 4, the honest-but-curious
//! protocol).
//!
//! 1. Every member advertises two public keys ([`Participant::advertise`]).
//! 2. It shares its masking key and a seed among the members, sealed for each ([`Participant::share`]).
//! 3. It sends its vector plus a mask of its seed plus or minus a mask common with each other member
//!    ([`Participant::mask`]).
//! 4. It opens the seeds of those who sent, and the masking keys of those who did not ([`Participant::unmask`]), never
//!    both of one member.
//!
//! **Threat model.** The region follows the protocol and keeps what it sees. It may work together with up to
//! `colluders` members, which learn nothing more than the sum of all others. Members may drop out at every step, as many
//! as [`Terms::dropouts`]. A member that hands out a wrong share is found and named. Who a public key belongs to is
//! for the transport to say, which signs every message.
//!
//! What is not given: a region that lies about who sent (an active adversary) is stopped from learning both the key and
//! the seed of one member, as each member answers for one set of senders only and two quorums always overlap in an honest
//! member ([`Terms::new`]); but it can end a round without a result. A member may send a vector of nonsense: its values
//! are bounded by the ring alone.
//!
//! Sums are of numbers modulo 2^32, so the result is the same whatever the order of arrival.

mod aggregator;
mod keys;
mod mask;
mod participant;
mod shamir;
mod terms;

pub use aggregator::{Aggregator, Phase};
pub use keys::{Advert, Opened, RoundId, RoundSecret, Shares};
pub use mask::{MASK_CHUNK, Mask};
pub use participant::Participant;
pub use terms::{InvalidTerms, Member, Terms};

use std::collections::BTreeSet;

/// Why a message or a step is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Fewer members take part than the quorum.
    #[error(
        "{have} of {quorum} members that are needed take part; missing: {}",
        list(missing)
    )]
    BelowQuorum {
        /// How many there are.
        have: usize,
        /// How many there have to be.
        quorum: u16,
        /// Who was in the step before and is not in this one.
        missing: BTreeSet<Member>,
    },
    /// The step is over, or has not begun.
    #[error("{what} belong to another step than this one")]
    OutOfStep {
        /// What was sent.
        what: &'static str,
    },
    /// The member is not one of the round.
    #[error("member {0} does not take part in this step")]
    Stranger(Member),
    /// A member said something else before.
    #[error("member {0} sent something else before")]
    Conflict(Member),
    /// A key is no key, or two members have the same.
    #[error("the key of member {0} cannot be used")]
    BadKey(Member),
    /// A vector has another length.
    #[error("the vector of member {member} has {found} numbers, not {wanted}")]
    Shape {
        /// Who sent it.
        member: Member,
        /// How many numbers it has.
        found: usize,
        /// How many it has to have.
        wanted: usize,
    },
    /// Shares that a member sent are not those that it promised.
    #[error(
        "shares of member {dealer} that member {holder} holds do not agree with what {dealer} published"
    )]
    CorruptShare {
        /// Whose secret is shared.
        dealer: Member,
        /// Who holds the share.
        holder: Member,
    },
    /// A secret put together from good shares is not what its owner published.
    #[error("member {0} shared another secret than it published")]
    CorruptSecret(Member),
    /// The coordinator's list is not what an honest one sends.
    #[error("the coordinator's list of members {0}")]
    BadList(&'static str),
    /// The vector was masked before: masking another one would give both away.
    #[error("a vector was masked already in this round")]
    MaskedBefore,
}

fn list(members: &BTreeSet<Member>) -> String {
    let names: Vec<_> = members.iter().map(ToString::to_string).collect();
    if names.is_empty() {
        "nobody".into()
    } else {
        names.join(", ")
    }
}

#[cfg(test)]
mod tests;
