//! Rounds that come to an end, whatever happens.
use super::*;
use proptest::prelude::*;

const DEADLINES: Deadlines = Deadlines {
    accept_seconds: 60,
    train_seconds: 600,
    exchange_seconds: 10,
};

fn begun(members: u16, quorum: u16, secure: bool) -> Round {
    Round::begin((1..=members).map(Member), quorum, secure, DEADLINES, 0)
}

fn all_answer(round: &mut Round, step: Step, now: i64) {
    for member in round.missing() {
        assert_eq!(round.answer(member, step, now), Ok(Entered::Now));
    }
}

#[test]
fn a_round_goes_on_as_soon_as_everybody_has_answered() {
    let mut round = begun(3, 2, true);
    for step in [
        Step::Invite,
        Step::Keys,
        Step::Shares,
        Step::Train,
        Step::Open,
    ] {
        assert_eq!((round.step(), round.outcome()), (step, &Outcome::Running));
        all_answer(&mut round, step, 5);
    }
    assert_eq!(round.outcome(), &Outcome::Done);
    let mut plain = begun(3, 2, false);
    all_answer(&mut plain, Step::Invite, 0);
    assert_eq!(plain.step(), Step::Train);
    all_answer(&mut plain, Step::Train, 0);
    assert_eq!(plain.outcome(), &Outcome::Done);
}

#[test]
fn one_missing_site_costs_a_deadline_and_no_more() {
    let mut round = begun(3, 2, false);
    all_answer(&mut round, Step::Invite, 0);
    round.answer(Member(1), Step::Train, 1).unwrap();
    round.answer(Member(2), Step::Train, 2).unwrap();
    round.tick(599_999);
    assert_eq!(round.outcome(), &Outcome::Running);
    round.tick(600_000);
    assert_eq!(round.outcome(), &Outcome::Done);
    assert_eq!(round.lost()[&Member(3)], Lost::Silent(Step::Train));
    assert_eq!(
        round.answer(Member(3), Step::Train, 600_001),
        Ok(Entered::Late)
    );
}

#[test]
fn a_round_that_cannot_reach_its_quorum_fails_at_once_and_says_because_of_whom() {
    let mut round = begun(3, 2, true);
    let no = Lost::Declined("its cohort has 7 records, 11 are needed".into());
    round.lose(Member(2), no, 1).unwrap();
    assert_eq!(round.outcome(), &Outcome::Running);
    round
        .lose(Member(3), Lost::Refused("number 4 is not finite".into()), 2)
        .unwrap();
    assert_eq!(
        round.failure().unwrap(),
        "1 of 2 members that are needed are left in the step `invite`; member 2 declined: its cohort has 7 records, \
         11 are needed; member 3 was refused: number 4 is not finite"
    );
    assert_eq!(begun(1, 2, true).outcome(), &Outcome::Failed);
}

#[test]
fn what_came_before_counts_once_and_what_nobody_asked_for_is_refused() {
    let mut round = begun(2, 2, true);
    assert_eq!(round.answer(Member(1), Step::Invite, 0), Ok(Entered::Now));
    assert_eq!(
        round.answer(Member(1), Step::Invite, 0),
        Ok(Entered::Before)
    );
    let early = round.answer(Member(1), Step::Train, 0);
    assert_eq!(early, Err(NotAsked::Step(Step::Train)));
    let stranger = round.answer(Member(9), Step::Invite, 0);
    assert_eq!(stranger, Err(NotAsked::Member(Member(9))));
    round.answer(Member(2), Step::Invite, 0).unwrap();
    assert_eq!(
        round.answer(Member(2), Step::Invite, 0),
        Ok(Entered::Before)
    );
    assert_eq!(round.step(), Step::Keys);
}

/// What may come in: a member, what it does, and how much time passes before.
fn inputs() -> impl Strategy<Value = Vec<(u16, u8, u8, i64)>> {
    prop::collection::vec((1_u16..8, 0_u8..3, 0_u8..5, 0_i64..40_000), 0..60)
}

const STEPS: [Step; 5] = [
    Step::Invite,
    Step::Keys,
    Step::Shares,
    Step::Train,
    Step::Open,
];

proptest! {
    #[test]
    fn every_round_ends_within_its_deadlines_and_a_stored_one_goes_on_the_same(
        inputs in inputs(), quorum in 1_u16..6, secure: bool,
    ) {
        let mut round = begun(6, quorum, secure);
        let mut stored = round.clone();
        let mut now = 0;
        for (member, what, step, later) in inputs {
            now += later;
            let member = Member(member);
            let apply = |round: &mut Round| match what {
                0 => drop(round.answer(member, STEPS[usize::from(step)], now)),
                1 => drop(round.lose(member, Lost::Declined("no".into()), now)),
                _ => round.tick(now),
            };
            apply(&mut round);
            // Killed and started again between any two inputs.
            stored = toml::from_str(&toml::to_string(&stored).unwrap()).unwrap();
            apply(&mut stored);
            prop_assert_eq!(&round, &stored);
        }
        // One tick for each step that is left is enough, at the time that the round itself names.
        for _ in 0..STEPS.len() {
            let until = round.until_ms();
            round.tick(until.max(now));
        }
        prop_assert_ne!(round.outcome(), &Outcome::Running);
        let done = round.outcome() == &Outcome::Done;
        prop_assert_eq!(done, round.members().len() >= usize::from(quorum));
        prop_assert_eq!(round.failure().is_none(), done);
        prop_assert_eq!(round.members().len() + round.lost().len(), 6);
    }
}
