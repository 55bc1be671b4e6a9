//! Which of several servers is worked with, by what they say of themselves. Pure.
use crate::postgres::timeline::Worked;

/// What a server says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) writes: bool,
    /// 0 of one that takes no writes.
    pub(super) timeline: i32,
    /// The same for a server and its copies.
    pub(super) system: i64,
    /// In µs since 1970: of two addresses of one server the same.
    pub(super) since: i64,
}

impl Said {
    pub(super) const fn worked(&self) -> Worked {
        Worked {
            system: self.system,
            timeline: self.timeline,
        }
    }
}

/// What is known of all of them together.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// With what was worked before this process began.
    pub(super) before: Option<Worked>,
    pub(super) system: Option<i64>,
    /// The newest on which a server took writes.
    pub(super) timeline: i32,
    /// Since when the one that is worked with runs.
    pub(super) since: i64,
    /// The one that is worked with.
    pub(super) current: Option<usize>,
}

/// No server can be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unchosen {
    /// None takes writes on the newest timeline.
    None,
    /// More than one does.
    Several,
}

impl Known {
    pub(super) fn admits(&self, said: &Said) -> bool {
        let is_own = self.system.is_none_or(|own| own == said.system);
        let was_left = self
            .before
            .is_some_and(|before| said.worked().is_before(&before));
        said.writes && said.timeline >= self.timeline && is_own && !was_left
    }

    /// The one to work with from now on.
    pub(super) fn choose(&mut self, said: &[(usize, Said)]) -> Result<usize, Unchosen> {
        let fit = said.iter().filter(|(_, said)| self.admits(said));
        let newest = fit.clone().max_by_key(|(at, said)| {
            // The first that was named of two that are as new.
            (said.timeline, std::cmp::Reverse(*at))
        });
        let &(at, chosen) = newest.ok_or(Unchosen::None)?;
        let is_other = |said: &Said| {
            let is_same = said.since == chosen.since && said.system == chosen.system;
            let is_older = said.system == chosen.system && said.timeline < chosen.timeline;
            !is_same && !is_older
        };
        if fit.clone().any(|(_, said)| is_other(said)) {
            return Err(Unchosen::Several);
        }
        *self = Self {
            before: self.before,
            system: Some(chosen.system),
            timeline: chosen.timeline,
            since: chosen.since,
            current: Some(at),
        };
        Ok(at)
    }

    /// Whether one that was worked with until now is to be worked with by a new connection, which says this: it may have been
    /// promoted since.
    pub(super) fn goes_on(&mut self, at: usize, said: &Said) -> bool {
        let is_admitted = self.admits(said);
        if is_admitted && self.current == Some(at) {
            self.learn(at, said);
        }
        is_admitted
    }

    /// Takes in what one of them says between two choices. The one that is worked with no longer, if there is one.
    pub(super) fn learn(&mut self, at: usize, said: &Said) -> Option<usize> {
        let is_current = self.current == Some(at);
        if is_current && !self.admits(said) {
            return self.current.take();
        }
        if !self.admits(said) || self.system.is_none() {
            return None;
        }
        if !is_current && said.timeline == self.timeline {
            // Both were promoted. Two names of one server that has just begun anew are found to be one by the next choice.
            return self.current.take_if(|_| said.since != self.since);
        }
        (self.timeline, self.since) = (said.timeline, said.since);
        let before = self.current.replace(at);
        before.filter(|_| !is_current)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn primary(timeline: i32) -> Said {
        Said {
            writes: true,
            timeline,
            system: 7,
            since: i64::from(timeline),
        }
    }

    #[test]
    fn after_a_restart_an_old_primary_is_not_chosen_although_it_is_all_there_is() {
        let before = Some(Worked {
            system: 7,
            timeline: 2,
        });
        let anew = || Known {
            before,
            ..Known::default()
        };
        let mut known = anew();
        assert_eq!(known.choose(&[(0, primary(1))]), Err(Unchosen::None));
        assert_eq!(known.learn(0, &primary(1)), None);
        assert_eq!(known.choose(&[(0, primary(1)), (1, primary(2))]), Ok(1));
        assert_eq!(anew().choose(&[(0, primary(3))]), Ok(0));
        // Timelines are those of one system.
        let foreign = Said {
            system: 8,
            ..primary(1)
        };
        assert_eq!(anew().choose(&[(0, foreign)]), Ok(0));
    }

    const STANDBY: Said = Said {
        writes: false,
        timeline: 0,
        system: 7,
        since: 100,
    };

    #[test]
    fn the_one_that_takes_writes_on_the_newest_timeline_is_chosen_and_an_older_one_never_again() {
        let mut known = Known::default();
        assert_eq!(known.choose(&[(0, STANDBY)]), Err(Unchosen::None));
        assert_eq!(known.choose(&[(1, STANDBY), (0, primary(1))]), Ok(0));
        // The old primary has returned, and is named first.
        let both = [(0, primary(1)), (1, primary(2))];
        assert_eq!(known.choose(&both), Ok(1));
        assert_eq!(known.choose(&both[..1]), Err(Unchosen::None));
        assert_eq!(Known::default().choose(&both), Ok(1));
        // It follows the new one now; and a server of another cluster is nobody's.
        assert_eq!(known.choose(&[(0, STANDBY), (1, primary(2))]), Ok(1));
        let foreign = Said {
            system: 8,
            ..primary(9)
        };
        assert_eq!(known.choose(&[(0, foreign)]), Err(Unchosen::None));
    }

    #[test]
    fn of_two_that_were_both_promoted_none_is_chosen_and_two_names_of_one_are_one() {
        let twin = Said {
            since: 50,
            ..primary(2)
        };
        let foreign = Said {
            system: 8,
            ..primary(1)
        };
        for two in [twin, foreign] {
            let mut known = Known::default();
            let said = [(0, primary(2)), (1, two)];
            assert_eq!(known.choose(&said), Err(Unchosen::Several), "{two:?}");
            assert_eq!(known, Known::default());
        }
        let same = [(1, primary(2)), (0, primary(2))];
        assert_eq!(Known::default().choose(&same), Ok(0));
    }

    #[test]
    fn the_one_in_use_is_left_once_another_was_promoted_to_its_timeline_too() {
        let anew = Said {
            since: 60,
            ..primary(2)
        };
        let twin = Said {
            since: 70,
            ..primary(2)
        };
        let mut known = Known::default();
        assert_eq!(known.choose(&[(0, primary(2)), (1, STANDBY)]), Ok(0));
        // Another name of it, also when it has begun anew.
        assert_eq!(known.learn(1, &primary(2)), None);
        assert_eq!(known.learn(0, &anew), None);
        assert_eq!(known.learn(1, &anew), None);
        assert_eq!(known.current, Some(0));
        assert_eq!(known.learn(1, &twin), Some(0));
        assert_eq!(known.current, None);
        for (at, said) in [(0, anew), (1, twin)] {
            assert_eq!(known.learn(at, &said), None);
            assert_eq!(known.current, None);
        }
        let both = [(0, anew), (1, twin)];
        assert_eq!(known.choose(&both), Err(Unchosen::Several));
        // And a third one that was promoted after them is worked with.
        assert_eq!(known.learn(2, &primary(3)), None);
        assert_eq!(known.current, Some(2));
    }

    #[test]
    fn the_timeline_of_a_new_connection_is_the_newest_that_is_known() {
        let mut known = Known::default();
        assert_eq!(known.choose(&[(0, primary(1)), (1, STANDBY)]), Ok(0));
        assert!(known.goes_on(0, &primary(2)));
        assert_eq!((known.current, known.timeline), (Some(0), 2));
        assert!(!known.goes_on(0, &primary(1)) && !known.goes_on(0, &STANDBY));
        assert_eq!((known.current, known.timeline), (Some(0), 2));
    }

    #[test]
    fn a_server_is_left_once_another_was_promoted_or_it_takes_no_writes() {
        let mut known = Known::default();
        // Nothing is learned before a first choice was made among all.
        assert_eq!(known.learn(1, &primary(1)), None);
        assert_eq!(known.choose(&[(0, primary(1)), (1, STANDBY)]), Ok(0));
        assert_eq!(known.learn(0, &primary(1)), None);
        assert_eq!(known.learn(1, &STANDBY), None);
        assert_eq!(known.learn(1, &primary(2)), Some(0));
        assert_eq!((known.current, known.timeline), (Some(1), 2));
        assert_eq!(known.learn(0, &primary(1)), None);
        assert_eq!(known.current, Some(1));
        assert_eq!(known.learn(1, &STANDBY), Some(1));
        assert_eq!(known.current, None);
        // What was seen is remembered.
        assert_eq!(known.choose(&[(0, primary(1))]), Err(Unchosen::None));
    }
}
