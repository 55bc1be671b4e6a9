//! Places that many parties share so that none can take them from the others: pure bookkeeping, without a clock.
//!
//! A newcomer always gets a place. Who holds as many as one party may loses its own oldest; when every place is taken,
//! the oldest of the party that holds most has to go. So who fills the places displaces itself.
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::Hash,
};

/// Places for values of parties. Times and ids are not its business: age is the order of taking.
#[derive(Debug)]
pub struct Shares<P, V> {
    limit: usize,
    each: usize,
    next: u64,
    by_age: BTreeMap<u64, (P, V)>,
    of: HashMap<P, BTreeSet<u64>>,
}

/// Why somebody had to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its party held as many places as one may.
    Share,
    /// Every place was taken, and no party held more than this one.
    Full,
}

impl<P: Clone + Eq + Hash, V> Shares<P, V> {
    /// `limit` places, of which one party may hold `each`; at least one of both.
    #[must_use]
    pub fn new(limit: usize, each: usize) -> Self {
        Self {
            limit: limit.max(1),
            each: each.max(1),
            next: 0,
            by_age: BTreeMap::new(),
            of: HashMap::new(),
        }
    }

    /// Takes a place; gives its number, and who had to go for it.
    pub fn take(&mut self, party: P, value: V) -> (u64, Option<(V, Why)>) {
        let gone = if self.held_by(&party) >= self.each {
            let oldest = self.of.get(&party).and_then(|held| held.first().copied());
            oldest.map(|number| (number, Why::Share))
        } else if self.by_age.len() >= self.limit {
            self.oldest_of_the_greatest()
                .map(|number| (number, Why::Full))
        } else {
            None
        };
        let gone = gone.and_then(|(number, why)| Some((self.leave(number)?.1, why)));
        let number = self.next;
        self.next += 1;
        self.of.entry(party.clone()).or_default().insert(number);
        self.by_age.insert(number, (party, value));
        (number, gone)
    }

    /// Gives a place back; nothing when it was taken by another meanwhile.
    pub fn leave(&mut self, number: u64) -> Option<(P, V)> {
        let (party, value) = self.by_age.remove(&number)?;
        if let Some(held) = self.of.get_mut(&party) {
            held.remove(&number);
            if held.is_empty() {
                self.of.remove(&party);
            }
        }
        Some((party, value))
    }

    /// Makes room without a newcomer: the oldest of the party that holds most goes.
    pub fn displace(&mut self) -> Option<V> {
        let number = self.oldest_of_the_greatest()?;
        self.leave(number).map(|(_, value)| value)
    }

    /// Gives back every place whose value is not kept.
    pub fn retain(&mut self, keep: impl Fn(&V) -> bool) {
        let gone = self.by_age.iter().filter(|(_, (_, value))| !keep(value));
        let gone: Vec<u64> = gone.map(|(number, _)| *number).collect();
        for number in gone {
            self.leave(number);
        }
    }

    /// The value of a place.
    pub fn get_mut(&mut self, number: u64) -> Option<&mut V> {
        self.by_age.get_mut(&number).map(|(_, value)| value)
    }

    /// The places of a party with their numbers, the oldest first.
    pub fn of<'a>(&'a self, party: &P) -> impl Iterator<Item = (u64, &'a V)> {
        let numbers = self.of.get(party).into_iter().flatten();
        numbers.filter_map(|number| Some((*number, &self.by_age.get(number)?.1)))
    }

    /// How many places are taken.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_age.len()
    }

    /// Whether no place is taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_age.is_empty()
    }

    /// Whether a newcomer would take another's place.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.by_age.len() >= self.limit
    }

    fn held_by(&self, party: &P) -> usize {
        self.of.get(party).map_or(0, BTreeSet::len)
    }

    /// Of the parties that hold as many, the one that has waited longest.
    fn oldest_of_the_greatest(&self) -> Option<u64> {
        let most = self.of.values().map(BTreeSet::len).max()?;
        let greatest = self.of.values().filter(|held| held.len() == most);
        greatest.filter_map(|held| held.first().copied()).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gone(
        shares: &mut Shares<&'static str, u32>,
        party: &'static str,
        value: u32,
    ) -> Option<(u32, Why)> {
        shares.take(party, value).1
    }

    #[test]
    fn a_party_that_holds_its_share_loses_its_own_oldest() {
        let mut shares = Shares::new(10, 2);
        assert_eq!(gone(&mut shares, "a", 1), None);
        assert_eq!(gone(&mut shares, "b", 2), None);
        assert_eq!(gone(&mut shares, "a", 3), None);
        assert_eq!(gone(&mut shares, "a", 4), Some((1, Why::Share)));
        assert_eq!(gone(&mut shares, "b", 5), None);
        assert_eq!(shares.len(), 4);
    }

    #[test]
    fn when_every_place_is_taken_the_oldest_of_the_party_that_holds_most_goes() {
        let mut shares = Shares::new(3, 3);
        assert_eq!(gone(&mut shares, "honest", 1), None);
        assert_eq!(gone(&mut shares, "stranger", 2), None);
        assert_eq!(gone(&mut shares, "stranger", 3), None);
        assert_eq!(gone(&mut shares, "honest", 4), Some((2, Why::Full)));
        assert_eq!(gone(&mut shares, "honest", 5), Some((1, Why::Full)));
        assert_eq!(
            shares
                .of(&"honest")
                .map(|(_, value)| *value)
                .collect::<Vec<_>>(),
            [4, 5]
        );
    }

    #[test]
    fn who_leaves_makes_room_and_who_was_displaced_has_nothing_to_give_back() {
        let mut shares = Shares::new(1, 1);
        let (first, _) = shares.take("a", 1);
        assert_eq!(shares.take("b", 2).1, Some((1, Why::Full)));
        assert_eq!(shares.leave(first), None);
        assert_eq!(shares.displace(), Some(2));
        assert!(shares.is_empty() && shares.displace().is_none());
        assert_eq!(gone(&mut shares, "a", 3), None);
    }

    #[test]
    fn a_stranger_of_any_number_of_places_never_displaces_who_holds_fewer() {
        let mut shares = Shares::new(8, 8);
        shares.take("honest", 0);
        for value in 1..1_000 {
            shares.take("stranger", value);
        }
        assert_eq!(shares.of(&"honest").count(), 1);
        assert_eq!(shares.len(), 8);
    }
}
