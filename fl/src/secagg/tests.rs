//! Whole rounds, with members lost at every step.
use super::{aggregator::Taken, *};
use std::collections::BTreeMap;

const LENGTH: usize = 5;
const ROUND: RoundId = RoundId([3; 32]);

/// The step before which a member is lost; [`STAYS`] is not.
type LostBefore = usize;
const STAYS: LostBefore = 4;

struct Run {
    terms: Terms,
    lost: Vec<LostBefore>,
    members: Vec<Participant>,
    region: Aggregator,
}

fn vector_of(member: u16) -> Vec<u32> {
    let value = |at: usize| (u32::from(member) * 1_000_003).wrapping_mul(at as u32 + 7);
    // Some are "negative": sums wrap around.
    (0..LENGTH).map(|at| value(at).wrapping_neg()).collect()
}

impl Run {
    fn new(terms: Terms, lost: &[LostBefore]) -> Self {
        let secret = |member: u16| RoundSecret::new([member as u8 + 40; 32]);
        let new = |m| Participant::new(ROUND, terms, Member(m), secret(m));
        Self {
            terms,
            lost: lost.to_vec(),
            members: (1..=terms.members()).map(new).collect(),
            region: Aggregator::new(ROUND, terms, LENGTH),
        }
    }

    fn present(&self, step: usize) -> Vec<usize> {
        let all = 0..usize::from(self.terms.members());
        all.filter(|index| self.lost[*index] > step).collect()
    }

    fn adverts(&mut self) -> Result<BTreeMap<Member, Advert>, Refused> {
        for index in self.present(0) {
            self.region.advert(self.members[index].advertise())?;
        }
        self.region.close_adverts().cloned()
    }

    fn shares(&mut self) -> Result<BTreeMap<Member, Shares>, Refused> {
        let adverts = self.adverts()?;
        for index in self.present(1) {
            let shares = self.members[index].share(&adverts)?;
            self.region.shares(shares)?;
        }
        self.region.close_shares().cloned()
    }

    fn vectors(&mut self) -> Result<BTreeSet<Member>, Refused> {
        let shared = self.shares()?;
        for index in self.present(2) {
            let mut vector = vector_of(index as u16 + 1);
            self.members[index].mask(&shared, &mut vector)?;
            self.region.vector(Member(index as u16 + 1), &vector)?;
        }
        self.region.close_vectors()
    }

    fn sum(&mut self) -> Result<Vec<u32>, Refused> {
        let senders = self.vectors()?;
        for index in self.present(3) {
            let opened = self.members[index].unmask(&senders)?;
            self.region.opened(opened)?;
        }
        self.region.sum()
    }

    /// The plain sum of those who stay to step 3 at least.
    fn expected(&self) -> Vec<u32> {
        let mut sum = vec![0_u32; LENGTH];
        for index in self.present(2) {
            for (sum, value) in sum.iter_mut().zip(vector_of(index as u16 + 1)) {
                *sum = sum.wrapping_add(value);
            }
        }
        sum
    }
}

#[test]
fn the_sum_is_exact_for_every_pattern_of_losses_down_to_the_quorum_and_refused_below() {
    let terms = Terms::new(4, 3, 0).unwrap();
    let mut sums = 0;
    for pattern in 0..5_usize.pow(4) {
        let lost: Vec<_> = (0..4)
            .map(|member| pattern / 5_usize.pow(member) % 5)
            .collect();
        let mut run = Run::new(terms, &lost);
        let stay = lost.iter().filter(|step| **step == STAYS).count();
        match run.sum() {
            Ok(sum) => {
                assert!(stay >= 3, "{lost:?}");
                assert_eq!(sum, run.expected(), "{lost:?}");
                sums += 1;
            }
            Err(Refused::BelowQuorum { have, missing, .. }) => {
                assert!(stay < 3 && have < 3, "{lost:?}");
                assert!(!missing.is_empty());
            }
            Err(other) => panic!("{lost:?}: {other}"),
        }
    }
    // All stay, or one of the four is lost before one of the four steps.
    assert_eq!(sums, 1 + 4 * 4);
}

#[test]
fn a_result_does_not_depend_on_the_order_and_repeated_messages_change_nothing() {
    let terms = Terms::new(3, 3, 0).unwrap();
    let mut run = Run::new(terms, &[STAYS; 3]);
    let adverts = run.adverts().unwrap();
    let mut shared = BTreeMap::new();
    for index in [2, 0, 1] {
        let shares = run.members[index].share(&adverts).unwrap();
        assert_eq!(run.members[index].share(&adverts).unwrap(), shares);
        assert_eq!(run.region.shares(shares.clone()), Ok(Taken::Now));
        assert_eq!(run.region.shares(shares.clone()), Ok(Taken::Before));
        shared.insert(Member(index as u16 + 1), shares);
    }
    assert_eq!(run.region.close_shares().unwrap(), &shared);
    for index in [1, 2, 0] {
        let member = Member(index as u16 + 1);
        let mut vector = vector_of(member.0);
        run.members[index].mask(&shared, &mut vector).unwrap();
        let again = run.members[index].mask(&shared, &mut vector.clone());
        assert_eq!(again, Err(Refused::MaskedBefore));
        assert_eq!(run.region.vector(member, &vector), Ok(Taken::Now));
        assert_eq!(run.region.vector(member, &vector), Ok(Taken::Before));
        vector[0] ^= 1;
        assert_eq!(
            run.region.vector(member, &vector),
            Err(Refused::Conflict(member))
        );
        let short = run.region.vector(member, &vector[1..]);
        assert_eq!(short, Err(Refused::Conflict(member)));
    }
    let senders = run.region.close_vectors().unwrap();
    for index in [0, 2, 1] {
        let opened = run.members[index].unmask(&senders).unwrap();
        run.region.opened(opened.clone()).unwrap();
        assert_eq!(run.region.opened(opened), Ok(Taken::Before));
    }
    assert_eq!(run.region.sum().unwrap(), run.expected());
    assert_eq!(run.region.sum(), run.region.sum());
}

#[test]
fn a_member_never_opens_both_secrets_of_another() {
    let terms = Terms::new(4, 3, 0).unwrap();
    let mut run = Run::new(terms, &[STAYS, STAYS, STAYS, 2]);
    let senders = run.vectors().unwrap();
    assert_eq!(senders.len(), 3);
    let opened = run.members[0].unmask(&senders).unwrap();
    assert!(
        opened
            .seeds
            .keys()
            .all(|dealer| !opened.maskings.contains_key(dealer))
    );
    assert_eq!(run.members[0].unmask(&senders), Ok(opened));
    // A region that now says that 4 sent and 3 did not would have both secrets of 3.
    let other = [1, 2, 4].map(Member).into();
    let refused = run.members[0].unmask(&other).unwrap_err();
    assert_eq!(refused, Refused::BadList("is another one than before"));
    let few = [1, 2].map(Member).into();
    assert!(matches!(
        run.members[1].unmask(&few),
        Err(Refused::BelowQuorum { .. })
    ));
    let strange = [1, 2, 3, 9].map(Member).into();
    assert!(matches!(
        run.members[2].unmask(&strange),
        Err(Refused::BadList(_))
    ));
}

#[test]
fn a_member_refuses_lists_that_an_honest_region_does_not_send() {
    let terms = Terms::new(3, 3, 0).unwrap();
    let mut run = Run::new(terms, &[STAYS; 3]);
    let adverts = run.adverts().unwrap();
    let mut few = adverts.clone();
    few.remove(&Member(3));
    assert!(matches!(
        run.members[0].share(&few),
        Err(Refused::BelowQuorum { .. })
    ));
    let mut changed = adverts.clone();
    changed.get_mut(&Member(1)).unwrap().masking = [8; 32];
    assert!(matches!(
        run.members[0].share(&changed),
        Err(Refused::BadList(_))
    ));
    let mut twins = adverts.clone();
    twins.get_mut(&Member(2)).unwrap().masking = adverts[&Member(3)].masking;
    assert!(matches!(
        run.members[0].share(&twins),
        Err(Refused::BadKey(_))
    ));
    let mut vector = vector_of(1);
    let early = run.members[0].mask(&BTreeMap::new(), &mut vector);
    assert!(matches!(early, Err(Refused::OutOfStep { .. })));
    run.members[0].share(&adverts).unwrap();
    let mut other = adverts;
    other.get_mut(&Member(2)).unwrap().sealing = [8; 32];
    let refused = run.members[0].share(&other).unwrap_err();
    assert_eq!(refused, Refused::BadList("is another one than before"));
}

#[test]
fn a_corrupt_share_is_found_and_its_maker_named() {
    let terms = Terms::new(4, 3, 0).unwrap();
    let mut run = Run::new(terms, &[STAYS; 4]);
    let shared = run.shares().unwrap();
    // A dealer whose shares are not what it published is named by the member that gets them.
    let mut bad = shared.clone();
    let sealed = bad
        .get_mut(&Member(2))
        .unwrap()
        .sealed
        .get_mut(&Member(1))
        .unwrap();
    sealed[5] ^= 1;
    let mut vector = vector_of(1);
    let refused = run.members[0].mask(&bad, &mut vector).unwrap_err();
    let (dealer, holder) = (Member(2), Member(1));
    assert_eq!(refused, Refused::CorruptShare { dealer, holder });
    assert_eq!(vector, vector_of(1), "nothing is masked then");

    let mut run = Run::new(terms, &[STAYS; 4]);
    let senders = run.vectors().unwrap();
    // A holder that opens another share than it got is named by the region, and the others suffice.
    let mut lie = run.members[3].unmask(&senders).unwrap();
    lie.seeds.get_mut(&Member(1)).unwrap()[0] ^= 1;
    let (dealer, holder) = (Member(1), Member(4));
    assert_eq!(
        run.region.opened(lie),
        Err(Refused::CorruptShare { dealer, holder })
    );
    for index in 0..3 {
        let opened = run.members[index].unmask(&senders).unwrap();
        run.region.opened(opened).unwrap();
    }
    assert_eq!(run.region.sum().unwrap(), run.expected());
}

#[test]
fn a_masked_vector_is_uniform_whatever_is_in_it() {
    // The low byte of each number of 64 masked vectors of zeros, and of the largest numbers; χ² with 255 degrees of
    // freedom, α = 1e-4: 347.
    for plain in [0, u32::MAX] {
        let mut counts = [0_u32; 256];
        for round in 0..64 {
            let terms = Terms::new(2, 2, 0).unwrap();
            let round = RoundId([round; 32]);
            let new =
                |m: u16| Participant::new(round, terms, Member(m), RoundSecret::new([m as u8; 32]));
            let mut members = [new(1), new(2)];
            let adverts = members
                .iter()
                .map(|m| (m.advertise().member, m.advertise()))
                .collect();
            let shared = members
                .iter_mut()
                .map(|m| {
                    m.share(&adverts)
                        .map(|shares| (shares.dealer, shares))
                        .unwrap()
                })
                .collect();
            let mut vector = vec![plain; 400];
            members[0].mask(&shared, &mut vector).unwrap();
            vector
                .iter()
                .for_each(|value| counts[(value & 255) as usize] += 1);
        }
        let mean = 64.0 * 400.0 / 256.0;
        let terms = counts
            .iter()
            .map(|count| (f64::from(*count) - mean).powi(2) / mean);
        let found: f64 = terms.sum();
        assert!(found < 347.0, "{found}");
    }
}

#[test]
fn late_and_strange_messages_are_refused() {
    let terms = Terms::new(3, 3, 0).unwrap();
    let mut run = Run::new(terms, &[STAYS; 3]);
    let stranger = Participant::new(ROUND, terms, Member(9), RoundSecret::new([1; 32]));
    let refused = run.region.advert(stranger.advertise());
    assert_eq!(refused, Err(Refused::Stranger(Member(9))));
    let early = run.region.vector(Member(1), &[0; LENGTH]);
    assert!(matches!(early, Err(Refused::OutOfStep { .. })));
    assert!(matches!(run.region.sum(), Err(Refused::OutOfStep { .. })));
    run.shares().unwrap();
    let short = run.region.vector(Member(1), &[0; 2]);
    assert!(matches!(
        short,
        Err(Refused::Shape {
            found: 2,
            wanted: 5,
            ..
        })
    ));
    assert_eq!(run.region.answers().1.len(), 3);
    let closed = run.region.close_vectors().unwrap_err();
    assert!(closed.to_string().ends_with("missing: 1, 2, 3"), "{closed}");
}
