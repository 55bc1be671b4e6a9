//! How asks of the region are taken in, stored with the receipt that the region gets for them; and how answers go.
use super::rows;
use federation::{
    envelope::{self, Intact, OpenError},
    port::Verdict,
    reason,
};
use fl::{
    order::{Answer, RoundKey},
    wire,
};
use messages::{StudyAnswer, StudyAsk};
use std::sync::Arc;
use store::{Commit, Handler, StoreError};
use tokio::sync::Notify;
use types::{Place, Priority, Purpose};

/// Asks that wait at the same time: more are deferred.
const MAX_WAITING: u32 = 1_000;

/// Takes asks in: the handler of the store's inbox.
pub struct TakesAsks {
    wake: Arc<Notify>,
}

impl TakesAsks {
    /// A handler that wakes the task of [`super::run`].
    #[must_use]
    pub const fn new(wake: Arc<Notify>) -> Self {
        Self { wake }
    }
}

impl Handler for TakesAsks {
    fn apply(
        &self,
        commit: &mut Commit<'_, '_>,
        _: &Place,
        parcel: &Intact,
    ) -> Result<Verdict, StoreError> {
        let malformed = Verdict::Quarantined {
            reason: reason::MALFORMED,
        };
        let message = match envelope::open::<StudyAsk>(parcel) {
            Ok(message) => message,
            Err(OpenError::Malformed) => return Ok(malformed),
            Err(error) => {
                return Ok(Verdict::Refused {
                    reason: error.reason(),
                });
            }
        };
        let Ok(asked) = wire::read_ask(message) else {
            return Ok(malformed);
        };
        if rows::waiting(commit.tx())? >= MAX_WAITING {
            return Ok(Verdict::Deferred {
                reason: reason::NO_SPACE,
            });
        }
        rows::add(commit.tx(), &asked, &parcel.body)?;
        Ok(Verdict::Accepted { stored: 1 })
    }

    fn committed(&self) {
        self.wake.notify_one();
    }
}

/// Ships an answer, of numbers of `width` bits where they are packed. A refusal of the rules is audited, not an error.
pub(super) fn answer(
    commit: &mut Commit<'_, '_>,
    key: &RoundKey,
    answer: Answer,
    width: Option<u32>,
) -> Result<(), StoreError> {
    let body = wire::answer(key, answer, width);
    let may_go = commit.ship::<StudyAnswer>(Priority::Backlog, Purpose::Research, body)?;
    if !may_go {
        tracing::error!(study = %key.study, "the rules keep an answer to a study back");
    }
    Ok(())
}
