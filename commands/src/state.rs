//! What becomes of a command: queued, delivered, and one end. A history is only appended to.
use crate::Reason;
use serde::{Deserialize, Serialize};
use types::Timestamp;

/// Where a command is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The region has it: it waits for approval, or for its facility.
    Queued,
    /// The facility has it.
    Delivered,
    /// The device carried it out.
    Acknowledged,
    /// Region, facility or device did not let it be carried out.
    Refused,
    /// Its time to live ended before it was carried out.
    Expired,
    /// It was tried, and is not known to be carried out.
    Failed,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 6] = [
        Self::Queued,
        Self::Delivered,
        Self::Acknowledged,
        Self::Refused,
        Self::Expired,
        Self::Failed,
    ];

    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Delivered => "delivered",
            Self::Acknowledged => "acknowledged",
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::Failed => "failed",
        }
    }

    /// The state of a word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }

    /// Whether nothing more happens of itself.
    #[must_use]
    pub const fn is_end(self) -> bool {
        !matches!(self, Self::Queued | Self::Delivered)
    }

    /// Whether `next` may follow. What came late changes nothing, with one exception: a region that heard nothing until the
    /// end of a command's time says `expired`, and learns afterwards, when the facility is there again, what the device did
    /// in time. That is then the end.
    #[must_use]
    pub const fn may_become(self, next: Self) -> bool {
        match (self, next) {
            (Self::Queued | Self::Delivered, Self::Queued)
            | (Self::Delivered, Self::Delivered)
            | (Self::Acknowledged | Self::Refused | Self::Failed, _) => false,
            (Self::Queued, _) | (Self::Delivered, _) => true,
            (Self::Expired, next) => {
                matches!(next, Self::Acknowledged | Self::Refused | Self::Failed)
            }
        }
    }
}

/// One step of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Where the command was from then on.
    pub state: State,
    /// When (real time).
    pub time: Timestamp,
    /// Who did it: a client, or a place.
    pub by: String,
    /// Why, for an end that is not `acknowledged`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
}

/// Every step of a command, in order; there is at least one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct History(Vec<Event>);

impl History {
    /// A command is queued.
    #[must_use]
    pub fn begin(time: Timestamp, by: impl Into<String>) -> Self {
        let event = Event {
            state: State::Queued,
            time,
            by: by.into(),
            reason: None,
        };
        Self(vec![event])
    }

    /// Where the command is.
    #[must_use]
    pub fn state(&self) -> State {
        self.0.last().map_or(State::Queued, |event| event.state)
    }

    /// Appends a step, if it may follow; says whether it did. Times never go back.
    pub fn add(&mut self, mut event: Event) -> bool {
        if !self.state().may_become(event.state) {
            return false;
        }
        if let Some(last) = self.0.last() {
            event.time = event.time.max(last.time);
        }
        self.0.push(event);
        true
    }

    /// The steps.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn event(state: State, time: i64) -> Event {
        Event {
            state,
            time: Timestamp(time),
            by: "edge/us/us/us-f1".into(),
            reason: None,
        }
    }

    #[test]
    fn an_end_is_the_end_but_for_what_the_device_did_before_the_region_gave_up() {
        for end in [State::Acknowledged, State::Refused, State::Failed] {
            for next in State::ALL {
                assert!(!end.may_become(next), "{end:?} {next:?}");
            }
        }
        for next in State::ALL {
            let late = matches!(next, State::Acknowledged | State::Refused | State::Failed);
            assert_eq!(State::Expired.may_become(next), late, "{next:?}");
        }
    }

    #[test]
    fn a_command_that_overtakes_its_delivery_is_not_delivered_afterwards() {
        let mut history = History::begin(Timestamp(5), "operator");
        assert!(history.add(event(State::Acknowledged, 9)));
        assert!(!history.add(event(State::Delivered, 8)));
        assert_eq!(history.state(), State::Acknowledged);
    }

    proptest! {
        #[test]
        fn a_history_has_each_state_once_and_times_that_never_go_back(
            steps in proptest::collection::vec((0_usize..6, 0_i64..100), 0..20)
        ) {
            let mut history = History::begin(Timestamp(50), "operator");
            for (state, time) in steps {
                history.add(event(State::ALL[state], time));
            }
            let events = history.events();
            prop_assert!(events.len() <= 4);
            for pair in events.windows(2) {
                prop_assert!(pair[0].state.may_become(pair[1].state));
                prop_assert!(pair[0].time <= pair[1].time);
            }
        }
    }
}
