//! Where the making of AuditEvents stands, as the store keeps it with the events: in one step with them, so that it is put
//! back when they are.
use types::Id128;

/// Stands for no row.
const NONE: &str = "-";

/// See the head of this file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The first position of the log of which no event is made.
    pub at: u64,
    /// The first position of which an event may be there.
    pub first: u64,
    /// The digest of the row before `at`, if there is one.
    pub proof: Option<Id128>,
    /// What ids of events are derived with. It is drawn once, and stays when the keys of the node are others: the event of a
    /// row has one id.
    pub secret: Id128,
}

impl Standing {
    /// As the store keeps it.
    #[must_use]
    pub fn to_text(&self) -> String {
        let proof = self
            .proof
            .map_or(NONE.to_owned(), |proof| proof.to_string());
        format!("{} {} {proof} {}", self.at, self.first, self.secret)
    }

    /// The inverse of [`Standing::to_text`].
    #[must_use]
    pub fn of_text(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let mut next = || words.next();
        let (at, first, proof, secret) = (next()?, next()?, next()?, next()?);
        let standing = Self {
            at: at.parse().ok()?,
            first: first.parse().ok()?,
            proof: match proof {
                NONE => None,
                proof => Some(proof.parse().ok()?),
            },
            secret: secret.parse().ok()?,
        };
        let is_whole = words.next().is_none() && standing.first <= standing.at;
        is_whole.then_some(standing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_it_stands_is_read_as_it_was_kept_and_nothing_else_is() {
        let secret = Id128::from_bytes([7; 16]);
        for (at, first, proof) in [(0, 0, None), (u64::MAX, 3, Some(secret))] {
            let standing = Standing {
                at,
                first,
                proof,
                secret,
            };
            let text = standing.to_text();
            assert_eq!(Standing::of_text(&text), Some(standing), "{text}");
            assert_eq!(Standing::of_text(&format!("{text} more")), None);
        }
        for text in [
            "",
            "7",
            "1 0 - 07",
            &format!("x 0 - {secret}"),
            &format!("1 2 - {secret}"),
            &format!("1 0 {secret}"),
            &format!("1 0 00 {secret}"),
        ] {
            assert_eq!(Standing::of_text(text), None, "{text}");
        }
    }
}
