//! A device that carries out commands once: it keeps the mark, and that it has begun, before it acts.
//!
//! What was begun and not finished, because the power went, is not begun again: nobody can tell whether it was done. The
//! answer is then that it failed, with the reason `interrupted`.
use crate::{Acceptor, Answer, Mark, Reason, Signed, State};
use serde::{Deserialize, Serialize};
use types::{CatalogId, Id128, Timestamp};

/// What a device keeps durably.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The mark.
    pub mark: Mark,
    /// The command that was begun last.
    #[serde(default)]
    pub begun: Option<Id128>,
    /// What became of it; none while it is being carried out.
    #[serde(default)]
    pub done: Option<Done>,
}

/// How a command ended at the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The end.
    pub outcome: Outcome,
    /// When.
    pub time: Timestamp,
}

/// What became of a command that was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was carried out.
    Done,
    /// It could not be.
    Failed(Reason),
}

/// Where a device keeps what it holds. `keep` returns when it is durable.
pub trait Marks {
    /// What went wrong.
    type Error;

    /// Replaces what is kept.
    ///
    /// # Errors
    /// When it is not durable.
    fn keep(&mut self, held: &Held) -> Result<(), Self::Error>;
}

/// What cannot be answered, since nothing durable says it.
#[derive(Debug, PartialEq, Eq)]
pub struct Unsettled<E>(pub E);

/// A device that takes commands.
#[derive(Debug)]
pub struct Taker<M> {
    marks: M,
    held: Held,
}

impl<M: Marks> Taker<M> {
    /// A device that goes on from what it held.
    pub const fn new(marks: M, held: Held) -> Self {
        Self { marks, held }
    }

    /// What it holds.
    pub const fn held(&self) -> &Held {
        &self.held
    }

    /// What became of the command that was begun last, to be said again after a start: nobody may have heard it. One that
    /// was begun and not finished has failed.
    ///
    /// # Errors
    /// [`Unsettled`] when that could not be made durable.
    pub fn resume(
        &mut self,
        device: CatalogId,
        now: Timestamp,
    ) -> Result<Option<Answer>, Unsettled<M::Error>> {
        let Some(command) = self.held.begun else {
            return Ok(None);
        };
        let done = match self.held.done {
            Some(done) => done,
            None => self.finish(Outcome::Failed(Reason::Interrupted), now)?,
        };
        Ok(Some(answer(command, device, self.held.mark.sequence, done)))
    }

    /// Judges a command, and carries it out once by `execute`. A command that was carried out already is refused as
    /// replayed and says what became of it, so that a lost answer is given again and nothing is done again.
    ///
    /// # Errors
    /// [`Unsettled`] when the mark could not be made durable: nothing was carried out.
    pub fn take(
        &mut self,
        acceptor: &Acceptor<'_>,
        signed: &Signed,
        now: Timestamp,
        execute: impl FnOnce(&crate::Command) -> Outcome,
    ) -> Result<Answer, Unsettled<M::Error>> {
        let command = signed.command();
        let mark = match acceptor.judge(signed, self.held.mark, now) {
            Ok(mark) => mark,
            Err(reason) => {
                let again = self
                    .held
                    .done
                    .filter(|_| reason == Reason::Replayed && self.held.begun == Some(command.id));
                return Ok(match again {
                    Some(done) => answer(command.id, acceptor.device, command.sequence, done),
                    None => Answer {
                        command: command.id,
                        device: acceptor.device,
                        sequence: command.sequence,
                        state: State::Refused,
                        reason: Some(reason),
                        time: now,
                    },
                });
            }
        };
        self.keep(Held {
            mark,
            begun: Some(command.id),
            done: None,
        })?;
        let outcome = execute(command);
        let done = self.finish(outcome, now)?;
        Ok(answer(command.id, acceptor.device, command.sequence, done))
    }

    fn finish(&mut self, outcome: Outcome, time: Timestamp) -> Result<Done, Unsettled<M::Error>> {
        let done = Done { outcome, time };
        self.keep(Held {
            done: Some(done),
            ..self.held.clone()
        })?;
        Ok(done)
    }

    fn keep(&mut self, held: Held) -> Result<(), Unsettled<M::Error>> {
        self.marks.keep(&held).map_err(Unsettled)?;
        self.held = held;
        Ok(())
    }
}

fn answer(command: Id128, device: CatalogId, sequence: u64, done: Done) -> Answer {
    let (state, reason) = match done.outcome {
        Outcome::Done => (State::Acknowledged, None),
        Outcome::Failed(reason) => (State::Failed, Some(reason)),
    };
    Answer {
        command,
        device,
        sequence,
        state,
        reason,
        time: done.time,
    }
}

#[cfg(test)]
#[path = "take_tests.rs"]
mod tests;
